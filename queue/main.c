/* queue: the operator's tool for looking into the spool and repairing it. Wiring only; what it does
 * stands in queue/tool/. */
#include "common/log.h"
#include "common/pgtarget.h"
#include "common/settings.h"
#include "queue/tool/check.h"
#include "queue/tool/list.h"
#include "queue/tool/move.h"
#include "queue/tool/plain.h"
#include "queue/tool/remove.h"
#include "queue/tool/show.h"
#include "queue/tool/stats.h"
#include "queue/tool/trace.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

enum { SETTINGS_COUNT = 2 };

static const struct setting settings[SETTINGS_COUNT] = {
    {.name = "SPOOL",
     .type = SETTING_TEXT,
     .fallback = "/var/spool/mayfly",
     .meaning = "spool directory",
     .offset = offsetof(struct tool, spool_path)},
    {.name = "DATABASE_URL",
     .type = SETTING_CONNINFO,
     .meaning = "libpq connection string, for trace alone; unset: libpq's PG* variables",
     .offset = offsetof(struct tool, database_url)},
};

static struct tool tool;

static const char synopsis[] =
    "usage: queue COMMAND [OPTION...] [ID...]\n       queue --help | --version | --check\n";

static int usage(const char *why)
{
    fprintf(stderr, "mayfly-queue: %s\n%s", why, synopsis);
    return EX_USAGE;
}

static void print_help(void)
{
    printf("%slooks into the spool and repairs it, also beside running programs\n\n%s"
           "all but replay, check and trace take --queue=store or --queue=relay\n\n"
           "An ID is that of a message, or a name in failed/. --check validates the\n"
           "settings and prints them; they come from the environment, then from .env:\n",
           synopsis, options_help);
    settings_print_table(settings, SETTINGS_COUNT, stdout);
}

/* Where no database is asked, one that is of no use to libpq does no harm. */
static int load(bool for_database)
{
    int code = settings_load(settings, SETTINGS_COUNT, NULL, &tool);

    if (code == EX_OK && for_database && tool.database_url != NULL &&
        !pgtarget_check(tool.database_url))
        code = settings_refuse(settings, SETTINGS_COUNT, "DATABASE_URL",
                               "a libpq connection string or URI");
    return code;
}

static int run(void)
{
    static int (*const runs[COMMAND_COUNT])(const struct tool *tool) = {
        [COMMAND_LIST] = list_run,          [COMMAND_FAILED] = list_failed_run,
        [COMMAND_SHOW] = show_run,          [COMMAND_STATS] = stats_run,
        [COMMAND_RETRY] = move_retry_run,   [COMMAND_REMOVE] = remove_run,
        [COMMAND_REPLAY] = move_replay_run, [COMMAND_TRACE] = trace_run,
    };
    struct timespec clock;
    int code, error;

    clock_gettime(CLOCK_REALTIME, &clock);
    tool.now = (int64_t)clock.tv_sec * 1000000 + clock.tv_nsec / 1000;
    /* What is wrong it says itself; a warning would be news to nobody who asked for the repair. */
    log_set_level(LOG_LEVEL_ERROR);
    if (tool.options.command == COMMAND_CHECK)
        return check_run(&tool);
    error = spool_open_existing(&tool.spool, tool.spool_path);
    if (error == ENOENT || error == ENOTDIR) {
        tool_complain(tool.spool_path, "no spool here, or not all of one: see `queue check`");
        return EX_CONFIG;
    }
    if (error != 0)
        return tool_fail(tool.spool_path, error);
    code = runs[tool.options.command](&tool);
    spool_close(&tool.spool);
    return code;
}

int main(int argc, char **argv)
{
    const char *option = argc == 2 ? argv[1] : "";
    char why[400];
    int code;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is no second thread */
    (void)setlocale(LC_CTYPE, "");
    plain_set_utf8(strcmp(nl_langinfo(CODESET), "UTF-8") == 0);
    if (strcmp(option, "--help") == 0) {
        print_help();
        return tool_finish(EX_OK);
    }
    if (strcmp(option, "--version") == 0) {
        printf("mayfly-queue %s\n", MAYFLY_VERSION);
        return tool_finish(EX_OK);
    }
    if (strcmp(option, "--check") == 0) {
        code = load(true);
        if (code == EX_OK)
            settings_print_values(settings, SETTINGS_COUNT, stdout);
        return tool_finish(code);
    }
    code = options_parse(&tool.options, argc, argv, why);
    if (code != EX_OK)
        return usage(why);
    code = load(tool.options.command == COMMAND_TRACE);
    return code != EX_OK ? code : tool_finish(run());
}
