/* ID.reason beside a message in cur/ or failed/: what was said of its recipients, a line each, for
 * people to read. Blocks where it writes. */
#ifndef RELAY_REASON_H
#define RELAY_REASON_H

#include "common/buffer.h"
#include "queue/spool.h"
#include "relay/mail.h"

/* Bytes of the file at most. */
enum { REASON_MAX = 64 * 1024 };

/* Appends `<address>: words` for each recipient whose outcome's bit (1 << outcome) is in
 * `outcomes`, and of whom something was said; room is left for a line of the caller's. `text` has
 * REASON_MAX as its maximum. */
void reason_add(struct buffer *text, const struct mail *mail, unsigned outcomes);

/* Writes the file NAME.reason of a directory of relay/, by way of tmp/, so that it is never seen
 * half, in place of one that is there. The name is durable once the directory is synced. Returns 0
 * or an errno value. */
int reason_write(const struct spool *spool, enum queue_directory directory, const char *name,
                 const struct buffer *text);

/* Removes it. Returns 0 or an errno value. */
int reason_remove(const struct spool *spool, enum queue_directory directory, const char *name);

#endif
