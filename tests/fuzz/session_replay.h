/* Reads a conversation behind itself: what the client said beside what it was answered, as RFC 5321
 * has the two belong together, one reply a command and in order. Whatever the fragmentation, the
 * pauses and the faults were, the laws of replies hold, and each 250 to the end of a message has
 * its file in the spool, with every octet, in each queue that it belongs to. */
#ifndef TESTS_FUZZ_SESSION_REPLAY_H
#define TESTS_FUZZ_SESSION_REPLAY_H

#include "common/slice.h"
#include "queue/spool.h"
#include "smtpd/address.h"

#include <stdbool.h>
#include <stddef.h>

struct replay {
    const struct spool *spool;
    const char *discarded; /* a domain whose mail is answered 250 and dropped */
    const char *stored;    /* the only domain whose mail is stored, or `*` */
    const char *hostname;  /* but for its postmaster's */
    bool (*relays_for)(const struct address *client); /* whether mail to all others is relayed */
    struct address client;                            /* of the connection */
    bool proxied;      /* and it is to say first for whom it speaks */
    size_t unanswered; /* ends of messages that were not answered: they may be in the spool */
};

/* Both sides of a conversation, up to the end of the connection. */
struct replay_talk {
    struct slice said, heard;
    size_t said_in_clear, heard_in_clear; /* octets of them before TLS began; 0: it did not */
};

/* Files of messages that were acknowledged are checked and removed. */
void replay_run(struct replay *replay, const struct replay_talk *talk);

#endif
