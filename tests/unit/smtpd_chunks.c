/* BDAT (RFC 3030) in a session: messages in chunks, chunks that nobody wants, and lines that are no
 * sound BDAT. */
#include "smtpd/session.h"

#include "world.h"

#include <stdlib.h>
#include <string.h>

/* A message in chunks, in all fragmentations; whatever looks like an end of data is content. */
static void chunks_make_a_message(void **unused)
{
    (void)unused;
    static const char input[] = "BDAT 8\r\nx\r\n.\r\n..BDAT 0\r\nBDAT 5 LAST\r\ny\r\n.\rNOOP\r\n";
    static const char content[] = "x\r\n.\r\n..y\r\n.\r";
    size_t length = sizeof input - 1;

    for (size_t part = 1; part <= length; part++) {
        world_go_to(SESSION_RCPT);
        for (size_t at = 0; at < length && world.session.state != SESSION_COMMIT;)
            at +=
                session_input(&world.session, input + at, part < length - at ? part : length - at);
        assert_int_equal(world.session.state, SESSION_COMMIT);
        assert_int_equal(world.finished, 1);
        assert_int_equal(world.content.length, sizeof content - 1);
        assert_memory_equal(world.content.data, content, sizeof content - 1);
        assert_string_equal(world_output(),
                            "250 2.0.0 Chunk received\r\n250 2.0.0 Chunk received\r\n");
        session_event(&world.session, EVENT_COMMITTED, REPLY_UNSET);
        assert_string_equal(world_output(),
                            "250 2.0.0 Ok: queued as 0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10\r\n");
        says("NOOP\r\n", "250 2.0.0 Ok");
    }
}

static void chunks_that_nobody_wants_are_no_commands(void **unused)
{
    (void)unused;
    static const struct {
        enum session_state state;
        const char *want;
    } rows[] = {
        {SESSION_START, "503 5.5.1 Say EHLO"},      {SESSION_READY, "503 5.5.1 Say MAIL"},
        {SESSION_MAIL, "503 5.5.1 Say RCPT"},       {SESSION_REFUSED, "554 5.5.1"},
        {SESSION_REJECTED, "503 5.5.1 No mail is"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t part = 1; part < 14; part++) {
            static const char input[] = "BDAT 6\r\nQUIT\r\n";
            size_t length = sizeof input - 1;
            world_go_to(rows[i].state);
            for (size_t at = 0; at < length; at += part) {
                assert_string_equal(world_output(), "");
                world_input("");
                size_t given = part < length - at ? part : length - at;
                assert_int_equal(session_input(&world.session, input + at, given), given);
                assert_int_equal(session_in_content(&world.session), world.session.chunk > 0);
            }
            assert_int_equal(world.session.state, rows[i].state);
            assert_int_equal(world.expected > 0, true);
            says("", rows[i].want);
        }
    }
}

static void a_chunk_may_be_too_big(void **unused)
{
    (void)unused;
    static const struct {
        const char *input;
        const char *want;
    } rows[] = {
        {"BDAT 18446744073709551615 LAST\r\n", ""},
        {"BDAT 18446744073709551616 LAST\r\n", "501 5.5.4"},
        {"BDAT -1\r\n", "501 5.5.4"},
        {"BDAT 1 LASTX\r\n", "501 5.5.4"},
        {"BDAT 1LAST\r\n", "501 5.5.4"},
        {"BDAT 1 LAST x\r\n", "501 5.5.4"},
        {"BDAT 0x1\r\n", "501 5.5.4"},
        {"BDAT\t1\r\n", "501 5.5.4"},
        {"BDAT 1\nx\r\n", "501 5.5.4"},
        {"BDATX 1\r\n", "500 5.5.1"},
        {"BDAT) 1\r\n", "501 5.5.4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        world_go_to(SESSION_RCPT);
        says(rows[i].input, rows[i].want);
        assert_int_equal(world.session.state == SESSION_CLOSED,
                         strncmp(rows[i].want, "501", 3) == 0);
        assert_int_equal(world.session.chunk == 0, rows[i].want[0] != '\0');
    }
    /* A line that is too long says BDAT as well. */
    world_go_to(SESSION_RCPT);
    world_input("BDAT 5");
    for (int i = 0; i < 300; i++)
        session_input(&world.session, "00000000", 8);
    says("", "501 5.5.4");
    assert_int_equal(world.session.state, SESSION_CLOSED);
    /* The limit is exact over all chunks, and known before the octets come. */
    for (int over = 0; over <= 1; over++) {
        char command[40], *octets = calloc(1, 1000);
        assert_non_null(octets);
        world_go_to(SESSION_CHUNKED);
        snprintf(command, sizeof command, "BDAT %d LAST\r\n", 995 + over);
        world_input(command);
        assert_int_equal(world.session.state, over ? SESSION_CHUNK_DRAIN : SESSION_CHUNK);
        assert_int_equal(session_input(&world.session, octets, (size_t)(995 + over)), 995 + over);
        free(octets);
        assert_int_equal(world.finished, !over);
        assert_int_equal(world.aborted, over);
    }
    says(
        "BDAT 3\r\nabcBDAT 2 LAST\r\nxyNOOP\r\n",
        "552 5.3.4 Message too big\r\n503 5.5.1 Say MAIL first\r\n503 5.5.1 Say MAIL first\r\n250");
}

static void chunks_are_left_by_what_ends_a_transaction(void **unused)
{
    (void)unused;
    static const char *const lines[] = {"RSET\r\n", "EHLO c\r\n", "QUIT\r\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        world_go_to(SESSION_CHUNKED);
        world_input(lines[i]);
        assert_int_equal(world.aborted, 1);
        assert_null(world.session.transaction);
    }
}

static void empty_chunks_are_no_way_to_stay(void **unused)
{
    (void)unused;
    world.rules.max_junk = 10;
    world_go_to(SESSION_RCPT);
    for (int i = (int)world.session.junk + 1; i < 10; i++)
        says("BDAT 0\r\n", "250 2.0.0");
    says("BDAT 1\r\nx", "250 2.0.0");
    says("BDAT 0\r\n", "421 4.7.0");
    assert_int_equal(world.session.state, SESSION_CLOSED);
}

/* A disk error between two chunks is told with the next. */
static void chunks_fail_with_the_disk(void **unused)
{
    (void)unused;
    world_go_to(SESSION_CHUNKED);
    session_event(&world.session, EVENT_CONTENT_FAILED, REPLY_NO_SPACE);
    says("NOOP\r\n", "250");
    says("BDAT 2\r\nxyNOOP\r\n", "452 4.3.1 Not enough disk space; try again later\r\n250");
    assert_int_equal(world.session.state, SESSION_READY);
    world_go_to(SESSION_RCPT);
    world.no_memory = true;
    says("BDAT 2 LAST\r\nxy", "451 4.3.0");
    world.no_memory = false;
    assert_int_equal(world.session.state, SESSION_READY);
}

static void hops_count_in_chunks(void **unused)
{
    (void)unused;
    world.rules.max_size = 10000;
    for (int hops = 100; hops <= 101; hops++) {
        world_go_to(SESSION_RCPT);
        for (int i = 0; i < hops; i++)
            world_input("BDAT 4\r\nReceBDAT 9\r\nived: x\r\n");
        world_input("BDAT 2 LAST\r\n\r\n");
        assert_int_equal(world.finished, hops == 100);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(chunks_make_a_message),
        TEST(chunks_that_nobody_wants_are_no_commands),
        TEST(a_chunk_may_be_too_big),
        TEST(chunks_are_left_by_what_ends_a_transaction),
        TEST(empty_chunks_are_no_way_to_stay),
        TEST(chunks_fail_with_the_disk),
        TEST(hops_count_in_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
