/* What a message asks of a server. */
#include "relay/survey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static const struct {
    const char *input;
    unsigned hops;
    bool eight_bit, eight_bit_header;
} rows[] = {
    {"", 0, false, false},
    {"Received: x\r\n", 1, false, false},
    {"Received:", 1, false, false},
    {"Received", 0, false, false},
    {"received:x\r\nRECEIVED: y\r\nReceived: z\r\n\r\n", 3, false, false},
    {"Received: x\nReceived: y\rReceived: z\n", 3, false, false},
    {"Received : x\r\n", 1, false, false},
    {" Received: x\r\n", 0, false, false},
    {"X-Received: x\r\nReceivedx: y\r\n", 0, false, false},
    {"Received: Received: x\r\n Received: y\r\n", 1, false, false},
    {"Received: x\r\n\r\nReceived: y\r\n", 1, false, false},
    {"Received: x\n\nReceived: y\n", 1, false, false},
    {"Received: x\r\rReceived: y\r", 1, false, false},
    {"Received: x\r\n\nReceived: y\n", 1, false, false},
    {"Received: x\n\rReceived: y\n", 1, false, false},
    {"\r\nReceived: y\r\n", 0, false, false},
    {"Received: x\r\nReceived: y\r\n", 2, false, false},
    {"A: \xc3\xbc\r\n\r\nx\r\n", 0, true, true},
    {"A: x\r\n\r\n\xc3\xbc\r\n", 0, true, false},
    {"A: x\r\n\r\nx\r\n\r\n\x80", 0, true, false},
    {"A: x\r\n\x80", 0, true, true},
    {"A: \x7f\r\n\r\n\x7f", 0, false, false},
    {"\xff\r\n\r\nReceived: x", 0, true, true},
};

static void check(size_t row, size_t split)
{
    struct survey got;
    size_t length = strlen(rows[row].input);

    survey_init(&got);
    if (split <= length) {
        survey_read(&got, rows[row].input, split);
        survey_read(&got, rows[row].input + split, length - split);
    } else {
        for (size_t i = 0; i < length; i++)
            survey_read(&got, rows[row].input + i, 1);
    }
    if (got.hops != rows[row].hops || got.eight_bit != rows[row].eight_bit ||
        got.eight_bit_header != rows[row].eight_bit_header)
        fail_msg("row %zu split at %zu: %u hops, %d, %d", row, split, got.hops, got.eight_bit,
                 got.eight_bit_header);
}

static void finds_the_same_in_any_fragmentation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t split = 0; split <= strlen(rows[i].input) + 1; split++)
            check(i, split);
}

static void a_nul_is_an_octet_like_another(void **state)
{
    (void)state;
    static const char input[] = "\0Received: x\r\nReceived\0: y\r\n\0\r\nReceived: z\r\n";
    struct survey got;

    survey_init(&got);
    survey_read(&got, input, sizeof input - 1);
    assert_int_equal(got.hops, 1);
    assert_false(got.in_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_same_in_any_fragmentation),
        cmocka_unit_test(a_nul_is_an_octet_like_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
