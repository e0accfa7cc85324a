/* Counters, gauges and histograms in Prometheus text format (version 0.0.4), written to
 * METRICS_FILE at the start, soon after it, every METRICS_SECONDS and at exit, by rename, so that a
 * reader sees a whole file.
 *
 * A program has one table of metrics; rows of the same name (with different labels) stand next to
 * each other. Loop thread only; the file is written by the thread pool. */
#ifndef COMMON_METRICS_H
#define COMMON_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum { METRICS_SECONDS = 5, METRIC_BUCKETS_MAX = 16 };

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
    const char *name;   /* `mayfly_smtpd_messages_total` */
    const char *labels; /* `class="2xx"`, or NULL */
    const char *help;
    enum metric_type type;
    const double *bounds; /* HISTOGRAM: upper bounds in rising order, ends with 0; without +Inf */
    double value;         /* HISTOGRAM: the sum */
    uint64_t count;       /* HISTOGRAM: observations */
    uint64_t buckets[METRIC_BUCKETS_MAX];
};

struct metric_set {
    struct metric *metrics;
    size_t count;
    /* Called before each writing, to set gauges that are looked up. May be NULL. */
    void (*refresh)(void);
};

/* Bounds in seconds for latencies of commits and transactions: 0.5 ms to 10 s. */
extern const double metric_seconds[];
/* Bounds for sizes of groups and batches: 1 to 4,096. */
extern const double metric_group[];

void metric_add(struct metric *metric, double amount);
void metric_set_value(struct metric *metric, double value);
void metric_observe(struct metric *metric, double value);

/* Whether a text may be the value of a label as it is. */
bool metrics_label_valid(const char *text);

/* Starts writing `set` to `path` on the loop, headed by what every program says of itself, under its
 * `program` name; all with the label `service`, unless it is NULL. With a NULL path nothing is ever
 * written. The timer does not keep the loop alive. Called by program_main; the strings stay the
 * caller's. */
void metrics_start(uv_loop_t *loop, const char *path, const char *program, const char *service,
                   const struct metric_set *set);

/* Closes the timer. The loop must run on until it is closed. */
void metrics_stop(void);

/* Writes the file now, blocking. After the loop's end. */
void metrics_write(void);

#endif
