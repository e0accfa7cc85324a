/* Notifications: what is in them, and that nothing that others said can make them something else.
 *  */
#include "relay/notification.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char own_id[] = "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10";
static const char boundary[] = "--=_0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10";

static struct notification about(struct recipient *recipients, size_t count)
{
    return (struct notification){
        .id = own_id,
        .now = INT64_C(1795288091123456),
        .hostname = "relay.here.example",
        .smarthost = "smarthost.example",
        .sender = "alice@here.example",
        .message_id = "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d99",
        .received = INT64_C(1795200000000000),
        .recipients = recipients,
        .count = count,
        .header = slice_of("Subject: hello\r\nFrom: <alice@here.example>\r\n\r\nbody\r\n"),
    };
}

/* Well-formed lines, three parts, and 7 bits where that is wanted. */
static char *compose(const struct notification *notification, bool seven_bits)
{
    struct buffer out;
    size_t start = 0, boundaries = 0;
    char *text;

    buffer_init(&out, 8 * 1024 * 1024);
    assert_true(notification_compose(notification, &out));
    for (size_t i = 0; i < out.length; i++) {
        unsigned char c = (unsigned char)out.data[i];
        assert_true(c != 0 && (c < 0x80 || !seven_bits));
        assert_true(c >= ' ' || c == '\t' || c == '\r' || c == '\n');
        assert_true((c == '\n') == (i > 0 && out.data[i - 1] == '\r'));
        if (c != '\n')
            continue;
        assert_true(i - start <= 999);
        if (i - start >= sizeof boundary - 1 &&
            memcmp(out.data + start, boundary, sizeof boundary - 1) == 0)
            boundaries++;
        start = i + 1;
    }
    assert_int_equal(start, out.length);
    assert_int_equal(boundaries, 4);
    assert_true(buffer_append(&out, "", 1));
    text = out.data;
    return text;
}

static void must_have(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL)
        fail_msg("want `%s` in `%s`", wanted, text);
}

static void must_lack(const char *text, const char *unwanted)
{
    if (strstr(text, unwanted) != NULL)
        fail_msg("do not want `%s` in `%s`", unwanted, text);
}

static void each_failed_recipient_is_reported(void **state)
{
    (void)state;
    struct recipient recipients[] = {
        {.address = "bob@there.example",
         .outcome = OUTCOME_FAILED,
         .status = "5.1.1",
         .words = (char *)"550 5.1.1 No such user"},
        {.address = "carol@there.example",
         .outcome = OUTCOME_ACCEPTED,
         .status = "2.0.0",
         .words = (char *)"250 Ok"},
        {.address = "dave@there.example",
         .outcome = OUTCOME_FAILED,
         .status = "5.4.6",
         .words = (char *)"goes in circles",
         .own_words = true},
        {.address = "erin@there.example",
         .outcome = OUTCOME_FAILED,
         .status = "4.4.7",
         .words = (char *)"given up after 5 days: 451 4.3.0 try later"},
        {.address = "frank@there.example",
         .outcome = OUTCOME_DEFERRED,
         .status = "4.3.0",
         .words = (char *)"451 Later"},
        {.address = "grace@there.example", .outcome = OUTCOME_FAILED},
    };
    struct notification notification = about(recipients, 6);
    char *text = compose(&notification, true);

    must_have(text, "From: Mail Delivery System <MAILER-DAEMON@relay.here.example>\r\n"
                    "To: <alice@here.example>\r\n"
                    "Subject: Mail that could not be delivered\r\n"
                    "Date: Sat, 21 Nov 2026 19:08:11 +0000\r\n"
                    "Message-ID: <0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10@relay.here.example>\r\n"
                    "Auto-Submitted: auto-replied\r\n"
                    "MIME-Version: 1.0\r\n"
                    "Content-Type: multipart/report; report-type=delivery-status;\r\n");
    must_have(text, "Content-Type: text/plain; charset=us-ascii\r\n");
    must_have(text,
              "  <bob@there.example>\r\n      smarthost.example said: 550 5.1.1 No such user\r\n");
    must_have(text, "  <dave@there.example>\r\n      goes in circles\r\n");
    must_have(text,
              "  <erin@there.example>\r\n      given up after 5 days: 451 4.3.0 try later\r\n");
    must_have(text, "Content-Type: message/delivery-status\r\n"
                    "Content-Transfer-Encoding: 7bit\r\n"
                    "\r\n"
                    "Reporting-MTA: dns; relay.here.example\r\n"
                    "Arrival-Date: Fri, 20 Nov 2026 18:40:00 +0000\r\n"
                    "\r\n"
                    "Final-Recipient: rfc822; bob@there.example\r\n"
                    "Action: failed\r\n"
                    "Status: 5.1.1\r\n"
                    "Remote-MTA: dns; smarthost.example\r\n"
                    "Diagnostic-Code: smtp; 550 5.1.1 No such user\r\n"
                    "Last-Attempt-Date: Sat, 21 Nov 2026 19:08:11 +0000\r\n"
                    "\r\n"
                    "Final-Recipient: rfc822; dave@there.example\r\n"
                    "Action: failed\r\n"
                    "Status: 5.4.6\r\n"
                    "Last-Attempt-Date: Sat, 21 Nov 2026 19:08:11 +0000\r\n"
                    "\r\n"
                    "Final-Recipient: rfc822; erin@there.example\r\n"
                    "Action: failed\r\n"
                    "Status: 4.4.7\r\n"
                    "Remote-MTA: dns; smarthost.example\r\n"
                    "Diagnostic-Code: smtp; 451 4.3.0 try later\r\n");
    must_have(
        text,
        "Final-Recipient: rfc822; grace@there.example\r\nAction: failed\r\nStatus: 5.0.0\r\n");
    must_have(text, "Content-Type: text/rfc822-headers\r\n"
                    "Content-Transfer-Encoding: 7bit\r\n"
                    "\r\n"
                    "Subject: hello\r\n"
                    "From: <alice@here.example>\r\n"
                    "\r\n--=_");
    must_lack(text, "carol");
    must_lack(text, "frank");
    must_lack(text, "body");
    free(text);
}

static void an_ascii_sender_gets_ascii(void **state)
{
    (void)state;
    struct recipient recipients[] = {
        {.address = "zo\xc3\xab@d\xc3\xa9j\xc3\xa0.example",
         .outcome = OUTCOME_FAILED,
         .status = "5.6.7",
         .words = (char *)"550 caf\xc3\xa9"},
    };
    struct notification notification = about(recipients, 1);
    char *text;

    notification.header = slice_of("Subject: caf\xc3\xa9\r\n\r\n");
    text = compose(&notification, true);
    must_have(text, "Final-Recipient: utf-8; zo\\x{EB}@d\\x{E9}j\\x{E0}.example\r\n");
    must_have(text, "Diagnostic-Code: smtp; 550 caf\\x{E9}\r\n");
    must_have(text, "Content-Type: text/rfc822-headers\r\n"
                    "Content-Transfer-Encoding: quoted-printable\r\n"
                    "\r\n"
                    "Subject: caf=C3=A9\r\n");
    free(text);
}

static void a_utf8_sender_gets_utf8(void **state)
{
    (void)state;
    struct recipient recipients[] = {
        {.address = "zo\xc3\xab+x@d\xc3\xa9j\xc3\xa0.example",
         .outcome = OUTCOME_FAILED,
         .status = "5.6.7",
         .words = (char *)"550 caf\xc3\xa9"},
    };
    struct notification notification = about(recipients, 1);
    char *text;

    notification.sender = "\xc3\xa9ric@here.example";
    notification.header = slice_of("Subject: caf\xc3\xa9\r\n\r\n");
    text = compose(&notification, false);
    must_have(text, "To: <\xc3\xa9ric@here.example>\r\n");
    must_have(text,
              "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
    must_have(text, "  <zo\xc3\xab+x@d\xc3\xa9j\xc3\xa0.example>\r\n");
    must_have(text, "Content-Type: message/global-delivery-status\r\n"
                    "Content-Transfer-Encoding: 8bit\r\n");
    must_have(text, "Final-Recipient: utf-8; zo\xc3\xab\\x{2B}x@d\xc3\xa9j\xc3\xa0.example\r\n");
    must_have(text, "Content-Type: message/global-headers\r\n"
                    "Content-Transfer-Encoding: 8bit\r\n"
                    "\r\n"
                    "Subject: caf\xc3\xa9\r\n");
    free(text);
    /* One that is not UTF-8 cannot be returned as it is. */
    notification.header = slice_of("Subject: caf\xe9\r\n\r\n");
    text = compose(&notification, false);
    must_have(text, "Subject: caf=E9\r\n");
    free(text);
}

static void hostile_words_stay_words(void **state)
{
    (void)state;
    static const char *const units[] = {"x",
                                        "=?utf-8?q?=0d=0a?= ",
                                        "\xe2\x82\xac",
                                        " ",
                                        "--=_",
                                        "\r\nBcc: eve@there.example\r\n",
                                        "\xff\xfe",
                                        "\x1b[31m",
                                        "--=_0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10 "};

    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        char words[REPLY_TEXT_MAX + 64] = "";
        struct recipient recipient = {.address = "bob@there.example",
                                      .outcome = OUTCOME_FAILED,
                                      .status = "5.0.0",
                                      .words = words};
        struct notification notification = about(&recipient, 1);
        char *text;
        while (strlen(words) < REPLY_TEXT_MAX)
            strcat(words, units[u]);
        text = compose(&notification, true);
        must_lack(text, "=?utf-8?");
        must_lack(text, "\nBcc");
        free(text);
    }
}

static void hostile_headers_stay_in_their_part(void **state)
{
    (void)state;
    static char big[10 * 1024 * 1024];
    static char lines[10 * 1024 * 1024];
    const struct slice headers[] = {
        slice_of(""),
        slice_of("\r\nbody"),
        slice_of("no header\r\n\r\nbody"),
        slice_of("A: b\nC: d\n\nbody"),
        slice_of("A: b\rC: d\r\rbody"),
        slice_of("--=_0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10\r\nA: b\r\n\r\n"),
        slice_of("A: b\n--=_0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10--\nC: d\n\n"),
        slice_make("A: \0\x01\r\n\r\n", 9),
        slice_make(big, sizeof big),
        slice_make(big, 5000),
        slice_make(lines, sizeof lines),
    };
    struct recipient recipient = {.address = "bob@there.example",
                                  .outcome = OUTCOME_FAILED,
                                  .status = "5.0.0",
                                  .words = (char *)"550 No"};

    memset(big, 'x', sizeof big);
    for (size_t i = 0; i < sizeof lines; i++)
        lines[i] = "Header: line\r\n"[i % 14];
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct notification notification = about(&recipient, 1);
        char *text;
        notification.header = headers[i];
        text = compose(&notification, true);
        must_lack(text, "body");
        assert_in_range(strlen(text), 1000, 3 * NOTIFICATION_HEADER_MAX);
        free(text);
    }
}

/* However many there are, what is not in it is said. */
static void there_is_an_end_to_it(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    static char addresses[COUNT][40];
    static struct recipient recipients[COUNT];
    static const size_t counts[] = {100, 101, 10000, COUNT};

    for (size_t i = 0; i < COUNT; i++) {
        snprintf(addresses[i], sizeof addresses[i], "recipient%zu@there.example", i);
        recipients[i] = (struct recipient){.address = addresses[i],
                                           .outcome = OUTCOME_FAILED,
                                           .status = "5.1.1",
                                           .words = (char *)"550 No"};
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct notification notification = about(recipients, counts[i]);
        char *text = compose(&notification, true), more[128];
        snprintf(more, sizeof more, "and %zu more, who are named in the report below%s",
                 counts[i] - 100, counts[i] == COUNT ? " as far as there is room" : ".");
        if (counts[i] > 100)
            must_have(text, more);
        else
            must_lack(text, "more, who are named");
        if (counts[i] < COUNT) {
            snprintf(more, sizeof more, "rfc822; %s\r\n", addresses[counts[i] - 1]);
            must_have(text, more);
        }
        free(text);
    }
}

static void what_does_not_fit_fails(void **state)
{
    (void)state;
    struct recipient recipient = {.address = "bob@there.example",
                                  .outcome = OUTCOME_FAILED,
                                  .status = "5.0.0",
                                  .words = (char *)"550 No"};
    struct notification notification = about(&recipient, 1);

    for (size_t room = 0; room < 1500; room += 100) {
        struct buffer out;
        buffer_init(&out, room);
        assert_false(notification_compose(&notification, &out));
        buffer_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failed_recipient_is_reported),
        cmocka_unit_test(an_ascii_sender_gets_ascii),
        cmocka_unit_test(a_utf8_sender_gets_utf8),
        cmocka_unit_test(hostile_words_stay_words),
        cmocka_unit_test(hostile_headers_stay_in_their_part),
        cmocka_unit_test(there_is_an_end_to_it),
        cmocka_unit_test(what_does_not_fit_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
