/* A connection to the smarthost over its life: opened, then one mail after another, then QUIT. It
 * moves bytes between channel and transaction, gets the content from the pool, and watches the
 * clock; what is said and what it means is the transaction's affair.
 *
 *     OPENING ──opened_cb──▶ IDLE ──session_send──▶ SENDING ──▶ IDLE … ──session_quit──▶ QUITTING ──▶ gone
 *
 * Loop thread only. */
#ifndef RELAY_SESSION_H
#define RELAY_SESSION_H

#include "relay/channel.h"
#include "relay/mail.h"
#include "relay/trouble.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

enum session_state {
    SESSION_OPENING,
    SESSION_IDLE,
    SESSION_SENDING,
    SESSION_QUITTING,
    SESSION_GONE
};

struct session_options {
    struct channel_options channel;
    uint64_t reply_ms; /* that a reply may take; the one to the end of data twice as long */
    uint64_t idle_ms;  /* without mail before QUIT */
    unsigned mails;    /* sent over one connection at most */
};

struct session;

/* A mail whose connection broke, although others had gone over it: that says nothing of the host.
 */
enum session_retry {
    SESSION_RETRY_NONE,
    SESSION_RETRY_NOW, /* it was gone before it was used again */
    SESSION_RETRY_SOON /* it broke in between; perhaps the server has the message */
};

struct session_callbacks {
    /* It has become IDLE, or has said why it will not: opened, or done with a mail. */
    void (*idle_cb)(void *owner, struct session *session);
    /* A mail comes back. `trouble` NONE and `retry` NONE: the transaction came to its end and every
     * recipient that was in it has an outcome. Else: what was wrong with the host or the
     * connection, in `words`; who has no outcome is OPEN. `mail->error` is set when the content
     * could not be read. */
    void (*done_cb)(void *owner, struct session *session, struct mail *mail, enum trouble trouble,
                    const char *words, enum session_retry retry);
    /* It is over: nobody may use it any more. `trouble`: why, when that was not said with a mail
     * and is nothing ordinary, else NONE. */
    void (*gone_cb)(void *owner, struct session *session, enum trouble trouble, const char *words);
};

/* Begins to connect. NULL when memory is out. Options, callbacks and owner stay the caller's. */
struct session *session_open(uv_loop_t *loop, const struct session_options *options,
                             const struct session_callbacks *callbacks, void *owner);

enum session_state session_state(const struct session *session);

/* Sends the OPEN recipients of a mail; IDLE only. The mail is the session's until done_cb. */
void session_send(struct session *session, struct mail *mail);

/* Ends it: politely when IDLE; when OPENING at once; a mail that is being sent is sent first. */
void session_quit(struct session *session);

/* Ends it now: a mail comes back as if the connection had been lost. */
void session_abort(struct session *session);

#endif
