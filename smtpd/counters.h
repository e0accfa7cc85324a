/* What smtpd counts about itself, as metrics (common/metrics.h). Loop thread only. */
#ifndef SMTPD_COUNTERS_H
#define SMTPD_COUNTERS_H

#include "common/metrics.h"
#include "smtpd/reply.h"
#include "smtpd/session.h"

/* What is answered: verbs, and the end of a message's content, which has a reply of its own. */
enum counter_verb {
    VERB_HELO,
    VERB_EHLO,
    VERB_STARTTLS,
    VERB_MAIL,
    VERB_RCPT,
    VERB_DATA,
    VERB_BDAT,
    VERB_CONTENT,
    VERB_RSET,
    VERB_NOOP,
    VERB_HELP,
    VERB_VRFY,
    VERB_QUIT,
    VERB_OTHER, /* unknown, unimplemented, malformed or misused */
    VERB_COUNT
};

/* Success is 3xx for DATA and 2xx for all others. */
enum counter_class { CLASS_SUCCESS, CLASS_4XX, CLASS_5XX, CLASS_COUNT };

enum counter {
    COUNTER_CONNECTIONS,
    COUNTER_CONNECTIONS_OPEN,
    COUNTER_CONNECTIONS_LIMIT,
    COUNTER_PRESSURE,
    COUNTER_EARLY_TALKERS,
    COUNTER_EARLY_PIPELINING,
    COUNTER_PROXY_REFUSED,
    COUNTER_TLS_BEGUN,
    COUNTER_TLS_FAILED,
    COUNTER_TLS_BROKEN,
    COUNTER_TLS_EXPIRY,
    COUNTER_COMMANDS, /* one for each verb and class */
    COUNTER_COMMANDS_END = COUNTER_COMMANDS + VERB_COUNT * CLASS_COUNT,
    COUNTER_REPLIES_2XX = COUNTER_COMMANDS_END,
    COUNTER_REPLIES_3XX,
    COUNTER_REPLIES_4XX,
    COUNTER_REPLIES_5XX,
    COUNTER_MESSAGES,
    COUNTER_BYTES,
    COUNTER_STORED,
    COUNTER_RELAYED,
    COUNTER_DISCARDED,
    COUNTER_SPOOL_FREE,
    COUNTER_SPOOL_MIN_FREE,
    COUNTER_COMMIT_GROUP,
    COUNTER_COMMIT_SECONDS,
    COUNTER_REFUSED_SHUTDOWN,
    COUNTER_REFUSED_TIMEOUT,
    COUNTER_REFUSED_TOO_SLOW,
    COUNTER_REFUSED_SERVER_FULL,
    COUNTER_REFUSED_CLIENT_FULL,
    COUNTER_REFUSED_TOO_MANY_ERRORS,
    COUNTER_REFUSED_TOO_MUCH_JUNK,
    COUNTER_REFUSED_TOO_MANY_MESSAGES,
    COUNTER_REFUSED_FOREIGN,
    COUNTER_REFUSED_LOCAL_ERROR,
    COUNTER_REFUSED_POLICY_ERROR,
    COUNTER_REFUSED_NO_SPACE,
    COUNTER_REFUSED_TOO_MANY_RECIPIENTS,
    COUNTER_REFUSED_BAD_SENDER,
    COUNTER_REFUSED_BAD_RECIPIENT,
    COUNTER_REFUSED_SENDER_REFUSED,
    COUNTER_REFUSED_DOMAIN_REFUSED,
    COUNTER_REFUSED_RECIPIENT_REFUSED,
    COUNTER_REFUSED_TOO_BIG,
    COUNTER_REFUSED_TOO_MANY_HOPS,
    COUNTER_REFUSED_TLS_REQUIRED,
    COUNTER_REFUSED_EARLY_TALK,
    COUNTER_REFUSED_OUT_OF_TURN,
    COUNTER_COUNT
};

extern const struct metric_set counters_set;

void counters_add(enum counter counter, double amount);
void counters_set_value(enum counter counter, double value);
void counters_observe(enum counter counter, double value);

/* Counts a reply in its class; with the verb, where `event` is a command or the end of content; and
 * by its reason, when it refuses something. */
void counters_reply(enum session_event event, enum reply reply);

#endif
