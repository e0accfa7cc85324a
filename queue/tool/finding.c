/* Findings and their repair: see the header. */
#include "queue/tool/finding.h"

#include "common/log.h"
#include "queue/reader.h"
#include "queue/retire.h"
#include "queue/tool/plain.h"
#include "queue/tool/reason.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_up(const struct finding *finding, mode_t mode)
{
    if (fchown(finding->descriptor, (uid_t)-1, finding->group) < 0 ||
        fchmod(finding->descriptor, mode) < 0)
        return errno;
    return 0;
}

/* Whoever repairs may be root, and whoever may write to the spool is not: a second name of a file
 * that is elsewhere is not opened up. */
static int open_up_file(const struct finding *finding)
{
    struct stat file;

    if (fstat(finding->descriptor, &file) < 0)
        return errno;
    if (!S_ISREG(file.st_mode) || file.st_nlink != 1)
        return EMLINK;
    return open_up(finding, SPOOL_FILE_MODE);
}

/* What somebody named like one may be a message. */
static bool is_whole(const struct tool *tool, const struct finding *finding)
{
    struct reader reader;

    if (reader_open_named(&reader, &tool->spool, finding->place.queue, finding->place.directory,
                          finding->name, NULL) != READER_OK)
        return false;
    reader_close(&reader);
    return true;
}

/* A whole one may be somebody's, who copied it there and has not moved it yet. */
static int remove_leftover(const struct tool *tool, const struct finding *finding)
{
    if (is_whole(tool, finding))
        return EINVAL;
    return retire_remove(&tool->spool, finding->place.queue, QUEUE_TMP, finding->name);
}

static int remove_reason(const struct tool *tool, const struct finding *finding)
{
    char message[NAME_MAX + 1];
    size_t length;
    int mark;

    if (!place_is_reason(finding->name, &length) || is_whole(tool, finding))
        return EINVAL;
    snprintf(message, sizeof message, "%.*s", (int)length, finding->name);
    mark = reason_mark(tool, finding->place, message);
    /* The message may have come meanwhile, and then it has this reason or a newer one. */
    if (mark < 0 || place_has(tool, finding->place, message)) {
        if (mark >= 0)
            close(mark);
        return 0;
    }
    return reason_drop(tool, finding->place, message, mark);
}

static int make_missing(const struct tool *tool)
{
    struct spool spool;
    int error = spool_open(&spool, tool->spool_path);

    if (error == 0)
        spool_close(&spool);
    return error;
}

/* Returns 0 with what was done in `*done`, or an errno value. */
static int repair(const struct tool *tool, const struct finding *finding, const char **done)
{
    switch (finding->repair) {
    case REPAIR_NONE:
        break;
    case REPAIR_MAKE:
        *done = "made";
        return make_missing(tool);
    case REPAIR_DIRECTORY:
        *done = "set";
        return open_up(finding, SPOOL_DIRECTORY_MODE);
    case REPAIR_FILE:
        *done = "set";
        return open_up_file(finding);
    case REPAIR_LEFTOVER:
        *done = "removed";
        return remove_leftover(tool, finding);
    case REPAIR_SET_ASIDE:
        *done = "set aside";
        return retire_set_aside(&tool->spool, finding->place.queue, finding->place.directory,
                                finding->name, finding->problem);
    case REPAIR_REASON:
        *done = "removed";
        return remove_reason(tool, finding);
    }
    return EINVAL;
}

static void print_json(const struct finding *finding, const char *done, int error)
{
    json_t *object = json_pack("{s:o, s:o}", "path", tool_json_text(finding->path), "problem",
                               tool_json_text(finding->problem));

    if (done != NULL && error == 0)
        tool_json_set(object, "repaired", json_string(done));
    if (done != NULL && error != 0)
        tool_json_set(object, "error", json_string(log_errno_text(error)));
    tool_print_json(object);
}

bool finding_report(const struct tool *tool, const struct finding *finding)
{
    const char *done = NULL;
    int error = 0;

    if (tool->options.repair && finding->repair != REPAIR_NONE)
        error = repair(tool, finding, &done);
    if (tool->options.json) {
        print_json(finding, done, error);
    } else {
        plain_field(stdout, finding->path, 0);
        printf(": ");
        plain_field(stdout, finding->problem, 0);
        if (done != NULL)
            printf(error == 0 ? ": %s" : ": not %s: %s", done, log_errno_text(error));
        putchar('\n');
    }
    return done != NULL && error == 0;
}
