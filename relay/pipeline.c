/* What moves when: see the header. Every callback only notes what happened; what can be started is
 * started in one place, once a turn of the loop. */
#include "relay/pipeline.h"

#include "common/log.h"
#include "common/program.h"
#include "relay/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

enum {
    STOP_PATIENCE = 7 * 1000, /* milliseconds of PROGRAM_STOP_SECONDS that a transaction may take */
    LOOK_PAUSE = 1000,        /* milliseconds between full looks at cur/, at least */
    DONE_EACH = 4,  /* mails of a connection that may wait to be recorded while it goes on */
    HAND_MAX = 2048 /* mails in hand: of every list here, and the sender's */
};

/* Mails sent over a connection at most: many servers end it there. And how long it is kept. */
enum { MAILS_OF_A_CONNECTION = 100, IDLE_MS = 10 * 1000 };

static int64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Loading. */

static void load_work_cb(uv_work_t *work)
{
    struct pipeline *pipeline = work->data;

    loader_run(&pipeline->load);
}

static void loaded_cb(uv_work_t *work, int status)
{
    struct pipeline *pipeline = work->data;
    struct load *load = &pipeline->load;

    (void)status; /* never cancelled */
    pipeline->loading = false;
    for (size_t i = 0; i < load->count; i++) {
        if (load->mails[i] == NULL)
            intake_forget(&pipeline->intake, load->candidates[i].id);
        else
            sender_add(&pipeline->sender, load->mails[i]);
    }
    metric_add(&relay_metrics[METRIC_MALFORMED], (double)load->malformed);
    /* The look at cur/ that went with the one at new/ found these in hand already. */
    if (load->superseded > 0)
        watcher_want_cur(&pipeline->watcher);
}

static void start_loading(struct pipeline *pipeline)
{
    size_t wanted = sender_wants(&pipeline->sender);

    if (pipeline->watcher.state != WATCHER_RUNNING || !pipeline->recorder_open ||
        pipeline->loading || pipeline->reload_wanted || wanted == 0 || pipeline->intake.count == 0)
        return;
    pipeline->load.count = intake_take(&pipeline->intake, pipeline->load.candidates,
                                       wanted < LOADER_MAX ? wanted : LOADER_MAX);
    pipeline->loading = true;
    uv_queue_work(pipeline->loop, &pipeline->load_work, load_work_cb, loaded_cb);
}

/* Recording. */

static bool has_outcome(const struct mail *mail)
{
    return mail_has(mail, OUTCOME_ACCEPTED) || mail_has(mail, OUTCOME_AGAIN) ||
           mail_has(mail, OUTCOME_DEFERRED) || mail_has(mail, OUTCOME_FAILED);
}

/* It is in nobody's hands. */
static void forget(void *owner, struct mail *mail)
{
    struct pipeline *pipeline = owner;

    intake_forget(&pipeline->intake, mail->id);
    mail_free(mail);
}

/* From the sender. What could not be read is left for the next full look. */
static void done_cb(void *owner, struct mail *mail)
{
    struct pipeline *pipeline = owner;

    if (mail->error == 0 && has_outcome(mail)) {
        recording_add(&pipeline->recording, mail);
        return;
    }
    if (mail->error != 0)
        log_error("unreadable", LOG_TEXT("id", mail->id), LOG_ERRNO(mail->error));
    forget(pipeline, mail);
}

static void due_at(struct pipeline *pipeline, int64_t due);

/* The rest of the recipients of a mail that had too many, or a throttled one, go on at once. */
static bool goes_on(const struct pipeline *pipeline, const struct mail *mail)
{
    return !pipeline->stopping && pipeline->watcher.state == WATCHER_RUNNING &&
           (mail_has(mail, OUTCOME_AGAIN) || mail_has(mail, OUTCOME_OPEN));
}

/* Those that are not done with are counted when they are. */
static void count_recipients(const struct mail *mail, bool goes_on)
{
    static const enum relay_metric metrics[] = {
        [OUTCOME_ACCEPTED] = METRIC_ACCEPTED,
        [OUTCOME_DEFERRED] = METRIC_DEFERRED,
        [OUTCOME_FAILED] = METRIC_FAILED,
    };

    for (size_t i = 0; i < mail->count; i++) {
        enum outcome outcome = mail->recipients[i].outcome;
        if (outcome == OUTCOME_ACCEPTED ||
            (!goes_on && (outcome == OUTCOME_DEFERRED || outcome == OUTCOME_FAILED)))
            metric_add(&relay_metrics[metrics[outcome]], 1);
    }
}

static void recorded_cb(void *owner, struct mail *mail)
{
    struct pipeline *pipeline = owner;
    bool more = goes_on(pipeline, mail);

    count_recipients(mail, more);
    if (more) {
        mail_go_on(mail);
        sender_add(&pipeline->sender, mail);
        return;
    }
    if (mail->found == QUEUE_NEW)
        watcher_leave(&pipeline->watcher, mail->id);
    else
        intake_forget(&pipeline->intake, mail->id);
    if (mail->due > 0)
        due_at(pipeline, mail->due);
    mail_free(mail);
}

static void batch_cb(void *owner)
{
    struct pipeline *pipeline = owner;

    intake_left(&pipeline->intake);
}

static void start_recording(struct pipeline *pipeline)
{
    if (!pipeline->reload_wanted)
        recording_turn(&pipeline->recording);
}

/* Deferred messages. */

static void due_cb(uv_timer_t *timer)
{
    struct pipeline *pipeline = timer->data;

    pipeline->next_due = INT64_MAX;
    watcher_want_cur(&pipeline->watcher);
}

/* Rings a millisecond late rather than early, when nothing would be due yet. */
static void due_at(struct pipeline *pipeline, int64_t due)
{
    int64_t wait = due - wall_clock();
    uint64_t now = uv_now(pipeline->loop), rest = 0;

    if (due >= pipeline->next_due || pipeline->stopping)
        return;
    if (pipeline->cur_rests_until > now)
        rest = pipeline->cur_rests_until - now;
    pipeline->next_due = due;
    wait = wait > 0 ? wait / 1000 + 1 : 0;
    uv_timer_start(&pipeline->due_timer, due_cb, (uint64_t)wait > rest ? (uint64_t)wait : rest, 0);
}

/* Around a full look at cur/, which takes as long as there are messages: no next one begins before
 * ten times as long has passed, however many are due in between. */
static void watch_cur(struct pipeline *pipeline)
{
    const struct watcher *watcher = &pipeline->watcher;
    uint64_t now = uv_now(pipeline->loop);

    if (watcher->cur_scans != pipeline->cur_scans) {
        pipeline->cur_scans = watcher->cur_scans;
        pipeline->cur_rests_until = now + LOOK_PAUSE + 10 * (now - pipeline->cur_began);
        if (pipeline->deferred.earliest != INT64_MAX)
            due_at(pipeline, pipeline->deferred.earliest);
    }
    if (watcher->cur_due && !watcher->scan_cur.busy && !watcher->scan_cur.scanner.open) {
        pipeline->cur_began = now;
        deferred_clear(&pipeline->deferred);
    }
}

/* The turn. */

/* Mails that were sent and are not recorded would be sent again after a crash: so there are not
 * many, however slow the disk is. */
static size_t done_max(const struct pipeline *pipeline)
{
    return DONE_EACH * (size_t)pipeline->config->connections;
}

static bool uses_spool(const struct pipeline *pipeline)
{
    return pipeline->loading || !recording_is_empty(&pipeline->recording) ||
           pipeline->sender.ready_count > 0 || pipeline->sender.resting != NULL ||
           pipeline->sender.session_count > 0 || !watcher_is_quiet(&pipeline->watcher);
}

static void close_recorder(struct pipeline *pipeline)
{
    if (pipeline->recorder_open)
        recorder_close(&pipeline->recorder);
    pipeline->recorder_open = false;
}

/* The spool may be another one than before. */
static void open_recorder(struct pipeline *pipeline)
{
    int error;

    if (pipeline->recorder_open || pipeline->watcher.state != WATCHER_RUNNING)
        return;
    error = recorder_open(&pipeline->recorder);
    pipeline->recorder_open = error == 0;
    if (error != 0) {
        log_error("spool_unusable", LOG_TEXT("path", pipeline->config->common.spool),
                  LOG_ERRNO(error));
        program_fail(EX_OSERR);
    }
}

/* The pool reads the lists. So nothing is given to it until what it has is done. */
static void reload(struct pipeline *pipeline)
{
    if (!pipeline->reload_wanted || pipeline->recording.batch != NULL || pipeline->loading)
        return;
    pipeline->reload_wanted = false;
    site_reread(&pipeline->config->site);
    if (!site_load(&pipeline->site, &pipeline->config->site))
        log_error("out_of_memory");
    else
        log_info("reloaded");
}

/* The directories are not those that we opened: what is in hand is of the old ones. */
static void leave_spool(struct pipeline *pipeline)
{
    if (pipeline->recording.failed)
        recording_drop(&pipeline->recording);
    sender_return(&pipeline->sender);
    for (size_t i = pipeline->sender.session_count; i-- > 0;)
        session_quit(pipeline->sender.sessions[i]);
    if (uses_spool(pipeline))
        return;
    close_recorder(pipeline);
    watcher_reopen(&pipeline->watcher);
}

static void finish_stop(struct pipeline *pipeline);

static void turn_cb(uv_prepare_t *turn)
{
    struct pipeline *pipeline = turn->data;

    reload(pipeline);
    start_recording(pipeline);
    if (pipeline->stopping) {
        finish_stop(pipeline);
        return;
    }
    if (pipeline->watcher.state == WATCHER_REPLACED) {
        leave_spool(pipeline);
        return;
    }
    open_recorder(pipeline);
    watch_cur(pipeline);
    watcher_turn(&pipeline->watcher);
    if (!pipeline->recording.failed && pipeline->recording.done_count < done_max(pipeline)) {
        start_loading(pipeline);
        sender_turn(&pipeline->sender);
    }
    /* Mails that needed no server came back at once. */
    start_recording(pipeline);
    if (pipeline->watcher.watching)
        program_ready();
}

/* Beginning and end. */

static void set_up_sender(struct pipeline *pipeline)
{
    const struct config *config = pipeline->config;
    const struct session_options options = {
        .channel = {.host = config->host,
                    .port = (unsigned)config->port,
                    .tls = (enum channel_tls)config->tls,
                    .ca = config->ca,
                    .hostname = config->site.hostname,
                    .user = config->user,
                    .password = config->password,
                    .password_file = config->password_file,
                    .token_file = config->token_file,
                    .connect_seconds = config->timeout},
        .reply_ms = (uint64_t)config->timeout * 1000,
        .idle_ms = IDLE_MS,
        .mails = MAILS_OF_A_CONNECTION,
    };

    sender_start(&pipeline->sender, pipeline->loop, &options, (size_t)config->connections);
    pipeline->sender.owner = pipeline;
    pipeline->sender.done_cb = done_cb;
}

static int begin(struct pipeline *pipeline)
{
    const struct config *config = pipeline->config;
    const struct watcher_options options = {
        .path = config->common.spool,
        .queue = QUEUE_RELAY,
        .rescan = config->rescan,
        .judge_cb = deferred_judge_cb,
        .judge_data = &pipeline->deferred,
        .cur_interval = (uint64_t)config->rescan * 1000,
    };

    pipeline->recorder = (struct recorder){
        .spool = &pipeline->watcher.spool,
        .site = &pipeline->site,
        .hostname = config->site.hostname,
        .smarthost = config->host,
        .max_age = (int64_t)config->max_age * 1000000,
    };
    pipeline->load.recorder = &pipeline->recorder;
    pipeline->load.recorder_lock = &pipeline->recorder_lock;
    if (!site_load(&pipeline->site, &config->site) ||
        !intake_init(&pipeline->intake, HAND_MAX, watcher_burst()) ||
        uv_mutex_init(&pipeline->recorder_lock) != 0) {
        log_error("out_of_memory");
        return EX_OSERR;
    }
    return watcher_start(&pipeline->watcher, pipeline->loop, &options, &pipeline->intake) == 0
               ? 0
               : EX_OSERR;
}

int pipeline_start(struct pipeline *pipeline, uv_loop_t *loop, struct config *config)
{
    uv_timer_t *timers[] = {&pipeline->due_timer, &pipeline->stop_timer};
    int code;

    *pipeline = (struct pipeline){.loop = loop, .config = config, .next_due = INT64_MAX};
    pipeline->load_work.data = pipeline;
    pipeline->deferred.since = wall_clock();
    deferred_clear(&pipeline->deferred);
    code = begin(pipeline);
    if (code != 0)
        return code;
    census_init(&pipeline->census, loop, config->common.spool, QUEUE_RELAY);
    set_up_sender(pipeline);
    recording_start(&pipeline->recording, loop, &pipeline->recorder, &pipeline->recorder_lock);
    pipeline->recording.owner = pipeline;
    pipeline->recording.batch_cb = batch_cb;
    pipeline->recording.recorded_cb = recorded_cb;
    pipeline->recording.dropped_cb = forget;
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) {
        uv_timer_init(loop, timers[i]);
        timers[i]->data = pipeline;
    }
    uv_prepare_init(loop, &pipeline->turn);
    pipeline->turn.data = pipeline;
    uv_prepare_start(&pipeline->turn, turn_cb);
    return 0;
}

void pipeline_reload(struct pipeline *pipeline)
{
    pipeline->reload_wanted = true;
    intake_want_scan(&pipeline->intake);
    watcher_want_cur(&pipeline->watcher);
    sender_hurry(&pipeline->sender);
}

static void stop_timer_cb(uv_timer_t *timer)
{
    struct pipeline *pipeline = timer->data;

    if (pipeline->sender.session_count > 0)
        log_warn("connections_cut", LOG_TEXT("why", "the smarthost took too long"));
    sender_abort(&pipeline->sender);
}

static void finish_stop(struct pipeline *pipeline)
{
    if (pipeline->recording.failed && pipeline->sender.session_count == 0)
        recording_drop(&pipeline->recording);
    if (uses_spool(pipeline))
        return;
    uv_close((uv_handle_t *)&pipeline->turn, NULL);
    uv_close((uv_handle_t *)&pipeline->stop_timer, NULL);
    uv_close((uv_handle_t *)&pipeline->due_timer, NULL);
    recording_stop(&pipeline->recording);
    close_recorder(pipeline);
    watcher_close(&pipeline->watcher);
    intake_free(&pipeline->intake);
    site_free(&pipeline->site);
    uv_mutex_destroy(&pipeline->recorder_lock);
}

void pipeline_stop(struct pipeline *pipeline)
{
    pipeline->stopping = true;
    watcher_stop(&pipeline->watcher);
    census_stop(&pipeline->census);
    sender_stop(&pipeline->sender);
    uv_timer_start(&pipeline->stop_timer, stop_timer_cb, STOP_PATIENCE, 0);
}

/* Of what waits, the intake knows as much as it has room for, but at once; the census knows all, but
 * as it was. */
void pipeline_measure(struct pipeline *pipeline)
{
    const struct census *census = &pipeline->census;
    uint64_t known = pipeline->intake.known_count - pipeline->intake.leaving_count;
    uint64_t waiting = census->counts[QUEUE_NEW].messages;

    metric_set_value(&relay_metrics[METRIC_BACKLOG], (double)(waiting > known ? waiting : known));
    metric_set_value(&relay_metrics[METRIC_BACKLOG_AGE], census_age(census, QUEUE_NEW));
    metric_set_value(&relay_metrics[METRIC_WAITING], (double)census->counts[QUEUE_CUR].messages);
    metric_set_value(&relay_metrics[METRIC_WAITING_AGE], census_age(census, QUEUE_CUR));
    metric_set_value(&relay_metrics[METRIC_IN_FAILED],
                     (double)census->counts[QUEUE_FAILED].messages);
    metric_set_value(&relay_metrics[METRIC_READY], pipeline->watcher.watching);
    census_begin(&pipeline->census);
}
