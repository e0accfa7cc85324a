/* A batch of messages as columns: see the header. */
#include "storer/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Everything but the messages themselves is short; this only keeps a mistake from being unbounded.
 */
#define COLUMN_MAX (UINT64_C(512) * 1024 * 1024)

/* From the beginning of a message's data to its commit: SMTPD_MAX_TIME is an hour unless told
 * otherwise. */
#define WRITTEN_WITHIN (2 * BATCH_HOUR)

/* What an array may keep for the next batch, apart from the messages: ordinary batches never grow
 * it. */
enum { COLUMN_KEEP = 1024 * 1024 };

static const struct {
    size_t offset;
    enum array_type type;
} columns[] = {
    {offsetof(struct batch, ids), ARRAY_UUID},
    {offsetof(struct batch, received), ARRAY_TIMESTAMPTZ},
    {offsetof(struct batch, senders), ARRAY_TEXT},
    {offsetof(struct batch, clients), ARRAY_TEXT},
    {offsetof(struct batch, helos), ARRAY_TEXT},
    {offsetof(struct batch, protocols), ARRAY_TEXT},
    {offsetof(struct batch, sizes), ARRAY_BIGINT},
    {offsetof(struct batch, message_ids), ARRAY_UUID},
    {offsetof(struct batch, message_received), ARRAY_TIMESTAMPTZ},
    {offsetof(struct batch, positions), ARRAY_INTEGER},
    {offsetof(struct batch, recipients), ARRAY_TEXT},
};

enum { COLUMNS = sizeof columns / sizeof columns[0] };

static struct array *column(struct batch *batch, size_t i)
{
    return (struct array *)((char *)batch + columns[i].offset);
}

void batch_init(struct batch *batch)
{
    *batch = (struct batch){0};
    for (size_t i = 0; i < COLUMNS; i++)
        array_init(column(batch, i), columns[i].type, COLUMN_MAX);
    array_init(&batch->raws, ARRAY_BYTEA, INT32_MAX);
}

/* Takes the columns back to the first `count` messages. */
static void truncate_to(struct batch *batch, size_t count)
{
    size_t deliveries = count < batch->count ? batch->messages[count].delivery : SIZE_MAX;
    array_truncate(&batch->ids, count);
    array_truncate(&batch->received, count);
    array_truncate(&batch->senders, count);
    array_truncate(&batch->clients, count);
    array_truncate(&batch->helos, count);
    array_truncate(&batch->protocols, count);
    array_truncate(&batch->sizes, count);
    array_truncate(&batch->raws, count);
    array_truncate(&batch->message_ids, deliveries);
    array_truncate(&batch->message_received, deliveries);
    array_truncate(&batch->positions, deliveries);
    array_truncate(&batch->recipients, deliveries);
    for (size_t i = count; i < batch->count; i++)
        free(batch->messages[i].reason);
    batch->count = count < batch->count ? count : batch->count;
}

void batch_clear(struct batch *batch, size_t limit)
{
    truncate_to(batch, 0);
    batch->bytes = 0;
    /* The buffers grow by doubling, so one that held just the limit may be twice as large. */
    array_trim(&batch->raws, 2 * limit + COLUMN_KEEP);
    for (size_t i = 0; i < COLUMNS; i++)
        array_trim(column(batch, i), COLUMN_KEEP);
}

void batch_free(struct batch *batch)
{
    truncate_to(batch, 0);
    for (size_t i = 0; i < COLUMNS; i++)
        array_free(column(batch, i));
    array_free(&batch->raws);
    free(batch->messages);
    *batch = (struct batch){0};
}

bool batch_same_recipient(const char *one, const char *other)
{
    const char *at = strrchr(one, '@');
    if (!at)
        return strcmp(one, other) == 0;
    size_t local = (size_t)(at - one);
    return strncmp(one, other, local) == 0 && strcasecmp(at, other + local) == 0 &&
           strrchr(other, '@') == other + local;
}

/* Rows of recipients, to be sorted so that the same ones stand together and in their order. */
struct recipient {
    const char *address;
    size_t position;
};

static int recipient_compare(const void *left, const void *right)
{
    const struct recipient *one = left, *other = right;
    /* Sorting without case alone would part a@x and a@X by A@x between them: the local part, with
     * case, counts first. */
    const char *at_one = strrchr(one->address, '@'), *at_other = strrchr(other->address, '@');
    size_t local_one = at_one ? (size_t)(at_one - one->address) : strlen(one->address);
    size_t local_other = at_other ? (size_t)(at_other - other->address) : strlen(other->address);
    size_t shorter = local_one < local_other ? local_one : local_other;
    int order = memcmp(one->address, other->address, shorter);
    if (order == 0)
        order = (local_one > local_other) - (local_one < local_other);
    if (order == 0)
        order = strcasecmp(one->address + local_one, other->address + local_other);
    if (order == 0)
        order = (one->position > other->position) - (one->position < other->position);
    return order;
}

/* Marks with `repeated` every recipient that an earlier one equals. smtpd writes none; a file from
 * another hand may, and a hundred thousand of them must not take a hundred thousand squared steps.
 */
static bool recipients_find_repeated(const struct envelope *envelope, bool *repeated)
{
    size_t count = envelope->recipients_count;
    struct recipient *sorted = reallocarray(NULL, count, sizeof *sorted);
    if (!sorted)
        return false;
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct recipient){envelope->recipients[i], i};
    qsort(sorted, count, sizeof *sorted, recipient_compare);
    for (size_t i = 1; i < count; i++)
        repeated[sorted[i].position] =
            batch_same_recipient(sorted[i - 1].address, sorted[i].address);
    free(sorted);
    return true;
}

/* A delivery's position is the recipient's place in the envelope, so that it does not depend on
 * what else is there. */
static bool add_deliveries(struct batch *batch, const struct envelope *envelope)
{
    bool *repeated = calloc(envelope->recipients_count + 1, sizeof *repeated);
    bool good = repeated &&
                (envelope->recipients_count < 2 || recipients_find_repeated(envelope, repeated));
    for (size_t i = 0; good && i < envelope->recipients_count; i++)
        if (!repeated[i])
            good = array_add_uuid(&batch->message_ids, envelope->id) &&
                   array_add_time(&batch->message_received, envelope->received) &&
                   array_add_integer(&batch->positions, (int32_t)i + 1) &&
                   array_add_text(&batch->recipients, envelope->recipients[i]);
    free(repeated);
    return good;
}

static bool make_room(struct batch *batch)
{
    if (batch->count < batch->capacity)
        return true;
    size_t capacity = batch->capacity > 0 ? batch->capacity * 2 : 64;
    struct message *messages = reallocarray(batch->messages, capacity, sizeof *messages);
    if (!messages)
        return false;
    batch->messages = messages;
    batch->capacity = capacity;
    return true;
}

/* The fixed part of a delivery's row: its elements in four arrays, each with a length in front. */
enum { DELIVERY_COST = 4 * 4 + 16 + 8 + 4 };

size_t batch_cost(const struct envelope *envelope)
{
    size_t cost = (size_t)envelope->size;
    for (size_t i = 0; i < envelope->recipients_count; i++)
        cost += DELIVERY_COST + strlen(envelope->recipients[i]);
    return cost;
}

char *batch_add(struct batch *batch, const struct envelope *envelope,
                enum queue_directory directory, int64_t modified)
{
    if (!make_room(batch))
        return NULL;
    struct message *message = &batch->messages[batch->count++];
    *message = (struct message){.directory = directory,
                                .received = envelope->received,
                                .modified = modified,
                                .size = envelope->size,
                                .cost = batch_cost(envelope),
                                .delivery = batch->message_ids.count};
    snprintf(message->id, sizeof message->id, "%s", envelope->id);

    char *room = NULL;
    bool good = array_add_uuid(&batch->ids, envelope->id) &&
                array_add_time(&batch->received, envelope->received) &&
                array_add_text(&batch->senders, envelope->from) &&
                array_add_text(&batch->clients, envelope->client_address) &&
                array_add_text(&batch->helos, envelope->helo) &&
                array_add_text(&batch->protocols, envelope->protocol) &&
                array_add_bigint(&batch->sizes, (int64_t)envelope->size) &&
                add_deliveries(batch, envelope);
    if (good)
        room = array_add_room(&batch->raws, (size_t)envelope->size);
    message->deliveries = batch->message_ids.count - message->delivery;
    if (room)
        batch->bytes += message->cost;
    else
        truncate_to(batch, batch->count - 1);
    return room;
}

void batch_remove_last(struct batch *batch)
{
    batch->bytes -= batch->messages[batch->count - 1].cost;
    truncate_to(batch, batch->count - 1);
}

size_t batch_deliveries_first(const struct batch *batch, size_t first)
{
    return batch->messages[first].delivery;
}

size_t batch_deliveries_count(const struct batch *batch, size_t first, size_t count)
{
    const struct message *last = &batch->messages[first + count - 1];
    return last->delivery + last->deliveries - batch_deliveries_first(batch, first);
}

void batch_decide(struct message *message, enum fate fate, const char *reason)
{
    free(message->reason);
    message->fate = fate;
    message->reason = reason ? strdup(reason) : NULL;
}

/* Whether the file is younger than its message can have made it. It is written from the moment that
 * the data begin to come in until they are committed, and while a message waits for the database
 * the bound may fall in between: it has expired like any other, and set aside it would lie on the
 * disk for as long again as mail is kept, and be said to come from a wrong clock. Where mail is kept
 * for less than that takes, a difference as long as it is kept is none of writing. */
static bool is_misdated(const struct message *message, int64_t oldest, int64_t newest)
{
    int64_t retention = newest - 24 * BATCH_HOUR - oldest;
    int64_t within = retention < WRITTEN_WITHIN ? retention : WRITTEN_WITHIN;
    return message->modified > oldest && message->modified - message->received > within;
}

void batch_committed(struct batch *batch, size_t first, size_t count, int64_t oldest,
                     int64_t newest)
{
    for (size_t i = first; i < first + count; i++) {
        struct message *message = &batch->messages[i];
        if (message->received > newest)
            batch_decide(message, FATE_REFUSED, "received more than a day in the future");
        else if (message->received > oldest)
            batch_decide(message, FATE_STORED, NULL);
        else if (is_misdated(message, oldest, newest) && message->directory == QUEUE_NEW)
            /* Nobody keeps a file for a week and touches it: the clock was wrong. (In cur/, it was
             * stored before and has simply come of age.) */
            batch_decide(message, FATE_REFUSED,
                         "received longer ago than mail is kept, but the file is younger");
        else
            batch_decide(message, FATE_EXPIRED, NULL);
    }
}

static int time_compare(const void *left, const void *right)
{
    int64_t one = *(const int64_t *)left, other = *(const int64_t *)right;
    return (one > other) - (one < other);
}

bool batch_days(const struct batch *batch, size_t first, size_t count, struct array *days)
{
    int64_t *times = reallocarray(NULL, count, sizeof *times);
    if (!times)
        return false;
    for (size_t i = 0; i < count; i++)
        times[i] = batch->messages[first + i].received;
    qsort(times, count, sizeof *times, time_compare);

    bool good = true;
    char day[ENVELOPE_TIME_SIZE], last[ENVELOPE_TIME_SIZE] = "";
    for (size_t i = 0; good && i < count; i++) {
        envelope_format_time(day, times[i]);
        day[strlen("2026-11-21")] = '\0';
        if (strcmp(day, last) != 0)
            good = array_add_text(days, day);
        memcpy(last, day, sizeof last);
    }
    free(times);
    return good;
}
