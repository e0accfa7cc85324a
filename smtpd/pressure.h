/* Whether so many connections are open that the limits tighten, so that new mail still gets in:
 * slow and useless clients lose their place to those that wait for one. Pure.
 *
 * Pressure begins when 7/8 of the connections that may be open are, or when descriptors run out,
 * and is over when fewer than 3/4 are: the limits do not change with every client. A server of
 * fewer than PRESSURE_LEAST connections has no eighth to keep free: it would be under pressure
 * whenever it works, with one of its one connection open. There only the want of descriptors
 * counts. How many connections there are descriptors for nobody can say, so that kind of pressure
 * lasts for as long as the caller says so. */
#ifndef SMTPD_PRESSURE_H
#define SMTPD_PRESSURE_H

#include <stdbool.h>
#include <stddef.h>

enum { PRESSURE_LEAST = 8 };

/* What the settings of these names say; times are seconds. */
struct pressure_limits {
    unsigned timeout;
    unsigned max_time;
    unsigned max_errors;
    unsigned max_junk;
    unsigned error_delay;
};

struct pressure {
    struct pressure_limits calm;
    struct pressure_limits tight;
    bool on;
};

/* No pressure; `calm` are the limits of the settings. */
void pressure_init(struct pressure *pressure, const struct pressure_limits *calm);

/* To be asked whenever a connection was opened or closed, and now and then: `open` are, and `limit`
 * may be. `descriptors_out`: connections could not be accepted for want of descriptors (or memory), now
 * or a short time ago. True when the limits changed. */
bool pressure_update(struct pressure *pressure, size_t open, size_t limit, bool descriptors_out);

/* Those in force: each the setting's, or under pressure what is tighter. */
const struct pressure_limits *pressure_limits(const struct pressure *pressure);

#endif
