/* What a message asks of the server that it is sent to, found by reading all of it. Pure. */
#ifndef RELAY_SURVEY_H
#define RELAY_SURVEY_H

#include <stdbool.h>
#include <stddef.h>

struct survey {
    bool eight_bit;        /* a byte above 127 anywhere: needs 8BITMIME */
    bool eight_bit_header; /* in the header */
    unsigned hops;         /* Received fields: how far it has come (RFC 5321, section 6.3) */

    bool in_body;
    bool cr;       /* the last byte was CR */
    size_t column; /* in the header's line */
    bool matching; /* the line is `Received:` so far */
};

void survey_init(struct survey *survey);

/* Reads the next bytes of the message. The header ends at the first empty line; lines end in CRLF,
 * CR or LF, as they will when they are sent. Any fragmentation gives the same result. */
void survey_read(struct survey *survey, const char *bytes, size_t length);

#endif
