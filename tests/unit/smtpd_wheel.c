/* The wheel of deadlines: none too early, none late, none lost. */
#include "smtpd/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

enum { ENTRIES = 2000 };

static struct wheel wheel;
static struct wheel_entry entries[ENTRIES];
static uint32_t wanted[ENTRIES], came[ENTRIES];

static void due_cb(struct wheel_entry *entry)
{
    came[entry - entries] = wheel.now;
}

static int begin(void **state)
{
    (void)state;
    wheel_init(&wheel);
    for (int i = 0; i < ENTRIES; i++) {
        entries[i] = (struct wheel_entry){0};
        wanted[i] = came[i] = 0;
    }
    return 0;
}

static void each_comes_at_its_tick(void **state)
{
    (void)state;
    srandom(1);
    for (int i = 0; i < ENTRIES; i++) {
        wanted[i] = 2 + (uint32_t)(random() % 3000);
        wheel_set(&wheel, &entries[i], wanted[i]);
    }
    assert_int_equal(wheel.count, ENTRIES);
    for (uint32_t now = 2; now < 3010; now += (uint32_t)(random() % 7))
        wheel_turn(&wheel, now, due_cb);
    wheel_turn(&wheel, 3010, due_cb);
    assert_int_equal(wheel.count, 0);
    for (int i = 0; i < ENTRIES; i++)
        assert_int_equal(came[i], wanted[i]);
}

/* Moved there and back many times while the wheel turns; some are removed. */
static void moved_ones_come_at_their_last_tick(void **state)
{
    (void)state;
    srandom(2);
    for (uint32_t now = 1; now < 4000; now++) {
        wheel_turn(&wheel, now, due_cb);
        for (int k = 0; k < 20; k++) {
            int i = (int)(random() % ENTRIES);
            if (wanted[i] != 0 && wanted[i] <= now)
                continue;
            if (random() % 10 == 0) {
                wheel_remove(&wheel, &entries[i]);
                wanted[i] = 0;
            } else {
                wanted[i] = now + 1 + (uint32_t)(random() % 1500);
                wheel_set(&wheel, &entries[i], wanted[i]);
            }
        }
    }
    wheel_turn(&wheel, 6000, due_cb);
    assert_int_equal(wheel.count, 0);
    for (int i = 0; i < ENTRIES; i++)
        assert_int_equal(came[i], wanted[i]);
}

static void a_deadline_in_the_past_comes_next(void **state)
{
    (void)state;
    wheel_set(&wheel, &entries[0], 100);
    wheel_turn(&wheel, 50, due_cb);
    wheel_set(&wheel, &entries[0], 7);
    wheel_turn(&wheel, 51, due_cb);
    assert_int_equal(came[0], 51);
}

static void an_empty_wheel_leaps(void **state)
{
    (void)state;
    wheel_turn(&wheel, 4000000000u, due_cb);
    assert_int_equal(wheel.now, 4000000000u);
    wheel_remove(&wheel, &entries[0]);
    wheel_remove(&wheel, &entries[0]);
    assert_int_equal(wheel.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_comes_at_its_tick, begin),
        cmocka_unit_test_setup(moved_ones_come_at_their_last_tick, begin),
        cmocka_unit_test_setup(a_deadline_in_the_past_comes_next, begin),
        cmocka_unit_test_setup(an_empty_wheel_leaps, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
