/* Trace fields: well-formed whatever a client calls itself. */
#include "smtpd/trace.h"

#include "common/date.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define ID "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10"
/* Sat, 21 Nov 2026 19:08:11.123456 */
#define TIME INT64_C(1795288091123456)
#define DATE "Sat, 21 Nov 2026 19:08:11 +0000\r\n"
#define L40  "a23456789012345678901234567890.example01"

static const struct {
    struct trace trace;
    const char *want;
} rows[] = {
    {{"c.example", "[192.0.2.1]", "mx.example", "ESMTP", ID, "b@t.example", TIME},
     "Received: from c.example ([192.0.2.1])\r\n"
     "\tby mx.example with ESMTP id " ID "\r\n"
     "\tfor <b@t.example>; " DATE},
    {{"[192.0.2.9]", "[IPv6:2001:db8::1]", "mx.example", "SMTP", ID, NULL, TIME},
     "Received: from [192.0.2.9] ([IPv6:2001:db8::1])\r\n"
     "\tby mx.example with SMTP id " ID ";\r\n"
     "\t" DATE},
    {{"a)b(c\\d", "[192.0.2.1]", "mx.example", "ESMTP", ID, NULL, TIME},
     "Received: from [192.0.2.1]\r\n"
     "\t(helo a\\)b\\(c\\\\d)\r\n"
     "\tby mx.example with ESMTP id " ID ";\r\n"
     "\t" DATE},
    {{"[foo]", "[192.0.2.1]", "mx.example", "ESMTP", ID, NULL, TIME},
     "Received: from [192.0.2.1]\r\n"
     "\t(helo [foo])\r\n"
     "\tby mx.example with ESMTP id " ID ";\r\n"
     "\t" DATE},
    {{"my_host", "[192.0.2.1]", L40, "UTF8SMTP", ID, L40 "@" L40, TIME},
     "Received: from my_host ([192.0.2.1])\r\n"
     "\tby " L40 " with UTF8SMTP\r\n"
     "\tid " ID "\r\n"
     "\tfor <" L40 "@" L40 ">;\r\n"
     "\t" DATE},
    {{L40 "." L40, "[IPv6:2001:db8:1:2:3:4:5:6]", "m", "ESMTP", ID, NULL, TIME},
     "Received: from " L40 "." L40 "\r\n"
     "\t([IPv6:2001:db8:1:2:3:4:5:6])\r\n"
     "\tby m with ESMTP id " ID ";\r\n"
     "\t" DATE},
};

static void writes_received(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buffer out;
        buffer_init(&out, 4096);
        trace_format(&rows[i].trace, &out);
        buffer_append(&out, "", 1);
        assert_string_equal(out.data, rows[i].want);
        buffer_free(&out);
    }
}

static void writes_return_path(void **state)
{
    (void)state;
    static const char *const senders[] = {"a@c.example", "", "\"a b>\"@c.example"};
    static const char *const want[] = {"Return-Path: <a@c.example>\r\n", "Return-Path: <>\r\n",
                                       "Return-Path: <\"a b>\"@c.example>\r\n"};
    for (size_t i = 0; i < sizeof senders / sizeof senders[0]; i++) {
        struct buffer out;
        buffer_init(&out, 4096);
        trace_format_return_path(senders[i], &out);
        buffer_append(&out, "", 1);
        assert_string_equal(out.data, want[i]);
        buffer_free(&out);
    }
}

/* Every line fits unless a single word is longer. */
static void folds_lines(void **state)
{
    (void)state;
    char name[80];
    for (size_t length = 1; length < sizeof name; length++) {
        struct trace trace = rows[0].trace;
        struct buffer out;
        size_t line = 0;
        memset(name, 'x', length);
        name[length] = '\0';
        trace.hostname = name;
        trace.helo = name;
        trace.recipient = name;
        buffer_init(&out, 4096);
        trace_format(&trace, &out);
        for (size_t i = 0; i < out.length; i++) {
            if (out.data[i] == '\n') {
                size_t octets = i - 1 - line;
                assert_true(octets <= 78 || octets <= length + strlen("Received: from "));
                line = i + 1;
            }
        }
        assert_int_equal(line, out.length);
        buffer_free(&out);
    }
}

static void writes_dates(void **state)
{
    (void)state;
    static const struct {
        int64_t time;
        const char *want;
    } dates[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 +0000"},
        {TIME, "Sat, 21 Nov 2026 19:08:11 +0000"},
        {INT64_C(1709164799999999), "Wed, 28 Feb 2024 23:59:59 +0000"},
        {INT64_C(253402300799000000), "Fri, 31 Dec 9999 23:59:59 +0000"},
    };
    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
        char got[DATE_SIZE];
        date_format(got, dates[i].time);
        assert_string_equal(got, dates[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_received),
        cmocka_unit_test(writes_return_path),
        cmocka_unit_test(folds_lines),
        cmocka_unit_test(writes_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
