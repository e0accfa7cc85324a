/* The session, whose table is in smtpd/transition.c: see the header. */
#include "smtpd/session.h"

#include "queue/spool.h"
#include "smtpd/command.h"
#include "smtpd/transition.h"

#include <stdlib.h>

/* Replies wait in `out` until the input is used up, so that a pipelined group is answered in one
 * segment (RFC 2920, section 3.2); but no more than this, so that a client that sends without
 * reading is stopped. */
enum { SESSION_OUT_MAX = 16 * 1024 };

static bool is_command(enum session_event event)
{
    return event >= EVENT_HELO && event <= EVENT_CHUNK_SKIPPED;
}

/* Where the operator demands TLS, what is answered as ever without it (RFC 3207, section 4): the
 * commands that lead to TLS or away, and lines that are no commands. */
static const bool allowed_in_clear[EVENT_COUNT] = {
    [EVENT_EHLO] = true,          [EVENT_NOOP] = true,          [EVENT_STARTTLS] = true,
    [EVENT_QUIT] = true,          [EVENT_BDAT] = true, /* its octets are to be passed over first */
    [EVENT_BAD_CHUNK] = true,     [EVENT_FOREIGN] = true,       [EVENT_MALFORMED] = true,
    [EVENT_BAD_LINE_END] = true,  [EVENT_LINE_TOO_LONG] = true, [EVENT_OUT_OF_TURN] = true,
    [EVENT_SECOND_HEADER] = true, [EVENT_MISUSED] = true,
};

static bool needs_tls(const struct session *session, enum session_event event)
{
    return session->rules->require_tls && !session->secure && is_command(event) &&
           !allowed_in_clear[event] && session->state != SESSION_REJECTED;
}

/* A refusal for now is no error of the client's, but neither is it mail: without a limit one could
 * have recipients put off for ever. */
static bool is_junk(const struct session *session, const struct transition *transition,
                    enum session_event event, enum reply reply)
{
    if (!is_command(event)) /* but a chunk without an octet is as good as one */
        return event == EVENT_CHUNK_END && session->chunk_empty;
    return transition->junk || (reply_code(reply) / 100 == 4 && reply_code(reply) != 421);
}

/* The limits on what a client may do wrong or in vain. The reply to a message's data is never put
 * aside for one: the client must learn whether to send that message again. */
static enum reply apply_limits(struct session *session, const struct transition *transition,
                               enum session_event event, enum reply reply)
{
    if (reply_code(reply) / 100 == 5)
        session->errors++;
    if (event == EVENT_MAIL && session->messages > session->rules->max_messages)
        return REPLY_TOO_MANY_MESSAGES;
    if (is_command(event) && reply_code(reply) / 100 == 5 &&
        session->errors >= session->rules->max_errors)
        return REPLY_TOO_MANY_ERRORS;
    if (is_junk(session, transition, event, reply) && ++session->junk >= session->rules->max_junk)
        return REPLY_TOO_MUCH_JUNK;
    return reply;
}

static void answer(struct session *session, enum session_event event, enum reply reply,
                   struct slice line)
{
    const struct reply_values values = {
        .hostname = session->rules->hostname,
        .max_size = session->rules->max_size,
        .max_recipients = session->rules->max_recipients,
        .max_messages = session->rules->max_messages,
        .tls = session->rules->tls && !session->secure,
        .id = session->transaction != NULL ? session->transaction->id : "",
    };

    reply_format(reply, &values, session->out);
    session->delayed =
        session->rules->delay_errors && session->errors > session->rules->max_errors / 2;
    session->host->replied(session, event, reply, line);
}

static bool holds_transaction(enum session_state state)
{
    return state >= SESSION_MAIL && state <= SESSION_COMMIT;
}

static bool holds_message(enum session_state state)
{
    return state == SESSION_CONTENT || state == SESSION_CHUNK || state == SESSION_CHUNKED ||
           state == SESSION_COMMIT;
}

/* The one place that changes the state. A transaction does not outlive the states that have one. */
static void enter(struct session *session, enum session_state state)
{
    if (!holds_transaction(state)) {
        if (holds_message((enum session_state)session->state))
            session->host->message_abort(session);
        transaction_close(session->transaction);
        session->transaction = NULL;
    }
    if (state == SESSION_CLOSED)
        session->chunk = 0;
    session->state = (uint8_t)state;
}

static void step(struct session *session, enum session_event event, struct slice argument,
                 enum reply refusal, struct slice line)
{
    const struct transition *transition = transition_of((enum session_state)session->state, event);
    enum session_state next = transition->next;
    enum reply reply = REPLY_UNSET;

    if (needs_tls(session, event))
        reply = REPLY_TLS_REQUIRED;
    else if (transition->action != NULL)
        reply = transition->action(session, argument, refusal);
    if (reply == REPLY_UNSET)
        reply = transition->reply;
    else
        next = reply == REPLY_TLS_REQUIRED ? session->state : transition->refused;
    reply = apply_limits(session, transition, event, reply);
    if (reply_code(reply) == 421) /* says that the connection is closed: RFC 5321, section 3.8 */
        next = SESSION_CLOSED;
    if (reply != REPLY_NONE)
        answer(session, event, reply, line);
    enter(session, next);
}

static bool between_commands(const struct session *session)
{
    return (session->state >= SESSION_START && session->state <= SESSION_RCPT) ||
           session->state == SESSION_REJECTED;
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

/* RFC 2920, section 3.1: the reply to some commands decides what can come next, and without EHLO
 * that holds for all. Who goes on all the same has not read it, as mail servers do. */
static bool should_wait(const struct session *session, enum session_event event)
{
    switch (event) {
    case EVENT_HELO:
    case EVENT_EHLO:
    case EVENT_DATA:
    case EVENT_VRFY:
    case EVENT_STARTTLS:
        return true;
    case EVENT_QUIT:
    case EVENT_FOREIGN:
    case EVENT_BDAT: /* its octets are behind it */
        return false;
    default:
        return !session->extended;
    }
}

/* Notes a command that came out of turn; the event that it is to be taken for. */
static enum session_event judge_turn(struct session *session, enum session_event event,
                                     struct slice line)
{
    if (session->state == SESSION_REJECTED || !should_wait(session, event))
        return event;
    if (!session->noted)
        session->host->noted(session, NOTE_EARLY_PIPELINING, line);
    session->noted = true;
    return session->rules->refuse_pipelining ? EVENT_OUT_OF_TURN : event;
}

/* Only the first bytes of a connection may be a header, and only once: behind it they are the
 * client's. One of version 2 is an empty line, which a client may send by mistake later on, another,
 * a line that is a NUL, which none does, and more. */
static bool is_second_header(const struct session *session, struct slice line)
{
    if (!session->proxied)
        return false;
    return command_is_proxy(line) || (session->helo == NULL && line.length == 0) ||
           (line.length == 1 && line.start[0] == '\0');
}

static void take_bad_line(struct session *session, struct slice line)
{
    enum session_event event = EVENT_BAD_LINE_END;

    if (command_names_chunk(line))
        event = EVENT_BAD_CHUNK;
    if (is_second_header(session, line)) {
        session->host->noted(session, NOTE_SECOND_HEADER, line);
        event = EVENT_SECOND_HEADER;
    }
    step_and_stop(session, event, line, REPLY_UNSET, line);
}

/* The chunk has come, all of it. */
static void end_chunk(struct session *session)
{
    if (session->state != SESSION_CHUNK && session->state != SESSION_CHUNK_DRAIN)
        session_event(session, EVENT_CHUNK_SKIPPED, REPLY_UNSET);
    else
        session_event(session, session->chunk_last ? EVENT_CONTENT_END : EVENT_CHUNK_END,
                      REPLY_UNSET);
}

static void take_chunk_command(struct session *session, struct slice argument, struct slice line)
{
    const struct slice none = {0};

    if (!command_parse_chunk(argument, &session->chunk, &session->chunk_last)) {
        session->chunk = 0;
        step_and_stop(session, EVENT_BAD_CHUNK, none, REPLY_UNSET, line);
        return;
    }
    session->chunk_empty = session->chunk == 0;
    step_and_stop(session, EVENT_BDAT, none, REPLY_UNSET, line);
    if (session->state == SESSION_CHUNK) {
        struct transaction *transaction = session->transaction;

        /* Known before a single octet is written. */
        if (transaction->failure == REPLY_UNSET &&
            transaction->data.size <= session->rules->max_size &&
            session->chunk > session->rules->max_size - transaction->data.size)
            transaction->failure = REPLY_TOO_BIG;
        if (transaction->failure != REPLY_UNSET)
            session_event(session, EVENT_CONTENT_FAILED, transaction->failure);
    }
    if (session->chunk == 0)
        end_chunk(session);
}

static void take_command(struct session *session, struct slice line, bool more)
{
    static const enum session_event events[] = {
        [COMMAND_HELO] = EVENT_HELO,
        [COMMAND_EHLO] = EVENT_EHLO,
        [COMMAND_MAIL] = EVENT_MAIL,
        [COMMAND_RCPT] = EVENT_RCPT,
        [COMMAND_DATA] = EVENT_DATA,
        [COMMAND_BDAT] = EVENT_BDAT,
        [COMMAND_RSET] = EVENT_RSET,
        [COMMAND_NOOP] = EVENT_NOOP,
        [COMMAND_HELP] = EVENT_HELP,
        [COMMAND_VRFY] = EVENT_VRFY,
        [COMMAND_STARTTLS] = EVENT_STARTTLS,
        [COMMAND_QUIT] = EVENT_QUIT,
        [COMMAND_UNIMPLEMENTED] = EVENT_UNIMPLEMENTED,
        [COMMAND_FOREIGN] = EVENT_FOREIGN,
        [COMMAND_UNKNOWN] = EVENT_UNKNOWN,
        [COMMAND_MALFORMED] = EVENT_MALFORMED,
        [COMMAND_MISUSED] = EVENT_MISUSED,
    };
    struct command command = command_parse(line);
    enum session_event event = events[command.verb];

    if (event != EVENT_BDAT && command_names_chunk(line))
        event = EVENT_BAD_CHUNK;
    if (is_second_header(session, line)) {
        session->host->noted(session, NOTE_SECOND_HEADER, line);
        event = EVENT_SECOND_HEADER;
    } else if (more) {
        event = judge_turn(session, event, line);
    }
    if (event == EVENT_MAIL)
        session->messages++;
    if (event == EVENT_BDAT)
        take_chunk_command(session, command.argument, line);
    else
        step_and_stop(session, event, command.argument, REPLY_UNSET, line);
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
        take_command(session, text, used < length);
        line_reset(&session->line);
        break;
    case LINE_BAD:
        take_bad_line(session, text);
        line_reset(&session->line);
        break;
    case LINE_TOO_LONG:
        session_event(session, command_names_chunk(text) ? EVENT_BAD_CHUNK : EVENT_LINE_TOO_LONG,
                      REPLY_UNSET);
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
    else if (data->received > QUEUE_HOPS_MAX)
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

static size_t take_chunk(struct session *session, const char *bytes, size_t length)
{
    if (session->state == SESSION_CHUNK) {
        size_t room = session->host->message_room(session);
        length = length < room ? length : room;
    }
    if (length > session->chunk)
        length = (size_t)session->chunk;
    if (session->state == SESSION_CHUNK) {
        data_count(&session->transaction->data, bytes, length);
        keep_content(session, slice_make(bytes, length));
    }
    session->chunk -= length;
    if (session->chunk == 0)
        end_chunk(session);
    return length;
}

bool session_in_content(const struct session *session)
{
    switch ((enum session_state)session->state) {
    case SESSION_CONTENT:
    case SESSION_DRAIN:
    case SESSION_CHUNK:
    case SESSION_CHUNKED:
    case SESSION_CHUNK_DRAIN:
        return true;
    default:
        return session->chunk > 0;
    }
}

bool session_wants_input(const struct session *session)
{
    switch ((enum session_state)session->state) {
    case SESSION_NEW:
    case SESSION_COMMIT:
    case SESSION_HANDSHAKE:
    case SESSION_CLOSED:
        return false;
    case SESSION_CONTENT:
    case SESSION_CHUNK:
        return session->host->message_room(session) > 0;
    default:
        return !session->delayed && session->out->length < SESSION_OUT_MAX;
    }
}

size_t session_input(struct session *session, const char *bytes, size_t length)
{
    size_t used = 0;

    while (used < length && session_wants_input(session)) {
        if (session->chunk > 0)
            used += take_chunk(session, bytes + used, length - used);
        else if (session->state == SESSION_CONTENT || session->state == SESSION_DRAIN)
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
