/* The trace fields that a server puts before a message it takes: Return-Path and Received (RFC
 * 5321, section 4.4). They carry what a client said of itself, and must stay two well-formed fields
 * whatever that is. Pure. */
#ifndef SMTPD_TRACE_H
#define SMTPD_TRACE_H

#include "common/buffer.h"

#include <stdint.h>

struct trace {
    const char *helo;      /* printable ASCII without spaces */
    const char *literal;   /* the client's address as an address literal */
    const char *hostname;  /* ours */
    const char *protocol;  /* `ESMTP` (RFC 3848, RFC 6531 section 4.3) */
    const char *id;        /* of the message */
    const char *recipient; /* the only one, or NULL: several may not learn of each other */
    int64_t received;      /* microseconds since the epoch */
};

/* Appends Received, its lines folded before 78 octets where the words allow it, each ending in CRLF.
 */
void trace_format(const struct trace *trace, struct buffer *out);

/* Appends Return-Path, for the file in which the message comes to its final delivery and for no
 * other. `sender` is without brackets; empty for the null sender. */
void trace_format_return_path(const char *sender, struct buffer *out);

#endif
