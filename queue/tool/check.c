/* What does not belong in the spool: see the header. Here is what is true of directories; what is
 * true of the files in them stands in queue/tool/inspect.c. */
#include "queue/tool/check.h"

#include "queue/scan.h"
#include "queue/tool/finding.h"
#include "queue/tool/inspect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* What is there, and cannot be looked into, is not missing: opening the spool says so. */
static bool is_missing(const struct tool *tool, const char *path)
{
    char whole[PATH_MAX];
    struct stat status;

    if (snprintf(whole, sizeof whole, "%s/%s", tool->spool_path, path) >= (int)sizeof whole)
        return false;
    return stat(whole, &status) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

static void note(struct inspection *inspection, struct finding finding)
{
    finding.group = inspection->group;
    if (!finding_report(inspection->tool, &finding))
        inspection->left++;
}

/* True when the spool can be opened: nothing was missing, or it was made. */
static bool check_presence(struct inspection *inspection)
{
    uint64_t left = inspection->left;

    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++) {
            char path[PLACE_SIZE];
            place_format(path, (struct place){(enum queue)queue, (enum queue_directory)i}, NULL);
            if (is_missing(inspection->tool, path))
                note(inspection, (struct finding){.path = path,
                                                  .problem = "the directory is missing",
                                                  .repair = REPAIR_MAKE});
        }
    }
    return inspection->left == left;
}

/* The owner is whichever program came first; what counts is the group, which is that of the spool.
 */
static void check_mode(struct inspection *inspection, const char *path, int descriptor)
{
    struct stat status;
    char problem[128];

    if (fstat(descriptor, &status) < 0)
        return;
    if ((status.st_mode & 07777) == SPOOL_DIRECTORY_MODE && status.st_gid == inspection->group)
        return;
    snprintf(problem, sizeof problem, "mode %04o, group %ld; should be mode %04o, group %ld",
             (unsigned)status.st_mode & 07777, (long)status.st_gid, (unsigned)SPOOL_DIRECTORY_MODE,
             (long)inspection->group);
    note(inspection, (struct finding){.path = path,
                                      .descriptor = descriptor,
                                      .problem = problem,
                                      .repair = REPAIR_DIRECTORY});
}

static bool is_listed(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

/* Whatever stands beside the queues, or beside the directories of one. A file system has its
 * lost+found. */
static int check_strangers(struct inspection *inspection, int directory, const char *prefix,
                           const char *const *names, size_t count)
{
    int descriptor = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct scan scan = {.stream = descriptor < 0 ? NULL : fdopendir(descriptor)};
    const char *name;
    int more, error;

    if (scan.stream == NULL)
        return errno;
    while ((more = scan_next(&scan, &name)) > 0) {
        char path[PLACE_SIZE];
        snprintf(path, sizeof path, "%s%s", prefix, name);
        if (!is_listed(name, names, count) && strcmp(path, "lost+found") != 0)
            note(inspection, (struct finding){.path = path, .problem = "does not belong here"});
    }
    error = more < 0 ? errno : 0;
    scan_close(&scan);
    return error;
}

static int check_queue(struct inspection *inspection, enum queue queue)
{
    const struct spool *spool = &inspection->tool->spool;
    char path[PLACE_SIZE];
    int code = EX_OK, error;

    check_mode(inspection, queue_names[queue], spool->queues[queue]);
    snprintf(path, sizeof path, "%s/", queue_names[queue]);
    error = check_strangers(inspection, spool->queues[queue], path, queue_directory_names,
                            QUEUE_DIRECTORY_COUNT);
    if (error != 0)
        code = tool_fail(queue_names[queue], error);
    for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++) {
        struct place place = {queue, (enum queue_directory)i};
        place_format(path, place, NULL);
        check_mode(inspection, path, spool->directories[queue][i]);
        error = inspect_directory(inspection, place);
        if (error != 0)
            code = tool_worse(code, tool_fail(path, error));
    }
    return code;
}

static int check_all(struct inspection *inspection, struct tool *tool)
{
    int code = EX_OK, error = spool_open_existing(&tool->spool, tool->spool_path);

    if (error != 0)
        return tool_fail(tool->spool_path, error);
    check_mode(inspection, ".", tool->spool.root);
    error = check_strangers(inspection, tool->spool.root, "", queue_names, QUEUE_COUNT);
    if (error != 0)
        code = tool_fail(tool->spool_path, error);
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        code = tool_worse(code, check_queue(inspection, (enum queue)queue));
    inspect_end(inspection);
    spool_close(&tool->spool);
    return code;
}

int check_run(struct tool *tool)
{
    struct inspection inspection = {.tool = tool};
    struct stat root;
    int code = EX_OK;

    if (stat(tool->spool_path, &root) < 0 || !S_ISDIR(root.st_mode)) {
        tool_complain(tool->spool_path, "no spool here");
        return EX_CONFIG;
    }
    inspection.group = root.st_gid;
    /* Without all of its directories the spool is not one, and nothing in it can be told. */
    if (check_presence(&inspection))
        code = check_all(&inspection, tool);
    return tool_worse(code, inspection.left > 0 ? EX_DATAERR : EX_OK);
}
