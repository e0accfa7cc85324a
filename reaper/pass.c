/* A pass over the database: see the header. */
#include "reaper/pass.h"

#include "common/fault.h"
#include "common/log.h"
#include "reaper/counters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PASS_SCHEMA_VERSION = 2 };

/* Of the ten seconds in which a program stops, those that the server may take, in milliseconds. */
enum { PASS_STOP_PATIENCE = 5 * 1000 };

enum holder { HOLDER_PID, HOLDER_USER, HOLDER_APPLICATION };
enum column { COLUMN_NAME, COLUMN_PARENT, COLUMN_STEP, COLUMN_COMMAND };

/* What a detach waits for are readers, and nobody waits behind it but, where a day is missing, the
 * function that makes it: long enough for readers that end, short enough for that one, unless the
 * login brings a lock_timeout of its own. No other timeout may end what is meant to take its time,
 * or the session, and with it the lock. */
static const char sql_session[] =
    "SELECT schema_version(),"
    " set_config('lock_timeout', CASE current_setting('lock_timeout')"
    " WHEN '0' THEN '10s' ELSE current_setting('lock_timeout') END, false),"
    " set_config('statement_timeout', '0', false), set_config('idle_session_timeout', '0', false)";

/* Tried and not waited for: a session that waits in the server holds a snapshot, and the reaper at
 * work would in turn wait for that with every detach that it has to finish. */
static const char sql_lock[] = "SELECT pg_try_advisory_lock(1296128326, 3)";

/* Whoever may connect can take it and stop retention with it: the log must say who. */
static const char sql_holder[] =
    "SELECT pid, usename, application_name FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND classid = 1296128326 AND objid = 3 AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND granted ORDER BY pid LIMIT 1";

static const char sql_retention[] = "SELECT set_retention(make_interval(secs => $1))";
static const char sql_list[] = "SELECT name, parent, step, command FROM expired_partitions()";
static const char sql_partitions[] = "SELECT make_partitions_ahead()";
static const char sql_count[] =
    "SELECT count(*) FROM pg_inherits"
    " WHERE inhparent IN ('messages'::regclass, 'deliveries'::regclass)";

static enum pass_step session_done(struct pass *pass);
static enum pass_step lock_done(struct pass *pass);
static enum pass_step holder_done(struct pass *pass);
static enum pass_step retention_done(struct pass *pass);
static enum pass_step list_done(struct pass *pass);
static enum pass_step command_done(struct pass *pass);
static enum pass_step partitions_done(struct pass *pass);
static enum pass_step count_done(struct pass *pass);

/* Each step, and what its success leads to; PASS_IDLE when the pass has ended. Expired partitions
 * go before new ones come: a longer retention may want a day back whose detach must be finished
 * first. Where mail needs a partition meanwhile, storer makes it. */
static const struct {
    const char *name; /* for the log */
    const char *sql;  /* NULL: the command of the row */
    enum pass_step (*done)(struct pass *pass);
} steps[PASS_STEP_COUNT] = {
    [PASS_SESSION] = {"session", sql_session, session_done},
    [PASS_LOCK] = {"lock", sql_lock, lock_done},
    [PASS_HOLDER] = {"holder", sql_holder, holder_done},
    [PASS_RETENTION] = {"retention", sql_retention, retention_done},
    [PASS_LIST] = {"list", sql_list, list_done},
    [PASS_COMMAND] = {"command", NULL, command_done},
    [PASS_PARTITIONS] = {"partitions", sql_partitions, partitions_done},
    [PASS_COUNT] = {"count", sql_count, count_done},
};

_Static_assert((int)COUNTER_DONE == PASS_DONE && (int)COUNTER_BUSY == PASS_BUSY &&
                   (int)COUNTER_WAITING == PASS_WAITING && (int)COUNTER_REFUSED == PASS_REFUSED,
               "a pass is counted by its outcome");

static const char *list_value(const struct pass *pass, enum column column)
{
    return PQgetvalue(pass->list, pass->row, column);
}

static void list_clear(struct pass *pass)
{
    PQclear(pass->list);
    pass->list = NULL;
}

/* The end of a pass. */

static enum pass_step pass_end(struct pass *pass, enum pass_outcome outcome)
{
    list_clear(pass);
    pass->step = PASS_IDLE;
    pgconn_settled(&pass->conn);
    metric_add(&counters[outcome], 1);
    if (outcome != PASS_WAITING)
        pass->said_holder = 0;
    if (outcome != PASS_REFUSED)
        pass->said_refused = false;
    if (outcome == PASS_DONE)
        pass->said_busy = false;
    pass->done_cb(pass, outcome);
    return PASS_IDLE;
}

static enum pass_step pass_refused(struct pass *pass, const char *advice)
{
    if (!pass->said_refused)
        log_error("database_not_set_up", LOG_TEXT("advice", advice),
                  LOG_TEXT("sqlstate", pass->sqlstate), LOG_TEXT("message", pass->words));
    pass->said_refused = true;
    return pass_end(pass, PASS_REFUSED);
}

/* Said once for as long as it lasts: a reader may be slow for hours. */
static void say_busy(struct pass *pass, const char *event, const char *name)
{
    enum log_level level = pass->said_busy ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN;

    LOG_EVENT(level, event, LOG_TEXT("name", name), LOG_TEXT("sqlstate", pass->sqlstate),
              LOG_TEXT("message", pass->words));
}

/* A step other than a command has failed: the rest of the pass stands on it. */
static enum pass_step step_failed(struct pass *pass)
{
    static const struct {
        const char *sqlstate; /* or its class */
        const char *advice;
    } rows[] = {
        {"42501", "the login must be in role mayfly_reaper: GRANT mayfly_reaper TO it"},
        {"42", "the schema is missing or old: psql -f sql/schema.sql loads it"},
        {"3F", "the schema is missing or old: psql -f sql/schema.sql loads it"},
        {"22", "the database refuses the setting"},
    };

    /* A standby, or a server that was told to be read-only: there may be another one by now. */
    if (strcmp(pass->sqlstate, "25006") == 0) {
        pgconn_drop(&pass->conn, pass->words);
        return PASS_IDLE;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strncmp(pass->sqlstate, rows[i].sqlstate, strlen(rows[i].sqlstate)) == 0)
            return pass_refused(pass, rows[i].advice);
    say_busy(pass, "pass_broken_off", steps[pass->step].name);
    pass->said_busy = true;
    return pass_end(pass, PASS_BUSY);
}

/* The steps. */

static enum pass_step session_done(struct pass *pass)
{
    if (pass->number < PASS_SCHEMA_VERSION)
        return pass_refused(pass, "the schema is old: psql -f sql/schema.sql brings it up to date");
    return pass->locked ? PASS_RETENTION : PASS_LOCK;
}

static enum pass_step lock_done(struct pass *pass)
{
    pass->locked = pass->number == 1;
    return pass->locked ? PASS_RETENTION : PASS_HOLDER;
}

/* Said once a holder: a second reaper may wait for years. No row: it has just let go. */
static enum pass_step holder_done(struct pass *pass)
{
    if (PQntuples(pass->list) > 0 && pass->number != pass->said_holder) {
        log_warn("lock_waiting", LOG_NUMBER("pid", pass->number),
                 LOG_TEXT("user", PQgetvalue(pass->list, 0, HOLDER_USER)),
                 LOG_TEXT("application", PQgetvalue(pass->list, 0, HOLDER_APPLICATION)));
        pass->said_holder = pass->number;
    }
    return pass_end(pass, PASS_WAITING);
}

static enum pass_step retention_done(struct pass *pass)
{
    (void)pass;
    return PASS_LIST;
}

/* There are two parents, and rows of both. */
static bool *stuck_parent(struct pass *pass)
{
    const char *first = PQgetvalue(pass->list, 0, COLUMN_PARENT);
    return &pass->stuck[strcmp(list_value(pass, COLUMN_PARENT), first) == 0];
}

static bool is_drop(const struct pass *pass)
{
    return strcmp(list_value(pass, COLUMN_STEP), "drop") == 0;
}

/* The next row that can be done; behind the last, the list anew if that may show more. */
static enum pass_step next_command(struct pass *pass)
{
    while (++pass->row < PQntuples(pass->list))
        if (is_drop(pass) || !*stuck_parent(pass))
            return PASS_COMMAND;
    list_clear(pass);
    return pass->progress ? PASS_LIST : PASS_PARTITIONS;
}

static enum pass_step list_done(struct pass *pass)
{
    metric_set_value(&counters[COUNTER_EXPIRED], PQntuples(pass->list));
    pass->row = -1;
    pass->stuck[0] = pass->stuck[1] = false;
    pass->progress = pass->undone = false;
    return next_command(pass);
}

static enum pass_step command_done(struct pass *pass)
{
    const char *name = list_value(pass, COLUMN_NAME);

    if (is_drop(pass)) {
        FAULT_POINT("pass.dropped");
        log_info("partition_dropped", LOG_TEXT("name", name));
        metric_add(&counters[COUNTER_DROPPED], 1);
    } else {
        FAULT_POINT("pass.detached");
        log_info("partition_detached", LOG_TEXT("name", name));
    }
    pass->progress = true;
    return next_command(pass);
}

/* The others go on without it. A detach that failed may be pending now, which keeps its parent from
 * beginning another; the next pass finishes it first. */
static enum pass_step command_failed(struct pass *pass)
{
    say_busy(pass, is_drop(pass) ? "partition_not_dropped" : "partition_not_detached",
             list_value(pass, COLUMN_NAME));
    if (!is_drop(pass))
        *stuck_parent(pass) = true;
    pass->undone = true;
    return next_command(pass);
}

static enum pass_step partitions_done(struct pass *pass)
{
    log_debug("partitions_ready", LOG_NUMBER("days", pass->number));
    return PASS_COUNT;
}

static enum pass_step count_done(struct pass *pass)
{
    metric_set_value(&counters[COUNTER_PARTITIONS], (double)pass->number);
    if (!pass->undone)
        return pass_end(pass, PASS_DONE);
    pass->said_busy = true;
    return pass_end(pass, PASS_BUSY);
}

/* The machine. */

static void step_enter(struct pass *pass, enum pass_step step)
{
    struct pgconn_param retention = {.value = pass->retention};

    pass->step = step;
    pass->failed = false;
    pass->number = 0;
    pass->sqlstate[0] = pass->words[0] = '\0';
    if (step == PASS_IDLE)
        return;
    FAULT_POINT("pass.step");
    if (step == PASS_COMMAND)
        pgconn_query(&pass->conn, list_value(pass, COLUMN_COMMAND));
    else
        pgconn_execute(&pass->conn, steps[step].sql, &retention, step == PASS_RETENTION ? 1 : 0);
    FAULT_POINT("pass.step_sent");
}

static void hear_result(struct pass *pass, const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        pass->failed = true;
        snprintf(pass->sqlstate, sizeof pass->sqlstate, "%s", pgwords_sqlstate(result));
        pgwords_of(result, pass->words, sizeof pass->words);
        return;
    }
    if (pass->step == PASS_LIST || pass->step == PASS_HOLDER)
        pass->list = PQcopyResult(result, PG_COPYRES_ATTRS | PG_COPYRES_TUPLES);
    if (status == PGRES_TUPLES_OK && PQntuples(result) > 0) {
        const char *value = PQgetvalue(result, 0, 0);
        pass->number = strcmp(value, "t") == 0 ? 1 : strtol(value, NULL, 10);
    }
}

static void pass_close(struct pass *pass)
{
    if (pass->closed)
        return;
    pass->closed = true;
    uv_close((uv_handle_t *)&pass->patience, NULL);
    pgconn_close(&pass->conn, NULL);
}

static void result_cb(struct pgconn *conn, PGresult *result)
{
    struct pass *pass = conn->options.data;
    enum pass_step next;

    if (result != NULL) {
        hear_result(pass, result);
        return;
    }
    if (pass->stopping) {
        pass_close(pass);
        return;
    }
    if (!pass->failed)
        next = steps[pass->step].done(pass);
    else if (pass->step == PASS_COMMAND)
        next = command_failed(pass);
    else
        next = step_failed(pass);
    step_enter(pass, next);
}

static void up_cb(struct pgconn *conn)
{
    pass_run(conn->options.data);
}

static void down_cb(struct pgconn *conn, const char *reason)
{
    struct pass *pass = conn->options.data;

    (void)reason;
    list_clear(pass);
    pass->step = PASS_IDLE;
    pass->locked = false;
    if (pass->stopping)
        pass_close(pass);
}

void pass_start(struct pass *pass, uv_loop_t *loop, const char *conninfo, long retention,
                void (*done_cb)(struct pass *pass, enum pass_outcome outcome))
{
    struct pgconn_options options = {
        .conninfo = conninfo,
        .name = "mayfly-reaper",
        .data = pass,
        .callbacks = {.up_cb = up_cb, .down_cb = down_cb, .result_cb = result_cb},
    };

    *pass = (struct pass){.done_cb = done_cb};
    snprintf(pass->retention, sizeof pass->retention, "%ld", retention);
    uv_timer_init(loop, &pass->patience);
    pass->patience.data = pass;
    pgconn_init(&pass->conn, loop, &options);
    pgconn_start(&pass->conn);
}

void pass_run(struct pass *pass)
{
    if (pass->step == PASS_IDLE && !pass->stopping && pgconn_state(&pass->conn) == PGCONN_UP)
        step_enter(pass, PASS_SESSION);
}

static void patience_cb(uv_timer_t *timer)
{
    struct pass *pass = timer->data;

    log_warn("pass_abandoned", LOG_TEXT("reason", "the database took too long"),
             LOG_TEXT("step", steps[pass->step].name));
    pass_close(pass);
}

void pass_stop(struct pass *pass)
{
    pass->stopping = true;
    if (pgconn_state(&pass->conn) != PGCONN_UP || pgconn_pending(&pass->conn) == 0) {
        pass_close(pass);
        return;
    }
    pgconn_cancel(&pass->conn);
    uv_timer_start(&pass->patience, patience_cb, PASS_STOP_PATIENCE, 0);
}
