/* What moves when: see the header. Every callback only notes what happened; what can be started is
 * started in one place, once a turn of the loop, so that a burst of events becomes one load. */
#include "storer/pipeline.h"

#include "common/fault.h"
#include "common/log.h"
#include "common/program.h"
#include "storer/metrics.h"
#include "storer/retirer.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* Of the ten seconds in which a program stops, those that a transaction may take. */
enum { STOP_PATIENCE = 5 * 1000 };

/* Full looks at cur/ within STORER_KEEP. */
enum { KEEP_LOOKS = 10 };

/* Milliseconds between them. Where nothing is kept, what an earlier storer kept goes back at the
 * start; what the disk refused then is found by the next look. */
static uint64_t keep_interval(const struct storer_config *config)
{
    return config->keep > 0 ? (uint64_t)config->keep * 1000 / KEEP_LOOKS
                            : (uint64_t)config->rescan * 1000;
}

/* Loading. */

static void load_work(uv_work_t *work)
{
    struct pipeline *pipeline = work->data;
    loader_run(&pipeline->load);
}

/* What did not go into the batch is in nobody's hands. */
static void forget_unloaded(struct pipeline *pipeline, const struct load *load)
{
    size_t next = load->before;
    for (size_t i = 0; i < load->used; i++) {
        if (next < load->batch->count &&
            strcmp(load->batch->messages[next].id, load->candidates[i].id) == 0)
            next++;
        else
            intake_forget(&pipeline->intake, load->candidates[i].id);
    }
}

static void load_done_cb(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct pipeline *pipeline = work->data;
    struct load *load = &pipeline->load;
    pipeline->loading = false;
    pipeline->full = load->full;
    forget_unloaded(pipeline, load);
    intake_return(&pipeline->intake, load->candidates + load->used, load->count - load->used);
    metric_add(&storer_metrics[METRIC_SET_ASIDE_FILE], (double)load->failed);
}

static void start_loading(struct pipeline *pipeline)
{
    /* Only as long as the lock is ours: names may be left over from a spool that was replaced. */
    if (pipeline->watcher.state != WATCHER_RUNNING || pipeline->loading ||
        pipeline->intake.count == 0)
        return;
    if (!pipeline->filling) {
        if (pipeline->idle_count == 0)
            return;
        pipeline->filling = pipeline->idle[--pipeline->idle_count];
        pipeline->filling->number = ++pipeline->batch_number;
        pipeline->full = false;
    }
    if (pipeline->full)
        return;
    struct load *load = &pipeline->load;
    load->batch = pipeline->filling;
    load->count = intake_take(&pipeline->intake, load->candidates,
                              load->limits.messages - load->batch->count);
    pipeline->loading = true;
    uv_queue_work(pipeline->loop, &pipeline->load_work, load_work, load_done_cb);
}

/* Storing. */

static void start_storing(struct pipeline *pipeline)
{
    if (pipeline->loading || !pipeline->filling || !database_is_free(&pipeline->database))
        return;
    struct batch *batch = pipeline->filling;
    pipeline->filling = NULL;
    if (batch->count > 0)
        database_store(&pipeline->database, batch);
    else
        pipeline->idle[pipeline->idle_count++] = batch;
}

/* Ready: the lock, the watch, the database and the right schema. */
static bool is_ready(const struct pipeline *pipeline)
{
    return pipeline->watcher.watching && pipeline->database.checked;
}

static void database_done_cb(struct database *database, struct batch *batch)
{
    struct pipeline *pipeline = database->data;
    pipeline->retiring[pipeline->retiring_count++] = batch;
}

/* Retiring. */

static void retire_work(uv_work_t *work)
{
    struct pipeline *pipeline = work->data;
    retirer_run(&pipeline->watcher.spool, pipeline->retiring[0], pipeline->config->keep > 0);
}

static void count_message(const struct message *message)
{
    static const enum storer_metric metrics[] = {
        [FATE_STORED] = METRIC_STORED,
        [FATE_EXPIRED] = METRIC_EXPIRED,
        [FATE_REFUSED] = METRIC_SET_ASIDE_DATABASE,
    };
    if (message->fate == FATE_OPEN || message->directory != QUEUE_NEW)
        return;
    metric_add(&storer_metrics[metrics[message->fate]], 1);
    if (message->fate != FATE_STORED)
        return;
    metric_add(&storer_metrics[METRIC_BYTES], (double)message->size);
    metric_add(&storer_metrics[METRIC_DELIVERIES], (double)message->deliveries);
}

static void retire_done_cb(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct pipeline *pipeline = work->data;
    struct batch *batch = pipeline->retiring[0];
    FAULT_POINT("storer.retired");
    intake_left(&pipeline->intake);
    for (size_t i = 0; i < batch->count; i++) {
        const struct message *message = &batch->messages[i];
        count_message(message);
        if (message->fate != FATE_OPEN && message->directory == QUEUE_NEW)
            watcher_leave(&pipeline->watcher, message->id);
        else
            intake_forget(&pipeline->intake, message->id);
    }
    batch_clear(batch, pipeline->load.limits.bytes);
    pipeline->idle[pipeline->idle_count++] = batch;
    pipeline->retiring_count--;
    for (size_t i = 0; i < pipeline->retiring_count; i++)
        pipeline->retiring[i] = pipeline->retiring[i + 1];
    pipeline->retire_busy = false;
}

static void start_retiring(struct pipeline *pipeline)
{
    if (pipeline->retire_busy || pipeline->retiring_count == 0)
        return;
    pipeline->retire_busy = true;
    uv_queue_work(pipeline->loop, &pipeline->retire_work, retire_work, retire_done_cb);
}

/* The turn. */

static void drop_filling(struct pipeline *pipeline)
{
    struct batch *batch = pipeline->filling;
    if (!batch || pipeline->loading)
        return;
    for (size_t i = 0; i < batch->count; i++)
        intake_forget(&pipeline->intake, batch->messages[i].id);
    batch_clear(batch, pipeline->load.limits.bytes);
    pipeline->idle[pipeline->idle_count++] = batch;
    pipeline->filling = NULL;
}

static bool uses_spool(const struct pipeline *pipeline)
{
    return pipeline->loading || pipeline->filling || pipeline->database.batch ||
           pipeline->retiring_count > 0 || !watcher_is_quiet(&pipeline->watcher);
}

/* The database is connected to once the queue is ours: a storer in waiting costs it nothing. */
static void start_database(struct pipeline *pipeline)
{
    if (pipeline->database_started || pipeline->watcher.state != WATCHER_RUNNING)
        return;
    pipeline->database_started = true;
    database_start(&pipeline->database, pipeline->loop, pipeline->config->database_url);
}

static void finish_stop(struct pipeline *pipeline);

static void turn_cb(uv_prepare_t *turn)
{
    struct pipeline *pipeline = turn->data;
    start_retiring(pipeline);
    if (pipeline->stopping || pipeline->watcher.state == WATCHER_REPLACED) {
        drop_filling(pipeline);
        if (pipeline->stopping)
            finish_stop(pipeline);
        else if (!uses_spool(pipeline))
            watcher_reopen(&pipeline->watcher);
        return;
    }
    start_database(pipeline);
    start_storing(pipeline);
    watcher_turn(&pipeline->watcher);
    start_loading(pipeline);
    if (is_ready(pipeline))
        program_ready();
}

/* Beginning and end. */

static int begin(struct pipeline *pipeline)
{
    const struct storer_config *config = pipeline->config;
    struct load *load = &pipeline->load;
    load->limits =
        (struct loader_limits){(size_t)config->batch_messages, (size_t)config->batch_bytes};
    load->candidates = calloc(load->limits.messages, sizeof *load->candidates);
    /* Those of three batches, of a load under way, and of the batch that left last. */
    if (!load->candidates ||
        !intake_init(&pipeline->intake, 5 * load->limits.messages, watcher_burst())) {
        log_error("out_of_memory");
        return EX_OSERR;
    }
    for (size_t i = 0; i < PIPELINE_BATCHES; i++) {
        batch_init(&pipeline->batches[i]);
        pipeline->idle[pipeline->idle_count++] = &pipeline->batches[i];
    }
    const struct watcher_options options = {
        .path = config->common.spool,
        .queue = QUEUE_STORE,
        .rescan = config->rescan,
        .judge_cb = kept_judge_cb,
        .judge_data = &pipeline->kept,
        .cur_interval = keep_interval(config),
    };
    if (watcher_start(&pipeline->watcher, pipeline->loop, &options, &pipeline->intake) != 0)
        return EX_OSERR;
    load->spool = &pipeline->watcher.spool;
    return 0;
}

int pipeline_start(struct pipeline *pipeline, uv_loop_t *loop, const struct storer_config *config)
{
    *pipeline = (struct pipeline){.loop = loop, .config = config, .kept = {config->keep, false}};
    pipeline->load_work.data = pipeline->retire_work.data = pipeline;
    pipeline->database.notify = config->notify;
    pipeline->database.data = pipeline;
    pipeline->database.done_cb = database_done_cb;
    int code = begin(pipeline);
    if (code != 0)
        return code;
    census_init(&pipeline->census, loop, config->common.spool, QUEUE_STORE);
    uv_timer_init(loop, &pipeline->stop_timer);
    uv_prepare_init(loop, &pipeline->turn);
    pipeline->turn.data = pipeline->stop_timer.data = pipeline;
    uv_prepare_start(&pipeline->turn, turn_cb);
    return 0;
}

static void release(struct pipeline *pipeline)
{
    watcher_close(&pipeline->watcher);
    for (size_t i = 0; i < PIPELINE_BATCHES; i++)
        batch_free(&pipeline->batches[i]);
    intake_free(&pipeline->intake);
    free(pipeline->load.candidates);
}

static void database_closed_cb(struct pgconn *conn)
{
    release(((struct database *)conn->options.data)->data);
}

static void stop_timer_cb(uv_timer_t *timer)
{
    struct pipeline *pipeline = timer->data;
    log_warn("batch_abandoned", LOG_TEXT("why", "the database took too long; it will be repeated"));
    pipeline->impatient = true;
}

/* Ends when nothing is in hand, or nothing that could be finished. */
static void finish_stop(struct pipeline *pipeline)
{
    bool waiting =
        pipeline->database.batch && !pipeline->impatient && !database_is_stuck(&pipeline->database);
    if (waiting || pipeline->loading || pipeline->retiring_count > 0 ||
        !watcher_is_quiet(&pipeline->watcher))
        return;
    uv_close((uv_handle_t *)&pipeline->turn, NULL);
    uv_close((uv_handle_t *)&pipeline->stop_timer, NULL);
    if (pipeline->database_started)
        database_close(&pipeline->database, database_closed_cb);
    else
        release(pipeline);
}

void pipeline_stop(struct pipeline *pipeline)
{
    pipeline->stopping = true;
    watcher_stop(&pipeline->watcher);
    census_stop(&pipeline->census);
    uv_timer_start(&pipeline->stop_timer, stop_timer_cb, STOP_PATIENCE, 0);
}

/* Of what waits, the intake knows as much as it has room for, but at once; the census knows all, but
 * as it was. */
void pipeline_measure(struct pipeline *pipeline)
{
    const struct census *census = &pipeline->census;
    uint64_t known = pipeline->intake.known_count - pipeline->intake.leaving_count;
    uint64_t waiting = census->counts[QUEUE_NEW].messages;

    metric_set_value(&storer_metrics[METRIC_BACKLOG], (double)(waiting > known ? waiting : known));
    metric_set_value(&storer_metrics[METRIC_BACKLOG_AGE], census_age(census, QUEUE_NEW));
    metric_set_value(&storer_metrics[METRIC_KEPT], (double)census->counts[QUEUE_CUR].messages);
    metric_set_value(&storer_metrics[METRIC_IN_FAILED],
                     (double)census->counts[QUEUE_FAILED].messages);
    metric_set_value(&storer_metrics[METRIC_READY], is_ready(pipeline));
    census_begin(&pipeline->census);
}
