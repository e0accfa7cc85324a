/* The recipients of one message: in the order they came, each once. Two are the same when their
 * local parts agree byte for byte and their domains without case (RFC 5321, section 2.4). A look-up
 * does not get slower with their number, which a client chooses. Pure. */
#ifndef SMTPD_RECIPIENTS_H
#define SMTPD_RECIPIENTS_H

#include "queue/path.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct recipients {
    char **mailboxes; /* `count` of them, terminated, owned */
    size_t count;
    size_t capacity;
    uint32_t *slots;   /* hash table of indices plus one; 0 is free */
    size_t slot_count; /* a power of two, or 0 */
};

/* All zero is an empty list. Adds a path unless it is there; false, and nothing changed, when
 * memory is out. */
bool recipients_add(struct recipients *recipients, const struct path *path);

bool recipients_contain(struct recipients *recipients, const struct path *path);

/* Frees everything; the list is empty again. */
void recipients_free(struct recipients *recipients);

#endif
