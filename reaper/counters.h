/* What reaper counts. Loop thread only. */
#ifndef REAPER_COUNTERS_H
#define REAPER_COUNTERS_H

#include "common/metrics.h"

enum counter {
    COUNTER_DONE, /* passes: in the order of enum pass_outcome */
    COUNTER_BUSY,
    COUNTER_WAITING,
    COUNTER_REFUSED,
    COUNTER_LAST,     /* gauge: when the last pass ended that left nothing undone */
    COUNTER_INTERVAL, /* gauges: settings */
    COUNTER_RETENTION,
    COUNTER_PARTITIONS, /* gauges */
    COUNTER_EXPIRED,
    COUNTER_DROPPED, /* partitions */
    COUNTER_STORE_TMP,
    COUNTER_STORE_FAILED,
    COUNTER_RELAY_TMP,
    COUNTER_RELAY_FAILED,
    COUNTER_COUNT
};

extern struct metric counters[COUNTER_COUNT];
extern const struct metric_set counter_set;

#endif
