/* Delivery status notifications: see the header. What others said is in them, the smarthost, the
 * sender and whoever wrote the message; every line of it goes through relay/lines.h. */
#include "relay/notification.h"

#include "common/date.h"
#include "relay/lines.h"

#include <string.h>

enum {
    NOTIFICATION_TOLD = 100,                  /* recipients that are named in the text for people */
    NOTIFICATION_STATUS_MAX = 6 * 1024 * 1024 /* bytes of the part for programs */
};

/* Whose words begin so has the last ones of the server behind a colon (relay/record.c). */
static const char given_up[] = "given up after ";

static bool is_utf8(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text > 0x7f)
            return true;
    }
    return false;
}

static const char *words_of(const struct recipient *recipient)
{
    return recipient->words != NULL ? recipient->words : "no reply";
}

/* The part of the words that the server said; NULL: it said nothing. */
static const char *server_words(const struct recipient *recipient)
{
    const char *words = recipient->words;

    if (recipient->own_words || words == NULL)
        return NULL;
    if (strncmp(words, given_up, sizeof given_up - 1) != 0)
        return words;
    words = strstr(words, ": ");
    return words != NULL ? words + 2 : NULL;
}

static void append_boundary(const struct notification *notification, struct buffer *out,
                            const char *end)
{
    buffer_printf(out, "\r\n--=_%s%s\r\n", notification->id, end);
}

static void append_part(const struct notification *notification, struct buffer *out,
                        const char *type, const char *encoding)
{
    append_boundary(notification, out, "");
    buffer_printf(out, "Content-Type: %s\r\n", type);
    buffer_printf(out, "Content-Transfer-Encoding: %s\r\n\r\n", encoding);
}

static void append_header(const struct notification *notification, struct buffer *out, bool utf8)
{
    char date[DATE_SIZE];

    date_format(date, notification->now);
    buffer_printf(out, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", notification->hostname);
    buffer_printf(out, "To: <%s>\r\n", notification->sender);
    buffer_append_string(out, "Subject: Mail that could not be delivered\r\n");
    buffer_printf(out, "Date: %s\r\n", date);
    buffer_printf(out, "Message-ID: <%s@%s>\r\n", notification->id, notification->hostname);
    buffer_append_string(out, "Auto-Submitted: auto-replied\r\n");
    buffer_append_string(out, "MIME-Version: 1.0\r\n");
    /* The subtype of the second part (RFC 6522, section 3). */
    buffer_printf(out, "Content-Type: multipart/report; report-type=%sdelivery-status;\r\n",
                  utf8 ? "global-" : "");
    buffer_printf(out, "\tboundary=\"=_%s\"\r\n", notification->id);
    buffer_printf(out, "Content-Transfer-Encoding: %s\r\n\r\n", utf8 ? "8bit" : "7bit");
    buffer_append_string(out, "This is a report in MIME format.\r\n");
}

/* The text for people. */

static void append_told(const struct notification *notification, const struct recipient *recipient,
                        struct buffer *out, bool utf8)
{
    const char *server = server_words(recipient);

    buffer_append_string(out, "  <");
    if (utf8)
        buffer_append_string(out, recipient->address);
    else
        lines_address(out, recipient->address, false);
    buffer_append_string(out, ">\r\n      ");
    if (server != NULL && server == recipient->words)
        buffer_printf(out, "%s said: ", notification->smarthost);
    lines_fold(out, words_of(recipient), "      ", utf8);
    buffer_append_string(out, "\r\n");
}

static void append_text(const struct notification *notification, struct buffer *out, size_t count,
                        size_t reported, bool utf8)
{
    char date[DATE_SIZE];
    size_t told = 0;

    date_format(date, notification->received);
    buffer_printf(out, "This is the mail system of %s.\r\n\r\n", notification->hostname);
    buffer_printf(out,
                  "A message of yours could not be delivered to %s. It was\r\n"
                  "accepted here on %s\r\n"
                  "under the id %s. Nothing more will be tried for:\r\n\r\n",
                  count == 1 ? "one of its recipients" : "some of its recipients", date,
                  notification->message_id);
    for (size_t i = 0; i < notification->count && told < NOTIFICATION_TOLD; i++) {
        if (notification->recipients[i].outcome != OUTCOME_FAILED)
            continue;
        append_told(notification, &notification->recipients[i], out, utf8);
        told++;
    }
    if (count > told)
        buffer_printf(out, "and %zu more, who are named in the report below%s.\r\n\r\n",
                      count - told, reported < count ? " as far as there is room" : "");
    buffer_append_string(
        out, "Please see whether each address is written as it should be. If it is, the\r\n"
             "words beside it say what stood in the way: mend it and send the message\r\n"
             "again, or ask whoever runs the mail server that refused it.\r\n\r\n"
             "The report for programs and the header of your message follow.\r\n");
}

/* The report for programs (RFC 3464, section 2). */

static void append_status(const struct notification *notification,
                          const struct recipient *recipient, struct buffer *out, bool utf8)
{
    const char *server = server_words(recipient);
    char date[DATE_SIZE];

    date_format(date, notification->now);
    buffer_printf(out, "\r\nFinal-Recipient: %s; ",
                  is_utf8(recipient->address) ? "utf-8" : "rfc822");
    lines_address(out, recipient->address, utf8);
    buffer_printf(out, "\r\nAction: failed\r\nStatus: %s\r\n",
                  recipient->status[0] != '\0' ? recipient->status : "5.0.0");
    if (server != NULL) {
        buffer_printf(out, "Remote-MTA: dns; %s\r\n", notification->smarthost);
        buffer_append_string(out, "Diagnostic-Code: smtp; ");
        lines_fold(out, server, "    ", utf8);
    }
    buffer_printf(out, "Last-Attempt-Date: %s\r\n", date);
}

/* Returns for how many recipients there was room. */
static size_t append_report(const struct notification *notification, struct buffer *out, bool utf8)
{
    char date[DATE_SIZE];
    size_t reported = 0;

    date_format(date, notification->received);
    buffer_printf(out, "Reporting-MTA: dns; %s\r\nArrival-Date: %s\r\n", notification->hostname,
                  date);
    for (size_t i = 0; i < notification->count && out->length < NOTIFICATION_STATUS_MAX; i++) {
        if (notification->recipients[i].outcome != OUTCOME_FAILED)
            continue;
        append_status(notification, &notification->recipients[i], out, utf8);
        reported++;
    }
    return reported;
}

/* The header of the message, in a coding that leaves it as it is and our lines well-formed. */
static void append_returned(const struct notification *notification, struct buffer *out, bool utf8)
{
    struct slice header = lines_header(notification->header, NOTIFICATION_HEADER_MAX);

    if (lines_are_plain(header, false)) {
        append_part(notification, out, "text/rfc822-headers", "7bit");
        lines_append(out, header);
    } else if (utf8 && lines_are_plain(header, true)) {
        append_part(notification, out, "message/global-headers", "8bit");
        lines_append(out, header);
    } else {
        append_part(notification, out, "text/rfc822-headers", "quoted-printable");
        lines_quote(out, header);
    }
}

static size_t count_failed(const struct notification *notification)
{
    size_t count = 0;

    for (size_t i = 0; i < notification->count; i++)
        count += notification->recipients[i].outcome == OUTCOME_FAILED;
    return count;
}

/* The report is made first: how much of it there is room for is said before it. */
bool notification_compose(const struct notification *notification, struct buffer *out)
{
    bool utf8 = is_utf8(notification->sender);
    struct buffer report;
    size_t reported;

    buffer_init(&report, NOTIFICATION_STATUS_MAX + 16 * 1024);
    reported = append_report(notification, &report, utf8);
    append_header(notification, out, utf8);
    append_part(notification, out,
                utf8 ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii",
                utf8 ? "8bit" : "7bit");
    append_text(notification, out, count_failed(notification), reported, utf8);
    append_part(notification, out,
                utf8 ? "message/global-delivery-status" : "message/delivery-status",
                utf8 ? "8bit" : "7bit");
    buffer_append(out, report.data, report.length);
    append_returned(notification, out, utf8);
    append_boundary(notification, out, "--");
    out->failed |= report.failed;
    buffer_free(&report);
    return !out->failed;
}
