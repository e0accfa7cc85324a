-- Header fields of a stored message, found (RFC 5322) and decoded (RFC 2047). Neither ever fails.

-- The escape form of the bytes is plain ASCII and leads back to them, so that it can be taken apart
-- as text whatever the message holds. What is not found in 64 kB is not there, and a field ends
-- there: a header of nothing but short lines is slow to take apart, and its sender pays nothing.
--
-- What a header is, header_extent says. But a list of a mailbox asks for fifty subjects, so before
-- it is asked, the field is looked for in a smaller slice, as nearly every mailer writes it: a line
-- that begins with the name and a colon, neither folded nor long, behind lines that are fields or
-- the rest of one. Whatever is not just so is left to the careful way.
CREATE OR REPLACE FUNCTION header_field(raw bytea, field text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    head   text;
    small  text;
    name   text;
    place  integer;
    value  text;
    stop   integer;
    extent record;
BEGIN
    IF field ~ '^[A-Za-z0-9-]+$' THEN
        head := E'\n' || encode(substring(raw FROM 1 FOR 2048), 'escape');
        small := lower(head COLLATE "C");
        name := E'\n' || lower(field COLLATE "C");
        place := strpos(small, name || ':');
        IF place > 0 THEN
            value := substr(head, place + length(name) + 1, 1000);
            stop := strpos(value, E'\n');
            small := left(small, place);
        END IF;
        IF stop > 0 AND substr(value, stop + 1, 1) NOT IN (' ', E'\t', '')
            AND strpos(small, name || ' ') = 0 AND strpos(small, name || E'\t') = 0
            AND small ~ '^\n(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*$'
        THEN
            value := btrim(left(value, stop - 1), E' \t\r');
            RETURN CASE WHEN strpos(value, E'\\') = 0 THEN value
                        ELSE message_text(decode(value, 'escape')) END;
        END IF;
    ELSIF field !~ '^[!-9;-~]+$' THEN
        RETURN NULL;
    END IF;
    extent := header_extent(raw, 1, least(octet_length(raw), 65536) + 1);
    RETURN header_value(extent.fields, regexp_replace(field, '[^A-Za-z0-9-]', '\\\&', 'g'));
END
$$;

COMMENT ON FUNCTION header_field(bytea, text) IS
    'the first header field of that name (any case) in the first 64 kB of a message, unfolded, not '
    'decoded; null where there is none';

-- The bytes of an encoded word's text, or null where it is not well formed.
CREATE OR REPLACE FUNCTION encoded_word_bytes(encoding text, encoded text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
BEGIN
    IF upper(encoding) = 'B' THEN
        RETURN decode(encoded || repeat('=', -length(encoded) & 3), 'base64');
    END IF;
    IF encoded ~ '=(?![0-9A-Fa-f]{2})' THEN
        RETURN NULL;
    END IF;
    -- =E4 becomes the character U+00E4, and that the byte.
    RETURN pg_catalog.convert_to(unistr(regexp_replace(
        replace(replace(encoded, E'\\', E'\\\\'), '_', ' '),
        '=(..)', E'\\\\00\\1', 'g')), 'LATIN1');
EXCEPTION
    WHEN data_exception THEN RETURN NULL;
END
$$;

COMMENT ON FUNCTION encoded_word_bytes(text, text) IS
    'the bytes of an RFC 2047 encoded word, encoding B or Q; null where it is broken';

-- Bytes in a charset as mail names it; null where PostgreSQL does not know it, or the bytes are not
-- valid in it. PostgreSQL knows most of the registered names; the others here are common in mail.
CREATE OR REPLACE FUNCTION charset_text(bytes bytea, charset text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    -- RFC 2231 lets a language follow: utf-8*en.
    name text := lower(split_part(charset, '*', 1));
BEGIN
    name := CASE
        WHEN name IN ('us-ascii', 'ascii') THEN 'utf8'
        WHEN name ~ '^cp-?125[0-8]$' THEN 'win' || right(name, 4)
        WHEN name IN ('cp866', 'ibm866') THEN 'win866'
        WHEN name IN ('iso-8859-8-i', 'iso-8859-8-e') THEN 'iso-8859-8'
        WHEN name IN ('gb2312', 'cp936', 'x-gbk') THEN 'gbk'
        WHEN name IN ('ks_c_5601-1987', 'cp949') THEN 'uhc'
        WHEN name IN ('x-sjis', 'cp932', 'windows-31j') THEN 'sjis'
        WHEN name IN ('tis-620', 'iso-8859-11') THEN 'win874'
        ELSE name
    END;
    RETURN pg_catalog.convert_from(bytes, name);
EXCEPTION
    WHEN data_exception OR undefined_object OR undefined_function OR feature_not_supported THEN
        RETURN NULL;
END
$$;

COMMENT ON FUNCTION charset_text(bytea, text) IS
    'bytes in a charset as text; null where the charset is unknown or the bytes are not valid in '
    'it';

-- Words next to each other are shown without the white space between them, and where a mailer has
-- cut a character in two, the halves are decoded as one. What cannot be decoded stays as it stands,
-- and so does all of a field that is longer than anyone reads.
CREATE OR REPLACE FUNCTION header_decode(field text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    result  text := '';
    token   text[];          -- word, charset, encoding, encoded text; or the fifth: anything else
    bytes   bytea;
    run     bytea;           -- of the words that are decoded as one
    words   text;            -- the same as they stand in the field
    charset text;
    decoded text;
    gap     text := '';      -- white space behind the run
    lead    text := '';      -- white space between the run before and this one
    joins   boolean := false; -- the run before was decoded
BEGIN
    IF strpos(field, '=?') = 0 OR length(field) > 8192 THEN
        RETURN field;
    END IF;
    FOR token IN
        SELECT regexp_matches(
            field, '(=[?]([^?[:space:]]+)[?]([BbQq])[?]([^?[:space:]]*)[?]=)|([^=]+|=)', 'g')
        UNION ALL
        -- Behind the last: what ends the last run.
        SELECT ARRAY[NULL, NULL, NULL, NULL, '']
    LOOP
        bytes := encoded_word_bytes(token[3], token[4]);
        IF run IS NOT NULL THEN
            IF bytes IS NULL AND token[5] ~ '^[[:space:]]+$' THEN
                gap := token[5];
                CONTINUE;
            END IF;
            decoded := charset_text(run, charset);
            IF decoded IS NULL AND lower(token[2]) = lower(charset)
                AND (charset_text(run || bytes, charset) IS NOT NULL
                     OR charset_text(bytes, charset) IS NULL) THEN
                run := run || bytes;
                words := words || gap || token[1];
                gap := '';
                CONTINUE;
            END IF;
            result := result || CASE WHEN joins AND decoded IS NOT NULL THEN '' ELSE lead END
                             || coalesce(decoded, words);
            joins := decoded IS NOT NULL;
            lead := gap;
            gap := '';
            run := NULL;
        END IF;
        IF bytes IS NULL THEN
            result := result || lead || coalesce(token[1], token[5]);
            joins := false;
            lead := '';
        ELSE
            run := bytes;
            words := token[1];
            charset := token[2];
        END IF;
    END LOOP;
    RETURN result;
END
$$;

COMMENT ON FUNCTION header_decode(text) IS
    'a header field with its RFC 2047 encoded words decoded; those that are broken or in an '
    'unknown charset stay as they are';
