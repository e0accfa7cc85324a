/* What a server offers, line by line. */
#include "relay/extensions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *line;
    struct extensions want;
} rows[] = {
    {"250-PIPELINING\r\n", {.pipelining = true}},
    {"250 PIPELINING\n", {.pipelining = true}},
    {"PIPELINING", {.pipelining = true}},
    {"pipelining  \r\n", {.pipelining = true}},
    {"PIPELINING x", {.pipelining = true}},
    {"250-PIPELINING2\r\n", {.pipelining = false}},
    {"250-XPIPELINING\r\n", {.pipelining = false}},
    {"250-8BITMIME\r\n", {.eight_bit = true}},
    {"8bitmime", {.eight_bit = true}},
    {"250-SMTPUTF8\r\n", {.utf8 = true}},
    {"250 SmtpUtf8", {.utf8 = true}},
    {"250-SIZE\r\n", {.size = true}},
    {"250-SIZE 35882577\r\n", {.size = true, .size_max = 35882577}},
    {"size   10 ", {.size = true, .size_max = 10}},
    {"SIZE 0", {.size = true}},
    {"SIZE -1", {.size = true}},
    {"SIZE 10x", {.size = true}},
    {"SIZE 18446744073709551615", {.size = true, .size_max = UINT64_MAX}},
    {"SIZE 18446744073709551616", {.size = true, .size_max = UINT64_MAX}},
    {"SIZE 99999999999999999999999", {.size = true, .size_max = UINT64_MAX}},
    {"SIZE=10", {.size = false}},
    {"250-LIMITS RCPTMAX=20 MAILMAX=5\r\n", {.recipients_max = 20, .mails_max = 5}},
    {"limits mailmax=7  RCPTDOMAINMAX=1 rcptmax=8", {.recipients_max = 8, .mails_max = 7}},
    {"LIMITS RCPTMAX=0", {.recipients_max = 0}},
    {"LIMITS RCPTMAX=", {.recipients_max = 0}},
    {"LIMITS RCPTMAX", {.recipients_max = 0}},
    {"LIMITS RCPTMAX=x", {.recipients_max = 0}},
    {"LIMITS", {.recipients_max = 0}},
    {"RCPTMAX=20", {.recipients_max = 0}},
    {"250-AUTH PLAIN LOGIN\r\n", {.pipelining = false}},
    {"250-\r\n", {.pipelining = false}},
    {"250\r\n", {.pipelining = false}},
    {"250", {.pipelining = false}},
    {"\r\n", {.pipelining = false}},
    {"", {.pipelining = false}},
    {"25", {.pipelining = false}},
};

static void reads_each_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct extensions got = {0};
        size_t length = strlen(rows[i].line);
        char *exact = malloc(length > 0 ? length : 1);
        assert_non_null(exact);
        memcpy(exact, rows[i].line, length);
        extensions_read(&got, slice_make(exact, length));
        free(exact);
        if (memcmp(&got, &rows[i].want, sizeof got) != 0)
            print_message("%s\n", rows[i].line);
        assert_int_equal(got.pipelining, rows[i].want.pipelining);
        assert_int_equal(got.eight_bit, rows[i].want.eight_bit);
        assert_int_equal(got.utf8, rows[i].want.utf8);
        assert_int_equal(got.size, rows[i].want.size);
        assert_true(got.size_max == rows[i].want.size_max);
        assert_int_equal(got.recipients_max, rows[i].want.recipients_max);
        assert_int_equal(got.mails_max, rows[i].want.mails_max);
    }
}

static void lines_add_up(void **state)
{
    (void)state;
    struct extensions got = {0};

    extensions_read(&got, slice_of("250-PIPELINING\r\n"));
    extensions_read(&got, slice_of("250-SIZE 5\r\n"));
    extensions_read(&got, slice_of("250 LIMITS RCPTMAX=3\r\n"));
    assert_true(got.pipelining && got.size && got.size_max == 5 && got.recipients_max == 3);
    assert_false(got.utf8 || got.eight_bit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_each_line),
        cmocka_unit_test(lines_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
