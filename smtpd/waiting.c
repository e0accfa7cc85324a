/* What a connection waits for: see the header. */
#include "smtpd/waiting.h"

#include "smtpd/connection.h"

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
        deadline = now + WAITING_FAREWELL_MS;
        break;
    }
    set_deadline(connection, deadline);
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

void waiting_due_cb(struct wheel_entry *entry)
{
    struct connection *connection =
        (struct connection *)(void *)((char *)entry - offsetof(struct connection, deadline));

    switch ((enum waiting)connection->waiting) {
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
