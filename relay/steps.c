/* What became of a message's recipients, made durable step by step.
 *
 * Of the recipients of a try, A were accepted, F failed, and R are the rest: deferred, or never
 * asked. What is left to do is the file that counts: cur/ID if there is one, else new/ID. Every
 * change of it is one rename or one unlink, in steps, and each step is durable before the next
 * begins:
 *
 *     keep       cur/ID := R + F              where someone was accepted, or nobody failed
 *                NAME.notification, NAME.reason in failed/, where someone failed (relay/failure.h)
 *     set aside  new/ID removed               where cur/ID was written, or nobody is left: that too
 *                failed/NAME := F
 *     notify     NAME.notification moved into new/ of its queue, under its own id
 *     leave      cur/ID := R, or nobody is left: cur/ID or new/ID removed
 *     end        new/ID removed               where `leave` wrote cur/ID and it is still there
 *
 * A crash
 * - before `keep` is durable: the try was in vain, and is made again. This is the window in which a
 *   recipient is sent to twice: between the smarthost's reply and the first flush of its record.
 * - before failed/NAME is there: those that were accepted are recipients no more. The others are
 *   tried again, and what stands beside failed/NAME is replaced when they fail again: nobody saw
 *   it.
 * - behind that: they have failed, for failed/NAME has recipients that are still in the file that
 *   counts. record_resume sees it before anything is sent, and goes on with `notify`.
 * - before or behind the rename in `notify`: the notification is in the one place or in the other.
 *   Where it is not beside failed/NAME it was moved, for it was durably there before failed/NAME
 *   was. So it does no harm that its queue's reader may see it, send it and remove it before
 *   `leave`: nothing writes it again. Where the power fails between this rename and its flush, it
 *   may come back although it was sent: that is the window above, for the record of it is not begun
 *   yet.
 * - behind `leave`: the file that counts has none of F; that it superseded new/ID is seen when that
 *   is loaded (relay/mail.c).
 *
 * Each step of a message that was done before finds it done: to record the same again has the same
 * end. A message that fails a step is left there; the caller comes again with the same outcomes.
 *
 * A flush that reports no error although the journal was aborted before it (queue/commit.c) is
 * found out by the next step, whose change is refused. Behind the last one there is nothing that
 * could be repeated for it. */
#include "relay/steps.h"

#include "common/fault.h"
#include "common/log.h"
#include "queue/retire.h"
#include "relay/excerpt.h"
#include "relay/reason.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OUTCOMES_REST = 1 << OUTCOME_OPEN | 1 << OUTCOME_AGAIN | 1 << OUTCOME_DEFERRED,
    OUTCOMES_FAILED = 1 << OUTCOME_FAILED
};

typedef int step(const struct recorder *recorder, struct work *work);

/* What was said of those in cur/ID, beside it. Where nothing was, as when an earlier run is ended,
 * the last word stays. */
static int write_cur_reason(const struct recorder *recorder, const struct mail *mail,
                            unsigned outcomes)
{
    struct buffer text;
    int error = 0;

    buffer_init(&text, REASON_MAX);
    reason_add(&text, mail, outcomes);
    if (text.length > 0 || text.failed)
        error = reason_write(recorder->spool, QUEUE_CUR, mail->id, &text);
    buffer_free(&text);
    return error;
}

/* Gives cur/ID another time, which is all that changes when it is deferred once more. EPERM when it
 * is somebody else's, as when a spool was brought from another host. */
static int touch_cur(const struct recorder *recorder, const struct mail *mail)
{
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = mail->due / 1000000, .tv_nsec = mail->due % 1000000 * 1000},
    };
    int file =
        FAULT_CALL("touch.open", openat(recorder->spool->directories[QUEUE_RELAY][QUEUE_CUR],
                                        mail->id, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    int error = file < 0 || FAULT_CALL("touch.time", futimens(file, times)) < 0 ||
                        FAULT_CALL("touch.fsync", fsync(file)) < 0
                    ? errno
                    : 0;

    if (file >= 0)
        close(file);
    /* It is written anew then; but a disk that fails is to be heard of. */
    if (error != 0 && error != EPERM)
        log_error("not_put_off", LOG_TEXT("id", mail->id), LOG_ERRNO(error));
    return error;
}

static int write_cur(const struct recorder *recorder, struct work *work, unsigned outcomes)
{
    struct mail *mail = work->mail;
    int error = write_cur_reason(recorder, mail, outcomes);

    work->dirty[QUEUE_RELAY][QUEUE_CUR] = true;
    if (error != 0)
        return error;
    if (mail->directory == QUEUE_CUR && !work->accepted && !work->failed &&
        touch_cur(recorder, mail) == 0)
        return 0;
    return excerpt_write(recorder->spool, mail, outcomes, QUEUE_CUR, mail->id, mail->due,
                         recorder->piece);
}

/* The reason names the notification, so that goes first. */
static int stage_failure(const struct recorder *recorder, struct work *work)
{
    struct buffer text;
    int error;

    buffer_init(&text, REASON_MAX);
    reason_add(&text, work->mail, OUTCOMES_FAILED);
    error = failure_stage(recorder, work->mail, work->name, work->now, &text);
    if (error == 0)
        error = reason_write(recorder->spool, QUEUE_FAILED, work->name, &text);
    buffer_free(&text);
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        work->dirty[queue][QUEUE_FAILED] = true;
    return error;
}

static bool is_kept(const struct work *work)
{
    return work->failed ? work->accepted : work->rest;
}

static int remove_from(const struct recorder *recorder, struct work *work,
                       enum queue_directory directory)
{
    work->dirty[QUEUE_RELAY][directory] = true;
    return retire_remove(recorder->spool, QUEUE_RELAY, directory, work->mail->id);
}

/* Nobody is left. Only one of the two files is there: wherever both were, new/ID went first. */
static int remove_all(const struct recorder *recorder, struct work *work)
{
    int error = 0;

    if (work->mail->directory == QUEUE_NEW)
        error = remove_from(recorder, work, QUEUE_NEW);
    if (error != 0 || (work->mail->directory == QUEUE_NEW && !work->failed))
        return error;
    /* First the reason, which would stay behind alone. */
    error = reason_remove(recorder->spool, QUEUE_CUR, work->mail->id);
    return error != 0 ? error : remove_from(recorder, work, QUEUE_CUR);
}

static int step_keep(const struct recorder *recorder, struct work *work)
{
    int error = 0;

    if (work->begun)
        return 0;
    if (!work->failed && !work->rest)
        return remove_all(recorder, work);
    if (is_kept(work))
        error = write_cur(recorder, work, OUTCOMES_REST | OUTCOMES_FAILED);
    if (error == 0 && work->failed)
        error = stage_failure(recorder, work);
    return error;
}

static int step_set_aside(const struct recorder *recorder, struct work *work)
{
    int error = 0;

    if (!work->failed && !work->rest)
        return 0;
    if (is_kept(work) && work->mail->directory == QUEUE_NEW)
        error = remove_from(recorder, work, QUEUE_NEW);
    if (error != 0 || !work->failed)
        return error;
    work->dirty[QUEUE_RELAY][QUEUE_FAILED] = true;
    return work->begun ? 0
                       : excerpt_write(recorder->spool, work->mail, OUTCOMES_FAILED, QUEUE_FAILED,
                                       work->name, 0, recorder->piece);
}

static int step_notify(const struct recorder *recorder, struct work *work)
{
    if (!work->failed)
        return 0;
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        work->dirty[queue][QUEUE_NEW] = true;
    return failure_notify(recorder, work->name);
}

static int step_leave(const struct recorder *recorder, struct work *work)
{
    if (!work->failed)
        return 0;
    return work->rest ? write_cur(recorder, work, OUTCOMES_REST) : remove_all(recorder, work);
}

static int step_end(const struct recorder *recorder, struct work *work)
{
    if (!work->failed || !work->rest || is_kept(work) || work->mail->directory != QUEUE_NEW)
        return 0;
    return remove_from(recorder, work, QUEUE_NEW);
}

static step *const steps[] = {step_keep, step_set_aside, step_notify, step_leave, step_end};

/* Syncs each directory once in which a step changed something for any message. One that cannot be
 * synced is the error of all of those. */
static void flush(const struct recorder *recorder, struct work *works, size_t count,
                  enum queue queue, enum queue_directory directory)
{
    bool done = false;
    int error = 0;

    for (size_t i = 0; i < count; i++) {
        struct work *work = &works[i];
        if (!work->dirty[queue][directory] || work->mail->error != 0)
            continue;
        if (!done &&
            FAULT_CALL("steps.flush", fsync(recorder->spool->directories[queue][directory])) < 0)
            error = errno;
        done = true;
        work->mail->error = error;
        work->dirty[queue][directory] = false;
    }
}

void steps_take(const struct recorder *recorder, struct work *works, size_t count)
{
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
        for (size_t i = 0; i < count; i++) {
            if (works[i].mail->error == 0)
                works[i].mail->error = steps[s](recorder, &works[i]);
        }
        for (int queue = 0; queue < QUEUE_COUNT; queue++)
            for (int directory = 0; directory < QUEUE_DIRECTORY_COUNT; directory++)
                flush(recorder, works, count, (enum queue)queue, (enum queue_directory)directory);
    }
}
