/* A mail transaction (RFC 5321, section 3.3): sender, recipients, and the content as it comes. What
 * MAIL and RCPT say is judged here and becomes part of it, or a reply. Pure. */
#ifndef SMTPD_TRANSACTION_H
#define SMTPD_TRANSACTION_H

#include "queue/id.h"
#include "queue/spool.h"
#include "smtpd/address.h"
#include "smtpd/data.h"
#include "smtpd/recipients.h"
#include "smtpd/reply.h"
#include "smtpd/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct transaction {
    char *sender;       /* without brackets; empty for the null sender */
    uint64_t declared;  /* SIZE=, or 0 */
    bool utf8;          /* SMTPUTF8 */
    size_t accepted;    /* RCPT commands answered 250, those whose mail is dropped included */
    size_t refused;     /* RCPT commands answered otherwise */
    enum reply put_off; /* the last 4xx reply to one of its commands that was logged, or UNSET */
    struct recipients recipients[QUEUE_COUNT]; /* of each queue; nobody is in both */
    struct data data;
    enum reply failure; /* why the message will be refused at its end; UNSET while it will not */
    char id[ID_SIZE];   /* set when the content begins */
};

/* Begins a transaction from the argument of MAIL. REPLY_UNSET, with `*transaction` allocated; or
 * the reply that refuses it, and NULL. */
enum reply transaction_open(struct transaction **transaction, const struct rules *rules,
                            struct slice argument);

/* Adds a recipient from the argument of RCPT; `client` is the address by which it may be relayed to
 * him, or NULL (policy_judge_client). REPLY_UNSET, or the reply that refuses it, and nothing
 * changed. */
enum reply transaction_add(struct transaction *transaction, const struct rules *rules,
                           const struct address *client, struct slice argument);

/* The protocol by its name in `with` (RFC 3848, RFC 6531 section 4.3). */
const char *transaction_protocol(const struct transaction *transaction, bool extended, bool secure);

/* Frees it; NULL is harmless. */
void transaction_close(struct transaction *transaction);

#endif
