-- Mayfly's database, whole:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/schema.sql
--
-- Makes what is missing and brings the rest up to date, in the first schema of the search path. May
-- be run again at any time, also while storer and reaper run, and by two at once: everything is one
-- transaction behind an advisory lock, and a table that exists is not locked against inserts.
-- Whoever runs it needs to be a superuser, or the database's owner with CREATEROLE (without it, a
-- member of mayfly_reaper once the roles exist). All that is made belongs to mayfly_reaper.
--
-- Advisory locks of this database, as (class, number): class 1296128326 is 'MAYF' in ASCII;
-- number 1: schema.sql; 3: the reaper at work, a session lock. Every login can take them.

\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL check_function_bodies = on;
SET LOCAL standard_conforming_strings = on;

DO $$
BEGIN
    IF current_setting('server_version_num')::int < 140000 THEN
        RAISE EXCEPTION 'Mayfly needs PostgreSQL 14 or later, this is %',
            current_setting('server_version');
    END IF;
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'Mayfly needs a database with encoding UTF8, this one has %',
            current_setting('server_encoding');
    END IF;
    IF current_schema() IS NULL THEN
        RAISE EXCEPTION 'no schema to make the tables in: search_path is %',
            current_setting('search_path');
    END IF;
END
$$;

-- Functions remember this path (SET search_path FROM CURRENT): one schema, and temporary objects
-- last, so that no caller can slip an object of his own under a SECURITY DEFINER function. The
-- system's come before both; but a function of the schema that fits a call exactly is preferred to
-- one of theirs that fits by a cast or a polymorphic type: such calls name pg_catalog, or cast.
SELECT pg_advisory_xact_lock(1296128326, 1) AS locked,
       current_schema() AS schema,
       set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true) AS path
\gset

\ir roles.sql

SET LOCAL ROLE mayfly_reaper;
\ir version.sql
\ir retention.sql
\ir addresses.sql
\ir tables.sql
\ir partitions.sql
\ir text.sql
\ir headers.sql
\ir bytes.sql
\ir fields.sql
\ir mime.sql
\ir parts.sql
\ir emails.sql
\ir inbox.sql
\ir search.sql
\ir notify.sql
\ir grants.sql
COMMIT;

-- Apart, because it waits, briefly, for what storer or reaper do to the same tables.
SELECT make_partitions_ahead() AS days \gset
