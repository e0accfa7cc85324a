/* Is there room on the disk? Asked at every MAIL, so that a client hears of a full disk before it
 * sends a message in vain. Loop thread only. */
#ifndef SMTPD_ROOM_H
#define SMTPD_ROOM_H

#include "queue/spool.h"
#include "smtpd/reply.h"

#include <stdint.h>

/* Room in a queue for a message that is declared to have so many octets (0: unknown), with `min_free`
 * bytes left over? UNSET, or the reply that refuses it. */
enum reply room_check(const struct spool *spool, enum queue queue, uint64_t min_free,
                      uint64_t declared);

/* The reply to a message that could not be written because of an errno value. */
enum reply room_reply(int error);

#endif
