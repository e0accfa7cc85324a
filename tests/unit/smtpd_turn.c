/* What a session demands before it serves: TLS, patience, and one header of a proxy at most. */
#include "smtpd/session.h"

#include "world.h"

#include <stdlib.h>
#include <string.h>

static void tls_forgets_the_client(void **unused)
{
    (void)unused;
    world_go_to(SESSION_RCPT);
    /* What lies behind the command is not used, and never will be. */
    assert_int_equal(session_input(&world.session, "STARTTLS\r\nNOOP\r\n", 16), 10);
    assert_string_equal(world_output(), "220 2.0.0 Ready to start TLS\r\n");
    assert_false(session_wants_input(&world.session));
    assert_int_equal(session_input(&world.session, "NOOP\r\n", 6), 0);
    assert_null(world.session.transaction);
    session_event(&world.session, EVENT_TLS_BEGUN, REPLY_UNSET);
    assert_null(world.session.helo);
    says("DATA\r\n", "503 5.5.1 Say EHLO");
    says("MAIL FROM:<a@c.example>\r\n", "503 5.5.1 Say EHLO");
    world_input("EHLO c\r\n");
    assert_null(strstr(world_output(), "STARTTLS"));
    says("STARTTLS\r\n", "503 5.5.1");
    says("STARTTLS x\r\n", "501 5.5.4");
    says("MAIL FROM:<a@c.example>\r\n", "250");
    assert_string_equal(transaction_protocol(world.session.transaction, true, true), "ESMTPS");
    world_go_to(SESSION_START);
    world.no_memory = true;
    says("STARTTLS\r\n", "454 4.7.0");
    assert_int_equal(world.session.state, SESSION_START);
    world.rules.tls = false;
    says("STARTTLS\r\n", "502 5.5.1");
}

static void tls_can_be_required(void **unused)
{
    (void)unused;
    static const struct {
        const char *line, *want;
    } rows[] = {
        {"HELO c\r\n", "530 5.7.0"},
        {"MAIL FROM:<>\r\n", "530 5.7.0"},
        {"RCPT TO:<b@t.example>\r\n", "530 5.7.0"},
        {"DATA\r\n", "530 5.7.0"},
        {"RSET\r\n", "530 5.7.0"},
        {"HELP\r\n", "530 5.7.0"},
        {"VRFY x\r\n", "530 5.7.0"},
        {"FOO\r\n", "530 5.7.0"},
        {"BDAT 4 LAST\r\nRSET", "530 5.7.0"},
        {"NOOP\r\n", "250"},
        {"EHLO c\r\n", "250"},
        {"MAIL FROM:<>\r\n", "530 5.7.0"},
        {"STARTTLS now\r\n", "501 5.5.4"},
        {"QUIT\r\n", "221"},
    };
    world.rules.require_tls = true;
    world_go_to(SESSION_START);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        says(rows[i].line, rows[i].want);
    world_go_to(SESSION_HANDSHAKE);
    session_event(&world.session, EVENT_TLS_BEGUN, REPLY_UNSET);
    says("HELO c\r\n", "250");
    says("MAIL FROM:<>\r\n", "250");
    world_go_to(SESSION_REJECTED);
    says("MAIL FROM:<>\r\n", "503 5.5.1");
}

/* Whoever may do but one useless thing can still send mail. */
static void a_greeting_is_no_junk(void **unused)
{
    (void)unused;
    world.rules.max_junk = 1;
    world_go_to(SESSION_START);
    says("STARTTLS\r\n", "220");
    session_event(&world.session, EVENT_TLS_BEGUN, REPLY_UNSET);
    says("EHLO c.example\r\n", "250");
    says("MAIL FROM:<>\r\n", "250");
    says("EHLO c.example\r\n", "421 4.7.0");
}

static void pipelining_out_of_turn_is_noted(void **unused)
{
    (void)unused;
    static const struct {
        const char *before, *input;
        int noted;
        const char *refused; /* the replies when it is refused */
    } rows[] = {
        {"", "EHLO c\r\nNOOP\r\n", 1, "554 5.5.1 Commands"},
        {"", "HELO c\r\nNOOP\r\n", 1, "554 5.5.1 Commands"},
        {"", "NOOP\r\nNOOP\r\n", 1, "554 5.5.1 Commands"},
        {"", "NOOP\r\n", 0, "250 2.0.0"},
        {"", "QUIT\r\nNOOP\r\n", 0, "221"},
        {"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0, "421 4.7.0"},
        {"HELO c\r\n", "MAIL FROM:<>\r\nRCPT TO:<b@t.example>\r\n", 1, "554 5.5.1 Commands"},
        {"EHLO c\r\n", "MAIL FROM:<>\r\nRCPT TO:<b@t.example>\r\nNOOP\r\nRSET\r\n", 0, "250 2.1.0"},
        {"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@t.example>\r\n", "DATA\r\nMAIL\r\n", 1,
         "554 5.5.1 Commands"},
        {"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@t.example>\r\n", "BDAT 1\r\nxNOOP\r\n", 0,
         "250 2.0.0"},
        {"EHLO c\r\n", "VRFY x\r\nNOOP\r\n", 1, "554 5.5.1 Commands"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int refuse = 0; refuse <= 1; refuse++) {
            const char *at = rows[i].before;
            world.rules.refuse_pipelining = refuse;
            world.notes[NOTE_EARLY_PIPELINING] = 0;
            world_go_to(SESSION_START);
            for (; *at != '\0'; at = strchr(at, '\n') + 1)
                session_input(&world.session, at, (size_t)(strchr(at, '\n') + 1 - at));
            world_output();
            session_input(&world.session, rows[i].input, strlen(rows[i].input));
            assert_int_equal(world.notes[NOTE_EARLY_PIPELINING], rows[i].noted);
            const char *got = world_output();
            bool rejected = strncmp(got, "554 5.5.1 Commands", 18) == 0;
            assert_int_equal(rejected, refuse && rows[i].noted);
            if (refuse)
                assert_memory_equal(got, rows[i].refused, strlen(rows[i].refused));
            if (rejected)
                assert_int_equal(world.session.state, SESSION_REJECTED);
        }
    }
}

static void a_second_header_closes(void **unused)
{
    (void)unused;
    static const struct {
        bool proxied;
        const char *before, *line, *want;
    } rows[] = {
        {true, "", "PROXY TCP4 1.2.3.4 5.6.7.8 1 25\r\n", ""},
        {true, "", "\r\n", ""},
        {true, "EHLO c\r\n", "PROXY UNKNOWN\r\n", ""},
        {true, "EHLO c\r\n", "\r\n", "500 5.5.2"},
        {false, "", "PROXY TCP4 1.2.3.4 5.6.7.8 1 25\r\n", "500 5.5.1"},
        {false, "", "\r\n", "500 5.5.2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        world_go_to(SESSION_START);
        world.session.proxied = rows[i].proxied;
        world_input(rows[i].before);
        world_output();
        says(rows[i].line, rows[i].want);
        assert_int_equal(world.session.state == SESSION_CLOSED, rows[i].want[0] == '\0');
    }
    assert_int_equal(world.notes[NOTE_SECOND_HEADER], 3);
    /* The signature of version 2, late. */
    for (int proxied = 0; proxied <= 1; proxied++) {
        world_go_to(SESSION_READY);
        world.session.proxied = proxied;
        session_input(&world.session, "\r\n\r\n\0\r\nQUIT\n", 12);
        assert_int_equal(world.session.state == SESSION_CLOSED, proxied);
    }
    assert_int_equal(world.notes[NOTE_SECOND_HEADER], 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tls_forgets_the_client), TEST(tls_can_be_required),
        TEST(a_greeting_is_no_junk),  TEST(pipelining_out_of_turn_is_noted),
        TEST(a_second_header_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
