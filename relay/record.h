/* The far end of a message's way through relay: what became of its recipients is made durable, and
 * those that failed are reported to the sender.
 *
 * Blocks; for the pool, one call at a time. */
#ifndef RELAY_RECORD_H
#define RELAY_RECORD_H

#include "queue/site.h"
#include "queue/spool.h"
#include "relay/mail.h"

#include <stddef.h>
#include <stdint.h>

struct recorder {
    const struct spool *spool;
    const struct site *site; /* where a notification goes */
    const char *hostname;    /* ours */
    const char *smarthost;   /* RELAY_HOST */
    int64_t max_age;         /* RELAY_MAX_AGE, microseconds */
    char *piece;             /* MAIL_PIECE bytes, for what is copied */
};

/* Prepares; the strings, the spool and the site stay the caller's. Returns 0 or an errno value:
 * EXDEV, logged, when the directories of a queue are not on one file system. */
int recorder_open(struct recorder *recorder);
void recorder_close(struct recorder *recorder);

/* Ends what an earlier run began and did not end for a message that was just loaded: recipients of
 * it that have failed already, as failed/ID says, get their notification, and are recipients no
 * more. GONE when none is left, UNREADABLE on an error, else LOADED. */
enum mail_status record_resume(struct recorder *recorder, struct mail *mail);

/* Makes the outcomes of each mail of the list durable, in as few flushes as it can. Afterwards each
 * has `error` 0 and `due`; or an errno value, logged: then its outcomes are not (all) on the disk,
 * and it is to be recorded again as it is, but not sent. OPEN recipients stay where they are.
 * A DEFERRED one older than max_age is FAILED. */
void record_run(struct recorder *recorder, struct mail *mails, int64_t now);

#endif
