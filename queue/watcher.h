/* The near end of whoever works on a queue: opens the spool, takes the queue's lock, and keeps the
 * intake supplied from what the file system says and from full looks.
 *
 * Loop thread. */
#ifndef QUEUE_WATCHER_H
#define QUEUE_WATCHER_H

#include "queue/intake.h"
#include "queue/scanner.h"

#include <stdbool.h>
#include <uv.h>

enum watcher_state {
    WATCHER_LOCKING,  /* another process works on the queue: waiting for its end */
    WATCHER_RUNNING,  /* locked and supplying */
    WATCHER_REPLACED, /* the directories are not those we opened: to be opened again when quiet */
    WATCHER_STOPPED
};

/* A scanner and its way through the pool. */
struct watcher_scan {
    struct watcher *watcher;
    struct scanner scanner;
    uv_work_t work;
    size_t max; /* of the step under way */
    bool busy;  /* with the pool */
};

/* The strings and the data stay the caller's, as long as the watcher lives. */
struct watcher_options {
    const char *path; /* of the spool */
    enum queue queue;
    long rescan; /* seconds between full looks at new/ */
    /* What to take of cur/ (queue/scanner.h), in the pool, and milliseconds between full looks at
     * it. */
    bool (*judge_cb)(struct scanner *scanner, const char *name);
    void *judge_data;
    uint64_t cur_interval;
};

struct watcher {
    uv_loop_t *loop;
    struct intake *intake;
    struct watcher_options options;
    enum watcher_state state;
    struct spool spool;
    int lock;
    bool open;         /* the spool is */
    bool watching;     /* uv_fs_event works */
    bool said_waiting; /* for the lock */
    bool said_blind;   /* uv_fs_event does not work */
    uv_fs_event_t event;
    uv_timer_t lock_timer, rescan_timer, cur_timer, left_timer;
    struct watcher_scan scan_new, scan_cur;
    bool cur_due;
    uint64_t cur_scans; /* full looks at cur/ that came to their end */
};

/* Opens or makes the spool and begins. Returns 0, or an errno value after it was logged. The intake
 * stays the caller's. */
int watcher_start(struct watcher *watcher, uv_loop_t *loop, const struct watcher_options *options,
                  struct intake *intake);

/* For intake_init: hints that make a full look due, because the kernel may have had no room for more
 * of them. */
size_t watcher_burst(void);

/* Takes a name out of hand whose file in new/ was just removed or renamed (intake_leave): what is moved
 * there again after a moment is a new message. */
void watcher_leave(struct watcher *watcher, const char *id);

/* A full look at cur/ is due. */
void watcher_want_cur(struct watcher *watcher);

/* Starts what is due; called on every turn of the loop. */
void watcher_turn(struct watcher *watcher);

/* Nothing of it is with the pool. */
bool watcher_is_quiet(const struct watcher *watcher);

/* REPLACED, and nobody uses the spool any more: opens it anew and takes the lock again. */
void watcher_reopen(struct watcher *watcher);

/* Ends all of it. The spool and the lock are let go by watcher_close, when nobody uses them. */
void watcher_stop(struct watcher *watcher);
void watcher_close(struct watcher *watcher);

#endif
