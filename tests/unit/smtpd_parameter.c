/* Parameters of MAIL and RCPT. */
#include "smtpd/parameter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *text;
    enum parameter_status status;
    uint64_t size;
    bool utf8;
} rows[] = {
    {"", PARAMETER_OK, 0, false},
    {"  ", PARAMETER_OK, 0, false},
    {" SIZE=10", PARAMETER_OK, 10, false},
    {" size=10 ", PARAMETER_OK, 10, false},
    {"  SIZE=10  BODY=7BIT", PARAMETER_OK, 10, false},
    {" SIZE=0", PARAMETER_OK, 0, false},
    {" SIZE=00000000000000000010", PARAMETER_OK, 10, false},
    {" SIZE=18446744073709551615", PARAMETER_OK, UINT64_MAX, false},
    {" SIZE=18446744073709551616", PARAMETER_OK, UINT64_MAX, false},
    {" SIZE=99999999999999999999", PARAMETER_OK, UINT64_MAX, false},
    {" SIZE=100000000000000000000", PARAMETER_BAD, 0, false},
    {" SIZE", PARAMETER_BAD, 0, false},
    {" SIZE=", PARAMETER_BAD, 0, false},
    {" SIZE=x", PARAMETER_BAD, 0, false},
    {" SIZE=1x", PARAMETER_BAD, 0, false},
    {" SIZE=-1", PARAMETER_BAD, 0, false},
    {" SIZE=+1", PARAMETER_BAD, 0, false},
    {" SIZE=1 SIZE=2", PARAMETER_BAD, 0, false},
    {" SIZE=1 size=1", PARAMETER_BAD, 0, false},
    {" BODY=7BIT", PARAMETER_OK, 0, false},
    {" body=8bitmime", PARAMETER_OK, 0, false},
    {" BODY=8BITMIME BODY=8BITMIME", PARAMETER_BAD, 0, false},
    {" BODY", PARAMETER_BAD, 0, false},
    {" BODY=FOO", PARAMETER_BAD, 0, false},
    {" BODY=BINARYMIME", PARAMETER_BAD, 0, false},
    {" SMTPUTF8", PARAMETER_OK, 0, true},
    {" smtputf8 SIZE=7", PARAMETER_OK, 7, true},
    {" SMTPUTF8=1", PARAMETER_BAD, 0, false},
    {" SMTPUTF8 SMTPUTF8", PARAMETER_BAD, 0, false},
    {" AUTH=<>", PARAMETER_OK, 0, false},
    {" AUTH=<> AUTH=<>", PARAMETER_BAD, 0, false},
    {" AUTH=a@c.example", PARAMETER_BAD, 0, false},
    {" AUTH", PARAMETER_BAD, 0, false},
    {" FOO", PARAMETER_UNKNOWN, 0, false},
    {" FOO=1", PARAMETER_UNKNOWN, 0, false},
    {" SIZE=1 FOO=1", PARAMETER_UNKNOWN, 0, false},
    {" SIZES=1", PARAMETER_UNKNOWN, 0, false},
    {" RET=HDRS ENVID=x", PARAMETER_UNKNOWN, 0, false},
    {"SIZE=1", PARAMETER_BAD, 0, false},
    {"x", PARAMETER_BAD, 0, false},
    {" =1", PARAMETER_BAD, 0, false},
    {" -FOO=1", PARAMETER_BAD, 0, false},
    {" F_O=1", PARAMETER_BAD, 0, false},
    {"\tSIZE=1", PARAMETER_BAD, 0, false},
    {" SIZE=1\x01", PARAMETER_BAD, 0, false},
    {" FOO=\xc3\xa9", PARAMETER_BAD, 0, false},
};

static void reads_those_of_mail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct parameters got;
        enum parameter_status status = parameter_parse_mail(slice_of(rows[i].text), &got);
        if (status != rows[i].status)
            print_message("%s\n", rows[i].text);
        assert_int_equal(status, rows[i].status);
        if (status != PARAMETER_OK)
            continue;
        assert_true(got.size == rows[i].size);
        assert_int_equal(got.utf8, rows[i].utf8);
    }
}

static void knows_none_of_rcpt(void **state)
{
    (void)state;
    assert_int_equal(parameter_parse_rcpt(slice_of("")), PARAMETER_OK);
    assert_int_equal(parameter_parse_rcpt(slice_of(" \t")), PARAMETER_OK);
    assert_int_equal(parameter_parse_rcpt(slice_of(" NOTIFY=NEVER")), PARAMETER_UNKNOWN);
    assert_int_equal(parameter_parse_rcpt(slice_of(" ORCPT=rfc822;b@x")), PARAMETER_UNKNOWN);
    assert_int_equal(parameter_parse_rcpt(slice_of("x")), PARAMETER_BAD);
    assert_int_equal(parameter_parse_rcpt(slice_of(" =x")), PARAMETER_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_those_of_mail),
        cmocka_unit_test(knows_none_of_rcpt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
