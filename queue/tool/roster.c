/* The oldest first in bounded memory: see the header.
 *
 * A look keeps the `maximum` smallest keys behind the last one handed out, in a heap with the
 * largest on top, and then sorts the heap in place: the C library's qsort would take as much memory
 * once more. */
#include "queue/tool/roster.h"

#include "common/ascii.h"
#include "queue/id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROSTER_FIRST = 1024, ROSTER_NUMBER_MAX = 65535 };

unsigned roster_bit(enum queue queue, enum queue_directory directory)
{
    return 1U << ((int)queue * QUEUE_DIRECTORY_COUNT + (int)directory);
}

/* The digits of an id, two of which are a byte. */
static void pack_id(unsigned char bytes[static 16], const char *id)
{
    size_t digits = 0;

    for (int i = 0; i < ID_LENGTH; i++) {
        if (id[i] == '-')
            continue;
        unsigned value = (unsigned)(id[i] <= '9' ? id[i] - '0' : id[i] - 'a' + 10);
        bytes[digits / 2] =
            (unsigned char)(digits % 2 == 0 ? value << 4 : bytes[digits / 2] | value);
        digits++;
    }
}

/* `.1` and so on, as it is written; 0 where there is none, -1 for anything else. */
static long number_behind(const char *text)
{
    long number = 0;

    if (text[0] == '\0')
        return 0;
    if (text[0] != '.' || text[1] < '1' || text[1] > '9')
        return -1;
    for (text++; *text != '\0'; text++) {
        if (!ascii_is_digit(*text))
            return -1;
        number = number * 10 + (*text - '0');
        if (number > ROSTER_NUMBER_MAX)
            return -1;
    }
    return number;
}

bool roster_pack(struct roster_key *key, int place, const char *name)
{
    char id[ID_SIZE];
    long number;

    if (strnlen(name, ID_SIZE) < ID_LENGTH)
        return false;
    memcpy(id, name, ID_LENGTH);
    id[ID_LENGTH] = '\0';
    number = id_valid(id) ? number_behind(name + ID_LENGTH) : -1;
    if (number < 0)
        return false;
    pack_id(key->bytes, id);
    key->bytes[16] = (unsigned char)(number >> 8);
    key->bytes[17] = (unsigned char)number;
    key->bytes[18] = (unsigned char)place;
    return true;
}

int roster_unpack(const struct roster_key *key, char name[static NAME_MAX + 1])
{
    unsigned number = (unsigned)key->bytes[16] << 8 | key->bytes[17];
    char *at = name;

    for (int i = 0; i < 16; i++)
        at += sprintf(at, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", key->bytes[i]);
    if (number > 0)
        sprintf(at, ".%u", number);
    return key->bytes[18];
}

static bool is_before(const struct roster_key *a, const struct roster_key *b)
{
    return memcmp(a->bytes, b->bytes, ROSTER_KEY_SIZE) < 0;
}

static void swap(struct roster_key *a, struct roster_key *b)
{
    struct roster_key other = *a;

    *a = *b;
    *b = other;
}

static void sift_up(struct roster_key *keys, size_t at)
{
    for (; at > 0 && is_before(&keys[(at - 1) / 2], &keys[at]); at = (at - 1) / 2)
        swap(&keys[at], &keys[(at - 1) / 2]);
}

static void sift_down(struct roster_key *keys, size_t count, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && is_before(&keys[child], &keys[child + 1]))
            child++;
        if (!is_before(&keys[at], &keys[child]))
            return;
        swap(&keys[at], &keys[child]);
        at = child;
    }
}

static bool grow(struct roster *roster)
{
    size_t capacity = roster->capacity > 0 ? roster->capacity * 2 : ROSTER_FIRST;
    struct roster_key *keys;

    if (capacity > roster->maximum)
        capacity = roster->maximum;
    keys = reallocarray(roster->keys, capacity, sizeof *keys);
    if (keys == NULL) {
        roster->error = ENOMEM;
        return false;
    }
    roster->keys = keys;
    roster->capacity = capacity;
    return true;
}

static bool take(struct roster *roster, const struct roster_key *key)
{
    if (roster->begun && !is_before(&roster->last, key))
        return true;
    if (roster->count < roster->maximum) {
        if (roster->count == roster->capacity && !grow(roster))
            return false;
        roster->keys[roster->count] = *key;
        sift_up(roster->keys, roster->count++);
        return true;
    }
    roster->more = true;
    if (is_before(key, &roster->keys[0])) {
        roster->keys[0] = *key;
        sift_down(roster->keys, roster->count, 0);
    }
    return true;
}

static bool open_scan(struct roster *roster, int place)
{
    roster->error =
        scan_open(&roster->scan, roster->spool, (enum queue)(place / QUEUE_DIRECTORY_COUNT),
                  (enum queue_directory)(place % QUEUE_DIRECTORY_COUNT));
    return roster->error == 0;
}

static void look_through(struct roster *roster, int place)
{
    struct roster_key key;
    const char *name;
    int more = 0;

    if (!open_scan(roster, place))
        return;
    while (roster->error == 0 && (more = scan_next(&roster->scan, &name)) > 0) {
        if (roster_pack(&key, place, name))
            take(roster, &key);
    }
    if (more < 0)
        roster->error = errno;
    scan_close(&roster->scan);
}

static void look(struct roster *roster)
{
    roster->count = roster->next = 0;
    roster->more = false;
    for (int place = 0; roster->error == 0 && place < PLACE_COUNT; place++) {
        if ((roster->places & 1U << place) != 0)
            look_through(roster, place);
    }
    for (size_t count = roster->count; count > 1; count--) {
        swap(&roster->keys[0], &roster->keys[count - 1]);
        sift_down(roster->keys, count - 1, 0);
    }
}

static struct place place_of(int place)
{
    return (struct place){(enum queue)(place / QUEUE_DIRECTORY_COUNT),
                          (enum queue_directory)(place % QUEUE_DIRECTORY_COUNT)};
}

/* What is named as a reason, and has a reason of its own, was set aside under that name. */
static bool has_reason(const struct roster *roster, const char *name)
{
    struct place place = place_of(roster->place);
    char reason[NAME_MAX + 1];

    return snprintf(reason, sizeof reason, "%s.reason", name) <= NAME_MAX &&
           faccessat(roster->spool->directories[place.queue][place.directory], reason, F_OK,
                     AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_stranger(const struct roster *roster, const char *name)
{
    struct roster_key key;
    size_t message;

    if (roster_pack(&key, 0, name) || place_is_notification(name, &message))
        return false;
    return !place_is_reason(name, &message) || has_reason(roster, name);
}

static bool next_stranger(struct roster *roster, struct place *place,
                          char name[static NAME_MAX + 1])
{
    for (; roster->place < PLACE_COUNT; roster->place++) {
        const char *found;
        int more = 0;
        if ((roster->places & 1U << roster->place) == 0)
            continue;
        if (!roster->scanning && !open_scan(roster, roster->place))
            return false;
        roster->scanning = true;
        while ((more = scan_next(&roster->scan, &found)) > 0) {
            if (!is_stranger(roster, found))
                continue;
            snprintf(name, NAME_MAX + 1, "%s", found);
            *place = place_of(roster->place);
            return true;
        }
        if (more < 0)
            roster->error = errno;
        scan_close(&roster->scan);
        roster->scanning = false;
        if (roster->error != 0)
            return false;
    }
    return false;
}

void roster_begin(struct roster *roster, const struct tool *tool, unsigned places)
{
    *roster = (struct roster){.spool = &tool->spool, .maximum = ROSTER_MAX, .more = true};
    for (int place = 0; place < PLACE_COUNT; place++) {
        if ((tool->options.queues & 1U << place / QUEUE_DIRECTORY_COUNT) != 0)
            roster->places |= places & 1U << place;
    }
}

bool roster_next(struct roster *roster, struct place *place, char name[static NAME_MAX + 1])
{
    if (!roster->ids_done && roster->next == roster->count && roster->more)
        look(roster);
    if (roster->error != 0)
        return false;
    if (roster->next < roster->count) {
        roster->last = roster->keys[roster->next++];
        roster->begun = true;
        *place = place_of(roster_unpack(&roster->last, name));
        return true;
    }
    /* Nothing of the keys is needed any more, and what is done meanwhile may need memory. */
    roster->ids_done = true;
    free(roster->keys);
    roster->keys = NULL;
    roster->count = roster->next = 0;
    return next_stranger(roster, place, name);
}

void roster_end(struct roster *roster)
{
    if (roster->scanning)
        scan_close(&roster->scan);
    roster->scanning = false;
    free(roster->keys);
    roster->keys = NULL;
}
