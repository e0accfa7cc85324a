/* When a deferred message is tried again. Pure. */
#ifndef RELAY_SCHEDULE_H
#define RELAY_SCHEDULE_H

#include <stdint.h>

enum { SCHEDULE_SHORTEST = 60, SCHEDULE_LONGEST = 3600 }; /* seconds */

/* The next try of a message received at `received`, both and the result in microseconds since the
 * epoch: after as long again as it has been waiting, up to a fifth sooner or later by `random` (any
 * number), so that what was deferred together does not come back together; always within the
 * bounds. */
int64_t schedule_next(int64_t received, int64_t now, uint32_t random);

#endif
