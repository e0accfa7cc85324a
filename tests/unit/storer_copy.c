/* Rows for COPY: every byte of them, what is fit for it, and how a recipient is taken apart. That
 * PostgreSQL reads them as INSERT's is for tests/system/test_storer_copy.py to see. */
#include "failing.h"

#include "storer/copy.h"
#include "storer/transaction.h"

#include <stdio.h>
#include <string.h>

#define HOUR INT64_C(3600000000)

/* One microsecond behind the epoch of PostgreSQL. */
#define RECEIVED INT64_C(946684800000001)

static const char *const ids[] = {
    "00dc6acf-ac00-7001-8203-040506070809", "00dc6acf-ac00-7002-8203-040506070809",
    "00dc6acf-ac00-7003-8203-040506070809", "00dc6acf-ac00-7004-8203-040506070809",
    "00dc6acf-ac00-7005-8203-040506070809",
};
enum { IDS = sizeof ids / sizeof *ids };

/* What was put, piece by piece. Nothing is allocated: calls for memory are counted. */
struct rows {
    char bytes[1 << 20];
    size_t length, pieces, longest;
};
static struct rows rows;

static void put(void *to, const char *bytes, size_t length)
{
    struct rows *all = to;
    assert_true(all->length + length <= sizeof all->bytes);
    memcpy(all->bytes + all->length, bytes, length);
    all->length += length;
    all->pieces++;
    if (length > all->longest)
        all->longest = length;
}

static void put_nothing(struct rows *all)
{
    all->length = all->pieces = all->longest = 0;
}

static struct envelope envelope_of(size_t number)
{
    static const char *recipients[] = {"Bob@T.example", "\"Bob\"@t.example", "x"};
    return (struct envelope){.id = ids[number],
                             .received = RECEIVED,
                             .client_address = number % 2 ? "2001:db8::1" : "192.0.2.1",
                             .helo = "h",
                             .protocol = "SMTP",
                             .from = "a@c",
                             .recipients = recipients,
                             .recipients_count = 1 + number,
                             .size = 2};
}

static void add(struct batch *batch, const struct envelope *envelope,
                enum queue_directory directory)
{
    char *room = batch_add(batch, envelope, directory, 0);
    assert_non_null(room);
    memset(room, 'm', (size_t)envelope->size);
}

static void check_rows(const char *want, size_t length)
{
    for (size_t i = 0; i < length && i < rows.length; i++)
        if (rows.bytes[i] != want[i])
            fail_msg("byte %zu is %02x and should be %02x", i, rows.bytes[i] & 0xff,
                     want[i] & 0xff);
    assert_int_equal(rows.length, length);
}

#define HEAD      "PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"
#define TAIL      "\xff\xff"
#define ID(digit) "\0\0\0\x10\0\xdc\x6a\xcf\xac\0\x70" digit "\x82\x03\x04\x05\x06\x07\x08\x09"
#define TIME      "\0\0\0\x08\0\0\0\0\0\0\0\x01"
#define SENDER                                                                                     \
    "\0\0\0\x03"                                                                                   \
    "a@c"
#define REST                                                                                       \
    "\0\0\0\x01"                                                                                   \
    "h"                                                                                            \
    "\0\0\0\x04"                                                                                   \
    "SMTP"                                                                                         \
    "\0\0\0\x08\0\0\0\0\0\0\0\x02"                                                                 \
    "\0\0\0\x02"                                                                                   \
    "mm"
#define CLIENT_V4 "\0\0\0\x08\x02\x20\0\x04\xc0\0\x02\x01"
#define CLIENT_V6 "\0\0\0\x14\x03\x80\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"

/* The second and the third of four messages: nothing of their neighbours. */
static void rows_are_these_bytes(void **state)
{
    (void)state;
    static const struct plan_segment segment = {1, 2};
    static const char messages[] = HEAD "\0\x08" ID("\x02") TIME SENDER CLIENT_V6 REST
        "\0\x08" ID("\x03") TIME SENDER CLIENT_V4 REST TAIL;
#define PLAIN                                                                                      \
    "\0\0\0\x0d"                                                                                   \
    "Bob@T.example"                                                                                \
    "\0\0\0\x03"                                                                                   \
    "bob"                                                                                          \
    "\0\0\0\x09"                                                                                   \
    "t.example"
#define QUOTED                                                                                     \
    "\0\0\0\x0f"                                                                                   \
    "\"Bob\"@t.example"                                                                            \
    "\xff\xff\xff\xff"                                                                             \
    "\xff\xff\xff\xff"
#define NO_AT                                                                                      \
    "\0\0\0\x01"                                                                                   \
    "x"                                                                                            \
    "\0\0\0\x01"                                                                                   \
    "x"                                                                                            \
    "\0\0\0\0"
#define AT(position) TIME "\0\0\0\x04\0\0\0" position
    static const char deliveries[] = HEAD "\0\x06" ID("\x02") AT("\x01") PLAIN "\0\x06" ID("\x02")
        AT("\x02") QUOTED "\0\x06" ID("\x03") AT("\x01") PLAIN "\0\x06" ID("\x03") AT("\x02") QUOTED
        "\0\x06" ID("\x03") AT("\x03") NO_AT TAIL;
    struct batch batch;
    batch_init(&batch);
    for (size_t i = 0; i < 4; i++) {
        struct envelope envelope = envelope_of(i);
        envelope.recipients_count = i < 3 ? 1 + i : 1;
        add(&batch, &envelope, QUEUE_NEW);
    }
    put_nothing(&rows);
    assert_true(copy_messages(&batch, &segment, put, &rows));
    check_rows(messages, sizeof messages - 1);
    put_nothing(&rows);
    assert_true(copy_deliveries(&batch, &segment, put, &rows));
    check_rows(deliveries, sizeof deliveries - 1);
    batch_free(&batch);
}

/* Of messages that lie within the bounds all but one, which is `odd` in one way. */
static void what_fits(void **state)
{
    (void)state;
    static const struct plan_segment all = {0, IDS};
    static const struct {
        struct plan_segment segment;
        size_t odd;
        enum queue_directory directory;
        int64_t received; /* after RECEIVED */
        const char *client;
        bool want;
    } cases[] = {
        {all, 0, QUEUE_NEW, 0, "192.0.2.1", true},
        {{1, COPY_LEAST}, 1, QUEUE_NEW, 0, "192.0.2.1", true},
        {{0, COPY_LEAST - 1}, 0, QUEUE_NEW, 0, "192.0.2.1", false},
        {{IDS - 1, 1}, 0, QUEUE_NEW, 0, "192.0.2.1", false},
        {all, 0, QUEUE_CUR, 0, "192.0.2.1", false},
        {all, IDS - 1, QUEUE_CUR, 0, "192.0.2.1", false},
        {{1, COPY_LEAST}, 0, QUEUE_CUR, 0, "192.0.2.1", true},
        {{0, COPY_LEAST}, IDS - 1, QUEUE_CUR, 0, "192.0.2.1", true},
        /* the bounds are two hours to each side */
        {all, 2, QUEUE_NEW, -HOUR + 1, "192.0.2.1", true},
        {all, 2, QUEUE_NEW, -HOUR, "192.0.2.1", false},
        {all, 2, QUEUE_NEW, -2 * HOUR + 1, "192.0.2.1", false},
        {all, 2, QUEUE_NEW, -3 * HOUR, "192.0.2.1", false},
        {all, 2, QUEUE_NEW, 2 * HOUR, "192.0.2.1", true},
        {all, 2, QUEUE_NEW, 2 * HOUR + 1, "192.0.2.1", false},
        {{3, 2}, 2, QUEUE_NEW, -3 * HOUR, "192.0.2.1", false},
        {all, 2, QUEUE_NEW, 0, "::", true},
        {all, 2, QUEUE_NEW, 0, "::ffff:192.0.2.1", true},
        {all, 2, QUEUE_NEW, 0, "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", true},
        {all, 2, QUEUE_NEW, 0, "", false},
        {all, 2, QUEUE_NEW, 0, ":", false},
        {all, 2, QUEUE_NEW, 0, "192.0.2", false},
        {all, 2, QUEUE_NEW, 0, "192.0.2.256", false},
        {all, 2, QUEUE_NEW, 0, "192.0.2.1/24", false},
        {all, 2, QUEUE_NEW, 0, "fe80::1%eth0", false},
        {all, 2, QUEUE_NEW, 0, "unknown", false},
        {all, 2, QUEUE_NEW, 0, "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255:", false},
        {all, 2, QUEUE_NEW, 0, "1111111111111111111111111111111111111111111111111", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct batch batch;
        batch_init(&batch);
        for (size_t message = 0; message < IDS; message++) {
            struct envelope envelope = envelope_of(message % 3);
            envelope.id = ids[message];
            if (message == cases[i].odd) {
                envelope.received += cases[i].received;
                envelope.client_address = cases[i].client;
            }
            add(&batch, &envelope, message == cases[i].odd ? cases[i].directory : QUEUE_NEW);
        }
        if (copy_fits(&batch, &cases[i].segment, RECEIVED - 2 * HOUR, RECEIVED + 2 * HOUR) !=
            cases[i].want)
            fail_msg("case %zu: %s", i, cases[i].want ? "does not fit" : "fits");
        /* Before the first COMMIT of a session there are no bounds. */
        assert_false(copy_fits(&batch, &cases[i].segment, 0, 0));
        batch_free(&batch);
    }
}

/* The columns of the only row of deliveries from the fourth on: recipient, username, domain. */
static struct slice column_of(int number)
{
    const char *at = rows.bytes + sizeof HEAD - 1 + 2;
    for (;; number--) {
        const unsigned char *length = (const unsigned char *)at;
        int32_t bytes = (int32_t)((uint32_t)length[0] << 24 | (uint32_t)length[1] << 16 |
                                  (uint32_t)length[2] << 8 | length[3]);
        if (number == 1)
            return bytes < 0 ? (struct slice){0} : slice_make(at + 4, (size_t)bytes);
        at += 4 + (bytes > 0 ? bytes : 0);
    }
}

static void check_part(const char *address, int column, const char *want)
{
    struct slice got = column_of(column);
    if (!want != !got.start)
        fail_msg("%s: column %d is%s NULL", address, column, got.start ? " not" : "");
    if (want && (got.length != strlen(want) || memcmp(got.start, want, got.length) != 0))
        fail_msg("%s: column %d is %.*s and should be %s", address, column, (int)got.length,
                 got.start, want);
}

static void a_plain_recipient_is_taken_apart(void **state)
{
    (void)state;
    static char most[512 + sizeof "@t"], more[513 + sizeof "@t"], most_alone[513], more_alone[514],
        lower[513], domain[4000], far[4000 + sizeof "b@"];
    memset(lower, 'a', 512);
    memset(most_alone, 'A', 512);
    memset(more_alone, 'A', 513);
    memset(domain, 'd', sizeof domain - 1);
    snprintf(most, sizeof most, "%s@t", most_alone);
    snprintf(more, sizeof more, "%s@t", more_alone);
    snprintf(far, sizeof far, "b@%s", domain);
    const struct {
        const char *address, *username, *domain; /* NULL: the server's to find */
    } cases[] = {
        {"bob@t.example", "bob", "t.example"},
        {"BOB@T.EXAMPLE", "bob", "t.example"},
        {"AZ@[az`{", "az", "[az`{"},
        {"a@B@c", "a@b", "c"},
        {"@@", "@", ""},
        {"@", "", ""},
        {"@t", "", "t"},
        {"b@", "b", ""},
        {"Bob", "bob", ""},
        {"", "", ""},
        {"b\\ob@t", "b\\ob", "t"},
        {"!~@!~", "!~", "!~"},
        {most, lower, "t"},
        {most_alone, lower, ""},
        {far, "b", domain},
        {more, NULL, NULL},
        {more_alone, NULL, NULL},
        {"\"bob\"@t", NULL, NULL},
        {"bob@t\"", NULL, NULL},
        {"b b@t", NULL, NULL},
        {"bob@t ", NULL, NULL},
        {"b\x1f@t", NULL, NULL},
        {"b\x7f@t", NULL, NULL},
        {"\xc3\xbc@t", NULL, NULL},
        {"b@\xc3\x9c", NULL, NULL},
        {"\xff@t", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct batch batch;
        const char *recipients[] = {cases[i].address};
        struct envelope envelope = envelope_of(0);
        envelope.recipients = recipients;
        batch_init(&batch);
        add(&batch, &envelope, QUEUE_NEW);
        put_nothing(&rows);
        assert_true(copy_deliveries(&batch, &(struct plan_segment){0, 1}, put, &rows));
        check_part(cases[i].address, 4, cases[i].address);
        check_part(cases[i].address, 5, cases[i].username);
        check_part(cases[i].address, 6, cases[i].domain);
        batch_free(&batch);
    }
}

/* So many recipients that their rows go in several pieces, none of which is large. */
enum { MANY = 2000 };

static void add_many(struct batch *batch)
{
    static char names[MANY][16];
    static const char *recipients[MANY];
    struct envelope envelope = envelope_of(0);
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "u%06d@t", i);
        recipients[i] = names[i];
    }
    envelope.recipients = recipients;
    envelope.recipients_count = MANY;
    add(batch, &envelope, QUEUE_NEW);
}

static void rows_come_in_pieces(void **state)
{
    (void)state;
    enum { ROW = 2 + 20 + 12 + 8 + 4 + 9 + 4 + 7 + 4 + 1 };
    struct batch batch;
    batch_init(&batch);
    add_many(&batch);
    put_nothing(&rows);
    assert_true(copy_deliveries(&batch, &(struct plan_segment){0, 1}, put, &rows));
    assert_int_equal(rows.length, sizeof HEAD - 1 + MANY * ROW + sizeof TAIL - 1);
    assert_memory_equal(rows.bytes + rows.length - (sizeof TAIL - 1), TAIL, sizeof TAIL - 1);
    for (size_t i = 0; i < MANY; i++) {
        char want[16];
        const char *row = rows.bytes + sizeof HEAD - 1 + i * ROW;
        snprintf(want, sizeof want, "u%06zu@t", i);
        assert_memory_equal(row + 2 + 20 + 12 + 8 + 4, want, 9);
    }
    assert_true(rows.pieces > 4);
    assert_true(rows.longest < 32 * 1024 + ROW);
    batch_free(&batch);
}

static void without_memory_it_says_so(void **state)
{
    (void)state;
    static const struct plan_segment segment = {0, 3};
    static char helo[4001];
    struct batch batch;
    memset(helo, 'h', sizeof helo - 1);
    batch_init(&batch);
    for (size_t i = 0; i < 2; i++) {
        struct envelope envelope = envelope_of(i);
        envelope.helo = i == 1 ? helo : "h";
        add(&batch, &envelope, QUEUE_NEW);
    }
    add_many(&batch);
    bool (*const functions[])(const struct batch *batch, const struct plan_segment *segment,
                              copy_put *put, void *to) = {copy_messages, copy_deliveries};
    for (int i = 0; i < 2; i++) {
        long rounds = 0;
        FAILING_EACH (at) {
            put_nothing(&rows);
            failing_arm(at, ENOMEM);
            bool good = functions[i](&batch, &segment, put, &rows);
            assert_int_equal(good, !failing_disarm());
            rounds++;
        }
        /* The first memory, and more of it later. */
        assert_true(rounds > 2);
    }
    batch_free(&batch);
}

/* In libpq's place: what it is told of rows, on a connection that there is not. */
static struct {
    bool ended;
    const char *error;
} told;

int __wrap_PQputCopyData(PGconn *conn, const char *bytes, int length);
int __wrap_PQputCopyData(PGconn *conn, const char *bytes, int length)
{
    (void)conn;
    put(&rows, bytes, (size_t)length);
    return 1;
}

int __wrap_PQputCopyEnd(PGconn *conn, const char *error);
int __wrap_PQputCopyEnd(PGconn *conn, const char *error)
{
    (void)conn;
    assert_false(told.ended);
    told.ended = true;
    told.error = error;
    return 1;
}

/* Half of the rows, and a COMMIT, would be the end of the other half's files. */
static void half_of_the_rows_is_given_back(void **state)
{
    (void)state;
    enum { MESSAGES = 2, DELIVERIES };
    static const struct plan_segment segment = {0, 1};
    uv_loop_t loop;
    struct batch batch;
    struct pgconn conn;
    batch_init(&batch);
    add_many(&batch);
    assert_int_equal(uv_loop_init(&loop), 0);
    pgconn_init(&conn, &loop, &(struct pgconn_options){.name = "test"});
    for (unsigned step = MESSAGES; step <= DELIVERIES; step++) {
        long struck = 0;
        FAILING_EACH (at) {
            PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_COPY_IN);
            struct transaction transaction = {.kind = TRANSACTION_STORE,
                                              .step = step,
                                              .copied = &batch,
                                              .segment = segment,
                                              .copies = true};
            conn.state = PGCONN_UP;
            conn.lost = false;
            told.ended = false;
            put_nothing(&rows);
            failing_arm(at, ENOMEM);
            assert_false(transaction_read(&transaction, &conn, result));
            bool failed = failing_disarm();
            struck += failed;
            assert_true(told.ended);
            assert_int_equal(told.error != NULL, failed);
            PQclear(result);
        }
        assert_true(struck > 0);
    }
    conn.state = PGCONN_DOWN;
    pgconn_close(&conn, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    batch_free(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_these_bytes),
        cmocka_unit_test(what_fits),
        cmocka_unit_test(a_plain_recipient_is_taken_apart),
        cmocka_unit_test(rows_come_in_pieces),
        cmocka_unit_test(without_memory_it_says_so),
        cmocka_unit_test(half_of_the_rows_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
