/* The way of a message through relay:
 *
 *     watcher ─names─▶ intake ─names─▶ loader ─mails─▶ sender ─outcomes─▶ recorder
 *      (loop)          (pure)          (pool)          (loop)             (pool)
 *
 * Everything is bounded: so many mails are loaded as the connections have use for, and no more are
 * while that many wait to be recorded. When the smarthost is away, or the disk is full, the files
 * wait where they are.
 *
 * Loop thread. */
#ifndef RELAY_PIPELINE_H
#define RELAY_PIPELINE_H

#include "queue/census.h"
#include "queue/intake.h"
#include "queue/watcher.h"
#include "relay/config.h"
#include "relay/deferred.h"
#include "relay/loader.h"
#include "relay/record.h"
#include "relay/recording.h"
#include "relay/sender.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct pipeline {
    uv_loop_t *loop;
    struct config *config;
    struct intake intake;
    struct watcher watcher;
    struct census census;
    struct sender sender;

    struct load load;
    uv_work_t load_work;
    bool loading;

    struct recorder recorder;
    uv_mutex_t recorder_lock;
    bool recorder_open;
    struct site site;
    struct recording recording;

    struct deferred deferred; /* what the looks at cur/ find */
    uint64_t cur_scans;       /* looks that were heeded */
    uint64_t cur_began;       /* the last one did, in uv_now */
    uint64_t cur_rests_until; /* the next one does not before */
    int64_t next_due;         /* when the due_timer rings, microseconds since the epoch */
    uv_timer_t due_timer;

    uv_prepare_t turn;     /* looks, once a turn, at what can be started */
    uv_timer_t stop_timer; /* the end of patience with the smarthost */
    bool reload_wanted;
    bool stopping;
};

/* Begins. Returns 0 or a sysexits code after saying why. The config stays the caller's. */
int pipeline_start(struct pipeline *pipeline, uv_loop_t *loop, struct config *config);

/* SIGHUP: reads the lists again, looks at the whole queue, and tries a smarthost in trouble now. */
void pipeline_reload(struct pipeline *pipeline);

/* Takes nothing more in hand, lets the transactions that run come to their end within a time,
 * records what became of them, and closes every handle. */
void pipeline_stop(struct pipeline *pipeline);

/* Sets the gauges (relay/metrics.h) that are looked up. */
void pipeline_measure(struct pipeline *pipeline);

#endif
