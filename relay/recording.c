/* Mails on their way to the disk: see the header. */
#include "relay/recording.h"

#include "common/fault.h"
#include "common/log.h"

#include <time.h>

/* Milliseconds until what could not be recorded is tried again, doubling. */
enum { PAUSE_SHORTEST = 1000, PAUSE_LONGEST = 32000 };

static int64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void recording_add(struct recording *recording, struct mail *mail)
{
    mail->next = NULL;
    *recording->done_end = mail;
    recording->done_end = &mail->next;
    recording->done_count++;
}

static struct mail *take_done(struct recording *recording)
{
    struct mail *done = recording->done;

    recording->done = NULL;
    recording->done_end = &recording->done;
    recording->done_count = 0;
    return done;
}

static void work_cb(uv_work_t *work)
{
    struct recording *recording = work->data;

    uv_mutex_lock(recording->lock);
    record_run(recording->recorder, recording->batch, wall_clock());
    uv_mutex_unlock(recording->lock);
}

/* What could not be recorded: who was accepted must not be sent to again, so that a mail with such
 * is kept in hand until it can be. Any other is let go, to be found again where it is. */
static void keep_or_drop(struct recording *recording, struct mail *mail)
{
    if (mail_has(mail, OUTCOME_ACCEPTED)) {
        recording->failed = true;
        recording_add(recording, mail);
    } else {
        recording->dropped_cb(recording->owner, mail);
    }
}

static void worked_cb(uv_work_t *work, int status)
{
    struct recording *recording = work->data;
    struct mail *mail = recording->batch, *next;

    (void)status; /* never cancelled */
    FAULT_POINT("recording.end");
    recording->batch = NULL;
    recording->failed = false;
    recording->batch_cb(recording->owner);
    for (; mail != NULL; mail = next) {
        next = mail->next;
        if (mail->error != 0)
            keep_or_drop(recording, mail);
        else
            recording->recorded_cb(recording->owner, mail);
    }
    if (!recording->failed)
        recording->pause = 0;
}

static void timer_cb(uv_timer_t *timer)
{
    struct recording *recording = timer->data;

    recording->failed = false;
}

static void rest(struct recording *recording)
{
    uint64_t *pause = &recording->pause;

    if (uv_is_active((uv_handle_t *)&recording->timer))
        return;
    *pause = *pause == 0 ? PAUSE_SHORTEST : *pause < PAUSE_LONGEST ? *pause * 2 : *pause;
    uv_timer_start(&recording->timer, timer_cb, *pause, 0);
}

void recording_turn(struct recording *recording)
{
    if (recording->batch != NULL || recording->done == NULL)
        return;
    if (recording->failed) {
        rest(recording);
        return;
    }
    FAULT_POINT("recording.begin");
    recording->batch = take_done(recording);
    uv_queue_work(recording->loop, &recording->work, work_cb, worked_cb);
}

bool recording_is_empty(const struct recording *recording)
{
    return recording->batch == NULL && recording->done == NULL;
}

void recording_drop(struct recording *recording)
{
    struct mail *next;

    for (struct mail *mail = take_done(recording); mail != NULL; mail = next) {
        next = mail->next;
        log_error("not_recorded", LOG_TEXT("id", mail->id), LOG_ERRNO(mail->error));
        recording->dropped_cb(recording->owner, mail);
    }
}

void recording_start(struct recording *recording, uv_loop_t *loop, struct recorder *recorder,
                     uv_mutex_t *lock)
{
    *recording = (struct recording){.loop = loop, .recorder = recorder, .lock = lock};
    recording->done_end = &recording->done;
    recording->work.data = recording;
    uv_timer_init(loop, &recording->timer);
    recording->timer.data = recording;
}

void recording_stop(struct recording *recording)
{
    uv_close((uv_handle_t *)&recording->timer, NULL);
}
