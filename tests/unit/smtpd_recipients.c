/* The list of recipients: order kept, each once, however many. */
#include "smtpd/recipients.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static void add(struct recipients *recipients, const char *mailbox)
{
    const char *at = strrchr(mailbox, '@');
    struct path path = {.mailbox = slice_of(mailbox), .local = slice_of(mailbox)};

    if (at != NULL) {
        path.local = slice_make(mailbox, (size_t)(at - mailbox));
        path.domain = slice_of(at + 1);
    }
    assert_true(recipients_add(recipients, &path));
}

static const struct {
    const char *first, *second;
    size_t want;
} rows[] = {
    {"b@t.example", "b@t.example", 1},
    {"b@t.example", "b@T.Example", 1},
    {"b@t.example", "B@t.example", 2},
    {"b@t.example", "b@t.example.org", 2},
    {"Postmaster", "Postmaster", 1},
    {"Postmaster", "postmaster@t.example", 2},
    {"\"a@B\"@t.example", "\"a@b\"@t.example", 2},
    {"\"a@b\"@t.example", "\"a@b\"@T.example", 1},
};

static void the_same_one_twice_is_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct recipients recipients = {0};
        add(&recipients, rows[i].first);
        add(&recipients, rows[i].second);
        assert_int_equal(recipients.count, rows[i].want);
        assert_string_equal(recipients.mailboxes[0], rows[i].first);
        recipients_free(&recipients);
        assert_int_equal(recipients.count, 0);
    }
}

static void many_keep_their_order(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct recipients recipients = {0};
    char mailbox[40];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            snprintf(mailbox, sizeof mailbox, "user%d@%s", i * 7 % COUNT,
                     round ? "T.EXAMPLE" : "t.example");
            add(&recipients, mailbox);
        }
    }
    assert_int_equal(recipients.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        snprintf(mailbox, sizeof mailbox, "user%d@t.example", i * 7 % COUNT);
        assert_string_equal(recipients.mailboxes[i], mailbox);
    }
    recipients_free(&recipients);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_one_twice_is_one),
        cmocka_unit_test(many_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
