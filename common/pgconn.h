/*
 * One asynchronous libpq connection on a libuv loop, that comes back by itself.
 *
 * libpq's interface for event loops has more edges than it shows: a name is resolved inside
 * PQconnectStart, the descriptor may change while connecting, connect_timeout is ignored, a send
 * may need to read first, results end with a NULL that pipeline mode means otherwise. They are
 * dealt with here once, so that a program sees three events: up, result, down.
 *
 * Everything runs on the loop's thread and every callback comes from the loop, never from inside
 * a function of this header: a caller may send, drop or close anywhere without being re-entered.
 * Only notice_cb may come from inside pgconn_copy_put, where libpq reads what has come in.
 * Only programs that use this module link libpq.
 */
#ifndef COMMON_PGCONN_H
#define COMMON_PGCONN_H

#include "common/pgwords.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum pgconn_state {
    PGCONN_DOWN,       /* waiting before the next try, or not started, or closed */
    PGCONN_CONNECTING, /* resolving, connecting, authenticating */
    PGCONN_UP,         /* statements may be sent */
};

struct pgconn;

struct pgconn_callbacks {
    /* The connection stands. Whatever a session needs (SET, LISTEN, a look at the schema) is sent
     * from here, each time anew. */
    void (*up_cb)(struct pgconn *pgconn);

    /* A connection that was up is gone, and with it every statement that had not ended: whether
     * those took effect is unknown. `reason` is one line, valid during the call. A new one is being
     * made already; up_cb says when. Not called for tries that never came up, nor by close. */
    void (*down_cb)(struct pgconn *pgconn, const char *reason);

    /* One result; freed after the call. In order, for each statement: its results (one, unless a
     * simple query held several commands; errors are results too), then NULL: it has ended. A
     * pgconn_sync gives one PGRES_PIPELINE_SYNC and no NULL. */
    void (*result_cb)(struct pgconn *pgconn, PGresult *result);

    /* What the server says unasked, a NOTICE or a WARNING, in its place among the results; or NULL.
     * Nothing may be sent, dropped or closed from here: libpq is in the middle of reading. */
    void (*notice_cb)(struct pgconn *pgconn, const PGresult *notice);
};

struct pgconn_options {
    /* A libpq connection string or URI, or NULL or "": libpq's PG* variables alone. Several hosts
     * are tried one after the other without a pause, each with its own connect_timeout; a host that
     * refuses, is silent, or fails target_session_attrs gives way to the next. What the string and
     * the environment leave open: target_session_attrs=read-write, connect_timeout=10,
     * keepalives and tcp_user_timeout that notice a dead peer in about 30 s. The encoding is always
     * UTF8. */
    const char *conninfo;
    const char *name; /* application_name, unless the string has one */
    void *data;       /* the owner's; nothing here reads it */
    struct pgconn_callbacks callbacks;
};

/* The owner reads `options.data`; the rest belongs to pgconn.c. */
struct pgconn {
    struct pgconn_options options;
    uv_loop_t *loop;
    PGconn *conn;
    enum pgconn_state state;
    struct pgconn_watch *watch; /* the poll handle of the present descriptor, or NULL */
    uv_timer_t timer;           /* the deadline of a try, or the pause before the next */
    uv_work_t start;            /* PQconnectStart, on the pool */
    uv_work_t cancel;           /* PQcancel, on the pool */
    PGcancel *cancel_request;   /* while `cancel` is with the pool */
    unsigned handles;           /* what libuv still holds of ours; close ends at zero */
    unsigned hosts;             /* in the list, at least 1 */
    unsigned host;              /* the one to try next, counted through the list again and again */
    unsigned failures;          /* tries since the last good connection */
    unsigned statements;        /* sent and not ended, syncs included */
    bool copying;               /* PGRES_COPY_IN was given, and not ended yet */
    bool starting;              /* `start` is with the pool */
    bool lost;                  /* to be taken down on the next turn */
    bool said_down;             /* the log knows that the database is away */
    bool closing;
    char reason[256];
    void (*closed_cb)(struct pgconn *pgconn);
};

/* Prepares `pgconn`. The strings of `options` stay the caller's and must outlive the connection.
 * Does not fail; nothing happens before pgconn_start. */
void pgconn_init(struct pgconn *pgconn, uv_loop_t *loop, const struct pgconn_options *options);

/* Connects, and from now on connects again after every loss: after the list of hosts was tried in
 * vain it pauses, 100 ms at first, doubling to 10 s at most, each shortened at random by up to
 * half. Logs once when the database goes away and once when it is back. */
void pgconn_start(struct pgconn *pgconn);

/* Ends the connection at once, whatever is under way; no callback but closed_cb follows, which may
 * be NULL. A name look-up cannot be interrupted: closed_cb waits for it. Call once. */
void pgconn_close(struct pgconn *pgconn, void (*closed_cb)(struct pgconn *pgconn));

enum pgconn_state pgconn_state(const struct pgconn *pgconn);

/* The caller has found the connection good (right schema, first work done): the log is told, and
 * the next loss begins with the short pause again. Until then a server that takes connections only
 * to fail at the first statement is tried less and less often. */
void pgconn_settled(struct pgconn *pgconn);

/* Gives up this connection and makes another (on the next host of several). No more results come;
 * down_cb follows on a later turn. Nothing happens when it is not up. */
void pgconn_drop(struct pgconn *pgconn, const char *reason);

/* Sending. Nothing is returned: what cannot be sent loses the connection, and down_cb says so.
 * Ignored unless up. Parameters are copied before the call returns. */

/* A simple query, several commands allowed; ends a pipeline, of which nothing may be pending. */
void pgconn_query(struct pgconn *pgconn, const char *sql);

struct pgconn_param {
    Oid type;          /* 0: left to the server */
    const char *value; /* NULL: SQL NULL. Text ends in NUL; binary has a length */
    size_t length;     /* of a binary value, at most INT_MAX */
    bool binary;
};

/* At most PGCONN_PARAMS of them. */
#define PGCONN_PARAMS 16

/* One command with parameters; its results are text. */
void pgconn_execute(struct pgconn *pgconn, const char *sql, const struct pgconn_param *params,
                    unsigned count);

/* COPY … FROM STDIN as one command of a simple query: its result is PGRES_COPY_IN, and before that
 * result_cb returns, all rows have been put, and the end, with NULL, or with why they are to be
 * forgotten, which the server then reports as an error of the command. */
void pgconn_copy_put(struct pgconn *pgconn, const char *bytes, size_t length);
void pgconn_copy_end(struct pgconn *pgconn, const char *error);

/* Pipelines: enter when up and nothing is pending (they end with the connection, or by
 * pgconn_query; entered already is as good), then execute, execute, …, sync. After an error
 * everything up to the sync ends as PGRES_PIPELINE_ABORTED. */
void pgconn_pipeline(struct pgconn *pgconn);
void pgconn_sync(struct pgconn *pgconn);

/* Statements and syncs sent whose end has not been read. */
unsigned pgconn_pending(const struct pgconn *pgconn);

/* The server holds a transaction open, sound or failed; meaningful when nothing is pending. */
bool pgconn_in_transaction(const struct pgconn *pgconn);

/* Asks the server to cancel the running statement, which then ends with 57014. A request only:
 * it goes over a connection of its own, from the pool, and may come too late. */
void pgconn_cancel(struct pgconn *pgconn);

/* The pause in milliseconds before the try after `failures` rounds in vain; `random` is any number.
 */
unsigned pgconn_backoff(unsigned failures, uint32_t random);

#endif
