/* The envelope codec: what is written is read back, and nothing else is taken for an envelope. */
#include "queue/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID       "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10"
#define L_ID     "X-Envelope-Id: " ID "\r\n"
#define L_TIME   "X-Envelope-Received: 2026-11-21T19:08:11.123456Z\r\n"
#define L_CLIENT "X-Envelope-Client: 192.0.2.1 43210\r\n"
#define L_HELO   "X-Envelope-Helo: mail.example.org\r\n"
#define L_PROTO  "X-Envelope-Protocol: ESMTP\r\n"
#define L_FROM   "X-Envelope-From: <alice@example.org>\r\n"
#define L_BOB    "X-Envelope-To: <bob@mayfly.example>\r\n"
#define L_CAROL  "X-Envelope-To: <carol@mayfly.example>\r\n"
#define L_SIZE   "X-Envelope-Size: 0000000000012345\r\n"
#define WHOLE    L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB L_CAROL L_SIZE

static const char *sample_recipients[] = {"bob@mayfly.example", "carol@mayfly.example"};
static const struct envelope sample = {
    .id = ID,
    .received = INT64_C(1795288091123456),
    .client_address = "192.0.2.1",
    .client_port = 43210,
    .helo = "mail.example.org",
    .protocol = "ESMTP",
    .from = "alice@example.org",
    .recipients = sample_recipients,
    .recipients_count = 2,
    .size = 12345,
};

static void writes_the_documented_form(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init(&out, ENVELOPE_MAX);
    assert_true(envelope_encode(&sample, &out));
    assert_int_equal(out.length, strlen(WHOLE));
    assert_memory_equal(out.data, WHOLE, out.length);
    buffer_free(&out);
}

static void reads_it_back_whole_and_in_every_part(void **state)
{
    (void)state;
    static const char text[] = WHOLE "Return-Path: <alice@example.org>\r\n";
    for (size_t given = 1; given < sizeof text; given++) {
        /* An exact copy, so that a sanitizer sees any look beyond what was given. */
        char *exact = malloc(given);
        assert_non_null(exact);
        memcpy(exact, text, given);
        struct envelope got;
        size_t consumed = 0;
        const char *why = NULL;
        enum envelope_status status = envelope_parse(&got, exact, given, &consumed, &why);
        free(exact);
        if (given < strlen(WHOLE)) {
            assert_int_equal(status, ENVELOPE_INCOMPLETE);
            continue;
        }
        assert_int_equal(status, ENVELOPE_OK);
        assert_int_equal(consumed, strlen(WHOLE));
        assert_string_equal(got.id, sample.id);
        assert_int_equal(got.received, sample.received);
        assert_string_equal(got.client_address, sample.client_address);
        assert_int_equal(got.client_port, sample.client_port);
        assert_string_equal(got.helo, sample.helo);
        assert_string_equal(got.protocol, sample.protocol);
        assert_string_equal(got.from, sample.from);
        assert_int_equal(got.recipients_count, 2);
        assert_string_equal(got.recipients[0], sample_recipients[0]);
        assert_string_equal(got.recipients[1], sample_recipients[1]);
        assert_int_equal(got.size, sample.size);
        envelope_free(&got);
    }
}

static void refuses_what_is_no_envelope(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *want;
    } rows[] = {
        {"From alice@example.org Sat Nov 21\n\nhello\n", "no envelope"},
        {L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB L_SIZE, "bad or missing X-Envelope-Id"},
        {"X-Envelope-Id: ../../etc/passwd\r\n" L_SIZE, "bad or missing X-Envelope-Id"},
        {L_ID L_CLIENT L_SIZE, "bad or missing X-Envelope-Received"},
        {L_ID "X-Envelope-Received: 2026-02-30T19:08:11.123456Z\r\n" L_SIZE,
         "bad or missing X-Envelope-Received"},
        {L_ID L_TIME L_HELO L_SIZE, "bad or missing X-Envelope-Client"},
        {L_ID L_TIME "X-Envelope-Client: 192.0.2.1 70000\r\n" L_SIZE,
         "bad or missing X-Envelope-Client"},
        {L_ID L_TIME "X-Envelope-Client: 192.0.2.1\r\n" L_SIZE, "bad or missing X-Envelope-Client"},
        {L_ID L_TIME "X-Envelope-Client: 192.0.2.1 +1\r\n" L_SIZE,
         "bad or missing X-Envelope-Client"},
        {L_ID L_TIME L_CLIENT L_PROTO L_SIZE, "bad or missing X-Envelope-Helo"},
        {L_ID L_TIME L_CLIENT "X-Envelope-Helo: a\rb\r\n" L_SIZE, "bad or missing X-Envelope-Helo"},
        {L_ID L_TIME L_CLIENT L_HELO L_FROM L_SIZE, "bad or missing X-Envelope-Protocol"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_BOB L_SIZE, "bad or missing X-Envelope-From"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO "X-Envelope-From: alice\r\n" L_SIZE,
         "bad or missing X-Envelope-From"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_SIZE, "bad or missing X-Envelope-To"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM "X-Envelope-To: <>\r\n" L_SIZE,
         "bad or missing X-Envelope-To"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB "X-Envelope-To: carol\r\n" L_SIZE,
         "bad or missing X-Envelope-To"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB "X-Envelope-To: <ca\trol>\r\n" L_SIZE,
         "bad or missing X-Envelope-To"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB "X-Envelope-Size: 12345\r\n",
         "bad or missing X-Envelope-Size"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB "X-Envelope-Size: -000000000000001\r\n",
         "bad or missing X-Envelope-Size"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB "X-Envelope-Size: 0000000000012345\n",
         "bad or missing X-Envelope-Size"},
        {L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB "\r\nbody\r\n",
         "an envelope without X-Envelope-Size"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct envelope got;
        size_t consumed;
        const char *why = "";
        enum envelope_status status =
            envelope_parse(&got, rows[i].text, strlen(rows[i].text), &consumed, &why);
        assert_int_equal(status, ENVELOPE_BAD);
        assert_string_equal(why, rows[i].want);
    }
}

static void a_nul_in_a_line_is_no_end(void **state)
{
    (void)state;
    static const char helo[] =
        L_ID L_TIME L_CLIENT "X-Envelope-Helo: a\0b\r\n" L_PROTO L_FROM L_BOB L_SIZE;
    static const char to[] =
        L_ID L_TIME L_CLIENT L_HELO L_PROTO L_FROM L_BOB "X-Envelope-To: <ca\0rol>\r\n" L_SIZE;
    struct envelope got;
    size_t consumed;
    const char *why = NULL;
    assert_int_equal(envelope_parse(&got, helo, sizeof helo - 1, &consumed, &why), ENVELOPE_BAD);
    assert_string_equal(why, "bad or missing X-Envelope-Helo");
    assert_int_equal(envelope_parse(&got, to, sizeof to - 1, &consumed, &why), ENVELOPE_BAD);
    assert_string_equal(why, "bad or missing X-Envelope-To");
}

static void bounds_its_lines(void **state)
{
    (void)state;
    static char text[ENVELOPE_LINE_MAX + 100];
    memset(text, 'a', sizeof text);
    memcpy(text, "X-Envelope-Id: ", 15);
    struct envelope got;
    size_t consumed;
    const char *why = NULL;
    assert_int_equal(envelope_parse(&got, text, sizeof text, &consumed, &why), ENVELOPE_BAD);
    assert_string_equal(why, "an envelope line is too long");
    assert_int_equal(envelope_parse(&got, text, 500, &consumed, &why), ENVELOPE_INCOMPLETE);
}

static void does_not_write_what_could_forge_a_line(void **state)
{
    (void)state;
    static const char *const bad[] = {"a\nX-Envelope-To: <evil@x>", "a\rb", "a\x7f", "\x01"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *recipient[] = {bad[i]};
        struct envelope envelopes[] = {sample, sample, sample, sample};
        envelopes[0].helo = bad[i];
        envelopes[1].from = bad[i];
        envelopes[2].recipients = recipient;
        envelopes[2].recipients_count = 1;
        envelopes[3].protocol = bad[i];
        for (size_t k = 0; k < 4; k++) {
            struct buffer out;
            buffer_init(&out, ENVELOPE_MAX);
            assert_false(envelope_encode(&envelopes[k], &out));
            assert_int_equal(out.length, 0);
            buffer_free(&out);
        }
    }
}

static void carries_any_number_of_recipients(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    const char **recipients = calloc(COUNT, sizeof *recipients);
    assert_non_null(recipients);
    for (int i = 0; i < COUNT; i++) {
        char address[64];
        snprintf(address, sizeof address, "user%d@t.example", i);
        recipients[i] = strdup(address);
    }
    struct envelope many = sample, got;
    many.recipients = recipients;
    many.recipients_count = COUNT;
    struct buffer out;
    buffer_init(&out, ENVELOPE_MAX);
    assert_true(envelope_encode(&many, &out));
    size_t consumed;
    const char *why = NULL;
    assert_int_equal(envelope_parse(&got, out.data, out.length, &consumed, &why), ENVELOPE_OK);
    assert_int_equal(got.recipients_count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_string_equal(got.recipients[i], recipients[i]);
        free((char *)recipients[i]);
    }
    envelope_free(&got);
    buffer_free(&out);
    free(recipients);
}

static void times_are_utc_to_the_microsecond(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t microseconds;
        bool valid;
    } rows[] = {
        {"1970-01-01T00:00:00.000000Z", 0, true},
        {"2026-11-21T19:08:11.123456Z", INT64_C(1795288091123456), true},
        {"2024-02-29T23:59:59.999999Z", INT64_C(1709251199999999), true},
        {"9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999), true},
        {"2023-02-29T00:00:00.000000Z", 0, false},
        {"2026-13-01T00:00:00.000000Z", 0, false},
        {"2026-11-21T24:00:00.000000Z", 0, false},
        {"2026-11-21T19:08:61.000000Z", 0, false},
        {"2026-11-21T19:08:11.123456+00:00", 0, false},
        {"2026-11-21T19:08:11.123456", 0, false},
        {"2026-11-21T19:08:11Z", 0, false},
        {"2026-11-21 19:08:11.123456Z", 0, false},
        {"1969-12-31T23:59:59.000000Z", 0, false},
        {"", 0, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t got = -1;
        assert_int_equal(envelope_parse_time(rows[i].text, &got), rows[i].valid);
        if (!rows[i].valid)
            continue;
        assert_int_equal(got, rows[i].microseconds);
        char text[ENVELOPE_TIME_SIZE];
        envelope_format_time(text, got);
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_documented_form),
        cmocka_unit_test(reads_it_back_whole_and_in_every_part),
        cmocka_unit_test(refuses_what_is_no_envelope),
        cmocka_unit_test(a_nul_in_a_line_is_no_end),
        cmocka_unit_test(bounds_its_lines),
        cmocka_unit_test(does_not_write_what_could_forge_a_line),
        cmocka_unit_test(carries_any_number_of_recipients),
        cmocka_unit_test(times_are_utc_to_the_microsecond),
    };
    return cmocka_run_group_tests_name("queue/envelope", tests, NULL, NULL);
}
