/* The order in which a batch is tried: whole at first, and in halves, down to one message, once the
 * database refused it. What is refused alone is known to be the cause. Pure.
 *
 * A batch of n messages of which k are bad takes at most about 2 k log2 n further transactions, and
 * the good ones are all stored. */
#ifndef STORER_PLAN_H
#define STORER_PLAN_H

#include <stdbool.h>
#include <stddef.h>

/* Halving n leaves at most one waiting segment a level. */
enum { PLAN_DEPTH = 64 };

/* Failures of one segment in a row, none of them its proven fault, after which it is halved, too: a
 * message may be what kills the server, or more than it can bear. */
enum { PLAN_PATIENCE = 3 };

struct plan_segment {
    size_t first, count;
};

struct plan {
    struct plan_segment waiting[PLAN_DEPTH]; /* the last one is next */
    size_t depth;
    unsigned failures; /* of the next one, in a row */
};

/* The whole batch, of `count` messages. */
void plan_init(struct plan *plan, size_t count);

/* The segment to try now, or NULL when everything has been dealt with. */
const struct plan_segment *plan_next(const struct plan *plan);

/* The segment is dealt with: stored, or its one message given up. */
void plan_done(struct plan *plan);

/* Halves the segment; the earlier half is next. False, with nothing changed, when it is one
 * message. */
bool plan_halve(struct plan *plan);

/* Counts a failure that may or may not be the segment's fault; true when its patience has run out.
 */
bool plan_failed(struct plan *plan);

#endif
