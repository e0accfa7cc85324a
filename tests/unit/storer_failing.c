/* What becomes of a message in storer when a call fails: it is left where it is, for the next look,
 * and no other message is touched. And what is made of every answer that PostgreSQL may give. */
#include "message.h"

#include "failing.h"

#include "queue/retire.h"
#include "queue/scanner.h"
#include "storer/kept.h"
#include "storer/loader.h"
#include "storer/retirer.h"
#include "storer/statements.h"
#include "storer/transaction.h"

#include <limits.h>

enum { MESSAGES = 3, BODY = 20000 };

static char body[BODY];

/* Memory. */

static const char *recipients[] = {"bob@x.example", "carol@x.example", "bob@X.example"};

static struct envelope envelope_of(char id[static ID_SIZE])
{
    struct envelope envelope = message_envelope(id);

    envelope.recipients = recipients;
    envelope.recipients_count = 3;
    envelope.size = 4;
    return envelope;
}

static void check_columns(const struct batch *batch, size_t messages)
{
    assert_int_equal(batch->count, messages);
    assert_int_equal(batch->ids.count, messages);
    assert_int_equal(batch->received.count, messages);
    assert_int_equal(batch->senders.count, messages);
    assert_int_equal(batch->clients.count, messages);
    assert_int_equal(batch->helos.count, messages);
    assert_int_equal(batch->protocols.count, messages);
    assert_int_equal(batch->sizes.count, messages);
    assert_int_equal(batch->raws.count, messages);
    assert_int_equal(batch->message_ids.count, 2 * messages);
    assert_int_equal(batch->message_received.count, 2 * messages);
    assert_int_equal(batch->positions.count, 2 * messages);
    assert_int_equal(batch->recipients.count, 2 * messages);
}

static void what_was_not_added_is_not_there_by_half(void **state)
{
    (void)state;

    FAILING_EACH (at) {
        struct batch batch;
        char id[ID_SIZE];
        const struct envelope envelope = envelope_of(id);
        char *room;
        batch_init(&batch);
        failing_arm(at, ENOMEM);
        room = batch_add(&batch, &envelope, QUEUE_NEW, 0);
        assert_int_equal(room == NULL, failing_disarm());
        check_columns(&batch, room != NULL);
        assert_non_null(batch_add(&batch, &envelope, QUEUE_NEW, 0));
        check_columns(&batch, 1 + (room != NULL));
        batch_free(&batch);
    }
}

static void days_are_all_or_none(void **state)
{
    (void)state;
    struct batch batch;
    char id[ID_SIZE];
    const struct envelope envelope = envelope_of(id);

    batch_init(&batch);
    assert_non_null(batch_add(&batch, &envelope, QUEUE_NEW, 0));
    FAILING_EACH (at) {
        struct array days;
        bool good;
        array_init(&days, ARRAY_TEXT, SIZE_MAX);
        failing_arm(at, ENOMEM);
        good = batch_days(&batch, 0, 1, &days);
        assert_int_equal(good, !failing_disarm());
        assert_true(!good || days.count == 1);
        array_free(&days);
    }
    batch_free(&batch);
}

/* Files. */

static void what_could_not_be_read_is_left(void **state)
{
    struct scratch *scratch = *state;
    static const int errors[] = {EIO, EMFILE, ENOMEM};
    struct candidate candidates[MESSAGES] = {0};

    for (int i = 0; i < MESSAGES; i++) {
        candidates[i].directory = QUEUE_NEW;
        message_put(scratch, candidates[i].id, body, BODY);
    }
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        FAILING_EACH (at) {
            struct batch batch;
            struct load load = {.spool = &scratch->spool,
                                .batch = &batch,
                                .limits = {100, 1 << 20},
                                .candidates = candidates,
                                .count = MESSAGES};
            batch_init(&batch);
            failing_arm(at, errors[i]);
            loader_run(&load);
            assert_int_equal(batch.count, failing_disarm() ? MESSAGES - 1 : MESSAGES);
            assert_int_equal(load.used, MESSAGES);
            assert_int_equal(load.failed, 0);
            for (int message = 0; message < MESSAGES; message++)
                assert_true(scratch_exists(scratch, QUEUE_NEW, candidates[message].id));
            batch_free(&batch);
        }
    }
}

static void what_could_not_be_removed_is_left(void **state)
{
    struct scratch *scratch = *state;
    static const enum fate fates[] = {FATE_STORED, FATE_EXPIRED, FATE_REFUSED};

    for (size_t i = 0; i < sizeof fates / sizeof *fates; i++) {
        struct batch batch;
        char id[ID_SIZE];
        char other[ID_SIZE];
        struct envelope envelope = message_envelope(other);
        batch_init(&batch);
        message_put(scratch, id, body, BODY);
        envelope.id = id;
        assert_non_null(batch_add(&batch, &envelope, QUEUE_NEW, 0));
        /* Without memory for the reason it has another. */
        failing_arm(1, ENOMEM);
        batch_decide(&batch.messages[0], fates[i], fates[i] == FATE_REFUSED ? "why" : NULL);
        failing_disarm();
        failing_arm(1, EIO);
        retirer_run(&scratch->spool, &batch, false);
        assert_true(failing_disarm());
        /* To be set aside, it was only not known to be there. */
        assert_int_equal(scratch_exists(scratch, QUEUE_NEW, id), fates[i] != FATE_REFUSED);
        retirer_run(&scratch->spool, &batch, false);
        assert_false(scratch_exists(scratch, QUEUE_NEW, id));
        assert_int_equal(scratch_exists(scratch, QUEUE_FAILED, id), fates[i] == FATE_REFUSED);
        batch_free(&batch);
    }
}

/* In cur/ it stays, and is found again. */
static void what_could_not_be_judged_is_left(void **state)
{
    struct scratch *scratch = *state;
    struct kept kept = {.seconds = 1000};
    struct scanner scanner = {
        .spool = &scratch->spool, .queue = QUEUE_STORE, .directory = QUEUE_CUR, .data = &kept};
    char id[ID_SIZE];

    message_put(scratch, id, "body", 4);
    assert_int_equal(retire_keep(&scratch->spool, QUEUE_STORE, id), 0);
    failing_arm(1, EIO);
    assert_false(kept_judge_cb(&scanner, id));
    assert_true(failing_disarm());
    assert_false(kept_judge_cb(&scanner, id));
    kept.seconds = 0;
    failing_arm(1, EIO);
    assert_false(kept_judge_cb(&scanner, id));
    assert_true(failing_disarm());
    assert_true(scratch_exists(scratch, QUEUE_CUR, id));
    assert_false(kept_judge_cb(&scanner, id));
    assert_true(scratch_exists(scratch, QUEUE_NEW, id));
}

/* Answers. */

static PGresult *row_of(const char *const values[3])
{
    static char names[3][2] = {"a", "b", "c"};
    static PGresAttDesc columns[3] = {{.name = names[0]}, {.name = names[1]}, {.name = names[2]}};
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);

    assert_int_equal(PQsetResultAttrs(result, 3, columns), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(PQsetvalue(result, 0, i, (char *)(uintptr_t)values[i],
                                    values[i] != NULL ? (int)strlen(values[i]) : -1),
                         1);
    return result;
}

static bool take(struct transaction *transaction, PGresult *result)
{
    bool over = transaction_read(transaction, NULL, result);

    PQclear(result);
    return over;
}

static void a_check_knows_what_is_missing(void **state)
{
    (void)state;
    static const struct {
        const char *values[3];
        bool failed;
        const char *sqlstate;
    } rows[] = {
        {{"x", "2", "t"}, false, ""},
        {{"x", "3", "t"}, false, ""},
        {{"x", "1", "t"}, true, ""},
        {{"x", "2", "f"}, true, "42501"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct transaction transaction = {.kind = TRANSACTION_CHECK, .step = 1};
        assert_false(take(&transaction, row_of(rows[i].values)));
        assert_int_equal(transaction.failed, rows[i].failed);
        assert_string_equal(transaction.sqlstate, rows[i].sqlstate);
        if (rows[i].failed)
            assert_int_equal(transaction.verdict, VERDICT_SETUP);
    }
}

static void the_first_error_counts_and_nothing_is_stored(void **state)
{
    (void)state;
    struct transaction transaction = {.kind = TRANSACTION_STORE, .step = 1};

    transaction.committed = true;
    assert_true(transaction_is_stored(&transaction));
    assert_false(take(&transaction, PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR)));
    assert_true(transaction.failed);
    transaction.verdict = VERDICT_SETUP;
    assert_false(take(&transaction, PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR)));
    assert_int_equal(transaction.verdict, VERDICT_SETUP);
    assert_false(take(&transaction, PQmakeEmptyPGresult(NULL, PGRES_PIPELINE_ABORTED)));
    assert_false(transaction_read(&transaction, NULL, NULL));
    assert_int_equal(transaction.step, 2);
    assert_false(transaction_is_stored(&transaction));
    assert_true(take(&transaction, PQmakeEmptyPGresult(NULL, PGRES_PIPELINE_SYNC)));
    transaction = (struct transaction){.kind = TRANSACTION_CHECK, .committed = true};
    assert_false(transaction_is_stored(&transaction));
}

/* A table of settings without its row: then there are no bounds, and nothing was within them. */
static void a_retention_that_is_null_is_the_set_up_s(void **state)
{
    (void)state;
    static const char *const nothing[3] = {NULL, NULL, ""}, *const bounds[3] = {"5", "7", ""};
    enum { BOUNDS = 4 };
    struct transaction transaction = {.kind = TRANSACTION_STORE, .step = BOUNDS};

    assert_false(take(&transaction, row_of(nothing)));
    assert_true(transaction.failed);
    assert_int_equal(transaction.verdict, VERDICT_SETUP);
    transaction = (struct transaction){.kind = TRANSACTION_STORE, .step = BOUNDS};
    assert_false(take(&transaction, row_of(bounds)));
    assert_false(transaction.failed);
    assert_int_equal(transaction.oldest, 5);
    assert_int_equal(transaction.newest, 7);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_not_added_is_not_there_by_half),
        cmocka_unit_test(days_are_all_or_none),
        TEST(what_could_not_be_read_is_left),
        TEST(what_could_not_be_removed_is_left),
        TEST(what_could_not_be_judged_is_left),
        cmocka_unit_test(a_check_knows_what_is_missing),
        cmocka_unit_test(the_first_error_counts_and_nothing_is_stored),
        cmocka_unit_test(a_retention_that_is_null_is_the_set_up_s),
    };

    return cmocka_run_group_tests_name("storer/failing", tests, NULL, NULL);
}
