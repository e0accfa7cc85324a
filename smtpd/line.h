/* Cuts the bytes of a connection into command lines. Only CRLF ends a line (RFC 5321, section
 * 2.3.8): a server that takes a bare LF or CR for an end can be made to see commands where another
 * saw content, which is how mail is smuggled. Pure. */
#ifndef SMTPD_LINE_H
#define SMTPD_LINE_H

#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest command line, CRLF included. RFC 5321, section 4.5.3.1.4, asks for 512, and its
 * extensions for a few hundred more. */
enum { LINE_LIMIT = 2048 };

enum line_status {
    LINE_PARTIAL,  /* all input is used and no line has ended */
    LINE_COMPLETE, /* a line, without its CRLF */
    LINE_BAD,      /* a line that has a bare CR, a bare LF or a NUL in it */
    LINE_TOO_LONG, /* said once, as soon as the limit is passed; the rest of the line is dropped */
    LINE_NO_MEMORY /* a partial line could not be kept: the stream is lost */
};

/* All zero is a fresh start. */
enum { LINE_FIRST = 5 };

struct line {
    char *held;             /* the start of a line whose end has not come, or NULL */
    uint16_t octets;        /* of this line so far, CRLF included */
    char first[LINE_FIRST]; /* its first octets */
    bool carriage;          /* the last octet was a CR */
    bool bad;               /* as LINE_BAD */
    bool discarding;        /* LINE_TOO_LONG was said of this line */
};

/* Takes octets up to and including the next end of a line; returns how many were used. `*text` is
 * set when the status is COMPLETE or BAD, and, to the first LINE_FIRST octets alone, when it is
 * TOO_LONG; it is valid until line_reset, which the caller then owes,
 * and as long as `bytes`. */
size_t line_feed(struct line *line, const char *bytes, size_t length, enum line_status *status,
                 struct slice *text);

/* Frees what is held; the next octet begins a line. */
void line_reset(struct line *line);

#endif
