-- Days: making them ahead of time or when one is missing, and letting them go.
--
-- A day (UTC) is one partition of each table, messages_20261121 and deliveries_20261121. It is made
-- by CREATE TABLE (LIKE …) and ATTACH, which waits for no reader or writer of the table, where
-- CREATE TABLE … PARTITION OF waits for all of them and holds up those who come later. It goes by
-- DETACH … CONCURRENTLY and DROP for the same reason.

CREATE OR REPLACE FUNCTION first_day() RETURNS date
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$SELECT ((statement_timestamp() - retention()) AT TIME ZONE 'UTC')::date$$;

COMMENT ON FUNCTION first_day() IS
    'the earliest day (UTC) that can hold unexpired mail; partitions of days before it are expired';

CREATE OR REPLACE FUNCTION partition_name(parent text, day date) RETURNS text
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT pg_catalog.format('%I.%I', current_schema(),
                             parent || '_' || to_char(day::timestamp, 'YYYYMMDD'))
$$;

COMMENT ON FUNCTION partition_name(text, date) IS
    'name of the partition of a table for a day (UTC), with its schema';

CREATE OR REPLACE FUNCTION partition_state(parent text, day date) RETURNS text
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN child IS NULL THEN 'missing'
                WHEN inhrelid IS NULL THEN 'detached'
                WHEN inhdetachpending THEN 'detaching'
                ELSE 'attached' END
    FROM to_regclass(partition_name(parent, day)) AS child
    LEFT JOIN pg_inherits ON inhrelid = child::oid
$$;

COMMENT ON FUNCTION partition_state(text, date) IS
    'missing, attached, detaching (begun and not finished) or detached: the partition of a table '
    'for a day (UTC)';

-- Both halves of a day are made in the transaction that calls this, so a crash leaves both or none.
-- A table of the right name that is not attached is what a detach left that was not followed by its
-- DROP; when the retention has been raised since, the day is wanted again, and the table is
-- attached as it is, with its mail.
CREATE OR REPLACE FUNCTION make_partitions(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
SET lock_timeout = '2s'
AS $$
DECLARE
    today     date := (statement_timestamp() AT TIME ZONE 'UTC')::date;
    parent    text;
    partition text;
    state     text;
BEGIN
    IF day IS NULL OR day NOT BETWEEN first_day() AND today + 31 THEN
        RETURN false;
    END IF;
    IF partition_state('messages', day) = 'attached'
        AND partition_state('deliveries', day) = 'attached' THEN
        RETURN true;
    END IF;

    -- One at a time, by the lock that ATTACH takes anyway: nobody who may only read can hold it, as
    -- he could an advisory lock.
    LOCK TABLE ONLY messages IN SHARE UPDATE EXCLUSIVE MODE;
    FOREACH parent IN ARRAY ARRAY['messages', 'deliveries'] LOOP
        partition := partition_name(parent, day);
        state := partition_state(parent, day);
        CONTINUE WHEN state = 'attached';
        IF state = 'missing' THEN
            -- Rows only come, and then all go at once: a vacuum after inserts would read every
            -- message again, to prepare for years that it will not see.
            EXECUTE pg_catalog.format(
                'CREATE TABLE %s (LIKE %I INCLUDING ALL EXCLUDING COMMENTS) '
                'WITH (autovacuum_vacuum_insert_threshold = -1, '
                'toast.autovacuum_vacuum_insert_threshold = -1)', partition, parent);
        ELSIF state = 'detaching' THEN
            RAISE EXCEPTION 'partition % is being detached', partition
                USING ERRCODE = 'object_in_use', HINT = 'The reaper finishes it.';
        END IF;
        EXECUTE pg_catalog.format(
            'ALTER TABLE %I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, partition,
            to_char(day::timestamp, 'YYYY-MM-DD 00:00:00+00'),
            to_char((day + 1)::timestamp, 'YYYY-MM-DD 00:00:00+00'));
    END LOOP;
    RETURN true;
END
$$;

COMMENT ON FUNCTION make_partitions(date) IS
    'makes the partitions of a day (UTC) unless they are there; false, and nothing done, for a '
    'day that is expired or more than a month ahead';

CREATE OR REPLACE FUNCTION make_partitions_ahead() RETURNS integer
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    today  date := (statement_timestamp() AT TIME ZONE 'UTC')::date;
    wanted date;
    days   integer := 0;
BEGIN
    FOR wanted IN
        SELECT today + ahead FROM generate_series(0, 14) AS ahead
        UNION
        -- Days that were let go and are wanted again.
        SELECT past.day
        FROM (SELECT first_day() + passed AS day
              FROM generate_series(0, today - first_day()) AS passed) AS past,
        LATERAL (SELECT ARRAY[partition_state('messages', past.day),
                              partition_state('deliveries', past.day)] AS halves) AS states
        WHERE 'detached' = ANY (halves) AND 'detaching' <> ALL (halves)
        ORDER BY 1
    LOOP
        days := days + make_partitions(wanted)::int;
    END LOOP;
    RETURN days;
END
$$;

COMMENT ON FUNCTION make_partitions_ahead() IS
    'makes the partitions of today and the next two weeks, attaches days that a longer retention '
    'wants back, and returns how many days there are from now on';

-- The next step of each partition that has one, as a command, so that reaper, psql's \gexec and a
-- job scheduler do the same: run the first, outside a transaction, and look again, until nothing is
-- left. A partition takes two steps; none is offered before the one before it has been done, for a
-- DROP of what is still attached would make every insert wait.
--
-- A table is taken for ours by its name and its owner. The names of days sort as the days do and
-- are compared as texts: a parser could fail on a name that is no date.
CREATE OR REPLACE FUNCTION expired_partitions()
RETURNS TABLE (name text, parent text, step text, command text)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    WITH partitions AS (
        SELECT pg_catalog.format('%I.%I', p.relnamespace::regnamespace, c.relname) AS name,
               pg_catalog.format('%I.%I', p.relnamespace::regnamespace, p.relname) AS parent,
               i.inhrelid IS NOT NULL AS attached,
               coalesce(i.inhdetachpending, false) AS pending,
               right(c.relname::text, 8)
                   < to_char(first_day()::timestamp, 'YYYYMMDD') COLLATE "C" AS expired
        FROM pg_class p
        JOIN pg_class c ON c.relnamespace = p.relnamespace
                       AND c.relowner = p.relowner
                       AND c.relkind = 'r'
                       AND c.relname ~ ('^' || p.relname::text || '_[0-9]{8}$')
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
        WHERE p.oid IN ('messages'::regclass::oid, 'deliveries'::regclass::oid)
          AND (i.inhparent IS NULL OR i.inhparent = p.oid)
    )
    SELECT name, parent, step, pg_catalog.format(form, parent, name)
    FROM partitions,
    LATERAL (VALUES
        -- An interrupted detach keeps its parent from beginning another one.
        (1, pending, 'finalize', 'ALTER TABLE %1$s DETACH PARTITION %2$s FINALIZE'),
        (2, expired AND NOT attached, 'drop', 'DROP TABLE %2$s'),
        (3, expired AND attached AND NOT pending, 'detach',
            'ALTER TABLE %1$s DETACH PARTITION %2$s CONCURRENTLY')
    ) AS steps (number, due, step, form)
    WHERE due
    ORDER BY number, name
$$;

COMMENT ON FUNCTION expired_partitions() IS
    'the next step of each expired partition, and of each interrupted detach, as a command to '
    'run outside a transaction';
