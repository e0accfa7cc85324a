/* reaper: keeps partitions ahead of time, drops expired ones, sweeps what is stale in the spool. */
#include "common/program.h"
#include "reaper/config.h"
#include "reaper/counters.h"
#include "reaper/schedule.h"

#include <sysexits.h>

static struct config config;

static int start(uv_loop_t *loop, void *data)
{
    schedule_start(loop, data);
    return EX_OK;
}

static void stop(void)
{
    schedule_stop();
}

int main(int argc, char **argv)
{
    const struct program program = {
        .name = "reaper",
        .summary = "drops expired mail from PostgreSQL, makes partitions, sweeps the spool",
        .prefix = "REAPER_",
        .settings = config_settings,
        .settings_count = config_settings_count,
        .config = &config,
        .metrics = &counter_set,
        .check = config_check,
        .start = start,
        .stop = stop,
    };
    return program_main(&program, argc, argv);
}
