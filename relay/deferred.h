/* cur/ of the queue relay/: messages that were tried and will be tried again, each when its file's
 * mtime says. */
#ifndef RELAY_DEFERRED_H
#define RELAY_DEFERRED_H

#include "queue/scanner.h"

#include <stdbool.h>
#include <stdint.h>

/* What the judge works with, and finds. */
struct deferred {
    int64_t since; /* when this process began, microseconds since the epoch; 0: not known */
    int64_t
        earliest; /* of those that were not due, microseconds since the epoch; INT64_MAX: none */
};

/* Before a full look. */
void deferred_clear(struct deferred *deferred);

/* The judge of the scanner of cur/ (queue/scanner.h), whose data is a struct deferred. Taken are
 * messages that are due. ID.reason stays beside its message; one that was left alone, by a process
 * before this one or an hour ago, is removed. What is neither is set aside. Blocks; for the pool.
 */
bool deferred_judge_cb(struct scanner *scanner, const char *name);

/* Whether a message whose file has this mtime, in microseconds since the epoch, is due now. What a
 * look found may have been put off again before it was taken in hand. */
bool deferred_is_due(int64_t modified);

#endif
