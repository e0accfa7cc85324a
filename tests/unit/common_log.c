/* Log lines: what a peer sent forges nothing, and no line is longer than promised or blocks. */
#include "common/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void formats_values(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        size_t length;
        const char *want;
    } rows[] = {
        {"plain", 5, "v=plain"},
        {"", 0, "v=\"\""},
        {"two words", 9, "v=\"two words\""},
        {"a=b", 3, "v=\"a=b\""},
        {"say \"hi\"", 8, "v=\"say \\\"hi\\\"\""},
        {"back\\slash", 10, "v=\"back\\\\slash\""},
        {"x\nlevel=info event=forged", 25, "v=\"x\\x0alevel=info event=forged\""},
        {"\x1b[2J", 4, "v=\"\\x1b[2J\""},
        {"nul\0byte", 8, "v=\"nul\\x00byte\""},
        {"caf\xc3\xa9", 5, "v=\"caf\\xc3\\xa9\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char line[LOG_LINE_MAX + 1], want[LOG_LINE_MAX];
        size_t n = log_format(line, LOG_LEVEL_INFO, "test",
                              (const struct log_field[]){
                                  LOG_BYTES("v", rows[i].value, rows[i].length), LOG_FIELDS_END});
        line[n] = '\0';
        snprintf(want, sizeof want, "level=info event=test %s\n", rows[i].want);
        assert_string_equal(line, want);
    }
}

static void formats_numbers(void **state)
{
    (void)state;
    char line[LOG_LINE_MAX + 1];
    size_t n = log_format(line, LOG_LEVEL_ERROR, "e",
                          (const struct log_field[]){LOG_NUMBER("a", -5), LOG_REAL("b", 0.25),
                                                     LOG_TEXT("c", NULL), LOG_FIELDS_END});
    line[n] = '\0';
    assert_string_equal(line, "level=error event=e a=-5 b=0.250000 c=\"\"\n");
}

static void caps_the_value_and_the_line(void **state)
{
    (void)state;
    char huge[5000];
    for (int byte = 0; byte < 256; byte++) {
        memset(huge, byte, sizeof huge);
        for (int fields = 1; fields <= 4; fields++) {
            struct log_field all[5];
            for (int i = 0; i < fields; i++)
                all[i] = LOG_BYTES("field", huge, sizeof huge);
            all[fields] = LOG_FIELDS_END;
            char line[LOG_LINE_MAX];
            size_t n = log_format(line, LOG_LEVEL_INFO, "big", all);
            assert_true(n <= LOG_LINE_MAX);
            assert_int_equal(line[n - 1], '\n');
            assert_null(memchr(line, '\n', n - 1));
            assert_int_equal(line[n - 2], '"');
            if (fields == 1)
                assert_in_range(n, LOG_VALUE_MAX - 4, LOG_VALUE_MAX + 64);
        }
    }
}

static void a_full_pipe_loses_lines_and_says_how_many(void **state)
{
    (void)state;
    int saved = dup(STDERR_FILENO), ends[2];
    assert_int_equal(pipe(ends), 0);
    fcntl(ends[1], F_SETPIPE_SZ, 4096);
    dup2(ends[1], STDERR_FILENO);
    for (int i = 0; i < 100; i++)
        log_info("filler", LOG_TEXT("text", "0123456789012345678901234567890123456789"
                                            "0123456789012345678901234567890123456789"));
    char *bytes = calloc(1, 65536);
    ssize_t before = read(ends[0], bytes, 65535);
    log_info("after");
    ssize_t after = read(ends[0], bytes, 65535);
    dup2(saved, STDERR_FILENO);
    close(saved), close(ends[0]), close(ends[1]);
    assert_in_range(before, 1000, 65535);
    bytes[after] = '\0';
    assert_non_null(strstr(bytes, "level=warn event=log_lost lines="));
    assert_non_null(strstr(bytes, "level=info event=after\n"));
    free(bytes);
}

static void the_level_is_a_threshold(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_WARN);
    assert_true(log_wanted(LOG_LEVEL_ERROR));
    assert_true(log_wanted(LOG_LEVEL_WARN));
    assert_false(log_wanted(LOG_LEVEL_INFO));
    log_set_level(LOG_LEVEL_INFO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_values),
        cmocka_unit_test(formats_numbers),
        cmocka_unit_test(caps_the_value_and_the_line),
        cmocka_unit_test(a_full_pipe_loses_lines_and_says_how_many),
        cmocka_unit_test(the_level_is_a_threshold),
    };
    return cmocka_run_group_tests_name("common/log", tests, NULL, NULL);
}
