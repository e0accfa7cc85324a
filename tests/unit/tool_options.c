/* The command line of the queue tool: what is taken, and that all else is refused. */
#include "queue/tool/options.h"

#include "queue/spool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

enum { ARGUMENTS = 8 };

#define ID "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10"

static int parse(struct options *options, const char *const *given, char why[static 400])
{
    static char copies[ARGUMENTS][600];
    static char *argv[ARGUMENTS + 1];
    int argc = 0;

    for (; given[argc] != NULL; argc++) {
        snprintf(copies[argc], sizeof copies[argc], "%s", given[argc]);
        argv[argc] = copies[argc];
    }
    argv[argc] = NULL;
    why[0] = '\0';
    return options_parse(options, argc, argv, why);
}

static void takes(void **state)
{
    (void)state;
    static const struct {
        const char *argv[ARGUMENTS];
        struct options want;
        const char *names[3];
    } rows[] = {
        {{"queue", "list"}, {.command = COMMAND_LIST, .queues = 3}, {NULL}},
        {{"queue", "list", "--json"}, {.command = COMMAND_LIST, .queues = 3, .json = true}, {NULL}},
        {{"queue", "failed", "--queue", "relay"},
         {.command = COMMAND_FAILED, .queues = 1U << QUEUE_RELAY},
         {NULL}},
        {{"queue", "stats", "--queue=store"},
         {.command = COMMAND_STATS, .queues = 1U << QUEUE_STORE},
         {NULL}},
        {{"queue", "show", ID, "--raw"}, {.command = COMMAND_SHOW, .queues = 3, .raw = true}, {ID}},
        {{"queue", "show", "--envelope", ID},
         {.command = COMMAND_SHOW, .queues = 3, .envelope = true},
         {ID}},
        {{"queue", "retry", "--all"}, {.command = COMMAND_RETRY, .queues = 3, .all = true}, {NULL}},
        {{"queue", "retry", ID, ID ".1"}, {.command = COMMAND_RETRY, .queues = 3}, {ID, ID ".1"}},
        {{"queue", "remove", "--yes", "--", "-rf", "--all"},
         {.command = COMMAND_REMOVE, .queues = 3, .yes = true},
         {"-rf", "--all"}},
        {{"queue", "replay"}, {.command = COMMAND_REPLAY, .queues = 3}, {NULL}},
        {{"queue", "check", "--repair", "--json"},
         {.command = COMMAND_CHECK, .queues = 3, .repair = true, .json = true},
         {NULL}},
        {{"queue", "trace", ID}, {.command = COMMAND_TRACE, .queues = 3}, {ID}},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct options *want = &rows[i].want;
        struct options got;
        char why[400];
        size_t count = 0;
        assert_int_equal(parse(&got, rows[i].argv, why), EX_OK);
        assert_int_equal(got.command, want->command);
        assert_int_equal(got.queues, want->queues);
        assert_true(got.all == want->all && got.envelope == want->envelope &&
                    got.json == want->json && got.raw == want->raw && got.repair == want->repair &&
                    got.yes == want->yes);
        for (; rows[i].names[count] != NULL; count++)
            assert_string_equal(got.names[count], rows[i].names[count]);
        assert_int_equal(got.names_count, count);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *argv[ARGUMENTS];
        const char *why; /* is in what is said */
    } rows[] = {
        {{"queue"}, "what is to be done"},
        {{"queue", ""}, "no such command"},
        {{"queue", "lis"}, "no such command: lis"},
        {{"queue", "--all"}, "no such command"},
        {{"queue", "list", "--jso"}, "no such option: --jso"},
        {{"queue", "list", "-j"}, "no such option: -j"},
        {{"queue", "list", "--yes"}, "no such option: --yes"},
        {{"queue", "list", ID}, "too much"},
        {{"queue", "list", "--queue"}, "store or relay"},
        {{"queue", "list", "--queue=both"}, "store or relay"},
        {{"queue", "check", "--queue=store"}, "no such option"},
        {{"queue", "show"}, "which ID"},
        {{"queue", "show", ID, ID}, "too much"},
        {{"queue", "show", ID, "--raw", "--envelope"}, "either"},
        {{"queue", "retry"}, "--all"},
        {{"queue", "retry", "--all", ID}, "too much"},
        {{"queue", "remove", "--yes"}, "which ID"},
        {{"queue", "remove", "--all"}, "no such option"},
        {{"queue", "remove", "../failed/x"}, "neither an id"},
        {{"queue", "remove", "/etc/passwd"}, "neither an id"},
        {{"queue", "show", ".."}, "neither an id"},
        {{"queue", "show", "."}, "neither an id"},
        {{"queue", "show", ".hidden"}, "neither an id"},
        {{"queue", "show", ""}, "neither an id"},
        {{"queue", "\x1b[31m"}, "no such command: ?[31m"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct options options;
        char why[400];
        assert_int_equal(parse(&options, rows[i].argv, why), EX_USAGE);
        if (strstr(why, rows[i].why) == NULL)
            fail_msg("row %zu: %s", i, why);
        assert_null(strchr(why, '\x1b'));
    }
}

static void names_stay_in_their_directory(void **state)
{
    (void)state;
    char longest[257];

    memset(longest, 'x', sizeof longest);
    longest[255] = '\0';
    assert_true(options_name_valid(longest));
    longest[255] = 'x';
    longest[256] = '\0';
    assert_false(options_name_valid(longest));
    assert_true(options_name_valid("a..b"));
    assert_true(options_name_valid("-"));
    assert_false(options_name_valid("a/b"));
    assert_false(options_name_valid("a/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes),
        cmocka_unit_test(refuses),
        cmocka_unit_test(names_stay_in_their_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
