/* The messages of the spool, a line each, as they are found: see the header. */
#include "queue/tool/list.h"

#include "common/log.h"
#include "queue/tool/plain.h"
#include "queue/tool/reason.h"
#include "queue/tool/roster.h"
#include "queue/tool/summary.h"

#include <string.h>
#include <sysexits.h>

/* The reason of a failed message; words that say so where it cannot be read. */
static void load_reason(const struct tool *tool, const struct summary *summary,
                        struct buffer *reason)
{
    int error = reason_load(tool, summary->place, summary->name, reason);

    if (error != 0) {
        buffer_clear(reason);
        buffer_printf(reason, "(%s.reason: %s)", summary->name, log_errno_text(error));
    }
}

static void print_reason(const struct buffer *reason)
{
    const char *at = reason->data, *end = at + reason->length;

    while (reason->length > 0 && at <= end) {
        const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        const char *stop = newline != NULL ? newline : end;
        fputs("    ", stdout);
        plain_write(stdout, at, (size_t)(stop - at), PLAIN_FIELD, true);
        putchar('\n');
        at = stop + 1;
    }
}

static void print_json(const struct tool *tool, const struct summary *summary,
                       struct buffer *reason)
{
    json_t *object = summary_json(summary, tool);

    if (reason != NULL && reason->length > 0 && buffer_append(reason, "", 1))
        tool_json_set(object, "reason", tool_json_text(reason->data));
    tool_print_json(object);
}

static void print(const struct tool *tool, const struct summary *summary, bool with_reason)
{
    struct buffer reason;

    buffer_init(&reason, REASON_BYTES_MAX + 1024);
    if (with_reason)
        load_reason(tool, summary, &reason);
    if (tool->options.json) {
        print_json(tool, summary, &reason);
    } else {
        summary_print(summary, tool);
        print_reason(&reason);
    }
    buffer_free(&reason);
}

static int run(const struct tool *tool, unsigned places, bool with_reason)
{
    struct roster roster;
    struct summary summary;
    struct place place;
    char name[NAME_MAX + 1];
    int code = EX_OK;

    if (!tool->options.json)
        summary_print_head();
    roster_begin(&roster, tool, places);
    while (!ferror(stdout) && roster_next(&roster, &place, name)) {
        if (!summary_open(&summary, tool, place, name))
            continue;
        print(tool, &summary, with_reason);
        summary_close(&summary);
    }
    if (roster.error != 0)
        code = tool_fail(tool->spool_path, roster.error);
    roster_end(&roster);
    return code;
}

int list_run(const struct tool *tool)
{
    unsigned places = 0;

    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        places |= roster_bit((enum queue)queue, QUEUE_NEW) |
                  roster_bit((enum queue)queue, QUEUE_CUR) |
                  roster_bit((enum queue)queue, QUEUE_FAILED);
    return run(tool, places, false);
}

int list_failed_run(const struct tool *tool)
{
    return run(tool, roster_bit(QUEUE_STORE, QUEUE_FAILED) | roster_bit(QUEUE_RELAY, QUEUE_FAILED),
               true);
}
