/* The end of data, dot-stuffing and counting, against a plain reading of the RFC, in every
 * fragmentation of two parts and octet by octet. */
#include "smtpd/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct outcome {
    char content[1000];
    size_t length;
    size_t used;
    bool ended;
};

/* RFC 5321, section 4.5.2, as it reads: cut into lines at CRLF; a line of one dot ends; a dot at
 * the start of another is removed. */
static void read_plainly(const char *input, size_t length, struct outcome *want)
{
    size_t at = 0;

    *want = (struct outcome){0};
    while (at < length) {
        const char *end = memmem(input + at, length - at, "\r\n", 2);
        size_t next = end != NULL ? (size_t)(end - input) + 2 : length;
        size_t from = at;
        if (next - at == 3 && input[at] == '.' && end != NULL) {
            want->ended = true;
            want->used = next;
            return;
        }
        if (input[from] == '.')
            from++;
        memcpy(want->content + want->length, input + from, next - from);
        want->length += next - from;
        at = next;
    }
    want->used = length;
}

static void feed(struct data *data, const char *input, size_t length, struct outcome *got)
{
    /* An exact copy, so that a sanitizer sees any look beyond what was given. */
    char *exact = malloc(length > 0 ? length : 1);
    size_t used = 0;

    assert_non_null(exact);
    memcpy(exact, input, length);
    while (used < length && !data_ended(data)) {
        struct slice content;
        size_t step = data_feed(data, exact + used, length - used, &content);
        assert_true(content.length <= step + 1);
        assert_true(step > 0 || content.length > 0);
        memcpy(got->content + got->length, content.start, content.length);
        got->length += content.length;
        used += step;
    }
    got->used += used;
    got->ended = data_ended(data);
    free(exact);
}

/* The input may end in what could become the end: then those octets are withheld. */
static void same(const struct outcome *got, const struct outcome *want, const struct data *data)
{
    size_t withheld = data->state == DATA_DOT_CR ? 1 : 0;

    assert_int_equal(got->ended, want->ended);
    assert_int_equal(got->used, want->used);
    assert_int_equal(got->length + withheld, want->length);
    assert_memory_equal(got->content, want->content, got->length);
    assert_int_equal(data->size, got->length);
}

static void check_every_split(const char *input, size_t length)
{
    struct outcome want, got;

    read_plainly(input, length, &want);
    for (size_t split = 0; split <= length; split++) {
        struct data data = {0};
        got = (struct outcome){0};
        feed(&data, input, split, &got);
        if (!got.ended)
            feed(&data, input + split, length - split, &got);
        same(&got, &want, &data);
    }
    struct data data = {0};
    got = (struct outcome){0};
    for (size_t i = 0; i < length && !got.ended; i++)
        feed(&data, input + i, 1, &got);
    same(&got, &want, &data);
}

static const struct {
    const char *input, *want;
    bool ended;
} rows[] = {
    {".\r\n", "", true},
    {"x\r\n.\r\n", "x\r\n", true},
    {"x\r\n.\r\nNOOP\r\n", "x\r\n", true},
    {"..\r\n...a\r\n.b\r\n.\r\n", ".\r\n..a\r\nb\r\n", true},
    {"\r\n.\n", "\r\n\n", false},
    {".\rx\r\n.\r\n", "\rx\r\n", true},
    {".\r\r\n.\r\n", "\r\r\n", true},
    {"\n.\r\n", "\n.\r\n", false},
    {"\r.\r\n", "\r.\r\n", false},
    {"x\n.\n", "x\n.\n", false},
};

static void undoes_stuffing_and_finds_the_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct outcome want;
        size_t length = strlen(rows[i].input);
        read_plainly(rows[i].input, length, &want);
        assert_int_equal(want.ended, rows[i].ended);
        assert_int_equal(want.length, strlen(rows[i].want));
        assert_memory_equal(want.content, rows[i].want, want.length);
        check_every_split(rows[i].input, length);
    }
}

/* Every input of up to seven octets over the alphabet that matters. */
static void agrees_with_the_rfc_on_all_short_inputs(void **state)
{
    (void)state;
    static const char alphabet[] = {'\r', '\n', '.', 'x', '\0'};
    for (size_t length = 0; length <= 7; length++) {
        size_t count = 1;
        for (size_t i = 0; i < length; i++)
            count *= sizeof alphabet;
        for (size_t number = 0; number < count; number++) {
            char input[8];
            for (size_t i = 0, rest = number; i < length; i++, rest /= sizeof alphabet)
                input[i] = alphabet[rest % sizeof alphabet];
            check_every_split(input, length);
        }
    }
}

/* What other servers have taken for an end (D6-08), in front of the real one. */
static void smuggled_ends_are_content(void **state)
{
    (void)state;
    static const struct slice ends[] = {
#define END(text) {text, sizeof text - 1}
        END("\n.\n"),         END("\n.\r\n"),     END("\r\n.\n"),     END("\r.\r"),
        END("\r.\r\n"),       END("\r\n.\r"),     END("\n.\r"),       END("\n\n.\r\n"),
        END("\r\n\0.\r\n"),   END("\r\n.\0\r\n"), END("\r\n.\r\r\n"), END("\r\n. \r\n"),
        END("\r\r\n.\r\r\n"),
    };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        static const char after[] = "MAIL FROM:<evil@c.example>\r\n";
        char input[200] = "Subject: x\r\n\r\nx";
        size_t length = strlen(input);
        struct outcome want;
        memcpy(input + length, ends[i].start, ends[i].length);
        length += ends[i].length;
        memcpy(input + length, after, sizeof after - 1);
        length += sizeof after - 1;
        read_plainly(input, length, &want);
        assert_false(want.ended);
        check_every_split(input, length);
        memcpy(input + length, ".\r\n", 3);
        check_every_split(input, length + 3);
    }
}

static const struct {
    const char *input;
    uint32_t want;
} hops[] = {
    {"Received: x\r\n\r\n", 1},
    {"RECEIVED:x\r\nreceived: y\r\n\r\n", 2},
    {"Received : x\r\nReceived-SPF: x\r\nReceivedx: y\r\n\r\n", 0},
    {"Received: x\r\n\tReceived: folded\r\nSubject: Received: x\r\n\r\n", 1},
    {"Subject: x\r\n\r\nReceived: body\r\n", 0},
    {"\r\nReceived: body\r\n", 0},
    {".Received: stuffed\r\n\r\n", 1},
    {"Received: x\r\n..\r\nReceived: y\r\n", 2},
    {"Rec\reived: x\r\nReceived: y\r\n", 1},
    {"x\nReceived: behind a bare LF\r\n", 0},
    {".\r\r\nReceived: x\r\n", 1},
    {"Receive\r\nReceived", 0},
};

static void counts_received_fields_of_the_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hops / sizeof hops[0]; i++) {
        size_t length = strlen(hops[i].input);
        for (size_t part = 1; part <= length; part++) {
            struct data data = {0};
            struct outcome got = {0};
            for (size_t at = 0; at < length; at += part)
                feed(&data, hops[i].input + at, part < length - at ? part : length - at, &got);
            if (data.received != hops[i].want)
                print_message("%s\n", hops[i].input);
            assert_int_equal(data.received, hops[i].want);
        }
    }
}

static void all_octets_pass(void **state)
{
    (void)state;
    char input[256 + 5];
    for (int i = 0; i < 256; i++)
        input[i] = (char)i;
    memcpy(input + 256, "\r\n.\r\n", 5);
    check_every_split(input, sizeof input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(undoes_stuffing_and_finds_the_end),
        cmocka_unit_test(agrees_with_the_rfc_on_all_short_inputs),
        cmocka_unit_test(smuggled_ends_are_content),
        cmocka_unit_test(counts_received_fields_of_the_header),
        cmocka_unit_test(all_octets_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
