/* storer: moves messages from the queue store/ into PostgreSQL. Wiring only. */
#include "common/pgtarget.h"
#include "common/program.h"
#include "storer/metrics.h"
#include "storer/pipeline.h"

#include <stddef.h>

static struct storer_config config;
static struct pipeline pipeline;

static const struct setting settings[] = {
    SETTINGS_COMMON(struct storer_config, common),
    {.name = "DATABASE_URL",
     .type = SETTING_CONNINFO,
     .meaning = "libpq connection string, several hosts allowed; PG* variables where it is silent",
     .offset = offsetof(struct storer_config, database_url)},
    {.name = "STORER_BATCH_MESSAGES",
     .type = SETTING_NUMBER,
     .fallback = "256",
     .minimum = 1,
     .maximum = 10000,
     .meaning = "messages of one transaction at most",
     .offset = offsetof(struct storer_config, batch_messages)},
    {.name = "STORER_BATCH_BYTES",
     .type = SETTING_NUMBER,
     .fallback = "8388608",
     .minimum = 1,
     .maximum = 268435456,
     .meaning = "bytes of one transaction at most; a larger message is one alone",
     .offset = offsetof(struct storer_config, batch_bytes)},
    {.name = "STORER_RESCAN",
     .type = SETTING_NUMBER,
     .fallback = "30",
     .minimum = 1,
     .maximum = 86400,
     .meaning = "seconds between full looks at new/, for events that were lost",
     .offset = offsetof(struct storer_config, rescan)},
    {.name = "STORER_KEEP",
     .type = SETTING_NUMBER,
     .fallback = "0",
     .minimum = 0,
     .maximum = 31622400,
     .meaning = "seconds that a stored file stays in cur/, to be inserted once more at the end",
     .offset = offsetof(struct storer_config, keep)},
    {.name = "STORER_NOTIFY",
     .type = SETTING_FLAG,
     .fallback = "1",
     .meaning = "1: NOTIFY readers of new mail on channel mayfly; 0: do not",
     .offset = offsetof(struct storer_config, notify)},
};

enum { SETTINGS = sizeof settings / sizeof settings[0] };

static int check(void *data)
{
    (void)data;
    if (config.database_url && !pgtarget_check(config.database_url))
        return settings_refuse(settings, SETTINGS, "DATABASE_URL",
                               "a libpq connection string or postgresql:// URI");
    return 0;
}

static int start(uv_loop_t *loop, void *data)
{
    (void)data;
    return pipeline_start(&pipeline, loop, &config);
}

static void stop(void)
{
    pipeline_stop(&pipeline);
}

static void refresh(void)
{
    pipeline_measure(&pipeline);
}

static const struct metric_set metrics = {
    .metrics = storer_metrics, .count = STORER_METRICS, .refresh = refresh};

int main(int argc, char **argv)
{
    static const struct program program = {
        .name = "storer",
        .summary = "moves messages from the spool's queue store/ into PostgreSQL",
        .prefix = "STORER_",
        .settings = settings,
        .settings_count = SETTINGS,
        .config = &config,
        .metrics = &metrics,
        .check = check,
        .start = start,
        .stop = stop,
    };
    return program_main(&program, argc, argv);
}
