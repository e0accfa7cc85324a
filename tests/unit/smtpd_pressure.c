/* Pressure: when it begins, when it is over, and what holds meanwhile. */
#include "smtpd/pressure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct pressure_limits standard = {
    .timeout = 300, .max_time = 3600, .max_errors = 20, .max_junk = 1000, .error_delay = 1};

/* The fewest open that begin pressure, going up; 0 when none of up to the limit does. */
static size_t begins_at(size_t limit)
{
    struct pressure pressure;

    pressure_init(&pressure, &standard);
    for (size_t open = 0; open <= limit; open++) {
        bool changed = pressure_update(&pressure, open, limit, false);
        assert_int_equal(changed, pressure.on);
        if (changed)
            return open;
    }
    return 0;
}

/* The most open at which it is over, going down. */
static size_t ends_at(size_t limit)
{
    struct pressure pressure;

    pressure_init(&pressure, &standard);
    assert_true(pressure_update(&pressure, limit, limit, false));
    for (size_t open = limit - 1;; open--)
        if (pressure_update(&pressure, open, limit, false))
            return open;
}

static const struct {
    size_t limit, begins, ends;
} rows[] = {
    {1, 0, 0},    {2, 0, 0},    {3, 0, 0},     {7, 0, 0},        {8, 7, 5},           {9, 8, 6},
    {15, 14, 11}, {16, 14, 11}, {100, 88, 74}, {1000, 875, 749}, {10000, 8750, 7499},
};

static void begins_at_seven_eighths_and_ends_below_three_quarters(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(begins_at(rows[i].limit), rows[i].begins);
        if (rows[i].begins == 0)
            continue;
        assert_int_equal(ends_at(rows[i].limit), rows[i].ends);
        assert_true(rows[i].begins * 8 >= rows[i].limit * 7);
        assert_true((rows[i].begins - 1) * 8 < rows[i].limit * 7);
        assert_true(rows[i].ends * 4 < rows[i].limit * 3);
        assert_true((rows[i].ends + 1) * 4 >= rows[i].limit * 3);
    }
}

static void one_connection_more_or_less_changes_nothing(void **state)
{
    (void)state;
    struct pressure pressure;
    int changes = 0;

    pressure_init(&pressure, &standard);
    for (int i = 0; i < 100; i++) {
        changes += pressure_update(&pressure, 87, 100, false);
        changes += pressure_update(&pressure, 88, 100, false);
    }
    assert_int_equal(changes, 1);
    for (int i = 0; i < 100; i++) {
        changes += pressure_update(&pressure, 75, 100, false);
        changes += pressure_update(&pressure, 74, 100, false);
    }
    assert_int_equal(changes, 2);
    assert_false(pressure.on);
}

static void descriptors_that_run_out_are_pressure(void **state)
{
    (void)state;
    static const struct {
        size_t open, limit;
    } wants[] = {{40, 10000}, {4, 10000}, {1, 10000}, {3, 3}, {1, 1}};

    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        struct pressure pressure;
        pressure_init(&pressure, &standard);
        assert_true(pressure_update(&pressure, wants[i].open, wants[i].limit, true));
        assert_false(pressure_update(&pressure, wants[i].open, wants[i].limit, true));
        assert_true(pressure_update(&pressure, wants[i].open, wants[i].limit, false));
        assert_false(pressure.on);
    }
}

/* They may be gone to another process, with none of ours open. */
static void it_lasts_while_descriptors_are_out(void **state)
{
    (void)state;
    struct pressure pressure;

    pressure_init(&pressure, &standard);
    assert_true(pressure_update(&pressure, 0, 100, true));
    assert_false(pressure_update(&pressure, 0, 100, true));
    assert_true(pressure.on);
    assert_true(pressure_update(&pressure, 0, 100, false));
    assert_false(pressure.on);
}

static void out_of_descriptors_in_a_crowd(void **state)
{
    (void)state;
    struct pressure pressure;

    pressure_init(&pressure, &standard);
    assert_true(pressure_update(&pressure, 90, 100, false));
    assert_false(pressure_update(&pressure, 92, 100, true));
    assert_false(pressure_update(&pressure, 80, 100, true));
    assert_false(pressure_update(&pressure, 75, 100, false));
    assert_true(pressure_update(&pressure, 74, 100, false));
}

static void limits_are(const struct pressure_limits *got, const struct pressure_limits *want)
{
    assert_int_equal(got->timeout, want->timeout);
    assert_int_equal(got->max_time, want->max_time);
    assert_int_equal(got->max_errors, want->max_errors);
    assert_int_equal(got->max_junk, want->max_junk);
    assert_int_equal(got->error_delay, want->error_delay);
}

static void limits_only_tighten(void **state)
{
    (void)state;
    static const struct {
        struct pressure_limits calm, tight;
    } wants[] = {
        {{300, 3600, 20, 1000, 1}, {10, 300, 2, 10, 0}},
        {{10, 300, 2, 10, 0}, {10, 300, 2, 10, 0}},
        {{1, 1, 1, 1, 0}, {1, 1, 1, 1, 0}},
        {{11, 2, 3, 4, 60}, {10, 2, 2, 4, 0}},
    };

    for (size_t i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        struct pressure pressure;
        pressure_init(&pressure, &wants[i].calm);
        limits_are(pressure_limits(&pressure), &wants[i].calm);
        assert_true(pressure_update(&pressure, 100, 100, false));
        limits_are(pressure_limits(&pressure), &wants[i].tight);
        assert_true(pressure_update(&pressure, 0, 100, false));
        limits_are(pressure_limits(&pressure), &wants[i].calm);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_at_seven_eighths_and_ends_below_three_quarters),
        cmocka_unit_test(one_connection_more_or_less_changes_nothing),
        cmocka_unit_test(descriptors_that_run_out_are_pressure),
        cmocka_unit_test(it_lasts_while_descriptors_are_out),
        cmocka_unit_test(out_of_descriptors_in_a_crowd),
        cmocka_unit_test(limits_only_tighten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
