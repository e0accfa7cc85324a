/* Age by domain: see the header. */
#include "queue/tool/shape.h"

#include "common/ascii.h"

#include <stdlib.h>
#include <string.h>

const int shape_minutes[SHAPE_AGES - 1] = {5, 10, 20, 40, 80, 160, 320, 640, 1280};

/* Twice as many slots as there may be rows, so that a search ends soon. A power of two. */
static size_t slots_of(const struct shape *shape)
{
    size_t slots = 2;

    while (slots < 2 * shape->maximum)
        slots *= 2;
    return slots;
}

bool shape_open(struct shape *shape, size_t maximum)
{
    *shape = (struct shape){.maximum = maximum};
    shape->rows = calloc(maximum, sizeof *shape->rows);
    shape->slots = calloc(slots_of(shape), sizeof *shape->slots);
    if (shape->rows != NULL && shape->slots != NULL)
        return true;
    shape_close(shape);
    return false;
}

void shape_close(struct shape *shape)
{
    for (size_t i = 0; i < shape->count; i++)
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without rows none is counted */
        free(shape->rows[i].domain);
    free(shape->rows);
    free(shape->slots);
    *shape = (struct shape){0};
}

static int column_of(int64_t age)
{
    int column = 0;

    while (column < SHAPE_AGES - 1 && age >= (int64_t)shape_minutes[column] * 60 * 1000000)
        column++;
    return column;
}

static void take_domain(char domain[static SHAPE_NAME_MAX + 1], const char *recipient)
{
    const char *at = strrchr(recipient, '@');
    size_t length = at != NULL ? strnlen(at + 1, SHAPE_NAME_MAX) : 0;

    for (size_t i = 0; i < length; i++)
        domain[i] = ascii_lower(at[i + 1]);
    domain[length] = '\0';
}

/* FNV-1a. Who chooses names that collide makes the table slow, and never larger; that takes control
 * of what waits, and 16,384 rows are soon walked through. */
static size_t hash(const char *text)
{
    uint64_t value = UINT64_C(14695981039346656037);

    for (; *text != '\0'; text++)
        value = (value ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return (size_t)(value ^ value >> 32);
}

static struct shape_row *row_of(struct shape *shape, const char *domain)
{
    size_t mask = slots_of(shape) - 1, slot = hash(domain) & mask;

    for (; shape->slots[slot] != 0; slot = (slot + 1) & mask) {
        struct shape_row *row = &shape->rows[shape->slots[slot] - 1];
        if (strcmp(row->domain, domain) == 0)
            return row;
    }
    if (shape->count == shape->maximum)
        return &shape->others;
    struct shape_row *row = &shape->rows[shape->count];
    row->domain = strdup(domain);
    if (row->domain == NULL)
        return &shape->others;
    shape->slots[slot] = (uint32_t)++shape->count;
    return row;
}

void shape_add(struct shape *shape, const char *recipient, int64_t age_microseconds)
{
    char domain[SHAPE_NAME_MAX + 1];
    int column = column_of(age_microseconds);
    struct shape_row *rows[2] = {&shape->total};

    take_domain(domain, recipient);
    rows[1] = row_of(shape, domain);
    for (int i = 0; i < 2; i++) {
        rows[i]->total++;
        rows[i]->ages[column]++;
    }
}

static int compare_cb(const void *a, const void *b)
{
    const struct shape_row *first = a, *second = b;

    if (first->total != second->total)
        return first->total > second->total ? -1 : 1;
    return strcmp(first->domain, second->domain);
}

void shape_sort(struct shape *shape)
{
    qsort(shape->rows, shape->count, sizeof *shape->rows, compare_cb);
}

void shape_sum(struct shape_row *to, const struct shape_row *from)
{
    to->total += from->total;
    for (int i = 0; i < SHAPE_AGES; i++)
        to->ages[i] += from->ages[i];
}
