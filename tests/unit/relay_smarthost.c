/* The smarthost's state: when it is tried again, and over how many connections. */
#include "relay/smarthost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void pauses_double_up_to_five_minutes(void **state)
{
    (void)state;
    static const struct {
        enum trouble trouble;
        uint64_t want[9]; /* seconds */
    } rows[] = {
        {TROUBLE_UNREACHABLE, {5, 10, 20, 40, 80, 160, 300, 300, 300}},
        {TROUBLE_THROTTLED, {5, 10, 20, 40, 80, 160, 300, 300, 300}},
        {TROUBLE_PROTOCOL, {5, 10, 20, 40, 80, 160, 300, 300, 300}},
        {TROUBLE_NAME, {60, 120, 240, 300, 300, 300, 300, 300, 300}},
        {TROUBLE_NO_TLS, {60, 120, 240, 300, 300, 300, 300, 300, 300}},
        {TROUBLE_CERTIFICATE, {60, 120, 240, 300, 300, 300, 300, 300, 300}},
        {TROUBLE_CREDENTIALS, {60, 120, 240, 300, 300, 300, 300, 300, 300}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct smarthost smarthost;
        uint64_t now = 1000;
        smarthost_init(&smarthost, 4);
        assert_true(smarthost_is_open(&smarthost, 0));
        for (size_t j = 0; j < 9; j++) {
            assert_int_equal(smarthost_troubled(&smarthost, rows[i].trouble, now), j == 0);
            assert_int_equal(smarthost_wait(&smarthost, now), rows[i].want[j] * 1000);
            assert_false(smarthost_is_open(&smarthost, now + rows[i].want[j] * 1000 - 1));
            now += rows[i].want[j] * 1000;
            assert_true(smarthost_is_open(&smarthost, now));
            assert_int_equal(smarthost_wait(&smarthost, now), 0);
            assert_int_equal(smarthost.limit, 1);
        }
    }
}

static void what_fails_at_once_is_one_trouble(void **state)
{
    (void)state;
    struct smarthost smarthost;
    smarthost_init(&smarthost, 4);
    assert_true(smarthost_troubled(&smarthost, TROUBLE_UNREACHABLE, 0));
    for (uint64_t now = 0; now < 5000; now += 100)
        assert_false(smarthost_troubled(&smarthost, TROUBLE_THROTTLED, now));
    assert_int_equal(smarthost.trouble, TROUBLE_UNREACHABLE);
    assert_int_equal(smarthost_wait(&smarthost, 0), 5000);
    /* Another trouble is another piece of news, and the pauses go on from there. */
    assert_true(smarthost_troubled(&smarthost, TROUBLE_THROTTLED, 5000));
    assert_int_equal(smarthost_wait(&smarthost, 5000), 10000);
    assert_true(smarthost_troubled(&smarthost, TROUBLE_CREDENTIALS, 15000));
    assert_int_equal(smarthost_wait(&smarthost, 15000), 60000);
}

static void all_goes_at_once_when_it_is_back(void **state)
{
    (void)state;
    struct smarthost smarthost;
    smarthost_init(&smarthost, 8);
    assert_false(smarthost_succeeded(&smarthost, 0, 0));
    assert_int_equal(smarthost.limit, 8);
    smarthost_troubled(&smarthost, TROUBLE_UNREACHABLE, 0);
    smarthost_troubled(&smarthost, TROUBLE_UNREACHABLE, 5000);
    assert_true(smarthost_succeeded(&smarthost, 15000, 15001));
    assert_int_equal(smarthost.limit, 8);
    assert_true(smarthost_is_open(&smarthost, 15001));
    /* And the next trouble begins with the shortest pause. */
    assert_true(smarthost_troubled(&smarthost, TROUBLE_UNREACHABLE, 16000));
    assert_int_equal(smarthost_wait(&smarthost, 16000), 5000);
}

/* What was under way when the trouble came says nothing of what will be after the pause. */
static void what_was_begun_before_ends_no_trouble(void **state)
{
    (void)state;
    struct smarthost smarthost;
    smarthost_init(&smarthost, 4);
    smarthost_troubled(&smarthost, TROUBLE_THROTTLED, 1000);
    assert_false(smarthost_succeeded(&smarthost, 900, 1100));
    assert_int_equal(smarthost_wait(&smarthost, 1100), 4900);
    assert_int_equal(smarthost.trouble, TROUBLE_THROTTLED);
    assert_int_equal(smarthost.limit, 1);
    assert_false(smarthost_succeeded(&smarthost, 5999, 7000));
    assert_true(smarthost_succeeded(&smarthost, 6000, 7000));
}

/* Half as many connections, and one more after each minute without a word of it. */
static void a_host_that_was_throttling_gets_more_step_by_step(void **state)
{
    (void)state;
    struct smarthost smarthost;
    static const struct {
        uint64_t at; /* seconds after the first trouble */
        bool trouble;
        size_t want; /* limit */
    } rows[] = {
        {0, true, 1},    {5, false, 3},   {6, false, 3},   {59, false, 3},  {60, false, 4},
        {61, false, 4},  {120, false, 5}, {130, true, 1},  {135, false, 2}, {140, true, 1},
        {145, false, 1}, {150, true, 1},  {155, false, 1}, {210, false, 2}, {270, false, 3},
        {330, false, 4}, {390, false, 5}, {450, false, 6}, {510, false, 6},
    };
    smarthost_init(&smarthost, 6);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t now = 1000 * rows[i].at;
        if (rows[i].trouble)
            smarthost_troubled(&smarthost, TROUBLE_THROTTLED, now);
        else
            smarthost_succeeded(&smarthost, now, now);
        assert_int_equal(smarthost.limit, rows[i].want);
    }
}

static void somebody_may_hurry_it(void **state)
{
    (void)state;
    struct smarthost smarthost;
    smarthost_init(&smarthost, 4);
    smarthost_troubled(&smarthost, TROUBLE_CREDENTIALS, 0);
    smarthost_hurry(&smarthost, 100);
    assert_true(smarthost_is_open(&smarthost, 100));
    /* Still the same trouble, which has been said. */
    assert_false(smarthost_troubled(&smarthost, TROUBLE_CREDENTIALS, 200));
    assert_int_equal(smarthost_wait(&smarthost, 200), 60000);
}

static void faults_come_with_advice(void **state)
{
    (void)state;
    for (enum trouble trouble = TROUBLE_NONE; trouble < TROUBLE_COUNT; trouble++) {
        assert_true(strlen(trouble_name(trouble)) > 0);
        assert_int_equal(strlen(trouble_advice(trouble)) > 0, trouble_is_fault(trouble));
        if (trouble_is_fault(trouble))
            assert_non_null(strstr(trouble_advice(trouble), "RELAY_"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_up_to_five_minutes),
        cmocka_unit_test(what_fails_at_once_is_one_trouble),
        cmocka_unit_test(all_goes_at_once_when_it_is_back),
        cmocka_unit_test(what_was_begun_before_ends_no_trouble),
        cmocka_unit_test(a_host_that_was_throttling_gets_more_step_by_step),
        cmocka_unit_test(somebody_may_hurry_it),
        cmocka_unit_test(faults_come_with_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
