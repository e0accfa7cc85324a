/* Delivery status notifications: what a sender is told of recipients that were not reached (RFC
 * 3464 in the frame of RFC 6522; RFC 6533 where the sender's address is UTF-8). Pure. */
#ifndef RELAY_NOTIFICATION_H
#define RELAY_NOTIFICATION_H

#include "common/buffer.h"
#include "common/slice.h"
#include "relay/mail.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct notification {
    const char *id;                     /* its own */
    int64_t now;                        /* its time, microseconds since the epoch */
    const char *hostname;               /* ours: Reporting-MTA, and the domain of From */
    const char *smarthost;              /* Remote-MTA, for words that are not our own */
    const char *sender;                 /* whom it goes to: the message's reverse-path, not empty */
    const char *message_id;             /* the id of the message in our queue */
    int64_t received;                   /* when that came: Arrival-Date */
    const struct recipient *recipients; /* those that FAILED are reported */
    size_t count;
    struct slice header; /* the message's own header, as much of it as is returned */
};

/* Bytes of a header that are returned at most. */
enum { NOTIFICATION_HEADER_MAX = 16 * 1024 };

/* Appends the whole message, header fields first, in CRLF lines. 7 bits only, unless the sender's
 * address is UTF-8. False when `out` failed. */
bool notification_compose(const struct notification *notification, struct buffer *out);

#endif
