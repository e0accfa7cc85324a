/* relay: sends messages of the queue relay/ to the smarthost. Wiring only. */
#include "common/program.h"
#include "relay/channel.h"
#include "relay/config.h"
#include "relay/metrics.h"
#include "relay/pipeline.h"

#include <sys/resource.h>

static struct config config;
static struct pipeline pipeline;

/* Each connection and each message in hand is a descriptor; libcurl watches none with select(2). */
static int prepare(void *data)
{
    struct rlimit limit;

    (void)data;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return 0;
}

static int start(uv_loop_t *loop, void *data)
{
    int code = channel_global_start();

    (void)data;
    return code != 0 ? code : pipeline_start(&pipeline, loop, &config);
}

static void stop(void)
{
    pipeline_stop(&pipeline);
}

static void reload(void)
{
    pipeline_reload(&pipeline);
}

static void refresh(void)
{
    pipeline_measure(&pipeline);
}

static const struct metric_set metrics = {
    .metrics = relay_metrics, .count = RELAY_METRICS, .refresh = refresh};

int main(int argc, char **argv)
{
    const struct program program = {
        .name = "relay",
        .summary = "sends messages of the spool's queue relay/ to the smarthost",
        .prefix = "RELAY_",
        .settings = config_settings,
        .settings_count = config_settings_count,
        .config = &config,
        .metrics = &metrics,
        .check = config_check,
        .prepare = prepare,
        .start = start,
        .stop = stop,
        .reload = reload,
    };
    int code = program_main(&program, argc, argv);

    channel_global_stop();
    return code;
}
