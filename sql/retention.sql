-- How long mail is kept: one row, read by everything that shows, stores or drops mail.

-- Less than a second keeps nothing. A year is 366 partitions of two tables, and the planner looks
-- at each of them for every mailbox: more is a mistake, or a job for another program.
CREATE TABLE IF NOT EXISTS settings (
    one_row   boolean  PRIMARY KEY DEFAULT true CHECK (one_row),
    retention interval NOT NULL
              CHECK (retention BETWEEN interval '1 second' AND interval '8784 hours')
);

COMMENT ON TABLE settings IS 'what all programs and views share; always one row';
COMMENT ON COLUMN settings.one_row IS 'true: there is no second row';
COMMENT ON COLUMN settings.retention IS
    'the age at which mail expires, in seconds; see set_retention';

-- Seconds, not days: a day of a session's time zone may have 23 hours.
INSERT INTO settings (retention) VALUES (make_interval(secs => 604800)) ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION retention() RETURNS interval
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
SET search_path FROM CURRENT
AS $$SELECT retention FROM settings$$;

COMMENT ON FUNCTION retention() IS
    'the age at which mail expires: it is there while received_at > statement_timestamp() - '
    'retention()';

CREATE OR REPLACE FUNCTION set_retention(period interval) RETURNS interval
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    seconds CONSTANT double precision := extract(epoch FROM period);
    least   CONSTANT double precision := 1;
    most    CONSTANT double precision := 366 * 86400;
BEGIN
    IF seconds IS NULL OR seconds < least OR seconds > most THEN
        RAISE EXCEPTION 'retention is %; it may be from 1 second to 366 days',
            coalesce(period::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Written only when it changes: reaper says it again on every pass.
    UPDATE settings SET retention = pg_catalog.make_interval(secs => seconds)
    WHERE settings.retention <> pg_catalog.make_interval(secs => seconds);
    RETURN retention();
END
$$;

COMMENT ON FUNCTION set_retention(interval) IS
    'sets the retention, from 1 second to 366 days (a month counts as 30), and returns it';
