-- Bytes as text, whatever bytes they are.

-- Each attempt is one pass over the bytes, and nearly all mail ends with the first. PostgreSQL's
-- text cannot hold NUL and its bytea cannot replace one, so a message with NULs is first rewritten
-- with byte 1 as an escape (1 'a' for 1, 1 'b' for NUL), by way of the form that shows NUL as \000;
-- in pieces, because that form is up to four times as long.
CREATE OR REPLACE FUNCTION message_text(raw bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    piece   CONSTANT integer := 1048576;
    escaped bytea;
    result  text;
BEGIN
    BEGIN
        RETURN pg_catalog.convert_from(raw, 'UTF8');
    EXCEPTION WHEN character_not_in_repertoire THEN NULL;
    END;
    BEGIN
        RETURN pg_catalog.convert_from(raw, 'LATIN1');
    EXCEPTION WHEN character_not_in_repertoire THEN NULL;
    END;

    SELECT string_agg(decode(replace(replace(replace(
                          encode(substring(raw FROM at FOR piece), 'escape'),
                          E'\\\\', E'\\134'), E'\x01', E'\x01a'), E'\\000', E'\x01b'), 'escape'),
                      ''::bytea ORDER BY at)
    INTO escaped
    FROM generate_series(1, octet_length(raw), piece) AS at;
    BEGIN
        result := pg_catalog.convert_from(escaped, 'UTF8');
    EXCEPTION WHEN character_not_in_repertoire THEN
        result := pg_catalog.convert_from(escaped, 'LATIN1');
    END;
    RETURN replace(replace(result, E'\x01b', E'\uFFFD'), E'\x01a', E'\x01');
END
$$;

COMMENT ON FUNCTION message_text(bytea) IS
    'bytes as text: as UTF-8 where they are valid, else each byte as Latin-1; NUL as U+FFFD; '
    'never an error';
