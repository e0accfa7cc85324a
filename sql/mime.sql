-- The pieces of MIME: a parameter of a field, an encoded body, its text. None ever fails.

-- One field of header_extent's, unfolded; the first where there are several, as everywhere.
CREATE OR REPLACE FUNCTION header_value(fields text, name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT
SET search_path FROM CURRENT
RETURN escaped_text(btrim(regexp_replace(
    substring(fields COLLATE "C"
              FROM '(?i)(?:^|\n)' || name || '[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)'),
    '\r?\n', '', 'g'), E' \t\r'));

COMMENT ON FUNCTION header_value(text, text) IS
    'the first of the fields of header_extent that has this name, unfolded; the name is a pattern';

-- RFC 2231 lets a value be percent-encoded in a charset (name*=utf-8''%E2%82%AC) and come in
-- sections (name*0="a"; name*1*=%20b), of which the first names the charset. Where a sender gives
-- the plain form too, for old readers, that one is the poorer.
CREATE OR REPLACE FUNCTION mime_parameter(field text, parameter text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    plain    text;
    sections text;
    first    text;          -- of the sections, where it is an encoded one
    charset  text := 'utf-8';
BEGIN
    WITH given AS (
        SELECT lower(match[1] COLLATE "C") AS key,
               CASE WHEN match[2] ~ '^".*"$'
                    THEN regexp_replace(substr(match[2], 2, length(match[2]) - 2),
                                        '\\(.)', '\1', 'g')
                    -- charset=us-ascii (plain text)
                    ELSE btrim(regexp_replace(match[2], '\([^()]*\)[ \t]*$', ''), E' \t"')
               END AS value,
               number
        FROM regexp_matches(
                 left(field, 8192),
                 ';[ \t]*([^ \t=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)', 'g')
             WITH ORDINALITY AS each (match, number)
    ), ours AS (
        SELECT *, substring(key FROM '\*([0-9]{1,4})\*?$')::integer AS section
        FROM given
        WHERE split_part(key, '*', 1) = parameter
    ), chosen AS (
        SELECT *, right(key, 1) = '*' AS encoded
        FROM ours
        WHERE key <> parameter
          -- One that is whole is not for being put together.
          AND (section IS NULL) = EXISTS (SELECT FROM ours WHERE key = parameter || '*')
    )
    SELECT (SELECT value FROM ours WHERE key = parameter ORDER BY number LIMIT 1),
           (SELECT CASE WHEN encoded THEN value END FROM chosen ORDER BY section, number LIMIT 1),
           string_agg(CASE WHEN encoded THEN value ELSE replace(value, '%', '%25') END, ''
                      ORDER BY section, number)
    INTO plain, first, sections
    FROM chosen;

    IF sections IS NULL THEN
        RETURN plain;
    END IF;
    IF first LIKE '%''%''%' THEN
        charset := coalesce(nullif(split_part(sections, '''', 1), ''), charset);
        sections := substring(sections FROM '^[^'']*''[^'']*''(.*)$');
    END IF;
    -- As an encoded word has it, with = for %.
    RETURN coalesce(
        charset_text(encoded_word_bytes('Q', replace(replace(replace(
            sections, '=', '=3D'), '_', '=5F'), '%', '=')), charset),
        sections);
END
$$;

COMMENT ON FUNCTION mime_parameter(text, text) IS
    'a parameter of a field such as Content-Type, its name in lower case: unquoted, decoded (RFC '
    '2231); null where there is none';

-- What is not of the alphabet is no part of base64, and = is its end. Nearly always the first
-- attempt is good; what it refuses is cleaned, piece by piece, because the escape form of a piece
-- is up to four times as long.
CREATE OR REPLACE FUNCTION base64_bytes(encoded bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    piece CONSTANT integer := 1048576;
    clean text;
BEGIN
    BEGIN
        clean := pg_catalog.convert_from(encoded, 'UTF8');
        IF strpos(clean, '=') IN (0, length(rtrim(clean, E'= \t\r\n')) + 1) THEN
            RETURN decode(clean, 'base64');
        END IF;
    EXCEPTION WHEN data_exception THEN NULL;
    END;
    SELECT string_agg(regexp_replace(encode(substring(encoded FROM at FOR piece), 'escape'),
                                     '(?:\\(?:\d{3}|\\)|[^A-Za-z0-9+/=\\])+', '', 'g'),
                      '' ORDER BY at)
    INTO clean
    FROM generate_series(1, octet_length(encoded), piece) AS at;
    clean := split_part(clean, '=', 1);
    IF length(clean) % 4 = 1 THEN
        clean := left(clean, -1);
    END IF;
    RETURN coalesce(decode(clean || repeat('=', -length(clean) & 3), 'base64'), '');
END
$$;

COMMENT ON FUNCTION base64_bytes(bytea) IS
    'base64 decoded (RFC 2045): what is not of its alphabet is left out, and = ends it';

-- Taken apart at each =, behind which stand two digits or the end of a line; any other = is itself.
-- White space at the end of a line was added on the way, and hides that end.
CREATE OR REPLACE FUNCTION quoted_printable_bytes(encoded bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    escaped text := encode(encoded, 'escape');
    result  bytea;
BEGIN
    IF strpos(escaped, E' \n') + strpos(escaped, E' \r\n')
       + strpos(escaped, E'\t\n') + strpos(escaped, E'\t\r\n') > 0 THEN
        SELECT string_agg(CASE WHEN right(line, 1) = E'\r'
                               THEN rtrim(left(line, -1), E' \t') || E'\r'
                               ELSE rtrim(line, E' \t') END, E'\n' ORDER BY number)
        INTO escaped
        FROM string_to_table(escaped, E'\n') WITH ORDINALITY AS l (line, number);
    END IF;
    SELECT string_agg(CASE WHEN number = 1 THEN decode(piece, 'escape')
                           WHEN piece ~ '^[0-9A-Fa-f]{2}'
                           THEN decode(left(piece, 2), 'hex') || decode(substr(piece, 3), 'escape')
                           WHEN piece ~ '^\r?\n'
                           THEN decode(substr(piece, strpos(piece, E'\n') + 1), 'escape')
                           ELSE decode('=' || piece, 'escape') END, ''::bytea ORDER BY number)
    INTO result
    FROM string_to_table(escaped, '=') WITH ORDINALITY AS p (piece, number);
    RETURN coalesce(result, '');
END
$$;

COMMENT ON FUNCTION quoted_printable_bytes(bytea) IS
    'quoted-printable decoded (RFC 2045); an = that encodes nothing stands for itself';

CREATE OR REPLACE FUNCTION mime_decode(encoded bytea, encoding text) RETURNS bytea
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
RETURN CASE lower(encoding COLLATE "C")
       WHEN 'base64' THEN base64_bytes(encoded)
       WHEN 'quoted-printable' THEN
           CASE WHEN octet_length(encoded) <= 67108864 THEN quoted_printable_bytes(encoded)
                ELSE encoded END
       ELSE encoded END;

COMMENT ON FUNCTION mime_decode(bytea, text) IS
    'a body without its Content-Transfer-Encoding; as it is where that is another than base64 and '
    'quoted-printable, or where more than 64 MB are quoted-printable';
