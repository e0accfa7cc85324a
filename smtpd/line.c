/* Cutting command lines: see the header. */
#include "smtpd/line.h"

#include <stdlib.h>
#include <string.h>

/* Keeps `length` more octets of the line; the limit was checked by the caller. */
static bool hold(struct line *line, size_t kept, const char *bytes, size_t length)
{
    if (line->held == NULL)
        line->held = malloc(LINE_LIMIT);
    if (line->held == NULL)
        return false;
    memcpy(line->held + kept, bytes, length);
    return true;
}

/* Accounts for one octet; true when it ends the line. */
static bool take_octet(struct line *line, char c)
{
    bool ends = c == '\n' && line->carriage;

    if (!ends && (line->carriage || c == '\n' || c == '\0'))
        line->bad = true;
    line->carriage = c == '\r';
    if (line->octets < LINE_FIRST)
        line->first[line->octets] = c;
    if (line->octets <= LINE_LIMIT)
        line->octets++;
    return ends;
}

size_t line_feed(struct line *line, const char *bytes, size_t length, enum line_status *status,
                 struct slice *text)
{
    size_t start = 0, kept = line->octets;

    *status = LINE_PARTIAL;
    for (size_t at = 0; at < length; at++) {
        bool ends = take_octet(line, bytes[at]);

        if (line->discarding) {
            if (ends) {
                line_reset(line);
                start = at + 1;
                kept = 0;
            }
            continue;
        }
        if (line->octets > LINE_LIMIT) {
            bool carriage = line->carriage;
            char first[LINE_FIRST];
            memcpy(first, line->first, LINE_FIRST);
            line_reset(line);
            memcpy(line->first, first, LINE_FIRST);
            *text = slice_make(line->first, LINE_FIRST);
            line->discarding = !ends;
            line->carriage = carriage;
            *status = LINE_TOO_LONG;
            return at + 1;
        }
        if (!ends)
            continue;
        if (line->held != NULL) {
            memcpy(line->held + kept, bytes + start, at + 1 - start);
            *text = slice_make(line->held, line->octets - 2u);
        } else {
            *text = slice_make(bytes + start, line->octets - 2u);
        }
        *status = line->bad ? LINE_BAD : LINE_COMPLETE;
        return at + 1;
    }
    if (!line->discarding && start < length && !hold(line, kept, bytes + start, length - start))
        *status = LINE_NO_MEMORY;
    return length;
}

void line_reset(struct line *line)
{
    free(line->held);
    *line = (struct line){0};
}
