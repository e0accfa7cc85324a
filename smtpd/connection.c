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
#include "smtpd/message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Input that could not be used at once. */
struct connection_input {
    size_t start, length;
    char bytes[];
};

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

static void connection_close(struct connection *connection)
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

/* Deadlines. */

static uint64_t seconds(long number)
{
    return (uint64_t)number * 1000;
}

static struct pace_limits pace_limits(const struct server *server)
{
    const struct config *config = server->config;

    return (struct pace_limits){
        .timeout = seconds(config->timeout),
        .minimum = (uint64_t)config->min_rate * (uint64_t)config->timeout,
        .max_time = seconds(config->max_time),
    };
}

static void set_deadline(struct connection *connection, uint64_t milliseconds)
{
    /* The tick behind the one in which it falls: never too early. */
    wheel_set(&connection->server->wheel, &connection->deadline, server_tick(milliseconds) + 1);
}

static void connection_wait(struct connection *connection, enum connection_waiting waiting)
{
    struct server *server = connection->server;
    const struct pace_limits limits = pace_limits(server);
    uint64_t now = uv_now(server->loop), deadline = 0;
    bool same = connection->waiting == waiting;

    if (same && !(waiting == WAITING_COMMAND && connection->answered))
        return;
    connection->waiting = (uint8_t)waiting;
    connection->answered = false;
    switch (waiting) {
    case WAITING_NOTHING:
        wheel_remove(&server->wheel, &connection->deadline);
        return;
    case WAITING_COMMAND:
    case WAITING_WRITE:
        deadline = now + limits.timeout;
        break;
    case WAITING_CONTENT:
        pace_excuse(&connection->pace, now);
        pace_judge(&connection->pace, &limits, now, &deadline);
        break;
    case WAITING_DELAY:
        deadline = now + seconds(server->config->error_delay);
        break;
    case WAITING_FAREWELL:
        deadline = now + CONNECTION_FAREWELL_MS;
        break;
    }
    set_deadline(connection, deadline);
}

/* Output. */

static void drained_cb(struct output *output, int status)
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

/* Sends the replies that the session has given, or keeps them while they are to be delayed. */
static void flush_replies(struct connection *connection)
{
    struct buffer *replies = &connection->server->replies;

    if (replies->length > 0 && !output_write(&connection->output, replies->data, replies->length,
                                             connection->session.delayed))
        connection_close(connection);
    buffer_clear(replies);
}

/* Input. */

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct connection *connection = handle->data;
    size_t room = SERVER_READ_SIZE;

    /* No more is read than can be used: TCP is the queue. */
    (void)suggested;
    if (connection->session.state == SESSION_CONTENT &&
        message_room(connection->message) < SERVER_READ_SIZE)
        room = message_room(connection->message);
    *buffer = uv_buf_init(connection->server->input, (unsigned)room);
}

static void keep_input(struct connection *connection, const char *bytes, size_t length)
{
    struct connection_input *input = malloc(sizeof *input + length);

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
        pace_count(&connection->pace, uv_now(connection->server->loop), step);
        used += step;
        flush_replies(connection);
    }
    return used;
}

static void use_kept(struct connection *connection)
{
    struct connection_input *input = connection->input;
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

static void read_cb(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer);

static void set_reading(struct connection *connection, bool reading)
{
    if (connection->reading == reading)
        return;
    connection->reading = reading;
    if (reading)
        uv_read_start((uv_stream_t *)&connection->tcp, alloc_cb, read_cb);
    else
        uv_read_stop((uv_stream_t *)&connection->tcp);
}

/* The session is over and its last reply is out. */
static void say_farewell(struct connection *connection)
{
    uv_os_fd_t descriptor;

    if (connection->hung_up || !connection->courteous ||
        uv_fileno((uv_handle_t *)&connection->tcp, &descriptor) != 0) {
        connection_close(connection);
        return;
    }
    shutdown(descriptor, SHUT_WR);
    free(connection->input);
    connection->input = NULL;
    connection_wait(connection, WAITING_FAREWELL);
    set_reading(connection, true);
}

void connection_proceed(struct connection *connection)
{
    bool wants_input;

    if (connection->closing || connection->waiting == WAITING_FAREWELL)
        return;
    flush_replies(connection);
    if (!connection->closing)
        use_kept(connection);
    if (connection->closing)
        return;
    if (output_pending(&connection->output)) {
        set_reading(connection, false);
        connection_wait(connection, connection->output.writing ? WAITING_WRITE : WAITING_DELAY);
        return;
    }
    if (connection->session.state == SESSION_CLOSED) {
        connection->courteous = connection->courteous || connection->input != NULL;
        say_farewell(connection);
        return;
    }
    wants_input = session_wants_input(&connection->session);
    set_reading(connection, wants_input);
    if (!wants_input)
        connection_wait(connection, WAITING_NOTHING);
    else
        connection_wait(connection, session_in_content(&connection->session) ? WAITING_CONTENT
                                                                             : WAITING_COMMAND);
}

static void read_cb(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;
    size_t used;

    if (count == 0 || connection->closing)
        return;
    assert(connection->server->replies.length == 0);
    if (count < 0) {
        connection->hung_up = true;
        if (connection->waiting == WAITING_FAREWELL) {
            connection_close(connection);
            return;
        }
        session_event(&connection->session, EVENT_HANGUP, REPLY_UNSET);
        connection_proceed(connection);
        return;
    }
    if (connection->waiting == WAITING_FAREWELL)
        return; /* read only so that it is not unread */
    used = use_input(connection, buffer->base, (size_t)count);
    if (!connection->closing && used < (size_t)count)
        keep_input(connection, buffer->base + used, (size_t)count - used);
    connection_proceed(connection);
}

/* Deadlines that have come. */

static void judge_pace(struct connection *connection)
{
    const struct pace_limits limits = pace_limits(connection->server);
    uint64_t now = uv_now(connection->server->loop), deadline;

    switch (pace_judge(&connection->pace, &limits, now, &deadline)) {
    case PACE_OK:
        set_deadline(connection, deadline);
        return;
    case PACE_SILENT:
        session_event(&connection->session, EVENT_TIMEOUT, REPLY_UNSET);
        break;
    case PACE_SLOW:
        session_event(&connection->session, EVENT_TOO_SLOW, REPLY_UNSET);
        break;
    }
    connection_proceed(connection);
}

static void due_cb(struct wheel_entry *entry)
{
    struct connection *connection =
        (struct connection *)(void *)((char *)entry - offsetof(struct connection, deadline));

    switch ((enum connection_waiting)connection->waiting) {
    case WAITING_NOTHING:
        break;
    case WAITING_COMMAND:
        session_event(&connection->session, EVENT_TIMEOUT, REPLY_UNSET);
        connection_proceed(connection);
        break;
    case WAITING_CONTENT:
        judge_pace(connection);
        break;
    case WAITING_DELAY:
        if (output_release(&connection->output))
            connection_proceed(connection);
        else
            connection_close(connection);
        break;
    case WAITING_WRITE:
    case WAITING_FAREWELL:
        connection_close(connection);
        break;
    }
}

static void tick_cb(uv_timer_t *timer)
{
    struct server *server = timer->data;

    wheel_turn(&server->wheel, server_tick(uv_now(server->loop)), due_cb);
}

/* The beginning. */

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
        wheel_turn(&server->wheel, server_tick(uv_now(server->loop)), due_cb);
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
    connection->output.drained_cb = drained_cb;
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
