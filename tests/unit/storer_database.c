/* The state machine towards the database: every event means something in every state, and without
 * a connection nothing is done but waiting for one. */
#include "storer/database.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void no_cell_is_empty(void **state)
{
    (void)state;
    for (int i = 0; i < DATABASE_STATE_COUNT; i++) {
        assert_non_null(database_state_names[i]);
        for (int event = 0; event < DATABASE_EVENT_COUNT; event++)
            if (!database_table[i][event])
                fail_msg("nothing for event %d in state %s", event, database_state_names[i]);
    }
}

static void done_cb(struct database *database, struct batch *batch)
{
    (void)batch;
    (*(int *)database->data)++;
}

/* A database whose connection is never up: what would be sent is not. */
struct fixture {
    uv_loop_t loop;
    struct database database;
    struct batch batch;
    int done;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    assert_int_equal(uv_loop_init(&fixture.loop), 0);
    struct pgconn_options options = {.name = "test"};
    uv_timer_init(&fixture.loop, &fixture.database.timer);
    pgconn_init(&fixture.database.conn, &fixture.loop, &options);
    fixture.database.done_cb = done_cb;
    fixture.database.data = &fixture.done;
    batch_init(&fixture.batch);
    static const char *recipients[] = {"b@x"};
    for (int i = 0; i < 4; i++) {
        char id[ID_SIZE];
        id_make(id, 1000000 * (i + 2));
        struct envelope envelope = {.id = id,
                                    .received = 1000000 * (i + 2),
                                    .client_address = "::1",
                                    .helo = "h",
                                    .protocol = "SMTP",
                                    .from = "",
                                    .recipients = recipients,
                                    .recipients_count = 1};
        assert_non_null(batch_add(&fixture.batch, &envelope, QUEUE_NEW, 0));
    }
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    database_close(&fixture->database, NULL);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    batch_free(&fixture->batch);
    return uv_loop_close(&fixture->loop);
}

static void step(struct database *database, enum database_event event)
{
    database->state = database_table[database->state][event](database);
}

static void begin_storing(struct fixture *fixture)
{
    fixture->database.state = DATABASE_IDLE;
    database_store(&fixture->database, &fixture->batch);
    assert_int_equal(fixture->database.state, DATABASE_STORING);
}

static void commit(struct database *database)
{
    database->said.committed = true;
    database->said.oldest = 1;
    database->said.newest = 1000000000;
    step(database, DATABASE_DONE);
}

static void a_batch_waits_for_a_connection(void **state)
{
    struct fixture *fixture = *state;
    database_store(&fixture->database, &fixture->batch);
    assert_int_equal(fixture->database.state, DATABASE_AWAY);
    assert_true(database_is_stuck(&fixture->database));
    step(&fixture->database, DATABASE_UP);
    assert_int_equal(fixture->database.state, DATABASE_CHECKING);
    step(&fixture->database, DATABASE_DONE);
    assert_int_equal(fixture->database.state, DATABASE_STORING);
    commit(&fixture->database);
    assert_int_equal(fixture->database.state, DATABASE_IDLE);
    assert_int_equal(fixture->done, 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->batch.messages[i].fate, FATE_STORED);
}

static void an_unknown_outcome_is_tried_again(void **state)
{
    struct fixture *fixture = *state;
    begin_storing(fixture);
    step(&fixture->database, DATABASE_LOST);
    assert_int_equal(fixture->database.state, DATABASE_AWAY);
    assert_int_equal(fixture->done, 0);
    assert_int_equal(fixture->batch.messages[0].fate, FATE_OPEN);
    assert_int_equal(plan_next(&fixture->database.plan)->count, 4);
}

static void a_commit_that_was_read_counts_although_the_end_was_not(void **state)
{
    struct fixture *fixture = *state;
    begin_storing(fixture);
    fixture->database.said.committed = true;
    fixture->database.said.newest = 1000000000;
    step(&fixture->database, DATABASE_LOST);
    assert_int_equal(fixture->done, 1);
    assert_int_equal(fixture->batch.messages[3].fate, FATE_STORED);
}

static void a_commit_after_an_error_does_not(void **state)
{
    struct fixture *fixture = *state;
    begin_storing(fixture);
    fixture->database.said.committed = true;
    fixture->database.said.failed = true;
    step(&fixture->database, DATABASE_LOST);
    assert_int_equal(fixture->done, 0);
    assert_int_equal(fixture->batch.messages[3].fate, FATE_OPEN);
}

static void a_refusal_is_narrowed_down(void **state)
{
    struct fixture *fixture = *state;
    begin_storing(fixture);
    step(&fixture->database, DATABASE_REFUSED); /* 0 to 3 */
    step(&fixture->database, DATABASE_REFUSED); /* 0 and 1 */
    commit(&fixture->database);                 /* 0 */
    step(&fixture->database, DATABASE_REFUSED); /* 1 */
    commit(&fixture->database);                 /* 2 and 3 */
    assert_int_equal(fixture->database.state, DATABASE_IDLE);
    assert_int_equal(fixture->done, 1);
    static const enum fate want[] = {FATE_STORED, FATE_REFUSED, FATE_STORED, FATE_STORED};
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->batch.messages[i].fate, want[i]);
    assert_non_null(fixture->batch.messages[1].reason);
}

/* Whatever else goes wrong, and however often: nobody is blamed. */
static void no_other_failure_sets_a_message_aside(void **state)
{
    struct fixture *fixture = *state;
    static const enum database_event events[] = {DATABASE_WAIT, DATABASE_RECONNECT,
                                                 DATABASE_TOO_MUCH, DATABASE_SETUP};
    begin_storing(fixture);
    for (int i = 0; i < 1000 && fixture->done == 0; i++) {
        step(&fixture->database, events[i % 4]);
        assert_int_equal(fixture->database.state, DATABASE_PAUSED);
        fixture->database.leaving = false;
        fixture->database.checked = true;
        step(&fixture->database, DATABASE_TIMER);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->batch.messages[i].fate, FATE_OPEN);
}

/* Somebody may take a partition away again: a restore, a failover that lost the making of it. */
static void partitions_are_made_anew_after_a_pause(void **state)
{
    struct fixture *fixture = *state;
    begin_storing(fixture);
    step(&fixture->database, DATABASE_PARTITION);
    assert_int_equal(fixture->database.state, DATABASE_MAKING);
    step(&fixture->database, DATABASE_DONE);
    assert_int_equal(fixture->database.state, DATABASE_STORING);
    step(&fixture->database, DATABASE_PARTITION);
    assert_int_equal(fixture->database.state, DATABASE_PAUSED);
    fixture->database.checked = true;
    step(&fixture->database, DATABASE_TIMER);
    assert_int_equal(fixture->database.state, DATABASE_STORING);
    step(&fixture->database, DATABASE_PARTITION);
    assert_int_equal(fixture->database.state, DATABASE_MAKING);
    step(&fixture->database, DATABASE_DONE);
    step(&fixture->database, DATABASE_LOST);
    assert_int_equal(fixture->database.state, DATABASE_AWAY);
    assert_false(fixture->database.made);
}

static void a_set_up_error_leaves_the_session_after_a_pause(void **state)
{
    struct fixture *fixture = *state;
    begin_storing(fixture);
    step(&fixture->database, DATABASE_SETUP);
    assert_int_equal(fixture->database.state, DATABASE_PAUSED);
    step(&fixture->database, DATABASE_TIMER);
    assert_int_equal(fixture->database.state, DATABASE_LEAVING);
    step(&fixture->database, DATABASE_LOST);
    assert_int_equal(fixture->database.state, DATABASE_AWAY);
    assert_ptr_equal(fixture->database.batch, &fixture->batch);
}

/* In what a conversation never leads to, and where a session ends before it began, the connection is
 * given up and the batch done again. */
static void what_cannot_be_ends_the_session_and_no_message(void **state)
{
    struct fixture *fixture = *state;
    struct database *database = &fixture->database;

    begin_storing(fixture);
    for (int from = 0; from < DATABASE_STATE_COUNT; from++) {
        for (int event = 0; event < DATABASE_EVENT_COUNT; event++) {
            if (database_table[from][event] != database_table[DATABASE_IDLE][DATABASE_DONE])
                continue;
            database->state = (enum database_state)from;
            step(database, (enum database_event)event);
            assert_int_equal(database->state, DATABASE_LEAVING);
            step(database, DATABASE_BATCH);
            assert_int_equal(database->state, DATABASE_LEAVING);
        }
    }
    database->state = DATABASE_CHECKING;
    step(database, DATABASE_RECONNECT);
    assert_int_equal(database->state, DATABASE_LEAVING);
    database->state = DATABASE_CHECKING;
    step(database, DATABASE_SETUP);
    assert_int_equal(database->state, DATABASE_LEAVING);
    assert_int_equal(fixture->done, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->batch.messages[i].fate, FATE_OPEN);
}

/* Readers are told of what is stored; that they could not be told changes nothing. */
static void a_notice_that_failed_holds_up_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct database *database = &fixture->database;

    database->notify = true;
    begin_storing(fixture);
    database->said.news = true;
    commit(database);
    assert_int_equal(database->state, DATABASE_NOTIFYING);
    assert_int_equal(fixture->done, 1);
    step(database, DATABASE_WAIT);
    assert_int_equal(database->state, DATABASE_IDLE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->batch.messages[i].fate, FATE_STORED);
}

/* COPY. */

#define HOUR INT64_C(3600000000)

/* Ends the batch in hand by a COMMIT within whose bounds its like are by more than an hour. */
static void commit_with_room(struct database *database)
{
    database->said.committed = true;
    database->said.oldest = -2 * HOUR;
    database->said.newest = 1000000000;
    step(database, DATABASE_DONE);
    assert_int_equal(database->state, DATABASE_IDLE);
}

/* A batch that is on its way by COPY, and if it would be the first of its session, one before it
 * that goes by INSERT. */
static void begin_copying(struct fixture *fixture)
{
    if (fixture->database.newest == 0) {
        begin_storing(fixture);
        assert_false(fixture->database.said.copies);
        commit_with_room(&fixture->database);
    }
    begin_storing(fixture);
    assert_true(fixture->database.said.copies);
}

/* With nothing in hand. */
static void begin_session(struct database *database)
{
    step(database, DATABASE_LOST);
    step(database, DATABASE_UP);
    step(database, DATABASE_DONE);
    assert_int_equal(database->state, DATABASE_IDLE);
}

static void check_fates(const struct fixture *fixture, enum fate fate)
{
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->batch.messages[i].fate, fate);
}

static void what_is_copied_is_stored(void **state)
{
    struct fixture *fixture = *state;
    begin_copying(fixture);
    for (int i = 0; i < 4; i++)
        batch_decide(&fixture->batch.messages[i], FATE_OPEN, NULL);
    commit_with_room(&fixture->database);
    check_fates(fixture, FATE_STORED);
    assert_int_equal(fixture->done, 2);
    begin_copying(fixture);
}

/* What COPY was refused for says nothing of a message; INSERT gets the whole, and is believed. */
static void a_copy_that_was_refused_blames_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct database *database = &fixture->database;
    static const struct {
        enum database_event event;
        enum verdict verdict;
    } rows[] = {
        {DATABASE_REFUSED, VERDICT_REFUSED},
        {DATABASE_TOO_MUCH, VERDICT_TOO_MUCH},
        {DATABASE_SETUP, VERDICT_SETUP},
    };

    for (int i = 0; i < 3; i++) {
        begin_copying(fixture);
        database->said.verdict = rows[i].verdict;
        step(database, rows[i].event);
        assert_int_equal(database->state, DATABASE_STORING);
        assert_false(database->said.copies);
        assert_false(database->said_setup);
        assert_int_equal(plan_next(&database->plan)->count, 4);
        commit_with_room(database);
        check_fates(fixture, FATE_STORED);
    }
    begin_session(database);
    begin_copying(fixture);
    database->said.verdict = VERDICT_REFUSED;
    step(database, DATABASE_REFUSED);
    for (int i = 0; i < 3; i++)
        step(database, DATABASE_REFUSED); /* 0 to 3, 0 and 1, 0 */
    assert_int_equal(fixture->batch.messages[0].fate, FATE_REFUSED);
    assert_int_equal(plan_next(&database->plan)->first, 1);
}

/* What tables are not fit for is not tried with every batch; the next session may find them mended. */
static void a_session_that_cannot_copy_inserts(void **state)
{
    struct fixture *fixture = *state;
    struct database *database = &fixture->database;

    begin_copying(fixture);
    database->said.verdict = VERDICT_SETUP;
    step(database, DATABASE_SETUP);
    commit_with_room(database);
    for (int i = 0; i < 3; i++) {
        begin_storing(fixture);
        assert_false(database->said.copies);
        commit_with_room(database);
    }
    begin_session(database);
    begin_copying(fixture);
}

static void a_batch_is_copied_once(void **state)
{
    struct fixture *fixture = *state;
    struct database *database = &fixture->database;
    static const enum database_event events[] = {DATABASE_WAIT, DATABASE_RECONNECT};

    for (int i = 0; i < 2; i++) {
        begin_copying(fixture);
        step(database, events[i]);
        assert_int_equal(database->state, DATABASE_PAUSED);
        database->leaving = false;
        database->checked = true;
        step(database, DATABASE_TIMER);
        assert_int_equal(database->state, DATABASE_STORING);
        assert_false(database->said.copies);
        commit_with_room(database);
    }
    begin_copying(fixture);
    step(database, DATABASE_PARTITION);
    assert_int_equal(database->state, DATABASE_MAKING);
    step(database, DATABASE_DONE);
    assert_int_equal(database->state, DATABASE_STORING);
    assert_false(database->said.copies);
}

/* In the next session, which may be with another server, for the batch in hand and any other. */
static void a_session_has_no_bounds_but_its_own(void **state)
{
    struct fixture *fixture = *state;
    struct database *database = &fixture->database;

    begin_copying(fixture);
    step(database, DATABASE_LOST);
    assert_ptr_equal(database->batch, &fixture->batch);
    step(database, DATABASE_UP);
    step(database, DATABASE_DONE);
    assert_int_equal(database->state, DATABASE_STORING);
    assert_false(database->said.copies);
    commit_with_room(database);
    begin_session(database);
    begin_storing(fixture);
    assert_false(database->said.copies);
}

/* What is far from being expired at one COMMIT is not at the next, which may be days later. */
static void bounds_move_with_the_time(void **state)
{
    struct fixture *fixture = *state;
    struct database *database = &fixture->database;

    begin_copying(fixture);
    commit_with_room(database);
    database->bounds_at -= UINT64_C(59) * 60 * 1000000000;
    begin_copying(fixture);
    commit_with_room(database);
    database->bounds_at -= UINT64_C(61) * 60 * 1000000000;
    begin_storing(fixture);
    assert_false(database->said.copies);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cell_is_empty),
        TEST(a_batch_waits_for_a_connection),
        TEST(an_unknown_outcome_is_tried_again),
        TEST(a_commit_that_was_read_counts_although_the_end_was_not),
        TEST(a_commit_after_an_error_does_not),
        TEST(a_refusal_is_narrowed_down),
        TEST(no_other_failure_sets_a_message_aside),
        TEST(partitions_are_made_anew_after_a_pause),
        TEST(a_set_up_error_leaves_the_session_after_a_pause),
        TEST(what_cannot_be_ends_the_session_and_no_message),
        TEST(a_notice_that_failed_holds_up_nothing),
        TEST(what_is_copied_is_stored),
        TEST(a_copy_that_was_refused_blames_nobody),
        TEST(a_session_that_cannot_copy_inserts),
        TEST(a_batch_is_copied_once),
        TEST(a_session_has_no_bounds_but_its_own),
        TEST(bounds_move_with_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
