/* Leaving new/, scanning it, and the spool's lock. */
#include "message.h"

#include "queue/retire.h"
#include "queue/scan.h"

#include <errno.h>
#include <sys/wait.h>

static void moves_and_removes(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    message_put(scratch, id, "body", 4);
    assert_int_equal(retire_keep(&scratch->spool, QUEUE_STORE, id), 0);
    assert_true(scratch_exists(scratch, QUEUE_CUR, id));
    assert_false(scratch_exists(scratch, QUEUE_NEW, id));
    assert_int_equal(retire_return(&scratch->spool, QUEUE_STORE, id), 0);
    assert_true(scratch_exists(scratch, QUEUE_NEW, id));
    assert_int_equal(retire_remove(&scratch->spool, QUEUE_STORE, QUEUE_NEW, id), 0);
    assert_false(scratch_exists(scratch, QUEUE_NEW, id));
}

static void what_is_gone_is_no_error(void **state)
{
    struct scratch *scratch = *state;
    assert_int_equal(retire_keep(&scratch->spool, QUEUE_STORE, "gone"), 0);
    assert_int_equal(retire_return(&scratch->spool, QUEUE_STORE, "gone"), 0);
    assert_int_equal(retire_remove(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "gone"), 0);
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "gone", "why"), 0);
    assert_false(scratch_exists(scratch, QUEUE_FAILED, "gone.reason"));
}

static void check_file(const struct scratch *scratch, const char *name, const char *want)
{
    size_t length;
    char *bytes = scratch_read(scratch, QUEUE_FAILED, name, &length);
    assert_string_equal(bytes, want);
    free(bytes);
}

static void sets_aside_with_the_reason(void **state)
{
    struct scratch *scratch = *state;
    scratch_write(scratch, QUEUE_NEW, "foreign", "first", 5);
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "foreign",
                                      "ERROR:  bad\nDETAIL:  \x1b[31mworse"),
                     0);
    check_file(scratch, "foreign", "first");
    check_file(scratch, "foreign.reason", "ERROR:  bad DETAIL:   [31mworse\n");
    assert_false(scratch_exists(scratch, QUEUE_NEW, "foreign"));
    assert_false(scratch_exists(scratch, QUEUE_TMP, "foreign.reason"));
}

static void cuts_a_reason_that_is_long(void **state)
{
    struct scratch *scratch = *state;
    enum { MOST = 4000 };
    char reason[MOST + 10], want[MOST + 2];
    memset(reason, 'w', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    memset(want, 'w', MOST);
    strcpy(want + MOST, "\n");
    scratch_write(scratch, QUEUE_NEW, "foreign", "body", 4);
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "foreign", reason),
                     0);
    check_file(scratch, "foreign.reason", want);
}

static void does_not_write_through_a_planted_link(void **state)
{
    struct scratch *scratch = *state;
    int tmp = scratch_directory(scratch, QUEUE_TMP);
    scratch_write(scratch, QUEUE_CUR, "victim", "precious", 8);
    assert_int_equal(symlinkat("../cur/victim", tmp, "foreign.reason"), 0);
    scratch_write(scratch, QUEUE_NEW, "foreign", "body", 4);
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "foreign", "why"),
                     0);
    size_t length;
    char *bytes = scratch_read(scratch, QUEUE_CUR, "victim", &length);
    assert_string_equal(bytes, "precious");
    free(bytes);
    check_file(scratch, "foreign.reason", "why\n");
}

static void never_replaces_what_is_there(void **state)
{
    struct scratch *scratch = *state;
    static const char *const bodies[] = {"first", "second", "third"};
    for (int i = 0; i < 3; i++) {
        scratch_write(scratch, QUEUE_NEW, "foreign", bodies[i], strlen(bodies[i]));
        assert_int_equal(
            retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "foreign", bodies[i]), 0);
    }
    scratch_write(scratch, QUEUE_NEW, "foreign.reason", "fourth", 6);
    assert_int_equal(
        retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "foreign.reason", "why"), 0);
    check_file(scratch, "foreign", "first");
    check_file(scratch, "foreign.1", "second");
    check_file(scratch, "foreign.2", "third");
    check_file(scratch, "foreign.reason", "first\n");
    check_file(scratch, "foreign.2.reason", "third\n");
    check_file(scratch, "foreign.reason.1", "fourth");
}

static void a_long_name_gets_an_id(void **state)
{
    struct scratch *scratch = *state;
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    scratch_write(scratch, QUEUE_NEW, name, "body", 4);
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, name, "why"), 0);
    assert_false(scratch_exists(scratch, QUEUE_NEW, name));
    struct scan scan;
    const char *found;
    int messages = 0, reasons = 0;
    assert_int_equal(scan_open(&scan, &scratch->spool, QUEUE_STORE, QUEUE_FAILED), 0);
    while (scan_next(&scan, &found) == 1)
        *(id_valid(found) ? &messages : &reasons) += 1;
    scan_close(&scan);
    assert_int_equal(messages, 1);
    assert_int_equal(reasons, 1);
}

static void a_directory_can_be_set_aside(void **state)
{
    struct scratch *scratch = *state;
    mkdirat(scratch_directory(scratch, QUEUE_NEW), "directory", 0750);
    assert_int_equal(retire_set_aside(&scratch->spool, QUEUE_STORE, QUEUE_NEW, "directory", "why"),
                     0);
    assert_true(scratch_exists(scratch, QUEUE_FAILED, "directory"));
}

static void a_scan_sees_each_name_once_while_they_go(void **state)
{
    struct scratch *scratch = *state;
    enum { COUNT = 3000 };
    static unsigned char seen[COUNT];
    memset(seen, 0, sizeof seen);
    char name[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "name-%d", i);
        scratch_write(scratch, QUEUE_NEW, name, "", 0);
    }
    scratch_write(scratch, QUEUE_NEW, ".hidden", "", 0);
    struct scan scan;
    const char *found;
    int more;
    assert_int_equal(scan_open(&scan, &scratch->spool, QUEUE_STORE, QUEUE_NEW), 0);
    while ((more = scan_next(&scan, &found)) == 1) {
        int number = atoi(found + 5);
        assert_in_range(number, 0, COUNT - 1);
        assert_int_equal(seen[number]++, 0);
        assert_int_equal(retire_remove(&scratch->spool, QUEUE_STORE, QUEUE_NEW, found), 0);
    }
    assert_int_equal(more, 0);
    scan_close(&scan);
    scan_close(&scan);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
}

static void the_lock_is_held_by_one(void **state)
{
    struct scratch *scratch = *state;
    int lock = spool_lock(&scratch->spool, QUEUE_STORE);
    assert_true(lock >= 0);
    assert_int_equal(spool_lock(&scratch->spool, QUEUE_STORE), -1);
    assert_int_equal(errno, EWOULDBLOCK);
    int other = spool_lock(&scratch->spool, QUEUE_RELAY);
    assert_true(other >= 0);
    close(other);
    close(lock);
    lock = spool_lock(&scratch->spool, QUEUE_STORE);
    assert_true(lock >= 0);
    close(lock);
}

static void several_may_make_the_spool_at_once(void **state)
{
    struct scratch *scratch = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/again", scratch->path);
    for (int i = 0; i < 8; i++) {
        if (fork() == 0) {
            struct spool spool;
            _exit(spool_open(&spool, path));
        }
    }
    for (int i = 0; i < 8; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct spool spool;
    assert_int_equal(spool_open_existing(&spool, path), 0);
    spool_close(&spool);
    spool_close(&spool);
    snprintf(path, sizeof path, "%s/absent", scratch->path);
    assert_int_equal(spool_open_existing(&spool, path), ENOENT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(moves_and_removes),
        TEST(what_is_gone_is_no_error),
        TEST(sets_aside_with_the_reason),
        TEST(cuts_a_reason_that_is_long),
        TEST(does_not_write_through_a_planted_link),
        TEST(never_replaces_what_is_there),
        TEST(a_long_name_gets_an_id),
        TEST(a_directory_can_be_set_aside),
        TEST(a_scan_sees_each_name_once_while_they_go),
        TEST(the_lock_is_held_by_one),
        TEST(several_may_make_the_spool_at_once),
    };
    return cmocka_run_group_tests_name("queue/retire", tests, NULL, NULL);
}
