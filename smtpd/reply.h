/* Every reply that smtpd can give, as rows: code, enhanced code (RFC 2034, 3463, 5248), text. The
 * code decides what a client does next, so all of them can be seen at once. Pure. */
#ifndef SMTPD_REPLY_H
#define SMTPD_REPLY_H

#include "common/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reply {
    REPLY_UNSET, /* no reply was chosen: what a hole in a table looks like */
    REPLY_NONE,  /* nothing is said */

    REPLY_GREETING,
    REPLY_HELO,
    REPLY_EHLO,
    REPLY_OK,
    REPLY_SENDER_OK,
    REPLY_RECIPIENT_OK,
    REPLY_START_DATA,
    REPLY_CHUNK_OK,
    REPLY_START_TLS,
    REPLY_QUEUED,
    REPLY_HELP,
    REPLY_CANNOT_VERIFY,
    REPLY_BYE,

    REPLY_SHUTDOWN,
    REPLY_TIMEOUT,
    REPLY_TOO_SLOW,
    REPLY_SERVER_FULL,
    REPLY_CLIENT_FULL,
    REPLY_TOO_MANY_ERRORS,
    REPLY_TOO_MUCH_JUNK,
    REPLY_TOO_MANY_MESSAGES,
    REPLY_FOREIGN,
    REPLY_INTERNAL,

    REPLY_TLS_UNAVAILABLE,
    REPLY_LOCAL_ERROR,
    REPLY_POLICY_ERROR,
    REPLY_NO_SPACE,
    REPLY_TOO_MANY_RECIPIENTS,

    REPLY_MALFORMED,
    REPLY_LINE_TOO_LONG,
    REPLY_BAD_LINE_END,
    REPLY_UNKNOWN,
    REPLY_UNIMPLEMENTED,
    REPLY_MISUSED,
    REPLY_BAD_NAME,
    REPLY_BAD_MAIL,
    REPLY_BAD_RCPT,
    REPLY_BAD_SENDER,
    REPLY_BAD_RECIPIENT,
    REPLY_BAD_PARAMETER,
    REPLY_BAD_CHUNK,
    REPLY_UNKNOWN_PARAMETER,
    REPLY_NEED_HELO,
    REPLY_NESTED_MAIL,
    REPLY_NEED_MAIL,
    REPLY_NEED_RCPT,
    REPLY_NO_RECIPIENTS,
    REPLY_IN_CHUNKS,
    REPLY_TLS_ALREADY,
    REPLY_TLS_REQUIRED,
    REPLY_EARLY_TALK,
    REPLY_OUT_OF_TURN,
    REPLY_REJECTED,
    REPLY_SENDER_NEEDS_UTF8,
    REPLY_RECIPIENT_NEEDS_UTF8,
    REPLY_SENDER_REFUSED,
    REPLY_DOMAIN_REFUSED,
    REPLY_RECIPIENT_REFUSED,
    REPLY_TOO_BIG,
    REPLY_TOO_MANY_HOPS,

    REPLY_COUNT
};

/* Longest line of a reply, CRLF included (RFC 5321, section 4.5.3.1.5). */
enum { REPLY_LINE_MAX = 512 };

/* What some replies tell. */
struct reply_values {
    const char *hostname; /* at most 255 octets */
    uint64_t max_size;
    size_t max_recipients;
    unsigned max_messages;
    bool tls;       /* STARTTLS is on offer */
    const char *id; /* of the message, for REPLY_QUEUED */
};

/* Its three digits; 0 for UNSET and NONE. */
unsigned reply_code(enum reply reply);

/* The enhanced status code, or NULL where a reply has none; and the text, as it stands in the row.
 */
const char *reply_enhanced(enum reply reply);
const char *reply_text(enum reply reply);

/* Appends the reply, every line of it with its CRLF, to `out`; NONE appends nothing. */
void reply_format(enum reply reply, const struct reply_values *values, struct buffer *out);

#endif
