/* Connections of the load generator: see the header. */
#include "tests/bench/load_link.h"

#include "tests/bench/load_tls.h"
#include "tests/bench/measure.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void watch(struct load_link *link, int operation, bool writes)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = link->owner};
    if (writes)
        event.events |= EPOLLOUT;
    link->watches_writes = writes;
    if (epoll_ctl(link->poll, operation, link->descriptor, &event) < 0)
        measure_die("epoll_ctl");
}

int load_link_open(struct load_link *link, const struct sockaddr *address, socklen_t length,
                   bool speaks_first)
{
    link->out_length = 0;
    link->column = link->code = 0;
    link->descriptor = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->descriptor < 0)
        return errno;
    setsockopt(link->descriptor, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(link->descriptor, address, length) < 0 && errno != EINPROGRESS)
        return errno;
    watch(link, EPOLL_CTL_ADD, speaks_first);
    return 0;
}

int load_link_flush(struct load_link *link)
{
    while (link->out_length > 0) {
        ssize_t n = link->tls != NULL
                        ? load_tls_send(link->tls, link->out, link->out_length)
                        : send(link->descriptor, link->out, link->out_length, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!link->watches_writes)
                watch(link, EPOLL_CTL_MOD, true);
            return 0;
        }
        if (n < 0)
            return errno;
        link->out += n;
        link->out_length -= (size_t)n;
    }
    return 0;
}

int load_link_say(struct load_link *link, const char *bytes, size_t length)
{
    link->out = bytes;
    link->out_length = length;
    return load_link_flush(link);
}

int load_link_secure(struct load_link *link, SSL_CTX *context)
{
    link->tls = load_tls_begin(context, link->descriptor);
    return link->tls != NULL ? 0 : errno;
}

int load_link_shake(struct load_link *link, bool *done)
{
    int result = load_tls_shake(link->tls);
    if (result < 0)
        return errno;
    *done = result > 0;
    if (!*done && SSL_want_write(link->tls) && !link->watches_writes)
        watch(link, EPOLL_CTL_MOD, true);
    return 0;
}

ssize_t load_link_receive(struct load_link *link, char *bytes, size_t size, bool *again)
{
    ssize_t n = link->tls != NULL ? load_tls_receive(link->tls, bytes, size)
                                  : recv(link->descriptor, bytes, size, 0);
    *again = n == (ssize_t)size || (link->tls != NULL && load_tls_pending(link->tls));
    return n;
}

/* Lines come in whatever pieces; of each, the code and the character behind it count. */
int load_link_reply(struct load_link *link, const char **bytes, const char *end)
{
    while (*bytes < end) {
        char byte = *(*bytes)++;
        if (byte == '\n') {
            bool is_reply = link->column > 3 && link->code >= 100 && link->code <= 999;
            int code = is_reply ? link->code : -1;
            bool whole = code < 0 || !link->more;
            link->column = link->code = 0;
            if (whole)
                return code;
        } else if (link->column < 3) {
            /* What is no digit makes the code a number that no reply has. */
            link->code = link->code * 10 + (byte >= '0' && byte <= '9' ? byte - '0' : 1000);
            link->column++;
        } else if (link->column == 3) {
            link->more = byte == '-';
            link->column++;
        } else {
            const char *line_end = memchr(*bytes - 1, '\n', (size_t)(end - *bytes) + 1);
            *bytes = line_end != NULL ? line_end : end;
        }
    }
    return 0;
}

void load_link_close(struct load_link *link)
{
    SSL_free(link->tls);
    link->tls = NULL;
    if (link->descriptor >= 0)
        close(link->descriptor);
    link->descriptor = -1;
    link->out_length = 0;
}
