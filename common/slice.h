/* A run of bytes that belongs to somebody else: what the parsers take and give, so that an address
 * is looked at where it came in and copied only once it is accepted. Pure. */
#ifndef COMMON_SLICE_H
#define COMMON_SLICE_H

#include <stdbool.h>
#include <stddef.h>

struct slice {
    const char *start; /* `length` bytes, not terminated; may be NULL when empty */
    size_t length;
};

struct slice slice_make(const char *start, size_t length);
struct slice slice_of(const char *string);

/* The part from `offset` (at most the length) on. */
struct slice slice_from(struct slice slice, size_t offset);

/* Without the white space (space and tab) at its end, or at its start. */
struct slice slice_trim_end(struct slice slice);
struct slice slice_trim_start(struct slice slice);

/* Byte for byte. */
bool slice_equals(struct slice a, struct slice b);

/* Without regard to the case of ASCII letters. */
bool slice_equals_nocase(struct slice a, struct slice b);
int slice_compare_nocase(struct slice a, struct slice b);
bool slice_starts_nocase(struct slice slice, struct slice prefix);

/* A terminated copy, owned by the caller (free); NULL when memory is out. */
char *slice_copy(struct slice slice);

#endif
