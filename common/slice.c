/* Runs of bytes: see the header. */
#include "common/slice.h"

#include "common/ascii.h"

#include <stdlib.h>
#include <string.h>

struct slice slice_make(const char *start, size_t length)
{
    return (struct slice){start, length};
}

struct slice slice_of(const char *string)
{
    return (struct slice){string, strlen(string)};
}

struct slice slice_from(struct slice slice, size_t offset)
{
    /* Not even 0 may be added to NULL (C17, section 6.5.6). */
    return (struct slice){slice.start != NULL ? slice.start + offset : NULL, slice.length - offset};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim_end(struct slice slice)
{
    while (slice.length > 0 && is_blank(slice.start[slice.length - 1]))
        slice.length--;
    return slice;
}

struct slice slice_trim_start(struct slice slice)
{
    while (slice.length > 0 && is_blank(slice.start[0]))
        slice = slice_from(slice, 1);
    return slice;
}

bool slice_equals(struct slice a, struct slice b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.start, b.start, a.length) == 0);
}

int slice_compare_nocase(struct slice a, struct slice b)
{
    size_t common = a.length < b.length ? a.length : b.length;

    for (size_t i = 0; i < common; i++) {
        int difference =
            (unsigned char)ascii_lower(a.start[i]) - (unsigned char)ascii_lower(b.start[i]);
        if (difference != 0)
            return difference;
    }
    return (a.length > b.length) - (a.length < b.length);
}

bool slice_equals_nocase(struct slice a, struct slice b)
{
    return a.length == b.length && slice_compare_nocase(a, b) == 0;
}

bool slice_starts_nocase(struct slice slice, struct slice prefix)
{
    return slice.length >= prefix.length &&
           slice_equals_nocase(slice_make(slice.start, prefix.length), prefix);
}

char *slice_copy(struct slice slice)
{
    char *copy = malloc(slice.length + 1);

    if (copy == NULL)
        return NULL;
    if (slice.length > 0)
        memcpy(copy, slice.start, slice.length);
    copy[slice.length] = '\0';
    return copy;
}
