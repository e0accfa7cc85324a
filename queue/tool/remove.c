/* Deleting messages, with what stands beside them: see the header.
 *
 * What is shown before the question is what is deleted: a message that has gone on to another state
 * meanwhile is named, and stays. storer or relay may have it in hand at this moment: it may be
 * stored or sent all the same, and what is left of a try may be in relay/cur/ again. */
#include "queue/tool/remove.h"

#include "queue/tool/ask.h"
#include "queue/tool/plain.h"
#include "queue/tool/reason.h"
#include "queue/tool/summary.h"

#include <errno.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

/* The message first: a reason that is left alone is swept, and one that was written meanwhile
 * stays. */
static int erase(const struct tool *tool, struct place place, const char *name)
{
    char file[PLACE_SIZE];
    int mark = reason_mark(tool, place, name);

    place_format(file, place, name);
    if (unlinkat(tool->spool.directories[place.queue][place.directory], name, 0) < 0) {
        int error = errno;
        if (mark >= 0)
            close(mark);
        return error == ENOENT ? EX_OK : tool_fail(file, error);
    }
    int error = reason_drop(tool, place, name, mark);
    if (error != 0)
        return tool_fail(file, error);
    plain_field(stdout, file, 0);
    puts(": removed");
    return EX_OK;
}

static bool is_live(struct place place)
{
    return place.directory == QUEUE_NEW ||
           (place.queue == QUEUE_RELAY && place.directory == QUEUE_CUR);
}

static bool consent(const struct tool *tool, const struct place *places, size_t count,
                    const char *name)
{
    bool live = false;

    if (tool->options.yes)
        return true;
    summary_print_head();
    for (size_t i = 0; i < count; i++) {
        struct summary summary;
        live = live || is_live(places[i]);
        if (!summary_open(&summary, tool, places[i], name))
            continue;
        summary_print(&summary, tool);
        summary_close(&summary);
    }
    return ask(live ? "Remove it? Its mail will be lost." : "Remove it?");
}

static int find_again(const struct tool *tool, const char *name)
{
    struct place places[PLACE_COUNT];
    char file[PLACE_SIZE];

    if (place_find(tool, name, places) == 0)
        return EX_OK;
    place_format(file, places[0], name);
    tool_complain(file, "it is here now");
    return EX_TEMPFAIL;
}

static int remove_named(const struct tool *tool, const char *name)
{
    struct place places[PLACE_COUNT];
    size_t count = place_find(tool, name, places);
    int code = EX_OK;

    if (count == 0) {
        tool_complain(name, "no such message in the spool");
        return EX_NOINPUT;
    }
    if (!consent(tool, places, count, name)) {
        tool_complain(name, "not removed");
        return EX_NOPERM;
    }
    for (size_t i = 0; i < count; i++)
        code = tool_worse(code, erase(tool, places[i], name));
    return code == EX_OK ? find_again(tool, name) : code;
}

int remove_run(const struct tool *tool)
{
    int code = EX_OK;

    if (!tool->options.yes && !ask_possible()) {
        tool_complain("remove", "nobody there to be asked: --yes is needed");
        return EX_USAGE;
    }
    for (size_t i = 0; i < tool->options.names_count; i++)
        code = tool_worse(code, remove_named(tool, tool->options.names[i]));
    return code;
}
