/* The table of the session: see the header. */
#include "smtpd/transition.h"

#include "smtpd/action.h"

/* The words of the table. SAY: this reply, that state. TRY: the action decides between that and a
 * refusal, which leads to the last state. LOST: the event cannot come in this state; if it does,
 * this session is over, and no other is harmed. */
#define SAY(what, state)                                                                           \
    {                                                                                              \
        .reply = REPLY_##what, .next = SESSION_##state                                             \
    }
#define TRY(act, what, state, otherwise)                                                           \
    {                                                                                              \
        .reply = REPLY_##what, .next = SESSION_##state, .refused = SESSION_##otherwise,            \
        .action = (act)                                                                            \
    }
#define TRY_JUNK(act, what, state, otherwise)                                                      \
    {                                                                                              \
        .reply = REPLY_##what, .next = SESSION_##state, .refused = SESSION_##otherwise,            \
        .action = (act), .junk = true                                                              \
    }
#define JUNK(what, state)                                                                          \
    {                                                                                              \
        .reply = REPLY_##what, .next = SESSION_##state, .junk = true                               \
    }
#define LOST SAY(INTERNAL, CLOSED)

/* Rows that several states share. */
#define ANY_COMMAND_STATE(state)                                                                   \
    [EVENT_CONNECT] = LOST, [EVENT_SERVER_FULL] = LOST, [EVENT_CLIENT_FULL] = LOST,                \
    [EVENT_HELO] = TRY_JUNK(action_take_helo, HELO, READY, state),                                 \
    [EVENT_EHLO] = TRY_JUNK(action_take_ehlo, EHLO, READY, state), [EVENT_NOOP] = JUNK(OK, state), \
    [EVENT_HELP] = JUNK(HELP, state), [EVENT_VRFY] = JUNK(CANNOT_VERIFY, state),                   \
    [EVENT_QUIT] = SAY(BYE, CLOSED), [EVENT_UNIMPLEMENTED] = SAY(UNIMPLEMENTED, state),            \
    [EVENT_FOREIGN] = SAY(FOREIGN, CLOSED), [EVENT_UNKNOWN] = SAY(UNKNOWN, state),                 \
    [EVENT_MALFORMED] = SAY(MALFORMED, state), [EVENT_MISUSED] = SAY(MISUSED, state),              \
    [EVENT_BAD_LINE_END] = SAY(BAD_LINE_END, state),                                               \
    [EVENT_LINE_TOO_LONG] = SAY(LINE_TOO_LONG, state), [EVENT_CONTENT_END] = LOST,                 \
    [EVENT_CONTENT_FAILED] = LOST, [EVENT_COMMITTED] = LOST, [EVENT_COMMIT_FAILED] = LOST,         \
    [EVENT_TIMEOUT] = SAY(TIMEOUT, CLOSED), [EVENT_TOO_SLOW] = LOST,                               \
    [EVENT_SHUTDOWN] = SAY(SHUTDOWN, CLOSED), [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),   \
    [EVENT_HANGUP] = SAY(NONE, CLOSED), [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED)

#define NO_COMMAND(cell)                                                                           \
    [EVENT_HELO] = cell, [EVENT_EHLO] = cell, [EVENT_MAIL] = cell, [EVENT_RCPT] = cell,            \
    [EVENT_DATA] = cell, [EVENT_RSET] = cell, [EVENT_NOOP] = cell, [EVENT_HELP] = cell,            \
    [EVENT_VRFY] = cell, [EVENT_QUIT] = cell, [EVENT_UNIMPLEMENTED] = cell,                        \
    [EVENT_FOREIGN] = cell, [EVENT_UNKNOWN] = cell, [EVENT_MALFORMED] = cell,                      \
    [EVENT_MISUSED] = cell, [EVENT_BAD_LINE_END] = cell, [EVENT_LINE_TOO_LONG] = cell

#define NO_CONNECT(cell)                                                                           \
    [EVENT_CONNECT] = cell, [EVENT_SERVER_FULL] = cell, [EVENT_CLIENT_FULL] = cell

static const struct transition table[][EVENT_COUNT] =
    {
        [SESSION_NEW] =
            {
                [EVENT_CONNECT] = SAY(GREETING, START),
                [EVENT_SERVER_FULL] = SAY(SERVER_FULL, CLOSED),
                [EVENT_CLIENT_FULL] = SAY(CLIENT_FULL, CLOSED),
                NO_COMMAND(LOST),
                [EVENT_CONTENT_END] = LOST,
                [EVENT_CONTENT_FAILED] = LOST,
                [EVENT_COMMITTED] = LOST,
                [EVENT_COMMIT_FAILED] = LOST,
                [EVENT_TIMEOUT] = LOST,
                [EVENT_TOO_SLOW] = LOST,
                [EVENT_SHUTDOWN] = SAY(SHUTDOWN, CLOSED),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED),
            },
        [SESSION_START] =
            {
                ANY_COMMAND_STATE(START),
                [EVENT_MAIL] = SAY(NEED_HELO, START),
                [EVENT_RCPT] = SAY(NEED_HELO, START),
                [EVENT_DATA] = SAY(NEED_HELO, START),
                [EVENT_RSET] = JUNK(OK, START),
            },
        [SESSION_READY] =
            {
                ANY_COMMAND_STATE(READY),
                [EVENT_MAIL] = TRY(action_take_sender, SENDER_OK, MAIL, READY),
                [EVENT_RCPT] = SAY(NEED_MAIL, READY),
                [EVENT_DATA] = SAY(NEED_MAIL, READY),
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_MAIL] =
            {
                ANY_COMMAND_STATE(MAIL),
                [EVENT_MAIL] = SAY(NESTED_MAIL, MAIL),
                [EVENT_RCPT] = TRY(action_take_recipient, RECIPIENT_OK, RCPT, REFUSED),
                [EVENT_DATA] = SAY(NEED_RCPT, MAIL),
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_REFUSED] =
            {
                ANY_COMMAND_STATE(REFUSED),
                [EVENT_MAIL] = SAY(NESTED_MAIL, REFUSED),
                [EVENT_RCPT] = TRY(action_take_recipient, RECIPIENT_OK, RCPT, REFUSED),
                [EVENT_DATA] = SAY(NO_RECIPIENTS, REFUSED),
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_RCPT] =
            {
                ANY_COMMAND_STATE(RCPT),
                [EVENT_MAIL] = SAY(NESTED_MAIL, RCPT),
                [EVENT_RCPT] = TRY(action_take_recipient, RECIPIENT_OK, RCPT, RCPT),
                [EVENT_DATA] = TRY(action_begin_content, START_DATA, CONTENT, RCPT),
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_CONTENT] =
            {
                NO_CONNECT(LOST),
                NO_COMMAND(LOST),
                [EVENT_CONTENT_END] = TRY(action_finish_content, NONE, COMMIT, CLOSED),
                [EVENT_CONTENT_FAILED] = TRY(action_begin_drain, NONE, DRAIN, CLOSED),
                [EVENT_COMMITTED] = LOST,
                [EVENT_COMMIT_FAILED] = LOST,
                [EVENT_TIMEOUT] = SAY(TIMEOUT, CLOSED),
                [EVENT_TOO_SLOW] = SAY(TOO_SLOW, CLOSED),
                [EVENT_SHUTDOWN] = SAY(NONE, CONTENT),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED),
            },
        [SESSION_DRAIN] =
            {
                NO_CONNECT(LOST),
                NO_COMMAND(LOST),
                [EVENT_CONTENT_END] = TRY(action_end_drain, INTERNAL, CLOSED, READY),
                [EVENT_CONTENT_FAILED] = LOST,
                [EVENT_COMMITTED] = LOST,
                [EVENT_COMMIT_FAILED] = LOST,
                [EVENT_TIMEOUT] = SAY(TIMEOUT, CLOSED),
                [EVENT_TOO_SLOW] = SAY(TOO_SLOW, CLOSED),
                [EVENT_SHUTDOWN] = SAY(NONE, DRAIN),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED),
            },
        /* Nothing but the disk ends it: a client that was told 421 here would send a message again
         * that is about to be stored. */
        [SESSION_COMMIT] =
            {
                NO_CONNECT(LOST),
                NO_COMMAND(LOST),
                [EVENT_CONTENT_END] = LOST,
                [EVENT_CONTENT_FAILED] = LOST,
                [EVENT_COMMITTED] = TRY(action_forget_junk, QUEUED, READY, CLOSED),
                [EVENT_COMMIT_FAILED] = TRY(action_refuse_message, INTERNAL, CLOSED, READY),
                [EVENT_TIMEOUT] = SAY(NONE, COMMIT),
                [EVENT_TOO_SLOW] = SAY(NONE, COMMIT),
                [EVENT_SHUTDOWN] = SAY(NONE, COMMIT),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(NONE, COMMIT),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(NONE, COMMIT),
            },
        [SESSION_CLOSED] =
            {
                NO_CONNECT(SAY(NONE, CLOSED)),
                NO_COMMAND(SAY(NONE, CLOSED)),
                [EVENT_CONTENT_END] = SAY(NONE, CLOSED),
                [EVENT_CONTENT_FAILED] = SAY(NONE, CLOSED),
                [EVENT_COMMITTED] = SAY(NONE, CLOSED),
                [EVENT_COMMIT_FAILED] = SAY(NONE, CLOSED),
                [EVENT_TIMEOUT] = SAY(NONE, CLOSED),
                [EVENT_TOO_SLOW] = SAY(NONE, CLOSED),
                [EVENT_SHUTDOWN] = SAY(NONE, CLOSED),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(NONE, CLOSED),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(NONE, CLOSED),
            },
};

_Static_assert(sizeof table / sizeof table[0] == SESSION_STATE_COUNT, "a state without a row");

const struct transition *transition_of(enum session_state state, enum session_event event)
{
    return &table[state][event];
}
