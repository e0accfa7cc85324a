/* Prometheus text files: see the header. */
#include "common/metrics.h"

#include "common/buffer.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { METRICS_TEXT_MAX = 1024 * 1024, METRICS_SOON_SECONDS = 1 };

const double metric_seconds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                 0.1,    0.25,  0.5,    1,     2.5,  10,    0};
const double metric_group[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 0};

static struct {
    char *path;
    const char *program, *service;
    time_t began;
    const struct metric_set *set;
    uv_timer_t timer;
    uv_work_t work;
    bool writing; /* the pool has `text` */
    bool started;
    bool complained;
    int error; /* of the last writing */
    struct buffer text;
} self;

void metric_add(struct metric *metric, double amount)
{
    metric->value += amount;
}

void metric_set_value(struct metric *metric, double value)
{
    metric->value = value;
}

void metric_observe(struct metric *metric, double value)
{
    for (int i = 0; metric->bounds[i] > 0; i++) {
        if (value <= metric->bounds[i])
            metric->buckets[i]++;
    }
    metric->value += value;
    metric->count++;
}

bool metrics_label_valid(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text < ' ' || *text > '~' || *text == '"' || *text == '\\')
            return false;
    return true;
}

/* A sample's name: that of the metric, and its labels, each of which may be NULL. */
static void format_name(struct buffer *text, const struct metric *metric, const char *suffix,
                        const char *bound)
{
    const char *before = "{";

    buffer_printf(text, "%s%s", metric->name, suffix);
    if (self.service != NULL) {
        buffer_printf(text, "%sservice=\"%s\"", before, self.service);
        before = ",";
    }
    if (metric->labels != NULL) {
        buffer_printf(text, "%s%s", before, metric->labels);
        before = ",";
    }
    if (bound != NULL) {
        buffer_printf(text, "%sle=\"%s\"", before, bound);
        before = ",";
    }
    buffer_append_string(text, *before == ',' ? "} " : " ");
}

static void format_histogram(struct buffer *text, const struct metric *metric)
{
    char bound[32];

    for (int i = 0; metric->bounds[i] > 0; i++) {
        snprintf(bound, sizeof bound, "%.10g", metric->bounds[i]);
        format_name(text, metric, "_bucket", bound);
        buffer_printf(text, "%" PRIu64 "\n", metric->buckets[i]);
    }
    format_name(text, metric, "_bucket", "+Inf");
    buffer_printf(text, "%" PRIu64 "\n", metric->count);
    format_name(text, metric, "_sum", NULL);
    buffer_printf(text, "%.17g\n", metric->value);
    format_name(text, metric, "_count", NULL);
    buffer_printf(text, "%" PRIu64 "\n", metric->count);
}

static void format_metric(struct buffer *text, const struct metric *metric, const char *former)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };

    if (strcmp(metric->name, former) != 0)
        buffer_printf(text, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help,
                      metric->name, types[metric->type]);
    if (metric->type == METRIC_HISTOGRAM) {
        format_histogram(text, metric);
        return;
    }
    format_name(text, metric, "", NULL);
    buffer_printf(text, "%.17g\n", metric->value);
}

/* What is the same in every program, told apart by a label, so that one rule watches over all of
 * them. The file of a program that was killed stays, and looks as alive as any but for its time. */
static void format_program(struct buffer *text)
{
    char labels[64], with_version[128];
    const struct metric metrics[] = {
        {.name = "mayfly_build_info",
         .labels = with_version,
         .help = "Which program wrote this, and its version.",
         .type = METRIC_GAUGE,
         .value = 1},
        {.name = "mayfly_start_timestamp_seconds",
         .labels = labels,
         .help = "When the program was started.",
         .type = METRIC_GAUGE,
         .value = (double)self.began},
        {.name = "mayfly_written_timestamp_seconds",
         .labels = labels,
         .help = "When this was written.",
         .type = METRIC_GAUGE,
         .value = (double)time(NULL)},
    };

    snprintf(labels, sizeof labels, "program=\"%s\"", self.program);
    snprintf(with_version, sizeof with_version, "%s,version=\"" MAYFLY_VERSION "\"", labels);
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        format_metric(text, &metrics[i], "");
}

static void format_set(struct buffer *text, const struct metric_set *set)
{
    if (set->refresh != NULL)
        set->refresh();
    buffer_clear(text);
    format_program(text);
    for (size_t i = 0; i < set->count; i++)
        format_metric(text, &set->metrics[i], i > 0 ? set->metrics[i - 1].name : "");
}

/* Writes self.text beside the file and renames it over it. Not synced: after a power cut the
 * numbers begin anew anyway. */
static int write_file(void)
{
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.%d.tmp", self.path, (int)getpid());
    if (length < 0 || (size_t)length >= sizeof temporary)
        return ENAMETOOLONG;
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor < 0)
        return errno;
    ssize_t n = write(descriptor, self.text.data, self.text.length);
    int error = n == (ssize_t)self.text.length ? 0 : n < 0 ? errno : ENOSPC;
    close(descriptor);
    if (error == 0 && rename(temporary, self.path) < 0)
        error = errno;
    if (error != 0)
        unlink(temporary);
    return error;
}

static void complain_once(void)
{
    if (self.error != 0 && !self.complained)
        log_warn("metrics_unwritable", LOG_TEXT("path", self.path), LOG_ERRNO(self.error));
    self.complained = self.error != 0;
}

static void work_cb(uv_work_t *work)
{
    (void)work;
    self.error = write_file();
}

static void after_work_cb(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
    self.writing = false;
    complain_once();
}

static void timer_cb(uv_timer_t *timer)
{
    uv_timer_set_repeat(timer, (uint64_t)METRICS_SECONDS * 1000); /* from the next time on */
    if (self.writing)
        return;
    format_set(&self.text, self.set);
    self.writing = uv_queue_work(timer->loop, &self.work, work_cb, after_work_cb) == 0;
}

void metrics_start(uv_loop_t *loop, const char *path, const char *program, const char *service,
                   const struct metric_set *set)
{
    if (path == NULL || set == NULL)
        return;
    self.path = strdup(path);
    if (self.path == NULL)
        return;
    self.program = program;
    self.service = service;
    self.began = time(NULL);
    self.set = set;
    self.started = true;
    buffer_init(&self.text, METRICS_TEXT_MAX);
    uv_timer_init(loop, &self.timer);
    /* What takes a while to be known is 0 in the first file, which should not last. */
    uv_timer_start(&self.timer, timer_cb, 0, (uint64_t)METRICS_SOON_SECONDS * 1000);
    uv_unref((uv_handle_t *)&self.timer);
}

void metrics_stop(void)
{
    if (self.started && !uv_is_closing((uv_handle_t *)&self.timer))
        uv_close((uv_handle_t *)&self.timer, NULL);
}

void metrics_write(void)
{
    /* The pool may still have the text when a program is stopped late: then its file is the last.
     */
    if (!self.started || self.writing)
        return;
    format_set(&self.text, self.set);
    self.error = write_file();
    complain_once();
    buffer_free(&self.text);
    free(self.path);
    self.started = false;
}
