/* The oldest first, in as many looks as the memory that it may take makes necessary. */
#include "scratch.h"

#include "queue/id.h"
#include "queue/tool/roster.h"

enum { NAMES = 500 };

static const int64_t TIME = INT64_C(1795288091123456);

static void put(const struct scratch *scratch, enum queue queue, enum queue_directory directory,
                const char *name)
{
    struct scratch there = *scratch;
    there.queue = queue;
    scratch_write(&there, directory, name, "x", 1);
}

static struct tool tool_of(const struct scratch *scratch)
{
    return (struct tool){.spool = scratch->spool, .options.queues = 3};
}

static void packs_what_comes_back(void **state)
{
    (void)state;
    static const char *const names[] = {
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10",       "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.1",     "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.999",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.65535",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct roster_key key;
        char name[NAME_MAX + 1];
        assert_true(roster_pack(&key, 7, names[i]));
        assert_int_equal(roster_unpack(&key, name), 7);
        assert_string_equal(name, names[i]);
    }
    static const char *const strangers[] = {
        "",
        "0193a5b2",
        "0193A5B2-7c4e-7b1a-9f53-0c1f6a2e9d10",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.0",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.01",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.1x",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.65536",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10x1",
        "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10.reason",
    };
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        struct roster_key key;
        assert_false(roster_pack(&key, 0, strangers[i]));
    }
}

static void ids_and_then_strangers(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch);
    struct place place;
    char id[ID_SIZE], name[NAME_MAX + 1], want[NAME_MAX + 1];

    id_make(id, TIME);
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, "stranger");
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, "stranger.reason");
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, "odd.reason");
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, "odd.reason.reason");
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, "x.notification");
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, ".hidden");
    put(scratch, QUEUE_STORE, QUEUE_NEW, id);
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, id);
    snprintf(want, sizeof want, "%s.10", id);
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, want);
    snprintf(want, sizeof want, "%s.2", id);
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, want);
    put(scratch, QUEUE_RELAY, QUEUE_CUR, id);

    struct roster roster;
    roster_begin(&roster, &tool,
                 roster_bit(QUEUE_STORE, QUEUE_NEW) | roster_bit(QUEUE_RELAY, QUEUE_FAILED));
    assert_true(roster_next(&roster, &place, name));
    assert_string_equal(name, id);
    assert_true(place.queue == QUEUE_STORE && place.directory == QUEUE_NEW);
    assert_true(roster_next(&roster, &place, name));
    assert_string_equal(name, id);
    assert_true(place.queue == QUEUE_RELAY && place.directory == QUEUE_FAILED);
    assert_true(roster_next(&roster, &place, name));
    assert_string_equal(name, want);
    assert_true(roster_next(&roster, &place, name));
    assert_string_equal(name + ID_LENGTH, ".10");
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        assert_true(roster_next(&roster, &place, name));
        seen[strcmp(name, "stranger") == 0] = true;
        assert_true(seen[1] || strcmp(name, "odd.reason") == 0);
    }
    assert_true(seen[0] && seen[1]);
    assert_false(roster_next(&roster, &place, name));
    assert_false(roster_next(&roster, &place, name));
    assert_int_equal(roster.error, 0);
    roster_end(&roster);
}

static void queues_are_chosen(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch);
    struct roster roster;
    struct place place;
    char name[NAME_MAX + 1];

    put(scratch, QUEUE_STORE, QUEUE_FAILED, "in-store");
    put(scratch, QUEUE_RELAY, QUEUE_FAILED, "in-relay");
    tool.options.queues = 1U << QUEUE_RELAY;
    roster_begin(&roster, &tool, ~0U);
    assert_true(roster_next(&roster, &place, name));
    assert_string_equal(name, "in-relay");
    assert_false(roster_next(&roster, &place, name));
    /* Ended in the middle: nothing is left open. */
    roster_begin(&roster, &tool, ~0U);
    assert_true(roster_next(&roster, &place, name));
    roster_end(&roster);
}

/* Whatever it may hold at once, the order is one; and nothing comes twice, though everything that
 * was handed out is moved to another place and back. */
static void bounded_by_looks(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch);
    static const size_t maxima[] = {1, 2, 7, 64, NAMES - 1, NAMES, ROSTER_MAX};
    unsigned chance = 1;

    for (int i = 0; i < NAMES; i++) {
        char id[ID_SIZE];
        chance = chance * 1103515245U + 12345U;
        id_make(id, TIME + (chance >> 8) % 1000 * 1000);
        put(scratch, (chance >> 20) % 2 != 0 ? QUEUE_STORE : QUEUE_RELAY,
            (chance >> 21) % 2 != 0 ? QUEUE_NEW : QUEUE_CUR, id);
    }
    for (size_t i = 0; i < sizeof maxima / sizeof *maxima; i++) {
        struct roster roster;
        struct place place;
        char name[NAME_MAX + 1], before[NAME_MAX + 1] = "";
        size_t count = 0;
        roster_begin(&roster, &tool, ~0U);
        roster.maximum = maxima[i];
        while (roster_next(&roster, &place, name)) {
            const int *directories = scratch->spool.directories[place.queue];
            assert_true(strcmp(before, name) < 0);
            strcpy(before, name);
            assert_int_equal(
                renameat(directories[place.directory], name, directories[place.directory], "x"), 0);
            assert_int_equal(
                renameat(directories[place.directory], "x", directories[place.directory], name), 0);
            assert_true(roster.capacity <= maxima[i]);
            count++;
        }
        assert_int_equal(count, NAMES);
        roster_end(&roster);
    }
}

static void says_what_cannot_be_read(void **state)
{
    struct scratch *scratch = *state;
    struct tool tool = tool_of(scratch);
    struct roster roster;
    struct place place;
    char name[NAME_MAX + 1];

    tool.spool.directories[QUEUE_STORE][QUEUE_NEW] = -1;
    roster_begin(&roster, &tool, ~0U);
    assert_false(roster_next(&roster, &place, name));
    assert_true(roster.error != 0);
    roster_end(&roster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_what_comes_back),
        cmocka_unit_test_setup_teardown(ids_and_then_strangers, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(queues_are_chosen, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(bounded_by_looks, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(says_what_cannot_be_read, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
