-- The parts of a message (RFC 2045, RFC 2046), whatever it is: never an error, and bounded. Parts
-- are byte ranges of the message until they are shown, so that a level costs one search of it and
-- no copy. Only slices of it are asked for, which the table, where it lies uncompressed and out of
-- line, gives without fetching the rest.

-- What is known of an entity, which is a message or a part of one, before its body is looked at.
CREATE OR REPLACE FUNCTION mime_entity(raw bytea, start integer, stop integer, fallback text,
                                       OUT content_type text, OUT charset text, OUT boundary text,
                                       OUT disposition text, OUT filename text, OUT encoding text,
                                       OUT body integer)
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    fields text;
    type   text;
    used   text;
    given  text;
BEGIN
    SELECT e.fields, e.body INTO fields, body FROM header_extent(raw, start, stop) AS e;
    type := header_value(fields, 'content-type');
    used := header_value(fields, 'content-disposition');
    -- A type that is none means text/plain (RFC 2045, section 5.2).
    content_type := CASE WHEN type IS NULL THEN fallback ELSE coalesce(
        lower(substring(type FROM '^([^][ \t()<>@,;:\\"/?=]+/[^][ \t()<>@,;:\\"/?=]+)')
              COLLATE "C"), 'text/plain') END;
    charset := lower(mime_parameter(type, 'charset') COLLATE "C");
    -- RFC 2046 has 70 characters at most, none of which ends a line: one that holds line ends could
    -- begin within itself, and long ones cost their length at each place.
    given := rtrim(mime_parameter(type, 'boundary'));
    boundary := CASE WHEN octet_length(given) <= 200 AND given !~ '[\x01-\x1f\x7f]'
                     THEN given END;
    disposition := lower(substring(used FROM '^([^ \t;()]+)') COLLATE "C");
    -- Encoded words have no place in a parameter, but many put them there, and all read them; a name
    -- that is longer than names are, in each of a thousand parts, is not worth the work.
    given := coalesce(mime_parameter(used, 'filename'), mime_parameter(type, 'name'));
    filename := CASE WHEN length(given) <= 1000 THEN header_decode(given) ELSE given END;
    encoding := substring(header_value(fields, 'content-transfer-encoding') FROM '^([^ \t;()]+)');
END
$$;

COMMENT ON FUNCTION mime_entity(bytea, integer, integer, text) IS
    'what the header of an entity from byte start to before stop says of it, and the byte with '
    'which its body begins; fallback is the type of one that names none';

-- The entities directly in another. Lines that begin with the delimiter and go on are strays (a
-- boundary may be the beginning of another). After a thousand parts the rest is one part, and so it
-- is after ten strays and the multipart's share, by its bytes, of a thousand: a whole level of a
-- message is worth a thousand, or a hostile one would have them in each of a thousand multiparts.
-- The line end before a delimiter belongs to it.
CREATE OR REPLACE FUNCTION mime_children(raw bytea, content_type text, boundary text, encoding text,
                                         body integer, stop integer)
RETURNS TABLE (number integer, child_start integer, child_stop integer)
LANGUAGE plpgsql IMMUTABLE
SET search_path FROM CURRENT
AS $$
DECLARE
    most  CONSTANT integer := 1000;
    delimiter      bytea;
    place          integer := greatest(body - 1, 1);
    behind         integer;
    line           text;
    dashes         text;
    strays         integer := 0;
    most_strays    bigint;
BEGIN
    number := 0;
    IF content_type IN ('message/rfc822', 'message/global') THEN
        IF coalesce(lower(encoding COLLATE "C"), '') NOT IN ('base64', 'quoted-printable') THEN
            number := NULL;
            child_start := body;
            child_stop := stop;
            RETURN NEXT;
        END IF;
        RETURN;
    ELSIF content_type NOT LIKE 'multipart/%' OR coalesce(boundary, '') = '' THEN
        RETURN;
    END IF;
    delimiter := pg_catalog.convert_to(E'\n--' || boundary, 'UTF8');
    most_strays := 10 + most::bigint * (stop - body) / octet_length(raw);
    LOOP
        place := bytes_position(raw, delimiter, place, stop);
        EXIT WHEN place IS NULL OR number = most OR strays > most_strays;
        behind := place + octet_length(delimiter);
        line := encode(substring(raw FROM behind FOR least(stop - behind, 100)), 'escape');
        dashes := substring(line FROM '^((?:--)?)[ \t]*\r?(?:\n|$)');
        IF dashes IS NULL OR (strpos(line, E'\n') = 0 AND behind + 100 < stop) THEN
            place := place + 1;
            strays := strays + 1;
            CONTINUE;
        END IF;
        IF child_start IS NOT NULL THEN
            number := number + 1;
            -- A slice, not get_byte, which would fetch the whole message each time.
            child_stop := greatest(child_start, place - CASE
                WHEN substring(raw FROM place - 1 FOR 1) = '\x0d' THEN 1 ELSE 0 END);
            RETURN NEXT;
            child_start := NULL;
        END IF;
        EXIT WHEN dashes = '--';
        -- The line end of this delimiter may be the one before the next.
        child_start := CASE strpos(line, E'\n') WHEN 0 THEN stop
                                                ELSE behind + strpos(line, E'\n') END;
        place := child_start - 1;
    END LOOP;
    IF child_start IS NOT NULL THEN
        number := number + 1;
        child_stop := stop;
        RETURN NEXT;
    END IF;
END
$$;

COMMENT ON FUNCTION mime_children(bytea, text, text, text, integer, integer) IS
    'the parts of a multipart as byte ranges, or the message in an attached one, which has no '
    'number; no rows for anything else';

-- Depth first is how parts are shown, and breadth first how they are found, so that the limit on
-- their number cuts the deepest and not the text of the message. An entity whose parts were not found, or
-- too deep to be looked for, is shown as a part itself, with its bytes.
--
-- Generic plans, here and in all that this calls, for the caller has the opposite: a plan for the
-- value of raw has a copy of the message in it, and each part's would be made anew.
CREATE OR REPLACE FUNCTION mime_parts(raw bytea)
RETURNS TABLE (number text, content_type text, charset text, disposition text, filename text,
               size integer, content bytea, content_text text)
LANGUAGE plpgsql IMMUTABLE STRICT ROWS 5
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE entities AS (
        SELECT NULL::integer[] AS parent, true AS is_message, 0 AS depth, e.*,
               octet_length(raw) + 1 AS stop,
               CASE WHEN e.content_type LIKE 'multipart/%' THEN '{}'::integer[]
                    ELSE '{1}'::integer[] END AS path,
               false AS attached
        FROM mime_entity(raw, 1, octet_length(raw) + 1, 'text/plain') AS e
        UNION ALL
        SELECT p.path, c.number IS NULL, p.depth + 1, e.*,
               c.child_stop,
               CASE WHEN c.number IS NOT NULL THEN pg_catalog.array_append(p.path, c.number)
                    WHEN e.content_type LIKE 'multipart/%' THEN p.path
                    ELSE pg_catalog.array_append(p.path, 1) END,
               p.attached OR c.number IS NULL
        FROM entities AS p,
             LATERAL mime_children(raw, p.content_type, p.boundary, p.encoding, p.body, p.stop)
                     AS c,
             LATERAL mime_entity(raw, c.child_start, c.child_stop,
                                 CASE p.content_type WHEN 'multipart/digest' THEN 'message/rfc822'
                                                     ELSE 'text/plain' END) AS e
        WHERE p.depth < 32
    ), known AS MATERIALIZED (
        SELECT * FROM entities LIMIT 1000
    ), shown AS (
        SELECT e.*,
               EXISTS (SELECT FROM known c
                       WHERE c.parent OPERATOR(pg_catalog.=) e.path
                       AND c.is_message = (e.content_type NOT LIKE 'multipart/%')) AS has_children
        FROM known AS e
    )
    -- A message that is a multipart shares its path with its parts' parent, and has none of its own:
    -- shown itself, it is the part that it would have been without parts.
    SELECT pg_catalog.array_to_string(CASE WHEN s.is_message AND s.content_type LIKE 'multipart/%'
                                           THEN pg_catalog.array_append(s.path, 1)
                                           ELSE s.path END, '.'),
           s.content_type, s.charset, s.disposition, s.filename,
           coalesce(octet_length(c.content), s.stop - s.body), c.content,
           CASE WHEN s.content_type ~ '^(text|message|multipart)/'
                     AND octet_length(c.content) <= 67108864
                THEN coalesce(charset_text(c.content, coalesce(s.charset, 'utf-8')),
                              message_text(c.content)) END
    FROM shown AS s,
         LATERAL (SELECT CASE WHEN NOT s.has_children
                                   OR s.content_type NOT LIKE 'multipart/%' AND NOT s.attached
                              THEN mime_decode(substring(raw FROM s.body FOR s.stop - s.body),
                                               s.encoding) END AS content OFFSET 0) AS c
    WHERE NOT (s.is_message AND s.has_children AND s.content_type LIKE 'multipart/%')
    ORDER BY s.path, s.is_message;
END
$$;

COMMENT ON FUNCTION mime_parts(bytea) IS
    'the parts of a message, as message_parts shows them';

CREATE OR REPLACE FUNCTION message_parts(id uuid)
RETURNS TABLE (number text, content_type text, charset text, disposition text, filename text,
               size integer, content bytea, content_text text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 5
SET search_path FROM CURRENT
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    oldest timestamptz := statement_timestamp() - retention();
BEGIN
    RETURN QUERY
    SELECT p.*
    FROM (SELECT m.raw
          FROM messages m
          WHERE m.id = message_parts.id AND m.received_at > oldest
          ORDER BY m.received_at DESC
          LIMIT 1) AS newest,
         LATERAL mime_parts(newest.raw) AS p;
END
$$;

COMMENT ON FUNCTION message_parts(uuid) IS
    'the MIME parts of an unexpired message: number as in IMAP (1, 1.2), content decoded, and as '
    'text where it is text; a multipart has parts and no content; no rows for an id that is '
    'unknown or has expired; at most 32 levels and 1000 parts';
