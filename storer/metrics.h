/* What storer counts. Loop thread. */
#ifndef STORER_METRICS_H
#define STORER_METRICS_H

#include "common/metrics.h"

enum storer_metric {
    METRIC_STORED,
    METRIC_EXPIRED,
    METRIC_SET_ASIDE_DATABASE,
    METRIC_SET_ASIDE_FILE,
    METRIC_BYTES,
    METRIC_BATCHES,
    METRIC_RETRIES,
    METRIC_BACKLOG,
    METRIC_CONNECTED,
    METRIC_TRANSACTION_SECONDS,
    METRIC_BATCH_MESSAGES,
    STORER_METRICS
};

extern struct metric storer_metrics[STORER_METRICS];

#endif
