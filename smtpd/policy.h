/* Whose mail is taken and for whom: a decision about an address, made from the operator's lists.
 * Pure. */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include "common/names.h"
#include "queue/path.h"
#include "queue/site.h"
#include "smtpd/address.h"
#include "smtpd/networks.h"

#include <stdbool.h>

struct policy {
    struct site site;               /* what is stored here, and what may be relayed */
    struct networks relay_clients;  /* for whom it is */
    struct names discard_domains;   /* answered as if stored, and dropped */
    struct names reject_senders;    /* domains */
    struct names reject_recipients; /* `user@domain`, or `user@` for any domain */
    const char *hostname;           /* its postmaster is ours too */
    bool senders_broken;            /* a list about them could not be read: none is judged by */
    bool recipients_broken;         /* what was in it before */
    bool relay_clients_broken;      /* likewise */
};

/* What a client may do beyond sending mail to those whose mail is stored here. */
enum policy_client {
    POLICY_STRANGER,
    POLICY_RELAY_CLIENT,
    POLICY_CLIENT_UNKNOWN /* cannot tell now */
};

/* Who somebody is by his address; NULL, a stranger, where he has none of his own: a load balancer
 * that did not say for whom it speaks. */
enum policy_client policy_judge_client(const struct policy *policy, const struct address *address);

enum policy_verdict {
    POLICY_ACCEPT, /* a recipient: to be stored */
    POLICY_RELAY,
    POLICY_DISCARD,
    POLICY_REFUSE_DOMAIN,
    POLICY_REFUSE_MAILBOX,
    POLICY_UNKNOWN /* cannot tell now: a temporary refusal, never a permanent one */
};

/* ACCEPT, REFUSE_DOMAIN or UNKNOWN. The null sender is always accepted (RFC 5321, section 4.5.5).
 */
enum policy_verdict policy_judge_sender(const struct policy *policy, const struct path *sender);

/* The postmaster of any domain that is stored here, of the host, and <Postmaster> alone, is
 * accepted whatever the lists say (RFC 5321, section 4.5.1). What is not stored here is relayed for
 * relay clients, where the site may; for nobody else. Only the domain counts, whatever the local
 * part looks like: the rest of a source route, or an address within an address, is not ours to read
 * (RFC 5321, sections 3.6.1 and 5.1). */
enum policy_verdict policy_judge_recipient(const struct policy *policy, enum policy_client client,
                                           const struct path *recipient);

void policy_free(struct policy *policy);

#endif
