/* libpq on a libuv loop: see the header.
 *
 * Life of a connection, all transitions in this file:
 *
 *     DOWN ──try_begin──▶ CONNECTING ──polled──▶ UP
 *      ▲ pause               │ try_failed         │ lost, then connection_lost
 *      └─────────────────────┴────────────────────┘
 */
#include "common/pgconn.h"

#include "common/fault.h"
#include "common/log.h"
#include "common/pgtarget.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACKOFF_FIRST = 100, BACKOFF_LAST = 10 * 1000 };

/* A uv_poll_t is tied to one descriptor, and libpq closes its own when it likes: while it connects, to
 * try another address, and within any call that finds the connection at its end. The kernel gives
 * the number to the next one opened, in any thread, and a handle still polling it would hear, and at
 * its end silence, a stranger. So what is polled is a duplicate, which nobody else closes; and the
 * handle has a life of its own, for an old one closes in its own time while a new one is polled. */
struct pgconn_watch {
    uv_poll_t poll;
    struct pgconn *pgconn;
    int descriptor;
};

static void try_begin(struct pgconn *pgconn);
static void try_failed(struct pgconn *pgconn, const char *words);
static void connection_lost(struct pgconn *pgconn);
static void connection_polled(struct pgconn *pgconn);
static void connection_readable(struct pgconn *pgconn);

/* What the server says unasked. Its parting words to an idle session come this way, too, and are
 * kept as the reason, for all that follows them is an end of file. */
static void notice_cb(void *data, const PGresult *notice)
{
    struct pgconn *pgconn = data;
    char words[sizeof pgconn->reason];
    pgwords_of(notice, words, sizeof words);
    if (pgwords_fatal(notice)) {
        memcpy(pgconn->reason, words, sizeof words);
        return;
    }
    log_debug("database_notice", LOG_TEXT("sqlstate", pgwords_sqlstate(notice)),
              LOG_TEXT("message", words));
    if (pgconn->options.callbacks.notice_cb)
        pgconn->options.callbacks.notice_cb(pgconn, notice);
}

/* Waiting for the descriptor. */

static void handle_closed(struct pgconn *pgconn)
{
    pgconn->handles--;
    if (pgconn->closing && pgconn->handles == 0 && pgconn->closed_cb)
        pgconn->closed_cb(pgconn);
}

static void watch_closed_cb(uv_handle_t *handle)
{
    struct pgconn_watch *watch = handle->data;
    struct pgconn *pgconn = watch->pgconn;
    close(watch->descriptor);
    free(watch);
    handle_closed(pgconn);
}

static void watch_cb(uv_poll_t *poll, int status, int events)
{
    /* An error of the poll is found again, with its words, by the libpq call that follows. */
    (void)status;
    (void)events;
    struct pgconn *pgconn = ((struct pgconn_watch *)poll->data)->pgconn;
    if (pgconn->lost)
        return;
    if (pgconn->state == PGCONN_CONNECTING)
        connection_polled(pgconn);
    else
        connection_readable(pgconn);
}

static void watch_stop(struct pgconn *pgconn)
{
    if (pgconn->watch)
        uv_poll_stop(&pgconn->watch->poll);
}

static void watch_drop(struct pgconn *pgconn)
{
    if (pgconn->watch)
        uv_close((uv_handle_t *)&pgconn->watch->poll, watch_closed_cb);
    pgconn->watch = NULL;
}

static bool watch_start(struct pgconn *pgconn, int events)
{
    if (!pgconn->watch) {
        struct pgconn_watch *watch = calloc(1, sizeof *watch);
        if (!watch)
            return false;
        int descriptor = fcntl(PQsocket(pgconn->conn), F_DUPFD_CLOEXEC, 0);
        if (descriptor < 0 || uv_poll_init(pgconn->loop, &watch->poll, descriptor) != 0) {
            if (descriptor >= 0)
                close(descriptor);
            free(watch);
            return false;
        }
        watch->poll.data = watch;
        watch->pgconn = pgconn;
        watch->descriptor = descriptor;
        pgconn->watch = watch;
        pgconn->handles++;
    }
    return uv_poll_start(&pgconn->watch->poll, events, watch_cb) == 0;
}

/* One timer does all the waiting, since no two of its reasons exist at once: the deadline of a try,
 * the pause before the next, and the turn of the loop on which a lost connection is taken down. */
static void timer_cb(uv_timer_t *timer)
{
    struct pgconn *pgconn = timer->data;
    if (pgconn->lost)
        connection_lost(pgconn);
    else if (pgconn->state == PGCONN_CONNECTING)
        try_failed(pgconn, "timeout expired");
    else
        try_begin(pgconn);
}

/* Trying. */

unsigned pgconn_backoff(unsigned failures, uint32_t random)
{
    unsigned pause = BACKOFF_FIRST;
    while (failures-- > 0 && pause < BACKOFF_LAST)
        pause *= 2;
    if (pause > BACKOFF_LAST)
        pause = BACKOFF_LAST;
    return pause - random % (pause / 2 + 1);
}

static void start_work(uv_work_t *work)
{
    struct pgconn *pgconn = work->data;
    pgconn->conn = pgtarget_start(pgconn->options.conninfo, pgconn->options.name, pgconn->host,
                                  &pgconn->hosts);
}

static void start_done_cb(uv_work_t *work, int status)
{
    (void)status; /* cancelled only by close, and then there is no connection to finish */
    struct pgconn *pgconn = work->data;
    pgconn->starting = false;
    if (pgconn->closing) {
        PQfinish(pgconn->conn);
        pgconn->conn = NULL;
        handle_closed(pgconn);
        return;
    }
    handle_closed(pgconn);
    if (PQstatus(pgconn->conn) == CONNECTION_BAD) {
        try_failed(pgconn, pgconn->conn ? PQerrorMessage(pgconn->conn) : "out of memory");
        return;
    }
    PQsetNoticeReceiver(pgconn->conn, notice_cb, pgconn);
    unsigned seconds = pgtarget_timeout(pgconn->conn);
    if (seconds > 0)
        uv_timer_start(&pgconn->timer, timer_cb, seconds * UINT64_C(1000), 0);
    if (!watch_start(pgconn, UV_WRITABLE))
        try_failed(pgconn, "cannot watch the connection's descriptor");
}

static void try_begin(struct pgconn *pgconn)
{
    pgconn->state = PGCONN_CONNECTING;
    pgconn->reason[0] = '\0';
    pgconn->starting = true;
    pgconn->handles++;
    pgconn->start.data = pgconn;
    uv_queue_work(pgconn->loop, &pgconn->start, start_work, start_done_cb);
}

static void connection_finish(struct pgconn *pgconn)
{
    watch_drop(pgconn);
    PQfinish(pgconn->conn);
    pgconn->conn = NULL;
    pgconn->statements = 0;
    pgconn->copying = false;
    pgconn->state = PGCONN_DOWN;
}

/* The log hears once that the database is away, however often it is tried. */
static void say_down(struct pgconn *pgconn)
{
    if (pgconn->said_down)
        log_debug("database_retry", LOG_TEXT("reason", pgconn->reason));
    else
        log_warn("database_down", LOG_TEXT("reason", pgconn->reason));
    pgconn->said_down = true;
}

static void try_failed(struct pgconn *pgconn, const char *words)
{
    pgwords_flatten(words, pgconn->reason, sizeof pgconn->reason);
    connection_finish(pgconn);
    say_down(pgconn);

    pgconn->host++;
    pgconn->failures++;
    unsigned pause = 0;
    if (pgconn->failures % pgconn->hosts == 0) {
        uint32_t random = 0;
        uv_random(NULL, NULL, &random, sizeof random, 0, NULL);
        pause = pgconn_backoff(pgconn->failures / pgconn->hosts - 1, random);
    }
    uv_timer_start(&pgconn->timer, timer_cb, pause, 0);
}

static void connection_polled(struct pgconn *pgconn)
{
    /* Which address it is about may be another afterwards. */
    watch_drop(pgconn);
    PostgresPollingStatusType status = PQconnectPoll(pgconn->conn);
    if (status == PGRES_POLLING_FAILED) {
        try_failed(pgconn, PQerrorMessage(pgconn->conn));
        return;
    }
    int events = status == PGRES_POLLING_WRITING ? UV_WRITABLE : UV_READABLE;
    if (!watch_start(pgconn, events)) {
        try_failed(pgconn, "cannot watch the connection's descriptor");
        return;
    }
    if (status != PGRES_POLLING_OK)
        return;
    uv_timer_stop(&pgconn->timer);
    PQsetnonblocking(pgconn->conn, 1);
    pgconn->state = PGCONN_UP;
    pgconn->options.callbacks.up_cb(pgconn);
}

/* Up. */

/* Marks only; the taking down is for a later turn, so that no caller is re-entered by down_cb. */
static void connection_give_up(struct pgconn *pgconn, const char *words)
{
    if (pgconn->state != PGCONN_UP || pgconn->lost)
        return;
    pgconn->lost = true;
    if (pgconn->reason[0] == '\0')
        pgwords_flatten(words, pgconn->reason, sizeof pgconn->reason);
    watch_stop(pgconn);
    uv_timer_start(&pgconn->timer, timer_cb, 0, 0);
}

static void connection_lost(struct pgconn *pgconn)
{
    pgconn->lost = false;
    char reason[sizeof pgconn->reason];
    memcpy(reason, pgconn->reason, sizeof reason);
    try_failed(pgconn, reason);
    pgconn->options.callbacks.down_cb(pgconn, reason);
}

static void connection_flush(struct pgconn *pgconn)
{
    int unsent = FAULT_CALL("pgconn.flush", PQflush(pgconn->conn));
    /* While something is unsent the server may wait for us to read before it reads on. */
    if (unsent < 0 || !watch_start(pgconn, unsent ? UV_READABLE | UV_WRITABLE : UV_READABLE))
        connection_give_up(pgconn, PQerrorMessage(pgconn->conn));
}

static bool is_usable(const struct pgconn *pgconn)
{
    return pgconn->state == PGCONN_UP && !pgconn->lost && !pgconn->closing;
}

/* An error with no SQLSTATE is libpq's own: the server is gone, or its words made no sense. */
static bool is_end_of_session(const PGresult *result)
{
    return result && PQresultStatus(result) == PGRES_FATAL_ERROR &&
           (pgwords_fatal(result) || pgwords_sqlstate(result)[0] == '\0');
}

static void results_read(struct pgconn *pgconn)
{
    while (is_usable(pgconn) && pgconn->statements > 0 && !PQisBusy(pgconn->conn)) {
        PGresult *result = PQgetResult(pgconn->conn);
        if (!result || PQresultStatus(result) == PGRES_PIPELINE_SYNC)
            pgconn->statements--;
        if (is_end_of_session(result)) {
            char words[sizeof pgconn->reason];
            connection_give_up(pgconn, pgwords_of(result, words, sizeof words));
        } else {
            pgconn->copying = PQresultStatus(result) == PGRES_COPY_IN;
            pgconn->options.callbacks.result_cb(pgconn, result);
            if (pgconn->copying)
                connection_give_up(pgconn, "rows were asked for, and none given");
        }
        PQclear(result);
    }
}

/* Nobody here listens, but a login may be set up to; unread, they would pile up. */
static void notifies_discard(struct pgconn *pgconn)
{
    PGnotify *notify;
    while ((notify = PQnotifies(pgconn->conn)))
        PQfreemem(notify);
}

static void connection_readable(struct pgconn *pgconn)
{
    bool sound = FAULT_STEP("pgconn.read", PQconsumeInput(pgconn->conn), 0);
    /* What came before the end is read first: it may hold the result of a COMMIT. */
    results_read(pgconn);
    if (!is_usable(pgconn))
        return;
    notifies_discard(pgconn);
    if (!sound)
        connection_give_up(pgconn, PQerrorMessage(pgconn->conn));
    else
        connection_flush(pgconn);
}

/* The header's functions. */

void pgconn_init(struct pgconn *pgconn, uv_loop_t *loop, const struct pgconn_options *options)
{
    *pgconn = (struct pgconn){.options = *options, .loop = loop, .hosts = 1, .handles = 1};
    uv_timer_init(loop, &pgconn->timer);
    pgconn->timer.data = pgconn;
}

void pgconn_start(struct pgconn *pgconn)
{
    try_begin(pgconn);
}

static void timer_closed_cb(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

void pgconn_close(struct pgconn *pgconn, void (*closed_cb)(struct pgconn *pgconn))
{
    pgconn->closing = true;
    pgconn->closed_cb = closed_cb;
    if (pgconn->starting) {
        pgconn->state = PGCONN_DOWN;
        uv_cancel((uv_req_t *)&pgconn->start);
    } else {
        connection_finish(pgconn);
    }
    uv_close((uv_handle_t *)&pgconn->timer, timer_closed_cb);
}

enum pgconn_state pgconn_state(const struct pgconn *pgconn)
{
    return pgconn->lost ? PGCONN_DOWN : pgconn->state;
}

void pgconn_settled(struct pgconn *pgconn)
{
    if (!is_usable(pgconn))
        return;
    pgconn->failures = 0;
    if (pgconn->said_down)
        log_info("database_up", LOG_TEXT("host", PQhost(pgconn->conn)),
                 LOG_TEXT("port", PQport(pgconn->conn)));
    pgconn->said_down = false;
}

void pgconn_drop(struct pgconn *pgconn, const char *reason)
{
    connection_give_up(pgconn, reason);
}

/* After a PQsend function that returned `sent`. */
static void statement_sent(struct pgconn *pgconn, int sent)
{
    if (!sent) {
        connection_give_up(pgconn, PQerrorMessage(pgconn->conn));
        return;
    }
    pgconn->statements++;
    connection_flush(pgconn);
}

void pgconn_query(struct pgconn *pgconn, const char *sql)
{
    if (is_usable(pgconn))
        statement_sent(pgconn, PQexitPipelineMode(pgconn->conn) && PQsendQuery(pgconn->conn, sql));
}

/* libpq keeps what cannot be sent at once, as much as there is. */
void pgconn_copy_put(struct pgconn *pgconn, const char *bytes, size_t length)
{
    if (is_usable(pgconn) && PQputCopyData(pgconn->conn, bytes, (int)length) != 1)
        connection_give_up(pgconn, PQerrorMessage(pgconn->conn));
}

void pgconn_copy_end(struct pgconn *pgconn, const char *error)
{
    pgconn->copying = false;
    if (!is_usable(pgconn))
        return;
    if (PQputCopyEnd(pgconn->conn, error) != 1)
        connection_give_up(pgconn, PQerrorMessage(pgconn->conn));
    else
        connection_flush(pgconn);
}

void pgconn_execute(struct pgconn *pgconn, const char *sql, const struct pgconn_param *params,
                    unsigned count)
{
    if (!is_usable(pgconn))
        return;
    Oid types[PGCONN_PARAMS];
    const char *values[PGCONN_PARAMS];
    int lengths[PGCONN_PARAMS], formats[PGCONN_PARAMS];
    for (unsigned i = 0; i < count; i++) {
        types[i] = params[i].type;
        values[i] = params[i].value;
        lengths[i] = (int)params[i].length;
        formats[i] = params[i].binary;
    }
    statement_sent(pgconn, PQsendQueryParams(pgconn->conn, sql, (int)count, types, values, lengths,
                                             formats, 0));
}

void pgconn_pipeline(struct pgconn *pgconn)
{
    if (is_usable(pgconn) && !PQenterPipelineMode(pgconn->conn))
        connection_give_up(pgconn, PQerrorMessage(pgconn->conn));
}

void pgconn_sync(struct pgconn *pgconn)
{
    if (is_usable(pgconn))
        statement_sent(pgconn, PQpipelineSync(pgconn->conn));
}

unsigned pgconn_pending(const struct pgconn *pgconn)
{
    return pgconn->statements;
}

bool pgconn_in_transaction(const struct pgconn *pgconn)
{
    return pgconn->conn && PQtransactionStatus(pgconn->conn) != PQTRANS_IDLE;
}

/* PQcancel opens a connection of its own and waits for it. */
static void cancel_work(uv_work_t *work)
{
    struct pgconn *pgconn = work->data;
    char error[256];
    PQcancel(pgconn->cancel_request, error, sizeof error);
}

static void cancel_done_cb(uv_work_t *work, int status)
{
    (void)status;
    struct pgconn *pgconn = work->data;
    PQfreeCancel(pgconn->cancel_request);
    pgconn->cancel_request = NULL;
    handle_closed(pgconn);
}

void pgconn_cancel(struct pgconn *pgconn)
{
    if (!is_usable(pgconn) || pgconn->statements == 0 || pgconn->cancel_request)
        return;
    pgconn->cancel_request = PQgetCancel(pgconn->conn);
    if (!pgconn->cancel_request)
        return;
    pgconn->handles++;
    pgconn->cancel.data = pgconn;
    uv_queue_work(pgconn->loop, &pgconn->cancel, cancel_work, cancel_done_cb);
}
