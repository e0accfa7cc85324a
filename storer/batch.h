/* Messages on their way through one transaction (or, after an error, several): what the database
 * is to get, as columns, and what becomes of each. Pure; single owner, which is the loader's thread
 * while it fills it and the loop afterwards. */
#ifndef STORER_BATCH_H
#define STORER_BATCH_H

#include "queue/envelope.h"
#include "queue/id.h"
#include "queue/spool.h"
#include "storer/array.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest message that is sent to PostgreSQL. Twice SMTPD_MAX_SIZE's maximum; a value of a
 * gigabyte would be refused by the protocol in a way that looks like a broken connection. */
#define BATCH_MESSAGE_MAX (UINT64_C(512) * 1024 * 1024)

/* In microseconds, as a message's time. */
#define BATCH_HOUR INT64_C(3600000000)

enum fate {
    FATE_OPEN,    /* not decided: stays where it is, and the next scan finds it again */
    FATE_STORED,  /* in the database, for certain */
    FATE_EXPIRED, /* older than the retention: not stored, to be removed */
    FATE_REFUSED, /* to be set aside, with a reason */
};

struct message {
    char id[ID_SIZE];
    enum queue_directory directory; /* QUEUE_NEW, or QUEUE_CUR for a replay */
    enum fate fate;
    char *reason;     /* FATE_REFUSED: allocated */
    int64_t received; /* microseconds since 1970 */
    int64_t modified; /* of the file */
    uint64_t size;    /* of the message */
    size_t cost;      /* batch_cost */
    size_t delivery;  /* its first row in the columns of deliveries */
    size_t deliveries;
};

struct batch {
    uint64_t number; /* for the log */
    struct message *messages;
    size_t count, capacity;
    size_t bytes; /* batch_cost of its messages */

    /* messages: one element a message */
    struct array ids, received, senders, clients, helos, protocols, sizes, raws;
    /* deliveries: one element a recipient */
    struct array message_ids, message_received, positions, recipients;
};

void batch_init(struct batch *batch);
void batch_free(struct batch *batch);

/* Empties it. Storage beyond what `limit` bytes of messages need is given back. */
void batch_clear(struct batch *batch, size_t limit);

/* What a message takes in a batch, in bytes: itself, and a row for each of its recipients. */
size_t batch_cost(const struct envelope *envelope);

/* Adds a message. Returns where its `envelope->size` bytes go, to be filled in by the caller or
 * withdrawn by batch_remove_last; NULL when memory is out, with the batch unchanged. A recipient
 * that stands there already (local part exactly, domain without case) is left out. */
char *batch_add(struct batch *batch, const struct envelope *envelope,
                enum queue_directory directory, int64_t modified);
void batch_remove_last(struct batch *batch);

/* The deliveries of messages [first, first + count), which stand in a row. */
size_t batch_deliveries_first(const struct batch *batch, size_t first);
size_t batch_deliveries_count(const struct batch *batch, size_t first, size_t count);

/* Decides. A reason is copied. */
void batch_decide(struct message *message, enum fate fate, const char *reason);

/* Whether an address means the same mailbox: the part before the last @ byte for byte, the rest
 * without regard to ASCII case. */
bool batch_same_recipient(const char *one, const char *other);

/* Decides the messages [first, first + count) after a COMMIT that stored what was received after
 * `oldest`, which is as long ago as mail is kept, and up to `newest`, which is 24 hours ahead
 * (microseconds since 1970, by the database's clock), and nothing else.
 */
void batch_committed(struct batch *batch, size_t first, size_t count, int64_t oldest,
                     int64_t newest);

/* Writes the days (UTC, `2026-11-21`) on which messages [first, first + count) were received, each
 * once, into an array of text[]. False when memory is out. */
bool batch_days(const struct batch *batch, size_t first, size_t count, struct array *days);

#endif
