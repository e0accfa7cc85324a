/* The session, whose table is in smtpd/transition.c: see the header. */
#include "smtpd/session.h"

#include "smtpd/command.h"
#include "smtpd/transition.h"

#include <stdlib.h>

/* Replies wait in `out` until the input is used up, so that a pipelined group is answered in one
 * segment (RFC 2920, section 3.2); but no more than this, so that a client that sends without
 * reading is stopped. */
enum { SESSION_OUT_MAX = 16 * 1024 };

static bool is_command(enum session_event event)
{
    return event >= EVENT_HELO && event <= EVENT_LINE_TOO_LONG;
}

/* A refusal for now is no error of the client's, but neither is it mail: without a limit one could
 * have recipients put off for ever. */
static bool is_junk(const struct transition *transition, enum reply reply)
{
    return transition->junk || (reply_code(reply) / 100 == 4 && reply_code(reply) != 421);
}

/* The limits on what a client may do wrong or in vain. The reply to a message's data is never put
 * aside for one: the client must learn whether to send that message again. */
static enum reply apply_limits(struct session *session, const struct transition *transition,
                               enum session_event event, enum reply reply)
{
    if (reply_code(reply) / 100 == 5)
        session->errors++;
    if (!is_command(event))
        return reply;
    if (reply_code(reply) / 100 == 5 && session->errors >= session->rules->max_errors)
        return REPLY_TOO_MANY_ERRORS;
    if (is_junk(transition, reply) && ++session->junk >= session->rules->max_junk)
        return REPLY_TOO_MUCH_JUNK;
    return reply;
}

static void answer(struct session *session, enum reply reply, struct slice line)
{
    const struct reply_values values = {
        .hostname = session->rules->hostname,
        .max_size = session->rules->max_size,
        .id = session->transaction != NULL ? session->transaction->id : "",
    };

    reply_format(reply, &values, session->out);
    session->delayed =
        session->rules->delay_errors && session->errors > session->rules->max_errors / 2;
    session->host->replied(session, reply, line);
}

static bool holds_transaction(enum session_state state)
{
    return state >= SESSION_MAIL && state <= SESSION_COMMIT;
}

/* The one place that changes the state. A transaction does not outlive the states that have one. */
static void enter(struct session *session, enum session_state state)
{
    if (!holds_transaction(state)) {
        if (session->state == SESSION_CONTENT || session->state == SESSION_COMMIT)
            session->host->message_abort(session);
        transaction_close(session->transaction);
        session->transaction = NULL;
    }
    session->state = (uint8_t)state;
}

static void step(struct session *session, enum session_event event, struct slice argument,
                 enum reply refusal, struct slice line)
{
    const struct transition *transition = transition_of((enum session_state)session->state, event);
    enum session_state next = transition->next;
    enum reply reply = REPLY_UNSET;

    if (transition->action != NULL)
        reply = transition->action(session, argument, refusal);
    if (reply == REPLY_UNSET)
        reply = transition->reply;
    else
        next = transition->refused;
    reply = apply_limits(session, transition, event, reply);
    if (reply_code(reply) == 421) /* says that the connection is closed: RFC 5321, section 3.8 */
        next = SESSION_CLOSED;
    if (reply != REPLY_NONE)
        answer(session, reply, line);
    enter(session, next);
}

static bool between_commands(const struct session *session)
{
    return session->state >= SESSION_START && session->state <= SESSION_RCPT;
}

static void step_and_stop(struct session *session, enum session_event event, struct slice argument,
                          enum reply refusal, struct slice line)
{
    const struct slice none = {0};

    step(session, event, argument, refusal, line);
    if (session->stopping && between_commands(session))
        step(session, EVENT_SHUTDOWN, none, REPLY_UNSET, none);
}

void session_event(struct session *session, enum session_event event, enum reply refusal)
{
    const struct slice none = {0};

    if (event == EVENT_SHUTDOWN)
        session->stopping = true;
    step_and_stop(session, event, none, refusal, none);
}

static void take_command(struct session *session, struct slice line)
{
    static const enum session_event events[] = {
        [COMMAND_HELO] = EVENT_HELO,
        [COMMAND_EHLO] = EVENT_EHLO,
        [COMMAND_MAIL] = EVENT_MAIL,
        [COMMAND_RCPT] = EVENT_RCPT,
        [COMMAND_DATA] = EVENT_DATA,
        [COMMAND_RSET] = EVENT_RSET,
        [COMMAND_NOOP] = EVENT_NOOP,
        [COMMAND_HELP] = EVENT_HELP,
        [COMMAND_VRFY] = EVENT_VRFY,
        [COMMAND_QUIT] = EVENT_QUIT,
        [COMMAND_UNIMPLEMENTED] = EVENT_UNIMPLEMENTED,
        [COMMAND_FOREIGN] = EVENT_FOREIGN,
        [COMMAND_UNKNOWN] = EVENT_UNKNOWN,
        [COMMAND_MALFORMED] = EVENT_MALFORMED,
        [COMMAND_MISUSED] = EVENT_MISUSED,
    };
    struct command command = command_parse(line);

    step_and_stop(session, events[command.verb], command.argument, REPLY_UNSET, line);
}

static size_t take_line(struct session *session, const char *bytes, size_t length)
{
    struct slice text = {0};
    enum line_status status;
    size_t used = line_feed(&session->line, bytes, length, &status, &text);

    switch (status) {
    case LINE_PARTIAL:
        break;
    case LINE_COMPLETE:
        take_command(session, text);
        line_reset(&session->line);
        break;
    case LINE_BAD:
        step_and_stop(session, EVENT_BAD_LINE_END, text, REPLY_UNSET, text);
        line_reset(&session->line);
        break;
    case LINE_TOO_LONG:
        session_event(session, EVENT_LINE_TOO_LONG, REPLY_UNSET);
        break;
    case LINE_NO_MEMORY:
        session_event(session, EVENT_NO_MEMORY, REPLY_UNSET);
        break;
    }
    return used;
}

static void keep_content(struct session *session, struct slice content)
{
    const struct data *data = &session->transaction->data;

    if (data->size > session->rules->max_size)
        session_event(session, EVENT_CONTENT_FAILED, REPLY_TOO_BIG);
    else if (data->received > RULES_MAX_HOPS)
        session_event(session, EVENT_CONTENT_FAILED, REPLY_TOO_MANY_HOPS);
    else if (content.length > 0)
        session->host->message_append(session, content);
}

static size_t take_content(struct session *session, const char *bytes, size_t length)
{
    struct slice content;
    size_t used;

    if (session->state == SESSION_CONTENT) {
        size_t room = session->host->message_room(session);
        length = length < room ? length : room;
    }
    used = data_feed(&session->transaction->data, bytes, length, &content);
    if (session->state == SESSION_CONTENT)
        keep_content(session, content);
    if (data_ended(&session->transaction->data))
        session_event(session, EVENT_CONTENT_END, REPLY_UNSET);
    return used;
}

bool session_in_content(const struct session *session)
{
    return session->state == SESSION_CONTENT || session->state == SESSION_DRAIN;
}

bool session_wants_input(const struct session *session)
{
    switch ((enum session_state)session->state) {
    case SESSION_NEW:
    case SESSION_COMMIT:
    case SESSION_CLOSED:
        return false;
    case SESSION_CONTENT:
        return session->host->message_room(session) > 0;
    default:
        return !session->delayed && session->out->length < SESSION_OUT_MAX;
    }
}

size_t session_input(struct session *session, const char *bytes, size_t length)
{
    size_t used = 0;

    while (used < length && session_wants_input(session)) {
        if (session_in_content(session))
            used += take_content(session, bytes + used, length - used);
        else
            used += take_line(session, bytes + used, length - used);
    }
    return used;
}

void session_init(struct session *session, const struct rules *rules,
                  const struct session_host *host, struct buffer *out)
{
    *session = (struct session){.rules = rules, .host = host, .out = out, .state = SESSION_NEW};
}

void session_free(struct session *session)
{
    enter(session, SESSION_CLOSED);
    line_reset(&session->line);
    free(session->helo);
    session->helo = NULL;
}
