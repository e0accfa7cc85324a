/* Rows for COPY: see the header. The manual, "COPY", section "Binary Format": a head, for each row the
 * number of its columns and each of them as its length and its bytes, and a number of -1. */
#include "storer/copy.h"

#include "common/ascii.h"
#include "common/buffer.h"

#include <arpa/inet.h>
#include <string.h>

enum {
    MESSAGE_COLUMNS = 8,
    DELIVERY_COLUMNS = 6,
    /* A row but for the message itself: four texts from envelope lines. */
    ROW_MAX = 16 * 1024 * 1024,
    /* Deliveries go in pieces of about this. */
    PIECE = 32 * 1024,
    /* mailbox_name (sql/addresses.sql) cuts there. */
    USERNAME_MAX = 512,
};

/* inet.h of PostgreSQL: the families as inet_recv has them, whatever the system's are. */
enum { INET_FAMILY = 2, INET6_FAMILY = 3 };

static const char head[] = "PGCOPY\n\377\r\n\0" /* the signature, */
                           "\0\0\0\0"           /* flags, */
                           "\0\0\0\0";          /* and an extension of no length */
enum { HEAD_LENGTH = sizeof head - 1 };
static const char tail[] = "\377\377";
enum { TAIL_LENGTH = sizeof tail - 1 };

static bool add_number(struct buffer *row, uint16_t number)
{
    const char bytes[] = {(char)(number >> 8), (char)number};
    return buffer_append(row, bytes, sizeof bytes);
}

static bool add_element(struct buffer *row, const struct array *column, size_t index)
{
    struct slice element = array_element(column, index);
    return buffer_append(row, element.start, element.length);
}

/* Two columns. */
static bool add_nulls(struct buffer *row)
{
    return buffer_append(row, "\377\377\377\377\377\377\377\377", 8);
}

/* The bytes of an element. */
static struct slice text_of(const struct array *column, size_t index)
{
    return slice_from(array_element(column, index), 4);
}

/* An address as inet_recv reads it, behind its length. Returns how long, or 0 where it is none. */
static size_t inet_of(struct slice text, unsigned char out[static 24])
{
    char address[INET6_ADDRSTRLEN];
    if (text.length >= sizeof address)
        return 0;
    memcpy(address, text.start, text.length);
    address[text.length] = '\0';
    if (strlen(address) != text.length)
        return 0;
    bool six = strchr(address, ':') != NULL;
    unsigned char octets = six ? 16 : 4;
    memcpy(out,
           (const unsigned char[]){0, 0, 0, 4 + octets, six ? INET6_FAMILY : INET_FAMILY,
                                   octets * 8, 0, octets},
           8);
    return inet_pton(six ? AF_INET6 : AF_INET, address, out + 8) == 1 ? (size_t)8 + octets : 0;
}

bool copy_fits(const struct batch *batch, const struct plan_segment *segment, int64_t oldest,
               int64_t newest)
{
    unsigned char inet[24];
    if (segment->count < COPY_LEAST)
        return false;
    for (size_t i = segment->first; i < segment->first + segment->count; i++) {
        const struct message *message = &batch->messages[i];
        if (message->directory != QUEUE_NEW || message->received - BATCH_HOUR <= oldest ||
            message->received > newest || inet_of(text_of(&batch->clients, i), inet) == 0)
            return false;
    }
    return true;
}

static bool message_row(const struct batch *batch, size_t i, struct buffer *row)
{
    unsigned char inet[24];
    size_t length = inet_of(text_of(&batch->clients, i), inet);
    buffer_clear(row);
    return add_number(row, MESSAGE_COLUMNS) && add_element(row, &batch->ids, i) &&
           add_element(row, &batch->received, i) && add_element(row, &batch->senders, i) &&
           buffer_append(row, inet, length) && add_element(row, &batch->helos, i) &&
           add_element(row, &batch->protocols, i) && add_element(row, &batch->sizes, i);
}

bool copy_messages(const struct batch *batch, const struct plan_segment *segment, copy_put *put,
                   void *to)
{
    struct buffer row;
    bool good = true;
    buffer_init(&row, ROW_MAX);
    put(to, head, HEAD_LENGTH);
    for (size_t i = segment->first; good && i < segment->first + segment->count; i++) {
        good = message_row(batch, i, &row);
        if (good) {
            struct slice raw = array_element(&batch->raws, i);
            put(to, row.data, row.length);
            put(to, raw.start, raw.length);
        }
    }
    put(to, tail, TAIL_LENGTH);
    buffer_free(&row);
    return good;
}

/* Where the last @ of a recipient is whose parts need no more than lower case, or its end where there
 * is none; SIZE_MAX for any other. */
static size_t plain_at(struct slice address)
{
    size_t at = address.length;
    for (size_t i = 0; i < address.length; i++) {
        unsigned char byte = (unsigned char)address.start[i];
        if (byte <= ' ' || byte >= 0x7f || byte == '"')
            return SIZE_MAX;
        if (byte == '@')
            at = i;
    }
    return at <= USERNAME_MAX ? at : SIZE_MAX;
}

static bool add_lower(struct buffer *row, struct slice text)
{
    const unsigned char length[] = {0, 0, (unsigned char)(text.length >> 8),
                                    (unsigned char)text.length};
    if (!buffer_append(row, length, sizeof length) || !buffer_reserve(row, text.length))
        return false;
    for (size_t i = 0; i < text.length; i++)
        row->data[row->length++] = ascii_lower(text.start[i]);
    return true;
}

/* username and domain. */
static bool add_parts(struct buffer *row, struct slice address)
{
    size_t at = plain_at(address);
    if (at == SIZE_MAX || address.length > UINT16_MAX)
        return add_nulls(row);
    size_t behind = at < address.length ? at + 1 : at;
    return add_lower(row, slice_make(address.start, at)) &&
           add_lower(row, slice_from(address, behind));
}

static bool delivery_row(const struct batch *batch, size_t i, struct buffer *rows)
{
    return add_number(rows, DELIVERY_COLUMNS) && add_element(rows, &batch->message_ids, i) &&
           add_element(rows, &batch->message_received, i) &&
           add_element(rows, &batch->positions, i) && add_element(rows, &batch->recipients, i) &&
           add_parts(rows, text_of(&batch->recipients, i));
}

bool copy_deliveries(const struct batch *batch, const struct plan_segment *segment, copy_put *put,
                     void *to)
{
    size_t first = batch_deliveries_first(batch, segment->first);
    size_t count = batch_deliveries_count(batch, segment->first, segment->count);
    struct buffer rows;
    bool good = true;
    buffer_init(&rows, ROW_MAX);
    put(to, head, HEAD_LENGTH);
    for (size_t i = first; good && i < first + count; i++) {
        good = delivery_row(batch, i, &rows);
        if (rows.length >= PIECE) {
            put(to, rows.data, rows.length);
            buffer_clear(&rows);
        }
    }
    if (good && rows.length > 0)
        put(to, rows.data, rows.length);
    put(to, tail, TAIL_LENGTH);
    buffer_free(&rows);
    return good;
}
