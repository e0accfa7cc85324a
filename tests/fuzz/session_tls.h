/* The client's side of TLS, without a socket, and a certificate for the server. */
#ifndef TESTS_FUZZ_SESSION_TLS_H
#define TESTS_FUZZ_SESSION_TLS_H

#include "common/buffer.h"

#include <stdbool.h>
#include <stddef.h>

struct tls_client;

/* Writes a certificate that signs itself, and its key, as PEM files. */
void tls_client_prepare(const char *certificate, const char *key);

/* Begins a handshake; `old`: with TLS 1.2 at most. */
struct tls_client *tls_client_open(bool old);
void tls_client_free(struct tls_client *tls);

/* Octets from the server; what they say is appended to `plain`. */
void tls_client_hear(struct tls_client *tls, const char *octets, size_t length,
                     struct buffer *plain);

/* How many of these octets were taken: all, or none while the handshake lasts. */
size_t tls_client_say(struct tls_client *tls, const char *octets, size_t length);

/* Octets of no record, between those that are. */
void tls_client_garble(struct tls_client *tls, const char *octets, size_t length);

/* Says that nothing more will be said (close_notify). */
void tls_client_end(struct tls_client *tls);

/* What is to be sent: moved to the end of `records`. */
void tls_client_flush(struct tls_client *tls, struct buffer *records);

#endif
