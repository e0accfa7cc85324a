/* What relay counts. Loop thread. */
#ifndef RELAY_METRICS_H
#define RELAY_METRICS_H

#include "common/metrics.h"

enum relay_metric {
    METRIC_ACCEPTED,
    METRIC_DEFERRED,
    METRIC_FAILED,
    METRIC_MALFORMED,
    METRIC_CONNECTIONS,
    METRIC_OPEN,
    METRIC_TROUBLES,
    METRIC_UP,
    METRIC_BACKLOG,
    METRIC_BACKLOG_AGE,
    METRIC_WAITING,
    METRIC_WAITING_AGE,
    METRIC_IN_FAILED,
    METRIC_READY,
    METRIC_SECONDS,
    RELAY_METRICS
};

extern struct metric relay_metrics[RELAY_METRICS];

#endif
