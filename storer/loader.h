/* From files to a batch. Blocks; for the pool, one call at a time. */
#ifndef STORER_LOADER_H
#define STORER_LOADER_H

#include "queue/intake.h"
#include "storer/batch.h"

#include <stdbool.h>
#include <stddef.h>

struct loader_limits {
    size_t messages; /* of a batch, at least 1 */
    size_t bytes;    /* of its messages; one that is larger alone is a batch of one */
};

struct load {
    const struct spool *spool;
    struct loader_limits limits;
    struct batch *batch;          /* added to */
    size_t before;                /* messages that were in it already */
    struct candidate *candidates; /* looked at in order, until the batch is full */
    size_t count;
    size_t used;   /* how many were looked at; the others did not fit any more */
    size_t failed; /* torn, forged or foreign, and set aside */
    bool full;     /* no more fits into the batch */
};

/* Adds what `candidates` name to the batch. One that is gone is passed over; one that is torn,
 * forged or foreign is set aside; one that cannot be read for another reason is logged and left for
 * the next scan. Those that did go into the batch are its messages. */
void loader_run(struct load *load);

#endif
