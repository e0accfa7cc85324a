/* What smtpd counts about itself, as metrics (common/metrics.h). Loop thread only. */
#ifndef SMTPD_COUNTERS_H
#define SMTPD_COUNTERS_H

#include "common/metrics.h"
#include "smtpd/reply.h"

enum counter {
    COUNTER_CONNECTIONS,
    COUNTER_CONNECTIONS_OPEN,
    COUNTER_EARLY_TALKERS,
    COUNTER_COMMANDS,
    COUNTER_REPLIES_2XX,
    COUNTER_REPLIES_3XX,
    COUNTER_REPLIES_4XX,
    COUNTER_REPLIES_5XX,
    COUNTER_MESSAGES,
    COUNTER_BYTES,
    COUNTER_DISCARDED,
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
    COUNTER_COUNT
};

extern const struct metric_set counters_set;

void counters_add(enum counter counter, double amount);
void counters_observe(enum counter counter, double value);

/* Counts a reply in its class and, when it refuses something, under its enhanced status code. */
void counters_reply(enum reply reply);

#endif
