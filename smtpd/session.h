/* An SMTP session: a state machine that takes the client's bytes and what happens around it, and
 * gives replies and requests. It is one table of [state][event]; what is not allowed is a cell like
 * any other. Pure: all that touches the world goes through struct session_host, which a test can
 * play.
 *
 * The states, and what makes a session move on:
 *
 *     NEW ──▶ START ──EHLO──▶ READY ──MAIL──▶ MAIL ──RCPT──▶ RCPT ──DATA──▶ CONTENT ──end──▶ COMMIT
 *      │        ▲               ▲              │  ▲            ▲               │ fails         │
 *      │        │ STARTTLS      │              ▼  │            │               ▼               │
 *      │        ▼               │            REFUSED ──────────┘             DRAIN             │
 *      │    HANDSHAKE           └──────────────────────── reply ───────────────┴───────────────┘
 *      └──▶ REJECTED
 *
 * and from everywhere to CLOSED. With BDAT (RFC 3030) a message comes in chunks, and commands come
 * between them: RCPT ──BDAT──▶ CHUNK ──end──▶ CHUNKED ──BDAT──▶ CHUNK … ──last end──▶ COMMIT, or
 * CHUNK_DRAIN in place of CHUNK. The octets of a chunk that comes where none is wanted are passed
 * over in whatever state that is, before they are refused. Loop thread only. */
#ifndef SMTPD_SESSION_H
#define SMTPD_SESSION_H

#include "common/buffer.h"
#include "smtpd/address.h"
#include "smtpd/line.h"
#include "smtpd/reply.h"
#include "smtpd/rules.h"
#include "smtpd/transaction.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum session_state {
    SESSION_NEW,         /* connected, nothing said */
    SESSION_START,       /* greeted; neither HELO nor EHLO has come */
    SESSION_READY,       /* between transactions */
    SESSION_MAIL,        /* sender given */
    SESSION_REFUSED,     /* sender given, every recipient so far refused */
    SESSION_RCPT,        /* at least one recipient */
    SESSION_CONTENT,     /* behind 354 */
    SESSION_DRAIN,       /* behind 354, with a message that will be refused at its end */
    SESSION_CHUNK,       /* behind BDAT: octets of a chunk come */
    SESSION_CHUNKED,     /* between two chunks of a message */
    SESSION_CHUNK_DRAIN, /* as CHUNK, with a message that will be refused at the chunk's end */
    SESSION_COMMIT,    /* the end of data has come, the reply waits for the disk; input is paused */
    SESSION_HANDSHAKE, /* behind 220 to STARTTLS: the bytes are not ours to read */
    SESSION_REJECTED,  /* refused as a whole: nothing but QUIT works */
    SESSION_CLOSED,    /* the last reply is given; nothing more is read */
    SESSION_STATE_COUNT
};

enum session_event {
    EVENT_CONNECT,     /* the connection stands and may be served */
    EVENT_SERVER_FULL, /* it stands and is one too many */
    EVENT_CLIENT_FULL, /* one too many of this client */
    EVENT_EARLY_TALK,  /* it may be served, but did not wait for the greeting */

    EVENT_HELO,
    EVENT_EHLO,
    EVENT_MAIL,
    EVENT_RCPT,
    EVENT_DATA,
    EVENT_BDAT,      /* with a sound argument; says nothing before the chunk has come */
    EVENT_BAD_CHUNK, /* BDAT with another */
    EVENT_RSET,
    EVENT_NOOP,
    EVENT_HELP,
    EVENT_VRFY,
    EVENT_STARTTLS,
    EVENT_QUIT,
    EVENT_UNIMPLEMENTED,
    EVENT_FOREIGN,
    EVENT_UNKNOWN,
    EVENT_MALFORMED,
    EVENT_MISUSED,
    EVENT_BAD_LINE_END,
    EVENT_LINE_TOO_LONG,
    EVENT_OUT_OF_TURN,   /* a command with input behind it that should have waited for the reply */
    EVENT_SECOND_HEADER, /* a PROXY protocol header behind the first */
    EVENT_CHUNK_SKIPPED, /* the octets of a chunk that nobody wants have come */

    EVENT_CHUNK_END,      /* of a chunk that is not the last */
    EVENT_CONTENT_END,    /* of a message */
    EVENT_CONTENT_FAILED, /* the message cannot be kept: too big, in circles, or a disk error */
    EVENT_COMMITTED,
    EVENT_COMMIT_FAILED,

    EVENT_TLS_BEGUN, /* the handshake is done */
    EVENT_TLS_FAILED,

    EVENT_TIMEOUT,
    EVENT_TOO_SLOW,
    EVENT_SHUTDOWN,          /* the program stops: end as soon as no message is lost by it */
    EVENT_SHUTDOWN_DEADLINE, /* end unless a message waits for the disk */
    EVENT_HANGUP,            /* the client is gone */
    EVENT_NO_MEMORY,
    EVENT_COUNT
};

/* What is worth a note in the log although nothing is refused by it. */
enum session_note {
    NOTE_EARLY_PIPELINING, /* said once a session */
    NOTE_SECOND_HEADER
};

struct session;

/* What a session asks of the world. The calls come from inside session_input and session_event. */
struct session_host {
    /* Is there room on the disk for a message of so many octets (0: unknown)? UNSET, or the reply
     * that refuses it. */
    enum reply (*room_check)(struct session *session, uint64_t declared);

    /* STARTTLS was accepted: 220 is to be sent in the clear, all that has come behind the command is
     * to be dropped, and TLS to begin. TLS_BEGUN or TLS_FAILED follows, later. False when memory is
     * out. */
    bool (*tls_begin)(struct session *session);

    /* Octets follow that the client is to send without a pause: content, or a chunk. */
    void (*content_expected)(struct session *session);

    /* Content follows: the transaction is complete and will not change. Sets its id. False when
     * memory is out. */
    bool (*message_begin)(struct session *session);

    /* How many octets of content can be taken now. 0 pauses the input. */
    size_t (*message_room)(const struct session *session);

    /* Takes content: up to one octet more than message_room said. */
    void (*message_append)(struct session *session, struct slice content);

    /* That was all: to be committed. EVENT_COMMITTED or EVENT_COMMIT_FAILED follows, later. */
    void (*message_finish)(struct session *session);

    /* The message is not wanted any more, neither is any event about it. */
    void (*message_abort)(struct session *session);

    /* A reply was given, to `event`. `line` is the command it answers, or empty. For log and
     * metrics. */
    void (*replied)(struct session *session, enum session_event event, enum reply reply,
                    struct slice line);

    /* For log and metrics as well. */
    void (*noted)(struct session *session, enum session_note note, struct slice line);
};

struct session {
    const struct rules *rules;
    const struct session_host *host;
    struct buffer *out; /* where replies go; the owner's, and the owner empties it */
    struct line line;
    struct transaction *transaction; /* NULL outside MAIL to COMMIT */
    char *helo;                      /* NULL before HELO or EHLO */
    const struct address *client;    /* by which it may relay, or NULL; the owner sets it */
    uint32_t errors;                 /* 5xx replies */
    uint32_t junk;     /* commands since the last message that led to none, or were answered 4xx */
    uint32_t messages; /* MAIL commands */
    uint64_t chunk;    /* octets of a chunk that are still to come */
    uint8_t state;     /* enum session_state */
    bool chunk_last;   /* the chunk ends the message */
    bool chunk_empty;  /* it has no octets */
    bool extended;     /* it was EHLO */
    bool secure;       /* under TLS */
    bool proxied;      /* behind a PROXY protocol header; the owner sets it */
    bool noted;        /* NOTE_EARLY_PIPELINING was given */
    bool stopping;     /* EVENT_SHUTDOWN has come */
    bool delayed; /* the replies in `out` are to be held back; the owner clears it when they went */
};

void session_init(struct session *session, const struct rules *rules,
                  const struct session_host *host, struct buffer *out);

/* Frees what it holds, and aborts a message that has not ended. */
void session_free(struct session *session);

/* Takes input; returns how much was used. What is left is to be offered again when
 * session_wants_input says so. */
size_t session_input(struct session *session, const char *bytes, size_t length);

/* False while it can take none: a message waits for the disk, replies wait to be sent, or it is
 * over. */
bool session_wants_input(const struct session *session);

/* Something happened that is no input. `refusal` goes with CONTENT_FAILED and COMMIT_FAILED: the
 * reply that the message will get; REPLY_UNSET with all others. */
void session_event(struct session *session, enum session_event event, enum reply refusal);

/* True while the client owes octets of content rather than a command, or the rest of a message that
 * it sends in chunks. */
bool session_in_content(const struct session *session);

#endif
