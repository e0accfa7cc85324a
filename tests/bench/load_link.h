/* A connection of the load generator: bytes in the clear or in TLS, and the replies that they are.
 * Its socket is watched for edges, and for writing only after it was once full, so that a reply
 * costs two calls beside its epoll_wait. */
#ifndef TESTS_BENCH_LOAD_LINK_H
#define TESTS_BENCH_LOAD_LINK_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

struct load_link {
    int descriptor; /* -1: closed */
    int poll;
    void *owner; /* what events bring */
    SSL *tls;    /* NULL: in the clear */
    bool watches_writes;
    const char *out; /* what is still to be sent; the owner's */
    size_t out_length;
    int code, column; /* of the reply line that is being read */
    bool more;        /* it is not the last one */
};

/* These return 0, or what errno says of it; the link is to be closed then. */

/* Begins to connect. `speaks_first`: the owner wants an event when the connection stands. */
int load_link_open(struct load_link *link, const struct sockaddr *address, socklen_t length,
                   bool speaks_first);

/* Sends, as far as the socket takes it; load_link_flush, after an event, sends what was left. The
 * bytes stay as they are until `out_length` is 0. */
int load_link_say(struct load_link *link, const char *bytes, size_t length);
int load_link_flush(struct load_link *link);

/* Begins TLS, and each time goes as far as the socket lets it: `*done` tells when it stands. */
int load_link_secure(struct load_link *link, SSL_CTX *context);
int load_link_shake(struct load_link *link, bool *done);

/* As recv: 0 at the end, -1 with EAGAIN or another errno. `*again`: no event will tell of what there
 * still is. */
ssize_t load_link_receive(struct load_link *link, char *bytes, size_t size, bool *again);

/* The code of the next reply that ends in the bytes from `*bytes` on, which is moved behind it; 0
 * when none does, whose beginning is remembered, and -1 for a line that is none. */
int load_link_reply(struct load_link *link, const char **bytes, const char *end);

/* Any number of times. */
void load_link_close(struct load_link *link);

#endif
