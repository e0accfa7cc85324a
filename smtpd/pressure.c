/* Pressure: see the header. */
#include "smtpd/pressure.h"

/* A client that means to send mail keeps to all of these: ten seconds for a line, five minutes for a
 * message (25 MB of it at 87 kB a second), one mistake. Replies are not delayed: whoever waits for
 * one keeps his place. */
static const struct pressure_limits tightest = {
    .timeout = 10, .max_time = 300, .max_errors = 2, .max_junk = 10, .error_delay = 0};

static unsigned lower(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

void pressure_init(struct pressure *pressure, const struct pressure_limits *calm)
{
    *pressure = (struct pressure){
        .calm = *calm,
        .tight = {.timeout = lower(calm->timeout, tightest.timeout),
                  .max_time = lower(calm->max_time, tightest.max_time),
                  .max_errors = lower(calm->max_errors, tightest.max_errors),
                  .max_junk = lower(calm->max_junk, tightest.max_junk),
                  .error_delay = lower(calm->error_delay, tightest.error_delay)},
    };
}

/* 7/8 of `limit` and more: an eighth, rounded down, is free at most. */
static bool is_crowded(size_t open, size_t limit)
{
    return limit >= PRESSURE_LEAST && open >= limit - limit / 8;
}

/* Fewer than 3/4; and where a limit is too small for a crowd, any number. */
static bool is_relieved(size_t open, size_t limit)
{
    return limit < PRESSURE_LEAST || open < limit - limit / 4;
}

bool pressure_update(struct pressure *pressure, size_t open, size_t limit, bool descriptors_out)
{
    bool was = pressure->on;

    if (descriptors_out || is_crowded(open, limit))
        pressure->on = true;
    else if (pressure->on)
        pressure->on = !is_relieved(open, limit);
    return pressure->on != was;
}

const struct pressure_limits *pressure_limits(const struct pressure *pressure)
{
    return pressure->on ? &pressure->tight : &pressure->calm;
}
