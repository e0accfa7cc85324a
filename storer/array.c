/* Binary arrays: see the header. */
#include "storer/array.h"

#include <stdlib.h>
#include <string.h>

/* Between the epochs of Unix and of PostgreSQL: 10,957 days. */
#define EPOCH_MICROSECONDS (INT64_C(946684800) * 1000000)

void array_init(struct array *array, enum array_type type, size_t maximum)
{
    *array = (struct array){.type = type};
    buffer_init(&array->bytes, maximum);
}

void array_free(struct array *array)
{
    buffer_free(&array->bytes);
    free(array->ends);
    array->ends = NULL;
    array->count = array->capacity = 0;
}

static size_t end_of(const struct array *array, size_t count)
{
    return count > 0 ? array->ends[count - 1] : ARRAY_HEAD;
}

void array_truncate(struct array *array, size_t count)
{
    if (count >= array->count)
        return;
    array->bytes.length = end_of(array, count);
    array->count = count;
}

void array_trim(struct array *array, size_t keep)
{
    if (array->bytes.capacity > keep)
        buffer_free(&array->bytes);
}

static void put_word(char *to, uint32_t word)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(word >> (24 - 8 * i));
}

/* Makes room for one more end, and for the head before the first element. */
static bool prepare(struct array *array, size_t length)
{
    if (array->count == array->capacity) {
        size_t capacity = array->capacity > 0 ? array->capacity * 2 : 64;
        size_t *ends = reallocarray(array->ends, capacity, sizeof *ends);
        if (!ends)
            return false;
        array->ends = ends;
        array->capacity = capacity;
    }
    if (array->count == 0)
        array->bytes.length = 0;
    size_t head = array->count == 0 ? ARRAY_HEAD : 0;
    if (length > INT32_MAX || !buffer_reserve(&array->bytes, head + 4 + length)) {
        /* A failed buffer stays failed; this one is whole, and may be added to when truncated. */
        array->bytes.failed = false;
        return false;
    }
    array->bytes.length += head;
    return true;
}

char *array_add_room(struct array *array, size_t length)
{
    if (!prepare(array, length))
        return NULL;
    char *element = array->bytes.data + array->bytes.length;
    put_word(element, (uint32_t)length);
    array->bytes.length += 4 + length;
    array->ends[array->count++] = array->bytes.length;
    return element + 4;
}

bool array_add(struct array *array, const void *bytes, size_t length)
{
    char *room = array_add_room(array, length);
    if (room && length > 0)
        memcpy(room, bytes, length);
    return room != NULL;
}

bool array_add_text(struct array *array, const char *text)
{
    return array_add(array, text, strlen(text));
}

bool array_add_integer(struct array *array, int32_t number)
{
    char *room = array_add_room(array, 4);
    if (room)
        put_word(room, (uint32_t)number);
    return room != NULL;
}

bool array_add_bigint(struct array *array, int64_t number)
{
    char *room = array_add_room(array, 8);
    if (room) {
        put_word(room, (uint32_t)((uint64_t)number >> 32));
        put_word(room + 4, (uint32_t)((uint64_t)number & UINT32_MAX));
    }
    return room != NULL;
}

static unsigned nibble(char digit)
{
    return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'a') + 10;
}

bool array_add_uuid(struct array *array, const char *id)
{
    char *room = array_add_room(array, 16);
    for (int i = 0; room && i < 16; i++) {
        if (*id == '-')
            id++;
        room[i] = (char)(nibble(id[0]) << 4 | nibble(id[1]));
        id += 2;
    }
    return room != NULL;
}

bool array_add_time(struct array *array, int64_t microseconds)
{
    return array_add_bigint(array, microseconds - EPOCH_MICROSECONDS);
}

struct slice array_element(const struct array *array, size_t index)
{
    size_t begin = end_of(array, index);
    return slice_make(array->bytes.data + begin, end_of(array, index + 1) - begin);
}

void array_frame(struct array *array, size_t first, size_t count, struct array_frame *frame)
{
    if (array->count == 0) {
        /* Nothing was ever added, so there is no room to write in: the empty array has three words.
         */
        *frame = (struct array_frame){.length = 12};
        frame->value = frame->saved;
        put_word(frame->saved + 8, array->type);
        return;
    }
    char *head = array->bytes.data + end_of(array, first) - ARRAY_HEAD;
    frame->value = frame->head = head;
    frame->length = end_of(array, first + count) - end_of(array, first) + ARRAY_HEAD;
    memcpy(frame->saved, head, ARRAY_HEAD);
    put_word(head, 1);                    /* dimensions */
    put_word(head + 4, 0);                /* no NULLs */
    put_word(head + 8, array->type);      /* of the elements */
    put_word(head + 12, (uint32_t)count); /* of the first dimension */
    put_word(head + 16, 1);               /* and its lower bound */
}

void array_unframe(struct array_frame *frame)
{
    if (frame->head)
        memcpy(frame->head, frame->saved, ARRAY_HEAD);
}
