/* Verbs: whole words, in any case, with the arguments that they may have. */
#include "smtpd/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static const struct {
    const char *line;
    enum command_verb verb;
    const char *argument;
} rows[] = {
    {"EHLO c.example", COMMAND_EHLO, "c.example"},
    {"eHlO c.example", COMMAND_EHLO, "c.example"},
    {"HELO   c.example \t", COMMAND_HELO, "c.example"},
    {"EHLO", COMMAND_MISUSED, ""},
    {"EHLO ", COMMAND_MISUSED, ""},
    {"HELO", COMMAND_MISUSED, ""},
    {"HELOX c", COMMAND_UNKNOWN, "c"},
    {"DATAX", COMMAND_UNKNOWN, ""},
    {"QUITE", COMMAND_UNKNOWN, ""},
    {"QUI", COMMAND_UNKNOWN, ""},
    {"mail from:<a@c.example> size=10", COMMAND_MAIL, "from:<a@c.example> size=10"},
    {"MAIL", COMMAND_MISUSED, ""},
    {"RCPT TO:<b>", COMMAND_RCPT, "TO:<b>"},
    {"RCPT", COMMAND_MISUSED, ""},
    {"DATA", COMMAND_DATA, ""},
    {"DATA ", COMMAND_DATA, ""},
    {"DATA x", COMMAND_MISUSED, "x"},
    {"RSET", COMMAND_RSET, ""},
    {"RSET x", COMMAND_MISUSED, "x"},
    {"QUIT \t ", COMMAND_QUIT, ""},
    {"QUIT x", COMMAND_MISUSED, "x"},
    {"NOOP", COMMAND_NOOP, ""},
    {"NOOP hi there", COMMAND_NOOP, "hi there"},
    {"HELP", COMMAND_HELP, ""},
    {"HELP MAIL", COMMAND_HELP, "MAIL"},
    {"VRFY bob", COMMAND_VRFY, "bob"},
    {"VRFY x SMTPUTF8", COMMAND_VRFY, "x SMTPUTF8"},
    {"VRFY", COMMAND_MISUSED, ""},
    {"EXPN list", COMMAND_UNIMPLEMENTED, "list"},
    {"TURN", COMMAND_UNIMPLEMENTED, ""},
    {"ETRN x", COMMAND_UNIMPLEMENTED, "x"},
    {"SEND FROM:<a@b>", COMMAND_UNIMPLEMENTED, "FROM:<a@b>"},
    {"SOML FROM:<a@b>", COMMAND_UNIMPLEMENTED, "FROM:<a@b>"},
    {"SAML FROM:<a@b>", COMMAND_UNIMPLEMENTED, "FROM:<a@b>"},
    {"AUTH PLAIN AAAA", COMMAND_UNIMPLEMENTED, "PLAIN AAAA"},
    {"STARTTLS", COMMAND_STARTTLS, ""},
    {"STARTTLS now", COMMAND_MISUSED, "now"},
    {"BDAT 3 LAST", COMMAND_BDAT, "3 LAST"},
    {"BDAT", COMMAND_BDAT, ""},
    {"XFOO", COMMAND_UNKNOWN, ""},
    {"XCLIENT ADDR=1.2.3.4", COMMAND_UNKNOWN, "ADDR=1.2.3.4"},
    {"FOO", COMMAND_UNKNOWN, ""},
    {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2", COMMAND_UNKNOWN, "TCP4 1.2.3.4 5.6.7.8 1 2"},
    {"GET / HTTP/1.1", COMMAND_FOREIGN, "/ HTTP/1.1"},
    {"post / HTTP/1.1", COMMAND_FOREIGN, "/ HTTP/1.1"},
    {"CONNECT x:25 HTTP/1.1", COMMAND_FOREIGN, "x:25 HTTP/1.1"},
    {"GETTY", COMMAND_UNKNOWN, ""},
    {"", COMMAND_MALFORMED, ""},
    {" ", COMMAND_MALFORMED, ""},
    {" NOOP", COMMAND_MALFORMED, "NOOP"},
    {"NOOP\tx", COMMAND_MALFORMED, "x"},
    {"\xc3\xa9HLO c", COMMAND_MALFORMED, "\xc3\xa9HLO c"},
    {"NO\x01OP", COMMAND_MALFORMED, "\x01OP"},
};

static void reads_verbs_and_arguments(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct command got = command_parse(slice_of(rows[i].line));
        if (got.verb != rows[i].verb)
            print_message("%s\n", rows[i].line);
        assert_int_equal(got.verb, rows[i].verb);
        assert_int_equal(got.argument.length, strlen(rows[i].argument));
        assert_memory_equal(got.argument.start, rows[i].argument, got.argument.length);
    }
}

/* What stands here as NULL is not logged at all. */
static void what_is_secret_is_not_logged(void **state)
{
    static const struct {
        const char *line, *want;
    } lines[] = {
        {"EHLO not a name", "EHLO not a name"},
        {"helo x", "helo x"},
        {"MAIL FROM:<a@b> SIZE=x", "MAIL FROM:<a@b> SIZE=x"},
        {"mail from: <a", "mail from: <a"},
        {"Mail me the secret", "Mail"},
        {"RCPT TO:<b@c>", "RCPT TO:<b@c>"},
        {"rcpt our secret", "rcpt"},
        {"MAIL", "MAIL"},
        {"DATA secret", "DATA"},
        {"VRFY secret", "VRFY"},
        {"NOOP secret", "NOOP"},
        {"Help me with the secret", "Help"},
        {"AUTH PLAIN secret", NULL},
        {"BDAT 6 LAST", "BDAT"},
        {"GET /secret HTTP/1.1", NULL},
        {"Subject: secret", NULL},
        {"secret", NULL},
        {" EHLO secret", NULL},
        {"", NULL},
        {"EHLO x\nsecret", NULL},
        {"MAIL FROM:<a@b>\rsecret", NULL},
        {"DATA\nsecret", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const char *want = lines[i].want != NULL ? lines[i].want : "";
        struct slice got = command_loggable(slice_of(lines[i].line));
        if (!slice_equals(got, slice_of(want)))
            print_message("%s\n", lines[i].line);
        assert_true(slice_equals(got, slice_of(want)));
    }
    assert_int_equal(command_loggable(slice_make("EHLO x\0secret", 13)).length, 0);
}

static void reads_the_size_of_a_chunk(void **state)
{
    static const struct {
        const char *argument;
        bool good, last;
        uint64_t size;
    } chunks[] = {
        {"3", true, false, 3},
        {"3 LAST", true, true, 3},
        {"0 last", true, true, 0},
        {"00007  Last", true, true, 7},
        {"18446744073709551615", true, false, UINT64_MAX},
        {"18446744073709551616", false, false, 0},
        {"99999999999999999999", false, false, 0},
        {"", false, false, 0},
        {"x", false, false, 0},
        {"-1", false, false, 0},
        {"+1", false, false, 0},
        {"1LAST", false, false, 0},
        {"1 LASTX", false, false, 0},
        {"1 LAST LAST", false, false, 0},
        {"1 1", false, false, 0},
        {"LAST", false, false, 0},
        {"1\tLAST", false, false, 0},
        {"0x10", false, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        uint64_t size;
        bool last;
        bool good = command_parse_chunk(slice_of(chunks[i].argument), &size, &last);
        if (good != chunks[i].good)
            print_message("%s\n", chunks[i].argument);
        assert_int_equal(good, chunks[i].good);
        if (!good)
            continue;
        assert_int_equal(last, chunks[i].last);
        assert_int_equal(size, chunks[i].size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_verbs_and_arguments),
        cmocka_unit_test(what_is_secret_is_not_logged),
        cmocka_unit_test(reads_the_size_of_a_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
