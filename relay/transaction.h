/* A mail transaction as the client sees it (RFC 5321, section 3.3): MAIL, RCPT, DATA, with
 * PIPELINING (RFC 2920) where the server offers it. Commands go out through a buffer, replies come
 * in one by one, and what they say becomes the outcome of each recipient. It knows neither sockets
 * nor time. Pure.
 *
 *     ENVELOPE ──354, someone accepted──▶ CONTENT ──transaction_sent──▶ END ──reply──▶ DONE
 *        └────────nobody accepted (an end of data alone is sent where 354 came all the same)──▶ DONE
 *     any ──a reply that cannot be, 421, a login that is missing──▶ BROKEN
 */
#ifndef RELAY_TRANSACTION_H
#define RELAY_TRANSACTION_H

#include "common/buffer.h"
#include "relay/extensions.h"
#include "relay/mail.h"
#include "relay/reply.h"

#include <stdbool.h>
#include <stddef.h>

enum transaction_state {
    TRANSACTION_ENVELOPE,
    TRANSACTION_CONTENT, /* the caller sends the content and calls transaction_sent */
    TRANSACTION_END,     /* the end of data is sent: until its reply comes, nobody knows */
    TRANSACTION_DONE,    /* every recipient that was in it has an outcome, no reply is awaited */
    TRANSACTION_BROKEN   /* the connection is of no more use; see `trouble` */
};

enum transaction_trouble {
    TRANSACTION_FINE,
    TRANSACTION_THROTTLED, /* 421, 454, or 4xx with status 4.7.0: the host wants less of all of us */
    TRANSACTION_LOGIN,     /* MAIL is refused for want of TLS or of a login (530, 534, 535, 538) */
    TRANSACTION_PROTOCOL   /* a reply that fits no command, or that says so of ours (503) */
};

/* Recipients whose replies may be awaited at once, so that neither side's memory grows with the
 * number of recipients. */
enum { TRANSACTION_WINDOW = 100 };

struct transaction {
    enum transaction_state state;
    enum transaction_trouble trouble;
    struct mail *mail;
    const struct extensions *extensions;
    bool utf8;        /* SMTPUTF8 is said */
    bool reset;       /* RSET goes first: a transaction before was left open */
    size_t next;      /* the next recipient whose RCPT is to be sent */
    size_t answering; /* the next whose reply comes */
    size_t limit;     /* behind the last recipient of this transaction */
    size_t asked;     /* recipients whose RCPT was sent in this transaction */
    size_t answered;  /* and whose reply has come */
    size_t accepted;  /* and was good */
    size_t refused;   /* and was 5xx */
    bool reset_sent, reset_answered;
    bool mail_sent, mail_answered, mail_accepted;
    bool data_sent;    /* and not answered */
    bool data_refused; /* it was answered, and not by 354 */
    bool astray;       /* the server took a recipient behind a MAIL that it had refused */
    bool void_end;     /* an end of data is to be sent with nothing before it */
    bool ended;        /* the reply to the end of data has come */
    size_t
        learned; /* recipients that the server takes in one transaction, as it showed; 0: it did not */
    struct reply last;  /* the last reply */
    struct reply cause; /* the one that made the trouble */
};

/* Begins a transaction with the OPEN and AGAIN recipients of `mail`, which are OPEN then. First it
 * decides what needs no server: those that need SMTPUTF8 (5.6.7; 5.6.9 for a header) or 8BITMIME
 * (5.6.3) where the server lacks it are FAILED; more hops than QUEUE_HOPS_MAX fail all (5.4.6). The
 * state may be DONE at once. `reset`: the connection has an open transaction. The mail and the
 * extensions stay the caller's, and outlive the transaction. */
void transaction_begin(struct transaction *transaction, struct mail *mail,
                       const struct extensions *extensions, bool reset);

/* Appends the commands that may be sent now: none, or some, or with PIPELINING many. Called after
 * transaction_begin and after every reply. Addresses are valid paths, which is the caller's affair
 * (mail_load); that none has a control character is asserted. MAIL has SIZE= where it is offered,
 * BODY=8BITMIME and SMTPUTF8 where they are needed. */
void transaction_write(struct transaction *transaction, struct buffer *out);

/* Whether the server owes a reply; when not, one that comes is none of this transaction's. */
bool transaction_awaits_reply(const struct transaction *transaction);

/* Takes the next reply. */
void transaction_reply(struct transaction *transaction, const struct reply *reply);

/* In CONTENT a server that has enough may refuse, and close the connection, before it has all. Its
 * reply counts as if the data had ended; the connection is of no more use. */
void transaction_refused_early(struct transaction *transaction, const struct reply *reply);

/* In CONTENT: all content and the end of data are written. */
void transaction_sent(struct transaction *transaction);

/* Whether the server still has an open transaction that RSET must end before the next: MAIL was
 * accepted, and no reply to an end of data came; or the RSET that was due did not go out. */
bool transaction_is_open(const struct transaction *transaction);

#endif
