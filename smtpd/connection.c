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
#include "smtpd/proxy.h"
#include "smtpd/tls.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The end. */

static void closed_cb(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct server *server = connection->server;

    output_free(&connection->output);
    tls_free(connection->tls);
    free(connection);
    server->connection_count--;
    counters_add(COUNTER_CONNECTIONS_OPEN, -1);
    server_feel_pressure(server);
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
    free(connection->proxy);
    connection->proxy = NULL;
    uv_close((uv_handle_t *)&connection->tcp, closed_cb);
}

/* The session is over and its last reply is out. */
static void say_farewell(struct connection *connection)
{
    transport_end_tls(connection);
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
    if (connection->session.state == SESSION_NEW)
        return connection->proxy != NULL ? WAITING_HEADER : WAITING_GREETING;
    if (connection->session.state == SESSION_HANDSHAKE)
        return WAITING_COMMAND;
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
    /* Not before all that came under TLS is used, as with bytes in the clear. */
    if (connection->tls_ended && connection->input == NULL && !connection->hung_up &&
        session_wants_input(&connection->session) && !output_pending(&connection->output)) {
        connection->hung_up = true;
        session_event(&connection->session, EVENT_HANGUP, REPLY_UNSET);
    }
    if (connection->session.state == SESSION_CLOSED && !output_pending(&connection->output)) {
        connection->courteous = connection->courteous || connection->input != NULL;
        say_farewell(connection);
        return;
    }
    next = what_comes_next(connection);
    transport_read(connection, !connection->tls_ended && next != WAITING_NOTHING &&
                                   next != WAITING_DELAY && next != WAITING_WRITE);
    waiting_set(connection, next);
}

/* The beginning. */

static void tick_cb(uv_timer_t *timer)
{
    struct server *server = timer->data;

    wheel_turn(&server->wheel, server_tick(uv_now(server->loop)), waiting_due_cb);
    server_feel_pressure(server);
    if (server->connection_count == 0 && !server->pressure.on)
        uv_timer_stop(&server->ticker);
}

static void link_connection(struct connection *connection)
{
    struct server *server = connection->server;

    connection->next = server->connections;
    connection->previous = &server->connections;
    if (connection->next != NULL)
        connection->next->previous = &connection->next;
    server->connections = connection;
    server->connection_count++;
    if (!uv_is_active((uv_handle_t *)&server->ticker)) {
        wheel_turn(&server->wheel, server_tick(uv_now(server->loop)), waiting_due_cb);
        server->ticker.data = server;
        uv_timer_start(&server->ticker, tick_cb, SERVER_TICK_MS, SERVER_TICK_MS);
    }
    counters_add(COUNTER_CONNECTIONS, 1);
    counters_add(COUNTER_CONNECTIONS_OPEN, 1);
    server_feel_pressure(server);
}

/* RFC 5321, section 4.3.1: a client waits for the greeting. One that does not is seldom a mail
 * server: it is told apart here, and served like all others unless the operator says otherwise. */
void connection_greet(struct connection *connection, bool early)
{
    bool refused = early && connection->server->config->pregreet > 0;
    char client[ADDRESS_TEXT_SIZE];

    if (early) {
        address_text(&connection->client, client);
        counters_add(COUNTER_EARLY_TALKERS, 1);
        log_info("early_talker", LOG_TEXT("client", client));
    }
    session_event(&connection->session, refused ? EVENT_EARLY_TALK : EVENT_CONNECT, REPLY_UNSET);
}

static bool has_spoken(const struct connection *connection)
{
    uv_os_fd_t descriptor;
    char octet;

    return uv_fileno((const uv_handle_t *)&connection->tcp, &descriptor) == 0 &&
           recv(descriptor, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Counts the client, and greets it if it may come in and need not wait. */
static void admit(struct connection *connection, bool early)
{
    struct server *server = connection->server;
    unsigned of_client = clients_enter(&server->clients, &connection->client);

    connection->counted = of_client > 0;
    if (of_client == 0)
        session_event(&connection->session, EVENT_NO_MEMORY, REPLY_UNSET);
    else if (of_client > (unsigned)server->config->max_connections_per_client)
        session_event(&connection->session, EVENT_CLIENT_FULL, REPLY_UNSET);
    else if (early || server->config->pregreet == 0)
        connection_greet(connection, early);
}

void connection_take_header(struct connection *connection, bool more)
{
    if (!connection->proxy->local) {
        connection->client = connection->proxy->client;
        connection->session.client = &connection->client;
    }
    free(connection->proxy);
    connection->proxy = NULL;
    connection->session.proxied = true;
    admit(connection, more);
}

void connection_refuse_header(struct connection *connection, const char *reason)
{
    char client[ADDRESS_TEXT_SIZE];

    address_text(&connection->client, client);
    counters_add(COUNTER_PROXY_REFUSED, 1);
    log_info("proxy_refused", LOG_TEXT("client", client), LOG_TEXT("reason", reason));
    connection_close(connection);
}

/* Of a load balancer that is one too many. Its header has come with the connection, and unread it would
 * have the connection reset before the reply is passed on; to wait for the client to hang up is not for
 * those of whom there may be any number. */
static void pass_over_header(struct connection *connection)
{
    struct server *server = connection->server;
    uv_os_fd_t descriptor;

    if (networks_contain(&server->proxies, &connection->client) &&
        uv_fileno((const uv_handle_t *)&connection->tcp, &descriptor) == 0)
        recv(descriptor, server->input, SERVER_READ_SIZE, MSG_DONTWAIT);
}

/* A peer that passes on the connections of others is to say first whose this is. */
static void begin(struct connection *connection)
{
    struct server *server = connection->server;

    if (server->stopping) {
        session_event(&connection->session, EVENT_SHUTDOWN, REPLY_UNSET);
    } else if (server->connection_count > server->connection_limit) {
        session_event(&connection->session, EVENT_SERVER_FULL, REPLY_UNSET);
        pass_over_header(connection);
    } else if (!networks_contain(&server->proxies, &connection->client)) {
        connection->session.client = &connection->client;
        admit(connection, has_spoken(connection));
    } else {
        connection->proxy = calloc(1, sizeof *connection->proxy);
        if (connection->proxy == NULL)
            session_event(&connection->session, EVENT_NO_MEMORY, REPLY_UNSET);
    }
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
    begin(connection);
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
