/* TLS of the load generator: see the header. */
#include "tests/bench/load_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

SSL_CTX *load_tls_open(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION)) {
        ERR_print_errors_fp(stderr);
        exit(EX_SOFTWARE);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    /* A record is read with its head by one call, and thousands of idle connections hold no buffers. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return context;
}

SSL *load_tls_begin(SSL_CTX *context, int descriptor)
{
    SSL *tls = SSL_new(context);
    if (tls == NULL || !SSL_set_fd(tls, descriptor)) {
        SSL_free(tls);
        errno = ENOMEM;
        return NULL;
    }
    SSL_set_connect_state(tls);
    return tls;
}

/* Sets errno for a call that returned `result`, which was not a success; true at a regular end. */
static bool ended(SSL *tls, int result)
{
    int number = errno;
    int error = SSL_get_error(tls, result);
    ERR_clear_error();
    switch (error) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return false;
    case SSL_ERROR_ZERO_RETURN:
        return true;
    case SSL_ERROR_SYSCALL:
        errno = number != 0 && number != EAGAIN ? number : ECONNRESET;
        return false;
    default:
        errno = EPROTO;
        return false;
    }
}

int load_tls_shake(SSL *tls)
{
    errno = 0;
    int result = SSL_do_handshake(tls);
    if (result == 1)
        return 1;
    if (ended(tls, result))
        errno = ECONNRESET;
    return errno == EAGAIN ? 0 : -1;
}

ssize_t load_tls_send(SSL *tls, const char *bytes, size_t length)
{
    size_t written;
    errno = 0;
    int result = SSL_write_ex(tls, bytes, length, &written);
    if (result == 1)
        return (ssize_t)written;
    if (ended(tls, result))
        errno = EPIPE;
    return -1;
}

ssize_t load_tls_receive(SSL *tls, char *bytes, size_t size)
{
    size_t got;
    errno = 0;
    int result = SSL_read_ex(tls, bytes, size, &got);
    if (result == 1)
        return (ssize_t)got;
    return ended(tls, result) ? 0 : -1;
}

bool load_tls_pending(const SSL *tls)
{
    return SSL_has_pending(tls);
}
