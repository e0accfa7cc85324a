/* How many messages lie in a queue, and how old they are, for metrics. Who works on a queue knows what
 * it has in hand; what is in failed/, or behind the few thousand names that it can hold, it would have
 * to count, and that is all that this does.
 *
 * A look goes through the pool in small steps, with descriptors of its own, so it holds up neither a
 * spool that is replaced nor the end of a program for longer than one of them. Loop thread. */
#ifndef QUEUE_CENSUS_H
#define QUEUE_CENSUS_H

#include "queue/scan.h"
#include "queue/spool.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct census_count {
    uint64_t messages; /* files but for reasons and notifications that wait for their message */
    int64_t
        oldest; /* the time that its id carries, microseconds since the epoch; INT64_MAX: none */
};

struct census {
    uv_loop_t *loop;
    const char *spool; /* path */
    enum queue queue;
    struct census_count
        counts[QUEUE_DIRECTORY_COUNT]; /* at the last look, of new, cur and failed */
    int64_t taken;                     /* when that was, as `oldest`; 0: never */

    /* The look under way: its step is with the pool. */
    uv_work_t work;
    bool busy, stopping;
    enum queue_directory directory;
    struct scan scan;
    struct census_count found[QUEUE_DIRECTORY_COUNT];
    int error;
    bool complained;
    uint64_t began, rests_until; /* in uv_now */
};

/* The path stays the caller's. */
void census_init(struct census *census, uv_loop_t *loop, const char *spool, enum queue queue);

/* Begins a look, unless one is under way, or the last one took so long that it is not yet time. */
void census_begin(struct census *census);

/* Begins none any more; one that is under way ends soon. */
void census_stop(struct census *census);

/* Seconds since the oldest message of a directory was received, at the last look; 0 when there was
 * none. */
double census_age(const struct census *census, enum queue_directory directory);

#endif
