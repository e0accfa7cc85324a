/* What a session may do: the operator's limits, as the pure parts of smtpd see them. One for all
 * sessions; it outlives them. */
#ifndef SMTPD_RULES_H
#define SMTPD_RULES_H

#include "smtpd/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rules {
    const char *hostname;
    const struct policy *policy;
    uint64_t max_size;      /* octets of a message, as RFC 1870 counts them */
    size_t max_recipients;  /* RCPT commands of a transaction, refused ones too (RFC 9422) */
    unsigned max_errors;    /* the one that makes this many 5xx replies ends the session */
    unsigned max_messages;  /* MAIL commands, refused ones too (RFC 9422) */
    unsigned max_junk;      /* commands that lead to no message, between two messages */
    bool delay_errors;      /* replies are delayed behind half of max_errors */
    bool tls;               /* STARTTLS is on offer */
    bool require_tls;       /* and without it no mail */
    bool refuse_pipelining; /* out of turn: else it is only noted */
};

#endif
