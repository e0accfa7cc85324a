/* A message's file written anew with some of its recipients, the same message to the byte: how what
 * is left to do is put down. Blocks. */
#ifndef RELAY_EXCERPT_H
#define RELAY_EXCERPT_H

#include "queue/spool.h"
#include "relay/mail.h"

#include <stdint.h>

/* Writes the file NAME of a directory of relay/, by way of tmp/ID, with the recipients whose
 * outcome's bit (1 << outcome) is in `outcomes`, in place of what may be there; its mtime is
 * `modified` (microseconds since the epoch; 0: now). `piece` has room for MAIL_PIECE bytes. Its
 * bytes are durable then, its name once the directory is synced. Returns 0 or an errno value, with
 * nothing left in tmp/. Where the mail is read next is not changed. */
int excerpt_write(const struct spool *spool, const struct mail *mail, unsigned outcomes,
                  enum queue_directory directory, const char *name, int64_t modified, char *piece);

/* Whether a file's recipients, as its envelope has them, are all among those of `mail` that are not
 * ACCEPTED, in the same order. Those FAILED then, and what else was FAILED is OPEN. */
bool excerpt_match(const struct envelope *envelope, struct mail *mail);

#endif
