/* Which messages to look at next: names heard from the file system and names found by scans, each
 * once, in bounded memory. Pure; loop thread.
 *
 * A hint is only a hint: it may be lost, repeated, or name a file that is gone. A hint that finds
 * no room is forgotten and a scan wanted instead; so is a burst, because the kernel drops events
 * when its queue is full and libuv does not say so. A scan that is wanted while one runs is
 * remembered: the running one may have passed the place. */
#ifndef QUEUE_INTAKE_H
#define QUEUE_INTAKE_H

#include "queue/id.h"
#include "queue/spool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names that can wait. */
enum { INTAKE_QUEUE = 8192 };

struct candidate {
    char id[ID_SIZE];
    enum queue_directory directory; /* QUEUE_NEW, or QUEUE_CUR for a replay */
};

/* An id, and how many hints named it since its file was looked for, up to 255. */
struct known {
    uint8_t id[16];
    uint8_t heard;
};

struct intake {
    struct candidate *queue; /* a ring of INTAKE_QUEUE */
    size_t head, count;

    struct known *known; /* a hash set of the ids that wait or are in hand */
    uint64_t mask;
    size_t known_count;

    struct candidate *leaving; /* see intake_leave */
    size_t leaving_count, leaving_capacity;

    size_t burst; /* hints since the last scan that make another one wanted */
    size_t hints;
    bool scan_wanted, scanning;
};

/* Room for INTAKE_QUEUE waiting names and `in_hand` others. False when memory is out. */
bool intake_init(struct intake *intake, size_t in_hand, size_t burst);
void intake_free(struct intake *intake);

/* A name that the file system spoke of; NULL where it did not say which. */
void intake_hint(struct intake *intake, const char *name);

/* A valid id that was found in a directory. True when it is queued or known already; false when
 * there is no room. */
bool intake_add(struct intake *intake, const char *id, enum queue_directory directory);

/* How many more names may be queued. */
size_t intake_room(const struct intake *intake);

/* Takes up to `max` names off the queue; they stay known until intake_forget or intake_leave. */
size_t intake_take(struct intake *intake, struct candidate *candidates, size_t max);

/* Puts names that were taken and not used back to the front, in their order. */
void intake_return(struct intake *intake, const struct candidate *candidates, size_t count);

/* The id is in nobody's hands: the next hint or scan may queue it again. A hint that came when its
 * file had been looked for does so now, for it may be of another file under that name. */
void intake_forget(struct intake *intake, const char *id);

/* The same of one whose file in new/ was just removed, but only at the next call of intake_left, or
 * when a scan begins: a file's removal is an event, too, and would otherwise come back as a hint to
 * look for what we have just removed. One hint is taken for that. */
void intake_leave(struct intake *intake, const char *id);
void intake_left(struct intake *intake);

/* Scans: one at a time. */
void intake_want_scan(struct intake *intake);
bool intake_scan_due(const struct intake *intake);
void intake_scan_begin(struct intake *intake);
void intake_scan_end(struct intake *intake);

#endif
