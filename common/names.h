/* A set of names that are compared without case: domains, or addresses. Built whole from the
 * entries of a setting, which may be a file of a hundred thousand, and then only looked into. Pure.
 */
#ifndef COMMON_NAMES_H
#define COMMON_NAMES_H

#include "common/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct names {
    struct slice *sorted; /* into `text` */
    size_t count;
    char *text;
};

/* Fills `names` with copies of the entries; false, with nothing to free, when memory is out. */
bool names_build(struct names *names, char *const entries[], size_t count);
void names_free(struct names *names);

bool names_contain(const struct names *names, struct slice name);

/* As above for a domain, which is also contained when the set has `*`, or `.parent` for a domain
 * above it. */
bool names_contain_domain(const struct names *names, struct slice domain);

#endif
