/* What each class of SQLSTATE means for a batch. */
#include "storer/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *sqlstate;
    bool constraint;
    enum verdict want;
} rows[] = {
    /* the message's fault, and the only ones that may set it aside */
    {"22021", false, VERDICT_REFUSED},
    {"22P02", false, VERDICT_REFUSED},
    {"22000", false, VERDICT_REFUSED},
    {"23505", true, VERDICT_REFUSED},
    {"23514", true, VERDICT_REFUSED},
    /* a missing partition */
    {"23514", false, VERDICT_PARTITION},
    /* the wrong server */
    {"25006", false, VERDICT_RECONNECT},
    /* the set-up's fault */
    {"42P01", false, VERDICT_SETUP},
    {"42501", false, VERDICT_SETUP},
    {"42703", false, VERDICT_SETUP},
    {"42883", false, VERDICT_SETUP},
    {"28000", false, VERDICT_SETUP},
    {"28P01", false, VERDICT_SETUP},
    {"3D000", false, VERDICT_SETUP},
    {"3F000", false, VERDICT_SETUP},
    {"0A000", false, VERDICT_SETUP},
    {"23502", true, VERDICT_SETUP},
    {"2200H", false, VERDICT_SETUP},
    /* more than the server can do, which may be no message's fault: 54000 is also what it says when
     * it stops writing before its transaction ids run out */
    {"54000", false, VERDICT_TOO_MUCH},
    {"54001", false, VERDICT_TOO_MUCH},
    {"53200", false, VERDICT_TOO_MUCH},
    {"57014", false, VERDICT_TOO_MUCH},
    /* whatever nobody has thought of */
    {"P0001", false, VERDICT_TOO_MUCH},
    {"XX000", false, VERDICT_TOO_MUCH},
    {"XX001", false, VERDICT_TOO_MUCH},
    {"99999", true, VERDICT_TOO_MUCH},
    {"2", false, VERDICT_TOO_MUCH},
    /* the server's own troubles */
    {"08006", false, VERDICT_WAIT},
    {"08P01", false, VERDICT_WAIT},
    {"25P02", false, VERDICT_WAIT},
    {"40001", false, VERDICT_WAIT},
    {"40P01", false, VERDICT_WAIT},
    {"53000", false, VERDICT_WAIT},
    {"53100", false, VERDICT_WAIT},
    {"53300", false, VERDICT_WAIT},
    {"55006", false, VERDICT_WAIT},
    {"55P03", false, VERDICT_WAIT},
    {"57P01", false, VERDICT_WAIT},
    {"57P03", false, VERDICT_WAIT},
    {"58030", false, VERDICT_WAIT},
    {"", false, VERDICT_WAIT},
};

static void each_class_has_its_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum verdict got = verdict_of(rows[i].sqlstate, rows[i].constraint);
        if (got != rows[i].want)
            fail_msg("%s: got %s, want %s", rows[i].sqlstate, verdict_names[got],
                     verdict_names[rows[i].want]);
    }
}

static void each_verdict_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < VERDICT_COUNT; i++)
        assert_non_null(verdict_names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_class_has_its_verdict),
        cmocka_unit_test(each_verdict_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
