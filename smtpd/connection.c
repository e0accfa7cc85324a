/* Connections: see the header.
 *
 * Memory: while a client is silent a connection is this struct and the name it gave; all else is
 * allocated when it is needed, and the buffers that are needed only during a callback are the
 * server's.
 *
 * Life: connection_close is idempotent and only begins the end; closed_cb frees. Nothing else is
 * outstanding then: libuv has called back the write, and a message with the thread pool knows its
 * connection only until message_abort. */
#include "smtpd/connection.h"

#include "common/log.h"
#include "smtpd/counters.h"
#include "smtpd/host.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The end. */

static void closed_cb(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct server *server = connection->server;

    output_free(&connection->output);
    free(connection);
    if (--server->connection_count == 0 && !server->closed)
        uv_timer_stop(&server->ticker);
    counters_add(COUNTER_CONNECTIONS_OPEN, -1);
    server_settle(server);
}

void connection_close(struct connection *connection)
{
    struct server *server = connection->server;

    if (connection->closing)
        return;
    connection->closing = true;
    session_free(&connection->session);
    buffer_clear(&server->replies); /* ours, if any: nobody else may get them */
    wheel_remove(&server->wheel, &connection->deadline);
    if (connection->counted)
        clients_leave(&server->clients, &connection->client);
    *connection->previous = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    free(connection->input);
    connection->input = NULL;
    uv_close((uv_handle_t *)&connection->tcp, closed_cb);
}

/* The session is over and its last reply is out. */
static void say_farewell(struct connection *connection)
{
    if (connection->hung_up || !connection->courteous) {
        connection_close(connection);
        return;
    }
    transport_shutdown(connection);
    waiting_set(connection, WAITING_FAREWELL);
    transport_read(connection, true);
}

static enum waiting what_comes_next(const struct connection *connection)
{
    if (output_pending(&connection->output))
        return connection->output.writing ? WAITING_WRITE : WAITING_DELAY;
    if (!session_wants_input(&connection->session))
        return WAITING_NOTHING;
    return session_in_content(&connection->session) ? WAITING_CONTENT : WAITING_COMMAND;
}

void connection_proceed(struct connection *connection)
{
    enum waiting next;

    if (connection->closing || connection->waiting == WAITING_FAREWELL)
        return;
    transport_flush(connection);
    if (!connection->closing)
        transport_use_kept(connection);
    if (connection->closing)
        return;
    if (connection->session.state == SESSION_CLOSED && !output_pending(&connection->output)) {
        connection->courteous = connection->courteous || connection->input != NULL;
        say_farewell(connection);
        return;
    }
    next = what_comes_next(connection);
    transport_read(connection, next == WAITING_COMMAND || next == WAITING_CONTENT);
    waiting_set(connection, next);
}

/* The beginning. */

static void tick_cb(uv_timer_t *timer)
{
    struct server *server = timer->data;

    wheel_turn(&server->wheel, server_tick(uv_now(server->loop)), waiting_due_cb);
}

static enum session_event admit(struct connection *connection)
{
    struct server *server = connection->server;
    unsigned of_client;

    if (server->connection_count > server->connection_limit)
        return EVENT_SERVER_FULL;
    of_client = clients_enter(&server->clients, &connection->client);
    connection->counted = of_client > 0;
    if (of_client == 0)
        return EVENT_NO_MEMORY;
    return of_client > (unsigned)server->config->max_connections_per_client ? EVENT_CLIENT_FULL
                                                                            : EVENT_CONNECT;
}

static void link_connection(struct connection *connection)
{
    struct server *server = connection->server;

    connection->next = server->connections;
    connection->previous = &server->connections;
    if (connection->next != NULL)
        connection->next->previous = &connection->next;
    server->connections = connection;
    if (server->connection_count++ == 0) {
        wheel_turn(&server->wheel, server_tick(uv_now(server->loop)), waiting_due_cb);
        server->ticker.data = server;
        uv_timer_start(&server->ticker, tick_cb, SERVER_TICK_MS, SERVER_TICK_MS);
    }
    counters_add(COUNTER_CONNECTIONS, 1);
    counters_add(COUNTER_CONNECTIONS_OPEN, 1);
}

/* RFC 5321, section 4.3.1: a client waits for the greeting. One that does not is seldom a mail
 * server: it is told apart here, and served like all others. */
static void note_early_talker(const struct connection *connection)
{
    char client[ADDRESS_TEXT_SIZE], octet;
    uv_os_fd_t descriptor;

    if (uv_fileno((const uv_handle_t *)&connection->tcp, &descriptor) != 0 ||
        recv(descriptor, &octet, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        return;
    address_text(&connection->client, client);
    counters_add(COUNTER_EARLY_TALKERS, 1);
    log_info("early_talker", LOG_TEXT("client", client));
}

/* Without a session, as there is no memory for one: what fits into the socket's buffer, which is
 * empty. */
static void turn_away(int descriptor)
{
    static const char reply[] = "421 4.3.2 Out of memory; try again later\r\n";

    log_error("no_memory");
    send(descriptor, reply, sizeof reply - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(descriptor);
}

bool connection_accept(struct server *server, int descriptor, const struct sockaddr *peer)
{
    struct connection *connection = calloc(1, sizeof *connection);
    enum session_event event;

    if (connection == NULL) {
        turn_away(descriptor);
        return false;
    }
    connection->server = server;
    connection->output.stream = (uv_stream_t *)&connection->tcp;
    connection->output.drained_cb = transport_drained_cb;
    session_init(&connection->session, &server->rules, &host_of_connections, &server->replies);
    uv_tcp_init(server->loop, &connection->tcp);
    connection->tcp.data = connection;
    link_connection(connection);
    if (uv_tcp_open(&connection->tcp, descriptor) != 0) {
        turn_away(descriptor);
        connection_close(connection);
        return false;
    }
    connection->client = address_from(peer);
    uv_tcp_nodelay(&connection->tcp, 1);
    event = admit(connection);
    if (event == EVENT_CONNECT)
        note_early_talker(connection);
    session_event(&connection->session, event, REPLY_UNSET);
    connection_proceed(connection);
    return true;
}

/* It only waits for the client to take a reply or to hang up. */
static bool has_had_its_time(const struct connection *connection)
{
    return output_pending(&connection->output) || connection->waiting == WAITING_FAREWELL;
}

void connection_end_all(struct server *server, enum session_event event)
{
    struct connection *next;

    for (struct connection *connection = server->connections; connection != NULL;
         connection = next) {
        next = connection->next;
        if (event == EVENT_SHUTDOWN_DEADLINE && has_had_its_time(connection)) {
            connection_close(connection);
            continue;
        }
        session_event(&connection->session, event, REPLY_UNSET);
        if (event == EVENT_SHUTDOWN_DEADLINE)
            connection->session.delayed = false;
        connection_proceed(connection);
        if (event == EVENT_SHUTDOWN_DEADLINE && output_pending(&connection->output))
            connection_close(connection);
    }
}
