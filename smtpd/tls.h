/* TLS between a connection's bytes and its session's lines (RFC 3207, RFC 8446, RFC 5246): records
 * in, plaintext out, and back. It knows no socket, no loop and no SMTP. The buffers are the
 * caller's and hold something only during a call, so one of each serves all connections.
 *
 * What an established connection that is silent keeps allocated (OpenSSL 3.0, x86-64): 13.4 KiB,
 * the heap's own overhead counted. It cannot be less: 7.4 KiB are the SSL object itself, 2.4 KiB the
 * ciphers' states of both directions, 1 KiB is the session, and the rest is what the handshake agreed
 * on, which OpenSSL has no call to let go. A record that has come in part adds a buffer of 16.6 KiB.
 * In the middle of a handshake it is up to 72 KiB, whatever the client sends.
 *
 * Thread: one, the same for all. */
#ifndef SMTPD_TLS_H
#define SMTPD_TLS_H

#include "common/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TLS_REASON_SIZE = 512,
    TLS_RECORD_MAX = 16 * 1024, /* of plaintext in one record (RFC 8446, section 5.1) */
    TLS_FEED_MAX = 64 * 1024,   /* of ciphertext in one tls_feed */
    /* What one tls_feed needs room for in an empty `plain`: what it is given, a record that had
     * come all but its last octet, and the record that is being opened. */
    TLS_PLAIN_MAX = TLS_FEED_MAX + 2 * TLS_RECORD_MAX,
    /* Enough for the server's flight with a chain of many certificates, and for TLS_FEED_MAX of
     * plaintext in a single tls_write. */
    TLS_RECORDS_MAX = TLS_FEED_MAX + 4 * 1024,
};

/* A certificate with its chain, its key, and how TLS is spoken with it. */
struct tls_context;

/* Reads PEM files: the server's own certificate first in `certificate`, then those between it and
 * the root; and its `key`, not encrypted. NULL with the reason, in words for the log, when either
 * cannot be used. Else `reason` is empty, or a warning: the certificate is of another time.
 *
 * The first call also sets up OpenSSL, which reads its configuration file. */
struct tls_context *tls_context_load(const char *certificate, const char *key,
                                     char reason[static TLS_REASON_SIZE]);

/* When its certificate expires, in seconds since the epoch. */
int64_t tls_context_expiry(const struct tls_context *context);

/* Connections that were opened with it go on. NULL is allowed. */
void tls_context_free(struct tls_context *context);

/* One connection, the server's side. */
struct tls;

enum tls_status {
    TLS_OPEN,
    TLS_ENDED, /* the client has ended it (close_notify): all that follows is dropped */
    TLS_FAILED /* nothing more can be read or written; an alert may stand in `records` */
};

/* NULL when there is no memory. */
struct tls *tls_open(const struct tls_context *context);

/* Takes all of `length` octets, at most TLS_FEED_MAX, that came from the client. Appends what they
 * say to `plain` and what is to be sent now to `records`, whatever it returns. Fails, besides when
 * the protocol is violated, when either has too little room, and when the octets ask for more
 * handshake messages than an honest client has a reason for. */
enum tls_status tls_feed(struct tls *tls, const char *octets, size_t length, struct buffer *plain,
                         struct buffer *records);

/* The handshake is over: tls_write may be called. */
bool tls_established(const struct tls *tls);

/* Appends the records that carry these octets. False when that failed, as TLS_FAILED. */
bool tls_write(struct tls *tls, const char *octets, size_t length, struct buffer *records);

/* Appends a close_notify, once, where one is due. */
void tls_end(struct tls *tls, struct buffer *records);

/* Why it failed, in OpenSSL's or our words; "" when it has not. Static storage. */
const char *tls_reason(const struct tls *tls);

/* For the log, once established: `TLSv1.3` and `TLS_AES_256_GCM_SHA384`. Static storage. */
const char *tls_version(const struct tls *tls);
const char *tls_cipher(const struct tls *tls);

/* NULL is allowed. */
void tls_free(struct tls *tls);

#endif
