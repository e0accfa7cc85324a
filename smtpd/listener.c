/* Accepting: see the header.
 *
 * uv_listen is not used: out of descriptors, it accepts into a spare one and closes that, and a
 * connection that is not accepted at once leaves its socket deaf. */
#include "smtpd/listener.h"

#include "common/log.h"
#include "smtpd/places.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

/* Connections accepted in one turn of the loop, so that those that are open have theirs. */
enum { ACCEPT_MAX = 64 };

enum { RETRY_MS = 250 };

/* How long those who have begun to connect are given to come through: two round trips of a far
 * client, and less than the second after which a SYN is sent again (RFC 6298, section 2). */
enum { WITHDRAW_MS = 500 };

/* Once no SYN comes through, who may still wait: a full queue, and as many whose handshakes are
 * under way. */
enum { WAITING_MAX = 2 * (PLACES_BACKLOG + 1) };

/* Where descriptors run out even then: RETRY_MS apart. */
enum { CLOSE_TRIES = 8 };

struct listener_socket {
    uv_poll_t poll;
    int descriptor;
    bool inherited;
    bool choosy; /* about hops: see drop_newcomers */
    struct listener *listener;
    struct listener_socket *next;
};

/* Errors that are the connection's and not ours: it broke while it waited (accept(2), "Error
 * handling"). The next one is another matter. */
static bool is_of_the_connection(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static void readable_cb(uv_poll_t *poll, int status, int events);

static void set_deaf(struct listener *listener, bool deaf)
{
    listener->deaf = deaf;
    for (struct listener_socket *socket = listener->sockets; socket != NULL; socket = socket->next)
        if (deaf)
            uv_poll_stop(&socket->poll);
        else
            uv_poll_start(&socket->poll, UV_READABLE, readable_cb);
}

/* A pause is over when nothing has failed between two calls of this: where each connection that
 * ends lets in one more, that is one pause, not a line in the log for each. Where somebody has resumed
 * in between, it may not have been tried yet. */
static void retry_cb(uv_timer_t *timer)
{
    struct listener *listener = timer->data;

    if (listener->deaf) {
        set_deaf(listener, false);
        return;
    }
    if (listener->resumed) {
        listener->resumed = false;
        return;
    }
    uv_timer_stop(timer);
    listener->paused = false;
    log_info("accept_resumed");
}

static void pause_accepting(struct listener *listener, int error)
{
    set_deaf(listener, true);
    if (listener->paused)
        return;
    listener->paused = true;
    log_warn("accept_paused", LOG_ERRNO(error));
    uv_timer_start(&listener->retry, retry_cb, RETRY_MS, RETRY_MS);
}

/* Has packets dropped that have less than this left to go: 0, or an errno. */
static int demand_hops(int descriptor, int least)
{
    int family, error;
    socklen_t length = sizeof family;

    if (getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0)
        return errno;
    error = family == AF_INET6
                ? setsockopt(descriptor, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &least, sizeof least)
                : setsockopt(descriptor, IPPROTO_IP, IP_MINTTL, &least, sizeof least);
    return error != 0 ? errno : 0;
}

/* Accepts somebody, or passes over one whose connection broke: 0, or an errno. */
static int accept_one(struct listener_socket *socket)
{
    struct listener *listener = socket->listener;
    struct sockaddr_storage peer = {0};
    socklen_t length = sizeof peer;
    int descriptor = accept4(socket->descriptor, (struct sockaddr *)&peer, &length,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (descriptor < 0)
        return is_of_the_connection(errno) ? 0 : errno;
    if (socket->choosy)
        demand_hops(descriptor, 0);
    return listener->connect_cb(listener->owner, descriptor, (struct sockaddr *)&peer) ? 0 : ENOMEM;
}

/* Any error but that nobody waits pauses: also one that is not known, for it would come again at
 * once. */
static void readable_cb(uv_poll_t *poll, int status, int events)
{
    struct listener_socket *socket = poll->data;
    int error = 0;

    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPT_MAX && error == 0; i++)
        error = accept_one(socket);
    if (error != 0 && error != EAGAIN)
        pause_accepting(socket->listener, error);
}

static int opened_cb(void *owner, int descriptor, bool inherited)
{
    struct listener *listener = owner;
    struct listener_socket *socket = calloc(1, sizeof *socket);
    int error = UV_ENOMEM;

    if (socket != NULL)
        error = uv_poll_init(listener->retry.loop, &socket->poll, descriptor);
    if (error != 0) {
        free(socket);
        close(descriptor);
        return -error;
    }
    socket->poll.data = socket;
    socket->descriptor = descriptor;
    socket->inherited = inherited;
    socket->listener = listener;
    socket->next = listener->sockets;
    listener->sockets = socket;
    return -uv_poll_start(&socket->poll, UV_READABLE, readable_cb);
}

/* With a loop's first stream libuv opens a descriptor of its own, and would try again with each
 * stream where it may not. It shall have it now, not at the first connection, when the program can
 * open no more than its spool. */
static void open_libuv_spare(struct listener *listener, uv_loop_t *loop)
{
    uv_tcp_init(loop, &listener->first);
    uv_close((uv_handle_t *)&listener->first, NULL);
}

int listener_start(struct listener *listener, uv_loop_t *loop, const struct config *config)
{
    open_libuv_spare(listener, loop);
    listener->sockets = NULL;
    listener->paused = listener->resumed = listener->closed = listener->deaf = listener->closing =
        false;
    listener->shared = config->reuseport;
    listener->tries = 0;
    uv_timer_init(loop, &listener->retry);
    listener->retry.data = listener;
    return places_open(config, opened_cb, listener);
}

void listener_resume(struct listener *listener)
{
    if (!listener->deaf || listener->closing)
        return;
    listener->resumed = true;
    set_deaf(listener, false);
}

/* The stop.
 *
 * A listening socket that is closed resets all who wait in its queue. With SO_REUSEPORT too: who
 * was put into the queue of one socket is not moved to another's (net.ipv4.tcp_migrate_req would,
 * and is off by default). So a socket of our own is closed only when nobody waits, and for that to
 * stay true until it is closed, no new connection may begin on it: a filter drops every SYN.
 * Whoever sent it sends it again after a second. By then this socket is closed, and where another
 * process shares the port it is that one's; where none does, the client is refused, as it would
 * have been a second earlier. So with SMTPD_REUSEPORT the stop begins with the filter, and those
 * whose handshakes are under way are still served; the price is half a second.
 *
 * An inherited socket is another matter: who waits in its queue waits for the next process, and a
 * filter would be on that one's socket as well, since it is the same. */

/* The filter sees the packet from the TCP header on, which has the flags in octet 13. What it lets
 * through it lets through whole.
 *
 * There are kernels (6.18 is one) where a filter on a TCP socket takes CAP_NET_ADMIN, which smtpd does
 * not have. The hops that a packet has left serve as well: a listening socket is asked about them when a
 * SYN has come, and none has 255 that has passed a router or started with the usual 64 or 128. Who
 * completes his handshake inherits the demand, and is relieved of it when he is accepted; what of his
 * was dropped till then he sends again. */
static void drop_newcomers(struct listener_socket *socket)
{
    enum { FLAGS = 13, SYN = 0x02, ACK = 0x10, WHOLE = 0x40000 };
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, WHOLE),
    };
    const struct sock_fprog filter = {.len = sizeof steps / sizeof steps[0], .filter = steps};
    int error;

    if (setsockopt(socket->descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0)
        return;
    error = demand_hops(socket->descriptor, 255);
    socket->choosy = error == 0;
    if (error != 0)
        log_warn("no_filter", LOG_ERRNO(error));
}

unsigned listener_withdraw(struct listener *listener)
{
    bool steered = false;

    for (struct listener_socket *socket = listener->sockets; socket != NULL; socket = socket->next)
        if (!socket->inherited) {
            drop_newcomers(socket);
            steered = listener->shared;
        }
    return steered ? WITHDRAW_MS : 0;
}

static void freed_cb(uv_handle_t *handle)
{
    free(handle->data);
}

/* Accepts all who wait: whether nobody does any more. When there is no descriptor accept4 does not
 * come to look for that. */
static bool empty_queue(struct listener_socket *socket)
{
    struct pollfd queue = {.fd = socket->descriptor, .events = POLLIN};
    int error = 0;

    for (int i = 0; i < WAITING_MAX && error == 0; i++)
        error = accept_one(socket);
    return error == 0 || error == EAGAIN || poll(&queue, 1, 0) == 0;
}

static void close_sockets(struct listener *listener)
{
    struct listener_socket **link = &listener->sockets;

    listener->tries++;
    while (*link != NULL) {
        struct listener_socket *socket = *link;
        if (!socket->inherited && !empty_queue(socket) && listener->tries < CLOSE_TRIES) {
            link = &socket->next;
            continue;
        }
        *link = socket->next;
        uv_close((uv_handle_t *)&socket->poll, freed_cb);
        close(socket->descriptor);
    }
    if (listener->sockets != NULL)
        return;
    listener->closed = true;
    uv_close((uv_handle_t *)&listener->retry, NULL);
    listener->closed_cb(listener->owner);
}

static void close_again_cb(uv_timer_t *timer)
{
    close_sockets(timer->data);
}

void listener_close(struct listener *listener)
{
    set_deaf(listener, true);
    listener->closing = true;
    uv_timer_start(&listener->retry, close_again_cb, RETRY_MS, RETRY_MS);
    close_sockets(listener);
}
