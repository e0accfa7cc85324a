/* A session over bytes: a whole conversation, in one piece and octet by octet; what ends a session
 * or makes it wait; what a transaction needs. */
#include "smtpd/session.h"

#include "world.h"

#include <stdlib.h>
#include <string.h>

static const char conversation[] = "EHLO c.example\r\n"
                                   "FOO\r\n"
                                   "MAIL FROM:<a@c.example> SIZE=10\r\n"
                                   "RCPT TO:<b@other.example>\r\n"
                                   "RCPT TO:<b@t.example>\r\n"
                                   "DATA\r\n"
                                   "Subject: x\r\n\r\n..dot\r\n.\r\n"
                                   "NOOP\r\n"
                                   "MAIL FROM:<> BODY=8BITMIME\r\n"
                                   "RCPT TO:<Postmaster>\r\n"
                                   "DATA\r\n"
                                   ".\r\n"
                                   "QUIT\r\nNOOP\r\n";

static void converse(size_t part, struct buffer *transcript)
{
    size_t at = 0, length = sizeof conversation - 1;

    session_free(&world.session);
    session_init(&world.session, &world.rules, &world_host, &world.out);
    session_event(&world.session, EVENT_CONNECT, REPLY_UNSET);
    while (at < length && world.session.state != SESSION_CLOSED) {
        size_t given = part < length - at ? part : length - at;
        at += session_input(&world.session, conversation + at, given);
        if (world.session.state == SESSION_COMMIT) {
            /* Nothing is taken while the disk works. */
            assert_int_equal(session_input(&world.session, "NOOP\r\n", 6), 0);
            buffer_append(transcript, world.content.data, world.content.length);
            session_event(&world.session, EVENT_COMMITTED, REPLY_UNSET);
        }
        buffer_append(transcript, world.out.data, world.out.length);
        world.out.length = 0;
    }
    buffer_append(transcript, "", 1);
}

static void a_conversation_does_not_depend_on_its_parts(void **unused)
{
    (void)unused;
    static const char want[] = "220 mx.example ESMTP Mayfly\r\n"
                               "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n"
                               "250-STARTTLS\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
                               "250-ENHANCEDSTATUSCODES\r\n"
                               "250-LIMITS RCPTMAX=3 MAILMAX=100\r\n250 CHUNKING\r\n"
                               "500 5.5.1 Unknown command\r\n"
                               "250 2.1.0 Sender ok\r\n"
                               "550 5.7.1 No mail for this domain here\r\n"
                               "250 2.1.5 Recipient ok\r\n"
                               "354 End data with <CR><LF>.<CR><LF>\r\n"
                               "Subject: x\r\n\r\n.dot\r\n"
                               "250 2.0.0 Ok: queued as 0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10\r\n"
                               "250 2.0.0 Ok\r\n"
                               "250 2.1.0 Sender ok\r\n"
                               "250 2.1.5 Recipient ok\r\n"
                               "354 End data with <CR><LF>.<CR><LF>\r\n"
                               "250 2.0.0 Ok: queued as 0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10\r\n"
                               "221 2.0.0 Bye\r\n";
    /* In parts of one octet each reply comes as soon as its command is whole, so the order of
     * replies and content is that of the conversation; in one piece the content comes first. */
    struct buffer whole, octets;
    buffer_init(&octets, 10000);
    converse(1, &octets);
    assert_string_equal(octets.data, want);
    for (size_t part = 2; part < sizeof conversation; part++) {
        buffer_init(&whole, 10000);
        converse(part, &whole);
        assert_int_equal(whole.length, octets.length);
        buffer_free(&whole);
    }
    buffer_free(&octets);
}

static void the_size_limit_is_exact(void **unused)
{
    (void)unused;
    static const struct {
        size_t octets; /* and CRLF */
        bool fits;
    } rows[] = {{997, true}, {998, true}, {999, false}, {5000, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t room = 1; room < 5000; room += 1234) {
            char *line = malloc(rows[i].octets);
            assert_non_null(line);
            memset(line, 'x', rows[i].octets);
            world_go_to(SESSION_CONTENT);
            world.space = room;
            for (size_t at = 0; at < rows[i].octets;)
                at += session_input(&world.session, line + at, rows[i].octets - at);
            free(line);
            world_input("\r\n.\r\n");
            world.space = SIZE_MAX - 1;
            assert_int_equal(world.finished, rows[i].fits);
            assert_int_equal(world.aborted, !rows[i].fits);
            if (rows[i].fits)
                continue;
            assert_int_equal(world.last, REPLY_TOO_BIG);
            assert_int_equal(world.session.state, SESSION_READY);
            world_output();
            says("DATA\r\n", "503 5.5.1");
        }
    }
}

static void stuffed_dots_do_not_count(void **unused)
{
    (void)unused;
    world_go_to(SESSION_CONTENT);
    for (int i = 0; i < 250; i++)
        world_input("..x\r\n");
    world_input(".\r\n");
    assert_int_equal(world.finished, 1);
    assert_int_equal(world.session.transaction->data.size, 1000);
}

static void hops_have_a_limit(void **unused)
{
    (void)unused;
    world.rules.max_size = 10000;
    for (int hops = 100; hops <= 101; hops++) {
        world_go_to(SESSION_CONTENT);
        for (int i = 0; i < hops; i++)
            world_input("Received: x\r\n");
        world_input("\r\n.\r\n");
        assert_int_equal(world.finished, hops == 100);
    }
    assert_int_equal(world.last, REPLY_TOO_MANY_HOPS);
}

static void input_waits_for_room(void **unused)
{
    (void)unused;
    world_go_to(SESSION_CONTENT);
    world.space = 0;
    assert_false(session_wants_input(&world.session));
    assert_int_equal(session_input(&world.session, "x\r\n.\r\n", 6), 0);
    world.space = 2;
    assert_int_equal(session_input(&world.session, "x", 1), 1);
    world.space = 100;
    world_input("\r\n.\r\n");
    assert_int_equal(world.content.length, 3);
    assert_int_equal(world.finished, 1);
}

static void errors_end_the_session(void **unused)
{
    (void)unused;
    world_go_to(SESSION_READY);
    for (int i = 1; i < 20; i++)
        says("FOO\r\n", "500 5.5.1");
    says("FOO\r\n", "421 4.7.0");
    assert_int_equal(world.session.state, SESSION_CLOSED);
    assert_int_equal(session_input(&world.session, "NOOP\r\n", 6), 0);
}

/* The reply to data is never put aside: the client must learn what became of the message. */
static void the_last_error_may_be_a_message(void **unused)
{
    (void)unused;
    world.rules.max_errors = 1;
    world_go_to(SESSION_CONTENT);
    session_event(&world.session, EVENT_CONTENT_FAILED, REPLY_TOO_BIG);
    says(".\r\n", "552 5.3.4");
    says("NOOP\r\n", "250 2.0.0");
    says("FOO\r\n", "421 4.7.0");
}

static void too_many_recipients_are_no_error(void **unused)
{
    (void)unused;
    world.rules.max_errors = 2;
    world_go_to(SESSION_MAIL);
    for (int i = 0; i < 3; i++)
        says("RCPT TO:<b@t.example>\r\n", "250 2.1.5");
    for (int i = 0; i < 30; i++)
        says("RCPT TO:<c@t.example>\r\n", "452 4.5.3");
    assert_int_equal(world.session.transaction->refused, 30);
    says("DATA\r\n", "354");
    assert_int_equal(world.session.transaction->recipients[QUEUE_STORE].count, 1);
}

static void recipients_are_not_put_off_for_ever(void **unused)
{
    (void)unused;
    world.rules.max_junk = 30;
    world_go_to(SESSION_MAIL);
    for (int i = 0; i < 3; i++)
        says("RCPT TO:<b@t.example>\r\n", "250 2.1.5");
    for (int i = (int)world.session.junk + 1; i < 30; i++)
        says("RCPT TO:<c@t.example>\r\n", "452 4.5.3");
    says("RCPT TO:<c@t.example>\r\n", "421 4.7.0");
    assert_int_equal(world.session.state, SESSION_CLOSED);
}

static void senders_are_not_put_off_for_ever(void **unused)
{
    (void)unused;
    world.rules.max_junk = 10;
    world.room = REPLY_NO_SPACE;
    world_go_to(SESSION_READY);
    for (int i = (int)world.session.junk + 1; i < 10; i++)
        says("MAIL FROM:<a@c.example>\r\n", "452 4.3.1");
    says("MAIL FROM:<a@c.example>\r\n", "421 4.7.0");
}

static void junk_ends_the_session_unless_mail_comes(void **unused)
{
    (void)unused;
    static const char *const junk[] = {"NOOP\r\n", "RSET\r\n", "VRFY x\r\n", "HELP\r\n"};
    world_go_to(SESSION_COMMIT);
    session_event(&world.session, EVENT_COMMITTED, REPLY_UNSET);
    world_output();
    for (int i = 1; i < 100; i++)
        says(junk[i % 4], "2");
    says("NOOP\r\n", "421 4.7.0");
}

static void messages_have_a_limit(void **unused)
{
    (void)unused;
    world.rules.max_messages = 2;
    world_go_to(SESSION_READY);
    says("MAIL FROM:<bad>\r\n", "501 5.1.7");
    says("MAIL FROM:<a@c.example>\r\nRSET\r\n", "250 2.1.0");
    says("MAIL FROM:<a@c.example>\r\n", "421 4.7.0");
    assert_int_equal(world.session.state, SESSION_CLOSED);
}

static void replies_are_delayed_after_half_the_errors(void **unused)
{
    (void)unused;
    world.rules.max_errors = 4;
    world.rules.delay_errors = true;
    world_go_to(SESSION_READY);
    says("FOO\r\n", "500");
    says("FOO\r\n", "500");
    assert_false(world.session.delayed);
    assert_int_equal(session_input(&world.session, "FOO\r\nNOOP\r\n", 11), 5);
    assert_true(world.session.delayed);
    assert_false(session_wants_input(&world.session));
    world_output();
    world.session.delayed = false;
    says("NOOP\r\n", "250");
    assert_true(world.session.delayed);
}

static void replies_that_nobody_takes_stop_the_input(void **unused)
{
    (void)unused;
    static char noops[60000];
    size_t used;

    world.rules.max_junk = 1000000;
    for (size_t i = 0; i < sizeof noops; i += 6)
        memcpy(noops + i, "NOOP\r\n", 6);
    world_go_to(SESSION_READY);
    used = session_input(&world.session, noops, sizeof noops);
    assert_true(used < sizeof noops);
    assert_true(world.out.length < 20000);
    assert_int_equal(used % 6, 0);
    world_output();
    assert_true(session_wants_input(&world.session));
}

static void a_shutdown_waits_for_the_message(void **unused)
{
    (void)unused;
    world_go_to(SESSION_CONTENT);
    session_event(&world.session, EVENT_SHUTDOWN, REPLY_UNSET);
    world_input("x\r\n.\r\n");
    assert_int_equal(world.finished, 1);
    session_event(&world.session, EVENT_COMMITTED, REPLY_UNSET);
    assert_int_equal(world.session.state, SESSION_CLOSED);
    assert_string_equal(world_output(),
                        "250 2.0.0 Ok: queued as 0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10\r\n"
                        "421 4.3.2 Shutting down; try again\r\n");
}

static void who_hangs_up_takes_the_message_along(void **unused)
{
    (void)unused;
    for (int number = SESSION_START; number <= SESSION_COMMIT; number++) {
        world_go_to((enum session_state)number);
        session_event(&world.session, EVENT_HANGUP, REPLY_UNSET);
        bool held = number == SESSION_CONTENT || number == SESSION_CHUNK ||
                    number == SESSION_CHUNKED || number == SESSION_COMMIT;
        assert_int_equal(world.aborted, held);
        assert_null(world.session.transaction);
    }
}

static void a_transaction_is_refused_when_there_is_no_room(void **unused)
{
    (void)unused;
    world_go_to(SESSION_READY);
    world.room = REPLY_NO_SPACE;
    says("MAIL FROM:<a@c.example>\r\n", "452 4.3.1");
    assert_null(world.session.transaction);
    world.room = REPLY_UNSET;
    says("MAIL FROM:<a@c.example>\r\n", "250 2.1.0");
    says("RCPT TO:<b@t.example>\r\n", "250 2.1.5");
    world.no_memory = true;
    says("DATA\r\n", "451 4.3.0");
    world.no_memory = false;
    says("DATA\r\n", "354");
}

static void utf8_needs_the_parameter(void **unused)
{
    (void)unused;
    world_go_to(SESSION_READY);
    says("MAIL FROM:<\xc3\xa9@c.example>\r\n", "550 5.6.7");
    says("MAIL FROM:<a@c.example>\r\n", "250");
    says("RCPT TO:<\xc3\xa9@t.example>\r\n", "553 5.6.7");
    says("RSET\r\nMAIL FROM:<\xc3\xa9@c.example> SMTPUTF8\r\n", "250");
    says("RCPT TO:<\xc3\xa9@t.example>\r\n", "250 2.1.5");
    assert_string_equal(transaction_protocol(world.session.transaction, true, false), "UTF8SMTP");
    says("RSET\r\nMAIL FROM:<a@c.example>\r\n", "250");
    assert_string_equal(transaction_protocol(world.session.transaction, true, false), "ESMTP");
    assert_string_equal(transaction_protocol(world.session.transaction, false, false), "SMTP");
}

static void limits_count_commands_that_failed(void **unused)
{
    (void)unused;
    world_go_to(SESSION_MAIL);
    says("RCPT TO:<b@other.example>\r\n", "550 5.7.1");
    says("RCPT TO:b\r\n", "501 5.1.3");
    says("RCPT TO:<b@t.example>\r\n", "250 2.1.5");
    says("RCPT TO:<c@t.example>\r\n", "452 4.5.3");
    says("RCPT TO:<c@other.example>\r\n", "452 4.5.3");
    world.rules.max_messages = 2;
    world_go_to(SESSION_START);
    says("MAIL FROM:<a@c.example>\r\nEHLO c\r\n", "503 5.5.1");
    says("MAIL FROM:<a@c.example>\r\n", "250 2.1.0");
    says("MAIL FROM:<a@c.example>\r\n", "421 4.7.0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_conversation_does_not_depend_on_its_parts),
        TEST(the_size_limit_is_exact),
        TEST(stuffed_dots_do_not_count),
        TEST(hops_have_a_limit),
        TEST(input_waits_for_room),
        TEST(errors_end_the_session),
        TEST(the_last_error_may_be_a_message),
        TEST(too_many_recipients_are_no_error),
        TEST(recipients_are_not_put_off_for_ever),
        TEST(senders_are_not_put_off_for_ever),
        TEST(junk_ends_the_session_unless_mail_comes),
        TEST(messages_have_a_limit),
        TEST(replies_are_delayed_after_half_the_errors),
        TEST(replies_that_nobody_takes_stop_the_input),
        TEST(a_shutdown_waits_for_the_message),
        TEST(who_hangs_up_takes_the_message_along),
        TEST(a_transaction_is_refused_when_there_is_no_room),
        TEST(utf8_needs_the_parameter),
        TEST(limits_count_commands_that_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
