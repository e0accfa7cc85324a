/* What is due in cur/: see the header. */
#include "relay/deferred.h"

#include "common/log.h"
#include "queue/id.h"
#include "queue/retire.h"
#include "relay/schedule.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* A reason is renamed into cur/ just before its message, and removed just before it: one that is
 * alone and so old, or older than this process, is what a crash has left. */
enum { REASON_ALONE_SECONDS = 3600 };

static const char reason_suffix[] = ".reason";

void deferred_clear(struct deferred *deferred)
{
    *deferred = (struct deferred){.since = deferred->since, .earliest = INT64_MAX};
}

static bool look(const struct scanner *scanner, const char *name, struct stat *file)
{
    return fstatat(scanner->spool->directories[scanner->queue][QUEUE_CUR], name, file,
                   AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_reason(const char *name, char id[static ID_SIZE])
{
    if (strnlen(name, ID_LENGTH + sizeof reason_suffix) != ID_LENGTH + sizeof reason_suffix - 1 ||
        strcmp(name + ID_LENGTH, reason_suffix) != 0)
        return false;
    memcpy(id, name, ID_LENGTH);
    id[ID_LENGTH] = '\0';
    return id_valid(id);
}

static void judge_reason(const struct scanner *scanner, const char *name, const char *id,
                         int64_t now)
{
    const struct deferred *deferred = scanner->data;
    struct stat reason, message;
    int64_t written;
    int error;

    if (look(scanner, id, &message) || !look(scanner, name, &reason))
        return;
    written = (int64_t)reason.st_mtim.tv_sec * 1000000 + reason.st_mtim.tv_nsec / 1000;
    if (written >= deferred->since && now - written < REASON_ALONE_SECONDS * INT64_C(1000000))
        return;
    error = retire_remove(scanner->spool, scanner->queue, QUEUE_CUR, name);
    if (error != 0)
        log_error("not_removed", LOG_TEXT("id", name), LOG_ERRNO(error));
}

static int64_t wall_clock(void)
{
    struct timespec clock;

    clock_gettime(CLOCK_REALTIME, &clock);
    return (int64_t)clock.tv_sec * 1000000 + clock.tv_nsec / 1000;
}

/* No message is deferred for longer than SCHEDULE_LONGEST: what says so was written before the
 * clock was set back, and would wait for as long as it was. */
bool deferred_is_due(int64_t modified)
{
    int64_t now = wall_clock();

    return modified <= now || modified - now > SCHEDULE_LONGEST * INT64_C(1000000);
}

/* What is no regular file is due as well: it is the loader that says what is wrong with it. */
static bool is_due(struct deferred *deferred, const struct stat *file)
{
    int64_t due = (int64_t)file->st_mtim.tv_sec * 1000000 + file->st_mtim.tv_nsec / 1000;

    if (!S_ISREG(file->st_mode) || deferred_is_due(due))
        return true;
    if (due < deferred->earliest)
        deferred->earliest = due;
    return false;
}

bool deferred_judge_cb(struct scanner *scanner, const char *name)
{
    char id[ID_SIZE];
    struct stat file;

    if (id_valid(name))
        return look(scanner, name, &file) && is_due(scanner->data, &file);
    if (is_reason(name, id))
        judge_reason(scanner, name, id, wall_clock());
    else
        retire_set_aside(scanner->spool, scanner->queue, QUEUE_CUR, name,
                         "neither a message nor the reason of one");
    return false;
}
