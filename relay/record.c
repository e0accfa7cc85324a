/* From outcomes to what is done about them: see the header. How it is made durable, and why that is
 * safe, stands in relay/steps.c. */
#include "relay/record.h"

#include "common/fault.h"
#include "common/log.h"
#include "relay/failure.h"
#include "relay/schedule.h"
#include "relay/steps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

static bool one_file_system(const int directories[QUEUE_DIRECTORY_COUNT])
{
    struct stat first, other;

    if (fstat(directories[QUEUE_TMP], &first) < 0)
        return false;
    for (int i = 0; i < QUEUE_DIRECTORY_COUNT; i++) {
        if (fstat(directories[i], &other) < 0 || other.st_dev != first.st_dev)
            return false;
    }
    return true;
}

int recorder_open(struct recorder *recorder)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        if (one_file_system(recorder->spool->directories[queue]))
            continue;
        log_error("queue_unusable", LOG_TEXT("path", recorder->spool->path),
                  LOG_TEXT("queue", queue_names[queue]), LOG_ERRNO(EXDEV));
        return EXDEV;
    }
    recorder->piece = malloc(MAIL_PIECE);
    return recorder->piece != NULL ? 0 : ENOMEM;
}

void recorder_close(struct recorder *recorder)
{
    free(recorder->piece);
    recorder->piece = NULL;
}

/* Some recipients are still to be asked. What became of the others in this try is recorded at its
 * end, so that the sender hears of all that failed in one notification; only that some were
 * accepted cannot wait. */
static bool goes_on(const struct mail *mail)
{
    return mail_has(mail, OUTCOME_OPEN) || mail_has(mail, OUTCOME_AGAIN);
}

static void work_begin(struct work *work, struct mail *mail, int64_t now)
{
    *work = (struct work){
        .mail = mail,
        .now = now,
        .accepted = mail_has(mail, OUTCOME_ACCEPTED),
        .failed = mail_has(mail, OUTCOME_FAILED) && !goes_on(mail),
        .rest = mail_has(mail, OUTCOME_DEFERRED) || goes_on(mail),
    };
    mail->error = 0;
}

static void find_failure(const struct recorder *recorder, struct work *work)
{
    struct mail *mail = work->mail;

    mail->error = failure_find(recorder, mail, work->name, &work->begun);
    if (!work->begun)
        return;
    /* What failed besides is tried again: the failure that was begun is ended as it was. */
    work->failed = mail_has(mail, OUTCOME_FAILED);
    work->rest = mail_has(mail, OUTCOME_OPEN) || mail_has(mail, OUTCOME_AGAIN) ||
                 mail_has(mail, OUTCOME_DEFERRED);
}

static void say_duration(char text[static 32], int64_t microseconds)
{
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    int64_t seconds = microseconds / 1000000;
    size_t unit = 0;

    while (unit < 3 && (seconds < units[unit].seconds || seconds % units[unit].seconds != 0))
        unit++;
    seconds /= units[unit].seconds;
    snprintf(text, 32, "%" PRId64 " %s%s", seconds, units[unit].name, seconds == 1 ? "" : "s");
}

static void give_up(struct mail *mail, int64_t max_age)
{
    char age[32], words[REPLY_TEXT_MAX + 1];

    say_duration(age, max_age);
    for (size_t i = 0; i < mail->count; i++) {
        const struct recipient *recipient = &mail->recipients[i];
        if (recipient->outcome != OUTCOME_DEFERRED)
            continue;
        snprintf(words, sizeof words, "given up after %s: %s", age,
                 recipient->words != NULL ? recipient->words : "no reply");
        mail_decide(mail, i, OUTCOME_FAILED, "4.4.7", words,
                    recipient->own_words || recipient->words == NULL);
    }
}

/* A try that goes on is made by whoever has the mail in hand; the time is for the case that nobody
 * has, after a crash. */
static int64_t next_try(const struct mail *mail, int64_t now)
{
    uint32_t random = 0;

    if (!mail_has(mail, OUTCOME_DEFERRED))
        return goes_on(mail) ? now : 0;
    /* Without it the tries are only less spread. */
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
        random = (uint32_t)now;
    return schedule_next(mail->reader.envelope.received, now, random);
}

/* How many recipients have an outcome, and the first of them; NULL when none has. */
static const struct recipient *first_with(const struct mail *mail, enum outcome outcome,
                                          size_t *count)
{
    const struct recipient *first = NULL;

    *count = 0;
    for (size_t i = mail->count; i-- > 0;) {
        if (mail->recipients[i].outcome != outcome)
            continue;
        first = &mail->recipients[i];
        ++*count;
    }
    return first;
}

/* A line an outcome, with the words about its first recipient; those of all that are not done with
 * stand in the reason. */
static void say_outcomes(const struct work *work)
{
    const struct mail *mail = work->mail;
    const struct recipient *first;
    char next[ENVELOPE_TIME_SIZE];
    size_t count;

    if ((first = first_with(mail, OUTCOME_ACCEPTED, &count)) != NULL)
        log_info("relayed", LOG_TEXT("id", mail->id), LOG_NUMBER("rcpt", count),
                 LOG_TEXT("to", first->address), LOG_TEXT("reply", first->words));
    if (!goes_on(mail) && (first = first_with(mail, OUTCOME_DEFERRED, &count)) != NULL) {
        envelope_format_time(next, mail->due);
        log_info("deferred", LOG_TEXT("id", mail->id), LOG_NUMBER("rcpt", count),
                 LOG_TEXT("to", first->address), LOG_TEXT("next", next),
                 LOG_TEXT("reply", first->words));
    }
    if (work->failed && (first = first_with(mail, OUTCOME_FAILED, &count)) != NULL)
        log_warn("failed", LOG_TEXT("id", mail->id), LOG_NUMBER("rcpt", count),
                 LOG_TEXT("to", first->address), LOG_TEXT("as", work->name),
                 LOG_TEXT("reply", first->words));
}

static void end(const struct work *work)
{
    if (work->mail->error != 0) {
        log_error("not_recorded", LOG_TEXT("id", work->mail->id), LOG_ERRNO(work->mail->error));
        return;
    }
    say_outcomes(work);
    if (work->mail->due > 0)
        work->mail->directory = QUEUE_CUR;
}

/* Takes the failed ones off the list, whose failure is ended. */
static void drop_failed(struct mail *mail)
{
    size_t left = 0;

    for (size_t i = 0; i < mail->count; i++) {
        if (mail->recipients[i].outcome == OUTCOME_FAILED)
            free(mail->recipients[i].words);
        else
            mail->recipients[left++] = mail->recipients[i];
    }
    mail->count = left;
}

enum mail_status record_resume(struct recorder *recorder, struct mail *mail)
{
    struct timespec clock;
    struct work work;

    clock_gettime(CLOCK_REALTIME, &clock);
    work_begin(&work, mail, (int64_t)clock.tv_sec * 1000000 + clock.tv_nsec / 1000);
    find_failure(recorder, &work);
    if (mail->error == 0 && !work.begun)
        return MAIL_LOADED;
    mail->due = work.rest ? work.now : 0;
    FAULT_POINT("record.resume");
    steps_take(recorder, &work, mail->error == 0 ? 1 : 0);
    FAULT_POINT("record.resumed");
    end(&work);
    if (mail->error != 0)
        return MAIL_UNREADABLE;
    drop_failed(mail);
    mail->directory = QUEUE_CUR;
    return work.rest ? MAIL_LOADED : MAIL_GONE;
}

/* Where a notification belongs cannot be told while a list of domains is broken: the failure is put
 * off, as if the smarthost had. */
static void put_off(struct mail *mail)
{
    for (size_t i = 0; i < mail->count; i++)
        if (mail->recipients[i].outcome == OUTCOME_FAILED)
            mail->recipients[i].outcome = OUTCOME_DEFERRED;
}

/* False when there is nothing to record. */
static bool prepare(const struct recorder *recorder, struct work *work, struct mail *mail,
                    int64_t now)
{
    if (now - mail->reader.envelope.received > recorder->max_age)
        give_up(mail, recorder->max_age);
    work_begin(work, mail, now);
    if (work->failed && !failure_can_be_told(recorder, mail)) {
        put_off(mail);
        work_begin(work, mail, now);
    }
    if (work->failed)
        find_failure(recorder, work);
    mail->due = next_try(mail, now);
    return work->accepted || work->failed || mail_has(mail, OUTCOME_AGAIN) ||
           mail_has(mail, OUTCOME_DEFERRED);
}

void record_run(struct recorder *recorder, struct mail *mails, int64_t now)
{
    size_t length = 0, count = 0;
    struct work *works;

    for (struct mail *mail = mails; mail != NULL; mail = mail->next, length++)
        mail->error = ENOMEM;
    works = calloc(length + 1, sizeof *works);
    if (works == NULL) {
        log_error("not_recorded", LOG_NUMBER("messages", length), LOG_ERRNO(ENOMEM));
        return;
    }
    for (struct mail *mail = mails; mail != NULL; mail = mail->next)
        count += prepare(recorder, &works[count], mail, now);
    FAULT_POINT("record.begin");
    steps_take(recorder, works, count);
    FAULT_POINT("record.end");
    for (size_t i = 0; i < count; i++)
        end(&works[i]);
    free(works);
}
