/* A message on its way from the connection to the queue. A small one is held in memory until its
 * end and written in the turn that commits it; a larger one goes to tmp/ in pieces, written by the
 * thread pool while the next piece fills, with at most one piece in flight. When both are full
 * message_room says 0, the connection stops reading, and TCP makes the client wait for the disk.
 *
 * Whoever opens a message hears of it through callbacks until it ends or is aborted; the message
 * itself lives on until the pool has let go of it. Loop thread only. */
#ifndef SMTPD_MESSAGE_H
#define SMTPD_MESSAGE_H

#include "common/slice.h"
#include "smtpd/address.h"
#include "smtpd/committer.h"
#include "smtpd/transaction.h"

#include <stddef.h>

/* Octets that are held, which is also what a piece has. Where so many messages are open that this
 * would be more than MESSAGES_HELD_MAX for all, a message holds its share of that, but at least
 * MESSAGE_HELD_MIN. */
enum {
    MESSAGE_HELD_MAX = 128 * 1024,
    MESSAGE_HELD_MIN = 4 * 1024,
    MESSAGES_HELD_MAX = 64 * 1024 * 1024
};

struct message;

struct message_callbacks {
    /* There is room again. */
    void (*room_cb)(void *owner);
    /* A piece could not be written. The message is to be aborted. */
    void (*failed_cb)(void *owner, int error);
    /* After message_finish: the message is durable (0) or nothing is left of it (an errno value).
     * The owner has let go of it. */
    void (*ended_cb)(void *owner, int error);
};

/* Where a message comes from. The strings are copied. */
struct message_origin {
    const char *hostname; /* ours */
    const char *helo;
    const char *protocol;
    struct address client;
};

/* Opens a message of a transaction and writes its id into the transaction. Makes no system call but
 * for time and randomness. NULL when memory is out. */
struct message *message_open(struct committer *committer, struct transaction *transaction,
                             const struct message_origin *origin,
                             const struct message_callbacks *callbacks, void *owner);

/* Octets that message_append will take now. */
size_t message_room(const struct message *message);

/* Takes content: up to one octet more than there is room for. */
void message_append(struct message *message, struct slice content);

/* That was all. ended_cb follows on a later turn of the loop. */
void message_finish(struct message *message);

/* The owner wants no more of it. If it has not been finished, nothing is left of it; else it is
 * committed all the same. No callback follows. */
void message_abort(struct message *message);

#endif
