/* The SQL of storer: see the header. */
#include "storer/statements.h"

/* synchronous_commit is written down for the session even when it is right already, because a
 * reload of postgresql.conf would change it under a session that never set it. An asynchronous
 * COMMIT may be undone by a crash of the server, and by then its file is gone. client_min_messages,
 * because a COMMIT that was not replicated is told from one that was by a warning alone.
 *
 * Privileges are asked for here, so that a set-up that cannot work is found before there is mail.
 * The names are looked up for the same reason: a missing one is an error that says which. */
const char statement_check[] =
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false),"
    " schema_version(),"
    " has_any_column_privilege('messages', 'INSERT')"
    " AND has_any_column_privilege('deliveries', 'INSERT')"
    " AND has_sequence_privilege('deliveries_id_seq', 'USAGE')"
    " AND has_function_privilege('retention()', 'EXECUTE')"
    " AND has_function_privilege('make_partitions(date)', 'EXECUTE'),"
    " set_config('client_min_messages', CASE current_setting('client_min_messages')"
    " WHEN 'error' THEN 'warning' ELSE current_setting('client_min_messages') END, false)";

/* One snapshot for all of it: the bounds that are read back are those that the inserts went by,
 * even if the retention is changed at that moment. */
#define BEGIN  "BEGIN ISOLATION LEVEL REPEATABLE READ"
#define COMMIT "COMMIT"

const char statement_begin[] = BEGIN;

/* ON CONFLICT DO NOTHING is what makes a replay harmless. The bounds are scalar subqueries, to be
 * computed once and not once a row. */
#define WITHIN_BOUNDS                                                                              \
    " WHERE received_at > (SELECT now() - retention())"                                            \
    " AND received_at <= now() + interval '24 hours' ON CONFLICT DO NOTHING"

const char statement_messages[] =
    "INSERT INTO messages (id, received_at, mail_from, client, helo, protocol, size, raw)"
    " SELECT id, received_at, mail_from, client::inet, helo, protocol, size, raw"
    " FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[],"
    " $7::bigint[], $8::bytea[])"
    " AS m (id, received_at, mail_from, client, helo, protocol, size, raw)" WITHIN_BOUNDS;

const char statement_deliveries[] =
    "INSERT INTO deliveries (message_id, received_at, position, recipient, username, domain)"
    " SELECT message_id, received_at, position, recipient, address_username(recipient),"
    " address_domain(recipient)"
    " FROM unnest($1::uuid[], $2::timestamptz[], $3::integer[], $4::text[])"
    " AS d (message_id, received_at, position, recipient)" WITHIN_BOUNDS;

/* The message that nobody reads is for the COMMIT that follows. Where a synchronous standby is waited
 * for, a transaction that wrote nothing waits for nobody, and a replay that found every row there has
 * written nothing. The rows it found may be those of a COMMIT whose wait for the standby was ended
 * by a lost session: committed here, and nowhere else. With this in the log, behind them, the COMMIT
 * is answered when the standby has both. */
#define BOUNDS                                                                                     \
    "SELECT (extract(epoch FROM now() - retention()) * 1000000)::bigint,"                          \
    " (extract(epoch FROM now() + interval '24 hours') * 1000000)::bigint,"                        \
    " pg_logical_emit_message(true, 'mayfly', ''::text)"

const char statement_bounds[] = BOUNDS;

const char statement_commit[] = COMMIT;

const char statement_copy[] =
    BEGIN "; COPY messages (id, received_at, mail_from, client, helo, protocol, size, raw)"
          " FROM STDIN (FORMAT binary);"
          " COPY deliveries (message_id, received_at, position, recipient, username, domain)"
          " FROM STDIN (FORMAT binary); " BOUNDS "; " COMMIT;
const char statement_rollback[] = "ROLLBACK";

const char statement_partitions[] =
    "SELECT count(make_partitions(day::date)) FROM unnest($1::text[]) AS day";

const char statement_notify[] = "SELECT notify_mailboxes($1::text[])";
