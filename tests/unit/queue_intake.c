/* Names on their way to the loader: each once, bounded, and a scan when one may have been missed.
 */
#include "queue/intake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    static struct intake intake;
    *state = &intake;
    return intake_init(&intake, 100, 1000) ? 0 : -1;
}

static int tear_down(void **state)
{
    intake_free(*state);
    return 0;
}

/* The ids of this test differ in few bits, so that they crowd in the hash table. */
static const char *id_of(unsigned number)
{
    static char id[ID_SIZE];
    snprintf(id, sizeof id, "0193a5b2-7c4e-7b1a-9f53-0000%08x", number);
    return id;
}

static void check_taken(struct intake *intake, const char *want)
{
    struct candidate candidate;
    assert_int_equal(intake_take(intake, &candidate, 1), want != NULL);
    if (want)
        assert_string_equal(candidate.id, want);
}

static void a_name_is_queued_once(void **state)
{
    struct intake *intake = *state;
    intake_hint(intake, id_of(1));
    intake_hint(intake, id_of(1));
    assert_true(intake_add(intake, id_of(1), QUEUE_CUR));
    check_taken(intake, id_of(1));
    check_taken(intake, NULL);
    /* In hand it is known still. */
    intake_hint(intake, id_of(1));
    check_taken(intake, NULL);
    intake_forget(intake, id_of(1));
    intake_hint(intake, id_of(1));
    check_taken(intake, id_of(1));
    assert_false(intake->scan_wanted);
}

static void the_directory_is_remembered(void **state)
{
    struct intake *intake = *state;
    struct candidate candidate;
    assert_true(intake_add(intake, id_of(1), QUEUE_CUR));
    assert_int_equal(intake_take(intake, &candidate, 1), 1);
    assert_int_equal(candidate.directory, QUEUE_CUR);
}

static void what_is_no_id_wants_a_scan(void **state)
{
    struct intake *intake = *state;
    static const struct {
        const char *name;
        bool want;
    } rows[] = {{"README", true}, {NULL, true}, {".hidden", false}, {"", true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        intake->scan_wanted = false;
        intake_hint(intake, rows[i].name);
        assert_int_equal(intake->scan_wanted, rows[i].want);
        check_taken(intake, NULL);
    }
}

static void a_full_queue_wants_a_scan(void **state)
{
    struct intake *intake = *state;
    intake->burst = SIZE_MAX;
    for (unsigned i = 0; i < INTAKE_QUEUE; i++)
        intake_hint(intake, id_of(i));
    assert_false(intake->scan_wanted);
    assert_int_equal(intake_room(intake), 0);
    intake_hint(intake, id_of(INTAKE_QUEUE));
    assert_true(intake->scan_wanted);
    assert_false(intake_add(intake, id_of(INTAKE_QUEUE), QUEUE_NEW));
    assert_true(intake_add(intake, id_of(5), QUEUE_NEW));
    for (unsigned i = 0; i < INTAKE_QUEUE; i++)
        check_taken(intake, id_of(i));
    check_taken(intake, NULL);
}

static void a_burst_wants_a_scan(void **state)
{
    struct intake *intake = *state;
    for (int i = 1; i < 1000; i++)
        intake_hint(intake, id_of(1));
    assert_false(intake->scan_wanted);
    intake_hint(intake, id_of(1));
    assert_true(intake->scan_wanted);
    intake_scan_begin(intake);
    intake_scan_end(intake);
    for (int i = 1; i < 1000; i++)
        intake_hint(intake, id_of(1));
    assert_false(intake->scan_wanted);
}

static void a_scan_wanted_during_a_scan_is_remembered(void **state)
{
    struct intake *intake = *state;
    assert_false(intake_scan_due(intake));
    intake_want_scan(intake);
    assert_true(intake_scan_due(intake));
    intake_scan_begin(intake);
    assert_false(intake_scan_due(intake));
    intake_want_scan(intake);
    assert_false(intake_scan_due(intake));
    intake_scan_end(intake);
    assert_true(intake_scan_due(intake));
    intake_scan_begin(intake);
    intake_scan_end(intake);
    assert_false(intake_scan_due(intake));
}

static void what_was_not_used_comes_first_again(void **state)
{
    struct intake *intake = *state;
    struct candidate candidates[10];
    for (unsigned i = 0; i < 10; i++)
        intake_hint(intake, id_of(i));
    assert_int_equal(intake_take(intake, candidates, 6), 6);
    intake_return(intake, candidates + 4, 2);
    for (unsigned i = 4; i < 10; i++)
        check_taken(intake, id_of(i));
    check_taken(intake, NULL);
}

static void what_cannot_be_returned_is_found_by_a_scan(void **state)
{
    struct intake *intake = *state;
    struct candidate candidates[2];
    intake->burst = SIZE_MAX;
    intake_hint(intake, id_of(0));
    intake_hint(intake, id_of(1));
    assert_int_equal(intake_take(intake, candidates, 2), 2);
    for (unsigned i = 2; i < INTAKE_QUEUE + 1; i++)
        intake_hint(intake, id_of(i));
    intake_return(intake, candidates, 2);
    assert_true(intake->scan_wanted);
    check_taken(intake, id_of(1));
    assert_true(intake_add(intake, id_of(0), QUEUE_NEW));
    assert_int_equal(intake->count, INTAKE_QUEUE);
}

static void what_leaves_is_known_until_it_has_left(void **state)
{
    struct intake *intake = *state;
    intake_hint(intake, id_of(1));
    check_taken(intake, id_of(1));
    intake_leave(intake, id_of(1));
    intake_hint(intake, id_of(1));
    check_taken(intake, NULL);
    intake_left(intake);
    intake_hint(intake, id_of(1));
    check_taken(intake, id_of(1));
    intake_leave(intake, id_of(1));
    intake_scan_begin(intake);
    assert_true(intake_add(intake, id_of(1), QUEUE_NEW));
    check_taken(intake, id_of(1));
    for (unsigned i = 0; i < 1000; i++)
        intake_leave(intake, id_of(i));
}

/* What was heard of a file in hand, before and after it was let go. */
struct heard {
    enum queue_directory directory;
    bool leaves; /* by its file's removal from new/, which is heard once */
    unsigned before, after;
    bool want; /* a look once more */
};

static void check_heard(struct intake *intake, unsigned number, const struct heard *row)
{
    assert_true(intake_add(intake, id_of(number), row->directory));
    check_taken(intake, id_of(number));
    for (unsigned i = 0; i < row->before; i++)
        intake_hint(intake, id_of(number));
    check_taken(intake, NULL);
    if (row->leaves)
        intake_leave(intake, id_of(number));
    else
        intake_forget(intake, id_of(number));
    for (unsigned i = 0; i < row->after; i++)
        intake_hint(intake, id_of(number));
    if (row->leaves)
        check_taken(intake, NULL);
    intake_left(intake);
    check_taken(intake, row->want ? id_of(number) : NULL);
    intake_forget(intake, id_of(number));
    check_taken(intake, NULL);
    assert_int_equal(intake->known_count, 0);
}

static void what_is_heard_of_a_file_in_hand_is_looked_for_again(void **state)
{
    struct intake *intake = *state;
    static const struct heard rows[] = {
        {QUEUE_NEW, true, 0, 0, false},  {QUEUE_NEW, true, 1, 0, false},
        {QUEUE_NEW, true, 0, 1, false},  {QUEUE_NEW, true, 2, 0, true},
        {QUEUE_NEW, true, 1, 1, true},   {QUEUE_NEW, true, 0, 2, true},
        {QUEUE_NEW, true, 999, 0, true}, {QUEUE_NEW, false, 0, 0, false},
        {QUEUE_NEW, false, 1, 0, true},  {QUEUE_CUR, false, 0, 0, false},
        {QUEUE_CUR, false, 1, 0, true},
    };
    intake->burst = SIZE_MAX;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_heard(intake, i, &rows[i]);
    assert_false(intake->scan_wanted);
}

/* A hint before the look is answered by it, unless the look is at cur/. */
static void what_is_heard_of_a_file_that_waits_is_seen_in_new_alone(void **state)
{
    struct intake *intake = *state;
    assert_true(intake_add(intake, id_of(1), QUEUE_NEW));
    intake_hint(intake, id_of(1));
    check_taken(intake, id_of(1));
    intake_forget(intake, id_of(1));
    check_taken(intake, NULL);
    assert_true(intake_add(intake, id_of(2), QUEUE_CUR));
    intake_hint(intake, id_of(2));
    check_taken(intake, id_of(2));
    intake_forget(intake, id_of(2));
    struct candidate candidate;
    assert_int_equal(intake_take(intake, &candidate, 1), 1);
    assert_string_equal(candidate.id, id_of(2));
    assert_int_equal(candidate.directory, QUEUE_NEW);
}

static void what_is_heard_and_finds_no_room_wants_a_scan(void **state)
{
    struct intake *intake = *state;
    intake->burst = SIZE_MAX;
    intake_hint(intake, id_of(0));
    check_taken(intake, id_of(0));
    for (unsigned i = 1; i <= INTAKE_QUEUE; i++)
        intake_hint(intake, id_of(i));
    intake_hint(intake, id_of(0));
    assert_false(intake->scan_wanted);
    intake_forget(intake, id_of(0));
    assert_true(intake->scan_wanted);
    assert_int_equal(intake->known_count, INTAKE_QUEUE);
}

/* The hash set against a plain array of flags, over many thousand steps. */
static void the_set_agrees_with_a_plain_one(void **state)
{
    struct intake *intake = *state;
    enum { IDS = 3000 };
    static bool known[IDS];
    memset(known, 0, sizeof known);
    size_t count = 0;
    srand(1);
    for (int step = 0; step < 200000; step++) {
        unsigned number = (unsigned)rand() % IDS;
        if (rand() % 2) {
            assert_true(intake_add(intake, id_of(number), QUEUE_NEW));
            struct candidate candidate;
            assert_int_equal(intake_take(intake, &candidate, 1), !known[number]);
            count += !known[number];
            known[number] = true;
        } else {
            intake_forget(intake, id_of(number));
            count -= known[number];
            known[number] = false;
        }
        assert_int_equal(intake->known_count, count);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_name_is_queued_once),
        TEST(the_directory_is_remembered),
        TEST(what_is_no_id_wants_a_scan),
        TEST(a_full_queue_wants_a_scan),
        TEST(a_burst_wants_a_scan),
        TEST(a_scan_wanted_during_a_scan_is_remembered),
        TEST(what_was_not_used_comes_first_again),
        TEST(what_cannot_be_returned_is_found_by_a_scan),
        TEST(what_leaves_is_known_until_it_has_left),
        TEST(what_is_heard_of_a_file_in_hand_is_looked_for_again),
        TEST(what_is_heard_of_a_file_that_waits_is_seen_in_new_alone),
        TEST(what_is_heard_and_finds_no_room_wants_a_scan),
        TEST(the_set_agrees_with_a_plain_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
