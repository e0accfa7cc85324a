/* A pass over the database: says the retention, makes partitions, lets expired ones go. What there
 * is to do the database knows (sql/partitions.sql); a pass only does it, in the order of one table
 * of steps, over a session that holds the lock of the one reaper at work for as long as it lasts.
 *
 * Loop thread only. */
#ifndef REAPER_PASS_H
#define REAPER_PASS_H

#include "common/pgconn.h"

#include <stdbool.h>
#include <uv.h>

enum pass_outcome {
    PASS_DONE,    /* nothing is left to do */
    PASS_BUSY,    /* something was in use, and must be tried again soon */
    PASS_WAITING, /* somebody else holds the lock */
    PASS_REFUSED, /* the database is not set up for us; said once */
};

enum pass_step {
    PASS_IDLE,
    PASS_SESSION,    /* is the session as it must be, and the schema right? */
    PASS_LOCK,       /* is nobody else at work? */
    PASS_HOLDER,     /* who is? */
    PASS_RETENTION,  /* say it */
    PASS_LIST,       /* which partitions have a next step? */
    PASS_COMMAND,    /* take it; for each, then LIST again until there is none */
    PASS_PARTITIONS, /* make those of the next two weeks */
    PASS_COUNT,      /* how many are there? for the metrics */
    PASS_STEP_COUNT,
};

struct pass {
    struct pgconn conn;
    void (*done_cb)(struct pass *pass, enum pass_outcome outcome);
    char retention[24]; /* seconds, as text */
    enum pass_step step;
    bool locked; /* this session holds the lock */

    /* The answer to the present step. */
    bool failed;
    char sqlstate[6];
    char words[256];
    long number; /* the value, where it is a number, or 1 for true */

    /* Commands to run, and where we are in them. */
    PGresult *list; /* or the holder of the lock */
    int row;
    bool stuck[2]; /* by parent: a detach could not be done, so no other one may begin */
    bool progress; /* one of them succeeded: there may be a next step to it */
    bool undone;   /* one of them failed */

    /* What the log knows already. */
    long said_holder; /* pid of who holds the lock, or 0 */
    bool said_refused, said_busy;

    uv_timer_t patience; /* with the server, once we stop */
    bool stopping, closed;
};

/* Connects; a pass begins by itself whenever a connection is made. `conninfo` must outlive it.
 * done_cb is called at the end of each pass, unless its connection is lost before. */
void pass_start(struct pass *pass, uv_loop_t *loop, const char *conninfo, long retention,
                void (*done_cb)(struct pass *pass, enum pass_outcome outcome));

/* Begins a pass. Nothing happens without a connection, or while one is under way. */
void pass_run(struct pass *pass);

/* Ends: a statement under way is cancelled, and its end waited for, so that no detach goes on in
 * the server unseen; then, or when the server has not answered for five seconds, the connection is
 * closed. Call once. */
void pass_stop(struct pass *pass);

#endif
