/* Replies: every row obeys the laws of RFC 5321 and RFC 2034. */
#include "smtpd/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The longest values that can come. */
static char longest_name[256];
static const struct reply_values values = {
    .hostname = longest_name,
    .max_size = UINT64_MAX,
    .max_recipients = SIZE_MAX,
    .max_messages = UINT_MAX,
    .tls = true,
    .id = "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10",
};

static int make_values(void **state)
{
    (void)state;
    memset(longest_name, 'h', sizeof longest_name - 1);
    return 0;
}

/* RFC 2034, section 4: none in 3xx, in the greeting, and in the replies to HELO and EHLO. */
static bool wants_enhanced(enum reply reply)
{
    return reply != REPLY_GREETING && reply != REPLY_HELO && reply != REPLY_EHLO &&
           reply_code(reply) / 100 != 3;
}

static void check_line(enum reply reply, const char *line, size_t length, bool last)
{
    char code[4], enhanced[16] = "";
    size_t at = 4;

    assert_true(length + 2 <= REPLY_LINE_MAX);
    snprintf(code, sizeof code, "%u", reply_code(reply));
    assert_memory_equal(line, code, 3);
    assert_int_equal(line[3], last ? ' ' : '-');
    if (wants_enhanced(reply)) {
        assert_non_null(reply_enhanced(reply));
        snprintf(enhanced, sizeof enhanced, "%s ", reply_enhanced(reply));
        assert_int_equal(enhanced[0], code[0]);
        assert_memory_equal(line + 4, enhanced, strlen(enhanced));
        at += strlen(enhanced);
    } else {
        assert_null(reply_enhanced(reply));
    }
    assert_true(length > at);
    for (size_t i = 0; i < length; i++)
        assert_true(line[i] >= ' ' && line[i] <= '~' && line[i] != '$');
}

static void every_reply_is_well_formed(void **state)
{
    (void)state;
    for (int number = REPLY_NONE + 1; number < REPLY_COUNT; number++) {
        enum reply reply = (enum reply)number;
        struct buffer out;
        size_t at = 0;

        buffer_init(&out, 4096);
        reply_format(reply, &values, &out);
        assert_false(out.failed);
        assert_true(reply_code(reply) >= 214 && reply_code(reply) <= 555);
        while (at < out.length) {
            char *end = memmem(out.data + at, out.length - at, "\r\n", 2);
            assert_non_null(end);
            size_t next = (size_t)(end - out.data) + 2;
            check_line(reply, out.data + at, next - 2 - at, next == out.length);
            at = next;
        }
        buffer_free(&out);
    }
}

static bool with_tls;

static void formats(enum reply reply, const char *want)
{
    const struct reply_values short_values = {
        .hostname = "mx.example",
        .max_size = 1000,
        .max_recipients = 100,
        .max_messages = 10000,
        .tls = with_tls,
        .id = "ID",
    };
    struct buffer out;

    buffer_init(&out, 4096);
    reply_format(reply, &short_values, &out);
    buffer_append(&out, "", 1);
    assert_string_equal(out.data, want);
    buffer_free(&out);
}

static void fills_in_values(void **state)
{
    (void)state;
    formats(REPLY_NONE, "");
    formats(REPLY_UNSET, "");
    formats(REPLY_GREETING, "220 mx.example ESMTP Mayfly\r\n");
    formats(REPLY_HELO, "250 mx.example\r\n");
    formats(REPLY_EHLO, "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n"
                        "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
                        "250-LIMITS RCPTMAX=100 MAILMAX=10000\r\n250 CHUNKING\r\n");
    with_tls = true;
    formats(REPLY_EHLO, "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-STARTTLS\r\n"
                        "250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
                        "250-LIMITS RCPTMAX=100 MAILMAX=10000\r\n250 CHUNKING\r\n");
    formats(REPLY_QUEUED, "250 2.0.0 Ok: queued as ID\r\n");
    formats(REPLY_BYE, "221 2.0.0 Bye\r\n");
    formats(REPLY_TOO_BIG, "552 5.3.4 Message too big\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reply_is_well_formed),
        cmocka_unit_test(fills_in_values),
    };
    return cmocka_run_group_tests(tests, make_values, NULL);
}
