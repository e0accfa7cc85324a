-- All header fields of a message, in order, and where the body begins behind them.

-- A header ends with an empty line, or where a line is neither a field nor the rest of one: then
-- the body begins with that line, as it does for readers of mail (a client that sent a text and no
-- header meant it to be read).
--
-- The escape form is what header_field works on, for the same reason, and slices grow as there. Of
-- a header that goes on behind the last slice those fields are known that begin in it, and the body
-- begins behind the next empty line. But a line that can be no field ends the header however long
-- it is: a text of one line is no header, and no name of a field has a thousand characters.
CREATE OR REPLACE FUNCTION header_extent(raw bytea, start integer, stop integer,
                                         OUT fields text, OUT body integer)
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    slice integer;
    head  text;
    rest  text;
    known boolean := false;
BEGIN
    FOREACH slice IN ARRAY ARRAY[4096, 65536, 262144] LOOP
        head := encode(substring(raw FROM start FOR greatest(least(slice, stop - start), 0)),
                       'escape');
        fields := substring(head FROM
            '^(?:[!-9;-~]+[ \t]*:[^\n]*(?:\n|$)(?:[ \t][^\n]*(?:\n|$))*)*');
        rest := substr(head, length(fields) + 1);
        -- The line behind is seen whole, or is no beginning of a field, nor of an empty line.
        known := slice >= stop - start OR strpos(rest, E'\n') > 0
                 OR rest !~ '^(?:[!-9;-~]*[ \t]*|\r)$';
        EXIT WHEN known;
    END LOOP;
    IF known OR length(rest) > 1000 THEN
        body := start + octet_length(decode(fields, 'escape'))
                + CASE WHEN rest ~ '^\r?\n' THEN strpos(rest, E'\n') ELSE 0 END;
    ELSE
        fields := head;
        body := least(bytes_position(raw, '\x0a0a', start + slice - 2, stop) + 2,
                      bytes_position(raw, '\x0a0d0a', start + slice - 2, stop) + 3,
                      stop);
    END IF;
END
$$;

COMMENT ON FUNCTION header_extent(bytea, integer, integer) IS
    'of the message, or part of one, from byte start to before stop: its header fields, folded, in '
    'the escape form of bytea, and the byte with which its body begins';

-- The escape form of bytes as text; without a backslash it is that already.
CREATE OR REPLACE FUNCTION escaped_text(escaped text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN strpos(escaped, E'\\') = 0 THEN escaped
            ELSE message_text(decode(escaped, 'escape')) END;

COMMENT ON FUNCTION escaped_text(text) IS 'message_text of bytes in their escape form';

CREATE OR REPLACE FUNCTION header_fields(fields text)
RETURNS TABLE ("position" integer, name text, value text)
LANGUAGE sql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
    SELECT field.number::integer,
           escaped_text(field.match[1]),
           escaped_text(btrim(regexp_replace(field.match[2], '\r?\n', '', 'g'), E' \t\r'))
    FROM regexp_matches(fields, '([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)', 'g')
         WITH ORDINALITY AS field (match, number)
$$;

COMMENT ON FUNCTION header_fields(text) IS
    'the fields of header_extent one by one: unfolded, not decoded';

CREATE OR REPLACE FUNCTION message_headers(id uuid)
RETURNS TABLE ("position" integer, name text, value text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    oldest timestamptz := statement_timestamp() - retention();
    raw    bytea;
BEGIN
    -- The newest, should a message that came back from a dump have two times.
    SELECT substring(m.raw FROM 1 FOR 262145) INTO raw
    FROM messages m
    WHERE m.id = message_headers.id AND m.received_at > oldest
    ORDER BY m.received_at DESC
    LIMIT 1;
    RETURN QUERY
    SELECT f.position, f.name,
           CASE WHEN strpos(f.value, '=?') = 0 THEN f.value ELSE header_decode(f.value) END
    FROM header_extent(raw, 1, octet_length(raw) + 1) AS e, header_fields(e.fields) AS f
    ORDER BY f.position;
END
$$;

COMMENT ON FUNCTION message_headers(uuid) IS
    'the header fields of an unexpired message in their order, from the first 256 kB: position '
    'from 1, name as written, value unfolded and with encoded words decoded; no rows for an id '
    'that is unknown or has expired';
