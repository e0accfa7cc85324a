/* The content of a message behind DATA: finds its end, undoes dot-stuffing (RFC 5321, section
 * 4.5.2), counts octets (RFC 1870) and `Received` fields (RFC 5321, section 6.3). Nothing but
 * CRLF "." CRLF ends it, and a dot is taken away only behind a CRLF: whatever looser servers take
 * for an end is content here. Pure. */
#ifndef SMTPD_DATA_H
#define SMTPD_DATA_H

#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum data_state {
    DATA_LINE_START, /* behind CRLF, or nothing has come yet */
    DATA_DOT,        /* a dot at the start of a line: stuffed, or the end */
    DATA_DOT_CR,     /* and a CR: its LF makes it the end */
    DATA_TEXT,       /* inside a line */
    DATA_CR,         /* a CR inside a line */
    DATA_ENDED
};

/* All zero is the start of a message. */
struct data {
    uint64_t size;     /* octets of content given out */
    uint32_t received; /* header fields named Received */
    uint8_t state;     /* enum data_state */
    uint8_t matched;   /* octets of this header line that agree with `Received:` */
    bool body;         /* the empty line behind the header has come */
};

/* Takes octets and gives out the next run of content, which points into `bytes` or at static
 * storage. Returns how many octets were used; that may be none while there is content, so call
 * again until all is used or the state is DATA_ENDED. At most one octet more is given out than is
 * used. */
size_t data_feed(struct data *data, const char *bytes, size_t length, struct slice *content);

/* Takes octets of a chunk (RFC 3030), all of which are content: they are only counted. Nothing in
 * them ends a message, and no dot is taken away. */
void data_count(struct data *data, const char *bytes, size_t length);

bool data_ended(const struct data *data);

#endif
