/* Files that do not belong where they are: see the header.
 *
 * Beside running programs there are states that last for as long as a flush: a message that relay
 * has in new/ and in cur/, a reason whose message is to come. They are told from what a crash has
 * left by their age, and what is too young is looked at once more later, or at the next check. */
#include "queue/tool/inspect.h"

#include "common/log.h"
#include "queue/reader.h"
#include "queue/scan.h"
#include "queue/tool/finding.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int descriptor_of(const struct inspection *inspection, struct place place)
{
    return inspection->tool->spool.directories[place.queue][place.directory];
}

static void report(struct inspection *inspection, struct place place, const char *name,
                   const char *problem, enum repair repair, int descriptor)
{
    char path[PLACE_SIZE];
    struct finding finding = {.path = path,
                              .place = place,
                              .name = name,
                              .descriptor = descriptor,
                              .problem = problem,
                              .repair = repair,
                              .group = inspection->group};

    place_format(path, place, name);
    if (!finding_report(inspection->tool, &finding))
        inspection->left++;
}

/* `seconds` since `then`, which may lie ahead. */
static bool is_older(const struct inspection *inspection, time_t then, time_t seconds)
{
    return inspection->tool->now / 1000000 - then > seconds;
}

static void inspect_leftover(struct inspection *inspection, struct place place, const char *name,
                             const struct stat *file)
{
    struct reader reader;
    enum reader_status status;

    if (!is_older(inspection, file->st_mtime, INSPECT_TMP_SECONDS))
        return;
    if (!S_ISREG(file->st_mode)) {
        report(inspection, place, name, "not a regular file", REPAIR_NONE, -1);
        return;
    }
    status =
        reader_open_named(&reader, &inspection->tool->spool, place.queue, QUEUE_TMP, name, NULL);
    if (status == READER_OK) {
        report(inspection, place, name,
               "a whole message that was never moved to new/; older than 36 hours", REPAIR_NONE,
               -1);
        reader_close(&reader);
    } else if (status != READER_GONE) {
        report(inspection, place, name, "left by a crash; older than 36 hours", REPAIR_LEFTOVER,
               -1);
    }
}

/* storer and relay may be another user than who wrote it, and have only the group in common. */
static void inspect_access(struct inspection *inspection, struct place place, const char *name,
                           const struct stat *file, int descriptor)
{
    char problem[96];

    if ((file->st_mode & 0440) == 0440 && file->st_gid == inspection->group)
        return;
    snprintf(problem, sizeof problem, "not for the group to read: mode %04o, group %ld",
             (unsigned)file->st_mode & 07777, (long)file->st_gid);
    report(inspection, place, name, problem, descriptor >= 0 ? REPAIR_FILE : REPAIR_NONE,
           descriptor);
}

/* relay removes new/ID when it loads either; until then it counts for nothing. */
static bool is_in_both(const struct inspection *inspection, const char *id, struct stat *cur)
{
    const int *directories = inspection->tool->spool.directories[QUEUE_RELAY];

    return faccessat(directories[QUEUE_NEW], id, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(directories[QUEUE_CUR], id, cur, AT_SYMLINK_NOFOLLOW) == 0;
}

static void report_both(struct inspection *inspection, const char *id)
{
    report(inspection, (struct place){QUEUE_RELAY, QUEUE_NEW}, id,
           "also in relay/cur, which counts: relay removes this one when it runs", REPAIR_NONE, -1);
}

void inspect_end(struct inspection *inspection)
{
    struct timespec pause = {.tv_sec = INSPECT_BOTH_SECONDS};
    struct stat cur;

    if (inspection->suspects_count == 0)
        return;
    while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
        ;
    for (size_t i = 0; i < inspection->suspects_count; i++) {
        if (is_in_both(inspection, inspection->suspects[i], &cur))
            report_both(inspection, inspection->suspects[i]);
    }
    inspection->suspects_count = 0;
}

static void inspect_both(struct inspection *inspection, const char *id)
{
    struct timespec now;
    struct stat cur;

    if (!is_in_both(inspection, id, &cur))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    /* ctime: the mtime is the next try's. */
    int64_t age = (int64_t)(now.tv_sec - cur.st_ctim.tv_sec) * 1000000000 +
                  (now.tv_nsec - cur.st_ctim.tv_nsec);
    if (age >= INSPECT_BOTH_SECONDS * INT64_C(1000000000)) {
        report_both(inspection, id);
        return;
    }
    memcpy(inspection->suspects[inspection->suspects_count++], id, ID_SIZE);
    if (inspection->suspects_count == INSPECT_SUSPECTS)
        inspect_end(inspection);
}

static void inspect_message(struct inspection *inspection, struct place place, const char *name)
{
    struct reader reader;
    struct stat file;

    if (!id_valid(name)) {
        report(inspection, place, name, "the name is not a message id", REPAIR_SET_ASIDE, -1);
        return;
    }
    switch (reader_open(&reader, &inspection->tool->spool, place.queue, place.directory, name)) {
    case READER_GONE:
        return;
    case READER_BAD:
        report(inspection, place, name, reader.why, REPAIR_SET_ASIDE, -1);
        return;
    case READER_ERROR:
        report(inspection, place, name, log_errno_text(reader.error), REPAIR_NONE, -1);
        return;
    case READER_OK:
        break;
    }
    if (fstat(reader.descriptor, &file) == 0)
        inspect_access(inspection, place, name, &file, reader.descriptor);
    reader_close(&reader);
    if (place.queue == QUEUE_RELAY && place.directory == QUEUE_NEW)
        inspect_both(inspection, name);
}

static bool has_message(const struct inspection *inspection, struct place place, const char *name,
                        size_t length)
{
    char message[NAME_MAX + 1];

    snprintf(message, sizeof message, "%.*s", (int)length, name);
    return place_has(inspection->tool, place, message);
}

static void inspect_reason(struct inspection *inspection, struct place place, const char *name,
                           const struct stat *file, size_t length)
{
    if (is_older(inspection, file->st_mtime, INSPECT_ALONE_SECONDS) &&
        !has_message(inspection, place, name, length))
        report(inspection, place, name, "a reason without its message", REPAIR_REASON, -1);
}

/* Its message is relay's, whatever queue it is for itself. */
static void inspect_notification(struct inspection *inspection, struct place place,
                                 const char *name, const struct stat *file, size_t length)
{
    if (is_older(inspection, file->st_mtime, INSPECT_ALONE_SECONDS) &&
        !has_message(inspection, (struct place){QUEUE_RELAY, QUEUE_FAILED}, name, length))
        report(inspection, place, name, "a notification of a failure that never came about",
               REPAIR_NONE, -1);
}

static bool has_reason(const struct inspection *inspection, struct place place, const char *name)
{
    char reason[NAME_MAX + 1];

    return snprintf(reason, sizeof reason, "%s.reason", name) <= NAME_MAX &&
           place_has(inspection->tool, place, reason);
}

/* Whatever else is wrong with a message in failed/, it was set aside for that. */
static void inspect_failed(struct inspection *inspection, struct place place, const char *name,
                           const struct stat *file)
{
    if (has_reason(inspection, place, name)) {
        if (S_ISREG(file->st_mode))
            inspect_access(inspection, place, name, file, -1);
        return;
    }
    /* It may just have been retried, or removed. */
    if (place_has(inspection->tool, place, name))
        report(inspection, place, name, "there is no reason beside it", REPAIR_NONE, -1);
}

static void inspect_file(struct inspection *inspection, struct place place, const char *name)
{
    bool has_reasons = place.directory == QUEUE_FAILED ||
                       (place.queue == QUEUE_RELAY && place.directory == QUEUE_CUR);
    struct stat file;
    size_t length;

    if (fstatat(descriptor_of(inspection, place), name, &file, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (place.directory == QUEUE_TMP)
        inspect_leftover(inspection, place, name, &file);
    else if (place.directory == QUEUE_FAILED && place_is_notification(name, &length))
        inspect_notification(inspection, place, name, &file, length);
    else if (has_reasons && place_is_reason(name, &length) && !has_reason(inspection, place, name))
        inspect_reason(inspection, place, name, &file, length);
    else if (place.directory == QUEUE_FAILED)
        inspect_failed(inspection, place, name, &file);
    else
        inspect_message(inspection, place, name);
}

int inspect_directory(struct inspection *inspection, struct place place)
{
    struct scan scan;
    const char *name;
    int more, error = scan_open(&scan, &inspection->tool->spool, place.queue, place.directory);

    if (error != 0)
        return error;
    while ((more = scan_next(&scan, &name)) > 0)
        inspect_file(inspection, place, name);
    error = more < 0 ? errno : 0;
    scan_close(&scan);
    return error;
}
