/* The connections to the smarthost, which the test plays: who sends what when. */
#include "relay/sender.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

struct session {
    enum session_state state;
    const struct session_callbacks *callbacks;
    void *owner;
    struct mail *mail;
};

static struct session sessions[SENDER_CONNECTIONS_MAX];
static size_t opened;

struct session *session_open(uv_loop_t *loop, const struct session_options *options,
                             const struct session_callbacks *callbacks, void *owner)
{
    (void)loop, (void)options;
    assert_true(opened < SENDER_CONNECTIONS_MAX);
    sessions[opened] = (struct session){.callbacks = callbacks, .owner = owner};
    return &sessions[opened++];
}

enum session_state session_state(const struct session *session)
{
    return session->state;
}

void session_send(struct session *session, struct mail *mail)
{
    assert_int_equal(session->state, SESSION_IDLE);
    session->state = SESSION_SENDING;
    session->mail = mail;
}

static void gone(struct session *session, enum trouble trouble)
{
    session->state = SESSION_GONE;
    session->callbacks->gone_cb(session->owner, session, trouble, "words");
}

void session_quit(struct session *session)
{
    if (session->state == SESSION_OPENING)
        gone(session, TROUBLE_NONE);
    else if (session->state == SESSION_IDLE)
        session->state = SESSION_QUITTING;
}

static void done(struct session *session, enum trouble trouble, enum session_retry retry)
{
    struct mail *mail = session->mail;
    session->mail = NULL;
    if (trouble == TROUBLE_NONE && retry == SESSION_RETRY_NONE)
        session->state = SESSION_IDLE;
    session->callbacks->done_cb(session->owner, session, mail, trouble, "words", retry);
    if (session->state != SESSION_IDLE)
        gone(session, TROUBLE_NONE);
}

void session_abort(struct session *session)
{
    if (session->mail)
        done(session, TROUBLE_UNREACHABLE, SESSION_RETRY_NONE);
    else
        gone(session, TROUBLE_NONE);
}

static uv_loop_t loop;
static struct sender sender;
static struct mail mails[64];
static struct recipient recipients[64];
static size_t returned;
static struct mail *last_returned;

static void done_cb(void *owner, struct mail *mail)
{
    assert_ptr_equal(owner, &sender);
    last_returned = mail;
    returned++;
}

static void set_up(size_t connections, size_t count)
{
    static const struct session_options options = {.channel = {.host = "smarthost.example"}};
    opened = returned = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    sender_start(&sender, &loop, &options, connections);
    sender.owner = &sender;
    sender.done_cb = done_cb;
    for (size_t i = 0; i < count; i++) {
        recipients[i] = (struct recipient){.address = "bob@example.org"};
        mails[i] = (struct mail){.recipients = &recipients[i], .count = 1};
        sender_add(&sender, &mails[i]);
    }
}

static void tear_down(void)
{
    if (!sender.stopping)
        sender_stop(&sender);
    sender_abort(&sender);
    assert_int_equal(sender.session_count, 0);
    assert_int_equal(sender.ready_count, 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (size_t i = 0; i < sizeof recipients / sizeof recipients[0]; i++)
        free(recipients[i].words);
    memset(recipients, 0, sizeof recipients);
}

static void open_all(void)
{
    for (size_t i = 0; i < opened; i++)
        if (sessions[i].state == SESSION_OPENING)
            sessions[i].state = SESSION_IDLE;
}

static void opens_what_is_needed_and_keeps_it(void **state)
{
    (void)state;
    set_up(4, 2);
    sender_turn(&sender);
    assert_int_equal(opened, 2); /* two mails */
    sender_turn(&sender);
    assert_int_equal(opened, 2);
    open_all();
    sender_turn(&sender);
    assert_ptr_equal(sessions[0].mail, &mails[0]); /* in their order */
    assert_ptr_equal(sessions[1].mail, &mails[1]);
    done(&sessions[0], TROUBLE_NONE, SESSION_RETRY_NONE);
    assert_ptr_equal(last_returned, &mails[0]);
    for (size_t i = 2; i < 40; i++)
        sender_add(&sender, &mails[i] /* without recipients */);
    sender_turn(&sender);
    assert_ptr_equal(sessions[0].mail, &mails[2]); /* over the same connection */
    assert_int_equal(opened, 4);                   /* and no more than that */
    tear_down();
}

static void loads_ahead_and_no_further(void **state)
{
    (void)state;
    set_up(2, 0);
    size_t most = sender_wants(&sender);
    assert_true(most >= 2);
    for (size_t i = 0; i < most; i++)
        sender_add(&sender, &mails[i]);
    assert_int_equal(sender_wants(&sender), 0);
    sender_return(&sender);
    assert_int_equal(returned, most);
    assert_int_equal(sender_wants(&sender), most);
    tear_down();
}

static void a_host_in_trouble_is_left_alone(void **state)
{
    (void)state;
    set_up(4, 3);
    sender_turn(&sender);
    for (size_t i = 3; i-- > 0;)
        gone(&sessions[i], TROUBLE_UNREACHABLE);
    assert_int_equal(sender.session_count, 0);
    assert_int_equal(sender_wants(&sender), 0);
    sender_turn(&sender);
    assert_int_equal(opened, 3);
    assert_int_equal(returned, 0); /* the mails wait, and nothing was said of them */
    assert_int_equal(sender.ready_count, 3);
    assert_true(uv_is_active((uv_handle_t *)&sender.retry));

    sender_hurry(&sender);
    sender_turn(&sender);
    assert_int_equal(opened, 4); /* one, to see */
    open_all();
    sender_turn(&sender);
    done(&sessions[3], TROUBLE_NONE, SESSION_RETRY_NONE);
    sender_turn(&sender);
    assert_int_equal(opened, 5); /* all that are left: one goes over the first */
    tear_down();
}

static void a_mail_that_draws_trouble_twice_waits_by_itself(void **state)
{
    (void)state;
    set_up(1, 2);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    assert_ptr_equal(sessions[0].mail, &mails[0]);
    done(&sessions[0], TROUBLE_THROTTLED, SESSION_RETRY_NONE);
    assert_int_equal(returned, 0);
    assert_int_equal(recipients[0].outcome, OUTCOME_OPEN);

    sender_hurry(&sender);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    assert_ptr_equal(sessions[1].mail, &mails[1]); /* the other one first */
    done(&sessions[1], TROUBLE_NONE, SESSION_RETRY_NONE);
    sender_turn(&sender);
    assert_ptr_equal(sessions[1].mail, &mails[0]);
    done(&sessions[1], TROUBLE_THROTTLED, SESSION_RETRY_NONE);
    assert_ptr_equal(last_returned, &mails[0]);
    assert_int_equal(recipients[0].outcome, OUTCOME_DEFERRED);
    assert_string_equal(recipients[0].status, "4.7.0");
    assert_string_equal(recipients[0].words, "words");
    tear_down();
}

/* Nothing is to be recorded before the others are asked; once somebody was accepted it is. */
static void the_rest_goes_at_once(void **state)
{
    (void)state;
    set_up(1, 2);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    recipients[0].outcome = OUTCOME_AGAIN;
    done(&sessions[0], TROUBLE_NONE, SESSION_RETRY_NONE);
    assert_int_equal(returned, 0);
    sender_turn(&sender);
    assert_ptr_equal(sessions[0].mail, &mails[0]);

    static struct recipient both[2];
    both[0].outcome = OUTCOME_ACCEPTED;
    both[1].outcome = OUTCOME_AGAIN;
    mails[0].recipients = both;
    mails[0].count = 2;
    done(&sessions[0], TROUBLE_NONE, SESSION_RETRY_NONE);
    assert_ptr_equal(last_returned, &mails[0]);
    tear_down();
}

/* A success that was under way when the host asked for less. */
static void a_success_of_before_ends_no_pause(void **state)
{
    (void)state;
    set_up(2, 2);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    done(&sessions[0], TROUBLE_THROTTLED, SESSION_RETRY_NONE);
    done(&sessions[1], TROUBLE_NONE, SESSION_RETRY_NONE);
    assert_int_equal(returned, 1);
    assert_int_equal(sender.smarthost.trouble, TROUBLE_THROTTLED);
    sender_turn(&sender);
    assert_int_equal(session_state(&sessions[1]), SESSION_IDLE);
    tear_down();
}

static void what_comes_after_the_stop_goes_back(void **state)
{
    (void)state;
    set_up(1, 1);
    sender_stop(&sender);
    assert_int_equal(returned, 1);
    sender_add(&sender, &mails[1]);
    assert_ptr_equal(last_returned, &mails[1]);
    assert_int_equal(sender.ready_count, 0);
    tear_down();
}

static void what_rests_counts_as_loaded(void **state)
{
    (void)state;
    set_up(1, 1);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    size_t wanted = sender_wants(&sender);
    done(&sessions[0], TROUBLE_NONE, SESSION_RETRY_SOON);
    assert_int_equal(sender_wants(&sender), wanted - 1);
    tear_down();
}

static void a_stale_connection_costs_nothing(void **state)
{
    (void)state;
    set_up(1, 2);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    done(&sessions[0], TROUBLE_NONE, SESSION_RETRY_NOW);
    assert_int_equal(returned, 0);
    sender_turn(&sender);
    assert_int_equal(opened, 2);
    open_all();
    sender_turn(&sender);
    assert_ptr_equal(sessions[1].mail, &mails[0]); /* still the first */
    tear_down();
}

/* Others that have a connection go on meanwhile, and the host is not in trouble. */
static void a_mail_whose_connection_broke_rests(void **state)
{
    (void)state;
    set_up(1, 2);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    done(&sessions[0], TROUBLE_NONE, SESSION_RETRY_SOON);
    assert_int_equal(returned, 0);
    assert_ptr_equal(sender.resting, &mails[0]);
    assert_int_equal(sender.smarthost.trouble, TROUBLE_NONE);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    assert_ptr_equal(sessions[1].mail, &mails[1]);
    done(&sessions[1], TROUBLE_NONE, SESSION_RETRY_NONE);
    assert_int_equal(returned, 1);

    while (sender.resting != NULL)
        uv_run(&loop, UV_RUN_ONCE);
    sender_turn(&sender);
    assert_ptr_equal(sessions[1].mail, &mails[0]);
    /* The second time it is put off, for it may be the message. */
    done(&sessions[1], TROUBLE_NONE, SESSION_RETRY_SOON);
    assert_ptr_equal(last_returned, &mails[0]);
    assert_int_equal(recipients[0].outcome, OUTCOME_DEFERRED);
    assert_string_equal(recipients[0].status, "4.4.2");
    tear_down();
}

static void a_mail_that_could_not_be_read_comes_back(void **state)
{
    (void)state;
    set_up(1, 1);
    sender_turn(&sender);
    open_all();
    sender_turn(&sender);
    mails[0].error = 5;
    done(&sessions[0], TROUBLE_NONE, SESSION_RETRY_NONE);
    assert_ptr_equal(last_returned, &mails[0]);
    assert_int_equal(recipients[0].outcome, OUTCOME_OPEN);
    tear_down();
}

static void stops_behind_what_is_being_sent(void **state)
{
    (void)state;
    set_up(2, 3);
    sender_turn(&sender);
    sessions[0].state = SESSION_IDLE;
    sender_turn(&sender);
    sender_stop(&sender);
    assert_int_equal(returned, 2); /* those that were not being sent */
    assert_int_equal(sender.session_count, 1);
    assert_int_equal(sender_wants(&sender), 0);
    sender_turn(&sender);
    assert_int_equal(opened, 2);
    sender_abort(&sender);
    assert_int_equal(returned, 3);
    assert_int_equal(recipients[0].outcome, OUTCOME_OPEN);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_is_needed_and_keeps_it),
        cmocka_unit_test(loads_ahead_and_no_further),
        cmocka_unit_test(a_host_in_trouble_is_left_alone),
        cmocka_unit_test(a_mail_that_draws_trouble_twice_waits_by_itself),
        cmocka_unit_test(the_rest_goes_at_once),
        cmocka_unit_test(a_success_of_before_ends_no_pause),
        cmocka_unit_test(what_comes_after_the_stop_goes_back),
        cmocka_unit_test(what_rests_counts_as_loaded),
        cmocka_unit_test(a_stale_connection_costs_nothing),
        cmocka_unit_test(a_mail_whose_connection_broke_rests),
        cmocka_unit_test(a_mail_that_could_not_be_read_comes_back),
        cmocka_unit_test(stops_behind_what_is_being_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
