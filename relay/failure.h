/* What failed of a message, in failed/: under which name, and the notification of it on its way
 * from there into its queue. Blocks.
 *
 *     relay/failed/NAME                the message, with the recipients that failed
 *     relay/failed/NAME.reason         what was said of them
 *     QUEUE/failed/NAME.notification   until it is sent off: the notification, in its own queue
 *
 * NAME is the message's id, or where an earlier failure of the same message has that, the id and a
 * number: `ID.1`. */
#ifndef RELAY_FAILURE_H
#define RELAY_FAILURE_H

#include "common/buffer.h"
#include "queue/id.h"
#include "relay/mail.h"
#include "relay/record.h"

#include <stdbool.h>
#include <stdint.h>

enum { FAILURE_NAME_SIZE = ID_SIZE + 12 };

/* Finds the name for what fails of a message: one whose file is there and has recipients that are
 * still recipients of `mail`, a failure that was begun and is not ended (`*begun`; the outcomes are
 * then as excerpt_match says); else one that is free. Returns 0 or an errno value. */
int failure_find(const struct recorder *recorder, struct mail *mail,
                 char name[static FAILURE_NAME_SIZE], bool *begun);

/* Whether it is known where a notification to the sender goes, if to anywhere: not while a list of
 * domains is broken, which is logged. */
bool failure_can_be_told(const struct recorder *recorder, const struct mail *mail);

/* Writes the notification of the FAILED recipients to where failure_notify finds it, in place of
 * what an earlier begin left, and says in a line of `text` which it is, or why there is none.
 * Durable once failed/ of both queues is synced. failure_can_be_told was true. Returns 0 or an
 * errno value. */
int failure_stage(const struct recorder *recorder, const struct mail *mail, const char *name,
                  int64_t now, struct buffer *text);

/* Moves the notification into new/ of its queue; where it is gone, that was done before. Durable
 * once new/ of both queues is synced. Returns 0 or an errno value. */
int failure_notify(const struct recorder *recorder, const char *name);

#endif
