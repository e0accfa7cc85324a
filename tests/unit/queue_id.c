/* Ids are UUIDv7, unique, sorted by time, and nothing else passes for one. */
#include "queue/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void carries_its_time(void **state)
{
    (void)state;
    /* The example of RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F. */
    char id[ID_SIZE];
    id_make(id, INT64_C(1645557742000) * 1000);
    assert_memory_equal(id, "017f22e2-79b0-7000-", 19);
    assert_true(id_valid(id));
    assert_true(id_time(id) == INT64_C(1645557742000) * 1000);
    assert_true(id_time("ffffffff-ffff-7000-8000-000000000000") == INT64_C(281474976710655000));
    assert_true(id_valid("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"));
}

static void sorts_by_microsecond(void **state)
{
    (void)state;
    char before[ID_SIZE], after[ID_SIZE];
    int64_t time = INT64_C(1795287600000000);
    id_make(before, time);
    for (int i = 1; i < 3000; i++) {
        id_make(after, time + i);
        assert_true(strcmp(before, after) < 0);
        memcpy(before, after, sizeof before);
    }
}

static void does_not_repeat(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static char ids[COUNT][ID_SIZE];
    for (int i = 0; i < COUNT; i++) {
        id_make(ids[i], INT64_C(1795287600000000));
        assert_true(id_valid(ids[i]));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(ids[k], ids[i]);
    }
}

static void knows_what_is_no_id(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool want;
    } rows[] = {
        {"0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10", true},
        {"0193a5b2-7c4e-7b1a-8f53-0c1f6a2e9d10", true},
        {"0193a5b2-7c4e-7b1a-af53-0c1f6a2e9d10", true},
        {"0193a5b2-7c4e-7b1a-bf53-0c1f6a2e9d10", true},
        {"", false},
        {"0193A5B2-7C4E-7B1A-9F53-0C1F6A2E9D10", false},
        {"0193a5b2-7c4e-4b1a-9f53-0c1f6a2e9d10", false},
        {"0193a5b2-7c4e-7b1a-7f53-0c1f6a2e9d10", false},
        {"0193a5b2-7c4e-7b1a-cf53-0c1f6a2e9d10", false},
        {"0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d1", false},
        {"0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d100", false},
        {"0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d1g", false},
        {"0193a5b207c4e-7b1a-9f53-0c1f6a2e9d10", false},
        {"0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.reason", false},
        {"../../../../../../../../../etc/passwd", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(id_valid(rows[i].text), rows[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_its_time),
        cmocka_unit_test(sorts_by_microsecond),
        cmocka_unit_test(does_not_repeat),
        cmocka_unit_test(knows_what_is_no_id),
    };
    return cmocka_run_group_tests_name("queue/id", tests, NULL, NULL);
}
