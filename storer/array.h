/* A column of a batch as the one-dimensional array that PostgreSQL reads in binary form
 * (array_recv: five big-endian words, then each element as its length and its bytes).
 *
 * It is built in place while messages are loaded, so that what goes to libpq is what was read from
 * the files. Any run of elements can be sent without copying: array_frame puts the head just before
 * the first of them, over bytes that array_unframe puts back. Pure; single owner. */
#ifndef STORER_ARRAY_H
#define STORER_ARRAY_H

#include "common/buffer.h"
#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ARRAY_HEAD = 20 };

/* pg_type.dat: fixed for all time. */
enum array_type {
    ARRAY_BYTEA = 17,
    ARRAY_BIGINT = 20,
    ARRAY_INTEGER = 23,
    ARRAY_TEXT = 25,
    ARRAY_TIMESTAMPTZ = 1184,
    ARRAY_UUID = 2950
};

struct array {
    enum array_type type;
    struct buffer bytes; /* ARRAY_HEAD bytes of room, then the elements */
    size_t *ends;        /* offset in `bytes` behind each element */
    size_t count, capacity;
};

struct array_frame {
    const char *value;
    size_t length;
    char *head; /* where `saved` belongs */
    char saved[ARRAY_HEAD];
};

/* An empty array whose bytes may grow to `maximum`. */
void array_init(struct array *array, enum array_type type, size_t maximum);
void array_free(struct array *array);

/* Forgets the elements from `count` on; keeps the storage. */
void array_truncate(struct array *array, size_t count);

/* Gives storage back when it is larger than `keep` bytes; the array must be empty. */
void array_trim(struct array *array, size_t keep);

/* Each adds an element; false when memory or the maximum is reached, with the array unchanged. */
bool array_add(struct array *array, const void *bytes, size_t length);
bool array_add_text(struct array *array, const char *text);
bool array_add_integer(struct array *array, int32_t number);
bool array_add_bigint(struct array *array, int64_t number);

/* An id in its text form, which must be valid, as the 16 bytes of a uuid. */
bool array_add_uuid(struct array *array, const char *id);

/* Microseconds since 1970, as the timestamptz that counts from 2000. */
bool array_add_time(struct array *array, int64_t microseconds);

/* Adds an element of `length` bytes that the caller fills in: where they go, or NULL. */
char *array_add_room(struct array *array, size_t length);

/* An element as it stands: its length, four bytes big-endian, and its bytes, which is how COPY has a
 * column, too. Valid until something is added. */
struct slice array_element(const struct array *array, size_t index);

/* The array of elements [first, first + count), ready to be sent, until array_unframe; nothing may
 * be added in between. */
void array_frame(struct array *array, size_t first, size_t count, struct array_frame *frame);
void array_unframe(struct array_frame *frame);

#endif
