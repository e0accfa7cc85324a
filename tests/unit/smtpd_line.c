/* Command lines: only CRLF ends one, in any fragmentation, and no line is longer than the limit. */
#include "smtpd/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Feeds `input` in parts of `part` bytes and writes down what comes out: a line as (text), a bad
 * one as [text], one that is too long as !. */
static void feed(const char *input, size_t length, size_t part, char *got)
{
    struct line line = {0};

    while (length > 0) {
        size_t given = part < length ? part : length, used = 0;
        /* An exact copy, so that a sanitizer sees any look beyond what was given. */
        char *exact = malloc(given);
        assert_non_null(exact);
        memcpy(exact, input, given);
        while (used < given) {
            struct slice text = {0};
            enum line_status status;
            used += line_feed(&line, exact + used, given - used, &status, &text);
            if (status == LINE_COMPLETE || status == LINE_BAD) {
                got += sprintf(got, status == LINE_BAD ? "[%.*s]" : "(%.*s)", (int)text.length,
                               text.start);
                line_reset(&line);
            } else if (status == LINE_TOO_LONG) {
                got += sprintf(got, "!");
            } else {
                assert_int_equal(status, LINE_PARTIAL);
                assert_int_equal(used, given);
            }
        }
        free(exact);
        input += given;
        length -= given;
    }
    sprintf(got, "%s", line.octets > 0 || line.discarding ? "+" : "");
    line_reset(&line);
}

static const struct {
    const char *input, *want;
} rows[] = {
    {"", ""},
    {"NOOP\r\n", "(NOOP)"},
    {"\r\n", "()"},
    {"A\r\nB\r\n", "(A)(B)"},
    {"A\r\nB", "(A)+"},
    {"A\r", "+"},
    {"NOOP\nNOOP\r\n", "[NOOP\nNOOP]"},
    {"NOOP\rNOOP\r\n", "[NOOP\rNOOP]"},
    {"A\r\r\n", "[A\r]"},
    {"\n\r\n", "[\n]"},
    {"\r\r\n", "[\r]"},
    {"A\n\r\nB\r\n", "[A\n](B)"},
    {"\n", "+"},
    {"\xc3\xa9\r\n", "(\xc3\xa9)"},
    {"A \t\r\n", "(A \t)"},
};

static void only_crlf_ends_a_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t part = 1; part <= strlen(rows[i].input) + 1; part++) {
            char got[200];
            feed(rows[i].input, strlen(rows[i].input), part, got);
            assert_string_equal(got, rows[i].want);
        }
    }
}

static void nul_makes_a_line_bad(void **state)
{
    (void)state;
    struct line line = {0};
    enum line_status status;
    struct slice text;

    assert_int_equal(line_feed(&line, "NO\0OP\r\n", 7, &status, &text), 7);
    assert_int_equal(status, LINE_BAD);
    assert_int_equal(text.length, 5);
    line_reset(&line);
}

/* `length` octets with CRLF, then another line. */
static void length_gives(size_t length, const char *want)
{
    size_t total = length + 3;
    char *input = malloc(total), got[LINE_LIMIT + 100];

    assert_non_null(input);
    memset(input, 'x', length);
    memcpy(input + length - 2, "\r\nB\r\n", 5);
    for (size_t part = 1; part <= total; part += part < 4 || part + 5 > total ? 1 : 509) {
        feed(input, total, part, got);
        if (want[0] == '(') {
            assert_int_equal(strlen(got), length + 3);
            assert_string_equal(got + length, want);
        } else {
            assert_string_equal(got, want);
        }
    }
    free(input);
}

static void a_line_has_a_limit(void **state)
{
    (void)state;
    length_gives(512, "(B)");
    length_gives(LINE_LIMIT - 1, "(B)");
    length_gives(LINE_LIMIT, "(B)");
    length_gives(LINE_LIMIT + 1, "!(B)");
    length_gives(LINE_LIMIT + 2, "!(B)");
    length_gives(LINE_LIMIT + 3, "!(B)");
    length_gives(100000, "!(B)");
}

static void an_endless_line_is_refused_once_and_kept_nowhere(void **state)
{
    (void)state;
    static const char junk[4096] = {'x'};
    struct line line = {0};
    int refusals = 0;

    for (int i = 0; i < 10000; i++) {
        size_t used = 0;
        while (used < sizeof junk) {
            enum line_status status;
            struct slice text;
            used += line_feed(&line, junk + used, sizeof junk - used, &status, &text);
            refusals += status == LINE_TOO_LONG;
        }
        assert_null(line.held);
    }
    assert_int_equal(refusals, 1);
    assert_true(line.discarding);
    line_reset(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_crlf_ends_a_line),
        cmocka_unit_test(nul_makes_a_line_bad),
        cmocka_unit_test(a_line_has_a_limit),
        cmocka_unit_test(an_endless_line_is_refused_once_and_kept_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
