/* When a deferred message is tried again. */
#include "relay/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>

static const int64_t second = 1000000;
static const int64_t received = INT64_C(1795288091123456);

static void waits_as_long_again(void **state)
{
    (void)state;
    static const struct {
        int64_t waited;          /* seconds */
        int64_t soonest, latest; /* seconds */
    } rows[] = {
        {-100000, 60, 72},
        {0, 60, 72},
        {59, 60, 72},
        {60, 60, 72},
        {70, 60, 84},
        {100, 80, 120},
        {1000, 800, 1200},
        {2900, 2320, 3480},
        {3300, 2640, 3600},
        {3600, 2880, 3600},
        {3601, 2880, 3600},
        {5 * 24 * 3600, 2880, 3600},
        {INT32_MAX, 2880, 3600},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t now = received + rows[i].waited * second;
        int64_t soonest = INT64_MAX, latest = INT64_MIN;
        for (uint32_t random = 0; random < 3000; random++) {
            int64_t got = schedule_next(received, now, random * UINT32_C(2654435761)) - now;
            soonest = got < soonest ? got : soonest;
            latest = got > latest ? got : latest;
        }
        for (uint32_t random = 0; random <= 1001; random++) {
            int64_t got = schedule_next(received, now, random) - now;
            soonest = got < soonest ? got : soonest;
            latest = got > latest ? got : latest;
        }
        if (soonest != rows[i].soonest * second || latest != rows[i].latest * second)
            fail_msg("waited %" PRId64 " s: got %" PRId64 " to %" PRId64 " us, want %" PRId64
                     " to %" PRId64 " s",
                     rows[i].waited, soonest, latest, rows[i].soonest, rows[i].latest);
    }
}

/* What was deferred in one moment is spread, at the bounds as well as between them. */
static void what_was_deferred_together_does_not_come_back_together(void **state)
{
    (void)state;
    static const int64_t waited[] = {0, 60, 600, 3600, 100000};

    for (size_t i = 0; i < sizeof waited / sizeof waited[0]; i++) {
        int64_t now = received + waited[i] * second;
        int64_t base = schedule_next(received, now, 0);
        int64_t span = schedule_next(received, now, 1000) - base;
        size_t parts[4] = {0};
        for (uint32_t random = 0; random < 1001; random++) {
            int64_t part = (schedule_next(received, now, random) - base) * 4 / (span + 1);
            parts[part]++;
        }
        for (size_t part = 0; part < 4; part++)
            assert_in_range(parts[part], 225, 275);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_as_long_again),
        cmocka_unit_test(what_was_deferred_together_does_not_come_back_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
