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
#define LOST          SAY(INTERNAL, CLOSED)
#define LOST_SILENTLY SAY(NONE, CLOSED)

/* Rows that several states share. */
#define ANY_COMMAND_STATE(state)                                                                   \
    NO_CONNECT(LOST),                                                                              \
        [EVENT_BAD_CHUNK] = SAY(BAD_CHUNK, CLOSED), [EVENT_NOOP] = JUNK(OK, state),                \
        [EVENT_HELP] = JUNK(HELP, state), [EVENT_VRFY] = JUNK(CANNOT_VERIFY, state),               \
        [EVENT_QUIT] = SAY(BYE, CLOSED), [EVENT_UNIMPLEMENTED] = SAY(UNIMPLEMENTED, state),        \
        [EVENT_FOREIGN] = SAY(FOREIGN, CLOSED), [EVENT_UNKNOWN] = SAY(UNKNOWN, state),             \
        [EVENT_MALFORMED] = SAY(MALFORMED, state), [EVENT_MISUSED] = SAY(MISUSED, state),          \
        [EVENT_BAD_LINE_END] = SAY(BAD_LINE_END, state),                                           \
        [EVENT_LINE_TOO_LONG] = SAY(LINE_TOO_LONG, state),                                         \
        [EVENT_OUT_OF_TURN] = SAY(OUT_OF_TURN, REJECTED),                                          \
        [EVENT_SECOND_HEADER] = SAY(NONE, CLOSED), [EVENT_CHUNK_END] = LOST,                       \
        [EVENT_CONTENT_END] = LOST, [EVENT_COMMITTED] = LOST, [EVENT_COMMIT_FAILED] = LOST,        \
        NO_TLS(LOST), [EVENT_HANGUP] = SAY(NONE, CLOSED),                                          \
        [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED)

/* A client that says again who it is has done nothing for its mail. */
#define HELO_AGAIN(state)                                                                          \
    [EVENT_HELO] = TRY_JUNK(action_take_helo, HELO, READY, state), [EVENT_EHLO] = TRY_JUNK(        \
                                                                       action_take_ehlo, EHLO,     \
                                                                       READY, state)

/* Of those, the ones in which no message is on its way. */
#define IDLE_COMMAND_STATE(state)                                                                  \
    ANY_COMMAND_STATE(state),                                                                      \
        [EVENT_STARTTLS] = TRY(action_start_tls, START_TLS, HANDSHAKE, state),                     \
        [EVENT_CONTENT_FAILED] = LOST, [EVENT_TIMEOUT] = SAY(TIMEOUT, CLOSED),                     \
        [EVENT_TOO_SLOW] = SAY(TOO_SLOW, CLOSED), [EVENT_SHUTDOWN] = SAY(SHUTDOWN, CLOSED),        \
        [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED)

/* A chunk that nobody wants is answered behind its octets. */
#define SKIP_CHUNK(what, state)                                                                    \
    [EVENT_BDAT] = TRY(action_skip_chunk, NONE, state, CLOSED), [EVENT_CHUNK_SKIPPED] =            \
                                                                    SAY(what, state)

/* A cell has commas in it, hence the dots. */
#define NO_COMMAND(...)                                                                            \
    [EVENT_HELO] = __VA_ARGS__, [EVENT_EHLO] = __VA_ARGS__, [EVENT_MAIL] = __VA_ARGS__,            \
    [EVENT_RCPT] = __VA_ARGS__, [EVENT_DATA] = __VA_ARGS__, [EVENT_BDAT] = __VA_ARGS__,            \
    [EVENT_BAD_CHUNK] = __VA_ARGS__, [EVENT_RSET] = __VA_ARGS__, [EVENT_NOOP] = __VA_ARGS__,       \
    [EVENT_HELP] = __VA_ARGS__, [EVENT_VRFY] = __VA_ARGS__, [EVENT_STARTTLS] = __VA_ARGS__,        \
    [EVENT_QUIT] = __VA_ARGS__, [EVENT_UNIMPLEMENTED] = __VA_ARGS__,                               \
    [EVENT_FOREIGN] = __VA_ARGS__, [EVENT_UNKNOWN] = __VA_ARGS__, [EVENT_MALFORMED] = __VA_ARGS__, \
    [EVENT_MISUSED] = __VA_ARGS__, [EVENT_BAD_LINE_END] = __VA_ARGS__,                             \
    [EVENT_LINE_TOO_LONG] = __VA_ARGS__, [EVENT_OUT_OF_TURN] = __VA_ARGS__,                        \
    [EVENT_SECOND_HEADER] = __VA_ARGS__, [EVENT_CHUNK_SKIPPED] = __VA_ARGS__

#define NO_CONNECT(...)                                                                            \
    [EVENT_CONNECT] = __VA_ARGS__, [EVENT_SERVER_FULL] = __VA_ARGS__,                              \
    [EVENT_CLIENT_FULL] = __VA_ARGS__, [EVENT_EARLY_TALK] = __VA_ARGS__

#define NO_CONTENT(...)                                                                            \
    [EVENT_CHUNK_END] = __VA_ARGS__, [EVENT_CONTENT_END] = __VA_ARGS__,                            \
    [EVENT_CONTENT_FAILED] = __VA_ARGS__

#define NO_COMMIT(...) [EVENT_COMMITTED] = __VA_ARGS__, [EVENT_COMMIT_FAILED] = __VA_ARGS__

#define NO_TLS(...)    [EVENT_TLS_BEGUN] = __VA_ARGS__, [EVENT_TLS_FAILED] = __VA_ARGS__

/* Content comes, by DATA or in a chunk: the client is to end it before anything else is said. */
#define IN_CONTENT(state)                                                                          \
    NO_CONNECT(LOST), NO_COMMAND(LOST), NO_COMMIT(LOST), NO_TLS(LOST),                             \
        [EVENT_TIMEOUT] = SAY(TIMEOUT, CLOSED), [EVENT_TOO_SLOW] = SAY(TOO_SLOW, CLOSED),          \
        [EVENT_SHUTDOWN] = SAY(NONE, state), [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),    \
        [EVENT_HANGUP] = SAY(NONE, CLOSED), [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED)

static const struct transition table[][EVENT_COUNT] =
    {
        [SESSION_NEW] =
            {
                [EVENT_CONNECT] = SAY(GREETING, START),
                [EVENT_SERVER_FULL] = SAY(SERVER_FULL, CLOSED),
                [EVENT_CLIENT_FULL] = SAY(CLIENT_FULL, CLOSED),
                [EVENT_EARLY_TALK] = SAY(EARLY_TALK, REJECTED),
                NO_COMMAND(LOST),
                NO_CONTENT(LOST),
                NO_COMMIT(LOST),
                NO_TLS(LOST),
                [EVENT_TIMEOUT] = LOST,
                [EVENT_TOO_SLOW] = LOST,
                [EVENT_SHUTDOWN] = SAY(SHUTDOWN, CLOSED),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED),
            },
        [SESSION_START] =
            {
                IDLE_COMMAND_STATE(START),
                [EVENT_HELO] = TRY(action_take_helo, HELO, READY, START),
                [EVENT_EHLO] = TRY(action_take_ehlo, EHLO, READY, START),
                SKIP_CHUNK(NEED_HELO, START),
                [EVENT_MAIL] = SAY(NEED_HELO, START),
                [EVENT_RCPT] = SAY(NEED_HELO, START),
                [EVENT_DATA] = SAY(NEED_HELO, START),
                [EVENT_RSET] = JUNK(OK, START),
            },
        [SESSION_READY] =
            {
                IDLE_COMMAND_STATE(READY),
                HELO_AGAIN(READY),
                SKIP_CHUNK(NEED_MAIL, READY),
                [EVENT_MAIL] = TRY(action_take_sender, SENDER_OK, MAIL, READY),
                [EVENT_RCPT] = SAY(NEED_MAIL, READY),
                [EVENT_DATA] = SAY(NEED_MAIL, READY),
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_MAIL] =
            {
                IDLE_COMMAND_STATE(MAIL),
                HELO_AGAIN(MAIL),
                SKIP_CHUNK(NEED_RCPT, MAIL),
                [EVENT_MAIL] = SAY(NESTED_MAIL, MAIL),
                [EVENT_RCPT] = TRY(action_take_recipient, RECIPIENT_OK, RCPT, REFUSED),
                [EVENT_DATA] = SAY(NEED_RCPT, MAIL),
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_REFUSED] =
            {
                IDLE_COMMAND_STATE(REFUSED),
                HELO_AGAIN(REFUSED),
                SKIP_CHUNK(NO_RECIPIENTS, REFUSED),
                [EVENT_MAIL] = SAY(NESTED_MAIL, REFUSED),
                [EVENT_RCPT] = TRY(action_take_recipient, RECIPIENT_OK, RCPT, REFUSED),
                [EVENT_DATA] = SAY(NO_RECIPIENTS, REFUSED),
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_RCPT] =
            {
                IDLE_COMMAND_STATE(RCPT),
                HELO_AGAIN(RCPT),
                [EVENT_MAIL] = SAY(NESTED_MAIL, RCPT),
                [EVENT_RCPT] = TRY(action_take_recipient, RECIPIENT_OK, RCPT, RCPT),
                [EVENT_DATA] = TRY(action_begin_content, START_DATA, CONTENT, RCPT),
                [EVENT_BDAT] = TRY(action_begin_chunks, NONE, CHUNK, CLOSED),
                [EVENT_CHUNK_SKIPPED] = LOST,
                [EVENT_RSET] = JUNK(OK, READY),
            },
        [SESSION_CONTENT] =
            {
                IN_CONTENT(CONTENT),
                [EVENT_CHUNK_END] = LOST,
                [EVENT_CONTENT_END] = TRY(action_finish_content, NONE, COMMIT, CLOSED),
                [EVENT_CONTENT_FAILED] = TRY(action_begin_drain, NONE, DRAIN, CLOSED),
            },
        [SESSION_DRAIN] =
            {
                IN_CONTENT(DRAIN),
                [EVENT_CHUNK_END] = LOST,
                [EVENT_CONTENT_END] = TRY(action_end_drain, INTERNAL, CLOSED, READY),
                [EVENT_CONTENT_FAILED] = LOST,
            },
        [SESSION_CHUNK] =
            {
                IN_CONTENT(CHUNK),
                [EVENT_CHUNK_END] = SAY(CHUNK_OK, CHUNKED),
                [EVENT_CONTENT_END] = TRY(action_finish_content, NONE, COMMIT, CLOSED),
                [EVENT_CONTENT_FAILED] = TRY(action_begin_drain, NONE, CHUNK_DRAIN, CLOSED),
            },
        /* A message that fails here (a disk error) is refused with the next chunk, for nothing else
         * is asked about it now. A stop lets the client send the rest. */
        [SESSION_CHUNKED] =
            {
                ANY_COMMAND_STATE(CHUNKED),
                HELO_AGAIN(CHUNKED),
                [EVENT_MAIL] = SAY(NESTED_MAIL, CHUNKED),
                [EVENT_RCPT] = SAY(IN_CHUNKS, CHUNKED),
                [EVENT_DATA] = SAY(IN_CHUNKS, CHUNKED),
                [EVENT_BDAT] = SAY(NONE, CHUNK),
                [EVENT_CHUNK_SKIPPED] = LOST,
                [EVENT_STARTTLS] = SAY(IN_CHUNKS, CHUNKED),
                [EVENT_RSET] = JUNK(OK, READY),
                [EVENT_CONTENT_FAILED] = TRY(action_begin_drain, NONE, CHUNKED, CLOSED),
                [EVENT_TIMEOUT] = SAY(TIMEOUT, CLOSED),
                [EVENT_TOO_SLOW] = SAY(TOO_SLOW, CLOSED),
                [EVENT_SHUTDOWN] = SAY(NONE, CHUNKED),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),
            },
        /* What is refused is the whole message: chunks of it that were sent behind this one without
         * waiting find no transaction. */
        [SESSION_CHUNK_DRAIN] =
            {
                IN_CONTENT(CHUNK_DRAIN),
                [EVENT_CHUNK_END] = TRY(action_end_drain, INTERNAL, CLOSED, READY),
                [EVENT_CONTENT_END] = TRY(action_end_drain, INTERNAL, CLOSED, READY),
                [EVENT_CONTENT_FAILED] = LOST,
            },
        /* Nothing but the disk ends it: a client that was told 421 here would send a message again
         * that is about to be stored. */
        [SESSION_COMMIT] =
            {
                NO_CONNECT(LOST),
                NO_COMMAND(LOST),
                NO_CONTENT(LOST),
                NO_TLS(LOST),
                [EVENT_COMMITTED] = TRY(action_forget_junk, QUEUED, READY, CLOSED),
                [EVENT_COMMIT_FAILED] = TRY(action_refuse_message, INTERNAL, CLOSED, READY),
                [EVENT_TIMEOUT] = SAY(NONE, COMMIT),
                [EVENT_TOO_SLOW] = SAY(NONE, COMMIT),
                [EVENT_SHUTDOWN] = SAY(NONE, COMMIT),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(NONE, COMMIT),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(NONE, COMMIT),
            },
        /* There is nobody to say anything to: in the clear nothing more may be said, and TLS is not
         * there yet. */
        [SESSION_HANDSHAKE] =
            {
                NO_CONNECT(LOST_SILENTLY),
                NO_COMMAND(LOST_SILENTLY),
                NO_CONTENT(LOST_SILENTLY),
                NO_COMMIT(LOST_SILENTLY),
                [EVENT_TLS_BEGUN] = TRY(action_forget_client, NONE, START, CLOSED),
                [EVENT_TLS_FAILED] = SAY(NONE, CLOSED),
                [EVENT_TIMEOUT] = SAY(NONE, CLOSED),
                [EVENT_TOO_SLOW] = SAY(NONE, CLOSED),
                [EVENT_SHUTDOWN] = SAY(NONE, CLOSED),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(NONE, CLOSED),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(NONE, CLOSED),
            },
        /* RFC 5321, section 3.1: a server that has refused waits for QUIT. The limit of errors holds
         * here too. */
        [SESSION_REJECTED] =
            {
                NO_CONNECT(LOST),
                NO_CONTENT(LOST),
                NO_COMMIT(LOST),
                NO_TLS(LOST),
                SKIP_CHUNK(REJECTED, REJECTED),
                [EVENT_HELO] = SAY(REJECTED, REJECTED),
                [EVENT_EHLO] = SAY(REJECTED, REJECTED),
                [EVENT_MAIL] = SAY(REJECTED, REJECTED),
                [EVENT_RCPT] = SAY(REJECTED, REJECTED),
                [EVENT_DATA] = SAY(REJECTED, REJECTED),
                [EVENT_BAD_CHUNK] = SAY(BAD_CHUNK, CLOSED),
                [EVENT_RSET] = SAY(REJECTED, REJECTED),
                [EVENT_NOOP] = SAY(REJECTED, REJECTED),
                [EVENT_HELP] = SAY(REJECTED, REJECTED),
                [EVENT_VRFY] = SAY(REJECTED, REJECTED),
                [EVENT_STARTTLS] = SAY(REJECTED, REJECTED),
                [EVENT_QUIT] = SAY(BYE, CLOSED),
                [EVENT_UNIMPLEMENTED] = SAY(REJECTED, REJECTED),
                [EVENT_FOREIGN] = SAY(FOREIGN, CLOSED),
                [EVENT_UNKNOWN] = SAY(REJECTED, REJECTED),
                [EVENT_MALFORMED] = SAY(REJECTED, REJECTED),
                [EVENT_MISUSED] = SAY(REJECTED, REJECTED),
                [EVENT_BAD_LINE_END] = SAY(REJECTED, REJECTED),
                [EVENT_LINE_TOO_LONG] = SAY(REJECTED, REJECTED),
                [EVENT_OUT_OF_TURN] = SAY(REJECTED, REJECTED),
                [EVENT_SECOND_HEADER] = SAY(NONE, CLOSED),
                [EVENT_TIMEOUT] = SAY(TIMEOUT, CLOSED),
                [EVENT_TOO_SLOW] = SAY(TOO_SLOW, CLOSED),
                [EVENT_SHUTDOWN] = SAY(SHUTDOWN, CLOSED),
                [EVENT_SHUTDOWN_DEADLINE] = SAY(SHUTDOWN, CLOSED),
                [EVENT_HANGUP] = SAY(NONE, CLOSED),
                [EVENT_NO_MEMORY] = SAY(INTERNAL, CLOSED),
            },
        [SESSION_CLOSED] =
            {
                NO_CONNECT(SAY(NONE, CLOSED)),
                NO_COMMAND(SAY(NONE, CLOSED)),
                NO_CONTENT(SAY(NONE, CLOSED)),
                NO_COMMIT(SAY(NONE, CLOSED)),
                NO_TLS(SAY(NONE, CLOSED)),
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
