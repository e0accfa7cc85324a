/* A segment of a batch as PostgreSQL's COPY … (FORMAT binary) reads it: the fast way for what is seen
 * for the first time. It costs the server three fifths of what the same INSERT does, and knows
 * neither ON CONFLICT nor bounds, so that it is for segments of which nothing but that is expected;
 * every other, and one that it was refused for, goes by INSERT. Pure. */
#ifndef STORER_COPY_H
#define STORER_COPY_H

#include "storer/batch.h"
#include "storer/plan.h"

#include <stdbool.h>
#include <stdint.h>

/* Fewer messages go by INSERT, which takes one round trip and not three. */
enum { COPY_LEAST = 4 };

/* Whether a segment may be copied: there are enough messages, none is from cur/ (where what is stored
 * already waits to be inserted once more), each came from an address of either family, and was
 * received after `oldest`, with an hour to spare, and up to `newest` (see batch_committed). */
bool copy_fits(const struct batch *batch, const struct plan_segment *segment, int64_t oldest,
               int64_t newest);

/* Where the rows go, a piece at a time. */
typedef void copy_put(void *to, const char *bytes, size_t length);

/* The rows of a segment that fits, with all that belongs around them. False when memory is out: then
 * what was put is to be forgotten. A delivery's username and domain are left to the server (NULL:
 * sql/tables.sql) unless its address is plain ASCII without quotes, where their case is all that
 * sql/addresses.sql changes. */
bool copy_messages(const struct batch *batch, const struct plan_segment *segment, copy_put *put,
                   void *to);
bool copy_deliveries(const struct batch *batch, const struct plan_segment *segment, copy_put *put,
                     void *to);

#endif
