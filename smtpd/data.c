/* The content behind DATA: see the header. */
#include "smtpd/data.h"

#include "common/ascii.h"

#include <string.h>

/* `Received:` in lower case; a line that has failed to agree, or has agreed, is no longer looked
 * at. */
static const char field_name[] = "received:";
enum { FIELD_NAME_LENGTH = sizeof field_name - 1, FIELD_DECIDED = 0xff };

static void line_begin(struct data *data)
{
    data->state = DATA_LINE_START;
    data->matched = data->body ? FIELD_DECIDED : 0;
}

/* The LF behind a CR: a line without an octet before the CR is the end of the header. */
static void line_end(struct data *data)
{
    if (data->matched == 0)
        data->body = true;
    line_begin(data);
}

static void match_octet(struct data *data, char c)
{
    if (ascii_lower(c) != field_name[data->matched]) {
        data->matched = FIELD_DECIDED;
    } else if (++data->matched == FIELD_NAME_LENGTH) {
        data->received++;
        data->matched = FIELD_DECIDED;
    }
}

/* Inside a line: an octet at a time while the field's name is of interest, else in one leap to the
 * next CR. Returns the offset of what comes next. */
static size_t take_text(struct data *data, const char *bytes, size_t length, size_t at)
{
    const char *carriage;

    for (; at < length && data->matched != FIELD_DECIDED && bytes[at] != '\r'; at++)
        match_octet(data, bytes[at]);
    if (at == length)
        return at;
    carriage = memchr(bytes + at, '\r', length - at);
    if (carriage == NULL)
        return length;
    data->state = DATA_CR;
    return (size_t)(carriage - bytes) + 1;
}

/* Behind a CR inside a line. */
static void take_after_carriage(struct data *data, char c)
{
    if (c == '\n') {
        line_end(data);
        return;
    }
    data->matched = FIELD_DECIDED;
    if (c != '\r')
        data->state = DATA_TEXT;
}

size_t data_feed(struct data *data, const char *bytes, size_t length, struct slice *content)
{
    size_t at = 0, start = 0;

    while (at < length && data->state != DATA_ENDED) {
        char c = bytes[at];

        switch ((enum data_state)data->state) {
        case DATA_LINE_START:
            if (c == '.') {
                if (at > start)
                    goto out; /* the run ends before the dot, which is taken next time */
                data->state = DATA_DOT;
                start = ++at;
            } else if (c == '\r') {
                data->state = DATA_CR;
                at++;
            } else {
                data->state = DATA_TEXT;
            }
            break;
        case DATA_DOT:
            if (c == '\r') {
                data->state = DATA_DOT_CR; /* withheld: content only if no LF follows */
                start = ++at;
            } else {
                data->state = DATA_TEXT;
            }
            break;
        case DATA_DOT_CR:
            if (c == '\n') {
                data->state = DATA_ENDED;
                start = ++at;
                break;
            }
            data->state = DATA_CR;
            data->matched = FIELD_DECIDED;
            if (at == 0) {
                *content = slice_make("\r", 1);
                data->size++;
                return 0;
            }
            start = at - 1; /* the withheld CR still lies there */
            break;
        case DATA_TEXT:
            at = take_text(data, bytes, length, at);
            break;
        case DATA_CR:
            take_after_carriage(data, c);
            at++;
            break;
        case DATA_ENDED:
            break;
        }
    }
out:
    *content = slice_make(bytes + start, at - start);
    data->size += content->length;
    return at;
}

void data_count(struct data *data, const char *bytes, size_t length)
{
    size_t at = 0;

    data->size += length;
    while (at < length) {
        switch ((enum data_state)data->state) {
        case DATA_CR:
            take_after_carriage(data, bytes[at++]);
            break;
        case DATA_TEXT:
            at = take_text(data, bytes, length, at);
            break;
        default:
            data->state = bytes[at] == '\r' ? DATA_CR : DATA_TEXT;
            at += bytes[at] == '\r';
            break;
        }
    }
}

bool data_ended(const struct data *data)
{
    return data->state == DATA_ENDED;
}
