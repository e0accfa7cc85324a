/* Trace fields: see the header. */
#include "smtpd/trace.h"

#include "common/date.h"
#include "queue/path.h"

#include <string.h>

/* RFC 5322, section 2.1.1: lines should be no longer, CRLF not counted. */
enum { LINE_WISHED = 78 };

/* Where the present line began, so that it can be folded before a word that would not fit. */
static void append_words(struct buffer *out, size_t *line, const char *words, const char *value,
                         const char *end)
{
    size_t length = strlen(words) + strlen(value) + strlen(end);
    bool first = out->length - *line == 1;

    if (!first && out->length - *line + 1 + length > LINE_WISHED) {
        buffer_append_string(out, "\r\n\t");
        *line = out->length - 1;
    } else if (!first) {
        buffer_append_string(out, " ");
    }
    buffer_append_string(out, words);
    buffer_append_string(out, value);
    buffer_append_string(out, end);
}

static void append_fold(struct buffer *out, size_t *line)
{
    buffer_append_string(out, "\r\n\t");
    *line = out->length - 1;
}

/* A name that is neither a domain nor an address literal could be anything but white space and
 * controls: it goes into a comment, where three characters need a backslash. */
static void append_comment(struct buffer *out, const char *helo)
{
    buffer_append_string(out, "(helo ");
    for (; *helo != '\0'; helo++) {
        if (strchr("()\\", *helo) != NULL)
            buffer_append_string(out, "\\");
        buffer_append(out, helo, 1);
    }
    buffer_append_string(out, ")");
}

/* RFC 5321, section 4.4: From-domain is a Domain or an address literal, then the address itself. */
static void append_from(const struct trace *trace, struct buffer *out, size_t *line)
{
    struct slice helo = slice_of(trace->helo);

    buffer_append_string(out, "Received: from ");
    if (path_is_domain(helo) || path_is_literal(helo)) {
        buffer_append_string(out, trace->helo);
        append_words(out, line, "(", trace->literal, ")");
    } else {
        buffer_append_string(out, trace->literal);
        append_fold(out, line);
        append_comment(out, trace->helo);
    }
}

void trace_format_return_path(const char *sender, struct buffer *out)
{
    buffer_append_string(out, "Return-Path: <");
    buffer_append_string(out, sender);
    buffer_append_string(out, ">\r\n");
}

void trace_format(const struct trace *trace, struct buffer *out)
{
    size_t line = out->length;
    char date[DATE_SIZE];

    append_from(trace, out, &line);
    append_fold(out, &line);
    append_words(out, &line, "by ", trace->hostname, "");
    append_words(out, &line, "with ", trace->protocol, "");
    append_words(out, &line, "id ", trace->id, trace->recipient != NULL ? "" : ";");
    append_fold(out, &line);
    if (trace->recipient != NULL)
        append_words(out, &line, "for <", trace->recipient, ">;");
    date_format(date, trace->received);
    append_words(out, &line, date, "", "");
    buffer_append_string(out, "\r\n");
}
