/* Conversations with PostgreSQL: see the header. */
#include "storer/transaction.h"

#include "common/fault.h"
#include "storer/copy.h"
#include "storer/statements.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The statements of a STORE in the order of their results. The others are one statement,
 * STEP_FIRST; a ROLLBACK goes before whatever follows an error. */
enum step { STEP_ROLLBACK, STEP_FIRST, STEP_MESSAGES, STEP_DELIVERIES, STEP_BOUNDS, STEP_COMMIT };

static void begin(struct transaction *transaction, struct pgconn *conn, enum transaction_kind kind)
{
    *transaction = (struct transaction){.kind = kind, .step = STEP_FIRST, .sent_at = uv_hrtime()};
    pgconn_pipeline(conn);
    if (pgconn_in_transaction(conn)) {
        transaction->step = STEP_ROLLBACK;
        pgconn_execute(conn, statement_rollback, NULL, 0);
    }
}

/* A statement whose parameters are the elements [first, first + count) of some columns. */
static void execute(struct pgconn *conn, const char *sql, struct array *const arrays[],
                    unsigned arrays_count, size_t first, size_t count)
{
    struct array_frame frames[PGCONN_PARAMS];
    struct pgconn_param params[PGCONN_PARAMS] = {0};
    for (unsigned i = 0; i < arrays_count; i++) {
        array_frame(arrays[i], first, count, &frames[i]);
        params[i] = (struct pgconn_param){
            .value = frames[i].value, .length = frames[i].length, .binary = true};
    }
    pgconn_execute(conn, sql, params, arrays_count);
    for (unsigned i = 0; i < arrays_count; i++)
        array_unframe(&frames[i]);
}

void transaction_check(struct transaction *transaction, struct pgconn *conn)
{
    begin(transaction, conn, TRANSACTION_CHECK);
    FAULT_POINT("storer.check");
    pgconn_execute(conn, statement_check, NULL, 0);
    pgconn_sync(conn);
}

void transaction_store(struct transaction *transaction, struct pgconn *conn, struct batch *batch,
                       const struct plan_segment *segment)
{
    struct array *messages[] = {&batch->ids,   &batch->received,  &batch->senders, &batch->clients,
                                &batch->helos, &batch->protocols, &batch->sizes,   &batch->raws};
    struct array *deliveries[] = {&batch->message_ids, &batch->message_received, &batch->positions,
                                  &batch->recipients};
    begin(transaction, conn, TRANSACTION_STORE);
    FAULT_POINT("storer.begin");
    pgconn_execute(conn, statement_begin, NULL, 0);
    FAULT_POINT("storer.messages");
    execute(conn, statement_messages, messages, 8, segment->first, segment->count);
    FAULT_POINT("storer.deliveries");
    execute(conn, statement_deliveries, deliveries, 4,
            batch_deliveries_first(batch, segment->first),
            batch_deliveries_count(batch, segment->first, segment->count));
    pgconn_execute(conn, statement_bounds, NULL, 0);
    FAULT_POINT("storer.commit");
    pgconn_execute(conn, statement_commit, NULL, 0);
    pgconn_sync(conn);
    FAULT_POINT("storer.commit_sent");
}

/* One query with all commands: the server goes from one to the next by itself, and leaves out the
 * rest after an error. */
void transaction_copy(struct transaction *transaction, struct pgconn *conn,
                      const struct batch *batch, const struct plan_segment *segment)
{
    *transaction = (struct transaction){.kind = TRANSACTION_STORE,
                                        .step = STEP_FIRST,
                                        .sent_at = uv_hrtime(),
                                        .copied = batch,
                                        .segment = *segment,
                                        .copies = true};
    FAULT_POINT("storer.copy");
    pgconn_query(conn, statement_copy);
}

static void put_rows(void *to, const char *bytes, size_t length)
{
    pgconn_copy_put(to, bytes, length);
}

/* The server is ready for the rows of one table. */
static void give_rows(struct transaction *transaction, struct pgconn *conn)
{
    const struct batch *batch = transaction->copied;
    const struct plan_segment *segment = &transaction->segment;
    bool good = transaction->step == STEP_MESSAGES
                    ? FAULT_STEP("storer.copy_messages",
                                 copy_messages(batch, segment, put_rows, conn), false)
                    : FAULT_STEP("storer.copy_deliveries",
                                 copy_deliveries(batch, segment, put_rows, conn), false);
    pgconn_copy_end(conn, good ? NULL : "out of memory");
    FAULT_POINT("storer.copied");
}

void transaction_partitions(struct transaction *transaction, struct pgconn *conn,
                            const struct batch *batch, const struct plan_segment *segment)
{
    struct array days;
    array_init(&days, ARRAY_TEXT, SIZE_MAX);
    FAULT_POINT("storer.partitions");
    begin(transaction, conn, TRANSACTION_PARTITIONS);
    /* Without memory for the days none is made, and the missing one is met again after a pause. */
    if (batch_days(batch, segment->first, segment->count, &days))
        execute(conn, statement_partitions, (struct array *[]){&days}, 1, 0, days.count);
    pgconn_sync(conn);
    array_free(&days);
}

void transaction_notify(struct transaction *transaction, struct pgconn *conn, struct batch *batch,
                        const struct plan_segment *segment)
{
    FAULT_POINT("storer.notify");
    begin(transaction, conn, TRANSACTION_NOTIFY);
    execute(conn, statement_notify, (struct array *[]){&batch->recipients}, 1,
            batch_deliveries_first(batch, segment->first),
            batch_deliveries_count(batch, segment->first, segment->count));
    pgconn_sync(conn);
}

static void refuse_setup(struct transaction *transaction, const char *sqlstate)
{
    transaction->failed = true;
    transaction->verdict = VERDICT_SETUP;
    snprintf(transaction->sqlstate, sizeof transaction->sqlstate, "%s", sqlstate);
}

static void read_check(struct transaction *transaction, const PGresult *result)
{
    /* NOLINTNEXTLINE(cert-err34-c): a column of integers */
    int version = atoi(PQgetvalue(result, 0, 1));
    if (version < STATEMENTS_SCHEMA_VERSION) {
        refuse_setup(transaction, "");
        snprintf(transaction->words, sizeof transaction->words,
                 "the schema has version %d, and %d is needed", version, STATEMENTS_SCHEMA_VERSION);
    } else if (strcmp(PQgetvalue(result, 0, 2), "t") != 0) {
        refuse_setup(transaction, "42501");
        snprintf(transaction->words, sizeof transaction->words,
                 "the role of this connection may not insert mail");
    }
}

static void read_store(struct transaction *transaction, PGresult *result)
{
    switch (transaction->step) {
    case STEP_DELIVERIES:
        transaction->news = strcmp(PQcmdTuples(result), "0") != 0;
        break;
    case STEP_BOUNDS:
        /* Without a retention nothing is within bounds, and nothing was inserted. (What was copied is
         * there, unseen, and will be met again.) */
        if (PQgetisnull(result, 0, 0)) {
            refuse_setup(transaction, "");
            snprintf(transaction->words, sizeof transaction->words,
                     "retention() is null: the table settings is empty");
        }
        transaction->oldest = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        transaction->newest = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
        break;
    case STEP_COMMIT:
        /* A transaction that has failed answers COMMIT without an error, too: with ROLLBACK. */
        transaction->committed = strcmp(PQcmdStatus(result), "COMMIT") == 0 && !transaction->alone;
        FAULT_POINT("storer.committed");
        break;
    default:
        break;
    }
}

static void read_success(struct transaction *transaction, PGresult *result)
{
    if (transaction->kind == TRANSACTION_STORE)
        read_store(transaction, result);
    else if (transaction->kind == TRANSACTION_CHECK && transaction->step == STEP_FIRST)
        read_check(transaction, result);
}

static void read_error(struct transaction *transaction, const PGresult *result)
{
    if (transaction->failed)
        return;
    transaction->failed = true;
    snprintf(transaction->sqlstate, sizeof transaction->sqlstate, "%s", pgwords_sqlstate(result));
    pgwords_of(result, transaction->words, sizeof transaction->words);
    transaction->verdict = verdict_of(transaction->sqlstate,
                                      PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME) != NULL);
}

bool transaction_read(struct transaction *transaction, struct pgconn *conn, PGresult *result)
{
    /* A pipeline ends each of its commands, a query all of them at once. */
    if (!result) {
        transaction->step++;
        return transaction->copies;
    }
    switch (PQresultStatus(result)) {
    case PGRES_COPY_IN:
        give_rows(transaction, conn);
        return false;
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        read_success(transaction, result);
        transaction->step += transaction->copies;
        return false;
    case PGRES_PIPELINE_SYNC:
        return true;
    case PGRES_PIPELINE_ABORTED:
        return false;
    default:
        read_error(transaction, result);
        return false;
    }
}

/* Where a synchronous standby is waited for, and somebody cancels the wait, COMMIT is answered as if
 * nothing had happened but for a warning before it. Should that server be lost and the standby take
 * its place, the messages are gone. So they are stored again, which waits again. The warning has no
 * SQLSTATE of its own, and its words depend on lc_messages: the routine that says it is what it can
 * be told by. */
void transaction_notice(struct transaction *transaction, const PGresult *notice)
{
    const char *routine = PQresultErrorField(notice, PG_DIAG_SOURCE_FUNCTION);
    if (transaction->kind != TRANSACTION_STORE || !routine ||
        strcmp(routine, "SyncRepWaitForLSN") != 0)
        return;
    transaction->alone = true;
    snprintf(transaction->sqlstate, sizeof transaction->sqlstate, "%s", pgwords_sqlstate(notice));
    pgwords_of(notice, transaction->words, sizeof transaction->words);
}

bool transaction_is_stored(const struct transaction *transaction)
{
    return transaction->kind == TRANSACTION_STORE && transaction->committed && !transaction->failed;
}
