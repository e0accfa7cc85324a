/* Nothing that mail or a file name has in it steers a terminal. */
#include "queue/tool/plain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <string.h>

static const struct {
    const char *bytes;
    size_t length;
    bool utf8;
    enum plain_mode mode;
    const char *want;
} rows[] = {
#define BYTES(text) text, sizeof text - 1
    {BYTES(""), true, PLAIN_FIELD, ""},
    {BYTES("plain ~ text"), true, PLAIN_FIELD, "plain ~ text"},
    {BYTES("\x1b[31m\a\b\0\x7f"), true, PLAIN_FIELD, "\\x1b[31m\\x07\\x08\\x00\\x7f"},
    {BYTES("a\\x1b"), true, PLAIN_FIELD, "a\\\\x1b"},
    {BYTES("a\\x1b"), true, PLAIN_TEXT, "a\\x1b"},
    {BYTES("a\r\n\tb\nc"), true, PLAIN_FIELD, "a\\x0d\\x0a\\x09b\\x0ac"},
    {BYTES("a\r\n\tb\nc"), true, PLAIN_TEXT, "a\n\tb\nc"},
    {BYTES("over\rwritten\r"), true, PLAIN_TEXT, "over\\x0dwritten\\x0d"},
    {BYTES("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xac"), true, PLAIN_FIELD,
     "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xac"},
    {BYTES("gr\xc3\xbc"), false, PLAIN_FIELD, "gr\\xc3\\xbc"},
    /* The one is CSI as C1, the other CSI for a terminal of eight bits. */
    {BYTES("\xc2\x9b"
           "31m"),
     true, PLAIN_TEXT, "\\u009b31m"},
    {BYTES("\x9b"
           "31m"),
     true, PLAIN_TEXT, "\\x9b31m"},
    {BYTES("\xdb\x9b"), false, PLAIN_TEXT, "\\xdb\\x9b"},
    {BYTES("\xe2\x80\xae"
           "fdp.exe"),
     true, PLAIN_FIELD, "\\u202efdp.exe"},
    {BYTES("\xe2\x80\x8b\xef\xbb\xbf\xe2\x80\xa8\xf3\xa0\x80\x81"), true, PLAIN_TEXT,
     "\\u200b\\ufeff\\u2028\\ue0001"},
    {BYTES("\xc0\x9b\xed\xa0\x80\xff"), true, PLAIN_FIELD, "\\xc0\\x9b\\xed\\xa0\\x80\\xff"},
    {BYTES("cut \xe2\x82"), true, PLAIN_TEXT, "cut \\xe2\\x82"},
};

static void escapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char got[200] = "";
        FILE *out = fmemopen(got, sizeof got, "w");
        plain_set_utf8(rows[i].utf8);
        assert_int_equal(plain_write(out, rows[i].bytes, rows[i].length, rows[i].mode, true),
                         rows[i].length);
        fclose(out);
        assert_string_equal(got, rows[i].want);
    }
}

/* However the bytes come, the same is written. */
static void escapes_in_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t step = 1; step < 5; step++) {
            char got[200] = "";
            FILE *out = fmemopen(got, sizeof got, "w");
            size_t used = 0, seen = 0;
            plain_set_utf8(rows[i].utf8);
            while (used < rows[i].length) {
                seen = seen + step < rows[i].length ? seen + step : rows[i].length;
                used += plain_write(out, rows[i].bytes + used, seen - used, rows[i].mode,
                                    seen == rows[i].length);
                assert_true(seen - used <= 3);
            }
            fclose(out);
            assert_string_equal(got, rows[i].want);
        }
    }
}

static void pads_fields(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t width;
        const char *want;
    } fields[] = {
        {"ab", 4, "ab  "}, {"abcd", 4, "abcd"},  {"abcde", 4, "abcde"},
        {"", 2, "  "},     {"\t", 6, "\\x09  "}, {"\xc3\xbc", 3, "\xc3\xbc  "},
    };
    plain_set_utf8(true);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char got[40] = "";
        FILE *out = fmemopen(got, sizeof got, "w");
        plain_field(out, fields[i].text, fields[i].width);
        fclose(out);
        assert_string_equal(got, fields[i].want);
    }
}

static void makes_utf8_of_anything(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } texts[] = {
        {"", ""},
        {"plain\n", "plain\n"},
        {"gr\xc3\xbc", "gr\xc3\xbc"},
        {"\xff\x80z", "\xef\xbf\xbd\xef\xbf\xbdz"},
        {"del\x7f", "del\xef\xbf\xbd"},
        {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *got = plain_utf8(texts[i].text);
        assert_string_equal(got, texts[i].want);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes),
        cmocka_unit_test(escapes_in_pieces),
        cmocka_unit_test(pads_fields),
        cmocka_unit_test(makes_utf8_of_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
