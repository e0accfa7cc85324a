/* Group commit: makes finished files durable and moves them into new/, many at the price of one.
 * This is the promise behind 250, in one place.
 *
 * One struct commit is used by one thread at a time; see commit.c for why. Blocks. */
#ifndef QUEUE_COMMIT_H
#define QUEUE_COMMIT_H

#include "queue/spool.h"
#include "queue/writer.h"

#include <stddef.h>

enum commit_method {
    COMMIT_SYNCFS, /* one flush a group, two for relay: ext4, XFS and btrfs, Linux 5.17 and later */
    COMMIT_FSYNC   /* fsync of each file and of the directory: everywhere */
};

/* Most writers in one group, twins counted as two; each holds a descriptor until the group is done. */
enum { COMMIT_GROUP_MAX = 512 };

struct commit {
    const struct spool *spool;
    struct commit_queue {
        enum commit_method method;
        /* SYNCFS: on the file system of new/, opened before the first write. One for both queues
         * where they are on the same. */
        int sync_descriptor;
    } queues[QUEUE_COUNT];
};

/* Prepares commits to an open spool and chooses the method of each queue by its file system and the
 * kernel. Returns 0 or an errno value: EXDEV, logged, when tmp/ and new/ of a queue are not on one
 * file system. */
int commit_open(struct commit *commit, const struct spool *spool);
void commit_close(struct commit *commit);

/* The name of a method, for the log: `syncfs`, `fsync`. */
const char *commit_method_name(enum commit_method method);

/* Commits `count` finished writers (at most COMMIT_GROUP_MAX; those that have an error are passed
 * over), a writer's twin with it. Afterwards each writer's `error` is 0, and its message is in new/
 * and will survive the power going off; or it is an errno value, and of its message nothing is left
 * in tmp/ or new/ (unless the queue's reader has already taken it: a message that the client will
 * send again). Twins end alike. */
void commit_run(struct commit *commit, struct writer *const writers[], size_t count);

#endif
