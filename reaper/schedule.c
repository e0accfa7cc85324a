/* Passes and sweeps in time: see the header. */
#include "reaper/schedule.h"

#include "common/log.h"
#include "common/program.h"
#include "reaper/counters.h"
#include "reaper/pass.h"
#include "reaper/sweep.h"

#include <stdbool.h>
#include <time.h>

/* A pass that met a reader, a lock or a missing schema does not wait for the next hour. */
enum { SCHEDULE_SOON_SECONDS = 5 };

static struct {
    const struct config *config;
    uv_loop_t *loop;
    struct pass pass;
    uv_timer_t pass_timer;
    uv_timer_t sweep_timer;
    uv_work_t sweep_work;
    struct sweep sweep;
    atomic_bool stop;
    bool sweeping; /* the sweep is with the pool */
    bool passed, swept;
} schedule;

static void say_ready(void)
{
    if (schedule.passed && schedule.swept)
        program_ready();
}

/* Passes. */

static void pass_timer_cb(uv_timer_t *timer)
{
    (void)timer;
    /* Without a connection nothing happens now: its return begins the pass. */
    pass_run(&schedule.pass);
}

static void pass_done_cb(struct pass *pass, enum pass_outcome outcome)
{
    long seconds = schedule.config->interval;

    (void)pass;
    if (outcome == PASS_DONE)
        metric_set_value(&counters[COUNTER_LAST], (double)time(NULL));
    else if (seconds > SCHEDULE_SOON_SECONDS)
        seconds = SCHEDULE_SOON_SECONDS;
    if (outcome == PASS_DONE || outcome == PASS_BUSY)
        schedule.passed = true;
    say_ready();
    uv_timer_start(&schedule.pass_timer, pass_timer_cb, (uint64_t)seconds * 1000, 0);
}

/* Sweeps. */

static void sweep_work_cb(uv_work_t *work)
{
    (void)work;
    sweep_run(&schedule.sweep);
}

static void count_swept(void)
{
    static const struct {
        enum counter counter;
        enum queue queue;
        enum queue_directory directory;
    } rows[] = {
        {COUNTER_STORE_TMP, QUEUE_STORE, QUEUE_TMP},
        {COUNTER_STORE_FAILED, QUEUE_STORE, QUEUE_FAILED},
        {COUNTER_RELAY_TMP, QUEUE_RELAY, QUEUE_TMP},
        {COUNTER_RELAY_FAILED, QUEUE_RELAY, QUEUE_FAILED},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        metric_add(&counters[rows[i].counter],
                   (double)schedule.sweep.removed[rows[i].queue][rows[i].directory]);
}

static void sweep_done_cb(uv_work_t *work, int status)
{
    (void)work;
    schedule.sweeping = false;
    if (status != 0)
        return; /* cancelled by schedule_stop before it began */
    count_swept();
    schedule.swept = true;
    say_ready();
}

static void sweep_timer_cb(uv_timer_t *timer)
{
    (void)timer;
    if (schedule.sweeping)
        return;
    schedule.sweeping = true;
    schedule.sweep = (struct sweep){
        .spool = schedule.config->common.spool,
        .now = time(NULL),
        .retention = schedule.config->retention,
        .stop = &schedule.stop,
    };
    uv_queue_work(schedule.loop, &schedule.sweep_work, sweep_work_cb, sweep_done_cb);
}

void schedule_start(uv_loop_t *loop, const struct config *config)
{
    schedule.config = config;
    schedule.loop = loop;
    metric_set_value(&counters[COUNTER_INTERVAL], (double)config->interval);
    metric_set_value(&counters[COUNTER_RETENTION], (double)config->retention);
    uv_timer_init(loop, &schedule.pass_timer);
    uv_timer_init(loop, &schedule.sweep_timer);
    uv_timer_start(&schedule.sweep_timer, sweep_timer_cb, 0, (uint64_t)config->interval * 1000);
    pass_start(&schedule.pass, loop, config->database_url, config->retention, pass_done_cb);
}

void schedule_stop(void)
{
    atomic_store(&schedule.stop, true);
    if (schedule.sweeping)
        uv_cancel((uv_req_t *)&schedule.sweep_work);
    uv_close((uv_handle_t *)&schedule.pass_timer, NULL);
    uv_close((uv_handle_t *)&schedule.sweep_timer, NULL);
    pass_stop(&schedule.pass);
}
