/* Who waits for how long: recipients by domain and age, as Postfix's qshape counts them. Memory is
 * bounded: domains beyond SHAPE_DOMAINS are counted together. Pure. */
#ifndef QUEUE_TOOL_SHAPE_H
#define QUEUE_TOOL_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHAPE_DOMAINS = 16384, SHAPE_AGES = 10, SHAPE_NAME_MAX = 255 };

/* The age in minutes below which a recipient is counted in a column; the last column has no end. */
extern const int shape_minutes[SHAPE_AGES - 1];

struct shape_row {
    char *domain; /* lower case; empty where an address has none */
    uint64_t total, ages[SHAPE_AGES];
};

struct shape {
    struct shape_row *rows; /* `count` of them, the largest first once shape_sort was called */
    uint32_t *slots;        /* a hash table: place in rows and 1, or 0 */
    size_t count, maximum;
    struct shape_row total, others; /* of all; of those that found no room */
};

/* `maximum` is SHAPE_DOMAINS, but in tests. False when memory is out. */
bool shape_open(struct shape *shape, size_t maximum);
void shape_close(struct shape *shape);

/* Counts a recipient. Where memory is out, he is one of the others. */
void shape_add(struct shape *shape, const char *recipient, int64_t age_microseconds);

/* Puts the rows into the order of their totals, and then of their names. Nothing is added after. */
void shape_sort(struct shape *shape);

/* Adds one row to another. */
void shape_sum(struct shape_row *to, const struct shape_row *from);

#endif
