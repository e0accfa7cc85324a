/* What a mail needs of the server that it is to be sent to, and what is said where the server lacks
 * it. Pure. */
#ifndef RELAY_NEEDS_H
#define RELAY_NEEDS_H

#include "relay/extensions.h"
#include "relay/mail.h"

#include <stdbool.h>
#include <stddef.h>

/* Decides what needs no server: OPEN recipients that need SMTPUTF8 (5.6.7; all of them 5.6.9, for a
 * header) or 8BITMIME (all of them, 5.6.3) where the server lacks it are FAILED, and all of them
 * when the message has more hops than QUEUE_HOPS_MAX (5.4.6). */
void needs_refuse(struct mail *mail, const struct extensions *extensions);

/* Whether SMTPUTF8 has to be said for the sender, the header, or one of the first `count`
 * recipients that is OPEN (RFC 6531, section 3.4). */
bool needs_utf8(const struct mail *mail, size_t count);

#endif
