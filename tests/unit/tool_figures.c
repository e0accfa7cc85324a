/* Ages and sizes as tables have them, and ages by domain. */
#include "queue/tool/figures.h"
#include "queue/tool/shape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static void ages(void **state)
{
    (void)state;
    static const struct {
        int64_t seconds;
        const char *want;
    } rows[] = {
        {-5, "0s"},        {0, "0s"},         {59, "59s"},       {60, "1m"},
        {3599, "59m"},     {3600, "1h00m"},   {86399, "23h59m"}, {86400, "1d00h"},
        {604799, "6d23h"}, {863999, "9d23h"}, {864000, "10d"},   {31536000, "365d"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char got[FIGURE_SIZE];
        figure_age(got, rows[i].seconds * 1000000);
        assert_string_equal(got, rows[i].want);
    }
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *want;
    } rows[] = {
        {0, "0"},
        {999, "999"},
        {1000, "1.0K"},
        {1024, "1.0K"},
        {1536, "1.5K"},
        {10000, "9.8K"},
        {10240, "10K"},
        {1023000, "999K"},
        {1023999, "1.0M"},
        {26214400, "25M"},
        {UINT64_C(3) << 30, "3.0G"},
        {UINT64_MAX, "16E"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char got[FIGURE_SIZE];
        figure_bytes(got, rows[i].bytes);
        assert_string_equal(got, rows[i].want);
    }
}

static const int64_t MINUTE = 60000000;

static void counts_by_domain_and_age(void **state)
{
    (void)state;
    struct shape shape;
    assert_true(shape_open(&shape, SHAPE_DOMAINS));
    shape_add(&shape, "a@one.example", 0);
    shape_add(&shape, "b@ONE.example", 5 * MINUTE - 1);
    shape_add(&shape, "\"x@y\"@one.example", 5 * MINUTE);
    shape_add(&shape, "a@two.example", 1280 * MINUTE);
    shape_add(&shape, "a@two.example", 100000 * MINUTE);
    shape_add(&shape, "postmaster", -MINUTE);
    shape_sort(&shape);

    assert_int_equal(shape.count, 3);
    assert_string_equal(shape.rows[0].domain, "one.example");
    assert_int_equal(shape.rows[0].total, 3);
    assert_int_equal(shape.rows[0].ages[0], 2);
    assert_int_equal(shape.rows[0].ages[1], 1);
    assert_string_equal(shape.rows[1].domain, "two.example");
    assert_int_equal(shape.rows[1].ages[SHAPE_AGES - 1], 2);
    assert_string_equal(shape.rows[2].domain, "");
    assert_int_equal(shape.rows[2].ages[0], 1);
    assert_int_equal(shape.total.total, 6);
    assert_int_equal(shape.total.ages[0], 3);
    assert_int_equal(shape.others.total, 0);
    shape_close(&shape);
}

/* Rows of one total are in the order of their names, so that two looks can be compared. */
static void counts_in_bounded_memory(void **state)
{
    (void)state;
    struct shape shape;
    char recipient[400];
    assert_true(shape_open(&shape, 3));
    for (int i = 0; i < 1000; i++) {
        snprintf(recipient, sizeof recipient, "a@d%d.example", i);
        shape_add(&shape, recipient, 0);
    }
    shape_add(&shape, "a@d1.example", 0);
    shape_sort(&shape);
    assert_int_equal(shape.count, 3);
    assert_string_equal(shape.rows[0].domain, "d1.example");
    assert_string_equal(shape.rows[1].domain, "d0.example");
    assert_string_equal(shape.rows[2].domain, "d2.example");
    assert_int_equal(shape.others.total, 997);
    assert_int_equal(shape.total.total, 1001);
    shape_sum(&shape.others, &shape.rows[0]);
    assert_int_equal(shape.others.ages[0], 999);
    shape_close(&shape);

    /* A domain that is none, since it is too long for one, takes no more room than one. */
    assert_true(shape_open(&shape, 3));
    memset(recipient, 'x', sizeof recipient);
    recipient[0] = '@';
    recipient[sizeof recipient - 1] = '\0';
    shape_add(&shape, recipient, 0);
    assert_int_equal(strlen(shape.rows[0].domain), SHAPE_NAME_MAX);
    shape_close(&shape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages),
        cmocka_unit_test(sizes),
        cmocka_unit_test(counts_by_domain_and_age),
        cmocka_unit_test(counts_in_bounded_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
