/* What is decided about recipients. */
#include "relay/mail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static void each_recipient_has_its_own(void **state)
{
    (void)state;
    struct recipient recipients[3] = {0};
    struct mail mail = {.recipients = recipients, .count = 3};

    assert_true(mail_has(&mail, OUTCOME_OPEN));
    for (int outcome = OUTCOME_ACCEPTED; outcome <= OUTCOME_FAILED; outcome++)
        assert_false(mail_has(&mail, (enum outcome)outcome));

    mail_decide(&mail, 0, OUTCOME_ACCEPTED, "2.1.5", "250 2.1.5 Ok", false);
    mail_decide(&mail, 1, OUTCOME_FAILED, "5.6.7", "needs SMTPUTF8", true);
    mail_decide(&mail, 2, OUTCOME_DEFERRED, "4.2.2", "452 4.2.2 Full", false);
    assert_false(mail_has(&mail, OUTCOME_OPEN));
    assert_false(mail_has(&mail, OUTCOME_AGAIN));
    assert_true(mail_has(&mail, OUTCOME_ACCEPTED));
    assert_true(mail_has(&mail, OUTCOME_DEFERRED));
    assert_true(mail_has(&mail, OUTCOME_FAILED));
    assert_string_equal(recipients[0].status, "2.1.5");
    assert_string_equal(recipients[0].words, "250 2.1.5 Ok");
    assert_false(recipients[0].own_words);
    assert_true(recipients[1].own_words);

    for (size_t i = 0; i < mail.count; i++)
        free(recipients[i].words);
}

/* Words may be those that stand there, as when an outcome becomes another and its reason stays. */
static void the_last_word_counts(void **state)
{
    (void)state;
    struct recipient recipient = {0};
    struct mail mail = {.recipients = &recipient, .count = 1};

    mail_decide(&mail, 0, OUTCOME_DEFERRED, "4.0.0", "450 Later", true);
    mail_decide(&mail, 0, OUTCOME_FAILED, "4.4.7", recipient.words, false);
    assert_int_equal(recipient.outcome, OUTCOME_FAILED);
    assert_string_equal(recipient.status, "4.4.7");
    assert_string_equal(recipient.words, "450 Later");
    assert_false(recipient.own_words);
    mail_decide(&mail, 0, OUTCOME_OPEN, recipient.status, recipient.words, false);
    assert_string_equal(recipient.status, "4.4.7");
    assert_string_equal(recipient.words, "450 Later");
    mail_decide(&mail, 0, OUTCOME_OPEN, recipient.status, NULL, false);
    assert_null(recipient.words);
}

static void long_words_are_cut(void **state)
{
    (void)state;
    char words[REPLY_TEXT_MAX + 100];
    struct recipient recipient = {0};
    struct mail mail = {.recipients = &recipient, .count = 1};

    memset(words, 'w', sizeof words - 1);
    words[sizeof words - 1] = '\0';
    mail_decide(&mail, 0, OUTCOME_DEFERRED, "4.123.456.789", words, false);
    assert_int_equal(strlen(recipient.words), REPLY_TEXT_MAX);
    assert_int_equal(strlen(recipient.status), REPLY_STATUS_SIZE - 1);
    free(recipient.words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_recipient_has_its_own),
        cmocka_unit_test(the_last_word_counts),
        cmocka_unit_test(long_words_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
