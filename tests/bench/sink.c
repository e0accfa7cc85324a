/* What client and loopback can do at most: a server that says yes to everything, looks at nothing but
 * the end of what it was sent, and forgets it. smtp-sink of Postfix takes a message apart byte by
 * byte, and so is slower with large ones than a server that keeps them.
 *
 *     build/tests/bench/sink PORT
 *
 * It serves clients that wait for each reply, on 127.0.0.1, from one thread, until it is killed. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DESCRIPTORS = 4096, EVENTS = 64, READ = 256 << 10 };

static const char end_of_data[5] = {'\r', '\n', '.', '\r', '\n'};

/* By descriptor: whether data is coming, and the last octets of what has come. */
static struct client {
    bool data;
    char tail[sizeof end_of_data];
} clients[DESCRIPTORS];

static char buffer[READ];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void say(int descriptor, const char *text)
{
    /* A reply fits into the empty buffer of a socket; one that does not is a client that is gone. */
    if (send(descriptor, text, strlen(text), MSG_NOSIGNAL) < 0)
        shutdown(descriptor, SHUT_RDWR);
}

static void keep_tail(struct client *client, size_t length)
{
    size_t size = sizeof client->tail;
    if (length >= size) {
        memcpy(client->tail, buffer + length - size, size);
    } else {
        memmove(client->tail, client->tail + length, size - length);
        memcpy(client->tail + size - length, buffer, length);
    }
}

static void take(int descriptor, size_t length)
{
    struct client *client = &clients[descriptor];
    keep_tail(client, length);
    if (client->data) {
        if (memcmp(client->tail, end_of_data, sizeof end_of_data) == 0) {
            client->data = false;
            say(descriptor, "250 2.0.0 Ok\r\n");
        }
    } else if (client->tail[sizeof client->tail - 1] == '\n') {
        client->data = strncasecmp(buffer, "DATA", 4) == 0;
        /* The line before the first octet of data is its end. */
        memcpy(client->tail, "   \r\n", sizeof client->tail);
        if (strncasecmp(buffer, "QUIT", 4) == 0) {
            say(descriptor, "221 2.0.0 Bye\r\n");
            shutdown(descriptor, SHUT_WR);
        } else {
            say(descriptor, client->data ? "354 Go on\r\n" : "250 2.0.0 Ok\r\n");
        }
    }
}

static void serve(int descriptor)
{
    ssize_t length = recv(descriptor, buffer, sizeof buffer, 0);
    if (length > 0)
        take(descriptor, (size_t)length);
    else if (length == 0 || errno != EAGAIN)
        close(descriptor);
}

static void greet(int poll, int listener)
{
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0)
        return;
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (descriptor >= DESCRIPTORS || epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) < 0) {
        close(descriptor);
        return;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    clients[descriptor] = (struct client){0};
    say(descriptor, "220 sink.example ESMTP\r\n");
}

static int listen_on(const char *port)
{
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, DESCRIPTORS) < 0)
        die(port);
    return listener;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 64;
    }
    int listener = listen_on(argv[1]);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) < 0)
        die("epoll");
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                greet(poll, listener);
            else
                serve(events[i].data.fd);
        }
    }
}
