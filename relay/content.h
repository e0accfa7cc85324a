/* Content as it is sent behind DATA: lines that end in CRLF, dots stuffed once (RFC 5321, section
 * 4.5.2). A message in the spool may have any bytes; a bare CR and a bare LF become CRLF, so that
 * no server can see an end of data where we see none. Pure. */
#ifndef RELAY_CONTENT_H
#define RELAY_CONTENT_H

#include "common/buffer.h"

#include <stdbool.h>
#include <stddef.h>

struct content {
    bool line_start; /* the next byte begins a line */
    bool cr;         /* the last byte was CR, whose line end is not written yet */
};

void content_init(struct content *content);

/* Appends the next bytes of a message to `out`: at most twice their number and three. False when
 * `out` failed. Any fragmentation gives the same result. */
bool content_encode(struct content *content, const char *bytes, size_t length, struct buffer *out);

/* Appends what is left: the end of an unfinished line, and the end of data. */
bool content_end(struct content *content, struct buffer *out);

#endif
