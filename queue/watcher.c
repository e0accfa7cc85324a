/* Lock, events and scans: see the header. */
#include "queue/watcher.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOCK_INTERVAL = 250, LEFT_INTERVAL = 250 /* milliseconds */ };

static void try_lock(struct watcher *watcher);

/* Scans. */

static void scan_work(uv_work_t *work)
{
    struct watcher_scan *scan = work->data;
    scanner_step(&scan->scanner, scan->max);
}

static void scan_done_cb(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    struct watcher_scan *scan = work->data;
    struct scanner *scanner = &scan->scanner;
    struct watcher *watcher = scan->watcher;
    scan->busy = false;
    /* There is room: it was looked at before the step, and hints that came meanwhile and took it
     * want a scan themselves. */
    for (size_t i = 0; i < scanner->found_count; i++)
        if (!intake_add(watcher->intake, scanner->found[i].id, scanner->directory))
            intake_want_scan(watcher->intake);
    if (!scanner->open && scan == &watcher->scan_new)
        intake_scan_end(watcher->intake);
    if (!scanner->open && scan == &watcher->scan_cur)
        watcher->cur_scans++;
    if (scanner->replaced && watcher->state == WATCHER_RUNNING) {
        log_warn("spool_replaced", LOG_TEXT("path", watcher->options.path));
        watcher->state = WATCHER_REPLACED;
    }
}

/* Names of the next step: half of the room, for there are two scans. With hardly any the scan
 * waits. */
static size_t step_size(const struct watcher *watcher)
{
    size_t room = intake_room(watcher->intake) / 2;
    return room >= SCANNER_STEP ? SCANNER_STEP : room >= SCANNER_STEP / 2 ? room : 0;
}

static void scan_go_on(struct watcher_scan *scan, size_t max)
{
    scan->max = max;
    scan->busy = true;
    uv_queue_work(scan->watcher->loop, &scan->work, scan_work, scan_done_cb);
}

void watcher_turn(struct watcher *watcher)
{
    struct watcher_scan *new = &watcher->scan_new, *cur = &watcher->scan_cur;
    size_t max = step_size(watcher);
    if (watcher->state != WATCHER_RUNNING || max == 0)
        return;
    if (!new->busy && (new->scanner.open || intake_scan_due(watcher->intake))) {
        if (!new->scanner.open)
            intake_scan_begin(watcher->intake);
        scan_go_on(new, max);
    }
    if (!cur->busy && (cur->scanner.open || watcher->cur_due)) {
        watcher->cur_due = false;
        intake_left(watcher->intake);
        scan_go_on(cur, max);
    }
}

bool watcher_is_quiet(const struct watcher *watcher)
{
    return !watcher->scan_new.busy && !watcher->scan_cur.busy;
}

/* Events. */

static void event_cb(uv_fs_event_t *event, const char *name, int events, int status)
{
    (void)events;
    struct watcher *watcher = event->data;
    intake_hint(watcher->intake, status == 0 ? name : NULL);
}

/* Without events the scans do all the work, later. Tried again with every scan: most likely there
 * were too many watches on the machine. */
static void watch(struct watcher *watcher)
{
    if (watcher->watching)
        return;
    char *path = spool_directory_path(&watcher->spool, watcher->options.queue, QUEUE_NEW);
    int error = path ? uv_fs_event_start(&watcher->event, event_cb, path, 0) : UV_ENOMEM;
    if (error && !watcher->said_blind)
        log_error("not_watching", LOG_TEXT("path", path), LOG_TEXT("error", uv_strerror(error)));
    watcher->said_blind = error != 0;
    watcher->watching = error == 0;
    free(path);
}

static void rescan_cb(uv_timer_t *timer)
{
    struct watcher *watcher = timer->data;
    watch(watcher);
    intake_want_scan(watcher->intake);
}

static void cur_cb(uv_timer_t *timer)
{
    watcher_want_cur(timer->data);
}

void watcher_want_cur(struct watcher *watcher)
{
    watcher->cur_due = true;
}

static void left_cb(uv_timer_t *timer)
{
    struct watcher *watcher = timer->data;
    intake_left(watcher->intake);
}

/* The event of the removal comes within that time, or costs one look in vain. */
void watcher_leave(struct watcher *watcher, const char *id)
{
    intake_leave(watcher->intake, id);
    if (watcher->state != WATCHER_STOPPED && !uv_is_active((uv_handle_t *)&watcher->left_timer))
        uv_timer_start(&watcher->left_timer, left_cb, LEFT_INTERVAL, 0);
}

/* The lock. */

static void begin_supply(struct watcher *watcher)
{
    watcher->state = WATCHER_RUNNING;
    uint64_t rescan = (uint64_t)watcher->options.rescan * 1000;
    uint64_t look = watcher->options.cur_interval;
    /* The watch before the scan: what comes in between is seen by both, not by neither. */
    watch(watcher);
    intake_want_scan(watcher->intake);
    watcher->cur_due = true;
    uv_timer_start(&watcher->rescan_timer, rescan_cb, rescan, rescan);
    uv_timer_start(&watcher->cur_timer, cur_cb, look, look);
}

static void lock_cb(uv_timer_t *timer)
{
    try_lock(timer->data);
}

static void try_lock(struct watcher *watcher)
{
    watcher->lock = spool_lock(&watcher->spool, watcher->options.queue);
    if (watcher->lock >= 0) {
        if (watcher->said_waiting)
            log_info("lock_taken");
        watcher->said_waiting = false;
        begin_supply(watcher);
        return;
    }
    if (!watcher->said_waiting && errno == EWOULDBLOCK)
        log_warn("lock_waiting", LOG_TEXT("queue", queue_names[watcher->options.queue]),
                 LOG_TEXT("why", "another process works on this queue"));
    else if (!watcher->said_waiting)
        log_error("lock_failed", LOG_ERRNO(errno));
    watcher->said_waiting = true;
    uv_timer_start(&watcher->lock_timer, lock_cb, LOCK_INTERVAL, 0);
}

/* Beginning, beginning again, and ending. */

/* Half of what the kernel's queue of events holds (fs.inotify.max_queued_events, see inotify(7)). */
size_t watcher_burst(void)
{
    long events = 0;
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    if (file) {
        /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
        if (fscanf(file, "%ld", &events) != 1)
            events = 0;
        fclose(file);
    }
    return events > 1 && events < 2L * INTAKE_QUEUE ? (size_t)events / 2 : INTAKE_QUEUE;
}

int watcher_start(struct watcher *watcher, uv_loop_t *loop, const struct watcher_options *options,
                  struct intake *intake)
{
    *watcher = (struct watcher){.loop = loop, .intake = intake, .options = *options, .lock = -1};
    int error = spool_open(&watcher->spool, options->path);
    if (error)
        return error;
    watcher->open = true;
    struct watcher_scan *scans[] = {&watcher->scan_new, &watcher->scan_cur};
    for (size_t i = 0; i < 2; i++) {
        scans[i]->watcher = watcher;
        scans[i]->work.data = scans[i];
        scans[i]->scanner.spool = &watcher->spool;
        scans[i]->scanner.queue = options->queue;
        scans[i]->scanner.directory = i == 0 ? QUEUE_NEW : QUEUE_CUR;
        scans[i]->scanner.judge_cb = options->judge_cb;
        scans[i]->scanner.data = options->judge_data;
    }
    uv_fs_event_init(loop, &watcher->event);
    uv_timer_init(loop, &watcher->lock_timer);
    uv_timer_init(loop, &watcher->rescan_timer);
    uv_timer_init(loop, &watcher->cur_timer);
    uv_timer_init(loop, &watcher->left_timer);
    watcher->event.data = watcher->lock_timer.data = watcher;
    watcher->rescan_timer.data = watcher->cur_timer.data = watcher;
    watcher->left_timer.data = watcher;
    try_lock(watcher);
    return 0;
}

static void halt(struct watcher *watcher)
{
    uv_fs_event_stop(&watcher->event);
    uv_timer_stop(&watcher->lock_timer);
    uv_timer_stop(&watcher->rescan_timer);
    uv_timer_stop(&watcher->cur_timer);
    uv_timer_stop(&watcher->left_timer);
    watcher->watching = false;
}

static void reopen_cb(uv_timer_t *timer)
{
    watcher_reopen(timer->data);
}

void watcher_reopen(struct watcher *watcher)
{
    halt(watcher);
    watcher_close(watcher);
    intake_scan_end(watcher->intake);
    watcher->state = WATCHER_LOCKING;
    watcher->open = spool_open(&watcher->spool, watcher->options.path) == 0;
    if (watcher->open)
        try_lock(watcher);
    else
        uv_timer_start(&watcher->lock_timer, reopen_cb, (uint64_t)watcher->options.rescan * 1000,
                       0);
}

void watcher_stop(struct watcher *watcher)
{
    halt(watcher);
    watcher->state = WATCHER_STOPPED;
    uv_close((uv_handle_t *)&watcher->event, NULL);
    uv_close((uv_handle_t *)&watcher->lock_timer, NULL);
    uv_close((uv_handle_t *)&watcher->rescan_timer, NULL);
    uv_close((uv_handle_t *)&watcher->cur_timer, NULL);
    uv_close((uv_handle_t *)&watcher->left_timer, NULL);
}

void watcher_close(struct watcher *watcher)
{
    scanner_stop(&watcher->scan_new.scanner);
    scanner_stop(&watcher->scan_cur.scanner);
    if (watcher->lock >= 0)
        close(watcher->lock);
    watcher->lock = -1;
    if (watcher->open)
        spool_close(&watcher->spool);
    watcher->open = false;
}
