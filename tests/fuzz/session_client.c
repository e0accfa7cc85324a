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
    buffer_init(&client->records, TALK_MAX);
}

void client_free(struct client *client)
{
    client_go(client);
    buffer_free(&client->said);
    buffer_free(&client->heard);
    buffer_free(&client->records);
    tls_client_free(client->tls);
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

/* Sends octets as far as they are taken; how many were. */
static size_t send_octets(const struct client *client, const char *octets, size_t length)
{
    size_t sent = 0;

    while (sent < length && !client->ended && !client->half_closed) {
        ssize_t n = send(client->socket, octets + sent, length - sent, MSG_NOSIGNAL);
        if (n < 0) {
            LAW(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
            break;
        }
        sent += (size_t)n;
    }
    return sent;
}

static void speak_under_tls(struct client *client)
{
    struct buffer *records = &client->records;
    size_t sent;

    if (client->sent < client->due && !client->half_closed)
        client->sent += tls_client_say(client->tls, client->said.data + client->sent,
                                       client->due - client->sent);
    tls_client_flush(client->tls, records);
    sent = send_octets(client, records->data, records->length);
    if (sent == 0)
        return;
    memmove(records->data, records->data + sent, records->length - sent);
    records->length -= sent;
}

static void speak(struct client *client)
{
    if (client->tls != NULL)
        speak_under_tls(client);
    else if (client->sent < client->due)
        client->sent +=
            send_octets(client, client->said.data + client->sent, client->due - client->sent);
}

bool client_sent(const struct client *client)
{
    return client->sent == client->due && client->records.length == 0;
}

static void hear(struct client *client)
{
    char bytes[4096];
    ssize_t n = 1;

    while (!client->deaf && !client->ended && n > 0) {
        n = recv(client->socket, bytes, sizeof bytes, 0);
        if (n > 0 && client->tls != NULL)
            tls_client_hear(client->tls, bytes, (size_t)n, &client->heard);
        else if (n > 0)
            LAW(buffer_append(&client->heard, bytes, (size_t)n));
        else if (n == 0 || errno != EAGAIN)
            client->ended = true;
    }
}

void client_begin_tls(struct client *client, bool old)
{
    static const char leave[] = "220 2.0.0 Ready to start TLS\r\n";
    const struct buffer *heard = &client->heard;

    if (client->socket < 0 || client->tls != NULL || !client_sent(client) ||
        heard->length < sizeof leave - 1 ||
        memcmp(heard->data + heard->length - (sizeof leave - 1), leave, sizeof leave - 1) != 0)
        return;
    client->tls = tls_client_open(old);
    client->said_in_clear = client->said.length;
    client->heard_in_clear = heard->length;
}

void client_garble(struct client *client, char octet)
{
    if (client->tls != NULL)
        tls_client_garble(client->tls, &octet, 1);
}

void client_end_tls(struct client *client)
{
    if (client->tls != NULL)
        tls_client_end(client->tls);
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
