/* Deadlines of ten thousand connections with one timer: a wheel of lists, one for each tick. To set
 * a deadline costs the same however many there are, and a deadline that is moved further away is
 * not even touched until its old tick comes. Pure; a tick is whatever the owner makes of it. */
#ifndef SMTPD_WHEEL_H
#define SMTPD_WHEEL_H

#include <stddef.h>
#include <stdint.h>

enum { WHEEL_TICKS = 512, WHEEL_NEVER = 0 };

/* Lives inside what has the deadline. All zero is at rest. */
struct wheel_entry {
    struct wheel_entry *next;
    struct wheel_entry **previous; /* what points here; NULL when in no list */
    uint32_t deadline;             /* tick, or WHEEL_NEVER */
    uint32_t listed;               /* the tick whose list it is in */
};

struct wheel {
    struct wheel_entry *lists[WHEEL_TICKS];
    uint32_t now; /* the last tick that was turned to; starts at 1 */
    size_t count; /* entries in lists */
};

void wheel_init(struct wheel *wheel);

/* The entry is due at `deadline`, a tick after `wheel->now`; a deadline in the past is due next
 * tick. */
void wheel_set(struct wheel *wheel, struct wheel_entry *entry, uint32_t deadline);

/* The entry has no deadline, and is in no list: it may be freed. */
void wheel_remove(struct wheel *wheel, struct wheel_entry *entry);

/* Turns to tick `now` and takes out of the wheel every entry that is due; `due` is called for each,
 * and may set or remove any entry. */
void wheel_turn(struct wheel *wheel, uint32_t now, void (*due)(struct wheel_entry *entry));

#endif
