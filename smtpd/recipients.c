/* The list of recipients: see the header. */
#include "smtpd/recipients.h"

#include "common/ascii.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a. A client that makes collisions slows down nobody but its own transaction, and that to
 * SMTPD_MAX_RECIPIENTS comparisons a command. */
static uint32_t hash_path(const struct path *path)
{
    size_t local = path->local.length;
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < path->mailbox.length; i++) {
        char c = path->mailbox.start[i];
        hash = (hash ^ (unsigned char)(i < local ? c : ascii_lower(c))) * 16777619u;
    }
    return hash;
}

static bool same_mailbox(const char *mailbox, const struct path *path)
{
    struct slice held = slice_of(mailbox);
    size_t local = path->local.length;

    return held.length == path->mailbox.length && memcmp(mailbox, path->local.start, local) == 0 &&
           slice_equals_nocase(slice_from(held, local), slice_from(path->mailbox, local));
}

/* The slot that holds the path, or the free one where it belongs. Half of the slots at least are
 * free, so there is one. */
static uint32_t *find_slot(struct recipients *recipients, const struct path *path)
{
    size_t mask = recipients->slot_count - 1;

    for (size_t at = hash_path(path) & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &recipients->slots[at];
        if (*slot == 0 || same_mailbox(recipients->mailboxes[*slot - 1], path))
            return slot;
    }
}

/* The mailbox was a path when it came: its local part ends at the last `@`, for a domain has none.
 */
static struct path path_of(const char *mailbox)
{
    const char *at = strrchr(mailbox, '@');
    struct path path = {.mailbox = slice_of(mailbox)};

    path.local = at != NULL ? slice_make(mailbox, (size_t)(at - mailbox)) : path.mailbox;
    return path;
}

static bool grow(struct recipients *recipients)
{
    size_t capacity = recipients->capacity > 0 ? recipients->capacity * 2 : 4;
    char **mailboxes = realloc(recipients->mailboxes, capacity * sizeof *mailboxes);
    uint32_t *slots;

    if (mailboxes == NULL)
        return false;
    recipients->mailboxes = mailboxes;
    slots = calloc(capacity * 2, sizeof *slots);
    if (slots == NULL)
        return false;
    free(recipients->slots);
    recipients->slots = slots;
    recipients->slot_count = capacity * 2;
    recipients->capacity = capacity;
    for (size_t i = 0; i < recipients->count; i++) {
        struct path path = path_of(recipients->mailboxes[i]);
        *find_slot(recipients, &path) = (uint32_t)(i + 1);
    }
    return true;
}

bool recipients_add(struct recipients *recipients, const struct path *path)
{
    uint32_t *slot;
    char *copy;

    if (recipients->count == recipients->capacity && !grow(recipients))
        return false;
    slot = find_slot(recipients, path);
    if (*slot != 0)
        return true;
    copy = slice_copy(path->mailbox);
    if (copy == NULL)
        return false;
    recipients->mailboxes[recipients->count++] = copy;
    *slot = (uint32_t)recipients->count;
    return true;
}

bool recipients_contain(struct recipients *recipients, const struct path *path)
{
    return recipients->count > 0 && *find_slot(recipients, path) != 0;
}

void recipients_free(struct recipients *recipients)
{
    for (size_t i = 0; i < recipients->count; i++)
        free(recipients->mailboxes[i]);
    free(recipients->mailboxes);
    free(recipients->slots);
    *recipients = (struct recipients){0};
}
