/* Listening sockets: see the header. */
#include "smtpd/listener.h"

#include "common/log.h"
#include "smtpd/address.h"
#include "smtpd/ascii.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn. */
enum { BACKLOG = 4096 };

enum { FIRST_PASSED = 3, PASSED_MAX = 1000 };

/* What the kernel keeps of replies that a client does not read (it doubles this): left to itself it
 * takes megabytes. Accepted sockets inherit it. */
enum { SEND_BUFFER = 32 * 1024 };

/* A connection that is not accepted would leave its socket deaf for good (libuv waits until it is),
 * and to be accepted it needs a handle. So each socket has one that needs no memory, in which
 * connections are only closed; while that is being done the next one waits. */
struct listener_socket {
    uv_tcp_t tcp;
    uv_tcp_t refused;
    bool refusing; /* `refused` is open or closing */
    bool waiting;  /* there is one more to be refused */
    bool closed;   /* `tcp` is */
    struct listener *listener;
    struct listener_socket *next;
};

/* Sockets passed by the supervisor (sd_listen_fds(3)): LISTEN_FDS of them from descriptor 3 on. A
 * LISTEN_PID that is another process's says that they were not meant for us. False when the number
 * makes no sense. */
static bool count_passed(size_t *count)
{
    const char *text = getenv("LISTEN_FDS"), *process = getenv("LISTEN_PID");
    unsigned long number;
    char *end;

    *count = 0;
    if (text == NULL || *text == '\0' || (process != NULL && atol(process) != (long)getpid()))
        return true;
    number = strtoul(text, &end, 10);
    if (!ascii_is_digit(*text) || *end != '\0' || number > PASSED_MAX) {
        log_error("bad_setting", LOG_TEXT("setting", "LISTEN_FDS"), LOG_TEXT("value", text),
                  LOG_TEXT("expected", "the number of sockets passed from descriptor 3 on"));
        return false;
    }
    *count = number;
    return true;
}

static void log_listening(uv_tcp_t *socket)
{
    struct sockaddr_storage name;
    int length = sizeof name;
    char literal[ADDRESS_TEXT_SIZE], text[ADDRESS_TEXT_SIZE + 8];
    struct address address;

    if (uv_tcp_getsockname(socket, (struct sockaddr *)&name, &length) != 0)
        return;
    address = address_from((struct sockaddr *)&name);
    address_text(&address, literal);
    snprintf(text, sizeof text, strchr(literal, ':') != NULL ? "[%s]:%u" : "%s:%u", literal,
             address.port);
    log_info("listening", LOG_TEXT("address", text));
}

static void take_or_refuse(struct listener_socket *socket);

/* It is freed when both of its handles are closed. */
static void refused_cb(uv_handle_t *handle)
{
    struct listener_socket *socket = handle->data;

    socket->refusing = false;
    if (socket->closed)
        free(socket);
    else if (socket->waiting && !uv_is_closing((uv_handle_t *)&socket->tcp))
        take_or_refuse(socket);
}

static void closed_cb(uv_handle_t *handle)
{
    struct listener_socket *socket = handle->data;

    socket->closed = true;
    if (!socket->refusing)
        free(socket);
}

static void take_or_refuse(struct listener_socket *socket)
{
    struct listener *listener = socket->listener;
    uv_stream_t *stream = (uv_stream_t *)&socket->tcp;

    socket->waiting = false;
    if (listener->connect_cb(listener->owner, stream))
        return;
    socket->waiting = socket->refusing;
    if (socket->waiting)
        return;
    socket->refusing = true;
    uv_tcp_init(stream->loop, &socket->refused);
    socket->refused.data = socket;
    uv_accept(stream, (uv_stream_t *)&socket->refused);
    uv_close((uv_handle_t *)&socket->refused, refused_cb);
}

static void connection_cb(uv_stream_t *stream, int status)
{
    if (status != 0)
        log_warn("accept", LOG_TEXT("error", uv_strerror(status)));
    else
        take_or_refuse(stream->data);
}

static int listen_on(uv_tcp_t *socket)
{
    int size = SEND_BUFFER;
    int error = uv_send_buffer_size((uv_handle_t *)socket, &size);

    if (error == 0)
        error = uv_listen((uv_stream_t *)socket, BACKLOG, connection_cb);
    if (error == 0)
        log_listening(socket);
    return error;
}

static int refuse(const char *what, int error)
{
    log_error("not_listening", LOG_TEXT("address", what), LOG_TEXT("error", uv_strerror(error)));
    return error == UV_EADDRINUSE || error == UV_EADDRNOTAVAIL ? EX_UNAVAILABLE : EX_OSERR;
}

static uv_tcp_t *add_socket(struct listener *listener, uv_loop_t *loop)
{
    struct listener_socket *socket = calloc(1, sizeof *socket);

    if (socket == NULL)
        return NULL;
    socket->listener = listener;
    socket->next = listener->sockets;
    listener->sockets = socket;
    uv_tcp_init(loop, &socket->tcp);
    socket->tcp.data = socket;
    return &socket->tcp;
}

static int open_passed(struct listener *listener, uv_loop_t *loop, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int descriptor = FIRST_PASSED + (int)i;
        uv_tcp_t *socket = add_socket(listener, loop);
        int error = socket != NULL ? uv_tcp_open(socket, descriptor) : UV_ENOMEM;
        char what[32];

        if (error == 0)
            error = listen_on(socket);
        if (error != 0) {
            snprintf(what, sizeof what, "descriptor %d", descriptor);
            return refuse(what, error);
        }
    }
    return EX_OK;
}

/* IPv6 sockets take IPv6 only: whether one socket serves both is a setting of the system, and what
 * SMTPD_LISTEN says should not depend on it. */
static int open_address(struct listener *listener, uv_loop_t *loop, const struct sockaddr *address)
{
    uv_tcp_t *socket = add_socket(listener, loop);
    int error;

    if (socket == NULL)
        return UV_ENOMEM;
    error = uv_tcp_bind(socket, address, address->sa_family == AF_INET6 ? UV_TCP_IPV6ONLY : 0);
    return error != 0 ? error : listen_on(socket);
}

/* A host without IPv6 has only half of the addresses that a name, or `PORT`, stands for. */
static bool is_absent(int error)
{
    return error == UV_EAFNOSUPPORT || error == UV_EADDRNOTAVAIL;
}

/* A name may have an address twice. */
static bool stands_before(const struct addrinfo *found, const struct addrinfo *each)
{
    while (found != each && (found->ai_addrlen != each->ai_addrlen ||
                             memcmp(found->ai_addr, each->ai_addr, each->ai_addrlen) != 0))
        found = found->ai_next;
    return found != each;
}

static int open_name(struct listener *listener, uv_loop_t *loop, const char *text)
{
    struct addrinfo *found = config_resolve(text);
    int error = UV_EADDRNOTAVAIL;
    bool any = false;

    for (const struct addrinfo *each = found; each != NULL; each = each->ai_next) {
        if (stands_before(found, each))
            continue;
        error = open_address(listener, loop, each->ai_addr);
        any = any || error == 0;
        if (error != 0 && !is_absent(error))
            break;
    }
    if (found != NULL)
        freeaddrinfo(found);
    return any && is_absent(error) ? 0 : error;
}

static int open_place(struct listener *listener, uv_loop_t *loop, const char *text)
{
    struct sockaddr_storage address;

    if (config_parse_address(text, &address))
        return open_address(listener, loop, (struct sockaddr *)&address);
    return open_name(listener, loop, text);
}

/* `PORT`: every address. */
static int open_port(struct listener *listener, uv_loop_t *loop, long port)
{
    char text[32];
    int error;

    snprintf(text, sizeof text, "0.0.0.0:%ld", port);
    error = open_place(listener, loop, text);
    if (error != 0)
        return refuse(text, error);
    snprintf(text, sizeof text, "[::]:%ld", port);
    error = open_place(listener, loop, text);
    return error == 0 || is_absent(error) ? EX_OK : refuse(text, error);
}

int listener_start(struct listener *listener, uv_loop_t *loop, const struct config *config)
{
    size_t passed;

    listener->sockets = NULL;
    if (!count_passed(&passed))
        return EX_CONFIG;
    /* A supervisor that opens descriptor 3 for readiness and one that passes sockets from 3 on do not
     * know of each other: the newline would go to, and the close would end, a socket of ours. */
    if (config->common.ready_fd >= FIRST_PASSED &&
        config->common.ready_fd < FIRST_PASSED + (long)passed)
        return settings_refuse(config_settings, config_settings_count, "READY_FD",
                               "a descriptor behind those of LISTEN_FDS");
    if (passed > 0)
        return open_passed(listener, loop, passed);
    if (config->port >= 0)
        return open_port(listener, loop, config->port);
    for (size_t i = 0; i < config->listen.count; i++) {
        int error = open_place(listener, loop, config->listen.items[i]);
        if (error != 0)
            return refuse(config->listen.items[i], error);
    }
    return EX_OK;
}

void listener_stop(struct listener *listener)
{
    for (struct listener_socket *socket = listener->sockets; socket != NULL; socket = socket->next)
        uv_close((uv_handle_t *)&socket->tcp, closed_cb);
}
