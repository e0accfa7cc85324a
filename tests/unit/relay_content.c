/* Content as it is sent, against a plain reading of it, in every fragmentation. */
#include "relay/content.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *input, *want;
} rows[] = {
    {"", ".\r\n"},
    {"a", "a\r\n.\r\n"},
    {"a\r\n", "a\r\n.\r\n"},
    {"a\n", "a\r\n.\r\n"},
    {"a\r", "a\r\n.\r\n"},
    {"\r\n", "\r\n.\r\n"},
    {"\n\r", "\r\n\r\n.\r\n"},
    {"\r\r\n", "\r\n\r\n.\r\n"},
    {".", "..\r\n.\r\n"},
    {".\r\n", "..\r\n.\r\n"},
    {"..a\r\n.b\r\nc.\r\n", "...a\r\n..b\r\nc.\r\n.\r\n"},
    {"a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"},
    {"a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"},
    {"a\r\n.\r\nMAIL FROM:<>\r\n", "a\r\n..\r\nMAIL FROM:<>\r\n.\r\n"},
    {"a\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n"},
    {"a\r.\r\nb", "a\r\n..\r\nb\r\n.\r\n"},
    {"a\r\n.\rb", "a\r\n..\r\nb\r\n.\r\n"},
    {"a\r\n\r\n.", "a\r\n\r\n..\r\n.\r\n"},
};

/* In two pieces, then byte by byte; each within the bound that the header gives. */
static void encode(struct content *content, const char *bytes, size_t length, struct buffer *out)
{
    size_t before = out->length;
    char *exact = malloc(length > 0 ? length : 1);

    assert_non_null(exact);
    memcpy(exact, bytes, length);
    assert_true(content_encode(content, exact, length, out));
    assert_true(out->length - before <= 2 * length + 3);
    free(exact);
}

static void check(const char *input, size_t length, const char *want, size_t want_length)
{
    struct content content;
    struct buffer out;

    buffer_init(&out, 10000);
    for (size_t split = 0; split <= length + 1; split++) {
        buffer_clear(&out);
        content_init(&content);
        if (split <= length) {
            encode(&content, input, split, &out);
            encode(&content, input + split, length - split, &out);
        } else {
            for (size_t i = 0; i < length; i++)
                encode(&content, input + i, 1, &out);
        }
        assert_true(content_end(&content, &out));
        if (out.length != want_length || memcmp(out.data, want, want_length) != 0)
            fail_msg("split at %zu: %s", split, input);
    }
    buffer_free(&out);
}

static void makes_lines_and_stuffs_dots(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(rows[i].input, strlen(rows[i].input), rows[i].want, strlen(rows[i].want));
}

/* Lines are what stands between CRLF, CR and LF; those that begin with a dot get another. */
static size_t read_plainly(const char *input, size_t length, char *want)
{
    size_t made = 0;
    bool begun = false;

    for (size_t at = 0; at < length; at++) {
        if (input[at] == '\r' || input[at] == '\n') {
            if (input[at] == '\r' && at + 1 < length && input[at + 1] == '\n')
                at++;
            want[made++] = '\r';
            want[made++] = '\n';
            begun = false;
            continue;
        }
        if (!begun && input[at] == '.')
            want[made++] = '.';
        want[made++] = input[at];
        begun = true;
    }
    if (begun) {
        want[made++] = '\r';
        want[made++] = '\n';
    }
    memcpy(want + made, ".\r\n", 3);
    return made + 3;
}

static void agrees_with_a_plain_reading_of_all_short_inputs(void **state)
{
    (void)state;
    static const char alphabet[] = {'\r', '\n', '.', 'x', '\0'};
    for (size_t length = 0; length <= 7; length++) {
        size_t count = 1;
        for (size_t i = 0; i < length; i++)
            count *= sizeof alphabet;
        for (size_t number = 0; number < count; number++) {
            char input[8] = {0}, want[32];
            for (size_t i = 0, rest = number; i < length; i++, rest /= sizeof alphabet)
                input[i] = alphabet[rest % sizeof alphabet];
            check(input, length, want, read_plainly(input, length, want));
        }
    }
}

static void a_buffer_that_is_full_fails(void **state)
{
    (void)state;
    struct content content;
    struct buffer out;

    buffer_init(&out, 10);
    content_init(&content);
    assert_true(content_encode(&content, "abc", 3, &out));
    assert_false(content_encode(&content, "abcdefgh", 8, &out));
    assert_false(content_encode(&content, "", 0, &out));
    assert_false(content_end(&content, &out));
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_lines_and_stuffs_dots),
        cmocka_unit_test(agrees_with_a_plain_reading_of_all_short_inputs),
        cmocka_unit_test(a_buffer_that_is_full_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
