/* TLS of the load generator: a client that verifies nothing and resumes nothing, so that each
 * connection costs the server a whole handshake. One thread. */
#ifndef TESTS_BENCH_LOAD_TLS_H
#define TESTS_BENCH_LOAD_TLS_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Never NULL: the end with a word where there is none. SSL_CTX_free ends it. */
SSL_CTX *load_tls_open(void);

/* A client's end on a connected socket; NULL when memory is out. SSL_free ends it. */
SSL *load_tls_begin(SSL_CTX *context, int descriptor);

/* One step of the handshake: 1 done, 0 to be called again when the socket can be read or written,
 * -1 failed. */
int load_tls_shake(SSL *tls);

/* As send and recv of a socket that does not block: -1 with EAGAIN, -1 with another errno; 0 at the
 * end of what is received. */
ssize_t load_tls_send(SSL *tls, const char *bytes, size_t length);
ssize_t load_tls_receive(SSL *tls, char *bytes, size_t size);

/* Whether bytes were read from the socket that load_tls_receive has not returned: no event will
 * tell of them. */
bool load_tls_pending(const SSL *tls);

#endif
