-- The mail spread over the workers of a Citus cluster:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/citus.sql
--
-- On the coordinator, as a superuser, when schema.sql has made the tables and citus_add_node has
-- named the workers; again behind each schema.sql. What is stored already is moved, and waits.
--
-- A row goes where the hash of its message's id leads: evenly, however much of the mail is for one
-- mailbox; the deliveries of a message lie with it, so that reading them together stays on one
-- node; and the id is in every key by which a replay is known. A mailbox is asked for on all nodes
-- at once. By username it would be one, but a message has as many of those as it has recipients.

\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL client_min_messages = warning;
-- A function may be changed behind tables in one transaction only by one connection a node.
SET LOCAL citus.multi_shard_modify_mode = sequential;

DO $$
BEGIN
    IF to_regclass('pg_catalog.pg_dist_node') IS NULL THEN
        RAISE EXCEPTION 'this database has no extension citus';
    END IF;
    IF to_regclass('messages') IS NULL OR to_regclass('deliveries') IS NULL THEN
        RAISE EXCEPTION 'there are no tables: run schema.sql first';
    END IF;
END
$$;

-- Citus speaks with the workers as whoever speaks with it, or as the owner of a SECURITY DEFINER
-- function: inbox and make_partitions. Tried by hand, with Citus 13.2.2, were these, and mail that
-- was stored by INSERT and by COPY, and replayed; not message_headers, message_parts and
-- inbox_search.
ALTER ROLE mayfly_reaper LOGIN;

-- A unique key that does not lead to a node is refused. deliveries.id comes from one sequence, and
-- stays unique.
ALTER TABLE deliveries DROP CONSTRAINT IF EXISTS deliveries_id_received_at_key;

-- deliveries_parse looks at nothing but its row, which is all that makes a trigger safe.
SET LOCAL citus.enable_unsafe_triggers = on;

SELECT create_distributed_table('messages', 'id')
WHERE 'messages'::regclass NOT IN (SELECT logicalrelid FROM pg_dist_partition)
\g /dev/null
SELECT create_distributed_table('deliveries', 'message_id', colocate_with => 'messages')
WHERE 'deliveries'::regclass NOT IN (SELECT logicalrelid FROM pg_dist_partition)
\g /dev/null

-- The parts of a table do not get the rights to single columns.
GRANT INSERT ON messages, deliveries TO mayfly_storer;

-- Citus knows no DETACH … CONCURRENTLY. What it does instead waits for those who use the table, and
-- they for it; reaper gives up after its lock_timeout, and tries again.
SELECT replace(pg_get_functiondef('expired_partitions()'::regprocedure), ' CONCURRENTLY', '')
    AS definition
\gset
:definition;
COMMIT;
