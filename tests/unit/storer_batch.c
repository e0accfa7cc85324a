/* A batch: its columns, its repeated recipients, its days, and what a COMMIT decides. */
#include "storer/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000)

static const char *one_recipient[] = {"bob@mayfly.example"};

static struct envelope envelope_with(char id[static ID_SIZE], int64_t received, uint64_t size)
{
    id_make(id, received);
    return (struct envelope){.id = id,
                             .received = received,
                             .client_address = "192.0.2.1",
                             .helo = "mail.example.org",
                             .protocol = "ESMTP",
                             .from = "alice@example.org",
                             .recipients = one_recipient,
                             .recipients_count = 1,
                             .size = size};
}

static void add(struct batch *batch, int64_t received, const char *text)
{
    char id[ID_SIZE];
    struct envelope envelope = envelope_with(id, received, strlen(text));
    char *room = batch_add(batch, &envelope, QUEUE_NEW, received);
    assert_non_null(room);
    memcpy(room, text, strlen(text));
}

/* What a message of so many bytes to the one recipient takes. */
static size_t cost_of(size_t size)
{
    char id[ID_SIZE];
    struct envelope envelope = envelope_with(id, SECOND, size);
    return batch_cost(&envelope);
}

static void check_raw(struct batch *batch, size_t first, size_t count, const char *want)
{
    struct array_frame frame;
    array_frame(&batch->raws, first, count, &frame);
    char got[200] = "";
    const char *next = frame.value + ARRAY_HEAD;
    while (next < frame.value + frame.length) {
        size_t length = (unsigned char)next[3];
        strncat(got, next + 4, length);
        strcat(got, "|");
        next += 4 + length;
    }
    array_unframe(&frame);
    assert_string_equal(got, want);
}

static void messages_are_added_and_withdrawn(void **state)
{
    (void)state;
    struct batch batch;
    batch_init(&batch);
    add(&batch, SECOND, "one");
    add(&batch, 2 * SECOND, "");
    add(&batch, 3 * SECOND, "three");
    check_raw(&batch, 0, 3, "one||three|");
    check_raw(&batch, 1, 2, "|three|");
    assert_int_equal(batch.bytes, cost_of(3) + cost_of(0) + cost_of(5));
    batch_remove_last(&batch);
    assert_int_equal(batch.count, 2);
    assert_int_equal(batch.bytes, cost_of(3) + cost_of(0));
    assert_int_equal(batch.recipients.count, 2);
    add(&batch, 4 * SECOND, "four");
    check_raw(&batch, 0, 3, "one||four|");
    assert_int_equal(batch.messages[2].delivery, 2);
    batch_clear(&batch, 100);
    assert_int_equal(batch.count, 0);
    assert_int_equal(batch.bytes, 0);
    add(&batch, SECOND, "again");
    check_raw(&batch, 0, 1, "again|");
    batch_free(&batch);
}

static void what_does_not_fit_is_not_added(void **state)
{
    (void)state;
    struct batch batch;
    batch_init(&batch);
    add(&batch, SECOND, "one");
    char id[ID_SIZE];
    struct envelope envelope = envelope_with(id, SECOND, UINT64_C(1) << 40);
    assert_null(batch_add(&batch, &envelope, QUEUE_NEW, 0));
    assert_int_equal(batch.count, 1);
    assert_int_equal(batch.bytes, cost_of(3));
    assert_int_equal(batch.ids.count, 1);
    assert_int_equal(batch.recipients.count, 1);
    add(&batch, SECOND, "two");
    check_raw(&batch, 0, 2, "one|two|");
    batch_free(&batch);
}

static void large_storage_is_given_back(void **state)
{
    (void)state;
    struct batch batch;
    batch_init(&batch);
    char id[ID_SIZE];
    struct envelope envelope = envelope_with(id, SECOND, 50 * 1024 * 1024);
    assert_non_null(batch_add(&batch, &envelope, QUEUE_NEW, 0));
    batch_clear(&batch, 1024 * 1024);
    assert_true(batch.raws.bytes.capacity <= 4 * 1024 * 1024);
    batch_free(&batch);
}

static void the_same_recipient(void **state)
{
    (void)state;
    static const struct {
        const char *one, *other;
        bool want;
    } rows[] = {
        {"a@x", "a@x", true},      {"a@x", "a@X", true},
        {"a@x", "A@x", false},     {"a@x", "a@xy", false},
        {"ab@x", "a@x", false},    {"a", "a", true},
        {"a", "A", false},         {"a", "a@x", false},
        {"a@x", "a", false},       {"\"a@b\"@x", "\"a@b\"@X", true},
        {"a@b@x", "a@B@x", false}, {"@", "@", true},
        {"a@x", "a@x@x", false},   {"", "", true},
        {"a@x@y", "a@x", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(batch_same_recipient(rows[i].one, rows[i].other), rows[i].want);
        assert_int_equal(batch_same_recipient(rows[i].other, rows[i].one), rows[i].want);
    }
}

static void repeated_recipients_are_left_out(void **state)
{
    (void)state;
    static const char *recipients[] = {"c@x", "a@x", "A@x", "a@X", "ab@x", "a@x", "a", "c@X", "a"};
    static const unsigned char want[] = {1, 2, 3, 5, 7};
    struct batch batch;
    batch_init(&batch);
    char id[ID_SIZE];
    struct envelope envelope = envelope_with(id, SECOND, 0);
    envelope.recipients = recipients;
    envelope.recipients_count = sizeof recipients / sizeof recipients[0];
    assert_non_null(batch_add(&batch, &envelope, QUEUE_NEW, 0));
    assert_int_equal(batch.messages[0].deliveries, sizeof want);
    for (size_t i = 0; i < sizeof want; i++) {
        const unsigned char *element =
            (unsigned char *)batch.positions.bytes.data + ARRAY_HEAD + 8 * i;
        assert_int_equal(element[7], want[i]);
    }
    batch_free(&batch);
}

/* In far fewer steps than its square. */
static void a_hundred_thousand_equal_recipients(void **state)
{
    (void)state;
    enum { MANY = 100 * 1000 };
    const char **recipients = calloc(MANY, sizeof *recipients);
    assert_non_null(recipients);
    for (int i = 0; i < MANY; i++)
        recipients[i] = i % 2 ? "same@mayfly.example" : "same@MAYFLY.example";
    struct batch batch;
    batch_init(&batch);
    char id[ID_SIZE];
    struct envelope envelope = envelope_with(id, SECOND, 0);
    envelope.recipients = recipients;
    envelope.recipients_count = MANY;
    assert_non_null(batch_add(&batch, &envelope, QUEUE_NEW, 0));
    assert_int_equal(batch.messages[0].deliveries, 1);
    batch_free(&batch);
    free(recipients);
}

enum { DAY = 24 * 3600 };

static void a_commit_decides(void **state)
{
    (void)state;
    static const struct {
        int64_t received, modified; /* seconds; the oldest is 100000 */
        int64_t kept;               /* the retention, in seconds */
        enum queue_directory directory;
        enum fate want;
    } rows[] = {
        {100500, 100500, 7 * DAY, QUEUE_NEW, FATE_STORED},
        {100000 + 8 * DAY, 0, 7 * DAY, QUEUE_NEW, FATE_STORED},
        {100001, 1, 7 * DAY, QUEUE_NEW, FATE_STORED},
        {100001 + 8 * DAY, 0, 7 * DAY, QUEUE_NEW, FATE_REFUSED},
        {100000, 100000, 7 * DAY, QUEUE_NEW, FATE_EXPIRED},
        {99999, 99999, 7 * DAY, QUEUE_NEW, FATE_EXPIRED},
        {99999, 100001, 7 * DAY, QUEUE_NEW, FATE_EXPIRED},
        {99000, 99000 + 7200, 7 * DAY, QUEUE_NEW, FATE_EXPIRED},
        {99000, 99000 + 7201, 7 * DAY, QUEUE_NEW, FATE_REFUSED},
        {99000, 99000 + 7201, 7 * DAY, QUEUE_CUR, FATE_EXPIRED},
        {90000, 99999, 7 * DAY, QUEUE_NEW, FATE_EXPIRED},
        {99990, 100050, 60, QUEUE_NEW, FATE_EXPIRED},
        {99990, 100051, 60, QUEUE_NEW, FATE_REFUSED},
        {100500, 100500, 7 * DAY, QUEUE_CUR, FATE_STORED},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    struct batch batch;
    batch_init(&batch);
    for (size_t i = 0; i < ROWS; i++) {
        add(&batch, rows[i].received * SECOND, "x");
        batch.messages[i].modified = rows[i].modified * SECOND;
        batch.messages[i].directory = rows[i].directory;
    }
    batch_committed(&batch, 1, ROWS - 2, 100000 * SECOND, (100000 + 8 * DAY) * SECOND);
    assert_int_equal(batch.messages[0].fate, FATE_OPEN);
    assert_int_equal(batch.messages[ROWS - 1].fate, FATE_OPEN);
    for (size_t i = 0; i < ROWS; i++) {
        batch_committed(&batch, i, 1, 100000 * SECOND, (100000 + rows[i].kept + DAY) * SECOND);
        assert_int_equal(batch.messages[i].fate, rows[i].want);
        assert_int_equal(batch.messages[i].reason != NULL, rows[i].want == FATE_REFUSED);
    }
    batch_free(&batch);
}

static void each_day_once(void **state)
{
    (void)state;
    struct batch batch;
    batch_init(&batch);
    /* 2026-11-21 begins at 1795219200. */
    static const int64_t seconds[] = {1795219200, 1795219199, 1795305599, 1795219200 - 86400 * 3,
                                      1795219201, 1795305600};
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++)
        add(&batch, seconds[i] * SECOND, "");
    struct array days;
    array_init(&days, ARRAY_TEXT, SIZE_MAX);
    assert_true(batch_days(&batch, 0, batch.count, &days));
    assert_int_equal(days.count, 4);
    static const char want[] = "\0\0\0\n2026-11-18\0\0\0\n2026-11-20\0\0\0\n2026-11-21"
                               "\0\0\0\n2026-11-22";
    assert_memory_equal(days.bytes.data + ARRAY_HEAD, want, sizeof want - 1);
    array_truncate(&days, 0);
    assert_true(batch_days(&batch, 1, 1, &days));
    assert_int_equal(days.count, 1);
    assert_memory_equal(days.bytes.data + ARRAY_HEAD + 4, "2026-11-20", 10);
    array_free(&days);
    batch_free(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_added_and_withdrawn),
        cmocka_unit_test(what_does_not_fit_is_not_added),
        cmocka_unit_test(large_storage_is_given_back),
        cmocka_unit_test(the_same_recipient),
        cmocka_unit_test(repeated_recipients_are_left_out),
        cmocka_unit_test(a_hundred_thousand_equal_recipients),
        cmocka_unit_test(a_commit_decides),
        cmocka_unit_test(each_day_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
