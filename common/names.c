/* Sets of names: see the header. */
#include "common/names.h"

#include <stdlib.h>
#include <string.h>

static int compare_names_cb(const void *a, const void *b)
{
    return slice_compare_nocase(*(const struct slice *)a, *(const struct slice *)b);
}

bool names_build(struct names *names, char *const entries[], size_t count)
{
    size_t length = 0;
    char *next;

    *names = (struct names){0};
    for (size_t i = 0; i < count; i++)
        length += strlen(entries[i]);
    names->sorted = malloc((count + 1) * sizeof *names->sorted);
    names->text = malloc(length + 1);
    if (names->sorted == NULL || names->text == NULL) {
        names_free(names);
        return false;
    }
    next = names->text;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(entries[i]);
        memcpy(next, entries[i], size);
        names->sorted[i] = slice_make(next, size);
        next += size;
    }
    names->count = count;
    qsort(names->sorted, count, sizeof *names->sorted, compare_names_cb);
    return true;
}

void names_free(struct names *names)
{
    free(names->sorted);
    free(names->text);
    *names = (struct names){0};
}

bool names_contain(const struct names *names, struct slice name)
{
    return names->count > 0 && bsearch(&name, names->sorted, names->count, sizeof *names->sorted,
                                       compare_names_cb) != NULL;
}

bool names_contain_domain(const struct names *names, struct slice domain)
{
    if (names_contain(names, slice_of("*")) || names_contain(names, domain))
        return true;
    for (size_t i = 0; i < domain.length; i++)
        if (domain.start[i] == '.' && names_contain(names, slice_from(domain, i)))
            return true;
    return false;
}
