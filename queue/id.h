/* Message ids: UUIDv7 in text form (RFC 9562, section 5.7), which are also file names. Unique
 * without coordination between processes and hosts, and sorted by time. */
#ifndef QUEUE_ID_H
#define QUEUE_ID_H

#include <stdbool.h>
#include <stdint.h>

enum { ID_LENGTH = 36, ID_SIZE = ID_LENGTH + 1 };

/* Makes an id for a message received at `received` (microseconds since the epoch). Its millisecond
 * is that of `received`; the fraction below goes into rand_a (RFC 9562, section 6.2, method 3), the
 * rest is 62 random bits of the kernel. Any thread. */
void id_make(char id[static ID_SIZE], int64_t received);

/* The millisecond that a valid id carries, in microseconds since the epoch. */
int64_t id_time(const char *id);

/* True for exactly 36 characters of lower-case UUIDv7 text. */
bool id_valid(const char *text);

#endif
