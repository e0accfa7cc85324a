/* Lines that are made of what others said. */
#include "relay/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(const struct buffer *got, const char *want, const char *what)
{
    if (got->length != strlen(want) || memcmp(got->data, want, got->length) != 0)
        fail_msg("%s: got `%.*s`, want `%s`", what, (int)got->length, got->data, want);
}

static void words_are_folded_and_plain(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        bool utf8;
        const char *want;
    } rows[] = {
        {"550 5.1.1 No such user", false, "X: 550 5.1.1 No such user\r\n"},
        {"", false, "X: \r\n"},
        {"  two   spaces  ", false, "X: two spaces\r\n"},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", false,
         "X: caf\\x{E9} \\x{20AC} \\x{1F600}\r\n"},
        {"caf\xc3\xa9 \xe2\x82\xac", true, "X: caf\xc3\xa9 \xe2\x82\xac\r\n"},
        {"a\r\nb\tc\x7f", true, "X: a??b?c?\r\n"},
        {"\xc2\x85 \xc3 \xff \xed\xa0\x80 \xc0\xaf", true, "X: ? ? ? ??? ??\r\n"},
        {"=?utf-8?q?x?=", false, "X: = ?utf-8?q?x?=\r\n"},
        {"a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n o p",
         false,
         "X: a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l\r\n"
         "  m n o p\r\n"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer out;
        buffer_init(&out, 10000);
        buffer_append_string(&out, "before\r\nX: ");
        lines_fold(&out, rows[i].words, "  ", rows[i].utf8);
        memmove(out.data, out.data + 8, out.length - 8);
        out.length -= 8;
        check(&out, rows[i].want, rows[i].words);
        buffer_free(&out);
    }
}

/* Words of one letter, of every length, and of the characters that grow most. */
static void no_line_is_too_long(void **state)
{
    (void)state;
    static const char *const units[] = {"x",  "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                        "=?", "x ",       "\xff"};

    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        for (size_t length = 1; length < 1500; length += 7) {
            char words[8000] = "";
            struct buffer out;
            size_t column = 0;
            buffer_init(&out, 100000);
            for (size_t i = 0; i < length; i++)
                strcpy(words + i * strlen(units[u]), units[u]);
            lines_fold(&out, words, "    ", false);
            for (size_t i = 0; i < out.length; i++) {
                column = out.data[i] == '\n' ? 0 : column + 1;
                assert_in_range(column, 0, 999);
                assert_true((unsigned char)out.data[i] < 0x80);
            }
            assert_int_equal(column, 0);
            buffer_free(&out);
        }
    }
}

static void addresses_have_the_form_for_their_message(void **state)
{
    (void)state;
    static const struct {
        const char *address, *ascii, *utf8;
    } rows[] = {
        {"bob@there.example", "bob@there.example", "bob@there.example"},
        {"\"a b+c=\\\\\"@there.example", "\"a b+c=\\\\\"@there.example",
         "\"a b+c=\\\\\"@there.example"},
        {"zo\xc3\xab@there.example", "zo\\x{EB}@there.example", "zo\xc3\xab@there.example"},
        {"\"\xe2\x82\xac +=\\\\\"@\xf0\x9f\x98\x80.example",
         "\"\\x{20AC}\\x{20}\\x{2B}\\x{3D}\\x{5C}\\x{5C}\"@\\x{1F600}.example",
         "\"\xe2\x82\xac\\x{20}\\x{2B}\\x{3D}\\x{5C}\\x{5C}\"@\xf0\x9f\x98\x80.example"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer out;
        buffer_init(&out, 10000);
        lines_address(&out, rows[i].address, false);
        check(&out, rows[i].ascii, rows[i].address);
        buffer_clear(&out);
        lines_address(&out, rows[i].address, true);
        check(&out, rows[i].utf8, rows[i].address);
        buffer_free(&out);
    }
}

static void a_long_address_is_cut(void **state)
{
    (void)state;
    char address[512];
    struct buffer out;

    for (size_t i = 0; i < 255; i++)
        memcpy(address + 2 * i, "\xc3\xa9", 3);
    buffer_init(&out, 10000);
    lines_address(&out, address, false);
    assert_in_range(out.length, 890, 920);
    assert_int_equal(out.data[out.length - 1], '}');
    buffer_free(&out);
}

static void the_header_ends_at_the_empty_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t max, want;
    } rows[] = {
        {"", 100, 0},
        {"\r\nbody", 100, 0},
        {"\nbody", 100, 0},
        {"A: b\r\n\r\nbody", 100, 6},
        {"A: b\n\nbody", 100, 5},
        {"A: b\r\rbody", 100, 5},
        {"A: b\r\n c\r\nD: e", 100, 14},
        {"A: b\r\nC: d\r\n\r\n", 12, 12},
        {"A: b\r\nC: d\r\n\r\n", 11, 11},
        {"A: b\r\nC: d\r\n\r\n", 10, 6},
        {"A: b\r\nC: d\r\n\r\n", 3, 0},
        {"A: b", 4, 4},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice got = lines_header(slice_of(rows[i].text), rows[i].max);
        if (got.length != rows[i].want)
            fail_msg("`%s`, %zu: got %zu, want %zu", rows[i].text, rows[i].max, got.length,
                     rows[i].want);
    }
}

static void plain_headers_go_as_they_are(void **state)
{
    (void)state;
    static char long_line[1100];
    const struct {
        const char *header;
        bool ascii, utf8;
    } rows[] = {
        {"", true, true},
        {"A: b\r\n\tc\r\n", true, true},
        {"A: b\nC: d\r", true, true},
        {"A: caf\xc3\xa9\r\n", false, true},
        {"A: caf\xe9\r\n", false, false},
        {"A: \x01\r\n", false, false},
        {"A: \x7f\r\n", false, false},
        {"A: b\r\n--boundary\r\n", false, false},
        {"A: --\r\n", true, true},
        {long_line, false, false},
        {long_line + 102, true, true},
    };

    memset(long_line, 'x', sizeof long_line - 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(lines_are_plain(slice_of(rows[i].header), false), rows[i].ascii);
        assert_int_equal(lines_are_plain(slice_of(rows[i].header), true), rows[i].utf8);
    }
    assert_false(lines_are_plain(slice_make("A: \0\r\n", 6), true));
}

static void lines_end_in_crlf(void **state)
{
    (void)state;
    struct buffer out;

    buffer_init(&out, 1000);
    lines_append(&out, slice_of("A: b\nC: d\rE: f\r\nG: h"));
    check(&out, "A: b\r\nC: d\r\nE: f\r\nG: h\r\n", "append");
    buffer_free(&out);
}

/* Undoes quoted-printable; false where that is not what it is. */
static bool unquote(const struct buffer *in, char *out, size_t *length)
{
    size_t column = 0;

    *length = 0;
    for (size_t i = 0; i < in->length; i++) {
        char c = in->data[i];
        column = c == '\n' ? 0 : column + 1;
        if (column > 77 || (unsigned char)c > 0x7e || (column == 1 && c == '-'))
            return false;
        if (c == '=' && i + 2 < in->length && in->data[i + 1] == '\r') {
            i += 2;
            column = 0;
        } else if (c == '=') {
            unsigned value;
            if (i + 2 >= in->length || sscanf(in->data + i + 1, "%2X", &value) != 1)
                return false;
            out[(*length)++] = (char)value;
            i += 2;
            column += 2;
        } else {
            out[(*length)++] = c;
        }
    }
    return true;
}

static void what_is_quoted_comes_back(void **state)
{
    (void)state;
    static char header[20000], back[20000];

    for (unsigned seed = 0; seed < 300; seed++) {
        size_t length = seed * 60 % 9000, got;
        struct buffer out;
        srand(seed);
        for (size_t i = 0; i < length; i++) {
            static const char often[] = "--  ==\t\t..\xc3\xa9";
            header[i] =
                rand() % 3 == 0 ? often[(size_t)rand() % (sizeof often - 1)] : (char)(rand() % 256);
            if (header[i] == '\r' || header[i] == '\n')
                header[i] = 'x';
        }
        for (size_t i = 100; i + 2 < length; i += 2 + (size_t)rand() % 300)
            memcpy(header + i, "\r\n", 2);
        memcpy(header + length, "\r\n", 2);
        length += 2;
        buffer_init(&out, 100000);
        lines_quote(&out, slice_make(header, length));
        if (!unquote(&out, back, &got))
            fail_msg("seed %u: not quoted-printable", seed);
        assert_int_equal(got, length);
        assert_memory_equal(back, header, length);
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_folded_and_plain),
        cmocka_unit_test(no_line_is_too_long),
        cmocka_unit_test(addresses_have_the_form_for_their_message),
        cmocka_unit_test(a_long_address_is_cut),
        cmocka_unit_test(the_header_ends_at_the_empty_line),
        cmocka_unit_test(plain_headers_go_as_they_are),
        cmocka_unit_test(lines_end_in_crlf),
        cmocka_unit_test(what_is_quoted_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
