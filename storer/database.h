/* The database's side of storer: takes a batch, and gives it back when the fate of every message in
 * it is known, whatever happens to the connection, the server or the set-up in between.
 *
 * It is one state machine, [STATE][EVENT], over one connection that is kept by common/pgconn.h. A
 * batch is one transaction, sent in one piece, so that a lone message costs one round trip, or by
 * COPY in three. What is not known to be committed is done again, which the keys of the tables make
 * harmless.
 *
 * Loop thread. */
#ifndef STORER_DATABASE_H
#define STORER_DATABASE_H

#include "common/pgconn.h"
#include "storer/batch.h"
#include "storer/plan.h"
#include "storer/transaction.h"

#include <stdbool.h>
#include <uv.h>

enum database_state {
    DATABASE_AWAY,      /* no connection */
    DATABASE_CHECKING,  /* is the session as it must be, and the schema right? */
    DATABASE_IDLE,      /* waiting for a batch */
    DATABASE_STORING,   /* the transaction of a segment was sent */
    DATABASE_MAKING,    /* partitions for it are being made */
    DATABASE_NOTIFYING, /* readers are being told of the last one */
    DATABASE_PAUSED,    /* waiting before trying again */
    DATABASE_LEAVING,   /* the connection was given up; its end is awaited */
    DATABASE_STATE_COUNT
};

enum database_event {
    DATABASE_UP,    /* connected */
    DATABASE_LOST,  /* the connection is gone */
    DATABASE_BATCH, /* a batch was handed over */
    DATABASE_TIMER, /* a pause is over */
    DATABASE_DONE,  /* what was sent has been done */
    DATABASE_WAIT,  /* it failed; the rest are its verdicts (storer/verdict.h) */
    DATABASE_RECONNECT,
    DATABASE_PARTITION,
    DATABASE_REFUSED,
    DATABASE_TOO_MUCH,
    DATABASE_SETUP,
    DATABASE_EVENT_COUNT
};

struct database {
    struct pgconn conn;
    enum database_state state;
    bool notify; /* STORER_NOTIFY */
    void *data;  /* the owner's */

    /* The batch is the owner's again, every message decided, or FATE_OPEN where it proved to be
     * more than the server could do and is left for another time. */
    void (*done_cb)(struct database *database, struct batch *batch);

    struct batch *batch; /* in hand, or NULL */
    struct plan plan;
    bool fresh;             /* the batch was never tried, and may go by COPY */
    bool inserts_only;      /* COPY was refused for what this session will not see mended */
    int64_t oldest, newest; /* the bounds of the last COMMIT of this session, or 0 */
    uint64_t bounds_at;     /* by uv_hrtime */
    bool made;              /* partitions were made for the segment that is next */
    bool checked;           /* this session and the schema are as they must be */
    bool leaving;           /* the connection is to be given up after the pause */
    uv_timer_t timer;
    unsigned pauses; /* since the last success */
    bool said_setup, said_trouble;

    struct transaction said; /* the present conversation, or the last */
};

/* Connects, to `conninfo` as pgconn_options has it; the owner has set the callbacks, data and
 * notify before. */
void database_start(struct database *database, uv_loop_t *loop, const char *conninfo);

/* Hands over a batch, not empty. Only when database_is_free. */
void database_store(struct database *database, struct batch *batch);
bool database_is_free(const struct database *database);

/* The batch in hand cannot be finished now: there is no database to finish it with. */
bool database_is_stuck(const struct database *database);

/* Gives up whatever is under way. closed_cb follows; the batch in hand, if any, is not given back.
 */
void database_close(struct database *database, void (*closed_cb)(struct pgconn *conn));

/* For the log. */
extern const char *const database_state_names[DATABASE_STATE_COUNT];

/* What each event does in each state; returns the next one. Here for the test that sees every cell.
 */
extern enum database_state (*const database_table[DATABASE_STATE_COUNT][DATABASE_EVENT_COUNT])(
    struct database *database);

#endif
