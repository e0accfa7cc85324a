/* Text from mail and from file names on its way to people and to JSON. Both may be anybody's: no
 * byte of them may steer a terminal, forge a line, or turn text around. */
#ifndef QUEUE_TOOL_PLAIN_H
#define QUEUE_TOOL_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum plain_mode {
    PLAIN_FIELD, /* one line: every control character is escaped, and the backslash that escapes */
    PLAIN_TEXT   /* of many: line ends (CRLF and LF) and tabs are themselves, and so is backslash */
};

/* Whether the terminal shows UTF-8; false until said. Where it does not, all but ASCII is escaped:
 * the bytes of harmless UTF-8 are control characters elsewhere. */
void plain_set_utf8(bool utf8);

/* Writes bytes: harmless ones as they are, others as \x1b, those that are harmful only as UTF-8
 * (C1 controls; what is invisible or changes the direction of text) as \u202e. Unless `last`, up to
 * three bytes at the end may be left, which are to come again before those that follow. Returns how
 * many were used. */
size_t plain_write(FILE *out, const char *bytes, size_t length, enum plain_mode mode, bool last);

/* Writes a string as PLAIN_FIELD, and blanks behind it up to `width` columns (roughly: a column a
 * character). */
void plain_field(FILE *out, const char *text, size_t width);

/* A copy that is valid UTF-8 without DEL, U+FFFD in the place of every byte that is not: JSON takes
 * nothing else. Allocated; NULL when memory is out. */
char *plain_utf8(const char *text);

#endif
