/* Names on their way to the loader: see the header. */
#include "queue/intake.h"

#include <stdlib.h>
#include <string.h>

/* The set is an open-addressed table, never more than half full, of ids as 16 bytes; an id of
 * zeros, which is no UUIDv7, marks a free place. */
static const struct known free_place;

static void id_pack(uint8_t packed[16], const char *id)
{
    for (int i = 0; i < 16; i++) {
        if (*id == '-')
            id++;
        unsigned byte = 0;
        for (int digit = 0; digit < 2; digit++, id++)
            byte = byte << 4 | (unsigned)(*id <= '9' ? *id - '0' : *id - 'a' + 10);
        packed[i] = (uint8_t)byte;
    }
}

/* The second half of a UUIDv7 is random, which is all that a hash could make of it. */
static uint64_t home_of(const struct intake *intake, const uint8_t packed[16])
{
    uint64_t bits;
    memcpy(&bits, packed + 8, sizeof bits);
    return (bits ^ bits >> 32) & intake->mask;
}

static bool is_free(const struct intake *intake, uint64_t place)
{
    return memcmp(intake->known[place].id, free_place.id, 16) == 0;
}

/* The place of the id, or the free one where it would go. */
static uint64_t place_of(const struct intake *intake, const uint8_t packed[16])
{
    uint64_t place = home_of(intake, packed);
    while (!is_free(intake, place) && memcmp(intake->known[place].id, packed, 16) != 0)
        place = (place + 1) & intake->mask;
    return place;
}

/* NULL if the id is not known. */
static struct known *known_of(const struct intake *intake, const char *id)
{
    uint8_t packed[16];
    id_pack(packed, id);
    uint64_t place = place_of(intake, packed);
    return is_free(intake, place) ? NULL : &intake->known[place];
}

/* Closes the gap: an id behind it that could not be at home there moves up, and leaves the next. */
static void place_clear(struct intake *intake, uint64_t gap)
{
    for (uint64_t next = (gap + 1) & intake->mask; !is_free(intake, next);
         next = (next + 1) & intake->mask) {
        uint64_t home = home_of(intake, intake->known[next].id);
        if (((next - home) & intake->mask) < ((next - gap) & intake->mask))
            continue;
        intake->known[gap] = intake->known[next];
        gap = next;
    }
    intake->known[gap] = free_place;
}

bool intake_init(struct intake *intake, size_t in_hand, size_t burst)
{
    *intake = (struct intake){.burst = burst, .leaving_capacity = in_hand};
    uint64_t places = 2;
    while (places < 2 * (INTAKE_QUEUE + 2 * (uint64_t)in_hand))
        places *= 2;
    intake->mask = places - 1;
    intake->queue = calloc(INTAKE_QUEUE, sizeof *intake->queue);
    intake->known = calloc(places, sizeof *intake->known);
    intake->leaving = calloc(in_hand, sizeof *intake->leaving);
    if (intake->queue && intake->known && intake->leaving)
        return true;
    intake_free(intake);
    return false;
}

void intake_free(struct intake *intake)
{
    free(intake->queue);
    free(intake->known);
    free(intake->leaving);
    *intake = (struct intake){0};
}

/* A hint of what is known is counted: see let_go. */
static bool hear(struct intake *intake, const char *id)
{
    struct known *known = known_of(intake, id);
    if (!known)
        return intake_add(intake, id, QUEUE_NEW);
    known->heard += known->heard < UINT8_MAX;
    return true;
}

void intake_hint(struct intake *intake, const char *name)
{
    if (++intake->hints >= intake->burst)
        intake->scan_wanted = true;
    if (name && name[0] == '.')
        return;
    if (!name || !id_valid(name) || !hear(intake, name))
        intake->scan_wanted = true;
}

bool intake_add(struct intake *intake, const char *id, enum queue_directory directory)
{
    uint8_t packed[16];
    id_pack(packed, id);
    uint64_t place = place_of(intake, packed);
    if (!is_free(intake, place))
        return true;
    if (intake->count == INTAKE_QUEUE)
        return false;
    memcpy(intake->known[place].id, packed, 16);
    intake->known_count++;
    struct candidate *candidate = &intake->queue[(intake->head + intake->count++) % INTAKE_QUEUE];
    memcpy(candidate->id, id, ID_SIZE);
    candidate->directory = directory;
    return true;
}

size_t intake_room(const struct intake *intake)
{
    return INTAKE_QUEUE - intake->count;
}

size_t intake_take(struct intake *intake, struct candidate *candidates, size_t max)
{
    size_t count = 0;
    for (; count < max && intake->count > 0; count++, intake->count--) {
        candidates[count] = intake->queue[intake->head];
        intake->head = (intake->head + 1) % INTAKE_QUEUE;
        /* What was heard until now is answered by the look that follows, if it is at new/. */
        if (candidates[count].directory == QUEUE_NEW)
            known_of(intake, candidates[count].id)->heard = 0;
    }
    return count;
}

void intake_return(struct intake *intake, const struct candidate *candidates, size_t count)
{
    while (count-- > 0) {
        if (intake->count == INTAKE_QUEUE) {
            intake_forget(intake, candidates[count].id);
            intake->scan_wanted = true;
            continue;
        }
        intake->head = (intake->head + INTAKE_QUEUE - 1) % INTAKE_QUEUE;
        intake->queue[intake->head] = candidates[count];
        intake->count++;
    }
}

/* Of the hints that came while it was in hand, so many were its own doing. A file that was moved into
 * new/ meanwhile would otherwise wait for a full look; an event too many is a look in vain. */
static void let_go(struct intake *intake, const char *id, uint8_t own)
{
    struct known *known = known_of(intake, id);
    if (!known)
        return;
    bool again = known->heard > own;
    place_clear(intake, (uint64_t)(known - intake->known));
    intake->known_count--;
    if (again && !intake_add(intake, id, QUEUE_NEW))
        intake->scan_wanted = true;
}

void intake_forget(struct intake *intake, const char *id)
{
    let_go(intake, id, 0);
}

void intake_leave(struct intake *intake, const char *id)
{
    if (intake->leaving_count == intake->leaving_capacity)
        intake_left(intake);
    memcpy(intake->leaving[intake->leaving_count++].id, id, ID_SIZE);
}

void intake_left(struct intake *intake)
{
    for (size_t i = 0; i < intake->leaving_count; i++)
        let_go(intake, intake->leaving[i].id, 1);
    intake->leaving_count = 0;
}

void intake_want_scan(struct intake *intake)
{
    intake->scan_wanted = true;
}

bool intake_scan_due(const struct intake *intake)
{
    return intake->scan_wanted && !intake->scanning;
}

void intake_scan_begin(struct intake *intake)
{
    intake_left(intake);
    intake->scan_wanted = false;
    intake->scanning = true;
    intake->hints = 0;
}

void intake_scan_end(struct intake *intake)
{
    intake->scanning = false;
}
