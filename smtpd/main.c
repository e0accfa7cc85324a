/* smtpd speaks SMTP and writes what it accepts into the spool. */
#include "common/program.h"
#include "smtpd/config.h"
#include "smtpd/confine.h"
#include "smtpd/counters.h"
#include "smtpd/server.h"

#include <sysexits.h>

static struct config config;
static struct server server;

static int prepare(void *settings)
{
    confine_prepare(settings);
    return EX_OK;
}

static int start(uv_loop_t *loop, void *settings)
{
    struct confine_plan plan;
    int code = server_start(&server, loop, settings);

    if (code != EX_OK)
        return code;
    plan = confine_plan(settings, &server.spool);
    code = confine_apply(&plan);
    if (code == EX_OK)
        program_ready();
    return code;
}

static void stop(void)
{
    server_stop(&server);
}

static void reload(void)
{
    server_reload(&server);
}

static void refresh(void)
{
    server_measure(&server);
}

int main(int argc, char **argv)
{
    const struct metric_set metrics = {
        .metrics = counters_set.metrics, .count = counters_set.count, .refresh = refresh};
    const struct program program = {
        .name = "smtpd",
        .summary = "Receives mail by SMTP and puts it into the spool, durably.",
        .prefix = "SMTPD_",
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

    return program_main(&program, argc, argv);
}
