/* The rooms of storer that touch files: scanner, loader, retirer. */
#include "message.h"

#include "queue/retire.h"
#include "queue/scanner.h"
#include "storer/kept.h"
#include "storer/loader.h"
#include "storer/retirer.h"

static struct load load_of(struct scratch *scratch, struct batch *batch, size_t messages,
                           size_t bytes)
{
    return (struct load){.spool = &scratch->spool, .batch = batch, .limits = {messages, bytes}};
}

static struct candidate candidate_of(const char *id)
{
    struct candidate candidate = {.directory = QUEUE_NEW};
    snprintf(candidate.id, sizeof candidate.id, "%s", id);
    return candidate;
}

static void loads_until_the_batch_is_full(void **state)
{
    struct scratch *scratch = *state;
    struct candidate candidates[6];
    for (int i = 0; i < 6; i++) {
        char id[ID_SIZE];
        message_put(scratch, id, "0123456789", 10);
        candidates[i] = candidate_of(id);
    }
    char id[ID_SIZE];
    struct envelope one = message_envelope(id);
    one.size = 10;
    const size_t cost = batch_cost(&one);
    const struct {
        size_t messages, bytes, count, want_used;
        bool want_full;
    } rows[] = {
        {100, 100 * cost, 6, 6, false},  {100, 6 * cost, 6, 6, true},
        {100, 6 * cost - 1, 6, 5, true}, {100, 1, 6, 1, true},
        {2, 100 * cost, 6, 2, true},     {100, 3 * cost - 1, 6, 2, true},
        {6, 100 * cost, 6, 6, true},     {100, 1000, 0, 0, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct batch batch;
        batch_init(&batch);
        struct load load = load_of(scratch, &batch, rows[i].messages, rows[i].bytes);
        load.candidates = candidates;
        load.count = rows[i].count;
        loader_run(&load);
        assert_int_equal(load.used, rows[i].want_used);
        assert_int_equal(batch.count, rows[i].want_used);
        assert_int_equal(batch.bytes, cost * rows[i].want_used);
        assert_int_equal(load.full, rows[i].want_full);
        batch_free(&batch);
    }
}

/* Memory is bounded by the limit whatever the bytes are for: small messages to many count, too. */
static void recipients_count_against_the_limit(void **state)
{
    struct scratch *scratch = *state;
    static const char *recipients[5000];
    for (int i = 0; i < 5000; i++)
        recipients[i] = "somebody@somewhere.example";
    struct batch batch;
    batch_init(&batch);
    struct load load = load_of(scratch, &batch, 100, 1024 * 1024);
    char id[ID_SIZE];
    struct envelope envelope = message_envelope(id);
    envelope.recipients = recipients;
    envelope.recipients_count = 5000;
    assert_in_range(batch_cost(&envelope), 5000 * (16 + 26), 5000 * 100);
    struct commit commit;
    assert_int_equal(commit_open(&commit, &scratch->spool), 0);
    for (int i = 0; i < 8; i++) {
        struct writer writer, *writers[] = {&writer};
        id_make(id, envelope.received);
        assert_int_equal(writer_begin(&writer, &scratch->spool, QUEUE_STORE, &envelope), 0);
        assert_int_equal(writer_finish(&writer, "x", 1), 0);
        commit_run(&commit, writers, 1);
        struct candidate candidate = candidate_of(id);
        load.candidates = &candidate;
        load.count = 1;
        loader_run(&load);
    }
    commit_close(&commit);
    assert_in_range(batch.count, 2, 5);
    assert_true(batch.bytes <= 1024 * 1024);
    assert_true(load.full);
    batch_free(&batch);
}

static void adds_to_what_is_there(void **state)
{
    struct scratch *scratch = *state;
    struct batch batch;
    batch_init(&batch);
    char id[ID_SIZE];
    struct envelope one = message_envelope(id);
    one.size = 10;
    struct load load = load_of(scratch, &batch, 100, 3 * batch_cost(&one) - 1);
    for (int i = 0; i < 3; i++) {
        message_put(scratch, id, "0123456789", 10);
        struct candidate candidate = candidate_of(id);
        load.candidates = &candidate;
        load.count = 1;
        loader_run(&load);
        assert_int_equal(load.before, i < 2 ? i : 2);
        assert_int_equal(load.used, i < 2);
        assert_int_equal(load.full, i == 2);
    }
    assert_int_equal(batch.count, 2);
    batch_free(&batch);
}

static void sets_aside_and_passes_over(void **state)
{
    struct scratch *scratch = *state;
    struct candidate candidates[4];
    char good[ID_SIZE], torn[ID_SIZE], gone[ID_SIZE], last[ID_SIZE];
    message_put(scratch, good, "good", 4);
    message_put(scratch, last, "last", 4);
    id_make(torn, 1000);
    id_make(gone, 1000);
    scratch_write(scratch, QUEUE_NEW, torn, "X-Envelope-Id: ", 15);
    const char *ids[] = {good, torn, gone, last};
    for (int i = 0; i < 4; i++)
        candidates[i] = candidate_of(ids[i]);
    struct batch batch;
    batch_init(&batch);
    struct load load = load_of(scratch, &batch, 100, 1000);
    load.candidates = candidates;
    load.count = 4;
    loader_run(&load);
    assert_int_equal(load.used, 4);
    assert_int_equal(load.failed, 1);
    assert_int_equal(batch.count, 2);
    assert_string_equal(batch.messages[0].id, good);
    assert_string_equal(batch.messages[1].id, last);
    assert_true(scratch_exists(scratch, QUEUE_FAILED, torn));
    assert_false(scratch_exists(scratch, QUEUE_NEW, torn));
    batch_free(&batch);
}

static void each_fate_has_its_way_out(void **state)
{
    struct scratch *scratch = *state;
    static const struct {
        enum fate fate;
        bool keep;
        enum queue_directory from;
        int want; /* a directory, or -1: removed */
    } rows[] = {
        {FATE_OPEN, false, QUEUE_NEW, QUEUE_NEW},
        {FATE_OPEN, true, QUEUE_CUR, QUEUE_CUR},
        {FATE_STORED, false, QUEUE_NEW, -1},
        {FATE_STORED, true, QUEUE_NEW, QUEUE_CUR},
        {FATE_STORED, true, QUEUE_CUR, -1},
        {FATE_STORED, false, QUEUE_CUR, -1},
        {FATE_EXPIRED, false, QUEUE_NEW, -1},
        {FATE_EXPIRED, true, QUEUE_NEW, -1},
        {FATE_EXPIRED, true, QUEUE_CUR, -1},
        {FATE_REFUSED, false, QUEUE_NEW, QUEUE_FAILED},
        {FATE_REFUSED, true, QUEUE_NEW, QUEUE_FAILED},
        {FATE_REFUSED, true, QUEUE_CUR, QUEUE_FAILED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char id[ID_SIZE];
        message_put(scratch, id, "x", 1);
        if (rows[i].from == QUEUE_CUR)
            assert_int_equal(retire_keep(&scratch->spool, QUEUE_STORE, id), 0);
        struct batch batch;
        batch_init(&batch);
        char other[ID_SIZE];
        struct envelope envelope = message_envelope(other);
        envelope.id = id;
        assert_non_null(batch_add(&batch, &envelope, rows[i].from, 0));
        batch_decide(&batch.messages[0], rows[i].fate,
                     rows[i].fate == FATE_REFUSED ? "the reason" : NULL);
        retirer_run(&scratch->spool, &batch, rows[i].keep);
        for (int directory = QUEUE_NEW; directory <= QUEUE_FAILED; directory++)
            assert_int_equal(scratch_exists(scratch, (enum queue_directory)directory, id),
                             directory == rows[i].want);
        batch_free(&batch);
    }
}

static struct scanner scanner_of(struct scratch *scratch, enum queue_directory directory,
                                 struct kept *kept)
{
    return (struct scanner){.spool = &scratch->spool,
                            .queue = QUEUE_STORE,
                            .directory = directory,
                            .judge_cb = kept_judge_cb,
                            .data = kept};
}

static void scans_in_steps(void **state)
{
    struct scratch *scratch = *state;
    enum { MESSAGES = 50 };
    char ids[MESSAGES][ID_SIZE];
    bool seen[MESSAGES] = {false};
    for (int i = 0; i < MESSAGES; i++) {
        id_make(ids[i], 1000);
        scratch_write(scratch, QUEUE_NEW, ids[i], "", 0);
    }
    scratch_write(scratch, QUEUE_NEW, "foreign", "", 0);
    scratch_write(scratch, QUEUE_NEW, ".hidden", "", 0);
    struct scanner scanner = scanner_of(scratch, QUEUE_NEW, NULL);
    size_t found = 0;
    do {
        scanner_step(&scanner, 7);
        assert_true(scanner.found_count <= 7);
        for (size_t i = 0; i < scanner.found_count; i++)
            for (int j = 0; j < MESSAGES; j++)
                if (strcmp(scanner.found[i].id, ids[j]) == 0) {
                    assert_false(seen[j]);
                    seen[j] = true;
                    found++;
                }
    } while (scanner.open);
    assert_int_equal(found, MESSAGES);
    assert_false(scanner.replaced);
    assert_true(scratch_exists(scratch, QUEUE_FAILED, "foreign"));
    assert_true(scratch_exists(scratch, QUEUE_NEW, ".hidden"));
}

static void an_empty_directory_is_one_step(void **state)
{
    struct scratch *scratch = *state;
    struct scanner scanner = scanner_of(scratch, QUEUE_NEW, NULL);
    scanner_step(&scanner, SCANNER_STEP);
    assert_int_equal(scanner.found_count, 0);
    assert_false(scanner.open);
    scanner_step(&scanner, 0);
    assert_true(scanner.open);
    scanner_stop(&scanner);
    assert_false(scanner.open);
}

static void a_directory_that_went_is_noticed(void **state)
{
    struct scratch *scratch = *state;
    char *path = spool_directory_path(&scratch->spool, QUEUE_STORE, QUEUE_NEW);
    assert_int_equal(rmdir(path), 0);
    struct scanner scanner = scanner_of(scratch, QUEUE_NEW, NULL);
    scanner_step(&scanner, SCANNER_STEP);
    assert_true(scanner.replaced);
    scanner_stop(&scanner);
    assert_int_equal(mkdir(path, 0700), 0);
    scanner_step(&scanner, SCANNER_STEP);
    assert_true(scanner.replaced);
    scanner_stop(&scanner);
    free(path);
}

static void what_was_kept_is_found_in_time(void **state)
{
    struct scratch *scratch = *state;
    char id[ID_SIZE];
    id_make(id, 1000);
    scratch_write(scratch, QUEUE_CUR, id, "", 0);
    scratch_write(scratch, QUEUE_CUR, "stranger", "", 0);
    struct kept kept = {.seconds = 3600};
    struct scanner scanner = scanner_of(scratch, QUEUE_CUR, &kept);
    scanner_step(&scanner, SCANNER_STEP);
    assert_int_equal(scanner.found_count, 0);
    assert_true(scratch_exists(scratch, QUEUE_CUR, id));
    assert_true(scratch_exists(scratch, QUEUE_NEW, "stranger"));

    kept.seconds = 1;
    for (int i = 0; i < 100 && scanner.found_count == 0; i++) {
        usleep(50 * 1000);
        scanner_step(&scanner, SCANNER_STEP);
    }
    assert_int_equal(scanner.found_count, 1);
    assert_string_equal(scanner.found[0].id, id);
    assert_int_equal(scanner.found[0].directory, QUEUE_CUR);

    kept.seconds = 0;
    scanner_step(&scanner, SCANNER_STEP);
    assert_int_equal(scanner.found_count, 0);
    assert_true(scratch_exists(scratch, QUEUE_NEW, id));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(loads_until_the_batch_is_full),  TEST(recipients_count_against_the_limit),
        TEST(adds_to_what_is_there),          TEST(sets_aside_and_passes_over),
        TEST(each_fate_has_its_way_out),      TEST(scans_in_steps),
        TEST(an_empty_directory_is_one_step), TEST(a_directory_that_went_is_noticed),
        TEST(what_was_kept_is_found_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
