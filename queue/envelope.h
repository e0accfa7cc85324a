/* The envelope: the header lines of Mayfly's own that stand before a message in its spool file.
 *
 *     X-Envelope-Id: 0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10
 *     X-Envelope-Received: 2026-11-21T19:08:11.123456Z
 *     X-Envelope-Client: 192.0.2.1 43210
 *     X-Envelope-Helo: mail.example.org
 *     X-Envelope-Protocol: ESMTP
 *     X-Envelope-From: <alice@example.org>
 *     X-Envelope-To: <bob@mayfly.example>          (one line a recipient, in order)
 *     X-Envelope-Size: 0000000000012345            (16 digits: bytes that follow this line)
 *
 * Every line ends in CRLF, the order is fixed, and the size comes last, so that a torn file is
 * known for what it is. Pure: no system call. Any thread. */
#ifndef QUEUE_ENVELOPE_H
#define QUEUE_ENVELOPE_H

#include "common/buffer.h"
#include "queue/id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ENVELOPE_SIZE_DIGITS = 16,
    ENVELOPE_LINE_MAX = 4096,       /* longest line that is read, CRLF included */
    ENVELOPE_MAX = 8 * 1024 * 1024, /* longest envelope that is written or read, in bytes */
    ENVELOPE_RECIPIENTS_MAX = 100 * 1000,
    ENVELOPE_TIME_SIZE = 28 /* 2026-11-21T19:08:11.123456Z and its NUL */
};

struct envelope {
    const char *id;             /* a valid id */
    int64_t received;           /* microseconds since the epoch */
    const char *client_address; /* IPv4 or IPv6 in text form, without brackets */
    unsigned client_port;
    const char *helo;
    const char *protocol;    /* RFC 3848: SMTP, ESMTP, ... */
    const char *from;        /* reverse-path without angle brackets; empty for the null sender */
    const char **recipients; /* forward-paths without angle brackets */
    size_t recipients_count;
    uint64_t size; /* bytes of the message that follow the envelope */
    char *storage; /* envelope_parse: what the strings point into */
};

enum envelope_status {
    ENVELOPE_OK,
    ENVELOPE_INCOMPLETE, /* no size line yet: needs more bytes */
    ENVELOPE_BAD,        /* not an envelope */
    ENVELOPE_NO_MEMORY
};

/* Appends the envelope in text form. The size is written as `envelope->size`. False when a string
 * has a control character (it could forge a line), or when `out` failed. */
bool envelope_encode(const struct envelope *envelope, struct buffer *out);

/* Writes a size as the 16 digits that end an envelope (before its CRLF), unterminated. */
void envelope_encode_size(char digits[static ENVELOPE_SIZE_DIGITS], uint64_t size);

/* Reads the envelope at the start of `bytes`. OK: `envelope` is filled from a copy of the text,
 * owned by it (envelope_free), and `*consumed` is the offset of the message. BAD: `*why` is a
 * static sentence. Nothing to free unless OK. */
enum envelope_status envelope_parse(struct envelope *envelope, const char *bytes, size_t length,
                                    size_t *consumed, const char **why);

/* Frees what envelope_parse allocated. Harmless on a zeroed envelope. */
void envelope_free(struct envelope *envelope);

/* `2026-11-21T19:08:11.123456Z`; years 1970 to 9999. */
void envelope_format_time(char text[static ENVELOPE_TIME_SIZE], int64_t microseconds);
bool envelope_parse_time(const char *text, int64_t *microseconds);

#endif
