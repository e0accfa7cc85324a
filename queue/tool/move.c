/* Back into new/: see the header. One rename a message, which never replaces another.
 *
 * A message of relay/failed/ goes back only when nothing of its id is in relay's hands: cur/ID
 * counts before new/ID, which would be removed unsent. relay takes new/ID away only once cur/ID is
 * there, if anything is left of it, or else once it is done with it (relay/steps.c). So whoever
 * finds no new/ID, and then no cur/ID, may put one there; in the other order relay could have done
 * both in between. Only another one of these tools could be the third, hence the lock.
 *
 * The reason goes after the message: a message without its reason would be a riddle, a reason
 * without its message is swept. The next failure may write a new one at once, which stays
 * (queue/tool/reason.h).
 *
 * Nothing is flushed: after a power cut the message is where it was or where it is to be. */
#include "queue/tool/move.h"

#include "queue/id.h"
#include "queue/reader.h"
#include "queue/tool/plain.h"
#include "queue/tool/reason.h"
#include "queue/tool/roster.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sysexits.h>
#include <unistd.h>

/* As retire_set_aside does: a file system that cannot refuse to replace is asked before. */
static int rename_new(int from, const char *name, int to, const char *new_name)
{
    if (renameat2(from, name, to, new_name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    if (faccessat(to, new_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    return renameat(from, name, to, new_name) < 0 ? errno : 0;
}

/* Somebody was faster, with this message or with another of its id; or it is an error. */
static int refuse(const char *name, int error)
{
    if (error == EEXIST) {
        tool_complain(name, "not now: its id is still in the queue");
        return EX_TEMPFAIL;
    }
    if (error == ENOENT) {
        tool_complain(name, "is gone");
        return EX_NOINPUT;
    }
    return tool_fail(name, error);
}

/* The id under which it is put back: that of its envelope, since in failed/ its name may be
 * another. What is no message would be set aside again. */
static int find_id(const struct tool *tool, struct place place, const char *name,
                   char id[static ID_SIZE])
{
    struct reader reader;

    switch (reader_open_named(&reader, &tool->spool, place.queue, place.directory, name,
                              id_valid(name) ? name : NULL)) {
    case READER_GONE:
        return refuse(name, ENOENT);
    case READER_ERROR:
        return refuse(name, reader.error);
    case READER_BAD:
        tool_complain(name, reader.why);
        return EX_DATAERR;
    case READER_OK:
        break;
    }
    memcpy(id, reader.envelope.id, ID_SIZE);
    reader_close(&reader);
    return EX_OK;
}

static bool is_in_hand(const struct tool *tool, enum queue queue, const char *id)
{
    return place_has(tool, (struct place){queue, QUEUE_NEW}, id) ||
           (queue == QUEUE_RELAY && place_has(tool, (struct place){queue, QUEUE_CUR}, id));
}

static int put_back(const struct tool *tool, struct place place, const char *name, const char *id)
{
    const int *directories = tool->spool.directories[place.queue];
    int mark, error;

    if (is_in_hand(tool, place.queue, id))
        return refuse(name, EEXIST);
    mark = reason_mark(tool, place, name);
    error = rename_new(directories[QUEUE_FAILED], name, directories[QUEUE_NEW], id);
    if (error == 0)
        error = reason_drop(tool, place, name, mark);
    else if (mark >= 0)
        close(mark);
    if (error != 0)
        return refuse(name, error);
    fputs(queue_names[place.queue], stdout);
    fputs("/failed/", stdout);
    plain_field(stdout, name, 0);
    printf(" -> %s/new/%s\n", queue_names[place.queue], id);
    return EX_OK;
}

static int retry(const struct tool *tool, struct place place, const char *name)
{
    int failed = tool->spool.directories[place.queue][QUEUE_FAILED];
    char id[ID_SIZE];
    int code;

    if (flock(failed, LOCK_EX) < 0)
        return tool_fail(name, errno);
    code = find_id(tool, place, name, id);
    if (code == EX_OK)
        code = put_back(tool, place, name, id);
    flock(failed, LOCK_UN);
    return code;
}

static int retry_named(const struct tool *tool, const char *name)
{
    int code = EX_OK;
    bool found = false;

    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        struct place place = {(enum queue)queue, QUEUE_FAILED};
        if ((tool->options.queues & 1U << queue) == 0 || !place_has(tool, place, name))
            continue;
        found = true;
        code = tool_worse(code, retry(tool, place, name));
    }
    if (found)
        return code;
    tool_complain(name, "no such message in failed/");
    return EX_NOINPUT;
}

static int retry_all(const struct tool *tool)
{
    struct roster roster;
    struct place place;
    char name[NAME_MAX + 1];
    int code = EX_OK;

    roster_begin(&roster, tool,
                 roster_bit(QUEUE_STORE, QUEUE_FAILED) | roster_bit(QUEUE_RELAY, QUEUE_FAILED));
    while (roster_next(&roster, &place, name)) {
        int result = retry(tool, place, name);
        /* Somebody was faster, and that one was not asked for by name. */
        code = tool_worse(code, result == EX_NOINPUT ? EX_OK : result);
    }
    if (roster.error != 0)
        code = tool_worse(code, tool_fail(tool->spool_path, roster.error));
    roster_end(&roster);
    return code;
}

int move_retry_run(const struct tool *tool)
{
    int code = EX_OK;

    if (tool->options.all)
        return retry_all(tool);
    for (size_t i = 0; i < tool->options.names_count; i++)
        code = tool_worse(code, retry_named(tool, tool->options.names[i]));
    return code;
}

int move_replay_run(const struct tool *tool)
{
    const int *directories = tool->spool.directories[QUEUE_STORE];
    struct roster roster;
    struct place place;
    char name[NAME_MAX + 1];
    uint64_t count = 0;
    int code = EX_OK;

    roster_begin(&roster, tool, roster_bit(QUEUE_STORE, QUEUE_CUR));
    while (roster_next(&roster, &place, name)) {
        int error = rename_new(directories[QUEUE_CUR], name, directories[QUEUE_NEW], name);
        if (error == 0)
            count++;
        else if (error != ENOENT && error != EEXIST)
            code = tool_worse(code, tool_fail(name, error));
    }
    if (roster.error != 0)
        code = tool_worse(code, tool_fail(tool->spool_path, roster.error));
    roster_end(&roster);
    printf("%" PRIu64 " messages are in new/ once more\n", count);
    return code;
}
