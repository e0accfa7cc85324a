/* Halving finds what is to blame, and tries all the rest. */
#include "storer/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Plays the database: a segment is refused while it holds one of the messages in `bad` (a bit
 * each). Returns those given up; `*tries` counts. Every message must be dealt with once, in order.
 */
static uint64_t play(size_t count, uint64_t bad, unsigned *tries)
{
    struct plan plan;
    uint64_t given_up = 0;
    size_t expected = 0;
    const struct plan_segment *segment;
    plan_init(&plan, count);
    for (*tries = 0; (segment = plan_next(&plan)); (*tries)++) {
        assert_true(segment->count > 0);
        assert_int_equal(segment->first, expected);
        uint64_t mask = segment->count == 64 ? UINT64_MAX : (UINT64_C(1) << segment->count) - 1;
        if (bad & mask << segment->first) {
            if (plan_halve(&plan))
                continue;
            given_up |= UINT64_C(1) << segment->first;
        }
        expected = segment->first + segment->count;
        plan_done(&plan);
    }
    assert_int_equal(expected, count);
    return given_up;
}

static void a_good_batch_is_one_try(void **state)
{
    (void)state;
    unsigned tries;
    for (size_t count = 1; count <= 64; count++) {
        assert_int_equal(play(count, 0, &tries), 0);
        assert_int_equal(tries, 1);
    }
    assert_int_equal(play(0, 0, &tries), 0);
    assert_int_equal(tries, 0);
}

static void the_bad_ones_are_found(void **state)
{
    (void)state;
    static const uint64_t bads[] = {1,          2,    3,          UINT64_C(1) << 63,
                                    0x80000001, 0xff, 0xf0f0f0f0, UINT64_MAX};
    unsigned tries;
    for (size_t count = 1; count <= 64; count++)
        for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) {
            uint64_t mask = count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
            uint64_t bad = bads[i] & mask;
            assert_int_equal(play(count, bad, &tries), bad);
            assert_true(tries <= 2 * count);
        }
}

static void one_bad_message_costs_a_logarithm(void **state)
{
    (void)state;
    unsigned tries;
    for (unsigned i = 0; i < 64; i++) {
        play(64, UINT64_C(1) << i, &tries);
        assert_int_equal(tries, 1 + 2 * 6);
    }
}

static void the_largest_batch_fits(void **state)
{
    (void)state;
    struct plan plan;
    plan_init(&plan, SIZE_MAX);
    unsigned depth = 0;
    while (plan_halve(&plan))
        depth++;
    assert_true(depth < PLAN_DEPTH);
    assert_int_equal(plan_next(&plan)->count, 1);
}

static void patience_is_for_one_segment(void **state)
{
    (void)state;
    struct plan plan;
    plan_init(&plan, 4);
    for (int i = 1; i < PLAN_PATIENCE; i++)
        assert_false(plan_failed(&plan));
    assert_true(plan_failed(&plan));
    assert_true(plan_halve(&plan));
    for (int i = 1; i < PLAN_PATIENCE; i++)
        assert_false(plan_failed(&plan));
    plan_done(&plan);
    assert_false(plan_failed(&plan));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_batch_is_one_try),
        cmocka_unit_test(the_bad_ones_are_found),
        cmocka_unit_test(one_bad_message_costs_a_logarithm),
        cmocka_unit_test(the_largest_batch_fits),
        cmocka_unit_test(patience_is_for_one_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
