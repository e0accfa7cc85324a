/* Accepting: see the header.
 *
 * uv_listen is not used: out of descriptors, it accepts into a spare one and closes that, and a
 * connection that is not accepted at once leaves its socket deaf. */
#include "smtpd/listener.h"

#include "common/log.h"
#include "smtpd/places.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Connections accepted in one turn of the loop, so that those that are open have theirs. */
enum { ACCEPT_MAX = 64 };

enum { RETRY_MS = 250 };

struct listener_socket {
    uv_poll_t poll;
    int descriptor;
    struct listener *listener;
    struct listener_socket *next;
};

/* Errors that are the connection's and not ours: it broke while it waited, or a packet filter is
 * against it (accept(2), "Error handling"). The next one is another matter. */
static bool is_of_the_connection(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPERM:
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

/* A pause is over when nothing has failed between two calls of this, so that no more than a few a
 * second are logged where each connection that ends lets in one more. */
static void retry_cb(uv_timer_t *timer)
{
    struct listener *listener = timer->data;

    if (listener->deaf) {
        set_deaf(listener, false);
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

static int opened_cb(void *owner, int descriptor)
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
    listener->paused = listener->deaf = false;
    uv_timer_init(loop, &listener->retry);
    listener->retry.data = listener;
    return places_open(config, opened_cb, listener);
}

void listener_resume(struct listener *listener)
{
    if (listener->deaf)
        set_deaf(listener, false);
}

static void closed_cb(uv_handle_t *handle)
{
    free(handle->data);
}

void listener_stop(struct listener *listener)
{
    struct listener_socket *next;

    uv_close((uv_handle_t *)&listener->retry, NULL);
    for (struct listener_socket *socket = listener->sockets; socket != NULL; socket = next) {
        next = socket->next;
        uv_close((uv_handle_t *)&socket->poll, closed_cb);
        close(socket->descriptor);
    }
    listener->sockets = NULL;
    listener->deaf = false;
}
