/* Who is taken: the operator's lists, and the postmaster above them. */
#include "smtpd/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

struct lists {
    const char *domains[4], *discard[4], *senders[4], *recipients[4];
};

static void fill(struct names *names, const char *const entries[])
{
    size_t count = 0;

    while (count < 4 && entries[count] != NULL)
        count++;
    assert_true(names_build(names, (char *const *)entries, count));
}

static void build(struct policy *policy, const struct lists *lists)
{
    *policy = (struct policy){.hostname = "mx.example"};
    fill(&policy->site.domains, lists->domains);
    fill(&policy->discard_domains, lists->discard);
    fill(&policy->reject_senders, lists->senders);
    fill(&policy->reject_recipients, lists->recipients);
}

static struct path path_of(const char *text, bool forward)
{
    struct path path;
    struct slice rest;

    assert_true((forward ? path_parse_forward : path_parse_reverse)(slice_of(text), &path, &rest));
    return path;
}

static const struct lists open_lists = {.domains = {"*"}};
static const struct lists narrow = {
    .domains = {"T.example", ".sub.example", "[192.0.2.1]"},
    .discard = {"void.example", "drop.t.example"},
    .senders = {"spam.example", ".spam.example"},
    .recipients = {"denied@t.example", "Nobody@", "postmaster@", "o\"q@t.example"},
};
static const struct lists closed_lists = {.recipients = {"postmaster@"}};

static const struct {
    const struct lists *lists;
    const char *recipient;
    enum policy_verdict want;
} recipients[] = {
    {&open_lists, "<b@any.example>", POLICY_ACCEPT},
    {&open_lists, "<b@[192.0.2.9]>", POLICY_ACCEPT},
    {&open_lists, "<Postmaster>", POLICY_ACCEPT},
    {&narrow, "<b@t.example>", POLICY_ACCEPT},
    {&narrow, "<b@T.EXAMPLE>", POLICY_ACCEPT},
    {&narrow, "<b@x.t.example>", POLICY_REFUSE_DOMAIN},
    {&narrow, "<b@xt.example>", POLICY_REFUSE_DOMAIN},
    {&narrow, "<b@example>", POLICY_REFUSE_DOMAIN},
    {&narrow, "<b@x.sub.example>", POLICY_ACCEPT},
    {&narrow, "<b@y.x.sub.example>", POLICY_ACCEPT},
    {&narrow, "<b@sub.example>", POLICY_REFUSE_DOMAIN},
    {&narrow, "<b@[192.0.2.1]>", POLICY_ACCEPT},
    {&narrow, "<b@[192.0.2.2]>", POLICY_REFUSE_DOMAIN},
    {&narrow, "<b@void.example>", POLICY_DISCARD},
    {&narrow, "<b@drop.t.example>", POLICY_DISCARD},
    {&narrow, "<Denied@t.example>", POLICY_REFUSE_MAILBOX},
    {&narrow, "<\"denied\"@t.example>", POLICY_REFUSE_MAILBOX},
    {&narrow, "<\"den\\ied\"@t.example>", POLICY_REFUSE_MAILBOX},
    {&narrow, "<\"o\\\"q\"@t.example>", POLICY_REFUSE_MAILBOX},
    {&narrow, "<denied@x.sub.example>", POLICY_ACCEPT},
    {&narrow, "<nobody@x.sub.example>", POLICY_REFUSE_MAILBOX},
    {&narrow, "<nobody@other.example>", POLICY_REFUSE_DOMAIN},
    {&narrow, "<PostMaster@t.example>", POLICY_ACCEPT},
    {&narrow, "<postmaster@mx.example>", POLICY_ACCEPT},
    {&narrow, "<postmaster@other.example>", POLICY_REFUSE_DOMAIN},
    {&narrow, "<postmaster>", POLICY_ACCEPT},
    {&closed_lists, "<b@t.example>", POLICY_REFUSE_DOMAIN},
    {&closed_lists, "<postmaster>", POLICY_ACCEPT},
};

static void judges_recipients(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recipients / sizeof recipients[0]; i++) {
        struct path path = path_of(recipients[i].recipient, true);
        struct policy policy;
        build(&policy, recipients[i].lists);
        if (policy_judge_recipient(&policy, &path) != recipients[i].want)
            print_message("%s\n", recipients[i].recipient);
        assert_int_equal(policy_judge_recipient(&policy, &path), recipients[i].want);
        policy_free(&policy);
    }
}

static void judges_senders(void **state)
{
    (void)state;
    static const struct {
        const char *sender;
        enum policy_verdict want;
    } rows[] = {
        {"<>", POLICY_ACCEPT},
        {"<a@c.example>", POLICY_ACCEPT},
        {"<a@SPAM.example>", POLICY_REFUSE_DOMAIN},
        {"<a@x.spam.example>", POLICY_REFUSE_DOMAIN},
        {"<a@notspam.example>", POLICY_ACCEPT},
    };
    struct policy policy;
    build(&policy, &narrow);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct path path = path_of(rows[i].sender, false);
        assert_int_equal(policy_judge_sender(&policy, &path), rows[i].want);
    }
    policy_free(&policy);
}

static void a_broken_list_refuses_nobody_for_good(void **state)
{
    (void)state;
    struct path known = path_of("<b@t.example>", true), other = path_of("<b@x.example>", true);
    struct path postmaster = path_of("<Postmaster>", true), null = path_of("<>", false);
    struct policy policy;

    build(&policy, &narrow);
    policy.recipients_broken = true;
    assert_int_equal(policy_judge_recipient(&policy, &known), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_recipient(&policy, &other), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_recipient(&policy, &postmaster), POLICY_ACCEPT);
    assert_int_equal(policy_judge_sender(&policy, &known), POLICY_ACCEPT);
    policy.senders_broken = true;
    assert_int_equal(policy_judge_sender(&policy, &known), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_sender(&policy, &null), POLICY_ACCEPT);
    policy_free(&policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_recipients),
        cmocka_unit_test(judges_senders),
        cmocka_unit_test(a_broken_list_refuses_nobody_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
