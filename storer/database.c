/* The state machine between batches and the database: see the header. */
#include "storer/database.h"

#include "common/fault.h"
#include "common/log.h"
#include "storer/copy.h"
#include "storer/metrics.h"

#include <stdio.h>
#include <string.h>

const char *const database_state_names[DATABASE_STATE_COUNT] = {
    [DATABASE_AWAY] = "away",     [DATABASE_CHECKING] = "checking",
    [DATABASE_IDLE] = "idle",     [DATABASE_STORING] = "storing",
    [DATABASE_MAKING] = "making", [DATABASE_NOTIFYING] = "notifying",
    [DATABASE_PAUSED] = "paused", [DATABASE_LEAVING] = "leaving",
};

static void step_machine(struct database *database, enum database_event event);

static const enum database_event verdict_events[VERDICT_COUNT] = {
    [VERDICT_WAIT] = DATABASE_WAIT,           [VERDICT_RECONNECT] = DATABASE_RECONNECT,
    [VERDICT_PARTITION] = DATABASE_PARTITION, [VERDICT_REFUSED] = DATABASE_REFUSED,
    [VERDICT_TOO_MUCH] = DATABASE_TOO_MUCH,   [VERDICT_SETUP] = DATABASE_SETUP,
};

/* Actions: what the cells of the table do. Each returns the next state. */

static enum database_state stay(struct database *database)
{
    return database->state;
}

static enum database_state away(struct database *database)
{
    uv_timer_stop(&database->timer);
    database->checked = false;
    database->made = false;
    database->oldest = database->newest = 0;
    database->inserts_only = false;
    metric_set_value(&storer_metrics[METRIC_CONNECTED], 0);
    return DATABASE_AWAY;
}

static enum database_state leave(struct database *database)
{
    uv_timer_stop(&database->timer);
    pgconn_drop(&database->conn, database->said.words);
    return DATABASE_LEAVING;
}

/* A cell that no sequence of events leads to. Should it be reached all the same, a new session is a
 * sound place to go on from: what is in hand is simply done again. */
static enum database_state confused(struct database *database)
{
    log_error("database_confused", LOG_TEXT("state", database_state_names[database->state]));
    return leave(database);
}

static enum database_state check(struct database *database)
{
    transaction_check(&database->said, &database->conn);
    return DATABASE_CHECKING;
}

/* COPY is for what is tried for the first time, and lies within the bounds that the last transaction
 * went by, moved on to now. They are read again in this one, before its COMMIT: a message that fell
 * behind them for all that, because somebody has just made the retention shorter, is taken for
 * expired, and its row goes with its day, unseen by readers. Behind an error the transaction that
 * failed is to be ended first, which INSERT does on its way. */
static enum database_state store(struct database *database)
{
    const struct plan_segment *segment = plan_next(&database->plan);
    int64_t since = (int64_t)((uv_hrtime() - database->bounds_at) / 1000);
    bool copy = database->fresh && !database->inserts_only &&
                !pgconn_in_transaction(&database->conn) &&
                copy_fits(database->batch, segment, database->oldest + since, database->newest);
    database->fresh = false;
    if (copy)
        transaction_copy(&database->said, &database->conn, database->batch, segment);
    else
        transaction_store(&database->said, &database->conn, database->batch, segment);
    return DATABASE_STORING;
}

/* What COPY was refused for, INSERT may not be: the rows are there already, as after an end whose
 * COMMIT nobody read; or the tables are not as we know them, guarded row by row, or without the
 * trigger that fills in a mailbox; or another server's error is handed on without its SQLSTATE, as
 * by Citus. If it is, it says what is wrong, or which message is to blame.
 *
 * Tables that are not as we know them will refuse the next COPY, too, each of which leaves its rows
 * behind as dead ones: for the rest of the session there is none, and the operator is told why. */
static enum database_state store_by_insert(struct database *database)
{
    database->inserts_only = database->said.verdict == VERDICT_SETUP;
    metric_add(&storer_metrics[METRIC_COPIES_REFUSED], 1);
    LOG_EVENT(database->inserts_only ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "copy_refused",
              LOG_TEXT("sqlstate", database->said.sqlstate),
              LOG_TEXT("message", database->said.words),
              LOG_TEXT("verdict", verdict_names[database->said.verdict]));
    return store(database);
}

/* Gives the batch back once all of it is dealt with. */
static void finish_batch(struct database *database)
{
    if (!database->batch || plan_next(&database->plan))
        return;
    struct batch *batch = database->batch;
    database->batch = NULL;
    database->done_cb(database, batch);
}

static enum database_state proceed(struct database *database)
{
    finish_batch(database);
    return database->batch ? store(database) : DATABASE_IDLE;
}

static void say_setup_right(struct database *database)
{
    if (database->said_setup)
        log_info("setup_right");
    database->said_setup = false;
}

static enum database_state settle(struct database *database)
{
    /* With a batch in hand, its COMMIT is the better proof. */
    if (!database->batch)
        say_setup_right(database);
    database->checked = true;
    metric_set_value(&storer_metrics[METRIC_CONNECTED], 1);
    pgconn_settled(&database->conn);
    return proceed(database);
}

static void timer_cb(uv_timer_t *timer)
{
    step_machine(timer->data, DATABASE_TIMER);
}

static enum database_state rest(struct database *database, bool leaving)
{
    uint32_t random = 0;
    uv_random(NULL, NULL, &random, sizeof random, 0, NULL);
    uv_timer_start(&database->timer, timer_cb, pgconn_backoff(database->pauses++, random), 0);
    database->leaving = leaving;
    return DATABASE_PAUSED;
}

static enum database_state resume(struct database *database)
{
    if (database->leaving)
        return leave(database);
    return database->checked ? proceed(database) : check(database);
}

/* Said once, until a transaction succeeds again. */
static void say_trouble(struct database *database)
{
    metric_add(&storer_metrics[METRIC_RETRIES], 1);
    enum log_level level = database->said_trouble ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN;
    LOG_EVENT(level, "database_trouble", LOG_TEXT("sqlstate", database->said.sqlstate),
              LOG_TEXT("message", database->said.words),
              LOG_TEXT("verdict", verdict_names[database->said.verdict]));
    database->said_trouble = true;
}

static enum database_state retry(struct database *database)
{
    say_trouble(database);
    return rest(database, false);
}

static enum database_state reconnect(struct database *database)
{
    say_trouble(database);
    return rest(database, true);
}

/* Said once, until it is right. */
static void say_setup(struct database *database)
{
    metric_set_value(&storer_metrics[METRIC_CONNECTED], 0);
    if (database->said_setup)
        return;
    database->said_setup = true;
    log_error("setup_error", LOG_TEXT("sqlstate", database->said.sqlstate),
              LOG_TEXT("message", database->said.words),
              LOG_TEXT("remedy", strcmp(database->said.sqlstate, "42501") == 0
                                     ? "grant mayfly_storer to this role"
                                     : "load sql/schema.sql into this database"));
}

/* Tried again in a new session, because what the operator mends may be what a session begins with.
 * Of a session that never was any good, pgconn.h sees to the pause. */
static enum database_state set_up(struct database *database)
{
    if (database->said.copies)
        return store_by_insert(database);
    say_setup(database);
    return rest(database, true);
}

static enum database_state set_up_first(struct database *database)
{
    say_setup(database);
    return leave(database);
}

static enum database_state reconnect_first(struct database *database)
{
    say_trouble(database);
    return leave(database);
}

/* The segment is halved, so that what is to blame is found; what is left of it alone is given up,
 * for good or, where it is not known to be to blame, for now. */
static void blame_segment(struct database *database, enum fate fate)
{
    if (plan_halve(&database->plan))
        return;
    struct message *message = &database->batch->messages[plan_next(&database->plan)->first];
    char reason[sizeof database->said.words + 64];
    snprintf(reason, sizeof reason, "the database refused it: %s (SQLSTATE %s)",
             database->said.words, database->said.sqlstate);
    if (fate == FATE_OPEN)
        log_warn("passed_over", LOG_TEXT("id", message->id),
                 LOG_TEXT("message", database->said.words));
    batch_decide(message, fate, fate == FATE_REFUSED ? reason : NULL);
    plan_done(&database->plan);
}

static enum database_state refuse(struct database *database)
{
    if (database->said.copies)
        return store_by_insert(database);
    blame_segment(database, FATE_REFUSED);
    database->made = false;
    return proceed(database);
}

static enum database_state too_much(struct database *database)
{
    if (database->said.copies)
        return store_by_insert(database);
    if (plan_failed(&database->plan)) {
        blame_segment(database, FATE_OPEN);
        database->pauses = 0; /* what follows is another try, not one more */
    }
    return retry(database);
}

static enum database_state make(struct database *database)
{
    /* Made already, and missing still or again: midnight or a changed retention came between, or
     * somebody took it away. They are made anew, but after a pause. */
    if (database->made) {
        database->made = false;
        return retry(database);
    }
    transaction_partitions(&database->said, &database->conn, database->batch,
                           plan_next(&database->plan));
    return DATABASE_MAKING;
}

static enum database_state made(struct database *database)
{
    FAULT_POINT("storer.partitions_made");
    database->made = true;
    return store(database);
}

/* The one place that says a message is stored. It is reached only when the COMMIT's own result was
 * read, and read as COMMIT: a transaction that failed answers the same command with ROLLBACK. */
static void accept_commit(struct database *database)
{
    const struct plan_segment *segment = plan_next(&database->plan);
    double seconds = (double)(uv_hrtime() - database->said.sent_at) / 1e9;
    batch_committed(database->batch, segment->first, segment->count, database->said.oldest,
                    database->said.newest);
    log_debug("batch", LOG_NUMBER("batch", database->batch->number),
              LOG_NUMBER("messages", segment->count), LOG_NUMBER("bytes", database->batch->bytes),
              LOG_TEXT("by", database->said.copies ? "copy" : "insert"),
              LOG_REAL("seconds", seconds));
    metric_add(&storer_metrics[METRIC_BATCHES], 1);
    metric_observe(&storer_metrics[METRIC_TRANSACTION_SECONDS], seconds);
    metric_observe(&storer_metrics[METRIC_BATCH_MESSAGES], (double)segment->count);
    database->oldest = database->said.oldest;
    database->newest = database->said.newest;
    database->bounds_at = database->said.sent_at;
    database->pauses = 0;
    database->made = false;
    say_setup_right(database);
    if (database->said_trouble)
        log_info("database_recovered");
    database->said_trouble = false;
}

static enum database_state stored(struct database *database)
{
    struct plan_segment segment = *plan_next(&database->plan);
    accept_commit(database);
    plan_done(&database->plan);
    FAULT_POINT("storer.stored");
    if (!database->notify || !database->said.news)
        return proceed(database);
    transaction_notify(&database->said, &database->conn, database->batch, &segment);
    /* The files need not wait for the readers to be told. */
    finish_batch(database);
    return DATABASE_NOTIFYING;
}

static enum database_state not_notified(struct database *database)
{
    log_warn("not_notified", LOG_TEXT("sqlstate", database->said.sqlstate),
             LOG_TEXT("message", database->said.words));
    return proceed(database);
}

/* Whether it was committed is not known, unless the COMMIT's result had come before the end. */
static enum database_state lost_storing(struct database *database)
{
    if (transaction_is_stored(&database->said)) {
        accept_commit(database);
        plan_done(&database->plan);
    } else {
        metric_add(&storer_metrics[METRIC_RETRIES], 1);
        if (plan_failed(&database->plan))
            blame_segment(database, FATE_OPEN);
    }
    finish_batch(database);
    return away(database);
}

/* The machine. */

#define NOTHING_SENT                                                                               \
    [DATABASE_DONE] = confused, [DATABASE_WAIT] = confused, [DATABASE_RECONNECT] = confused,       \
    [DATABASE_PARTITION] = confused, [DATABASE_REFUSED] = confused,                                \
    [DATABASE_TOO_MUCH] = confused, [DATABASE_SETUP] = confused
#define FAILS_WITH(action)                                                                         \
    [DATABASE_WAIT] = action, [DATABASE_RECONNECT] = action, [DATABASE_PARTITION] = action,        \
    [DATABASE_REFUSED] = action, [DATABASE_TOO_MUCH] = action, [DATABASE_SETUP] = action

enum database_state (*const database_table[DATABASE_STATE_COUNT][DATABASE_EVENT_COUNT])(
    struct database *database) = {
    [DATABASE_AWAY] = {[DATABASE_UP] = check,
                       [DATABASE_LOST] = stay,
                       [DATABASE_BATCH] = stay,
                       [DATABASE_TIMER] = confused,
                       NOTHING_SENT},
    [DATABASE_CHECKING] = {[DATABASE_UP] = confused,
                           [DATABASE_LOST] = away,
                           [DATABASE_BATCH] = stay,
                           [DATABASE_TIMER] = confused,
                           [DATABASE_DONE] = settle,
                           [DATABASE_WAIT] = retry,
                           [DATABASE_RECONNECT] = reconnect_first,
                           [DATABASE_PARTITION] = retry,
                           [DATABASE_REFUSED] = retry,
                           [DATABASE_TOO_MUCH] = retry,
                           [DATABASE_SETUP] = set_up_first},
    [DATABASE_IDLE] = {[DATABASE_UP] = confused,
                       [DATABASE_LOST] = away,
                       [DATABASE_BATCH] = proceed,
                       [DATABASE_TIMER] = confused,
                       NOTHING_SENT},
    [DATABASE_STORING] = {[DATABASE_UP] = confused,
                          [DATABASE_LOST] = lost_storing,
                          [DATABASE_BATCH] = stay,
                          [DATABASE_TIMER] = confused,
                          [DATABASE_DONE] = stored,
                          [DATABASE_WAIT] = retry,
                          [DATABASE_RECONNECT] = reconnect,
                          [DATABASE_PARTITION] = make,
                          [DATABASE_REFUSED] = refuse,
                          [DATABASE_TOO_MUCH] = too_much,
                          [DATABASE_SETUP] = set_up},
    [DATABASE_MAKING] = {[DATABASE_UP] = confused,
                         [DATABASE_LOST] = away,
                         [DATABASE_BATCH] = stay,
                         [DATABASE_TIMER] = confused,
                         [DATABASE_DONE] = made,
                         [DATABASE_WAIT] = retry,
                         [DATABASE_RECONNECT] = reconnect,
                         [DATABASE_PARTITION] = retry,
                         [DATABASE_REFUSED] = retry,
                         [DATABASE_TOO_MUCH] = retry,
                         [DATABASE_SETUP] = set_up},
    [DATABASE_NOTIFYING] = {[DATABASE_UP] = confused,
                            [DATABASE_LOST] = away,
                            [DATABASE_BATCH] = stay,
                            [DATABASE_TIMER] = confused,
                            [DATABASE_DONE] = proceed,
                            FAILS_WITH(not_notified)},
    [DATABASE_PAUSED] = {[DATABASE_UP] = confused,
                         [DATABASE_LOST] = away,
                         [DATABASE_BATCH] = stay,
                         [DATABASE_TIMER] = resume,
                         NOTHING_SENT},
    [DATABASE_LEAVING] = {[DATABASE_UP] = confused,
                          [DATABASE_LOST] = away,
                          [DATABASE_BATCH] = stay,
                          [DATABASE_TIMER] = confused,
                          NOTHING_SENT},
};

static void step_machine(struct database *database, enum database_event event)
{
    database->state = database_table[database->state][event](database);
}

static void result_cb(struct pgconn *conn, PGresult *result)
{
    struct database *database = conn->options.data;
    const struct transaction *said = &database->said;
    if (!transaction_read(&database->said, conn, result))
        return;
    bool done = said->kind == TRANSACTION_STORE ? transaction_is_stored(said) : !said->failed;
    step_machine(database, done ? DATABASE_DONE : verdict_events[said->verdict]);
}

static void notice_cb(struct pgconn *conn, const PGresult *notice)
{
    struct database *database = conn->options.data;
    transaction_notice(&database->said, notice);
}

static void up_cb(struct pgconn *conn)
{
    step_machine(conn->options.data, DATABASE_UP);
}

static void down_cb(struct pgconn *conn, const char *reason)
{
    struct database *database = conn->options.data;
    snprintf(database->said.words, sizeof database->said.words, "%s", reason);
    step_machine(database, DATABASE_LOST);
}

/* The header's functions. */

void database_start(struct database *database, uv_loop_t *loop, const char *conninfo)
{
    struct pgconn_options options = {
        .conninfo = conninfo,
        .name = "mayfly-storer",
        .data = database,
        .callbacks = {.up_cb = up_cb,
                      .down_cb = down_cb,
                      .result_cb = result_cb,
                      .notice_cb = notice_cb},
    };
    database->state = DATABASE_AWAY;
    uv_timer_init(loop, &database->timer);
    database->timer.data = database;
    pgconn_init(&database->conn, loop, &options);
    pgconn_start(&database->conn);
}

void database_store(struct database *database, struct batch *batch)
{
    database->batch = batch;
    plan_init(&database->plan, batch->count);
    database->fresh = true;
    database->made = false;
    if (database->state == DATABASE_IDLE)
        step_machine(database, DATABASE_BATCH);
}

bool database_is_free(const struct database *database)
{
    return database->state == DATABASE_IDLE && !database->batch;
}

bool database_is_stuck(const struct database *database)
{
    return database->state != DATABASE_STORING && database->state != DATABASE_MAKING &&
           database->state != DATABASE_NOTIFYING && database->state != DATABASE_IDLE;
}

void database_close(struct database *database, void (*closed_cb)(struct pgconn *conn))
{
    uv_close((uv_handle_t *)&database->timer, NULL);
    pgconn_close(&database->conn, closed_cb);
}
