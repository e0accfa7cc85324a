/* The bytes of a connection: see the header. */
#include "smtpd/transport.h"

#include "common/log.h"
#include "smtpd/connection.h"
#include "smtpd/counters.h"
#include "smtpd/message.h"
#include "smtpd/proxy.h"
#include "smtpd/tls.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* What is read at once. Input that has to wait behind a command is kept, and a client can see to it
 * that much waits for long; so this is little while commands are expected, and where many are
 * connected, each has its share of KEPT_MAX, in content too; under TLS a record or two, if that is
 * more. */
enum { COMMAND_READ_SIZE = 4096, KEPT_MAX = 64 * 1024 * 1024 };

struct transport_input {
    size_t start, length;
    char bytes[];
};

/* Output. */

void transport_drained_cb(struct output *output, int status)
{
    struct connection *connection =
        (struct connection *)(void *)((char *)output - offsetof(struct connection, output));

    /* Not only behind a delay: a reply that is to be delayed may have gone behind others that the
     * client did not take, and has waited with them. */
    connection->session.delayed = false;
    if (status != 0)
        connection_close(connection);
    else
        connection_proceed(connection);
}

static bool send_bytes(struct connection *connection, struct buffer *bytes)
{
    bool sent = bytes->length == 0 || output_write(&connection->output, bytes->data, bytes->length,
                                                   connection->session.delayed);

    buffer_clear(bytes);
    return sent;
}

void transport_flush(struct connection *connection)
{
    struct server *server = connection->server;
    bool sent;

    if (server->replies.length == 0)
        return;
    if (connection->session.secure) {
        sent = tls_write(connection->tls, server->replies.data, server->replies.length,
                         &server->records) &&
               send_bytes(connection, &server->records);
        buffer_clear(&server->replies);
    } else {
        sent = send_bytes(connection, &server->replies);
    }
    if (!sent)
        connection_close(connection);
}

void transport_shutdown(struct connection *connection)
{
    uv_os_fd_t descriptor;

    free(connection->input);
    connection->input = NULL;
    if (uv_fileno((uv_handle_t *)&connection->tcp, &descriptor) == 0)
        shutdown(descriptor, SHUT_WR);
}

/* Input. */

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct connection *connection = handle->data;
    size_t share = KEPT_MAX / connection->server->connection_count;
    size_t room = COMMAND_READ_SIZE;

    (void)suggested;
    if (session_in_content(&connection->session) && share > room)
        room = share < SERVER_READ_SIZE ? share : SERVER_READ_SIZE;
    /* No more is read than can be used: TCP is the queue. But where the room has shrunk to nothing
     * since reading began, libuv would take an empty buffer for an error. */
    if (connection->message != NULL && message_room(connection->message) < room)
        room = message_room(connection->message);
    if (room == 0)
        room = COMMAND_READ_SIZE;
    /* Nothing can be had of a record before it is whole. */
    if (connection->tls != NULL && room < TLS_RECORD_MAX)
        room = TLS_RECORD_MAX;
    *buffer = uv_buf_init(connection->server->input, (unsigned)room);
}

static void keep_input(struct connection *connection, const char *bytes, size_t length)
{
    struct transport_input *input = malloc(sizeof *input + length);

    if (input == NULL) {
        connection_close(connection);
        return;
    }
    input->start = 0;
    input->length = length;
    memcpy(input->bytes, bytes, length);
    connection->input = input;
}

/* Gives input to the session until all is used or it can take no more; returns how much was used.
 */
static size_t use_input(struct connection *connection, const char *bytes, size_t length)
{
    struct session *session = &connection->session;
    size_t used = 0;

    while (used < length && !connection->closing && !output_pending(&connection->output) &&
           session_wants_input(session)) {
        size_t step = session_input(session, bytes + used, length - used);
        if (connection->tls == NULL)
            pace_count(&connection->pace, uv_now(connection->server->loop), step);
        used += step;
        transport_flush(connection);
    }
    /* What lies behind STARTTLS came in the clear, from anybody, and must not be taken for what
     * comes under TLS (RFC 3207, section 6; CVE-2011-0411). */
    return session->state == SESSION_HANDSHAKE ? length : used;
}

void transport_use_kept(struct connection *connection)
{
    struct transport_input *input = connection->input;
    size_t used;

    if (input == NULL)
        return;
    used = use_input(connection, input->bytes + input->start, input->length - input->start);
    if (connection->closing)
        return; /* and `input` is freed */
    input->start += used;
    if (input->start == input->length) {
        free(input);
        connection->input = NULL;
    }
}

/* TLS. */

bool transport_begin_tls(struct connection *connection)
{
    connection->tls = tls_open(connection->server->tls);
    return connection->tls != NULL;
}

void transport_end_tls(struct connection *connection)
{
    if (connection->tls == NULL || !tls_established(connection->tls))
        return;
    tls_end(connection->tls, &connection->server->records);
    send_bytes(connection, &connection->server->records);
}

static void log_tls(struct connection *connection)
{
    char client[ADDRESS_TEXT_SIZE];

    address_text(&connection->client, client);
    counters_add(COUNTER_TLS_BEGUN, 1);
    log_info("tls", LOG_TEXT("client", client), LOG_TEXT("version", tls_version(connection->tls)),
             LOG_TEXT("cipher", tls_cipher(connection->tls)));
}

void transport_fail_tls(struct connection *connection, const char *reason)
{
    char client[ADDRESS_TEXT_SIZE];

    address_text(&connection->client, client);
    counters_add(connection->session.secure ? COUNTER_TLS_BROKEN : COUNTER_TLS_FAILED, 1);
    log_info(connection->session.secure ? "tls_broken" : "tls_failed", LOG_TEXT("client", client),
             LOG_TEXT("helo", connection->session.helo), LOG_TEXT("reason", reason));
    session_event(&connection->session,
                  connection->session.secure ? EVENT_HANGUP : EVENT_TLS_FAILED, REPLY_UNSET);
    connection_close(connection);
}

/* Opens what came under TLS; what it says is in `plain` of the server. */
static void open_records(struct connection *connection, const char *bytes, size_t length)
{
    struct server *server = connection->server;
    enum tls_status status =
        tls_feed(connection->tls, bytes, length, &server->plain, &server->records);
    bool sent = send_bytes(connection, &server->records);

    if (status == TLS_FAILED) {
        transport_fail_tls(connection, tls_reason(connection->tls));
        return;
    }
    if (status == TLS_ENDED && !tls_established(connection->tls)) {
        transport_fail_tls(connection, "ended in the handshake");
        return;
    }
    if (!sent) {
        connection_close(connection);
        return;
    }
    connection->tls_ended = status == TLS_ENDED;
    if (connection->session.secure || !tls_established(connection->tls))
        return;
    log_tls(connection);
    session_event(&connection->session, EVENT_TLS_BEGUN, REPLY_UNSET);
    connection->answered = true; /* the client has a command's time from now on */
}

/* Bytes that come before the connection may be served: the header of a proxy, what should have
 * waited for the greeting. Returns how many were used. */
static size_t take_preface(struct connection *connection, const char *bytes, size_t length)
{
    enum proxy_status status;
    size_t used = 0;

    if (connection->proxy != NULL) {
        used = proxy_feed(connection->proxy, bytes, length, &status);
        if (status == PROXY_PARTIAL)
            return used;
        if (status == PROXY_BAD) {
            connection_refuse_header(connection, connection->proxy->reason);
            return used;
        }
        connection_take_header(connection, length > used);
    } else {
        connection_greet(connection, true);
    }
    transport_flush(connection);
    return used;
}

static void take_plain(struct connection *connection, const char *bytes, size_t length)
{
    size_t used = use_input(connection, bytes, length);

    if (!connection->closing && used < length)
        keep_input(connection, bytes + used, length - used);
}

static void take_input(struct connection *connection, const char *bytes, size_t length)
{
    struct buffer *plain = &connection->server->plain;
    size_t used = 0;

    if (connection->tls != NULL) {
        /* A record may take a slow client longer than it may be silent for. */
        pace_count(&connection->pace, uv_now(connection->server->loop), length);
        open_records(connection, bytes, length);
        if (!connection->closing)
            take_plain(connection, plain->data, plain->length);
        buffer_clear(plain);
        return;
    }
    if (connection->session.state == SESSION_NEW)
        used = take_preface(connection, bytes, length);
    if (!connection->closing)
        take_plain(connection, bytes + used, length - used);
}

static void read_cb(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;

    if (count == 0 || connection->closing)
        return;
    assert(connection->server->replies.length == 0);
    if (count < 0) {
        connection->hung_up = true;
        if (connection->waiting == WAITING_FAREWELL) {
            connection_close(connection);
            return;
        }
        if (connection->session.state == SESSION_HANDSHAKE) {
            transport_fail_tls(connection, "hung up in the handshake");
            return;
        }
        session_event(&connection->session, EVENT_HANGUP, REPLY_UNSET);
        connection_proceed(connection);
        return;
    }
    connection->heard = server_tick(uv_now(connection->server->loop));
    if (connection->waiting == WAITING_FAREWELL)
        return; /* read only so that it is not unread */
    take_input(connection, buffer->base, (size_t)count);
    connection_proceed(connection);
}

void transport_read(struct connection *connection, bool on)
{
    if (connection->reading == on)
        return;
    connection->reading = on;
    if (on)
        uv_read_start((uv_stream_t *)&connection->tcp, alloc_cb, read_cb);
    else
        uv_read_stop((uv_stream_t *)&connection->tcp);
}
