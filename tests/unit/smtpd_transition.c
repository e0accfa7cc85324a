/* The table behind a session, cell by cell: every state meets every event, against a table of this
 * file's own. */
#include "smtpd/transition.h"

#include "world.h"

#include <stdio.h>

/* The table once more, as RFC 5321, section 4.1.4, and the checklist have it: for each event, in
 * the order of the states from START to RCPT, then CHUNKED and REJECTED, the code and the state
 * afterwards. The states are S start, E ready, M mail, F refused, R rcpt, D content, W drain, K chunk,
 * B between chunks, Q chunk drain, C commit, H handshake, J rejected, X closed. */
static const char letters[] = "NSEMFRDWKBQCHJX";

static const enum session_state command_states[] = {SESSION_START,   SESSION_READY, SESSION_MAIL,
                                                    SESSION_REFUSED, SESSION_RCPT,  SESSION_CHUNKED,
                                                    SESSION_REJECTED};

enum { COLUMNS = sizeof command_states / sizeof command_states[0] };

static const struct {
    enum session_event event;
    const char *line; /* what makes a command of it */
    const char *want[COLUMNS];
} commands[] = {
    {EVENT_HELO, "HELO d.example", {"250 E", "250 E", "250 E", "250 E", "250 E", "250 E", "503 J"}},
    {EVENT_EHLO, "EHLO d.example", {"250 E", "250 E", "250 E", "250 E", "250 E", "250 E", "503 J"}},
    {EVENT_EHLO, "EHLO a\tb c", {"501 S", "501 E", "501 M", "501 F", "501 R", "501 B", "503 J"}},
    {EVENT_HELO, "HELO \xc3\xa9", {"501 S", "501 E", "501 M", "501 F", "501 R", "501 B", "503 J"}},
    {EVENT_MAIL, "MAIL FROM:<>", {"503 S", "250 M", "503 M", "503 F", "503 R", "503 B", "503 J"}},
    {EVENT_MAIL,
     "MAIL FROM:<;id;>",
     {"503 S", "501 E", "503 M", "503 F", "503 R", "503 B", "503 J"}},
    {EVENT_MAIL,
     "MAIL FROM:<> X=1",
     {"503 S", "555 E", "503 M", "503 F", "503 R", "503 B", "503 J"}},
    {EVENT_MAIL,
     "MAIL FROM:<> SIZE=1001",
     {"503 S", "552 E", "503 M", "503 F", "503 R", "503 B", "503 J"}},
    {EVENT_MAIL, "MAIL TO:<a@c>", {"503 S", "501 E", "503 M", "503 F", "503 R", "503 B", "503 J"}},
    {EVENT_RCPT,
     "RCPT TO:<c@t.example>",
     {"503 S", "503 E", "250 R", "250 R", "250 R", "503 B", "503 J"}},
    {EVENT_RCPT,
     "RCPT TO:<c@x.example>",
     {"503 S", "503 E", "550 F", "550 F", "550 R", "503 B", "503 J"}},
    {EVENT_RCPT, "RCPT TO:<>", {"503 S", "503 E", "501 F", "501 F", "501 R", "503 B", "503 J"}},
    {EVENT_DATA, "DATA", {"503 S", "503 E", "503 M", "554 F", "354 D", "503 B", "503 J"}},
    {EVENT_BDAT, "BDAT 0", {"503 S", "503 E", "503 M", "554 F", "250 B", "250 B", "503 J"}},
    {EVENT_BDAT, "BDAT 0 last", {"503 S", "503 E", "503 M", "554 F", "0 C", "0 C", "503 J"}},
    {EVENT_BDAT, "BDAT 1001", {"0 S", "0 E", "0 M", "0 F", "0 Q", "0 Q", "0 J"}},
    {EVENT_BAD_CHUNK, "BDAT x", {"501 X", "501 X", "501 X", "501 X", "501 X", "501 X", "501 X"}},
    {EVENT_BAD_CHUNK, "BDAT", {"501 X", "501 X", "501 X", "501 X", "501 X", "501 X", "501 X"}},
    {EVENT_STARTTLS, "STARTTLS", {"220 H", "220 H", "220 H", "220 H", "220 H", "503 B", "503 J"}},
    {EVENT_RSET, "RSET", {"250 S", "250 E", "250 E", "250 E", "250 E", "250 E", "503 J"}},
    {EVENT_NOOP, "NOOP x", {"250 S", "250 E", "250 M", "250 F", "250 R", "250 B", "503 J"}},
    {EVENT_HELP, "HELP", {"214 S", "214 E", "214 M", "214 F", "214 R", "214 B", "503 J"}},
    {EVENT_VRFY, "VRFY b", {"252 S", "252 E", "252 M", "252 F", "252 R", "252 B", "503 J"}},
    {EVENT_QUIT, "QUIT", {"221 X", "221 X", "221 X", "221 X", "221 X", "221 X", "221 X"}},
    {EVENT_UNIMPLEMENTED,
     "EXPN l",
     {"502 S", "502 E", "502 M", "502 F", "502 R", "502 B", "503 J"}},
    {EVENT_FOREIGN,
     "GET / HTTP/1.1",
     {"421 X", "421 X", "421 X", "421 X", "421 X", "421 X", "421 X"}},
    {EVENT_UNKNOWN, "FOO", {"500 S", "500 E", "500 M", "500 F", "500 R", "500 B", "503 J"}},
    {EVENT_MALFORMED, "", {"500 S", "500 E", "500 M", "500 F", "500 R", "500 B", "503 J"}},
    {EVENT_MISUSED, "DATA x", {"501 S", "501 E", "501 M", "501 F", "501 R", "501 B", "503 J"}},
    {EVENT_BAD_LINE_END,
     "NOOP\nNOOP",
     {"500 S", "500 E", "500 M", "500 F", "500 R", "500 B", "503 J"}},
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
        for (int column = 0; column < COLUMNS; column++) {
            enum session_state state = command_states[column];
            char line[100];
            snprintf(line, sizeof line, "%s\r\n", commands[i].line);
            world_go_to(state);
            world_input(line);
            if (commands[i].want[column][0] != '0' + (char)(reply_code(world.last) / 100))
                print_message("%s in %c\n", commands[i].line, letters[state]);
            sees(commands[i].want[column]);
            if (commands[i].event != EVENT_BDAT) /* which is answered behind its octets */
                assert_string_equal(world.last_line, commands[i].line);
        }
    }
}

/* What is no command, in all states from NEW to CLOSED, in the order of `letters`; a column a state.
 * `!`: it cannot come, and ends the session; `~`: as well, without a word, for none can be said. */
static const struct {
    enum session_event event;
    const char *want; /* a word for each state: the code, or nothing, and the state afterwards */
} events[] = {
    {EVENT_CONNECT, "220S ! ! ! ! ! ! ! ! ! ! ! ~ ! X"},
    {EVENT_SERVER_FULL, "421X ! ! ! ! ! ! ! ! ! ! ! ~ ! X"},
    {EVENT_CLIENT_FULL, "421X ! ! ! ! ! ! ! ! ! ! ! ~ ! X"},
    {EVENT_EARLY_TALK, "554J ! ! ! ! ! ! ! ! ! ! ! ~ ! X"},
    {EVENT_LINE_TOO_LONG, "! 500S 500E 500M 500F 500R ! ! ! 500B ! ! ~ 503J X"},
    {EVENT_OUT_OF_TURN, "! 554J 554J 554J 554J 554J ! ! ! 554J ! ! ~ 503J X"},
    {EVENT_SECOND_HEADER, "! X X X X X ! ! ! X ! ! ~ X X"},
    {EVENT_CHUNK_SKIPPED, "! 503S 503E 503M 554F ! ! ! ! ! ! ! ~ 503J X"},
    {EVENT_CHUNK_END, "! ! ! ! ! ! ! ! 250B ! 552E ! ~ ! X"},
    {EVENT_CONTENT_END, "! ! ! ! ! ! C 452E C ! 552E ! ~ ! X"},
    {EVENT_CONTENT_FAILED, "! ! ! ! ! ! W ! Q B ! ! ~ ! X"},
    {EVENT_COMMITTED, "! ! ! ! ! ! ! ! ! ! ! 250E ~ ! X"},
    {EVENT_COMMIT_FAILED, "! ! ! ! ! ! ! ! ! ! ! 451E ~ ! X"},
    {EVENT_TLS_BEGUN, "! ! ! ! ! ! ! ! ! ! ! ! S ! X"},
    {EVENT_TLS_FAILED, "! ! ! ! ! ! ! ! ! ! ! ! X ! X"},
    {EVENT_TIMEOUT, "! 421X 421X 421X 421X 421X 421X 421X 421X 421X 421X C X 421X X"},
    {EVENT_TOO_SLOW, "! 421X 421X 421X 421X 421X 421X 421X 421X 421X 421X C X 421X X"},
    {EVENT_SHUTDOWN, "421X 421X 421X 421X 421X 421X D W K B Q C X 421X X"},
    {EVENT_SHUTDOWN_DEADLINE, "421X 421X 421X 421X 421X 421X 421X 421X 421X 421X 421X C X 421X X"},
    {EVENT_HANGUP, "X X X X X X X X X X X X X X X"},
    {EVENT_NO_MEMORY, "421X 421X 421X 421X 421X 421X 421X 421X 421X 421X 421X C X 421X X"},
};

static void every_other_event_in_every_state(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        const char *words = events[i].want;
        int read;
        for (int number = 0; number < SESSION_STATE_COUNT; number++) {
            char want[8], seen[8];
            assert_int_equal(sscanf(words, "%7s%n", want, &read), 1);
            words += read;
            world_go_to((enum session_state)number);
            session_event(&world.session, events[i].event, REPLY_LOCAL_ERROR);
            if (want[0] == '!')
                assert_int_equal(world.last, REPLY_INTERNAL);
            if (want[0] == '!' || want[0] == '~')
                strcpy(want, want[0] == '!' ? "421X" : "X");
            if (reply_code(world.last) == 0)
                snprintf(seen, sizeof seen, "%c", letters[world.session.state]);
            else
                snprintf(seen, sizeof seen, "%u%c", reply_code(world.last),
                         letters[world.session.state]);
            if (strcmp(seen, want) != 0)
                print_message("event %d in %c\n", (int)events[i].event, letters[number]);
            assert_string_equal(seen, want);
        }
    }
}

/* A command cannot come while no line is read; if it does, that session is over. */
static void no_command_comes_where_no_line_is_read(void **unused)
{
    (void)unused;
    static const enum session_state states[] = {SESSION_NEW,   SESSION_CONTENT,     SESSION_DRAIN,
                                                SESSION_CHUNK, SESSION_CHUNK_DRAIN, SESSION_COMMIT};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        for (int event = EVENT_HELO; event <= EVENT_CHUNK_SKIPPED; event++) {
            world_go_to(states[i]);
            session_event(&world.session, (enum session_event)event, REPLY_UNSET);
            assert_int_equal(world.last, REPLY_INTERNAL);
            assert_int_equal(world.session.state, SESSION_CLOSED);
        }
    }
    for (int event = 0; event < EVENT_COUNT; event++) {
        world_go_to(SESSION_CLOSED);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_command_in_every_state),
        TEST(every_other_event_in_every_state),
        TEST(no_command_comes_where_no_line_is_read),
        TEST(no_cell_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
