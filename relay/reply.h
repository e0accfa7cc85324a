/* Replies of an SMTP server (RFC 5321, section 4.2), read from a stream that cannot be trusted to
 * be one: whatever comes in, what is kept of it is bounded and printable. Pure. */
#ifndef RELAY_REPLY_H
#define RELAY_REPLY_H

#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    REPLY_TEXT_MAX = 1000,       /* bytes of a reply that are kept; more is cut */
    REPLY_BYTES_MAX = 64 * 1024, /* of a whole reply: a server that says more is not listened to */
    REPLY_STATUS_SIZE = 12
};

struct reply {
    int code; /* 200 to 599 */
    /* Enhanced status code (RFC 3463) of the first line, `5.1.1`; where it has none, or one of
     * another class than the code, the code's class with zeros: `5.0.0`. */
    char status[REPLY_STATUS_SIZE];
    /* Its lines with the code before the first: `550 5.1.1 No such user`; the text of later lines
     * behind a space, without their codes. Valid UTF-8 without control characters. */
    char text[REPLY_TEXT_MAX + 1];
};

enum reply_result {
    REPLY_INCOMPLETE, /* all input is taken, more is needed */
    REPLY_COMPLETE,
    REPLY_MALFORMED, /* no reply, or lines of different codes */
    REPLY_TOO_LONG
};

struct reply_parser {
    struct reply reply;       /* of COMPLETE, until the next call */
    size_t bytes;             /* of this reply so far */
    size_t column;            /* in the line under way */
    bool more;                /* the line says that another one follows */
    bool cr;                  /* the last byte was CR */
    size_t length;            /* of reply.text */
    enum reply_result result; /* once it is MALFORMED or TOO_LONG it stays so */
};

/* Begins with the next reply. */
void reply_parser_init(struct reply_parser *parser);

/* Reads from the start of `*input` and cuts off what it took: at most one reply. Lines end in CRLF
 * or LF. Any fragmentation gives the same replies. */
enum reply_result reply_parse(struct reply_parser *parser, struct slice *input);

#endif
