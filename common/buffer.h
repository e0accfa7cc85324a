/* A growing run of bytes with a maximum fixed at birth, so that no input can make a program grow
 * without bound. Single owner, any thread. */
#ifndef COMMON_BUFFER_H
#define COMMON_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
    char *data;      /* `length` bytes; not terminated; NULL while nothing was ever appended */
    size_t length;   /* bytes in use */
    size_t capacity; /* bytes allocated, at most `maximum` */
    size_t maximum;  /* never exceeded */
    bool failed;     /* an append did not fit, or memory ran out: what is held is incomplete */
};

/* An empty buffer that will hold at most `maximum` bytes. Allocates nothing. */
void buffer_init(struct buffer *buffer, size_t maximum);

/* Frees the storage; the buffer is empty and usable again, with the same maximum. */
void buffer_free(struct buffer *buffer);

/* Forgets the contents and the failure, keeps the storage. */
void buffer_clear(struct buffer *buffer);

/* Makes room for `extra` more bytes beyond `length`. False, with `failed` set and the contents
 * unchanged, when that would pass the maximum or memory is out. */
bool buffer_reserve(struct buffer *buffer, size_t extra);

/* Appends whole or not at all; false as buffer_reserve. Once failed, every append fails, so a
 * caller may append many times and look at `failed` once. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t length);
bool buffer_append_string(struct buffer *buffer, const char *string);
bool buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
