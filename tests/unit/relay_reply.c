/* Replies of a server, whole and a byte at a time, and what is no reply. */
#include "relay/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static struct reply_parser parser;

/* Feeds pieces of a length, each as a copy that a sanitizer guards. */
static enum reply_result feed(const char *input, size_t length, size_t piece)
{
    enum reply_result result = REPLY_INCOMPLETE;

    reply_parser_init(&parser);
    for (size_t at = 0; at < length && result == REPLY_INCOMPLETE; at += piece) {
        size_t size = length - at < piece ? length - at : piece;
        char *exact = malloc(size);
        struct slice slice;
        assert_non_null(exact);
        memcpy(exact, input + at, size);
        slice = slice_make(exact, size);
        result = reply_parse(&parser, &slice);
        if (result == REPLY_INCOMPLETE || result == REPLY_COMPLETE)
            assert_int_equal(slice.length, 0);
        free(exact);
    }
    return result;
}

#define TEXT(bytes) bytes, sizeof bytes - 1

static const struct {
    const char *input;
    size_t length;
    int code;
    const char *status, *text;
} replies[] = {
    {TEXT("250 Ok\r\n"), 250, "2.0.0", "250 Ok"},
    {TEXT("250 Ok\n"), 250, "2.0.0", "250 Ok"},
    {TEXT("250\r\n"), 250, "2.0.0", "250"},
    {TEXT("250\n"), 250, "2.0.0", "250"},
    {TEXT("250 \r\n"), 250, "2.0.0", "250"},
    {TEXT("354 Go\r\n"), 354, "3.0.0", "354 Go"},
    {TEXT("559 x\r\n"), 559, "5.0.0", "559 x"},
    {TEXT("550 5.1.1 No such user\r\n"), 550, "5.1.1", "550 5.1.1 No such user"},
    {TEXT("550 5.1.1\r\n"), 550, "5.1.1", "550 5.1.1"},
    {TEXT("550 5.123.456 x\r\n"), 550, "5.123.456", "550 5.123.456 x"},
    {TEXT("550 5.1234.4 x\r\n"), 550, "5.0.0", "550 5.1234.4 x"},
    {TEXT("550 5.1.4567 x\r\n"), 550, "5.0.0", "550 5.1.4567 x"},
    {TEXT("550 5.1. x\r\n"), 550, "5.0.0", "550 5.1. x"},
    {TEXT("550 5..1 x\r\n"), 550, "5.0.0", "550 5..1 x"},
    {TEXT("550 5.1.1x\r\n"), 550, "5.0.0", "550 5.1.1x"},
    {TEXT("550 4.1.1 x\r\n"), 550, "5.0.0", "550 4.1.1 x"},
    {TEXT("450 5.1.1 x\r\n"), 450, "4.0.0", "450 5.1.1 x"},
    {TEXT("550  5.1.1 x\r\n"), 550, "5.0.0", "550  5.1.1 x"},
    {TEXT("550-5.1.1 No\r\n550 such user\r\n"), 550, "5.1.1", "550 5.1.1 No such user"},
    {TEXT("550-No\n550-5.1.1 such\n550\n"), 550, "5.0.0", "550 No 5.1.1 such"},
    {TEXT("550-5.1.1\r\n550 5.1.1 x\r\n"), 550, "5.1.1", "550 5.1.1 5.1.1 x"},
    {TEXT("250-\r\n250-\r\n250 x\r\n"), 250, "2.0.0", "250   x"},
    {TEXT("250 a\tb\r\n"), 250, "2.0.0", "250 a b"},
    {TEXT("250 a\0b\r\n"), 250, "2.0.0", "250 a?b"},
    {TEXT("250 \x1b[2Jx\x7f\r\n"), 250, "2.0.0", "250 ?[2Jx?"},
    {TEXT("250 a\rb\r\r\n"), 250, "2.0.0", "250 a?b?"},
    {TEXT("250 gr\xc3\xbc\xc3\x9f\r\n"), 250, "2.0.0", "250 gr\xc3\xbc\xc3\x9f"},
    {TEXT("250 \xc3\r\n"), 250, "2.0.0", "250 ?"},
    {TEXT("250-\xc3\r\n250 \xbc\r\n"), 250, "2.0.0", "250 ? ?"},
    {TEXT("250 \xc0\x80 \xed\xa0\x80\r\n"), 250, "2.0.0", "250 ?? ???"},
    {TEXT("250 \xf0\x9f\x93\xae\r\n"), 250, "2.0.0", "250 \xf0\x9f\x93\xae"},
};

static void reads_replies_in_any_fragmentation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        for (size_t piece = 1; piece <= replies[i].length; piece++) {
            enum reply_result result = feed(replies[i].input, replies[i].length, piece);
            if (result != REPLY_COMPLETE || strcmp(parser.reply.text, replies[i].text) != 0)
                print_message("row %zu in pieces of %zu\n", i, piece);
            assert_int_equal(result, REPLY_COMPLETE);
            assert_int_equal(parser.reply.code, replies[i].code);
            assert_string_equal(parser.reply.status, replies[i].status);
            assert_string_equal(parser.reply.text, replies[i].text);
        }
        for (size_t length = 0; length < replies[i].length; length++) {
            if (replies[i].input[length] == '\n' && length + 1 == replies[i].length)
                assert_int_equal(feed(replies[i].input, length, length > 0 ? length : 1),
                                 REPLY_INCOMPLETE);
        }
    }
}

static const struct {
    const char *input;
    size_t length;
} none[] = {
    {TEXT("\r\n")},
    {TEXT("\n")},
    {TEXT(" 250 Ok\r\n")},
    {TEXT("199 x\r\n")},
    {TEXT("600 x\r\n")},
    {TEXT("25\r\n")},
    {TEXT("2500 x\r\n")},
    {TEXT("250_Ok\r\n")},
    {TEXT("250\tOk\r\n")},
    {TEXT("250\rOk\r\n")},
    {TEXT("250\0\r\n")},
    {TEXT("\0\r\n")},
    {TEXT("HTTP/1.1 400 Bad Request\r\n")},
    {TEXT("250-a\r\n251 b\r\n")},
    {TEXT("250-a\r\n550 b\r\n")},
    {TEXT("250-a\r\n\r\n")},
    {TEXT("250-a\r\nb\r\n")},
};

static void knows_what_is_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        for (size_t piece = 1; piece <= none[i].length; piece++) {
            struct slice more = slice_of("250 Ok\r\n");
            if (feed(none[i].input, none[i].length, piece) != REPLY_MALFORMED)
                fail_msg("row %zu in pieces of %zu", i, piece);
            assert_int_equal(reply_parse(&parser, &more), REPLY_MALFORMED); /* and stays so */
        }
    }
}

static void one_reply_is_taken_at_a_time(void **state)
{
    (void)state;
    struct slice input = slice_of("250 a\r\n354-b\r\n354 c\r\n5");

    reply_parser_init(&parser);
    assert_int_equal(reply_parse(&parser, &input), REPLY_COMPLETE);
    assert_string_equal(parser.reply.text, "250 a");
    assert_true(slice_equals(input, slice_of("354-b\r\n354 c\r\n5")));
    assert_int_equal(reply_parse(&parser, &input), REPLY_COMPLETE);
    assert_string_equal(parser.reply.text, "354 b c");
    assert_true(slice_equals(input, slice_of("5")));
    assert_int_equal(reply_parse(&parser, &input), REPLY_INCOMPLETE);
    assert_int_equal(input.length, 0);
    input = slice_of("50 no\r\n");
    assert_int_equal(reply_parse(&parser, &input), REPLY_COMPLETE);
    assert_string_equal(parser.reply.text, "550 no");
    assert_int_equal(reply_parse(&parser, &input), REPLY_INCOMPLETE);
}

static void long_text_is_cut(void **state)
{
    (void)state;
    char line[REPLY_TEXT_MAX + 100];

    memset(line, 'x', sizeof line);
    memcpy(line, "550 5.7.1 ", 10);
    memcpy(line + sizeof line - 2, "\r\n", 2);
    for (size_t piece = 1; piece <= sizeof line; piece += 97) {
        assert_int_equal(feed(line, sizeof line, piece), REPLY_COMPLETE);
        assert_int_equal(strlen(parser.reply.text), REPLY_TEXT_MAX);
        assert_memory_equal(parser.reply.text, line, REPLY_TEXT_MAX);
        assert_string_equal(parser.reply.status, "5.7.1");
    }
    /* A character that is cut through is none. */
    memcpy(line + REPLY_TEXT_MAX - 1, "\xc3\xbc", 2);
    assert_int_equal(feed(line, sizeof line, sizeof line), REPLY_COMPLETE);
    assert_string_equal(parser.reply.text + REPLY_TEXT_MAX - 2, "x?");
}

/* A megabyte in one line, and lines without end: both are listened to for so long. */
static void endless_replies_are_too_long(void **state)
{
    (void)state;
    enum { LENGTH = 1024 * 1024 };
    char *input = malloc(LENGTH);

    assert_non_null(input);
    memset(input, 'x', LENGTH);
    memcpy(input, "250 ", 4);
    for (size_t piece = 1; piece <= LENGTH; piece *= 32) {
        assert_int_equal(feed(input, LENGTH, piece), REPLY_TOO_LONG);
        assert_int_equal(parser.bytes, REPLY_BYTES_MAX + 1);
    }
    for (size_t at = 0; at < LENGTH; at += 8)
        memcpy(input + at, "250-ab\r\n", 8);
    for (size_t piece = 1; piece <= LENGTH; piece *= 32) {
        struct slice more = slice_of("250 Ok\r\n");
        assert_int_equal(feed(input, LENGTH, piece), REPLY_TOO_LONG);
        assert_int_equal(parser.bytes, REPLY_BYTES_MAX + 1);
        assert_int_equal(reply_parse(&parser, &more), REPLY_TOO_LONG);
    }
    /* One that is just as long as it may be. */
    memcpy(input + REPLY_BYTES_MAX - 8, "250 ab\r\n", 8);
    assert_int_equal(feed(input, REPLY_BYTES_MAX, REPLY_BYTES_MAX), REPLY_COMPLETE);
    memcpy(input + REPLY_BYTES_MAX - 8, "250-ab\r\n250 ab\r\n", 16);
    assert_int_equal(feed(input, REPLY_BYTES_MAX + 8, 1000), REPLY_TOO_LONG);
    free(input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_replies_in_any_fragmentation), cmocka_unit_test(knows_what_is_none),
        cmocka_unit_test(one_reply_is_taken_at_a_time),       cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(endless_replies_are_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
