/* How a queue is counted, in steps, and how old it is said to be. */
#include "scratch.h"

#include "queue/census.h"
#include "queue/id.h"

#include <stdio.h>
#include <time.h>

/* More than a step has names. */
enum { MANY = 17000 };

static int64_t seconds_ago(long seconds)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return ((int64_t)now.tv_sec - seconds) * 1000000 + now.tv_nsec / 1000;
}

static void put(const struct scratch *scratch, enum queue_directory directory, const char *name)
{
    scratch_write(scratch, directory, name, "x", 1);
}

static void put_aged(const struct scratch *scratch, enum queue_directory directory,
                     const char *suffix, long seconds)
{
    char id[ID_SIZE], name[ID_SIZE + 32];

    id_make(id, seconds_ago(seconds));
    snprintf(name, sizeof name, "%s%s", id, suffix);
    put(scratch, directory, name);
}

static struct census look(const char *path)
{
    struct census census;
    uv_loop_t loop;

    assert_int_equal(uv_loop_init(&loop), 0);
    census_init(&census, &loop, path, QUEUE_STORE);
    census_begin(&census);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return census;
}

static void want(const struct census *census, enum queue_directory directory, uint64_t messages,
                 double age)
{
    double got = census_age(census, directory);

    assert_int_equal(census->counts[directory].messages, messages);
    if (got < age || got > age + (age > 0 ? 60 : 0))
        fail_msg("%s: age %f, want %f", queue_directory_names[directory], got, age);
}

static void an_empty_queue(void **state)
{
    struct scratch *scratch = *state;
    struct census census = look(scratch->path);

    want(&census, QUEUE_NEW, 0, 0);
    want(&census, QUEUE_CUR, 0, 0);
    want(&census, QUEUE_FAILED, 0, 0);
    assert_true(census.taken > 0);
}

static void each_directory_for_itself(void **state)
{
    struct scratch *scratch = *state;
    struct census census;

    put_aged(scratch, QUEUE_TMP, "", 1000000);
    put_aged(scratch, QUEUE_NEW, "", 10);
    put_aged(scratch, QUEUE_NEW, "", 300);
    put_aged(scratch, QUEUE_NEW, "", 20);
    put_aged(scratch, QUEUE_CUR, "", -5000); /* a clock that was set back */
    put_aged(scratch, QUEUE_CUR, ".reason", 9000);
    put_aged(scratch, QUEUE_FAILED, "", 2000);
    put_aged(scratch, QUEUE_FAILED, ".1", 7000);
    put_aged(scratch, QUEUE_FAILED, ".reason", 9000);
    put_aged(scratch, QUEUE_FAILED, ".notification", 9000);
    put(scratch, QUEUE_FAILED, "stranger");
    put(scratch, QUEUE_FAILED, "stranger.reason");
    put(scratch, QUEUE_FAILED, ".hidden");
    census = look(scratch->path);
    want(&census, QUEUE_NEW, 3, 300);
    want(&census, QUEUE_CUR, 1, 0);
    want(&census, QUEUE_FAILED, 3, 7000);
}

static void more_than_a_step(void **state)
{
    struct scratch *scratch = *state;
    int directory = scratch_directory(scratch, QUEUE_NEW);
    struct census census;
    char name[16];

    put(scratch, QUEUE_NEW, "0");
    for (int i = 1; i < MANY; i++) {
        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(linkat(directory, "0", directory, name, 0), 0);
    }
    put_aged(scratch, QUEUE_FAILED, "", 50);
    census = look(scratch->path);
    want(&census, QUEUE_NEW, MANY, 0);
    want(&census, QUEUE_FAILED, 1, 50);
}

/* What was counted last holds; it is said once; and a look that comes to its end counts anew. */
static void a_directory_that_is_away(void **state)
{
    struct scratch *scratch = *state;
    struct census census;
    uv_loop_t loop;

    put_aged(scratch, QUEUE_NEW, "", 10);
    assert_int_equal(uv_loop_init(&loop), 0);
    census_init(&census, &loop, scratch->path, QUEUE_STORE);
    for (int away = 0; away < 3; away++) {
        census.spool = away == 1 ? "/nowhere" : scratch->path;
        census.rests_until = 0;
        if (away == 2)
            put_aged(scratch, QUEUE_NEW, "", 10);
        census_begin(&census);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(census.complained, away == 1);
        want(&census, QUEUE_NEW, away == 2 ? 2 : 1, 10);
    }
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* A dear look is not repeated at once, and none begins or goes on behind the stop. */
static void it_rests_and_stops(void **state)
{
    struct scratch *scratch = *state;
    struct census census;
    uv_loop_t loop;

    assert_int_equal(uv_loop_init(&loop), 0);
    census_init(&census, &loop, scratch->path, QUEUE_STORE);
    census.rests_until = uv_now(&loop) + 100000;
    census_begin(&census);
    assert_false(census.busy);
    census.rests_until = 0;
    census_begin(&census);
    assert_true(census.busy);
    census_stop(&census);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(census.taken, 0);
    assert_null(census.scan.stream);
    census_begin(&census);
    assert_false(census.busy);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_queue, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(each_directory_for_itself, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(more_than_a_step, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(a_directory_that_is_away, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(it_rests_and_stops, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
