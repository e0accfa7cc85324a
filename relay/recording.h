/* Mails that were tried, on their way to the disk: they wait for the recorder, which is given all
 * of them at a time, and those that it fails on are tried again, with pauses, as long as it
 * matters.
 *
 * Loop thread only. */
#ifndef RELAY_RECORDING_H
#define RELAY_RECORDING_H

#include "relay/mail.h"
#include "relay/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct recording {
    uv_loop_t *loop;
    struct recorder *recorder;
    uv_mutex_t *lock;  /* held while the recorder is used: another thread may load */
    struct mail *done; /* to be recorded, in order */
    struct mail **done_end;
    size_t done_count;
    struct mail *batch; /* with the pool, or NULL */
    uv_work_t work;
    bool failed; /* the last time; the next is when the timer says */
    uint64_t pause;
    uv_timer_t timer;
    void *owner;
    /* A batch has come back; then each mail of it, but those that are kept to be tried again. */
    void (*batch_cb)(void *owner);
    /* What became of it is on the disk. It is the owner's again. */
    void (*recorded_cb)(void *owner, struct mail *mail);
    /* It is as it was before it was tried. It is the owner's again. */
    void (*dropped_cb)(void *owner, struct mail *mail);
};

/* Prepares. The owner sets owner and callbacks afterwards; recorder and lock stay the caller's. */
void recording_start(struct recording *recording, uv_loop_t *loop, struct recorder *recorder,
                     uv_mutex_t *lock);

/* Takes a mail with outcomes. */
void recording_add(struct recording *recording, struct mail *mail);

/* Gives what waits to the recorder, unless it has something, or has failed a moment ago. Called on
 * every turn of the loop. */
void recording_turn(struct recording *recording);

/* Nothing waits, and nothing is with the recorder. */
bool recording_is_empty(const struct recording *recording);

/* Gives up what waits: it stays as it is on the disk, and will be tried again, whatever was said of
 * it. */
void recording_drop(struct recording *recording);

/* Closes its handle; it is empty. */
void recording_stop(struct recording *recording);

#endif
