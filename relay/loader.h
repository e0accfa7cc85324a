/* From names to mails in hand. Blocks; for the pool, one call at a time. */
#ifndef RELAY_LOADER_H
#define RELAY_LOADER_H

#include "queue/intake.h"
#include "relay/mail.h"
#include "relay/record.h"

#include <stddef.h>
#include <uv.h>

/* Names of one call. */
enum { LOADER_MAX = 32 };

struct load {
    struct recorder *recorder;
    uv_mutex_t *recorder_lock; /* held while the recorder is used: another thread may record */
    struct candidate candidates[LOADER_MAX];
    size_t count;
    struct mail *mails[LOADER_MAX]; /* of each candidate, or NULL */
    size_t malformed;               /* candidates that were set aside */
    size_t superseded;              /* those of new/ that are in cur/ */
};

/* Loads what the candidates name. One that is gone, set aside or unreadable has no mail. What an
 * earlier run left half done for a message is ended first. */
void loader_run(struct load *load);

#endif
