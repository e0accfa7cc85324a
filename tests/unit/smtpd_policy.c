/* Who is taken, and for whom: the operator's lists, and the postmaster above them. */
#include "smtpd/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

struct lists {
    const char *domains[4], *relay_domains[4], *relay_clients[4], *discard[4], *senders[4],
        *recipients[4];
};

static size_t count_of(const char *const entries[])
{
    size_t count = 0;

    while (count < 4 && entries[count] != NULL)
        count++;
    return count;
}

static void fill(struct names *names, const char *const entries[])
{
    assert_true(names_build(names, (char *const *)entries, count_of(entries)));
}

static void build(struct policy *policy, const struct lists *lists)
{
    *policy = (struct policy){.hostname = "mx.example"};
    fill(&policy->site.domains, lists->domains);
    fill(&policy->site.relay_domains, lists->relay_domains);
    assert_true(networks_build(&policy->relay_clients, (char *const *)lists->relay_clients,
                               count_of(lists->relay_clients)));
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

static const struct lists open_lists = {.domains = {"*"}, .relay_domains = {"*"}};
static const struct lists narrow = {
    .relay_domains = {"*"},
    .domains = {"T.example", ".sub.example", "[192.0.2.1]"},
    .discard = {"void.example", "drop.t.example"},
    .senders = {"spam.example", ".spam.example"},
    .recipients = {"denied@t.example", "Nobody@", "postmaster@", "o\"q@t.example"},
};
static const struct lists closed_lists = {.recipients = {"postmaster@"}};
static const struct lists relaying = {
    .domains = {"t.example"},
    .relay_domains = {"far.example", ".far.example", "[192.0.2.1]", "\u00e9.example"},
    .discard = {"void.far.example"},
    .recipients = {"denied@far.example", "nobody@", "postmaster@"},
};
static const struct lists pure_relay = {.relay_domains = {"*"}};
static const struct lists no_relay = {.domains = {"t.example"}};

struct row {
    const struct lists *lists;
    const char *recipient;
    enum policy_verdict want;
};

/* For strangers, who are all clients by default. */
static const struct row strangers[] = {
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
    {&relaying, "<b@t.example>", POLICY_ACCEPT},
    {&relaying, "<b@far.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<denied@far.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<postmaster@far.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@void.far.example>", POLICY_DISCARD},
    {&relaying, "<@t.example:b@far.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<@far.example,@t.example:b@far.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<@far.example:b@t.example>", POLICY_ACCEPT},
    {&relaying, "<b%far.example@t.example>", POLICY_ACCEPT},
    {&relaying, "<far.example!b@t.example>", POLICY_ACCEPT},
    {&relaying, "<\"b@far.example\"@t.example>", POLICY_ACCEPT},
    {&relaying, "<\"b@t.example\"@far.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b%t.example@far.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@[192.0.2.1]>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@\u00e9.example>", POLICY_REFUSE_DOMAIN},
    {&pure_relay, "<b@far.example>", POLICY_REFUSE_DOMAIN},
    {&pure_relay, "<postmaster>", POLICY_ACCEPT},
};

static const struct row relay_clients[] = {
    {&relaying, "<b@t.example>", POLICY_ACCEPT},
    {&relaying, "<b@T.EXAMPLE>", POLICY_ACCEPT},
    {&relaying, "<b@far.example>", POLICY_RELAY},
    {&relaying, "<b@FAR.Example>", POLICY_RELAY},
    {&relaying, "<b@x.far.example>", POLICY_RELAY},
    {&relaying, "<b@other.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@xfar.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@x.t.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@[192.0.2.1]>", POLICY_RELAY},
    {&relaying, "<b@[192.0.2.2]>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@\u00e9.example>", POLICY_RELAY},
    {&relaying, "<b@\u00e8.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<@far.example:b@other.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<@other.example:b@far.example>", POLICY_RELAY},
    {&relaying, "<b%far.example@other.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<\"b@far.example\"@other.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<b@void.far.example>", POLICY_DISCARD},
    {&relaying, "<denied@far.example>", POLICY_REFUSE_MAILBOX},
    {&relaying, "<\"denied\"@far.example>", POLICY_REFUSE_MAILBOX},
    {&relaying, "<denied@x.far.example>", POLICY_RELAY},
    {&relaying, "<nobody@x.far.example>", POLICY_REFUSE_MAILBOX},
    {&relaying, "<nobody@other.example>", POLICY_REFUSE_DOMAIN},
    {&relaying, "<postmaster@far.example>", POLICY_RELAY},
    {&relaying, "<postmaster@t.example>", POLICY_ACCEPT},
    {&relaying, "<postmaster@mx.example>", POLICY_ACCEPT},
    {&relaying, "<postmaster>", POLICY_ACCEPT},
    {&pure_relay, "<b@t.example>", POLICY_RELAY},
    {&pure_relay, "<b@[192.0.2.1]>", POLICY_RELAY},
    {&pure_relay, "<postmaster@t.example>", POLICY_RELAY},
    {&pure_relay, "<postmaster@mx.example>", POLICY_ACCEPT},
    {&no_relay, "<b@far.example>", POLICY_REFUSE_DOMAIN},
    {&no_relay, "<b@t.example>", POLICY_ACCEPT},
    {&open_lists, "<b@far.example>", POLICY_ACCEPT},
};

static void check_rows(enum policy_client client, const struct row rows[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct path path = path_of(rows[i].recipient, true);
        struct policy policy;
        build(&policy, rows[i].lists);
        enum policy_verdict got = policy_judge_recipient(&policy, client, &path);
        if (got != rows[i].want)
            print_message("%s\n", rows[i].recipient);
        assert_int_equal(got, rows[i].want);
        policy_free(&policy);
    }
}

static void judges_recipients_of_strangers(void **state)
{
    (void)state;
    check_rows(POLICY_STRANGER, strangers, sizeof strangers / sizeof strangers[0]);
}

static void judges_recipients_of_relay_clients(void **state)
{
    (void)state;
    check_rows(POLICY_RELAY_CLIENT, relay_clients, sizeof relay_clients / sizeof relay_clients[0]);
}

/* Whose list is broken may be one or the other: what would be the same for both is said, all else is
 * put off. */
static void one_who_may_be_either_is_put_off_where_that_matters(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof relay_clients / sizeof relay_clients[0]; i++) {
        struct path path = path_of(relay_clients[i].recipient, true);
        struct policy policy;
        build(&policy, relay_clients[i].lists);
        enum policy_verdict got = policy_judge_recipient(&policy, POLICY_CLIENT_UNKNOWN, &path);
        enum policy_verdict stranger = policy_judge_recipient(&policy, POLICY_STRANGER, &path);
        assert_int_equal(got, stranger == relay_clients[i].want ? stranger : POLICY_UNKNOWN);
        policy_free(&policy);
    }
}

static void knows_relay_clients_by_their_address(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        enum policy_client want;
    } rows[] = {
        {"::ffff:192.0.2.0", POLICY_RELAY_CLIENT}, {"::ffff:192.0.2.255", POLICY_RELAY_CLIENT},
        {"::ffff:192.0.1.255", POLICY_STRANGER},   {"::ffff:192.0.3.0", POLICY_STRANGER},
        {"2001:db8::9", POLICY_RELAY_CLIENT},      {"2001:db8::8", POLICY_STRANGER},
        {"::192.0.2.1", POLICY_STRANGER},          {"::", POLICY_STRANGER},
    };
    static const struct lists lists = {.relay_clients = {"192.0.2.0/24", "2001:db8::9"}};
    struct policy policy, none;

    build(&policy, &lists);
    build(&none, &open_lists);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct address address = {.port = 25};
        assert_int_equal(inet_pton(AF_INET6, rows[i].address, address.bytes), 1);
        assert_int_equal(policy_judge_client(&policy, &address), rows[i].want);
        assert_int_equal(policy_judge_client(&none, &address), POLICY_STRANGER);
    }
    assert_int_equal(policy_judge_client(&policy, NULL), POLICY_STRANGER);
    policy_free(&policy);
    policy_free(&none);
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
    assert_int_equal(policy_judge_recipient(&policy, POLICY_STRANGER, &known), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_recipient(&policy, POLICY_STRANGER, &other), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_recipient(&policy, POLICY_STRANGER, &postmaster), POLICY_ACCEPT);
    assert_int_equal(policy_judge_sender(&policy, &known), POLICY_ACCEPT);
    policy.senders_broken = true;
    assert_int_equal(policy_judge_sender(&policy, &known), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_sender(&policy, &null), POLICY_ACCEPT);
    policy_free(&policy);
}

static void a_broken_list_about_relaying_refuses_nobody_for_good(void **state)
{
    (void)state;
    struct path stored = path_of("<b@t.example>", true), far = path_of("<b@far.example>", true);
    struct path other = path_of("<b@other.example>", true);
    struct address address = {{0}, 25};
    struct policy policy;

    build(&policy, &relaying);
    policy.relay_clients_broken = true;
    assert_int_equal(policy_judge_client(&policy, &address), POLICY_CLIENT_UNKNOWN);
    assert_int_equal(policy_judge_client(&policy, NULL), POLICY_STRANGER);
    policy.relay_clients_broken = false;

    policy.site.relay_domains_broken = true;
    assert_int_equal(policy_judge_recipient(&policy, POLICY_RELAY_CLIENT, &far), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_recipient(&policy, POLICY_RELAY_CLIENT, &other), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_recipient(&policy, POLICY_RELAY_CLIENT, &stored), POLICY_ACCEPT);
    assert_int_equal(policy_judge_recipient(&policy, POLICY_CLIENT_UNKNOWN, &far), POLICY_UNKNOWN);
    assert_int_equal(policy_judge_recipient(&policy, POLICY_STRANGER, &far), POLICY_REFUSE_DOMAIN);

    policy.site.relay_domains_broken = false;
    policy.site.domains_broken = true;
    for (int client = POLICY_STRANGER; client <= POLICY_CLIENT_UNKNOWN; client++) {
        enum policy_client who = (enum policy_client)client;
        assert_int_equal(policy_judge_recipient(&policy, who, &far), POLICY_UNKNOWN);
        assert_int_equal(policy_judge_recipient(&policy, who, &stored), POLICY_UNKNOWN);
    }
    policy_free(&policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_recipients_of_strangers),
        cmocka_unit_test(judges_recipients_of_relay_clients),
        cmocka_unit_test(one_who_may_be_either_is_put_off_where_that_matters),
        cmocka_unit_test(knows_relay_clients_by_their_address),
        cmocka_unit_test(judges_senders),
        cmocka_unit_test(a_broken_list_refuses_nobody_for_good),
        cmocka_unit_test(a_broken_list_about_relaying_refuses_nobody_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
