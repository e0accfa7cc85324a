/* The reader hands out whole messages and knows everything else for what it is. */
#include "message.h"

#include "queue/reader.h"

#include <errno.h>

static enum reader_status open_new(const struct scratch *scratch, struct reader *reader,
                                   const char *name)
{
    return reader_open(reader, &scratch->spool, QUEUE_STORE, QUEUE_NEW, name);
}

static void reads_in_any_pieces(void **state)
{
    struct scratch *scratch = *state;
    static char bytes[50000], got[50000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 31 + i / 256);
    char id[ID_SIZE];
    message_put(scratch, id, bytes, sizeof bytes);
    static const size_t steps[] = {1, 7, 4096, 16384, 49999, 50000};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct reader reader;
        assert_int_equal(open_new(scratch, &reader, id), READER_OK);
        for (size_t done = 0; done < sizeof bytes; done += steps[i]) {
            size_t rest = sizeof bytes - done;
            assert_int_equal(reader_read(&reader, got + done, rest < steps[i] ? rest : steps[i]),
                             0);
        }
        assert_memory_equal(got, bytes, sizeof bytes);
        assert_int_equal(reader_read(&reader, got, 1), EIO);
        reader_close(&reader);
    }
}

static void an_empty_message_is_one(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    struct reader reader;
    message_put(scratch, id, "", 0);
    assert_int_equal(open_new(scratch, &reader, id), READER_OK);
    assert_int_equal(reader.envelope.size, 0);
    assert_int_equal(reader_read(&reader, NULL, 0), 0);
    reader_close(&reader);
}

static void a_torn_file_is_bad_at_every_length(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    message_put(scratch, id, "Subject: x\r\n\r\nhello\r\n", 21);
    size_t length;
    char *bytes = scratch_read(scratch, QUEUE_NEW, id, &length);
    for (size_t given = 0; given < length + 2; given++) {
        struct reader reader;
        /* The NUL that scratch_read puts behind the contents makes it one byte too long, too. */
        scratch_write(scratch, QUEUE_NEW, id, bytes, given);
        enum reader_status status = open_new(scratch, &reader, id);
        if (given == length) {
            assert_int_equal(status, READER_OK);
            reader_close(&reader);
        } else {
            assert_int_equal(status, READER_BAD);
            assert_non_null(reader.why);
            assert_int_equal(reader.descriptor, -1);
        }
    }
    free(bytes);
}

static void a_large_envelope_is_read_in_steps(void **state)
{
    struct scratch *scratch = *state;
    enum { COUNT = 5000 };
    static char addresses[COUNT][40];
    static const char *recipients[COUNT];
    for (int i = 0; i < COUNT; i++) {
        snprintf(addresses[i], sizeof addresses[i], "recipient-%d@t.example", i);
        recipients[i] = addresses[i];
    }
    char id[ID_SIZE];
    struct envelope envelope = message_envelope(id);
    envelope.recipients = recipients;
    envelope.recipients_count = COUNT;
    struct writer writer, *group[] = {&writer};
    struct commit commit;
    commit_open(&commit, &scratch->spool);
    assert_int_equal(writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope), 0);
    assert_int_equal(writer_finish(&writer, "body", 4), 0);
    commit_run(&commit, group, 1);
    commit_close(&commit);

    struct reader reader;
    char body[4];
    assert_int_equal(open_new(scratch, &reader, id), READER_OK);
    assert_int_equal(reader.envelope.recipients_count, COUNT);
    assert_string_equal(reader.envelope.recipients[COUNT - 1], recipients[COUNT - 1]);
    assert_int_equal(reader_read(&reader, body, 4), 0);
    assert_memory_equal(body, "body", 4);
    reader_close(&reader);
}

static void what_is_not_ours_is_bad(void **state)
{
    struct scratch *scratch = *state;
    int new = scratch_directory(scratch, QUEUE_NEW);
    char id[ID_SIZE], other[ID_SIZE], fifo[ID_SIZE], directory[ID_SIZE], symbolic[ID_SIZE];
    message_put(scratch, id, "body", 4);
    id_make(other, 1), id_make(fifo, 1), id_make(directory, 1), id_make(symbolic, 1);
    size_t length;
    char *bytes = scratch_read(scratch, QUEUE_NEW, id, &length);
    scratch_write(scratch, QUEUE_NEW, other, bytes, length);
    scratch_write(scratch, QUEUE_NEW, "1700000000.M1P1.host", bytes, length);
    free(bytes);
    assert_int_equal(mkfifoat(new, fifo, 0640), 0);
    assert_int_equal(mkdirat(new, directory, 0750), 0);
    assert_int_equal(symlinkat("/etc/passwd", new, symbolic), 0);

    static const char not_regular[] = "not a regular file";
    const struct {
        const char *name, *want;
    } rows[] = {
        {other, "forged: the envelope names another id"},
        {"1700000000.M1P1.host", "the name is not a message id"},
        {fifo, not_regular},
        {directory, not_regular},
        {symbolic, not_regular},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reader reader;
        assert_int_equal(open_new(scratch, &reader, rows[i].name), READER_BAD);
        assert_string_equal(reader.why, rows[i].want);
        assert_int_equal(reader.descriptor, -1);
    }
}

static void what_is_gone_is_no_error(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    struct reader reader;
    id_make(id, 1);
    assert_int_equal(open_new(scratch, &reader, id), READER_GONE);
}

/* As in failed/, where a name that is taken gets a number behind it. */
static void another_name_is_of_the_message_or_of_any(void **state)
{
    struct scratch *scratch = *state;
    struct reader reader;
    char id[ID_SIZE], other[ID_SIZE];
    message_put(scratch, id, "body", 4);
    id_make(other, INT64_C(1795288091123456));
    assert_int_equal(renameat(scratch_directory(scratch, QUEUE_NEW), id,
                              scratch_directory(scratch, QUEUE_FAILED), "another.1"),
                     0);
    const struct {
        const char *name, *id;
        enum reader_status want;
    } rows[] = {
        {"another.1", id, READER_OK},
        {"another.1", NULL, READER_OK},
        {"another.1", other, READER_BAD},
        {"another.2", id, READER_GONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(reader_open_named(&reader, &scratch->spool, QUEUE_STORE, QUEUE_FAILED,
                                           rows[i].name, rows[i].id),
                         rows[i].want);
        if (rows[i].want == READER_OK)
            assert_string_equal(reader.envelope.id, id);
        reader_close(&reader);
    }
    assert_int_equal(reader_open(&reader, &scratch->spool, QUEUE_STORE, QUEUE_FAILED, "another.1"),
                     READER_BAD);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(reads_in_any_pieces),
        TEST(an_empty_message_is_one),
        TEST(a_torn_file_is_bad_at_every_length),
        TEST(a_large_envelope_is_read_in_steps),
        TEST(what_is_not_ours_is_bad),
        TEST(what_is_gone_is_no_error),
        TEST(another_name_is_of_the_message_or_of_any),
    };
    return cmocka_run_group_tests_name("queue/reader", tests, NULL, NULL);
}
