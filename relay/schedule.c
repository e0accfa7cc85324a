/* The next try: see the header. */
#include "relay/schedule.h"

static const int64_t shortest = SCHEDULE_SHORTEST * INT64_C(1000000);
static const int64_t longest = SCHEDULE_LONGEST * INT64_C(1000000);

static int64_t within_bounds(int64_t delay)
{
    return delay < shortest ? shortest : delay > longest ? longest : delay;
}

/* A clock that was set back makes a message younger than nothing, which is within the bounds again.
 * At a bound the times lie on its one side only: cut off there, half of them would be the same. */
int64_t schedule_next(int64_t received, int64_t now, uint32_t random)
{
    int64_t delay = within_bounds(now - received);
    int64_t soonest = within_bounds(delay - delay / 5);
    int64_t latest = within_bounds(delay + delay / 5);

    return now + soonest + (latest - soonest) / 1000 * (random % 1001);
}
