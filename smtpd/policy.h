/* Whose mail is taken and for whom: a decision about an address, made from the operator's lists.
 * Pure. */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include "common/names.h"
#include "queue/path.h"
#include "queue/site.h"

#include <stdbool.h>

struct policy {
    struct site site;               /* what is stored here */
    struct names discard_domains;   /* answered as if stored, and dropped */
    struct names reject_senders;    /* domains */
    struct names reject_recipients; /* `user@domain`, or `user@` for any domain */
    const char *hostname;           /* its postmaster is ours too */
    bool senders_broken;            /* a list about them could not be read: none is judged by */
    bool recipients_broken;         /* what was in it before */
};

enum policy_verdict {
    POLICY_ACCEPT,
    POLICY_DISCARD,
    POLICY_REFUSE_DOMAIN,
    POLICY_REFUSE_MAILBOX,
    POLICY_UNKNOWN /* cannot tell now: a temporary refusal, never a permanent one */
};

/* ACCEPT, REFUSE_DOMAIN or UNKNOWN. The null sender is always accepted (RFC 5321, section 4.5.5).
 */
enum policy_verdict policy_judge_sender(const struct policy *policy, const struct path *sender);

/* The postmaster of any domain that is stored here, of the host, and <Postmaster> alone, is
 * accepted whatever the lists say (RFC 5321, section 4.5.1). */
enum policy_verdict policy_judge_recipient(const struct policy *policy,
                                           const struct path *recipient);

void policy_free(struct policy *policy);

#endif
