/* A full look at a directory of the queue, in steps that are small enough for a queue of a million
 * names: what uv_fs_event did not say is found here. */
#ifndef QUEUE_SCANNER_H
#define QUEUE_SCANNER_H

#include "queue/intake.h"
#include "queue/scan.h"

#include <stdbool.h>
#include <stddef.h>

/* Names of one step. */
enum { SCANNER_STEP = 1024 };

struct scanner {
    const struct spool *spool;
    enum queue queue;
    enum queue_directory directory; /* QUEUE_NEW or QUEUE_CUR */
    /* For QUEUE_CUR, whose files are each program's own affair: whether `name`, which may be any,
     * is a message to be taken in hand now. */
    bool (*judge_cb)(struct scanner *scanner, const char *name);
    void *data;    /* of judge_cb */
    bool open;     /* a scan is under way */
    bool replaced; /* the directory at the spool's path is not the one that is open */
    struct scan scan;
    struct candidate found[SCANNER_STEP];
    size_t found_count;
};

/* Goes on with a scan, or begins one: puts up to `max` ids, at most SCANNER_STEP, into `found`, the
 * oldest first. The
 * scan has ended when `open` is false afterwards. Blocks; for the pool.
 *
 * On the way, in new/: what has no id for a name is set aside. In cur/: found is what judge_cb says,
 * which must be valid ids. */
void scanner_step(struct scanner *scanner, size_t max);

/* Ends a scan that is under way. */
void scanner_stop(struct scanner *scanner);

#endif
