/* Writer and group commit: what is committed is in new/ to the byte, what failed is nowhere. Run
 * with both methods: the one that the file system gets, and fsync. */
#include "message.h"

#include "queue/reader.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

static void use_method(struct commit *commit, const struct scratch *scratch,
                       enum commit_method method)
{
    assert_int_equal(commit_open(commit, &scratch->spool), 0);
    if (method == COMMIT_FSYNC) {
        commit_close(commit);
        for (int queue = 0; queue < QUEUE_COUNT; queue++)
            commit->queues[queue].method = COMMIT_FSYNC;
    }
}

static void check_message(const struct scratch *scratch, const char *id, const char *bytes,
                          size_t length)
{
    struct reader reader;
    assert_int_equal(reader_open(&reader, &scratch->spool, QUEUE_STORE, QUEUE_NEW, id), READER_OK);
    assert_int_equal(reader.envelope.size, length);
    char *got = malloc(length + 1);
    assert_non_null(got);
    assert_int_equal(reader_read(&reader, got, length), 0);
    assert_memory_equal(got, bytes, length);
    free(got);
    reader_close(&reader);
}

static void a_group_is_in_new_to_the_byte(void **state)
{
    struct scratch *scratch = *state;
    enum { COUNT = 40 };
    static char bytes[300000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 + i / 256);
    for (int method = COMMIT_SYNCFS; method <= COMMIT_FSYNC; method++) {
        struct commit commit;
        use_method(&commit, scratch, (enum commit_method)method);
        struct writer writers[COUNT], *group[COUNT];
        char ids[COUNT][ID_SIZE];
        for (int i = 0; i < COUNT; i++) {
            struct envelope envelope = message_envelope(ids[i]);
            size_t length = (size_t)i * i * 150, pieces = (size_t)i % 4, done = 0;
            group[i] = &writers[i];
            assert_int_equal(writer_begin(&writers[i], &scratch->spool, QUEUE_STORE, &envelope), 0);
            for (size_t piece = 0; piece < pieces; piece++, done += length / 5)
                assert_int_equal(writer_append(&writers[i], bytes + done, length / 5), 0);
            assert_int_equal(writer_finish(&writers[i], bytes + done, length - done), 0);
            assert_false(scratch_exists(scratch, QUEUE_NEW, ids[i]));
            assert_true(scratch_exists(scratch, QUEUE_TMP, ids[i]));
        }
        commit_run(&commit, group, COUNT);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(writers[i].error, 0);
            assert_int_equal(writers[i].descriptor, -1);
            assert_false(scratch_exists(scratch, QUEUE_TMP, ids[i]));
            check_message(scratch, ids[i], bytes, (size_t)i * i * 150);
        }
        commit_close(&commit);
    }
}

static void a_writer_that_failed_does_not_take_the_group_along(void **state)
{
    struct scratch *scratch = *state;
    for (int method = COMMIT_SYNCFS; method <= COMMIT_FSYNC; method++) {
        struct commit commit;
        use_method(&commit, scratch, (enum commit_method)method);
        struct writer writers[3], *group[] = {&writers[0], &writers[1], &writers[2]};
        char ids[3][ID_SIZE];
        for (int i = 0; i < 3; i++) {
            struct envelope envelope = message_envelope(ids[i]);
            writer_begin(&writers[i], &scratch->spool, QUEUE_STORE, &envelope);
            writer_finish(&writers[i], "body\r\n", 6);
        }
        /* The middle one loses its file before the rename. */
        unlinkat(scratch_directory(scratch, QUEUE_TMP), ids[1], 0);
        commit_run(&commit, group, 3);
        assert_int_equal(writers[0].error, 0);
        assert_int_equal(writers[1].error, ENOENT);
        assert_int_equal(writers[2].error, 0);
        check_message(scratch, ids[0], "body\r\n", 6);
        check_message(scratch, ids[2], "body\r\n", 6);
        assert_false(scratch_exists(scratch, QUEUE_NEW, ids[1]));
        commit_close(&commit);
    }
}

static void a_failed_sync_withdraws_the_group(void **state)
{
    struct scratch *scratch = *state;
    struct commit commit;
    use_method(&commit, scratch, COMMIT_SYNCFS);
    struct commit_queue *store = &commit.queues[QUEUE_STORE];
    store->method = COMMIT_SYNCFS;
    int real = store->sync_descriptor;
    store->sync_descriptor = -1; /* syncfs fails with EBADF */
    struct writer writers[2], *group[] = {&writers[0], &writers[1]};
    char ids[2][ID_SIZE];
    for (int i = 0; i < 2; i++) {
        struct envelope envelope = message_envelope(ids[i]);
        writer_begin(&writers[i], &scratch->spool, QUEUE_STORE, &envelope);
        if (i == 1)
            writer_append(&writers[i], "piece\r\n", 7);
        writer_finish(&writers[i], "body\r\n", 6);
    }
    commit_run(&commit, group, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(writers[i].error, EBADF);
        assert_int_equal(writers[i].descriptor, -1);
        assert_false(scratch_exists(scratch, QUEUE_NEW, ids[i]));
        assert_false(scratch_exists(scratch, QUEUE_TMP, ids[i]));
    }
    store->sync_descriptor = real;
    commit_close(&commit);
}

static void a_full_disk_leaves_nothing_in_tmp(void **state)
{
    struct scratch *scratch = *state;
    struct rlimit old, tight = {.rlim_cur = 100000};
    getrlimit(RLIMIT_FSIZE, &old);
    tight.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    static char bytes[60000];
    for (int pieces = 0; pieces < 2; pieces++) {
        char id[ID_SIZE];
        struct envelope envelope = message_envelope(id);
        struct writer writer;
        writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope);
        setrlimit(RLIMIT_FSIZE, &tight);
        assert_int_equal(writer_append(&writer, bytes, sizeof bytes), 0);
        int error = pieces ? writer_append(&writer, bytes, sizeof bytes)
                           : writer_finish(&writer, bytes, sizeof bytes);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(error, EFBIG);
        assert_int_equal(writer.error, EFBIG);
        assert_int_equal(writer_finish(&writer, "x", 1), EFBIG);
        assert_false(scratch_exists(scratch, QUEUE_TMP, id));
        struct writer *group[] = {&writer};
        struct commit commit;
        use_method(&commit, scratch, COMMIT_SYNCFS);
        commit_run(&commit, group, 1);
        assert_int_equal(writer.error, EFBIG);
        assert_false(scratch_exists(scratch, QUEUE_NEW, id));
        commit_close(&commit);
    }
}

static void abort_undoes_at_every_stage(void **state)
{
    struct scratch *scratch = *state;
    for (int stage = 0; stage < 3; stage++) {
        char id[ID_SIZE];
        struct envelope envelope = message_envelope(id);
        struct writer writer;
        writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope);
        if (stage >= 1)
            writer_append(&writer, "piece", 5);
        if (stage >= 2)
            writer_finish(&writer, "end", 3);
        writer_abort(&writer);
        writer_abort(&writer);
        assert_int_equal(writer.error, ECANCELED);
        assert_int_equal(writer.descriptor, -1);
        assert_null(writer.head.data);
        assert_false(scratch_exists(scratch, QUEUE_TMP, id));
    }
}

static void abort_after_a_commit_harms_nothing(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    struct envelope envelope = message_envelope(id);
    struct writer writer, *group[] = {&writer};
    struct commit commit;
    use_method(&commit, scratch, COMMIT_SYNCFS);
    writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope);
    writer_finish(&writer, "body", 4);
    commit_run(&commit, group, 1);
    writer_abort(&writer);
    assert_int_equal(writer.error, 0);
    check_message(scratch, id, "body", 4);
    commit_close(&commit);
}

static void files_have_the_promised_mode(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    umask(0022);
    message_put(scratch, id, "body", 4);
    struct stat status;
    assert_int_equal(fstatat(scratch_directory(scratch, QUEUE_NEW), id, &status, 0), 0);
    assert_int_equal(status.st_mode, S_IFREG | SPOOL_FILE_MODE);
    assert_int_equal(fstat(scratch_directory(scratch, QUEUE_NEW), &status), 0);
    assert_int_equal(status.st_mode, S_IFDIR | SPOOL_DIRECTORY_MODE);
}

static void a_memory_file_system_gets_fsync(void **state)
{
    (void)state;
    void *memory = NULL;
    scratch_setup_in(&memory, "/dev/shm");
    struct scratch *scratch = memory;
    struct commit commit;
    char id[ID_SIZE];
    assert_int_equal(commit_open(&commit, &scratch->spool), 0);
    assert_int_equal(commit.queues[QUEUE_STORE].method, COMMIT_FSYNC);
    commit_close(&commit);
    message_put(scratch, id, "body", 4);
    check_message(scratch, id, "body", 4);
    scratch_teardown(&memory);
}

/* Not by a commit: under a name, in a directory and of a time that the caller wants. */
static void a_file_is_placed_where_it_is_told(void **state)
{
    struct scratch *scratch = *state;
    struct writer writer;
    struct stat file;
    char id[ID_SIZE];
    size_t length;
    struct envelope envelope = message_envelope(id);
    scratch_write(scratch, QUEUE_CUR, "name", "what was there", 14);
    assert_int_equal(writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope), 0);
    assert_int_equal(writer_append(&writer, "bo", 2), 0);
    assert_int_equal(writer_finish(&writer, "dy", 2), 0);
    assert_int_equal(writer_place(&writer, QUEUE_CUR, "name", INT64_C(1795288091123456)), 0);
    assert_false(scratch_exists(scratch, QUEUE_TMP, id));
    assert_int_equal(fstatat(scratch_directory(scratch, QUEUE_CUR), "name", &file, 0), 0);
    assert_int_equal(file.st_mtim.tv_sec, 1795288091);
    assert_int_equal(file.st_mtim.tv_nsec, 123456000);
    assert_int_equal(file.st_mode & 07777, SPOOL_FILE_MODE);
    char *bytes = scratch_read(scratch, QUEUE_CUR, "name", &length);
    assert_string_equal(bytes + length - 4, "body");
    free(bytes);
    writer_abort(&writer);
    assert_true(scratch_exists(scratch, QUEUE_CUR, "name"));

    /* Where it cannot go nothing is left of it. */
    assert_int_equal(mkdirat(scratch_directory(scratch, QUEUE_CUR), "taken", 0700), 0);
    assert_int_equal(writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope), 0);
    assert_int_equal(writer_finish(&writer, "body", 4), 0);
    assert_int_equal(writer_place(&writer, QUEUE_CUR, "taken", 0), EISDIR);
    assert_int_equal(writer.error, EISDIR);
    assert_false(scratch_exists(scratch, QUEUE_TMP, id));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_group_is_in_new_to_the_byte),
        TEST(a_writer_that_failed_does_not_take_the_group_along),
        TEST(a_failed_sync_withdraws_the_group),
        TEST(a_full_disk_leaves_nothing_in_tmp),
        TEST(abort_undoes_at_every_stage),
        TEST(abort_after_a_commit_harms_nothing),
        TEST(files_have_the_promised_mode),
        TEST(a_file_is_placed_where_it_is_told),
        cmocka_unit_test(a_memory_file_system_gets_fsync),
    };
    return cmocka_run_group_tests_name("queue/commit", tests, NULL, NULL);
}
