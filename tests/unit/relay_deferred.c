/* What is due in cur/, and what does not belong there. */
#include "outgoing.h"

#include "relay/deferred.h"

#include <inttypes.h>

struct names {
    char found[16][ID_SIZE];
    size_t count;
};

/* When the process began that looks. */
static int64_t began;

static struct deferred look(struct scratch *scratch, struct names *names)
{
    struct deferred deferred;
    static struct scanner scanner;

    scanner = (struct scanner){
        .spool = &scratch->spool,
        .queue = QUEUE_RELAY,
        .directory = QUEUE_CUR,
        .judge_cb = deferred_judge_cb,
        .data = &deferred,
    };
    deferred.since = began;
    deferred_clear(&deferred);
    names->count = 0;
    do {
        scanner_step(&scanner, SCANNER_STEP);
        for (size_t i = 0; i < scanner.found_count; i++)
            memcpy(names->found[names->count++], scanner.found[i].id, ID_SIZE);
    } while (scanner.open);
    return deferred;
}

static int64_t mtime_of(const struct scratch *scratch, const char *name)
{
    struct stat file;

    assert_int_equal(fstatat(scratch_directory(scratch, QUEUE_CUR), name, &file, 0), 0);
    return (int64_t)file.st_mtim.tv_sec * 1000000 + file.st_mtim.tv_nsec / 1000;
}

static void an_empty_directory_has_no_time(void **state)
{
    struct names names;
    struct deferred got = look(*state, &names);

    assert_int_equal(names.count, 0);
    assert_true(got.earliest == INT64_MAX);
}

static void what_is_due_is_found(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing outgoing = outgoing_to(1);
    /* Seconds from now; not more than an hour away: a clock that was set back. */
    static const struct {
        long from_now;
        bool due;
    } rows[] = {{-100000, true}, {-1, true},    {300, false},
                {3000, false},   {3500, false}, {100000, true}};
    enum { COUNT = sizeof rows / sizeof rows[0] };
    char ids[COUNT][ID_SIZE];
    struct names names;
    struct deferred got;
    size_t want = 0;

    for (size_t i = 0; i < COUNT; i++) {
        outgoing_put(scratch, QUEUE_CUR, ids[i], &outgoing);
        outgoing_touch(scratch, QUEUE_CUR, ids[i], rows[i].from_now);
    }
    got = look(scratch, &names);
    for (size_t i = 0; i < COUNT; i++) {
        bool found = false;
        for (size_t j = 0; j < names.count; j++)
            found |= strcmp(names.found[j], ids[i]) == 0;
        if (found != rows[i].due)
            fail_msg("%ld s from now: got %d, want %d", rows[i].from_now, found, rows[i].due);
        want += rows[i].due;
    }
    assert_int_equal(names.count, want);
    assert_true(got.earliest == mtime_of(scratch, ids[2]));
}

static void a_reason_stays_beside_its_message(void **state)
{
    struct scratch *scratch = *state;
    struct outgoing outgoing = outgoing_to(1);
    char with[ID_SIZE], alone[ID_SIZE], fresh[ID_SIZE], reason[3][ID_SIZE + 16];
    struct names names;

    outgoing_put(scratch, QUEUE_CUR, with, &outgoing);
    outgoing_touch(scratch, QUEUE_CUR, with, 1000);
    id_make(alone, outgoing.received);
    id_make(fresh, outgoing.received);
    snprintf(reason[0], sizeof reason[0], "%s.reason", with);
    snprintf(reason[1], sizeof reason[1], "%s.reason", alone);
    snprintf(reason[2], sizeof reason[2], "%s.reason", fresh);
    for (size_t i = 0; i < 3; i++) {
        scratch_write(scratch, QUEUE_CUR, reason[i], "why\n", 4);
        outgoing_touch(scratch, QUEUE_CUR, reason[i], i < 2 ? -3700 : -3500);
    }
    look(scratch, &names);
    assert_int_equal(names.count, 0);
    assert_true(scratch_exists(scratch, QUEUE_CUR, reason[0]));
    assert_false(scratch_exists(scratch, QUEUE_CUR, reason[1]));
    assert_true(scratch_exists(scratch, QUEUE_CUR, reason[2]));

    /* One that another process left alone is nobody's any more; one beside its message stays. */
    began = mtime_of(scratch, reason[2]);
    look(scratch, &names);
    assert_true(scratch_exists(scratch, QUEUE_CUR, reason[2]));
    began++;
    look(scratch, &names);
    began = 0;
    assert_false(scratch_exists(scratch, QUEUE_CUR, reason[2]));
    assert_true(scratch_exists(scratch, QUEUE_CUR, reason[0]));
}

static void a_stranger_is_set_aside(void **state)
{
    struct scratch *scratch = *state;
    static const char *const strangers[] = {
        "stranger", "other.reason", "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.reasons",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d1", "0193a5b2-7c4e-4b1a-9f53-0c1f6a2e9d10.reason"};
    struct names names;
    char reason[128];

    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
        scratch_write(scratch, QUEUE_CUR, strangers[i], "text", 4);
    look(scratch, &names);
    assert_int_equal(names.count, 0);
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        assert_false(scratch_exists(scratch, QUEUE_CUR, strangers[i]));
        snprintf(reason, sizeof reason, "%s.reason", strangers[i]);
        assert_true(scratch_exists(scratch, QUEUE_FAILED, strangers[i]));
        assert_true(scratch_exists(scratch, QUEUE_FAILED, reason));
    }
}

/* The loader says what is wrong with it. */
static void what_is_no_regular_file_is_found(void **state)
{
    struct scratch *scratch = *state;
    char link[ID_SIZE], directory[ID_SIZE];
    struct names names;

    id_make(link, INT64_C(1795288091123456));
    id_make(directory, INT64_C(1795288091123456));
    assert_int_equal(symlinkat("nowhere", scratch_directory(scratch, QUEUE_CUR), link), 0);
    assert_int_equal(mkdirat(scratch_directory(scratch, QUEUE_CUR), directory, 0750), 0);
    outgoing_touch(scratch, QUEUE_CUR, directory, 1000);
    look(scratch, &names);
    assert_int_equal(names.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_directory_has_no_time, outgoing_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_due_is_found, outgoing_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(a_reason_stays_beside_its_message, outgoing_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(a_stranger_is_set_aside, outgoing_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_found, outgoing_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
