/* What a session asks of the world: see the header. */
#include "smtpd/host.h"

#include "common/log.h"
#include "smtpd/command.h"
#include "smtpd/connection.h"
#include "smtpd/counters.h"
#include "smtpd/message.h"
#include "smtpd/room.h"

static struct connection *connection_of(const struct session *session)
{
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): gives up const */
    return (struct connection *)((char *)(uintptr_t)session - offsetof(struct connection, session));
}

static enum reply check_room(struct session *session, uint64_t declared)
{
    struct server *server = connection_of(session)->server;
    uint64_t min_free = (uint64_t)server->config->min_free;
    enum reply refusal = room_check(&server->spool, QUEUE_STORE, min_free, declared);

    /* Whom it will be for is not known yet; the queues may be on different file systems. */
    if (refusal == REPLY_UNSET &&
        policy_judge_client(&server->policy, session->client) != POLICY_STRANGER)
        refusal = room_check(&server->spool, QUEUE_RELAY, min_free, declared);
    return refusal;
}

static void message_room_cb(void *owner)
{
    connection_proceed(owner);
}

static void message_failed_cb(void *owner, int error)
{
    struct connection *connection = owner;

    session_event(&connection->session, EVENT_CONTENT_FAILED, room_reply(error));
    connection_proceed(connection);
}

static void message_ended_cb(void *owner, int error)
{
    struct connection *connection = owner;

    connection->message = NULL;
    if (error == 0)
        session_event(&connection->session, EVENT_COMMITTED, REPLY_UNSET);
    else
        session_event(&connection->session, EVENT_COMMIT_FAILED, room_reply(error));
    connection_proceed(connection);
}

static bool begin_tls(struct session *session)
{
    return transport_begin_tls(connection_of(session));
}

static void expect_content(struct session *session)
{
    struct connection *connection = connection_of(session);

    pace_begin(&connection->pace, uv_now(connection->server->loop));
}

static bool begin_message(struct session *session)
{
    static const struct message_callbacks callbacks = {
        .room_cb = message_room_cb,
        .failed_cb = message_failed_cb,
        .ended_cb = message_ended_cb,
    };
    struct connection *connection = connection_of(session);
    struct server *server = connection->server;
    const struct message_origin origin = {
        .hostname = server->config->site.hostname,
        .helo = session->helo,
        .protocol = transaction_protocol(session->transaction, session->extended, session->secure),
        .client = connection->client,
    };

    connection->message =
        message_open(&server->committer, session->transaction, &origin, &callbacks, connection);
    return connection->message != NULL;
}

static size_t room_of_message(const struct session *session)
{
    return message_room(connection_of(session)->message);
}

static void append_to_message(struct session *session, struct slice content)
{
    message_append(connection_of(session)->message, content);
}

static void finish_message(struct session *session)
{
    message_finish(connection_of(session)->message);
}

static void abort_message(struct session *session)
{
    struct connection *connection = connection_of(session);

    if (connection->message != NULL)
        message_abort(connection->message);
    connection->message = NULL;
}

static void log_refusal(struct connection *connection, enum reply reply, struct slice line)
{
    const struct session *session = &connection->session;
    const struct transaction *transaction = session->transaction;
    char client[ADDRESS_TEXT_SIZE];

    struct slice shown = command_loggable(line);

    address_text(&connection->client, client);
    log_info("refused", LOG_TEXT("client", client), LOG_TEXT("helo", session->helo),
             LOG_TEXT("from", transaction != NULL ? transaction->sender : NULL),
             LOG_NUMBER("code", reply_code(reply)), LOG_TEXT("status", reply_enhanced(reply)),
             LOG_TEXT("reason", reply_text(reply)), LOG_BYTES("line", shown.start, shown.length),
             LOG_NUMBER("length", line.length));
}

/* When all recipients that are left are put off, or the policy is broken, it is said once. How many
 * were refused stands in the line of the message. */
static bool was_logged(const struct session *session, enum reply reply)
{
    struct transaction *transaction = session->transaction;

    if (transaction == NULL || reply_code(reply) / 100 != 4)
        return false;
    if (transaction->put_off == reply)
        return true;
    transaction->put_off = reply;
    return false;
}

static void note_reply(struct session *session, enum session_event event, enum reply reply,
                       struct slice line)
{
    struct connection *connection = connection_of(session);

    connection->answered = true;
    /* Not with those who are one too many: there may be any number of them. */
    connection->courteous = reply_code(reply) >= 400 && session->state != SESSION_NEW;
    counters_reply(event, reply);
    if (reply_code(reply) >= 400 && !(line.length > 0 && was_logged(session, reply)))
        log_refusal(connection, reply, line);
}

static void note(struct session *session, enum session_note noted, struct slice line)
{
    static const struct {
        const char *event;
        enum counter counter;
    } notes[] = {
        [NOTE_EARLY_PIPELINING] = {"early_pipelining", COUNTER_EARLY_PIPELINING},
        [NOTE_SECOND_HEADER] = {"second_proxy_header", COUNTER_PROXY_REFUSED},
    };
    struct slice shown = command_loggable(line);
    char client[ADDRESS_TEXT_SIZE];

    address_text(&connection_of(session)->client, client);
    counters_add(notes[noted].counter, 1);
    log_info(notes[noted].event, LOG_TEXT("client", client), LOG_TEXT("helo", session->helo),
             LOG_BYTES("line", shown.start, shown.length));
}

const struct session_host host_of_connections = {
    .room_check = check_room,
    .tls_begin = begin_tls,
    .content_expected = expect_content,
    .message_begin = begin_message,
    .message_room = room_of_message,
    .message_append = append_to_message,
    .message_finish = finish_message,
    .message_abort = abort_message,
    .replied = note_reply,
    .noted = note,
};
