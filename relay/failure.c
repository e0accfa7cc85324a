/* Failures: see the header; why the steps have this order stands in relay/steps.c. */
#include "relay/failure.h"

#include "common/date.h"
#include "common/fault.h"
#include "common/log.h"
#include "queue/path.h"
#include "queue/reader.h"
#include "queue/retire.h"
#include "queue/writer.h"
#include "relay/excerpt.h"
#include "relay/notification.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FAILURE_NAMES = 1000,                  /* numbers tried behind an id that is taken */
    FAILURE_NOTIFICATION = 8 * 1024 * 1024 /* bytes of a notification at most */
};

int failure_find(const struct recorder *recorder, struct mail *mail,
                 char name[static FAILURE_NAME_SIZE], bool *begun)
{
    struct reader reader;

    *begun = false;
    snprintf(name, FAILURE_NAME_SIZE, "%s", mail->id);
    for (int number = 1; number <= FAILURE_NAMES; number++) {
        switch (reader_open_named(&reader, recorder->spool, QUEUE_RELAY, QUEUE_FAILED, name,
                                  mail->id)) {
        case READER_GONE:
            return 0;
        case READER_ERROR:
            return reader.error;
        case READER_BAD:
            break;
        case READER_OK:
            *begun = excerpt_match(&reader.envelope, mail);
            reader_close(&reader);
            if (*begun)
                return 0;
        }
        snprintf(name, FAILURE_NAME_SIZE, "%s.%d", mail->id, number);
    }
    return EEXIST;
}

static void name_staged(char staged[static FAILURE_NAME_SIZE + 16], const char *name)
{
    snprintf(staged, FAILURE_NAME_SIZE + 16, "%s.notification", name);
}

/* Where mail for the sender goes: SITE_NOWHERE with a reason in `why` when it goes nowhere. */
static enum site_route route_of_sender(const struct recorder *recorder, const char *sender,
                                       const char **why)
{
    char brackets[ENVELOPE_LINE_MAX + 3];
    struct path path;
    struct slice rest;

    *why = "the sender is null";
    if (sender[0] == '\0')
        return SITE_NOWHERE;
    *why = "mail for the sender's domain is neither stored nor relayed here";
    snprintf(brackets, sizeof brackets, "<%s>", sender);
    return path_parse_reverse(slice_of(brackets), &path, &rest)
               ? site_route(recorder->site, path.domain)
               : SITE_NOWHERE;
}

/* The header of the message, or as much of it as is returned, into recorder->piece. */
static int read_header(const struct recorder *recorder, const struct mail *mail,
                       struct slice *header)
{
    uint64_t size = mail->reader.envelope.size;
    size_t wanted = size < NOTIFICATION_HEADER_MAX ? (size_t)size : NOTIFICATION_HEADER_MAX;
    ssize_t n;

    do
        n = FAULT_CALL("failure.read", pread(mail->reader.descriptor, recorder->piece, wanted,
                                             (off_t)mail->reader.start));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    *header = slice_make(recorder->piece, (size_t)n);
    return 0;
}

/* The trace fields that smtpd would put before it, and the notification. */
static int compose(const struct recorder *recorder, const struct mail *mail, const char *id,
                   int64_t now, enum queue queue, struct buffer *out)
{
    struct notification notification = {
        .id = id,
        .now = now,
        .hostname = recorder->hostname,
        .smarthost = recorder->smarthost,
        .sender = mail->reader.envelope.from,
        .message_id = mail->id,
        .received = mail->reader.envelope.received,
        .recipients = mail->recipients,
        .count = mail->count,
    };
    char date[DATE_SIZE];
    int error = read_header(recorder, mail, &notification.header);

    if (error != 0)
        return error;
    date_format(date, now);
    if (queue == QUEUE_STORE)
        buffer_append_string(out, "Return-Path: <>\r\n");
    buffer_printf(out, "Received: by %s (Mayfly relay)\r\n\tid %s;\r\n\t%s\r\n", recorder->hostname,
                  id, date);
    return notification_compose(&notification, out) ? 0 : ENOMEM;
}

static int write_staged(const struct recorder *recorder, const struct mail *mail, const char *id,
                        int64_t now, enum queue queue, const char *staged)
{
    const char *sender = mail->reader.envelope.from;
    const struct envelope envelope = {
        .id = id,
        .received = now,
        .client_address = "127.0.0.1",
        .helo = recorder->hostname,
        .protocol = "LOCAL",
        .from = "",
        .recipients = &sender,
        .recipients_count = 1,
    };
    struct buffer bytes;
    struct writer writer;
    int error;

    buffer_init(&bytes, FAILURE_NOTIFICATION + NOTIFICATION_HEADER_MAX);
    error = compose(recorder, mail, id, now, queue, &bytes);
    if (error == 0)
        error = writer_begin(&writer, recorder->spool, queue, &envelope);
    if (error == 0)
        error = writer_finish(&writer, bytes.data, bytes.length);
    if (error == 0)
        error = writer_place(&writer, QUEUE_FAILED, staged, 0);
    buffer_free(&bytes);
    return error;
}

bool failure_can_be_told(const struct recorder *recorder, const struct mail *mail)
{
    const char *sender = mail->reader.envelope.from, *why;

    if (route_of_sender(recorder, sender, &why) != SITE_UNKNOWN)
        return true;
    log_error("sender_unknown", LOG_TEXT("id", mail->id), LOG_TEXT("from", sender));
    return false;
}

int failure_stage(const struct recorder *recorder, const struct mail *mail, const char *name,
                  int64_t now, struct buffer *text)
{
    const char *why;
    enum site_route route = route_of_sender(recorder, mail->reader.envelope.from, &why);
    enum queue queue = route == SITE_STORE ? QUEUE_STORE : QUEUE_RELAY;
    char staged[FAILURE_NAME_SIZE + 16], id[ID_SIZE];
    int error = 0;

    name_staged(staged, name);
    for (int other = 0; error == 0 && other < QUEUE_COUNT; other++)
        error = retire_remove(recorder->spool, (enum queue)other, QUEUE_FAILED, staged);
    if (error != 0)
        return error;
    if (route == SITE_NOWHERE) {
        buffer_printf(text, "notification: none, %s\n", why);
        if (mail->reader.envelope.from[0] != '\0')
            log_warn("not_notified", LOG_TEXT("id", mail->id),
                     LOG_TEXT("from", mail->reader.envelope.from), LOG_TEXT("why", why));
        return 0;
    }
    id_make(id, now);
    buffer_printf(text, "notification: %s in %s\n", id, queue_names[queue]);
    return write_staged(recorder, mail, id, now, queue, staged);
}

static int notify_in(const struct recorder *recorder, const char *name, enum queue queue)
{
    const int *directories = recorder->spool->directories[queue];
    char staged[FAILURE_NAME_SIZE + 16];
    struct reader reader;
    int error = 0;

    name_staged(staged, name);
    switch (reader_open_named(&reader, recorder->spool, queue, QUEUE_FAILED, staged, NULL)) {
    case READER_GONE:
        return 0;
    case READER_ERROR:
        return reader.error;
    case READER_BAD:
        log_error("notification_lost", LOG_TEXT("as", staged), LOG_TEXT("reason", reader.why));
        return 0;
    case READER_OK:
        break;
    }
    if (FAULT_CALL("failure.notify", renameat(directories[QUEUE_FAILED], staged,
                                              directories[QUEUE_NEW], reader.envelope.id)) < 0)
        error = errno;
    else
        log_info("notified", LOG_TEXT("id", reader.envelope.id),
                 LOG_TEXT("queue", queue_names[queue]), LOG_TEXT("of", name));
    reader_close(&reader);
    return error;
}

int failure_notify(const struct recorder *recorder, const char *name)
{
    int error = 0;

    for (int queue = 0; error == 0 && queue < QUEUE_COUNT; queue++)
        error = notify_in(recorder, name, (enum queue)queue);
    return error;
}
