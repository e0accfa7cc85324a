/* Arrays in PostgreSQL's binary form, whole and in part. */
#include "storer/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void check_frame(struct array *array, size_t first, size_t count, const void *want,
                        size_t length)
{
    struct array_frame frame;
    size_t before = array->bytes.length;
    char *copy = test_malloc(before + 1);
    memcpy(copy, array->bytes.data, before);
    array_frame(array, first, count, &frame);
    assert_int_equal(frame.length, length);
    assert_memory_equal(frame.value, want, length);
    array_unframe(&frame);
    /* All but the room for the first head is as it was. */
    assert_memory_equal(array->bytes.data + ARRAY_HEAD, copy + ARRAY_HEAD, before - ARRAY_HEAD);
    test_free(copy);
}

#define HEAD(type, count)                "\0\0\0\1\0\0\0\0\0\0" type "\0\0\0" count "\0\0\0\1"
#define CHECK(array, first, count, want) check_frame(array, first, count, want, sizeof want - 1)

static void texts(void **state)
{
    (void)state;
    struct array array;
    array_init(&array, ARRAY_TEXT, 1000);
    assert_true(array_add_text(&array, "ab"));
    assert_true(array_add_text(&array, ""));
    assert_true(array_add_text(&array, "cde"));
    CHECK(&array, 0, 3, HEAD("\0\x19", "\3") "\0\0\0\2ab\0\0\0\0\0\0\0\3cde");
    CHECK(&array, 0, 1, HEAD("\0\x19", "\1") "\0\0\0\2ab");
    CHECK(&array, 1, 1, HEAD("\0\x19", "\1") "\0\0\0\0");
    CHECK(&array, 1, 2, HEAD("\0\x19", "\2") "\0\0\0\0\0\0\0\3cde");
    CHECK(&array, 2, 1, HEAD("\0\x19", "\1") "\0\0\0\3cde");
    array_free(&array);
}

static void numbers_times_and_ids(void **state)
{
    (void)state;
    struct array array;
    array_init(&array, ARRAY_INTEGER, 1000);
    assert_true(array_add_integer(&array, 258));
    assert_true(array_add_integer(&array, -1));
    CHECK(&array, 0, 2, HEAD("\0\x17", "\2") "\0\0\0\4\0\0\1\2\0\0\0\4\xff\xff\xff\xff");
    array_free(&array);

    array_init(&array, ARRAY_BIGINT, 1000);
    assert_true(array_add_bigint(&array, INT64_C(0x0102030405060708)));
    CHECK(&array, 0, 1, HEAD("\0\x14", "\1") "\0\0\0\x08\1\2\3\4\5\6\7\x08");
    array_free(&array);

    array_init(&array, ARRAY_TIMESTAMPTZ, 1000);
    assert_true(array_add_time(&array, INT64_C(946684800000001)));
    assert_true(array_add_time(&array, INT64_C(946684799999999)));
    CHECK(&array, 0, 2,
          HEAD("\4\xa0", "\2") "\0\0\0\x08\0\0\0\0\0\0\0\1"
                               "\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff");
    array_free(&array);

    array_init(&array, ARRAY_UUID, 1000);
    assert_true(array_add_uuid(&array, "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10"));
    CHECK(&array, 0, 1,
          HEAD("\x0b\x86", "\1") "\0\0\0\x10\x01\x93\xa5\xb2\x7c\x4e\x7b\x1a\x9f\x53"
                                 "\x0c\x1f\x6a\x2e\x9d\x10");
    array_free(&array);
}

static void nothing_at_all(void **state)
{
    (void)state;
    struct array array;
    struct array_frame frame;
    array_init(&array, ARRAY_TEXT, 1000);
    array_frame(&array, 0, 0, &frame);
    assert_int_equal(frame.length, 12);
    assert_memory_equal(frame.value, "\0\0\0\0\0\0\0\0\0\0\0\x19", 12);
    array_unframe(&frame);
    array_free(&array);
}

static void what_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    struct array array;
    array_init(&array, ARRAY_BYTEA, ARRAY_HEAD + 10);
    assert_false(array_add(&array, "12345678", 7));
    assert_int_equal(array.count, 0);
    assert_true(array_add(&array, "123456", 6));
    assert_null(array_add_room(&array, 0));
    assert_null(array_add_room(&array, (size_t)INT32_MAX + 1));
    CHECK(&array, 0, 1,
          HEAD("\0\x11", "\1") "\0\0\0\6"
                               "123456");
    array_truncate(&array, 0);
    assert_true(array_add(&array, "abcdef", 6));
    CHECK(&array, 0, 1,
          HEAD("\0\x11", "\1") "\0\0\0\6"
                               "abcdef");
    array_free(&array);
}

static void truncated_and_added_to(void **state)
{
    (void)state;
    struct array array;
    array_init(&array, ARRAY_TEXT, 100000);
    for (int i = 0; i < 1000; i++)
        assert_true(array_add_text(&array, "x"));
    array_truncate(&array, 2000);
    assert_int_equal(array.count, 1000);
    array_truncate(&array, 1);
    assert_true(array_add_text(&array, "yz"));
    CHECK(&array, 0, 2, HEAD("\0\x19", "\2") "\0\0\0\1x\0\0\0\2yz");
    array_truncate(&array, 0);
    array_trim(&array, array.bytes.capacity);
    assert_non_null(array.bytes.data);
    array_trim(&array, array.bytes.capacity - 1);
    assert_null(array.bytes.data);
    assert_true(array_add_text(&array, "again"));
    CHECK(&array, 0, 1, HEAD("\0\x19", "\1") "\0\0\0\5again");
    array_free(&array);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(numbers_times_and_ids),
        cmocka_unit_test(nothing_at_all),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
        cmocka_unit_test(truncated_and_added_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
