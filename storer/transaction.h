/* The conversations with PostgreSQL, each read until its end: a transaction that stores a segment
 * of a batch, and the few single statements around it. Each is sent in one piece, but for a COPY,
 * whose rows follow when the server asks for them, those of either table for themselves.
 *
 * One at a time on a connection: send, then give every result to transaction_read until it says
 * that the conversation is over. Loop thread. */
#ifndef STORER_TRANSACTION_H
#define STORER_TRANSACTION_H

#include "common/pgconn.h"
#include "storer/batch.h"
#include "storer/plan.h"
#include "storer/verdict.h"

#include <stdbool.h>
#include <stdint.h>

enum transaction_kind {
    TRANSACTION_CHECK,      /* of the session and the schema */
    TRANSACTION_STORE,      /* of a segment */
    TRANSACTION_PARTITIONS, /* made for its days */
    TRANSACTION_NOTIFY      /* of its recipients */
};

struct transaction {
    enum transaction_kind kind;
    unsigned step;    /* whose result comes next */
    uint64_t sent_at; /* uv_hrtime */

    bool failed;          /* then the following say why; of several errors the first counts */
    enum verdict verdict; /* VERDICT_WAIT when nothing failed and nothing was committed either */
    char sqlstate[6];
    char words[256];

    const struct batch *copied; /* STORE by COPY: where the rows are, until they were asked for */
    struct plan_segment segment;
    bool copies; /* STORE by COPY, which an INSERT may succeed where it fails */

    bool committed;         /* STORE: the COMMIT's own result was read, and it is COMMIT */
    bool alone;             /* STORE: the server committed, but does not vouch for its standby */
    bool news;              /* STORE: a delivery was made that was not there before */
    int64_t oldest, newest; /* STORE: see batch_committed */
};

/* Each forgets the last conversation and begins another. Nothing of the batch is referred to
 * afterwards, but by transaction_copy, which needs it until the conversation is over. The connection
 * is up; that it is lost is said by its down_cb. */
void transaction_check(struct transaction *transaction, struct pgconn *conn);
void transaction_store(struct transaction *transaction, struct pgconn *conn, struct batch *batch,
                       const struct plan_segment *segment);
/* The same by COPY, for a segment that copy_fits. */
void transaction_copy(struct transaction *transaction, struct pgconn *conn,
                      const struct batch *batch, const struct plan_segment *segment);
void transaction_partitions(struct transaction *transaction, struct pgconn *conn,
                            const struct batch *batch, const struct plan_segment *segment);
void transaction_notify(struct transaction *transaction, struct pgconn *conn, struct batch *batch,
                        const struct plan_segment *segment);

/* Takes what pgconn's result_cb was given; true when the conversation is over. It went well unless
 * `failed`, and if it is a STORE, only if transaction_is_stored. */
bool transaction_read(struct transaction *transaction, struct pgconn *conn, PGresult *result);

/* Takes what pgconn's notice_cb was given. */
void transaction_notice(struct transaction *transaction, const PGresult *notice);

/* A STORE whose messages are in the database, for certain, and in its standby where the server waits
 * for one: the bounds are known and the COMMIT was read, and read as one. Holds as soon as it does,
 * even if the connection ends before the rest. */
bool transaction_is_stored(const struct transaction *transaction);

#endif
