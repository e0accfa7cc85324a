/* Where smtpd listens: see the header. */
#include "smtpd/places.h"

#include "common/ascii.h"
#include "common/log.h"
#include "smtpd/address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { FIRST_PASSED = 3, PASSED_MAX = 1000 };

/* What the kernel keeps of replies that a client does not read (it doubles this): left to itself it
 * takes megabytes. Accepted sockets inherit it. */
enum { SEND_BUFFER = 32 * 1024 };

struct opening {
    int (*opened_cb)(void *owner, int descriptor, bool inherited);
    void *owner;
    bool inherited;
    bool reuse_port;
};

static void log_listening(int descriptor, bool inherited)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    char literal[ADDRESS_TEXT_SIZE], text[ADDRESS_TEXT_SIZE + 8];
    struct address address;

    if (getsockname(descriptor, (struct sockaddr *)&name, &length) != 0)
        return;
    address = address_from((struct sockaddr *)&name);
    address_text(&address, literal);
    snprintf(text, sizeof text, strchr(literal, ':') != NULL ? "[%s]:%u" : "%s:%u", literal,
             address.port);
    if (inherited)
        log_info("listening", LOG_TEXT("address", text), LOG_NUMBER("inherited", 1));
    else
        log_info("listening", LOG_TEXT("address", text));
}

static int listen_on(const struct opening *opening, int descriptor)
{
    static const int size = SEND_BUFFER;
    int error;

    if (setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) != 0 ||
        listen(descriptor, PLACES_BACKLOG) != 0)
        return errno;
    error = opening->opened_cb(opening->owner, descriptor, opening->inherited);
    if (error == 0)
        log_listening(descriptor, opening->inherited);
    return error;
}

static int refuse(const char *what, int error)
{
    log_error("not_listening", LOG_TEXT("address", what), LOG_ERRNO(error));
    return error == EADDRINUSE || error == EADDRNOTAVAIL ? EX_UNAVAILABLE : EX_OSERR;
}

/* IPv6 sockets take IPv6 only: whether one socket serves both is a setting of the system, and what
 * SMTPD_LISTEN says should not depend on it. */
static int bind_to(const struct opening *opening, int descriptor, const struct sockaddr *address)
{
    static const int on = 1;
    socklen_t length =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

    if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (address->sa_family == AF_INET6 &&
         setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        (opening->reuse_port &&
         setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
        bind(descriptor, address, length) != 0)
        return errno;
    return 0;
}

static int open_address(const struct opening *opening, const struct sockaddr *address)
{
    int descriptor = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (descriptor < 0)
        return errno;
    error = bind_to(opening, descriptor, address);
    if (error == 0)
        return listen_on(opening, descriptor);
    close(descriptor);
    return error;
}

/* A host without IPv6 has only half of the addresses that a name, or `PORT`, stands for. */
static bool is_absent(int error)
{
    return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

/* A name may have an address twice. */
static bool stands_before(const struct addrinfo *found, const struct addrinfo *each)
{
    while (found != each && (found->ai_addrlen != each->ai_addrlen ||
                             memcmp(found->ai_addr, each->ai_addr, each->ai_addrlen) != 0))
        found = found->ai_next;
    return found != each;
}

static int open_name(const struct opening *opening, const char *text)
{
    struct addrinfo *found = config_resolve(text);
    int error = EADDRNOTAVAIL;
    bool any = false;

    for (const struct addrinfo *each = found; each != NULL; each = each->ai_next) {
        if (stands_before(found, each))
            continue;
        error = open_address(opening, each->ai_addr);
        any = any || error == 0;
        if (error != 0 && !is_absent(error))
            break;
    }
    if (found != NULL)
        freeaddrinfo(found);
    return any && is_absent(error) ? 0 : error;
}

static int open_place(const struct opening *opening, const char *text)
{
    struct sockaddr_storage address;

    if (config_parse_address(text, &address))
        return open_address(opening, (struct sockaddr *)&address);
    return open_name(opening, text);
}

/* `PORT`: every address. */
static int open_port(const struct opening *opening, long port)
{
    char text[32];
    int error;

    snprintf(text, sizeof text, "0.0.0.0:%ld", port);
    error = open_place(opening, text);
    if (error != 0)
        return refuse(text, error);
    snprintf(text, sizeof text, "[::]:%ld", port);
    error = open_place(opening, text);
    return error == 0 || is_absent(error) ? EX_OK : refuse(text, error);
}

static int open_settings(const struct opening *opening, const struct config *config)
{
    if (config->port >= 0)
        return open_port(opening, config->port);
    for (size_t i = 0; i < config->listen.count; i++) {
        int error = open_place(opening, config->listen.items[i]);
        if (error != 0)
            return refuse(config->listen.items[i], error);
    }
    return EX_OK;
}

/* Inherited sockets. */

/* LISTEN_FDS; a LISTEN_PID that is another process's says that they were not meant for us. False
 * when the number makes no sense. */
static bool count_passed(size_t *count)
{
    const char *text = getenv("LISTEN_FDS"), *process = getenv("LISTEN_PID");
    unsigned long number;
    char *end;

    *count = 0;
    /* NOLINTNEXTLINE(cert-err34-c): what is no number is no process */
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

static bool is_listening(int descriptor)
{
    int listening = 0;
    socklen_t length = sizeof listening;

    return getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening;
}

/* Listening, or bound to a port: listen(2) would give a socket without one any port. Of a socket
 * that is connected that says EINVAL. */
static bool may_listen(int descriptor)
{
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name, type_length = sizeof(int);
    int type = 0;

    if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &type_length) != 0 ||
        type != SOCK_STREAM || getsockname(descriptor, (struct sockaddr *)&name, &length) != 0)
        return false;
    return (name.ss_family == AF_INET || name.ss_family == AF_INET6) &&
           address_from((struct sockaddr *)&name).port != 0;
}

/* A socket that is closed as descriptor 0 leaves that number to the next file, and libuv does not
 * close that. Returns the socket's new descriptor, or -1. */
static int move_standard_input(void)
{
    int moved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, FIRST_PASSED);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (moved < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0)
        return -1;
    close(null);
    return moved;
}

static int open_passed(const struct opening *opening, int descriptor)
{
    int error = EINVAL;
    char what[32];

    snprintf(what, sizeof what, "descriptor %d", descriptor);
    if (may_listen(descriptor)) {
        if (descriptor == STDIN_FILENO)
            descriptor = move_standard_input();
        error = descriptor < 0 ? errno : listen_on(opening, descriptor);
    }
    if (error != EINVAL)
        return error == 0 ? EX_OK : refuse(what, error);
    log_error("not_listening", LOG_TEXT("address", what),
              LOG_TEXT("error", "not a TCP socket that listens or is bound to a port"));
    return EX_CONFIG;
}

int places_open(const struct config *config,
                int (*opened_cb)(void *owner, int descriptor, bool inherited), void *owner)
{
    struct opening opening = {
        .opened_cb = opened_cb, .owner = owner, .reuse_port = config->reuseport};
    int code = EX_OK;
    size_t passed;

    if (!count_passed(&passed))
        return EX_CONFIG;
    /* A supervisor that opens descriptor 3 for readiness and one that passes sockets from 3 on do
     * not know of each other: the newline would go to, and the close would end, a socket of ours. */
    if (config->common.ready_fd >= FIRST_PASSED &&
        config->common.ready_fd < FIRST_PASSED + (long)passed)
        return settings_refuse(config_settings, config_settings_count, "READY_FD",
                               "a descriptor behind those of LISTEN_FDS");
    opening.inherited = passed > 0 || is_listening(STDIN_FILENO);
    if (!opening.inherited)
        return open_settings(&opening, config);
    if (passed == 0)
        return open_passed(&opening, STDIN_FILENO);
    for (size_t i = 0; i < passed && code == EX_OK; i++)
        code = open_passed(&opening, FIRST_PASSED + (int)i);
    return code;
}
