/* Messages a second that go into the project's tables by COPY in binary form over one connection,
 * each with one delivery: the limit to which storer is compared.
 *
 *     copy -n MESSAGES -l SIZE -b BATCH [-u USERS] CONNINFO
 *
 * A transaction is BATCH messages. Nothing is read from files, nothing looks for a message that is
 * there already, nobody is notified; the rows are those that storer would write. */
#include "queue/id.h"
#include "tests/bench/measure.h"
#include "tests/bench/message.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* PIECE: bytes that go to libpq by one call; VARIETY: offsets in the text at which a message may
 * begin; FIELDS: more than all but raw take in a row. */
enum { PIECE = 65536, VARIETY = 1 << 20, FIELDS = 512, BATCH_MAX = 100000 };

/* Between the epochs of Unix and of PostgreSQL: 10,957 days. */
static const int64_t epoch = INT64_C(946684800) * 1000000;

/* What a delivery has of its message. */
struct key {
    unsigned char id[16];
    int64_t received; /* microseconds of PostgreSQL */
};

static PGconn *connection;
static size_t size, users = 1000;
static char *text;   /* every message is `size` bytes of it */
static char *rows;   /* being built */
static size_t built; /* bytes of them */

static void die(const char *what)
{
    fprintf(stderr, "copy: %s: %s", what, PQerrorMessage(connection));
    exit(1);
}

static void execute(const char *statement, ExecStatusType wanted)
{
    PGresult *result = PQexec(connection, statement);
    if (PQresultStatus(result) != wanted)
        die(statement);
    PQclear(result);
}

static void put(const void *bytes, size_t length)
{
    memcpy(rows + built, bytes, length);
    built += length;
}

static void put_count(int16_t count)
{
    uint16_t word = htobe16((uint16_t)count);
    put(&word, sizeof word);
}

static void put_length(size_t length)
{
    uint32_t word = htobe32((uint32_t)length);
    put(&word, sizeof word);
}

static void put_field(const void *bytes, size_t length)
{
    put_length(length);
    put(bytes, length);
}

static void put_text(const char *string)
{
    put_field(string, strlen(string));
}

static void put_bigint(int64_t number)
{
    uint64_t word = htobe64((uint64_t)number);
    put_field(&word, sizeof word);
}

static void put_integer(int32_t number)
{
    uint32_t word = htobe32((uint32_t)number);
    put_field(&word, sizeof word);
}

static void send_rows(void)
{
    if (PQputCopyData(connection, rows, (int)built) != 1)
        die("COPY");
    built = 0;
}

static void copy_begin(const char *statement)
{
    /* The signature, and two words of nought, whose last byte is the one that ends the string. */
    static const char head[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
    execute(statement, PGRES_COPY_IN);
    built = 0;
    put(head, sizeof head);
}

static void copy_end(void)
{
    put_count(-1);
    send_rows();
    if (PQputCopyEnd(connection, NULL) != 1)
        die("end of COPY");
    for (PGresult *result; (result = PQgetResult(connection)) != NULL; PQclear(result)) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            die("end of COPY");
    }
}

static void key_make(struct key *key)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t received = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    char id[ID_SIZE];
    id_make(id, received);
    key->received = received - epoch;
    const char *digits = id;
    for (int i = 0; i < 16; i++) {
        digits += *digits == '-';
        char pair[] = {digits[0], digits[1], '\0'};
        key->id[i] = (unsigned char)strtoul(pair, NULL, 16);
        digits += 2;
    }
}

static void put_message(const struct key *key, size_t number)
{
    /* Of an inet: family, bits, not a network, length, address. */
    static const unsigned char client[] = {2, 32, 0, 4, 127, 0, 0, 1};
    put_count(8);
    put_field(key->id, sizeof key->id);
    put_bigint(key->received);
    put_text("sender@bench.example");
    put_field(client, sizeof client);
    put_text("bench.example");
    put_text("ESMTP");
    put_bigint((int64_t)size);
    put_field(text + number * 7919 % VARIETY, size);
}

static void put_delivery(const struct key *key, size_t number)
{
    char recipient[64], username[32];
    snprintf(username, sizeof username, "user%zu", number % users);
    snprintf(recipient, sizeof recipient, "%s@bench.example", username);
    put_count(6);
    put_field(key->id, sizeof key->id);
    put_bigint(key->received);
    put_integer(1);
    put_text(recipient);
    put_text(username);
    put_text("bench.example");
}

/* One transaction: messages `first` and on. */
static void copy_batch(struct key *keys, size_t first, size_t count)
{
    copy_begin(
        "BEGIN; COPY messages (id, received_at, mail_from, client, helo, protocol, size, raw)"
        " FROM STDIN (FORMAT binary)");
    for (size_t i = 0; i < count; i++) {
        key_make(&keys[i]);
        put_message(&keys[i], first + i);
        if (built >= PIECE)
            send_rows();
    }
    copy_end();
    copy_begin("COPY deliveries (message_id, received_at, position, recipient, username, domain)"
               " FROM STDIN (FORMAT binary)");
    for (size_t i = 0; i < count; i++) {
        put_delivery(&keys[i], first + i);
        if (built >= PIECE)
            send_rows();
    }
    copy_end();
    execute("COMMIT", PGRES_COMMAND_OK);
}

/* As storer's connections are: a COMMIT that is answered stands. And there is a place for the rows
 * of this day, and of the next if it comes in between. */
static void connect_to(const char *conninfo)
{
    connection = PQconnectdb(conninfo);
    if (PQstatus(connection) != CONNECTION_OK)
        die("connect");
    execute("SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'",
            PGRES_TUPLES_OK);
    execute("SELECT make_partitions((now() AT TIME ZONE 'UTC')::date + ahead)"
            " FROM generate_series(0, 1) AS ahead",
            PGRES_TUPLES_OK);
}

static void usage(void)
{
    fputs("usage: copy -n MESSAGES -l SIZE -b BATCH [-u USERS] CONNINFO\n", stderr);
    exit(EX_USAGE);
}

int main(int argc, char **argv)
{
    size_t total = 0, batch = 0;
    for (int letter; (letter = getopt(argc, argv, "n:l:b:u:")) != -1;) {
        switch (letter) {
        case 'n':
            total = measure_count('n', optarg, 1, 100000000);
            break;
        case 'l':
            size = measure_count('l', optarg, 1, 256 << 20);
            break;
        case 'b':
            batch = measure_count('b', optarg, 1, BATCH_MAX);
            break;
        case 'u':
            users = measure_count('u', optarg, 1, 100000000);
            break;
        default:
            usage();
        }
    }
    if (argc - optind != 1 || total == 0 || size == 0 || batch == 0)
        usage();
    text = malloc(VARIETY + size);
    rows = malloc(PIECE + FIELDS + size);
    struct key *keys = calloc(batch, sizeof *keys);
    if (text == NULL || rows == NULL || keys == NULL)
        measure_die("memory");
    message_text(text, VARIETY + size);
    connect_to(argv[optind]);

    double start = measure_now(), cpu = measure_cpu();
    for (size_t done = 0; done < total; done += batch)
        copy_batch(keys, done, total - done < batch ? total - done : batch);
    double seconds = measure_now() - start;
    printf("rows=%zu seconds=%.6f rate=%.1f cpu_seconds=%.6f\n", total, seconds,
           (double)total / seconds, measure_cpu() - cpu);
    PQfinish(connection);
    free(keys);
    free(rows);
    free(text);
    return 0;
}
