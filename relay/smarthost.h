/* The state of the smarthost: whether it may be sent to now, over how many connections, and when it
 * is tried again after trouble. A host that cannot be reached, or wants less of us, is no fault of
 * any message, so all of them wait together, and all go when it is back. Pure; times are
 * milliseconds of any clock that does not go back. */
#ifndef RELAY_SMARTHOST_H
#define RELAY_SMARTHOST_H

#include "relay/trouble.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Pauses between tries, in seconds; each is twice the one before. */
enum {
    SMARTHOST_SHORTEST = 5,
    SMARTHOST_SHORTEST_FAULT = 60, /* where waiting alone will not help */
    SMARTHOST_LONGEST = 300
};

/* A host that asks for less gets half as many connections, and one more after each of so many
 * seconds in which it did not ask again. */
enum { SMARTHOST_RAISE = 60 };

struct smarthost {
    size_t connections; /* RELAY_CONNECTIONS */
    size_t limit;       /* how many of them there may be now */
    size_t granted;     /* how many the host seems to allow: what `limit` is when all is well */
    uint64_t raised_at; /* when that was last changed */
    enum trouble trouble;
    uint64_t pause;    /* the last one; 0: none since the last success */
    uint64_t retry_at; /* nothing is sent before */
};

void smarthost_init(struct smarthost *smarthost, size_t connections);

/* Trouble of a kind other than NONE. Several connections may fail at once, which is one trouble:
 * what comes within a pause does not lengthen it. True when it is another trouble than before, to
 * be said. */
bool smarthost_troubled(struct smarthost *smarthost, enum trouble trouble, uint64_t now);

/* A transaction that was begun at `began` came to its end, whatever it said of its recipients. True
 * when that ends a trouble: which one that was begun before the end of the pause does not. */
bool smarthost_succeeded(struct smarthost *smarthost, uint64_t began, uint64_t now);

/* Somebody says that it is worth a try now (SIGHUP). The next pause is a short one. */
void smarthost_hurry(struct smarthost *smarthost, uint64_t now);

/* Whether a message may be sent now. */
bool smarthost_is_open(const struct smarthost *smarthost, uint64_t now);

/* How long until it is, 0 when it is. */
uint64_t smarthost_wait(const struct smarthost *smarthost, uint64_t now);

/* Trouble that only the operator can end. */
bool trouble_is_fault(enum trouble trouble);

/* For the log: a word for a trouble, and what to do about a fault (empty where nothing is). */
const char *trouble_name(enum trouble trouble);
const char *trouble_advice(enum trouble trouble);

#endif
