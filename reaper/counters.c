/* The table of counters. */
#include "reaper/counters.h"

#define PASS(outcome)                                                                              \
    {                                                                                              \
        .name = "mayfly_reaper_passes_total", .labels = "result=\"" outcome "\"",                  \
        .help = "Passes over the database.", .type = METRIC_COUNTER                                \
    }
#define SWEPT(folder)                                                                              \
    {                                                                                              \
        .name = "mayfly_reaper_swept_files_total", .labels = "directory=\"" folder "\"",           \
        .help = "Files removed from the spool.", .type = METRIC_COUNTER                            \
    }

struct metric counters[COUNTER_COUNT] = {
    [COUNTER_DONE] = PASS("done"),
    [COUNTER_BUSY] = PASS("busy"),
    [COUNTER_WAITING] = PASS("waiting"),
    [COUNTER_REFUSED] = PASS("refused"),
    [COUNTER_LAST] = {.name = "mayfly_reaper_last_pass_timestamp_seconds",
                      .help = "When a pass last left nothing undone, in seconds since 1970.",
                      .type = METRIC_GAUGE},
    [COUNTER_INTERVAL] = {.name = "mayfly_reaper_interval_seconds",
                          .help = "Time between passes: REAPER_INTERVAL.",
                          .type = METRIC_GAUGE},
    [COUNTER_RETENTION] = {.name = "mayfly_reaper_retention_seconds",
                           .help = "How long mail is kept: REAPER_RETENTION.",
                           .type = METRIC_GAUGE},
    [COUNTER_PARTITIONS] = {.name = "mayfly_reaper_partitions",
                            .help = "Partitions after the last pass; a day has two.",
                            .type = METRIC_GAUGE},
    [COUNTER_EXPIRED] = {.name = "mayfly_reaper_partitions_expired",
                         .help = "Partitions that should be gone and could not yet be dropped.",
                         .type = METRIC_GAUGE},
    [COUNTER_DROPPED] = {.name = "mayfly_reaper_partitions_dropped_total",
                         .help = "Partitions dropped; a day has two.",
                         .type = METRIC_COUNTER},
    [COUNTER_STORE_TMP] = SWEPT("store/tmp"),
    [COUNTER_STORE_FAILED] = SWEPT("store/failed"),
    [COUNTER_RELAY_TMP] = SWEPT("relay/tmp"),
    [COUNTER_RELAY_FAILED] = SWEPT("relay/failed"),
};

const struct metric_set counter_set = {.metrics = counters, .count = COUNTER_COUNT};
