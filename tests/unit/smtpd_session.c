/* The session: every state meets every event, against a table of its own; and whole conversations,
 * in one piece and octet by octet. The world is played by this file. */
#include "smtpd/session.h"

#include "smtpd/transition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The world. */

static struct {
    struct policy policy;
    struct rules rules;
    struct buffer out;
    struct session session;
    enum reply room; /* what room_check says */
    bool no_memory;  /* message_begin fails */
    size_t space;    /* what message_room says */
    struct buffer content;
    int begun, finished, aborted, replies;
    enum reply last;
    char last_line[80];
} world;

static enum reply room_check_cb(struct session *session, uint64_t declared)
{
    (void)session;
    (void)declared;
    return world.room;
}

static bool message_begin_cb(struct session *session)
{
    world.begun++;
    buffer_clear(&world.content);
    strcpy(session->transaction->id, "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10");
    return !world.no_memory;
}

static size_t message_room_cb(const struct session *session)
{
    (void)session;
    return world.space;
}

static void message_append_cb(struct session *session, struct slice content)
{
    (void)session;
    assert_true(content.length <= world.space + 1);
    assert_true(buffer_append(&world.content, content.start, content.length));
}

static void message_finish_cb(struct session *session)
{
    (void)session;
    world.finished++;
}

static void message_abort_cb(struct session *session)
{
    (void)session;
    world.aborted++;
}

static void replied_cb(struct session *session, enum reply reply, struct slice line)
{
    (void)session;
    world.replies++;
    world.last = reply;
    snprintf(world.last_line, sizeof world.last_line, "%.*s", (int)line.length, line.start);
}

static const struct session_host host = {
    .room_check = room_check_cb,
    .message_begin = message_begin_cb,
    .message_room = message_room_cb,
    .message_append = message_append_cb,
    .message_finish = message_finish_cb,
    .message_abort = message_abort_cb,
    .replied = replied_cb,
};

static int begin(void **state)
{
    static char domain[] = "t.example";
    static char *const domains[] = {domain};

    (void)state;
    memset(&world, 0, sizeof world);
    assert_true(names_build(&world.policy.domains, domains, 1));
    world.policy.hostname = "mx.example";
    world.rules = (struct rules){
        .hostname = "mx.example",
        .policy = &world.policy,
        .max_size = 1000,
        .max_recipients = 3,
        .max_errors = 20,
        .max_messages = 100,
        .max_junk = 100,
    };
    world.space = SIZE_MAX - 1;
    buffer_init(&world.out, 1024 * 1024);
    buffer_init(&world.content, 1024 * 1024);
    session_init(&world.session, &world.rules, &host, &world.out);
    return 0;
}

static int end(void **state)
{
    (void)state;
    session_free(&world.session);
    policy_free(&world.policy);
    buffer_free(&world.out);
    buffer_free(&world.content);
    return 0;
}

static void input(const char *text)
{
    assert_int_equal(session_input(&world.session, text, strlen(text)), strlen(text));
}

static const char *output(void)
{
    buffer_append(&world.out, "", 1);
    world.out.length = 0;
    return world.out.data;
}

static void says(const char *text, const char *want)
{
    input(text);
    const char *got = output();
    if (strncmp(got, want, strlen(want)) != 0)
        print_message("%sgot %swanted %s\n", text, got, want);
    assert_memory_equal(got, want, strlen(want));
}

/* Brings a new session into a state, by what leads there. */
static void go_to(enum session_state state)
{
    session_free(&world.session);
    session_init(&world.session, &world.rules, &host, &world.out);
    if (state == SESSION_NEW)
        return;
    session_event(&world.session, EVENT_CONNECT, REPLY_UNSET);
    if (state >= SESSION_READY)
        input("EHLO c.example\r\n");
    if (state >= SESSION_MAIL)
        input("MAIL FROM:<a@c.example>\r\n");
    if (state == SESSION_REFUSED)
        input("RCPT TO:<b@other.example>\r\n");
    if (state >= SESSION_RCPT)
        input("RCPT TO:<b@t.example>\r\n");
    if (state >= SESSION_CONTENT)
        input("DATA\r\n");
    if (state == SESSION_DRAIN)
        session_event(&world.session, EVENT_CONTENT_FAILED, REPLY_NO_SPACE);
    if (state >= SESSION_COMMIT)
        input("x\r\n.\r\n");
    if (state == SESSION_CLOSED)
        session_event(&world.session, EVENT_HANGUP, REPLY_UNSET);
    assert_int_equal(world.session.state, state);
    output();
    world.last = REPLY_UNSET;
    world.aborted = world.begun = world.finished = 0;
}

/* The table once more, as RFC 5321, section 4.1.4, and the checklist have it: for each event, in
 * the order of the states from START to RCPT, the code and the state afterwards. The states are S
 * start, E ready, M mail, F refused, R rcpt, D content, W drain, C commit, X closed. */
static const char letters[] = "NSEMFRDWCX";

static const struct {
    enum session_event event;
    const char *line; /* what makes a command of it */
    const char *want[5];
} commands[] = {
    {EVENT_HELO, "HELO d.example", {"250 E", "250 E", "250 E", "250 E", "250 E"}},
    {EVENT_EHLO, "EHLO d.example", {"250 E", "250 E", "250 E", "250 E", "250 E"}},
    {EVENT_EHLO, "EHLO a\tb c", {"501 S", "501 E", "501 M", "501 F", "501 R"}},
    {EVENT_HELO, "HELO \xc3\xa9", {"501 S", "501 E", "501 M", "501 F", "501 R"}},
    {EVENT_MAIL, "MAIL FROM:<>", {"503 S", "250 M", "503 M", "503 F", "503 R"}},
    {EVENT_MAIL, "MAIL FROM:<;id;>", {"503 S", "501 E", "503 M", "503 F", "503 R"}},
    {EVENT_MAIL, "MAIL FROM:<> X=1", {"503 S", "555 E", "503 M", "503 F", "503 R"}},
    {EVENT_MAIL, "MAIL FROM:<> SIZE=1001", {"503 S", "552 E", "503 M", "503 F", "503 R"}},
    {EVENT_MAIL, "MAIL TO:<a@c>", {"503 S", "501 E", "503 M", "503 F", "503 R"}},
    {EVENT_RCPT, "RCPT TO:<c@t.example>", {"503 S", "503 E", "250 R", "250 R", "250 R"}},
    {EVENT_RCPT, "RCPT TO:<c@x.example>", {"503 S", "503 E", "550 F", "550 F", "550 R"}},
    {EVENT_RCPT, "RCPT TO:<>", {"503 S", "503 E", "501 F", "501 F", "501 R"}},
    {EVENT_DATA, "DATA", {"503 S", "503 E", "503 M", "554 F", "354 D"}},
    {EVENT_RSET, "RSET", {"250 S", "250 E", "250 E", "250 E", "250 E"}},
    {EVENT_NOOP, "NOOP x", {"250 S", "250 E", "250 M", "250 F", "250 R"}},
    {EVENT_HELP, "HELP", {"214 S", "214 E", "214 M", "214 F", "214 R"}},
    {EVENT_VRFY, "VRFY b", {"252 S", "252 E", "252 M", "252 F", "252 R"}},
    {EVENT_QUIT, "QUIT", {"221 X", "221 X", "221 X", "221 X", "221 X"}},
    {EVENT_UNIMPLEMENTED, "EXPN l", {"502 S", "502 E", "502 M", "502 F", "502 R"}},
    {EVENT_FOREIGN, "GET / HTTP/1.1", {"421 X", "421 X", "421 X", "421 X", "421 X"}},
    {EVENT_UNKNOWN, "FOO", {"500 S", "500 E", "500 M", "500 F", "500 R"}},
    {EVENT_MALFORMED, "", {"500 S", "500 E", "500 M", "500 F", "500 R"}},
    {EVENT_MISUSED, "DATA x", {"501 S", "501 E", "501 M", "501 F", "501 R"}},
    {EVENT_BAD_LINE_END, "NOOP\nNOOP", {"500 S", "500 E", "500 M", "500 F", "500 R"}},
};

static void sees(const char *want)
{
    unsigned code;
    char letter;

    assert_int_equal(sscanf(want, "%u %c", &code, &letter), 2);
    assert_int_equal(reply_code(world.last), code);
    assert_int_equal(letters[world.session.state], letter);
}

static void every_command_in_every_state(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        for (int column = 0; column < 5; column++) {
            enum session_state state = (enum session_state)(SESSION_START + column);
            char line[100];
            snprintf(line, sizeof line, "%s\r\n", commands[i].line);
            go_to(state);
            input(line);
            if (commands[i].want[column][0] != '0' + (char)(reply_code(world.last) / 100))
                print_message("%s in %c\n", commands[i].line, letters[state]);
            sees(commands[i].want[column]);
            assert_string_equal(world.last_line, commands[i].line);
        }
    }
}

/* What is no command, in all states from NEW to CLOSED. `!`: it cannot come, and ends the session.
 */
static const struct {
    enum session_event event;
    const char *want[SESSION_STATE_COUNT];
} events[] = {
    {EVENT_CONNECT, {"220 S", "!", "!", "!", "!", "!", "!", "!", "!", "0 X"}},
    {EVENT_SERVER_FULL, {"421 X", "!", "!", "!", "!", "!", "!", "!", "!", "0 X"}},
    {EVENT_CLIENT_FULL, {"421 X", "!", "!", "!", "!", "!", "!", "!", "!", "0 X"}},
    {EVENT_LINE_TOO_LONG, {"!", "500 S", "500 E", "500 M", "500 F", "500 R", "!", "!", "!", "0 X"}},
    {EVENT_CONTENT_END, {"!", "!", "!", "!", "!", "!", "0 C", "452 E", "!", "0 X"}},
    {EVENT_CONTENT_FAILED, {"!", "!", "!", "!", "!", "!", "0 W", "!", "!", "0 X"}},
    {EVENT_COMMITTED, {"!", "!", "!", "!", "!", "!", "!", "!", "250 E", "0 X"}},
    {EVENT_COMMIT_FAILED, {"!", "!", "!", "!", "!", "!", "!", "!", "451 E", "0 X"}},
    {EVENT_TIMEOUT,
     {"!", "421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "0 C", "0 X"}},
    {EVENT_TOO_SLOW, {"!", "!", "!", "!", "!", "!", "421 X", "421 X", "0 C", "0 X"}},
    {EVENT_SHUTDOWN,
     {"421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "0 D", "0 W", "0 C", "0 X"}},
    {EVENT_SHUTDOWN_DEADLINE,
     {"421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "0 C", "0 X"}},
    {EVENT_HANGUP, {"0 X", "0 X", "0 X", "0 X", "0 X", "0 X", "0 X", "0 X", "0 X", "0 X"}},
    {EVENT_NO_MEMORY,
     {"421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "0 C", "0 X"}},
};

static void every_other_event_in_every_state(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        for (int number = 0; number < SESSION_STATE_COUNT; number++) {
            const char *want = events[i].want[number];
            go_to((enum session_state)number);
            session_event(&world.session, events[i].event, REPLY_LOCAL_ERROR);
            if (want[0] == '!') {
                assert_int_equal(world.last, REPLY_INTERNAL);
                want = "421 X";
            }
            sees(want);
        }
    }
}

/* A command cannot come while no line is read; if it does, that session is over. */
static void no_command_comes_where_no_line_is_read(void **unused)
{
    (void)unused;
    static const enum session_state states[] = {SESSION_NEW, SESSION_CONTENT, SESSION_DRAIN,
                                                SESSION_COMMIT};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        for (int event = EVENT_HELO; event <= EVENT_LINE_TOO_LONG; event++) {
            go_to(states[i]);
            session_event(&world.session, (enum session_event)event, REPLY_UNSET);
            assert_int_equal(world.last, REPLY_INTERNAL);
            assert_int_equal(world.session.state, SESSION_CLOSED);
        }
    }
    for (int event = 0; event < EVENT_COUNT; event++) {
        go_to(SESSION_CLOSED);
        session_event(&world.session, (enum session_event)event, REPLY_UNSET);
        assert_int_equal(world.last, REPLY_UNSET);
        assert_int_equal(world.session.state, SESSION_CLOSED);
    }
}

static void no_cell_is_empty(void **unused)
{
    (void)unused;
    for (int state = 0; state < SESSION_STATE_COUNT; state++) {
        for (int event = 0; event < EVENT_COUNT; event++) {
            const struct transition *cell =
                transition_of((enum session_state)state, (enum session_event)event);
            assert_int_not_equal(cell->reply, REPLY_UNSET);
            assert_int_not_equal(cell->next, SESSION_NEW);
            if (cell->action != NULL)
                assert_int_not_equal(cell->refused, SESSION_NEW);
            /* 421 and 221 mean that the connection is closed, and nothing else does. */
            if (reply_code(cell->reply) == 421 || reply_code(cell->reply) == 221)
                assert_int_equal(cell->next, SESSION_CLOSED);
        }
    }
}

/* Conversations. */

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
    session_init(&world.session, &world.rules, &host, &world.out);
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
                               "250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"
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
            go_to(SESSION_CONTENT);
            world.space = room;
            for (size_t at = 0; at < rows[i].octets;)
                at += session_input(&world.session, line + at, rows[i].octets - at);
            free(line);
            input("\r\n.\r\n");
            world.space = SIZE_MAX - 1;
            assert_int_equal(world.finished, rows[i].fits);
            assert_int_equal(world.aborted, !rows[i].fits);
            if (rows[i].fits)
                continue;
            assert_int_equal(world.last, REPLY_TOO_BIG);
            assert_int_equal(world.session.state, SESSION_READY);
            output();
            says("DATA\r\n", "503 5.5.1");
        }
    }
}

static void stuffed_dots_do_not_count(void **unused)
{
    (void)unused;
    go_to(SESSION_CONTENT);
    for (int i = 0; i < 250; i++)
        input("..x\r\n");
    input(".\r\n");
    assert_int_equal(world.finished, 1);
    assert_int_equal(world.session.transaction->data.size, 1000);
}

static void hops_have_a_limit(void **unused)
{
    (void)unused;
    world.rules.max_size = 10000;
    for (int hops = 100; hops <= 101; hops++) {
        go_to(SESSION_CONTENT);
        for (int i = 0; i < hops; i++)
            input("Received: x\r\n");
        input("\r\n.\r\n");
        assert_int_equal(world.finished, hops == 100);
    }
    assert_int_equal(world.last, REPLY_TOO_MANY_HOPS);
}

static void input_waits_for_room(void **unused)
{
    (void)unused;
    go_to(SESSION_CONTENT);
    world.space = 0;
    assert_false(session_wants_input(&world.session));
    assert_int_equal(session_input(&world.session, "x\r\n.\r\n", 6), 0);
    world.space = 2;
    assert_int_equal(session_input(&world.session, "x", 1), 1);
    world.space = 100;
    input("\r\n.\r\n");
    assert_int_equal(world.content.length, 3);
    assert_int_equal(world.finished, 1);
}

static void errors_end_the_session(void **unused)
{
    (void)unused;
    go_to(SESSION_READY);
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
    go_to(SESSION_CONTENT);
    session_event(&world.session, EVENT_CONTENT_FAILED, REPLY_TOO_BIG);
    says(".\r\n", "552 5.3.4");
    says("NOOP\r\n", "250 2.0.0");
    says("FOO\r\n", "421 4.7.0");
}

static void too_many_recipients_are_no_error(void **unused)
{
    (void)unused;
    world.rules.max_errors = 2;
    go_to(SESSION_MAIL);
    for (int i = 0; i < 3; i++)
        says("RCPT TO:<b@t.example>\r\n", "250 2.1.5");
    for (int i = 0; i < 30; i++)
        says("RCPT TO:<c@t.example>\r\n", "452 4.5.3");
    assert_int_equal(world.session.transaction->refused, 30);
    says("DATA\r\n", "354");
    assert_int_equal(world.session.transaction->recipients.count, 1);
}

static void recipients_are_not_put_off_for_ever(void **unused)
{
    (void)unused;
    world.rules.max_junk = 30;
    go_to(SESSION_MAIL);
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
    go_to(SESSION_READY);
    for (int i = (int)world.session.junk + 1; i < 10; i++)
        says("MAIL FROM:<a@c.example>\r\n", "452 4.3.1");
    says("MAIL FROM:<a@c.example>\r\n", "421 4.7.0");
}

static void junk_ends_the_session_unless_mail_comes(void **unused)
{
    (void)unused;
    static const char *const junk[] = {"NOOP\r\n", "RSET\r\n", "VRFY x\r\n", "HELP\r\n"};
    go_to(SESSION_COMMIT);
    session_event(&world.session, EVENT_COMMITTED, REPLY_UNSET);
    output();
    for (int i = 1; i < 100; i++)
        says(junk[i % 4], "2");
    says("NOOP\r\n", "421 4.7.0");
}

static void messages_have_a_limit(void **unused)
{
    (void)unused;
    world.rules.max_messages = 2;
    go_to(SESSION_READY);
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
    go_to(SESSION_READY);
    says("FOO\r\n", "500");
    says("FOO\r\n", "500");
    assert_false(world.session.delayed);
    assert_int_equal(session_input(&world.session, "FOO\r\nNOOP\r\n", 11), 5);
    assert_true(world.session.delayed);
    assert_false(session_wants_input(&world.session));
    output();
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
    go_to(SESSION_READY);
    used = session_input(&world.session, noops, sizeof noops);
    assert_true(used < sizeof noops);
    assert_true(world.out.length < 20000);
    assert_int_equal(used % 6, 0);
    output();
    assert_true(session_wants_input(&world.session));
}

static void a_shutdown_waits_for_the_message(void **unused)
{
    (void)unused;
    go_to(SESSION_CONTENT);
    session_event(&world.session, EVENT_SHUTDOWN, REPLY_UNSET);
    input("x\r\n.\r\n");
    assert_int_equal(world.finished, 1);
    session_event(&world.session, EVENT_COMMITTED, REPLY_UNSET);
    assert_int_equal(world.session.state, SESSION_CLOSED);
    assert_string_equal(output(), "250 2.0.0 Ok: queued as 0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10\r\n"
                                  "421 4.3.2 Shutting down; try again\r\n");
}

static void who_hangs_up_takes_the_message_along(void **unused)
{
    (void)unused;
    for (int number = SESSION_START; number <= SESSION_COMMIT; number++) {
        go_to((enum session_state)number);
        session_event(&world.session, EVENT_HANGUP, REPLY_UNSET);
        assert_int_equal(world.aborted, number == SESSION_CONTENT || number == SESSION_COMMIT);
        assert_null(world.session.transaction);
    }
}

static void a_transaction_is_refused_when_there_is_no_room(void **unused)
{
    (void)unused;
    go_to(SESSION_READY);
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
    go_to(SESSION_READY);
    says("MAIL FROM:<\xc3\xa9@c.example>\r\n", "550 5.6.7");
    says("MAIL FROM:<a@c.example>\r\n", "250");
    says("RCPT TO:<\xc3\xa9@t.example>\r\n", "553 5.6.7");
    says("RSET\r\nMAIL FROM:<\xc3\xa9@c.example> SMTPUTF8\r\n", "250");
    says("RCPT TO:<\xc3\xa9@t.example>\r\n", "250 2.1.5");
    assert_string_equal(transaction_protocol(world.session.transaction, true), "UTF8SMTP");
    says("RSET\r\nMAIL FROM:<a@c.example>\r\n", "250");
    assert_string_equal(transaction_protocol(world.session.transaction, true), "ESMTP");
    assert_string_equal(transaction_protocol(world.session.transaction, false), "SMTP");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_command_in_every_state),
        TEST(every_other_event_in_every_state),
        TEST(no_command_comes_where_no_line_is_read),
        TEST(no_cell_is_empty),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
