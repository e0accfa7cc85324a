/* The pace of data: silence, slowness, and length. */
#include "smtpd/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* 10 s of silence, 1,000 octets in each 10 s, 60 s in all. */
static const struct pace_limits limits = {.timeout = 10000, .minimum = 1000, .max_time = 60000};

static void silence_is_found_out(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t deadline = 0;

    pace_begin(&pace, 5000);
    assert_int_equal(pace_judge(&pace, &limits, 5000, &deadline), PACE_OK);
    assert_int_equal(deadline, 15000);
    assert_int_equal(pace_judge(&pace, &limits, 14999, &deadline), PACE_OK);
    assert_int_equal(pace_judge(&pace, &limits, 15000, &deadline), PACE_SILENT);
}

static void a_fast_client_that_falls_silent_has_one_timeout(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t deadline = 0;

    pace_begin(&pace, 0);
    pace_count(&pace, 9000, 1000000);
    assert_int_equal(pace_judge(&pace, &limits, 10000, &deadline), PACE_OK);
    assert_int_equal(deadline, 19000);
    assert_int_equal(pace_judge(&pace, &limits, 19000, &deadline), PACE_SILENT);
}

static void a_slow_client_has_one_stretch(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t deadline = 0;

    pace_begin(&pace, 0);
    for (uint64_t now = 0; now <= 10000; now += 100)
        pace_count(&pace, now, 9);
    assert_int_equal(pace_judge(&pace, &limits, 9999, &deadline), PACE_OK);
    assert_int_equal(deadline, 10000);
    assert_int_equal(pace_judge(&pace, &limits, 10000, &deadline), PACE_SLOW);
}

static void enough_in_each_stretch_is_enough(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t deadline = 0;

    pace_begin(&pace, 0);
    for (uint64_t now = 1000; now < 60000; now += 1000) {
        pace_count(&pace, now, 100);
        assert_int_equal(pace_judge(&pace, &limits, now, &deadline), PACE_OK);
        assert_true(deadline > now);
    }
    assert_int_equal(pace_judge(&pace, &limits, 60000, &deadline), PACE_SLOW);
}

static void what_we_held_up_is_excused(void **state)
{
    (void)state;
    struct pace pace;
    uint64_t deadline = 0;

    pace_begin(&pace, 0);
    pace_excuse(&pace, 30000);
    assert_int_equal(pace_judge(&pace, &limits, 30000, &deadline), PACE_OK);
    assert_int_equal(deadline, 40000);
    pace_excuse(&pace, 60000);
    assert_int_equal(pace_judge(&pace, &limits, 60000, &deadline), PACE_SLOW);
}

static void no_minimum_asks_only_for_progress(void **state)
{
    (void)state;
    const struct pace_limits patient = {.timeout = 10000, .minimum = 0, .max_time = 100000};
    struct pace pace;
    uint64_t deadline = 0;

    pace_begin(&pace, 0);
    for (uint64_t now = 9000; now < 99000; now += 9000) {
        pace_count(&pace, now, 1);
        assert_int_equal(pace_judge(&pace, &patient, now + 1000, &deadline), PACE_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_found_out),
        cmocka_unit_test(a_fast_client_that_falls_silent_has_one_timeout),
        cmocka_unit_test(a_slow_client_has_one_stretch),
        cmocka_unit_test(enough_in_each_stretch_is_enough),
        cmocka_unit_test(what_we_held_up_is_excused),
        cmocka_unit_test(no_minimum_asks_only_for_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
