/* A transaction against servers that keep to a script. What was written is held against letters: S
 * RSET, M MAIL, R RCPT, D DATA, C the content and its end, `.` an end of data alone; a slash stands
 * before what follows a reply. Outcomes are O open, A accepted, G again, D deferred, F failed. */
#include "relay/transaction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 10000 };

static struct {
    struct mail mail;
    struct recipient recipients[MANY];
    struct extensions extensions;
    struct transaction transaction;
    char log[4 * MANY];
    char lines[8192]; /* the last that were written */
} world;

static int setup(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    world.mail.recipients = world.recipients;
    world.mail.reader.envelope.from = "alice@here.example";
    world.mail.reader.envelope.protocol = "ESMTP";
    world.mail.reader.envelope.size = 4711;
    for (size_t i = 0; i < MANY; i++)
        world.recipients[i].address = "bob@there.example";
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < MANY; i++)
        free(world.recipients[i].words);
    return 0;
}

static void renew(size_t count)
{
    teardown(NULL);
    setup(NULL);
    world.mail.count = count;
}

static char letter_of(const char *line)
{
    static const char *const starts[] = {"RSET\r\n", "MAIL FROM:<", "RCPT TO:<", "DATA\r\n",
                                         ".\r\n"};

    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(line, starts[i], strlen(starts[i])) == 0)
            return "SMRD."[i];
    fail_msg("no command: %s", line);
    return '?';
}

static void note(char letter)
{
    size_t length = strlen(world.log);

    assert_true(length + 1 < sizeof world.log);
    world.log[length] = letter;
    world.log[length + 1] = '\0';
}

static void write_commands(void)
{
    struct buffer out;

    buffer_init(&out, 1024 * 1024);
    transaction_write(&world.transaction, &out);
    assert_false(out.failed);
    for (size_t at = 0; at < out.length;) {
        const char *end = memchr(out.data + at, '\n', out.length - at);
        assert_non_null(end);
        assert_true(end > out.data + at && end[-1] == '\r');
        note(letter_of(out.data + at));
        at = (size_t)(end - out.data) + 1;
    }
    if (out.length > 0)
        snprintf(world.lines, sizeof world.lines, "%.*s", (int)out.length, out.data);
    if (world.transaction.state == TRANSACTION_CONTENT) {
        note('C');
        transaction_sent(&world.transaction);
    }
    buffer_free(&out);
}

static void begin(bool reset)
{
    world.log[0] = world.lines[0] = '\0';
    transaction_begin(&world.transaction, &world.mail, &world.extensions, reset);
    write_commands();
}

static void hear(const char *text)
{
    static struct reply_parser parser;
    char line[1000];
    struct slice input;

    snprintf(line, sizeof line, "%s\r\n", text);
    input = slice_of(line);
    reply_parser_init(&parser);
    assert_int_equal(reply_parse(&parser, &input), REPLY_COMPLETE);
    if (!transaction_awaits_reply(&world.transaction))
        fail_msg("%s: nothing is awaited, log %s", text, world.log);
    transaction_reply(&world.transaction, &parser.reply);
    assert_string_equal(world.transaction.last.text, text);
    note('/');
    write_commands();
}

/* Replies behind each other, parted by commas. */
static void hear_all(const char *script)
{
    while (*script != '\0') {
        char text[200];
        size_t length = strcspn(script, ",");
        snprintf(text, sizeof text, "%.*s", (int)length, script);
        hear(text);
        script += length + (script[length] == ',');
    }
}

static void check(const char *row, const char *outcomes, enum transaction_state state,
                  enum transaction_trouble trouble)
{
    char got[100] = {0};

    for (size_t i = 0; i < world.mail.count; i++)
        got[i] = "OAGDF"[world.recipients[i].outcome];
    if (strcmp(got, outcomes) != 0 || world.transaction.state != state ||
        world.transaction.trouble != trouble)
        fail_msg("%s: got %s, state %d, trouble %d, log %s", row, got, world.transaction.state,
                 world.transaction.trouble, world.log);
    assert_false(transaction_awaits_reply(&world.transaction));
}

#define DONE     TRANSACTION_DONE, TRANSACTION_FINE
#define SLOWER   TRANSACTION_DONE, TRANSACTION_THROTTLED
#define GOODBYE  TRANSACTION_BROKEN, TRANSACTION_THROTTLED
#define NONSENSE TRANSACTION_BROKEN, TRANSACTION_PROTOCOL
#define LOCKED   TRANSACTION_DONE, TRANSACTION_LOGIN

static const struct {
    bool pipelining;
    size_t count;
    const char *script, *log, *outcomes;
    enum transaction_state state;
    enum transaction_trouble trouble;
    bool open;
} rows[] = {
    /* all is well */
    {false, 2, "250 a,250 a,250 a,354 a,250 a", "M/R/R/D/C/", "AA", DONE, false},
    {true, 2, "250 a,250 a,250 a,354 a,250 a", "MRRD////C/", "AA", DONE, false},
    {false, 1, "250 a,251 a,354 a,250 a", "M/R/D/C/", "A", DONE, false},
    /* MAIL */
    {false, 2, "550 a", "M/", "FF", DONE, false},
    {false, 2, "451 a", "M/", "DD", DONE, false},
    {false, 2, "452 a", "M/", "DD", DONE, false},
    {false, 2, "452 4.5.3 a", "M/", "DD", DONE, false},
    {false, 2, "354 a", "M/", "OO", NONSENSE, false},
    {false, 2, "421 a", "M/", "OO", GOODBYE, false},
    {false, 2, "454 a", "M/", "OO", SLOWER, false},
    {false, 2, "450 4.7.0 a", "M/", "OO", SLOWER, false},
    {false, 2, "530 5.7.0 a", "M/", "OO", LOCKED, false},
    {true, 2, "530 5.7.0 a,530 a,530 a,530 a", "MRRD////", "OO", LOCKED, false},
    {true, 2, "550 a,503 a,503 a,503 a", "MRRD////", "FF", DONE, false},
    {true, 2, "451 a,503 a,503 a,554 a", "MRRD////", "DD", DONE, false},
    {true, 2, "454 a,503 a,503 a,503 a", "MRRD////", "OO", SLOWER, false},
    {true, 2, "550 a,503 a,503 a,354 a,554 a", "MRRD////./", "FF", DONE, false},
    /* a server that has recipients all the same would send them nothing at all */
    {true, 2, "550 a,503 a,250 a,354 a", "MRRD////", "FF", NONSENSE, false},
    {true, 2, "454 a,250 a,250 a,354 a", "MRRD////", "OO", GOODBYE, false},
    /* RCPT */
    {false, 3, "250 a,250 a,550 a,450 a,354 a,250 a", "M/R/R/R/D/C/", "AFD", DONE, false},
    {true, 3, "250 a,550 a,250 a,450 a,354 a,250 a", "MRRRD/////C/", "FAD", DONE, false},
    {false, 2, "250 a,550 a,551 a", "M/R/R/", "FF", DONE, true},
    {true, 2, "250 a,550 a,450 a,554 a", "MRRD////", "FD", DONE, true},
    {true, 2, "250 a,550 a,450 a,354 a,554 a", "MRRD////./", "FD", DONE, false},
    {true, 2, "250 a,550 a,450 a,354 a,250 a", "MRRD////./", "FD", DONE, false},
    {true, 2, "250 a,550 a,550 a,354 a,421 a", "MRRD////./", "FF", GOODBYE, true},
    {false, 2, "250 a,354 a", "M/R/", "OO", NONSENSE, true},
    {false, 2, "250 a,250 a,421 a", "M/R/R/", "OO", GOODBYE, true},
    {true, 3, "250 a,550 a,421 a", "MRRRD///", "FOO", GOODBYE, true},
    {false, 3, "250 a,250 a,454 a,354 a,250 a", "M/R/R/D/C/", "AOO", SLOWER, false},
    {true, 3, "250 a,250 a,450 4.7.0 a,250 a,354 a,250 a", "MRRRD/////C/", "AOA", SLOWER, false},
    {false, 2, "250 a,454 a", "M/R/", "OO", SLOWER, true},
    {false, 2, "250 a,530 a", "M/R/", "OO", LOCKED, true},
    /* too many for one transaction */
    {false, 4, "250 a,250 a,452 4.5.3 a,354 a,250 a", "M/R/R/D/C/", "AGGG", DONE, false},
    {false, 4, "250 a,250 a,450 4.5.3 a,354 a,250 a", "M/R/R/D/C/", "AGGG", DONE, false},
    {false, 4, "250 a,250 a,452 a,354 a,250 a", "M/R/R/D/C/", "AGGG", DONE, false},
    {false, 4, "250 a,250 a,552 5.5.3 a,354 a,250 a", "M/R/R/D/C/", "AGGG", DONE, false},
    {true, 4, "250 a,250 a,452 a,250 a,452 a,354 a,250 a", "MRRRRD//////C/", "AGAG", DONE, false},
    {false, 2, "250 a,250 a,452 4.2.2 a,354 a,250 a", "M/R/R/D/C/", "AD", DONE, false},
    {false, 2, "250 a,250 a,552 5.2.2 a,354 a,250 a", "M/R/R/D/C/", "AF", DONE, false},
    {false, 3, "250 a,452 a,452 4.5.3 a,250 a,354 a,250 a", "M/R/R/R/D/C/", "DDA", DONE, false},
    {false, 2, "250 a,452 a,452 a", "M/R/R/", "DD", DONE, true},
    /* DATA */
    {false, 2, "250 a,250 a,550 a,451 a", "M/R/R/D/", "DF", DONE, true},
    {false, 2, "250 a,250 a,450 a,554 a", "M/R/R/D/", "FD", DONE, true},
    {true, 2, "250 a,250 a,250 a,452 a", "MRRD////", "DD", DONE, true},
    {false, 1, "250 a,250 a,250 a", "M/R/D/", "O", NONSENSE, true},
    {false, 1, "250 a,250 a,421 a", "M/R/D/", "O", GOODBYE, true},
    {false, 2, "250 a,550 a,250 a,454 a", "M/R/R/D/", "FO", SLOWER, true},
    {false, 1, "250 a,250 a,530 a", "M/R/D/", "O", LOCKED, true},
    /* the end of data */
    {false, 2, "250 a,550 a,250 a,354 a,554 5.7.1 a", "M/R/R/D/C/", "FF", DONE, false},
    {false, 2, "250 a,450 a,250 a,354 a,552 a", "M/R/R/D/C/", "DF", DONE, false},
    {false, 2, "250 a,550 a,250 a,354 a,451 a", "M/R/R/D/C/", "FD", DONE, false},
    {false, 1, "250 a,250 a,354 a,452 a", "M/R/D/C/", "D", DONE, false},
    {false, 1, "250 a,250 a,354 a,454 a", "M/R/D/C/", "O", SLOWER, false},
    {false, 1, "250 a,250 a,354 a,451 4.7.0 a", "M/R/D/C/", "O", SLOWER, false},
    {false, 1, "250 a,250 a,354 a,354 a", "M/R/D/C/", "O", NONSENSE, true},
    {false, 1, "250 a,250 a,354 a,421 a", "M/R/D/C/", "O", GOODBYE, true},
};

static void each_reply_has_its_outcome(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[300];
        renew(rows[i].count);
        world.extensions.pipelining = rows[i].pipelining;
        snprintf(name, sizeof name, "%s%s", rows[i].pipelining ? "pipelined " : "", rows[i].script);
        begin(false);
        hear_all(rows[i].script);
        check(name, rows[i].outcomes, rows[i].state, rows[i].trouble);
        if (strcmp(world.log, rows[i].log) != 0)
            fail_msg("%s: wrote %s, not %s", name, world.log, rows[i].log);
        if (transaction_is_open(&world.transaction) != rows[i].open)
            fail_msg("%s: open or not", name);
    }
}

static void words_and_status_are_the_servers(void **state)
{
    (void)state;
    renew(3);
    begin(false);
    hear_all("250 2.1.0 a,550 5.1.1 no such user,250 2.1.5 b,450 4.2.0 come again,354 c,"
             "250 2.0.0 queued");
    check("words", "FAD", DONE);
    assert_string_equal(world.recipients[0].status, "5.1.1");
    assert_string_equal(world.recipients[0].words, "550 5.1.1 no such user");
    assert_string_equal(world.recipients[1].words, "250 2.0.0 queued");
    assert_string_equal(world.recipients[2].status, "4.2.0");
    for (size_t i = 0; i < 3; i++)
        assert_false(world.recipients[i].own_words);
}

static void a_transaction_left_open_is_reset(void **state)
{
    (void)state;
    renew(1);
    begin(true);
    assert_true(transaction_is_open(&world.transaction));
    hear_all("250 a,250 a,250 a,354 a,250 a");
    check("reset", "A", DONE);
    assert_string_equal(world.log, "S/M/R/D/C/");
    renew(1);
    world.extensions.pipelining = true;
    begin(true);
    hear_all("250 a,550 a,503 a,503 a");
    check("reset, refused", "F", DONE);
    assert_string_equal(world.log, "SMRD////");
    assert_false(transaction_is_open(&world.transaction));
    static const char *const refusals[] = {"451 a", "550 a", "354 a"};
    for (size_t i = 0; i < 3; i++) {
        renew(1);
        begin(true);
        hear_all(refusals[i]);
        check("no reset", "O", NONSENSE);
    }
}

/* A mail that needs no server says no RSET; the next one must. */
static void what_was_not_reset_stays_open(void **state)
{
    (void)state;
    renew(1);
    world.mail.survey.hops = 1000;
    begin(true);
    check("unsendable", "F", DONE);
    assert_string_equal(world.log, "");
    assert_true(transaction_is_open(&world.transaction));
}

static const struct {
    bool eight_bit, utf8; /* offered */
    bool content, header, sender, recipient;
    const char *protocol;
    unsigned hops;
    const char *outcomes, *status, *mail;
} needs[] = {
    {true, true, false, false, false, false, "ESMTP", 0, "OO", "", ""},
    {true, true, false, false, false, false, "ESMTP", QUEUE_HOPS_MAX, "OO", "", ""},
    {true, true, false, false, false, false, "ESMTP", QUEUE_HOPS_MAX + 1, "FF", "5.4.6", NULL},
    {true, true, true, false, false, false, "ESMTP", 0, "OO", "", " BODY=8BITMIME"},
    {true, true, true, true, false, false, "ESMTP", 0, "OO", "", " BODY=8BITMIME"},
    {true, true, true, true, false, false, "UTF8SMTPS", 0, "OO", "", " BODY=8BITMIME SMTPUTF8"},
    {true, true, true, false, false, false, "UTF8SMTP", 0, "OO", "", " BODY=8BITMIME"},
    {true, true, false, false, true, false, "UTF8SMTP", 0, "OO", "", " SMTPUTF8"},
    {true, true, false, false, false, true, "UTF8SMTP", 0, "OO", "", " SMTPUTF8"},
    {false, true, false, false, false, false, "ESMTP", 0, "OO", "", ""},
    {false, true, true, false, false, false, "ESMTP", 0, "FF", "5.6.3", NULL},
    {true, false, true, true, false, false, "ESMTP", 0, "OO", "", " BODY=8BITMIME"},
    {true, false, true, true, false, false, "UTF8SMTP", 0, "FF", "5.6.9", NULL},
    {true, false, false, false, true, false, "UTF8SMTP", 0, "FF", "5.6.7", NULL},
    {true, false, false, false, false, true, "UTF8SMTP", 0, "OF", "5.6.7", ""},
};

static void what_it_needs_is_asked_for_or_missed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        char want[200];
        char got[3] = {0};
        renew(2);
        world.extensions =
            (struct extensions){.eight_bit = needs[i].eight_bit, .utf8 = needs[i].utf8};
        world.mail.survey = (struct survey){.eight_bit = needs[i].content,
                                            .eight_bit_header = needs[i].header,
                                            .hops = needs[i].hops};
        world.mail.reader.envelope.protocol = needs[i].protocol;
        world.mail.sender_non_ascii = needs[i].sender;
        world.recipients[1].non_ascii = needs[i].recipient;
        begin(false);
        for (size_t k = 0; k < 2; k++)
            got[k] = "OAGDF"[world.recipients[k].outcome];
        if (strcmp(got, needs[i].outcomes) != 0)
            fail_msg("row %zu: got %s", i, got);
        if (strchr(got, 'F') != NULL) {
            assert_string_equal(world.recipients[1].status, needs[i].status);
            assert_true(world.recipients[1].own_words);
        }
        if (needs[i].mail == NULL) {
            assert_int_equal(world.transaction.state, TRANSACTION_DONE);
            assert_string_equal(world.log, "");
            continue;
        }
        snprintf(want, sizeof want, "MAIL FROM:<alice@here.example>%s\r\n", needs[i].mail);
        assert_string_equal(world.lines, want);
    }
}

static void commands_are_well_formed(void **state)
{
    (void)state;
    renew(1);
    world.mail.reader.envelope.from = "";
    world.extensions.size = world.extensions.pipelining = true;
    world.recipients[0].address = "\"a b>c\"@there.example";
    begin(false);
    assert_string_equal(world.lines, "MAIL FROM:<> SIZE=4711\r\n"
                                     "RCPT TO:<\"a b>c\"@there.example>\r\nDATA\r\n");
}

/* RCPTMAX: as many as the server says, in each transaction; who has an outcome is not asked again. */
static void limits_are_kept(void **state)
{
    (void)state;
    renew(5);
    world.extensions.recipients_max = 2;
    world.recipients[1].outcome = OUTCOME_FAILED;
    begin(false);
    hear_all("250 a,250 a,250 a,354 a,250 a");
    check("limits", "AFAGG", DONE);
    assert_string_equal(world.log, "M/R/R/D/C/");
    begin(false);
    hear_all("250 a,450 a,250 a,354 a,250 a");
    check("limits", "AFADA", DONE);
    begin(false);
    check("nobody left", "AFADA", DONE);
    /* MAIL that is refused is so for all of them. */
    renew(3);
    world.extensions.recipients_max = 1;
    begin(false);
    hear_all("550 a");
    check("limits, refused", "FFF", DONE);
    renew(3);
    world.extensions.recipients_max = 1;
    begin(false);
    hear_all("250 a,454 a");
    check("limits, throttled", "OOO", SLOWER);
}

/* Who was taken in a transaction that came to nothing is not taken in the next, where he is not asked. */
static void each_transaction_asks_for_itself(void **state)
{
    (void)state;
    renew(3);
    begin(false);
    hear_all("250 a,250 a,250 a,250 a,354 a,454 a");
    check("throttled", "OOO", SLOWER);
    begin(false);
    hear_all("250 a,250 a,452 a,354 a,250 a");
    check("fewer", "AGG", DONE);
}

/* At no time more than a window is awaited, and each recipient is asked once. */
static void many_recipients_go_in_windows(void **state)
{
    (void)state;
    size_t asked = 0;

    renew(MANY);
    world.extensions.pipelining = true;
    begin(false);
    assert_int_equal(strlen(world.log), 1 + TRANSACTION_WINDOW);
    hear("250 a");
    for (size_t i = 0; i < MANY; i++) {
        assert_true(world.transaction.asked - world.transaction.answered <= TRANSACTION_WINDOW);
        hear(i % 3 == 1 ? "550 a" : "250 a");
    }
    hear_all("354 a,250 a");
    assert_int_equal(world.transaction.state, TRANSACTION_DONE);
    for (const char *at = world.log; *at != '\0'; at++)
        asked += *at == 'R';
    assert_int_equal(asked, MANY);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(world.recipients[i].outcome,
                         i % 3 == 1 ? OUTCOME_FAILED : OUTCOME_ACCEPTED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_reply_has_its_outcome),
        TEST(words_and_status_are_the_servers),
        TEST(a_transaction_left_open_is_reset),
        TEST(what_was_not_reset_stays_open),
        TEST(what_it_needs_is_asked_for_or_missed),
        TEST(commands_are_well_formed),
        TEST(limits_are_kept),
        TEST(each_transaction_asks_for_itself),
        TEST(many_recipients_go_in_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
