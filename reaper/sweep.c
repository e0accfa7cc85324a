/* The sweep: see the header. */
#include "reaper/sweep.h"

#include "common/fault.h"
#include "common/log.h"
#include "queue/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What lies beside a message of failed/ and is none. */
static const char *const suffixes[] = {".reason", ".notification"};

enum { SUFFIXES = sizeof suffixes / sizeof *suffixes };

/* One directory on its way. */
struct broom {
    struct sweep *sweep;
    enum queue queue;
    enum queue_directory directory;
    int descriptor;
    int64_t age;     /* seconds after which a file goes */
    uint64_t failed; /* files that could not be removed */
    int error;       /* of the first of them */
};

/* Counted, and the first said: a directory that may not be written to refuses a million times. */
static void broom_fail(struct broom *broom, int error)
{
    if (broom->failed++ == 0)
        broom->error = error;
}

static bool is_regular(const struct broom *broom, const char *name, struct stat *status)
{
    return fstatat(broom->descriptor, name, status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(status->st_mode);
}

/* Somebody may have been faster: a file that is gone is what was wanted. True when it was we. */
static bool remove_file(struct broom *broom, const char *name)
{
    if (FAULT_CALL("sweep.remove", unlinkat(broom->descriptor, name, 0)) == 0) {
        broom->sweep->removed[broom->queue][broom->directory]++;
        return true;
    }
    if (errno != ENOENT)
        broom_fail(broom, errno);
    return false;
}

/* The message's name, when `name` is that of something beside it; false when it is not. */
static bool beside_message(const char *name, char message[static NAME_MAX + 1])
{
    size_t length = strlen(name);

    for (size_t i = 0; i < SUFFIXES; i++) {
        size_t suffix = strlen(suffixes[i]);
        if (length <= suffix || length > NAME_MAX ||
            strcmp(name + length - suffix, suffixes[i]) != 0)
            continue;
        memcpy(message, name, length - suffix);
        message[length - suffix] = '\0';
        return true;
    }
    return false;
}

/* A message and what lies beside it, its reason and a notification that was not sent, go together,
 * the message first and by the age of the message. A reason whose message is there is left to it;
 * one whose message is gone goes by its own age: a storer or relay that died between the two steps
 * of setting aside will write it again. */
static void sweep_file(struct broom *broom, const char *name)
{
    char other[NAME_MAX + 1];
    struct stat status;

    if (!is_regular(broom, name, &status) || broom->sweep->now - status.st_mtime <= broom->age)
        return;
    if (broom->directory != QUEUE_FAILED) {
        remove_file(broom, name);
        return;
    }
    bool is_beside = beside_message(name, other);
    if (is_beside && is_regular(broom, other, &status))
        return;
    /* The end of a message's life, so it has its line; what else is swept is only counted. */
    if (remove_file(broom, name) && !is_beside)
        log_info("forgotten", LOG_TEXT("id", name), LOG_TEXT("queue", queue_names[broom->queue]));
    for (size_t i = 0; i < SUFFIXES; i++) {
        int length = snprintf(other, sizeof other, "%s%s", name, suffixes[i]);
        if (length < (int)sizeof other && is_regular(broom, other, &status))
            remove_file(broom, other);
    }
}

/* Opened by path, each for itself: a spool may lack what its programs have not made yet, or be all
 * gone, as on a host that has only the database. */
static int open_directory(struct broom *broom, struct scan *scan)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s/%s", broom->sweep->spool,
                          queue_names[broom->queue], queue_directory_names[broom->directory]);

    if (length >= (int)sizeof path)
        return ENAMETOOLONG;
    scan->stream = FAULT_STEP("sweep.open", opendir(path), NULL);
    if (scan->stream == NULL)
        return errno;
    broom->descriptor = dirfd(scan->stream);
    return 0;
}

static void sweep_directory(struct broom *broom)
{
    struct scan scan;
    const char *name;
    int more = 0;

    int error = open_directory(broom, &scan);
    if (error != 0) {
        if (error != ENOENT)
            broom_fail(broom, error);
        return;
    }
    while (!atomic_load_explicit(broom->sweep->stop, memory_order_relaxed) &&
           (more = scan_next(&scan, &name)) > 0)
        sweep_file(broom, name);
    if (more < 0)
        broom_fail(broom, errno);
    scan_close(&scan);
}

static void broom_log(const struct broom *broom)
{
    uint64_t removed = broom->sweep->removed[broom->queue][broom->directory];
    char directory[32];

    snprintf(directory, sizeof directory, "%s/%s", queue_names[broom->queue],
             queue_directory_names[broom->directory]);
    if (removed > 0)
        log_info("swept", LOG_TEXT("directory", directory), LOG_NUMBER("files", removed));
    if (broom->failed > 0)
        log_warn("not_swept", LOG_TEXT("directory", directory), LOG_NUMBER("files", broom->failed),
                 LOG_ERRNO(broom->error));
}

void sweep_run(struct sweep *sweep)
{
    const struct {
        enum queue_directory directory;
        int64_t age;
    } rows[] = {
        {QUEUE_TMP, SWEEP_TMP_SECONDS},
        {QUEUE_FAILED, sweep->retention},
    };

    memset(sweep->removed, 0, sizeof sweep->removed);
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct broom broom = {.sweep = sweep,
                                  .queue = (enum queue)queue,
                                  .directory = rows[i].directory,
                                  .age = rows[i].age};
            sweep_directory(&broom);
            broom_log(&broom);
        }
    }
}
