/* The wheel of deadlines: see the header. */
#include "smtpd/wheel.h"

void wheel_init(struct wheel *wheel)
{
    *wheel = (struct wheel){.now = 1};
}

static void unlink_entry(struct wheel *wheel, struct wheel_entry *entry)
{
    if (entry->previous == NULL)
        return;
    *entry->previous = entry->next;
    if (entry->next != NULL)
        entry->next->previous = entry->previous;
    entry->next = NULL;
    entry->previous = NULL;
    wheel->count--;
}

static void push(struct wheel *wheel, struct wheel_entry **list, struct wheel_entry *entry)
{
    entry->next = *list;
    if (entry->next != NULL)
        entry->next->previous = &entry->next;
    entry->previous = list;
    *list = entry;
    wheel->count++;
}

/* A deadline beyond the wheel's reach waits in the furthest list and is placed again from there. */
static void place(struct wheel *wheel, struct wheel_entry *entry)
{
    uint32_t distance = entry->deadline - wheel->now;

    entry->listed = wheel->now + (distance < WHEEL_TICKS ? distance : WHEEL_TICKS - 1);
    push(wheel, &wheel->lists[entry->listed % WHEEL_TICKS], entry);
}

void wheel_set(struct wheel *wheel, struct wheel_entry *entry, uint32_t deadline)
{
    if (deadline <= wheel->now)
        deadline = wheel->now + 1;
    entry->deadline = deadline;
    if (entry->previous != NULL && entry->listed <= deadline)
        return; /* it is placed again when its list comes up */
    unlink_entry(wheel, entry);
    place(wheel, entry);
}

void wheel_remove(struct wheel *wheel, struct wheel_entry *entry)
{
    unlink_entry(wheel, entry);
    entry->deadline = WHEEL_NEVER;
}

static void turn_list(struct wheel *wheel, void (*due)(struct wheel_entry *entry))
{
    struct wheel_entry **list = &wheel->lists[wheel->now % WHEEL_TICKS];

    /* Whatever is placed during the turn goes to another list: no deadline is now or before. */
    while (*list != NULL) {
        struct wheel_entry *entry = *list;
        unlink_entry(wheel, entry);
        if (entry->deadline > wheel->now) {
            place(wheel, entry);
            continue;
        }
        entry->deadline = WHEEL_NEVER;
        due(entry);
    }
}

void wheel_turn(struct wheel *wheel, uint32_t now, void (*due)(struct wheel_entry *entry))
{
    if (wheel->count == 0 && wheel->now < now)
        wheel->now = now;
    while (wheel->now < now) {
        wheel->now++;
        turn_list(wheel, due);
    }
}
