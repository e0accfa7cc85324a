/* Clients: see the header. */
#include "session_client.h"

#include <errno.h>
#include <unistd.h>

/* What a server's socket takes while the client is deaf: little, so that it does not take much to
 * be stopped. */
enum { SEND_BUFFER = 4608, TALK_MAX = 4 * 1024 * 1024 };

void client_init(struct client *client, const struct sockaddr *peer, socklen_t length)
{
    *client = (struct client){.socket = -1};
    memcpy(&client->peer, peer, length);
    buffer_init(&client->said, TALK_MAX);
    buffer_init(&client->heard, TALK_MAX);
}

void client_free(struct client *client)
{
    client_go(client);
    buffer_free(&client->said);
    buffer_free(&client->heard);
}

int client_connect(struct client *client)
{
    int ends[2], size = SEND_BUFFER;

    LAW(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    LAW(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    client->socket = ends[0];
    return ends[1];
}

bool client_connected(const struct client *client)
{
    return client->socket >= 0 || client->gone;
}

void client_say(struct client *client, const char *bytes, size_t length)
{
    buffer_append(&client->said, bytes, length);
}

void client_due(struct client *client)
{
    client->due = client->said.length;
}

static void speak(struct client *client)
{
    while (client->sent < client->due && !client->ended && !client->half_closed) {
        ssize_t n = send(client->socket, client->said.data + client->sent,
                         client->due - client->sent, MSG_NOSIGNAL);
        if (n < 0) {
            LAW(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
            return;
        }
        client->sent += (size_t)n;
    }
}

static void hear(struct client *client)
{
    char bytes[4096];
    ssize_t n = 1;

    while (!client->deaf && !client->ended && n > 0) {
        n = recv(client->socket, bytes, sizeof bytes, 0);
        if (n > 0)
            LAW(buffer_append(&client->heard, bytes, (size_t)n));
        else if (n == 0 || errno != EAGAIN)
            client->ended = true;
    }
}

void client_turn(struct client *client)
{
    if (client->socket < 0)
        return;
    speak(client);
    hear(client);
}

void client_half_close(struct client *client)
{
    if (client->socket < 0 || client->half_closed)
        return;
    client->half_closed = true;
    shutdown(client->socket, SHUT_WR);
}

void client_go(struct client *client)
{
    if (client->socket < 0)
        return;
    close(client->socket);
    client->socket = -1;
    client->gone = true;
}
