/* What a connection waits for: see the header. */
#include "smtpd/waiting.h"

#include "common/log.h"
#include "smtpd/connection.h"
#include "smtpd/counters.h"

static uint64_t seconds(unsigned long number)
{
    return (uint64_t)number * 1000;
}

static struct pace_limits pace_limits(const struct server *server)
{
    const struct pressure_limits *limits = pressure_limits(&server->pressure);

    return (struct pace_limits){
        .timeout = seconds(limits->timeout),
        .minimum = (uint64_t)server->config->min_rate * limits->timeout,
        .max_time = seconds(limits->max_time),
    };
}

static void set_deadline(struct connection *connection, uint64_t milliseconds)
{
    /* The tick behind the one in which it falls: never too early. */
    wheel_set(&connection->server->wheel, &connection->deadline, server_tick(milliseconds) + 1);
}

void waiting_set(struct connection *connection, enum waiting waiting)
{
    struct server *server = connection->server;
    const struct pace_limits limits = pace_limits(server);
    uint64_t now = uv_now(server->loop), deadline = 0;
    bool same = connection->waiting == waiting;

    if (same && !(waiting == WAITING_COMMAND && connection->answered))
        return;
    connection->waiting = (uint8_t)waiting;
    connection->answered = false;
    connection->since = server_tick(now);
    switch (waiting) {
    case WAITING_NOTHING:
        wheel_remove(&server->wheel, &connection->deadline);
        return;
    case WAITING_HEADER:
        deadline = now + WAITING_HEADER_MS;
        break;
    case WAITING_GREETING:
        deadline = now + seconds((unsigned long)server->config->pregreet);
        break;
    case WAITING_COMMAND:
    case WAITING_WRITE:
        deadline = now + limits.timeout;
        break;
    case WAITING_CONTENT:
        pace_excuse(&connection->pace, now);
        pace_judge(&connection->pace, &limits, now, &deadline);
        break;
    case WAITING_DELAY:
        deadline = now + seconds(pressure_limits(&server->pressure)->error_delay);
        break;
    case WAITING_FAREWELL:
        deadline = now + WAITING_FAREWELL_MS;
        break;
    }
    set_deadline(connection, deadline);
}

void waiting_tighten(struct connection *connection)
{
    const struct server *server = connection->server;
    uint64_t latest = uv_now(server->loop) + pace_limits(server).timeout;

    if (connection->waiting != WAITING_COMMAND && connection->waiting != WAITING_CONTENT &&
        connection->waiting != WAITING_WRITE)
        return;
    if (connection->deadline.deadline > server_tick(latest) + 1)
        set_deadline(connection, latest);
}

/* The limits were tightened when the deadline was set, and are no more: there is time left. Sets the
 * deadline then. */
static bool has_time_left(struct connection *connection)
{
    uint64_t end =
        (uint64_t)connection->since * SERVER_TICK_MS + pace_limits(connection->server).timeout;

    if (uv_now(connection->server->loop) >= end)
        return false;
    set_deadline(connection, end);
    return true;
}

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

/* What waits behind delays was sent at once, and may be much: the client is not waited for longer on
 * that account. */
static void end_delay(struct connection *connection)
{
    struct server *server = connection->server;
    uint64_t silent_until =
        (uint64_t)connection->heard * SERVER_TICK_MS + pace_limits(server).timeout;

    if (connection->input != NULL && uv_now(server->loop) >= silent_until) {
        session_event(&connection->session, EVENT_TIMEOUT, REPLY_UNSET);
        transport_flush(connection);
    }
    if (connection->closing)
        return;
    if (output_release(&connection->output))
        connection_proceed(connection);
    else
        connection_close(connection);
}

/* It takes no replies: there is no way to tell it so. */
static void close_deaf(struct connection *connection)
{
    char client[ADDRESS_TEXT_SIZE];

    address_text(&connection->client, client);
    counters_add(COUNTER_REFUSED_TIMEOUT, 1);
    log_info("replies_not_taken", LOG_TEXT("client", client),
             LOG_TEXT("helo", connection->session.helo));
    connection_close(connection);
}

void waiting_due_cb(struct wheel_entry *entry)
{
    struct connection *connection =
        (struct connection *)(void *)((char *)entry - offsetof(struct connection, deadline));

    switch ((enum waiting)connection->waiting) {
    case WAITING_NOTHING:
        break;
    case WAITING_HEADER:
        connection_refuse_header(connection, "timeout");
        break;
    case WAITING_GREETING:
        connection_greet(connection, false);
        connection_proceed(connection);
        break;
    case WAITING_COMMAND:
        if (has_time_left(connection))
            break;
        if (connection->session.state == SESSION_HANDSHAKE) {
            transport_fail_tls(connection, "timeout");
            break;
        }
        session_event(&connection->session, EVENT_TIMEOUT, REPLY_UNSET);
        connection_proceed(connection);
        break;
    case WAITING_CONTENT:
        judge_pace(connection);
        break;
    case WAITING_DELAY:
        end_delay(connection);
        break;
    case WAITING_WRITE:
        if (!has_time_left(connection))
            close_deaf(connection);
        break;
    case WAITING_FAREWELL:
        connection_close(connection);
        break;
    }
}
