/* Who becomes a recipient, and in which queue: by policy and by who the client is, each once. */
#include "smtpd/transaction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static struct policy policy;
static struct rules rules;
static struct transaction *transaction;
static struct address member, stranger;

static void build(struct names *names, const char *entry)
{
    char *entries[] = {(char *)(uintptr_t)entry};

    assert_true(names_build(names, entries, 1));
}

/* Mail to t.example is stored, to far.example relayed for 192.0.2.0/24. */
static int begin(void **state)
{
    static char network[] = "192.0.2.0/24";
    static char *const clients[] = {network};

    (void)state;
    policy = (struct policy){.hostname = "mx.example"};
    build(&policy.site.domains, "t.example");
    build(&policy.site.relay_domains, "far.example");
    build(&policy.discard_domains, "void.example");
    build(&policy.reject_recipients, "denied@");
    assert_true(networks_build(&policy.relay_clients, clients, 1));
    rules = (struct rules){.policy = &policy, .max_size = 1000, .max_recipients = 10};
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.7", member.bytes), 1);
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.3.7", stranger.bytes), 1);
    assert_int_equal(
        transaction_open(&transaction, &rules, slice_of("FROM:<a@c.example> SMTPUTF8")),
        REPLY_UNSET);
    return 0;
}

static int end(void **state)
{
    (void)state;
    transaction_close(transaction);
    policy_free(&policy);
    return 0;
}

static enum reply add(const struct address *client, const char *path)
{
    char argument[600];

    snprintf(argument, sizeof argument, "TO:%s", path);
    return transaction_add(transaction, &rules, client, slice_of(argument));
}

/* The recipients of a queue, with commas between them. */
static const char *list(enum queue queue)
{
    static char text[2000];
    const struct recipients *recipients = &transaction->recipients[queue];

    text[0] = '\0';
    for (size_t i = 0; i < recipients->count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? "," : "",
                 recipients->mailboxes[i]);
    return text;
}

static void each_goes_to_its_queue(void **state)
{
    (void)state;
    assert_int_equal(add(&member, "<b@t.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<b@far.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<b@void.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<c@far.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<Postmaster>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<@t.example:d@far.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<b@other.example>"), REPLY_DOMAIN_REFUSED);
    assert_int_equal(add(&member, "<denied@far.example>"), REPLY_RECIPIENT_REFUSED);
    assert_string_equal(list(QUEUE_STORE), "b@t.example,Postmaster");
    assert_string_equal(list(QUEUE_RELAY), "b@far.example,c@far.example,d@far.example");
    assert_int_equal(transaction->accepted, 6);
}

/* Nor for somebody who has no address of his own to be known by. */
static void nothing_is_relayed_for_strangers(void **state)
{
    const struct address *const clients[] = {&stranger, NULL};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(add(clients[i], "<b@far.example>"), REPLY_DOMAIN_REFUSED);
        assert_int_equal(add(clients[i], "<@t.example:b@far.example>"), REPLY_DOMAIN_REFUSED);
        assert_int_equal(add(clients[i], "<denied@far.example>"), REPLY_DOMAIN_REFUSED);
        assert_int_equal(add(clients[i], "<b@t.example>"), REPLY_UNSET);
    }
    assert_string_equal(list(QUEUE_STORE), "b@t.example");
    assert_int_equal(transaction->recipients[QUEUE_RELAY].count, 0);
}

static void the_same_one_twice_is_one(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(add(&member, "<b@far.example>"), REPLY_UNSET);
        assert_int_equal(add(&member, "<b@FAR.example>"), REPLY_UNSET);
        assert_int_equal(add(&member, "<b@t.example>"), REPLY_UNSET);
    }
    assert_string_equal(list(QUEUE_STORE), "b@t.example");
    assert_string_equal(list(QUEUE_RELAY), "b@far.example");
    assert_int_equal(transaction->accepted, 6);
}

/* Also when the lists were read again between the two, and both belong to the other queue now. */
static void who_is_in_one_queue_does_not_get_into_the_other(void **state)
{
    (void)state;
    assert_int_equal(add(&member, "<b@t.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<b@far.example>"), REPLY_UNSET);
    site_free(&policy.site);
    build(&policy.site.domains, "far.example");
    build(&policy.site.relay_domains, "t.example");
    assert_int_equal(add(&member, "<b@t.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<b@far.example>"), REPLY_UNSET);
    assert_int_equal(add(&member, "<c@t.example>"), REPLY_UNSET);
    assert_string_equal(list(QUEUE_STORE), "b@t.example");
    assert_string_equal(list(QUEUE_RELAY), "b@far.example,c@t.example");
}

static void the_limit_counts_them_all(void **state)
{
    char path[40];

    (void)state;
    for (int i = 0; i < 10; i++) {
        snprintf(path, sizeof path, "<b%d@%s.example>", i, i % 2 != 0 ? "t" : "far");
        assert_int_equal(add(&member, path), REPLY_UNSET);
    }
    assert_int_equal(add(&member, "<c@far.example>"), REPLY_TOO_MANY_RECIPIENTS);
    assert_int_equal(add(&member, "<c@t.example>"), REPLY_TOO_MANY_RECIPIENTS);
    assert_int_equal(transaction->recipients[QUEUE_STORE].count, 5);
    assert_int_equal(transaction->recipients[QUEUE_RELAY].count, 5);
}

static void while_the_list_of_clients_is_broken_what_depends_on_it_is_put_off(void **state)
{
    (void)state;
    policy.relay_clients_broken = true;
    assert_int_equal(add(&member, "<b@far.example>"), REPLY_POLICY_ERROR);
    assert_int_equal(add(&stranger, "<b@far.example>"), REPLY_POLICY_ERROR);
    assert_int_equal(add(NULL, "<b@far.example>"), REPLY_DOMAIN_REFUSED);
    assert_int_equal(add(&member, "<b@other.example>"), REPLY_DOMAIN_REFUSED);
    assert_int_equal(add(&stranger, "<b@t.example>"), REPLY_UNSET);
    assert_int_equal(add(&stranger, "<b@void.example>"), REPLY_UNSET);
    assert_string_equal(list(QUEUE_STORE), "b@t.example");
    assert_int_equal(transaction->recipients[QUEUE_RELAY].count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_goes_to_its_queue),
        TEST(nothing_is_relayed_for_strangers),
        TEST(the_same_one_twice_is_one),
        TEST(who_is_in_one_queue_does_not_get_into_the_other),
        TEST(the_limit_counts_them_all),
        TEST(while_the_list_of_clients_is_broken_what_depends_on_it_is_put_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
