/* The connections to the smarthost, and the mails that wait for one. Mails go out in the order in
 * which they came, over as many connections as the smarthost's state allows, which are kept while
 * there is mail; each comes back with an outcome for every recipient, or unread.
 *
 * Loop thread only. */
#ifndef RELAY_SENDER_H
#define RELAY_SENDER_H

#include "relay/mail.h"
#include "relay/session.h"
#include "relay/smarthost.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

enum { SENDER_CONNECTIONS_MAX = 100 };

struct sender {
    uv_loop_t *loop;
    struct session_options options;
    struct smarthost smarthost;
    struct session *sessions[SENDER_CONNECTIONS_MAX];
    size_t session_count;
    struct mail *ready; /* a list, the next to be sent first */
    size_t ready_count;
    struct mail *resting; /* a list: to be ready when their time comes (`mail->rests_until`) */
    size_t resting_count;
    uv_timer_t rest;
    uv_timer_t retry; /* wakes the loop when the smarthost may be tried again */
    bool stopping;
    void *owner;
    /* A mail is done with: recipients have outcomes (OPEN ones are as they were), or its content
     * could not be read (`mail->error`). It is the owner's again. */
    void (*done_cb)(void *owner, struct mail *mail);
};

/* `connections`: at most SENDER_CONNECTIONS_MAX. The owner sets owner and done_cb afterwards. */
void sender_start(struct sender *sender, uv_loop_t *loop, const struct session_options *options,
                  size_t connections);

/* Takes a mail to be sent. One that comes after sender_stop goes back at once. */
void sender_add(struct sender *sender, struct mail *mail);

/* Mails it has use for now, beyond those it has. */
size_t sender_wants(const struct sender *sender);

/* Starts what can be started; called on every turn of the loop. */
void sender_turn(struct sender *sender);

/* Tries a smarthost in trouble at once. */
void sender_hurry(struct sender *sender);

/* Gives back every mail that is not being sent. */
void sender_return(struct sender *sender);

/* Begins the end: mails that wait come back, those that are being sent are sent, and connections
 * end. sender_abort ends them whatever they are doing. Over when session_count is 0. */
void sender_stop(struct sender *sender);
void sender_abort(struct sender *sender);

#endif
