/* The way of a message through storer:
 *
 *     watcher ─names─▶ intake ─names─▶ loader ─batch─▶ database ─fates─▶ retirer
 *      (loop)          (pure)          (pool)           (loop)           (pool)
 *
 * While one batch is in its transaction the next one is filled, and goes on being filled until the
 * database is free: that is how batches grow under load, and why a lone message waits for nothing.
 * There are three batches and no more, so when the database is away, or slow, or the files cannot
 * be removed, everything before it stands still and the files wait in new/.
 *
 * Loop thread. */
#ifndef STORER_PIPELINE_H
#define STORER_PIPELINE_H

#include "common/settings.h"
#include "queue/census.h"
#include "queue/watcher.h"
#include "storer/database.h"
#include "storer/kept.h"
#include "storer/loader.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct storer_config {
    struct settings_common common;
    const char *database_url;
    long batch_messages, batch_bytes;
    long rescan, keep;
    bool notify;
};

/* One is filled, one is in its transaction, one is being retired. */
enum { PIPELINE_BATCHES = 3 };

struct pipeline {
    uv_loop_t *loop;
    const struct storer_config *config;
    struct intake intake;
    struct watcher watcher;
    struct kept kept;
    struct census census;
    struct database database;
    bool database_started;

    struct batch batches[PIPELINE_BATCHES];
    struct batch *idle[PIPELINE_BATCHES];
    size_t idle_count;
    uint64_t batch_number; /* of the last one */

    struct batch *filling; /* or NULL */
    bool full;             /* nothing more fits into it */
    struct load load;
    uv_work_t load_work;
    bool loading;

    struct batch *retiring[PIPELINE_BATCHES]; /* the first is with the pool */
    size_t retiring_count;
    uv_work_t retire_work;
    bool retire_busy;

    uv_prepare_t turn;     /* looks, once a turn, at what can be started */
    uv_timer_t stop_timer; /* the end of patience with the database */
    bool stopping, impatient;
};

/* Begins. Returns 0 or a sysexits code after saying why. */
int pipeline_start(struct pipeline *pipeline, uv_loop_t *loop, const struct storer_config *config);

/* Takes nothing more in hand, lets the transaction that runs come to its end (or gives it up, when
 * there is no database or it takes too long: the files are still there), and closes every handle.
 */
void pipeline_stop(struct pipeline *pipeline);

/* Sets the gauges (storer/metrics.h) that are looked up. */
void pipeline_measure(struct pipeline *pipeline);

#endif
