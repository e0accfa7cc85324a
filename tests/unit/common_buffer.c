/* Buffers keep to their maximum and fail whole. */
#include "common/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void appends_up_to_the_maximum(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 600);
    for (int i = 0; i < 600; i++)
        assert_true(buffer_append(&buffer, "x", 1));
    assert_int_equal(buffer.length, 600);
    assert_true(buffer.capacity <= 600);
    assert_false(buffer_append(&buffer, "x", 1));
    assert_true(buffer.failed);
    assert_int_equal(buffer.length, 600);
    assert_false(buffer_append(&buffer, "", 0));
    buffer_clear(&buffer);
    assert_true(buffer_append(&buffer, "y", 1));
    buffer_free(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.maximum, 600);
}

static void refuses_a_length_that_overflows(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, SIZE_MAX);
    assert_true(buffer_append(&buffer, "abc", 3));
    assert_false(buffer_reserve(&buffer, SIZE_MAX - 1));
    assert_memory_equal(buffer.data, "abc", 3);
    buffer_free(&buffer);
}

static void prints_whole_or_not_at_all(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 8);
    assert_true(buffer_printf(&buffer, "%d-%s", 12, "ab"));
    assert_memory_equal(buffer.data, "12-ab", 5);
    assert_false(buffer_printf(&buffer, "%s", "much too long"));
    assert_int_equal(buffer.length, 5);
    buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_up_to_the_maximum),
        cmocka_unit_test(refuses_a_length_that_overflows),
        cmocka_unit_test(prints_whole_or_not_at_all),
    };
    return cmocka_run_group_tests_name("common/buffer", tests, NULL, NULL);
}
