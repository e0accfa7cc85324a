/* Leaving a queue's directory: see the header. */
#include "queue/retire.h"

#include "common/fault.h"
#include "common/log.h"
#include "queue/id.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    RETIRE_NAME_MAX = 200, /* longest name that is kept: leaves room for `.reason` and a number */
    RETIRE_TRIES = 1000,   /* numbers tried behind a name that is taken */
    RETIRE_REASON_MAX = 4000
};

static int move(const struct spool *spool, enum queue queue, enum queue_directory from,
                enum queue_directory to, const char *name)
{
    const int *directories = spool->directories[queue];
    if (FAULT_CALL("retire.move", renameat(directories[from], name, directories[to], name)) < 0 &&
        errno != ENOENT)
        return errno;
    return 0;
}

int retire_remove(const struct spool *spool, enum queue queue, enum queue_directory directory,
                  const char *name)
{
    if (FAULT_CALL("retire.remove", unlinkat(spool->directories[queue][directory], name, 0)) < 0 &&
        errno != ENOENT)
        return errno;
    return 0;
}

int retire_keep(const struct spool *spool, enum queue queue, const char *name)
{
    return move(spool, queue, QUEUE_NEW, QUEUE_CUR, name);
}

int retire_return(const struct spool *spool, enum queue queue, const char *name)
{
    return move(spool, queue, QUEUE_CUR, QUEUE_NEW, name);
}

/* Writes `name`.reason into failed/, by way of tmp/, so that it is never seen half. */
static int write_reason(const struct spool *spool, enum queue queue, const char *name,
                        const char *reason)
{
    char file_name[RETIRE_NAME_MAX + 32];
    snprintf(file_name, sizeof file_name, "%s.reason", name);

    char text[RETIRE_REASON_MAX + 1];
    size_t length = strnlen(reason, RETIRE_REASON_MAX);
    for (size_t i = 0; i < length; i++)
        text[i] = (char)((unsigned char)reason[i] < ' ' || reason[i] == 0x7f ? ' ' : reason[i]);
    text[length++] = '\n';

    const int *directories = spool->directories[queue];
    /* tmp/ is the whole group's: what lies there under our name, be it a link to somewhere else, is
     * not written through. */
    if (FAULT_CALL("aside.clear", unlinkat(directories[QUEUE_TMP], file_name, 0)) < 0 &&
        errno != ENOENT)
        return errno;
    int descriptor = FAULT_CALL("aside.create",
                                openat(directories[QUEUE_TMP], file_name,
                                       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_FILE_MODE));
    if (descriptor < 0)
        return errno;
    ssize_t n =
        FAULT_CALL("aside.write", write(descriptor, text, FAULT_LENGTH("aside.write", length)));
    int error = n == (ssize_t)length ? 0 : n < 0 ? errno : ENOSPC;
    close(descriptor);
    if (error == 0 &&
        FAULT_CALL("aside.reason", renameat(directories[QUEUE_TMP], file_name,
                                            directories[QUEUE_FAILED], file_name)) < 0)
        error = errno;
    if (error != 0)
        FAULT_CALL("aside.undo", unlinkat(directories[QUEUE_TMP], file_name, 0));
    return error;
}

static bool is_free(int directory, const char *name)
{
    return faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

/* Chooses a name in failed/ that neither a message nor a reason has. Only the holder of a queue's
 * lock sets messages aside, but from several threads. */
static bool choose_name(char chosen[static RETIRE_NAME_MAX + 16], int failed, const char *name)
{
    char base[RETIRE_NAME_MAX + 1];
    if (strlen(name) <= RETIRE_NAME_MAX) {
        snprintf(base, sizeof base, "%s", name);
    } else {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        id_make(base, (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    }
    snprintf(chosen, RETIRE_NAME_MAX + 16, "%s", base);
    for (int number = 1; !is_free(failed, chosen) && number < RETIRE_TRIES; number++)
        snprintf(chosen, RETIRE_NAME_MAX + 16, "%s.%d", base, number);
    return is_free(failed, chosen);
}

/* Two threads may have chosen one name: the second is told, and comes again. A file system that cannot
 * tell does without. */
static int move_aside(int from, const char *name, int to, const char *chosen)
{
    if (FAULT_CALL("aside.move", renameat2(from, name, to, chosen, RENAME_NOREPLACE)) == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    return FAULT_CALL("aside.move_plainly", renameat(from, name, to, chosen)) < 0 ? errno : 0;
}

int retire_set_aside(const struct spool *spool, enum queue queue, enum queue_directory directory,
                     const char *name, const char *reason)
{
    const int *directories = spool->directories[queue];
    char chosen[RETIRE_NAME_MAX + 16];
    if (is_free(directories[directory], name))
        return 0;
    if (!choose_name(chosen, directories[QUEUE_FAILED], name))
        return EEXIST;

    int error = write_reason(spool, queue, chosen, reason);
    if (error == 0)
        error = move_aside(directories[directory], name, directories[QUEUE_FAILED], chosen);
    if (error != 0) {
        log_error("not_set_aside", LOG_TEXT("id", name), LOG_TEXT("reason", reason),
                  LOG_ERRNO(error));
        return error;
    }
    log_warn("set_aside", LOG_TEXT("id", name), LOG_TEXT("reason", reason), LOG_TEXT("as", chosen));
    return 0;
}
