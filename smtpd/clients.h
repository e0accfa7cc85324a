/* How many connections each client has open: counts by address, in a table whose size is fixed at
 * the start. Pure. */
#ifndef SMTPD_CLIENTS_H
#define SMTPD_CLIENTS_H

#include "smtpd/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct clients_entry;

struct clients {
    struct clients_entry **buckets;
    size_t bucket_count; /* a power of two */
    uint64_t seed;       /* secret: who could choose addresses that collide would make us slow */
};

/* A table for about `expected` clients; false, with nothing to free, when memory is out. */
bool clients_init(struct clients *clients, size_t expected, uint64_t seed);
void clients_free(struct clients *clients);

/* Counts one more connection from the client of `address`; its number of connections afterwards, or
 * 0, and nothing counted, when memory is out. */
unsigned clients_enter(struct clients *clients, const struct address *address);

/* One less. It was entered before. */
void clients_leave(struct clients *clients, const struct address *address);

#endif
