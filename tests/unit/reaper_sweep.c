/* What the sweep takes, and above all what it leaves. */
#include "scratch.h"

#include "reaper/sweep.h"

enum { HOUR = 3600, DAY = 24 * HOUR, NOW = 2000000000 };

static atomic_bool never;

static struct sweep sweep_at(const struct scratch *scratch, int64_t retention)
{
    struct sweep sweep = {
        .spool = scratch->path, .now = NOW, .retention = retention, .stop = &never};
    return sweep;
}

static void set_age(const struct scratch *scratch, enum queue_directory directory, const char *name,
                    long age)
{
    struct timespec times[2] = {{.tv_sec = NOW - age}, {.tv_sec = NOW - age}};
    assert_int_equal(
        utimensat(scratch_directory(scratch, directory), name, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void put(const struct scratch *scratch, enum queue_directory directory, const char *name,
                long age)
{
    scratch_write(scratch, directory, name, "x", 1);
    set_age(scratch, directory, name, age);
}

static void ages(void **state)
{
    static const struct {
        enum queue_directory directory;
        const char *name;
        long age;
        bool stays;
    } rows[] = {
        {QUEUE_TMP, "fresh", 0, true},
        {QUEUE_TMP, "from-the-future", -10 * DAY, true},
        {QUEUE_TMP, "at-the-limit", 36 * HOUR, true},
        {QUEUE_TMP, "past-the-limit", 36 * HOUR + 1, false},
        {QUEUE_TMP, "ancient", 4000 * DAY, false},
        {QUEUE_TMP, "no-id.reason", 37 * HOUR, false},
        {QUEUE_FAILED, "fresh", 0, true},
        {QUEUE_FAILED, "tmp-old", 37 * HOUR, true},
        {QUEUE_FAILED, "at-the-limit", 7 * DAY, true},
        {QUEUE_FAILED, "past-the-limit", 7 * DAY + 1, false},
        {QUEUE_NEW, "ancient", 4000 * DAY, true},
        {QUEUE_NEW, "ancient.reason", 4000 * DAY, true},
        {QUEUE_CUR, "ancient", 4000 * DAY, true},
    };
    struct scratch *scratch = *state;
    struct sweep sweep = sweep_at(scratch, 7 * DAY);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        put(scratch, rows[i].directory, rows[i].name, rows[i].age);
    sweep_run(&sweep);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (scratch_exists(scratch, rows[i].directory, rows[i].name) != rows[i].stays)
            fail_msg("%s in %s: want %s", rows[i].name, queue_directory_names[rows[i].directory],
                     rows[i].stays ? "left" : "removed");
    assert_int_equal(sweep.removed[QUEUE_STORE][QUEUE_TMP], 3);
    assert_int_equal(sweep.removed[QUEUE_STORE][QUEUE_FAILED], 1);
}

static void messages_and_reasons(void **state)
{
    static const struct {
        const char *name;
        long age;
        bool stays;
    } rows[] = {
        {"both-old", 8 * DAY, false},
        {"both-old.reason", 8 * DAY, false},
        {"given-up-late", 8 * DAY, false},
        {"given-up-late.reason", 0, false},
        {"young", DAY, true},
        {"young.reason", 8 * DAY, true},
        {"alone.reason", 8 * DAY, false},
        {"young-alone.reason", DAY, true},
        {"told-late", 8 * DAY, false},
        {"told-late.notification", 0, false},
        {"young-untold", DAY, true},
        {"young-untold.notification", 8 * DAY, true},
        {"untold.notification", 8 * DAY, false},
        {"young-alone.notification", DAY, true},
        {"m.reason.1", 8 * DAY, false},
        {"m.reason.1.reason", 8 * DAY, false},
    };
    struct scratch *scratch = *state;
    struct sweep sweep = sweep_at(scratch, 7 * DAY);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        put(scratch, QUEUE_FAILED, rows[i].name, rows[i].age);
    sweep_run(&sweep);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (scratch_exists(scratch, QUEUE_FAILED, rows[i].name) != rows[i].stays)
            fail_msg("%s: want %s", rows[i].name, rows[i].stays ? "left" : "removed");
}

static void longest_names(void **state)
{
    struct scratch *scratch = *state;
    struct sweep sweep = sweep_at(scratch, 7 * DAY);
    char name[256];

    memset(name, 'n', 255);
    name[255] = '\0';
    put(scratch, QUEUE_FAILED, name, 8 * DAY);
    memcpy(name + 248, ".reason", 7);
    put(scratch, QUEUE_FAILED, name, 8 * DAY);
    sweep_run(&sweep);
    assert_int_equal(sweep.removed[QUEUE_STORE][QUEUE_FAILED], 2);
}

static void only_regular_files(void **state)
{
    struct scratch *scratch = *state;
    struct sweep sweep = sweep_at(scratch, 7 * DAY);
    int tmp = scratch_directory(scratch, QUEUE_TMP);

    put(scratch, QUEUE_NEW, "live", 0);
    assert_int_equal(mkdirat(tmp, "directory", 0700), 0);
    assert_int_equal(symlinkat("../new/live", tmp, "link"), 0);
    assert_int_equal(mkfifoat(tmp, "fifo", 0600), 0);
    set_age(scratch, QUEUE_TMP, "directory", 4000 * DAY);
    set_age(scratch, QUEUE_TMP, "link", 4000 * DAY);
    set_age(scratch, QUEUE_TMP, "fifo", 4000 * DAY);
    sweep_run(&sweep);
    assert_true(scratch_exists(scratch, QUEUE_TMP, "directory"));
    assert_true(scratch_exists(scratch, QUEUE_TMP, "link"));
    assert_true(scratch_exists(scratch, QUEUE_TMP, "fifo"));
    assert_true(scratch_exists(scratch, QUEUE_NEW, "live"));
    assert_int_equal(sweep.removed[QUEUE_STORE][QUEUE_TMP], 0);
}

static void stops_when_told(void **state)
{
    struct scratch *scratch = *state;
    atomic_bool now = true;
    struct sweep sweep = sweep_at(scratch, 7 * DAY);

    sweep.stop = &now;
    put(scratch, QUEUE_TMP, "ancient", 4000 * DAY);
    sweep_run(&sweep);
    assert_true(scratch_exists(scratch, QUEUE_TMP, "ancient"));
}

static void what_is_not_there_is_no_error(void **state)
{
    struct scratch *scratch = *state;
    struct sweep sweep = sweep_at(scratch, 7 * DAY);

    put(scratch, QUEUE_FAILED, "ancient", 4000 * DAY);
    assert_int_equal(unlinkat(scratch->spool.queues[QUEUE_RELAY], queue_directory_names[QUEUE_TMP],
                              AT_REMOVEDIR),
                     0);
    assert_int_equal(unlinkat(scratch->spool.queues[QUEUE_STORE], queue_directory_names[QUEUE_TMP],
                              AT_REMOVEDIR),
                     0);
    sweep_run(&sweep);
    assert_false(scratch_exists(scratch, QUEUE_FAILED, "ancient"));
    sweep.spool = "/nonexistent/spool";
    sweep_run(&sweep);
    assert_int_equal(access("/nonexistent", F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ages, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(messages_and_reasons, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(longest_names, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(only_regular_files, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(stops_when_told, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_no_error, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
