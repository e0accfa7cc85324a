/* What becomes of a message when a call fails: each call of each step in turn, with each error that
 * a step knows. It is never lost, never seen half, and an error is never taken for an end. */
#include "message.h"

#include "failing.h"

#include "queue/reader.h"
#include "queue/retire.h"
#include "queue/scanner.h"

#include <limits.h>

enum { BODY = 40000 };

static char body[BODY];

/* Opening. */

static void a_spool_that_could_not_be_opened_is_closed(void **state)
{
    struct scratch *scratch = *state;
    static const int errors[] = {EIO, EACCES, EMFILE};
    char path[128];

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        FAILING_EACH (at) {
            struct spool spool;
            int error;
            snprintf(path, sizeof path, "%s/%zu-%ld", scratch->path, i, at);
            failing_arm(at, errors[i]);
            error = spool_open(&spool, path);
            /* Who may not read the directory above did not make it. */
            if (failing_disarm() && (errors[i] != EACCES || error != 0))
                assert_int_equal(error, strcmp(failing.struck, "strdup") == 0 ? ENOMEM : errors[i]);
            else
                assert_int_equal(error, 0);
            spool_close(&spool);
            assert_int_equal(spool_open(&spool, path), 0);
            spool_close(&spool);
        }
    }
    FAILING_EACH (at) {
        struct spool spool;
        int error;
        failing_arm(at, EIO);
        error = spool_open_existing(&spool, path);
        assert_int_equal(error != 0, failing_disarm());
        spool_close(&spool);
    }
}

static void a_lock_that_was_not_taken_is_none(void **state)
{
    struct scratch *scratch = *state;

    FAILING_EACH (at) {
        int lock;
        failing_arm(at, EIO);
        lock = spool_lock(&scratch->spool, QUEUE_STORE);
        assert_int_equal(lock < 0, failing_disarm());
        if (lock >= 0)
            close(lock);
    }
}

static void room_that_is_not_known_is_an_error(void **state)
{
    struct scratch *scratch = *state;
    uint64_t bytes, files;

    FAILING_EACH (at) {
        int error;
        failing_arm(at, EIO);
        error = spool_room(&scratch->spool, QUEUE_STORE, &bytes, &files);
        assert_int_equal(error, failing_disarm() ? EIO : 0);
    }
}

/* Committing. */

enum { WRITERS = 4 };

struct group {
    struct writer writers[WRITERS], *all[WRITERS];
    char ids[WRITERS][ID_SIZE];
};

/* One as a whole, one in pieces, and one for both queues, which begins with something of its own. */
static void group_write(struct group *group, const struct spool *spool)
{
    for (int i = 0; i < WRITERS; i++) {
        struct writer *writer = &group->writers[i];
        struct envelope envelope = message_envelope(group->ids[i]);
        if (i == 3)
            memcpy(group->ids[3], group->ids[2], ID_SIZE);
        group->all[i] = writer;
        writer_begin(writer, spool, i == 3 ? QUEUE_RELAY : QUEUE_STORE, &envelope);
    }
    /* Nobody goes on with one of two that could not be begun. */
    if (group->writers[2].error != 0 || group->writers[3].error != 0) {
        writer_abort(&group->writers[2]);
        writer_abort(&group->writers[3]);
    }
    writer_pair(&group->writers[2], &group->writers[3]);
    writer_prefix(&group->writers[3], body, 20);
    writer_append(&group->writers[1], body, BODY / 2);
    writer_finish(&group->writers[1], body + BODY / 2, BODY / 2);
    for (int i = 0; i < WRITERS; i++)
        if (i != 1)
            writer_finish(&group->writers[i], body + (i == 3 ? 20 : 0), BODY - (i == 3 ? 20 : 0));
}

static bool is_whole(const struct spool *spool, enum queue queue, const char *id)
{
    static char got[BODY];
    struct reader reader;
    bool whole;

    if (reader_open(&reader, spool, queue, QUEUE_NEW, id) != READER_OK)
        return false;
    whole = reader.envelope.size == BODY && reader_read(&reader, got, BODY) == 0 &&
            memcmp(got, body, BODY) == 0;
    reader_close(&reader);
    return whole;
}

/* What is acknowledged is whole, and of what is refused nothing is left, unless it was the removing
 * that failed. */
static void check_group(const struct group *group, const struct spool *spool, bool may_be_left)
{
    for (int i = 0; i < WRITERS; i++) {
        const struct writer *writer = &group->writers[i];
        const int *directories = spool->directories[writer->queue];
        assert_int_equal(writer->descriptor, -1);
        if (writer->error == 0) {
            assert_true(is_whole(spool, writer->queue, group->ids[i]));
        } else if (!may_be_left) {
            assert_int_equal(__real_faccessat(directories[QUEUE_NEW], group->ids[i], F_OK, 0), -1);
            assert_int_equal(__real_faccessat(directories[QUEUE_TMP], group->ids[i], F_OK, 0), -1);
        }
    }
    assert_int_equal(group->writers[2].error != 0, group->writers[3].error != 0);
}

static void use_fsync(struct commit *commit)
{
    commit_close(commit);
    for (int queue = 0; queue < QUEUE_COUNT; queue++)
        commit->queues[queue].method = COMMIT_FSYNC;
}

static void what_is_acknowledged_is_whole(void **state)
{
    struct scratch *scratch = *state;
    static const int errors[] = {EIO, ENOSPC, EINTR, EOPNOTSUPP, FAILING_SHORT};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        for (int method = COMMIT_SYNCFS; method <= COMMIT_FSYNC; method++) {
            FAILING_EACH (at) {
                struct commit commit;
                struct group group;
                assert_int_equal(commit_open(&commit, &scratch->spool), 0);
                if (method == COMMIT_FSYNC)
                    use_fsync(&commit);
                failing_arm(at, errors[i]);
                group_write(&group, &scratch->spool);
                commit_run(&commit, group.all, WRITERS);
                check_group(&group, &scratch->spool,
                            failing_disarm() && strcmp(failing.struck, "unlinkat") == 0);
                for (int writer = 0; writer < WRITERS; writer++)
                    retire_remove(&scratch->spool, group.writers[writer].queue, QUEUE_NEW,
                                  group.ids[writer]);
                commit_close(&commit);
            }
        }
    }
}

/* Without a method there is nothing to promise by, and syncfs(2) is none without a descriptor. */
static void check_methods(const struct commit *commit)
{
    for (int queue = 0; queue < QUEUE_COUNT; queue++) {
        const struct commit_queue *how = &commit->queues[queue];
        assert_int_equal(how->method == COMMIT_SYNCFS, how->sync_descriptor >= 0);
        assert_true(how->sync_descriptor < 0 || fcntl(how->sync_descriptor, F_GETFD) >= 0);
    }
}

static void commits_are_prepared_or_refused(void **state)
{
    struct scratch *scratch = *state;

    FAILING_EACH (at) {
        struct commit commit;
        const struct commit_queue *store = &commit.queues[QUEUE_STORE],
                                  *relay = &commit.queues[QUEUE_RELAY];
        int error;
        failing_arm(at, EIO);
        error = commit_open(&commit, &scratch->spool);
        if (!failing_disarm()) {
            assert_int_equal(error, 0);
            assert_int_equal(store->method, relay->method);
            assert_int_equal(store->sync_descriptor, relay->sync_descriptor);
        } else if (strcmp(failing.struck, "uname") == 0) {
            /* Of a kernel that does not tell what it is nothing is believed. */
            assert_int_equal(error, 0);
            assert_true(store->method == COMMIT_FSYNC || relay->method == COMMIT_FSYNC);
        } else if (error == 0) {
            /* Whether both are on one file system may stay unknown: then each has its own flush. */
            assert_string_equal(failing.struck, "fstat");
            assert_int_not_equal(store->sync_descriptor, relay->sync_descriptor);
        } else {
            assert_int_equal(error, EIO);
        }
        if (error == 0)
            check_methods(&commit);
        commit_close(&commit);
    }
}

/* A file system without files that have no name is asked with one that has. */
static void the_journal_is_looked_into_by_name(void **state)
{
    struct scratch *scratch = *state;
    static const int errors[] = {EOPNOTSUPP, EISDIR, ENOENT};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        bool by_name = false;
        FAILING_EACH (at) {
            struct commit commit;
            struct group group;
            bool struck;
            commit_open(&commit, &scratch->spool);
            group_write(&group, &scratch->spool);
            failing_arm(at, errors[i]);
            commit_run(&commit, group.all, WRITERS);
            struck = failing_disarm();
            if (struck && strcmp(failing.struck, "openat") == 0) {
                for (int writer = 0; writer < WRITERS; writer++)
                    assert_int_equal(group.writers[writer].error, 0);
                by_name = true;
            }
            check_group(&group, &scratch->spool, struck && strcmp(failing.struck, "unlinkat") == 0);
            for (int writer = 0; writer < WRITERS; writer++)
                retire_remove(&scratch->spool, group.writers[writer].queue, QUEUE_NEW,
                              group.ids[writer]);
            commit_close(&commit);
        }
        assert_true(by_name);
    }
}

/* Reading. */

static void a_message_is_read_whole_or_not_at_all(void **state)
{
    struct scratch *scratch = *state;
    static const int errors[] = {EIO, EINTR, EMFILE, FAILING_SHORT};
    static char got[BODY];
    char id[ID_SIZE];

    message_put(scratch, id, body, BODY);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        FAILING_EACH (at) {
            struct reader reader;
            enum reader_status status;
            int error = 0;
            failing_arm(at, errors[i]);
            status = reader_open(&reader, &scratch->spool, QUEUE_STORE, QUEUE_NEW, id);
            if (status == READER_OK)
                error = reader_read(&reader, got, BODY);
            if (!failing_disarm() || errors[i] == FAILING_SHORT)
                assert_int_equal(status, READER_OK);
            if (status != READER_OK) {
                assert_int_equal(status, READER_ERROR);
                assert_int_not_equal(reader.error, 0);
            } else if (error == 0) {
                assert_memory_equal(got, body, BODY);
            }
            reader_close(&reader);
        }
    }
}

static void a_file_that_ends_early_is_an_error(void **state)
{
    struct scratch *scratch = *state;
    static char got[BODY];
    struct reader reader;
    char id[ID_SIZE];
    int file;

    message_put(scratch, id, body, BODY);
    assert_int_equal(reader_open(&reader, &scratch->spool, QUEUE_STORE, QUEUE_NEW, id), READER_OK);
    file = openat(scratch_directory(scratch, QUEUE_NEW), id, O_WRONLY);
    assert_int_equal(ftruncate(file, BODY / 2), 0);
    close(file);
    assert_int_equal(reader_read(&reader, got, BODY), EIO);
    reader_close(&reader);
}

/* Setting aside. */

/* How many in failed/ are a message's, each by a name of its own and with its reason: one that could
 * not be told to be free was passed over. */
static int set_aside_as(const struct scratch *scratch, const char *id)
{
    char path[128], reason[NAME_MAX + 8];
    const struct dirent *entry;
    int count = 0;
    DIR *failed;

    snprintf(path, sizeof path, "%s/store/failed", scratch->path);
    failed = opendir(path);
    assert_non_null(failed);
    while ((entry = readdir(failed)) != NULL) {
        size_t length = strlen(entry->d_name);
        if (strncmp(entry->d_name, id, ID_LENGTH) != 0 ||
            strcmp(entry->d_name + length - strlen(".reason"), ".reason") == 0)
            continue;
        snprintf(reason, sizeof reason, "%s.reason", entry->d_name);
        assert_true(scratch_exists(scratch, QUEUE_FAILED, reason));
        count++;
    }
    closedir(failed);
    return count;
}

static void a_message_is_in_new_or_in_failed_with_its_reason(void **state)
{
    struct scratch *scratch = *state;
    static const int errors[] = {EIO, ENOSPC, EINVAL, EACCES, FAILING_SHORT};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        FAILING_EACH (at) {
            char id[ID_SIZE];
            int error;
            message_put(scratch, id, body, BODY);
            failing_arm(at, errors[i]);
            error = retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, id, "why");
            failing_disarm();
            if (error != 0) {
                assert_true(is_whole(&scratch->spool, QUEUE_STORE, id));
                assert_int_equal(
                    retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, id, "why"), 0);
            }
            assert_false(scratch_exists(scratch, QUEUE_NEW, id));
            assert_int_equal(set_aside_as(scratch, id), 1);
        }
    }
}

static void what_could_not_be_moved_is_where_it_was(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];

    message_put(scratch, id, body, BODY);
    failing_arm(1, EIO);
    assert_int_equal(retire_keep(&scratch->spool, QUEUE_STORE, id), EIO);
    failing_arm(1, EIO);
    assert_int_equal(retire_remove(&scratch->spool, QUEUE_STORE, QUEUE_NEW, id), EIO);
    failing_disarm();
    assert_true(is_whole(&scratch->spool, QUEUE_STORE, id));
    failing_arm(1, EIO);
    assert_int_equal(retire_return(&scratch->spool, QUEUE_STORE, id), EIO);
    failing_disarm();
}

static void a_name_that_is_taken_a_thousand_times_stays(void **state)
{
    struct scratch *scratch = *state;
    char name[64];

    scratch_write(scratch, QUEUE_NEW, "foreign", "body", 4);
    scratch_write(scratch, QUEUE_FAILED, "foreign", "", 0);
    for (int i = 1; i < 1000; i++) {
        snprintf(name, sizeof name, "foreign.%d", i);
        scratch_write(scratch, QUEUE_FAILED, name, "", 0);
    }
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "foreign", "why"),
                     EEXIST);
    assert_true(scratch_exists(scratch, QUEUE_NEW, "foreign"));
}

/* Looking. */

static size_t look(struct scanner *scanner)
{
    size_t found = 0;

    for (int step = 0; step < 10; step++) {
        scanner_step(scanner, SCANNER_STEP);
        found += scanner->found_count;
        if (!scanner->open)
            break;
    }
    return found;
}

/* A look that failed found less, and the next one finds all. */
static void an_error_ends_a_look_and_not_the_next(void **state)
{
    struct scratch *scratch = *state;
    struct scanner scanner = {
        .spool = &scratch->spool, .queue = QUEUE_STORE, .directory = QUEUE_NEW};
    char id[ID_SIZE];

    for (int i = 0; i < 3; i++)
        message_put(scratch, id, "body", 4);
    FAILING_EACH (at) {
        size_t found;
        failing_arm(at, EIO);
        found = look(&scanner);
        if (!failing_disarm())
            assert_int_equal(found, 3);
        assert_true(found <= 3);
        /* What could not be looked at is taken for what it was: a watcher would open it again. */
        assert_false(scanner.replaced);
        assert_int_equal(look(&scanner), 3);
        assert_false(scanner.replaced);
        scanner_stop(&scanner);
    }
}

static void a_directory_that_another_took_the_place_of_is_told(void **state)
{
    struct scratch *scratch = *state;
    struct scanner scanner = {
        .spool = &scratch->spool, .queue = QUEUE_STORE, .directory = QUEUE_NEW};
    char old[128], aside[128];

    snprintf(old, sizeof old, "%s/store/new", scratch->path);
    snprintf(aside, sizeof aside, "%s/store/was-new", scratch->path);
    look(&scanner);
    assert_false(scanner.replaced);
    assert_int_equal(rename(old, aside), 0);
    look(&scanner);
    assert_true(scanner.replaced);
    assert_int_equal(mkdir(old, 0755), 0);
    look(&scanner);
    assert_true(scanner.replaced);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_spool_that_could_not_be_opened_is_closed),
        TEST(a_lock_that_was_not_taken_is_none),
        TEST(room_that_is_not_known_is_an_error),
        TEST(what_is_acknowledged_is_whole),
        TEST(commits_are_prepared_or_refused),
        TEST(the_journal_is_looked_into_by_name),
        TEST(a_message_is_read_whole_or_not_at_all),
        TEST(a_file_that_ends_early_is_an_error),
        TEST(a_message_is_in_new_or_in_failed_with_its_reason),
        TEST(what_could_not_be_moved_is_where_it_was),
        TEST(a_name_that_is_taken_a_thousand_times_stays),
        TEST(an_error_ends_a_look_and_not_the_next),
        TEST(a_directory_that_another_took_the_place_of_is_told),
    };

    for (size_t i = 0; i < BODY; i++)
        body[i] = (char)(i * 7 + i / 256);
    return cmocka_run_group_tests_name("queue/failing", tests, NULL, NULL);
}
