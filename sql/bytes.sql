-- Finding bytes in bytes, from a place on.

-- position() looks from the beginning only, and a copy of the rest for each thing that is found
-- would make a message of many parts cost the square of its size. Windows begin small, because the
-- next boundary is mostly near, and grow, because they need not be; they overlap by what the sought
-- bytes may lie across.
CREATE OR REPLACE FUNCTION bytes_position(haystack bytea, needle bytea, start integer,
                                          stop integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
DECLARE
    size  CONSTANT integer := octet_length(needle);
    span  integer := 4096 + size;
    place integer := start;
    found integer;
BEGIN
    WHILE place <= stop - size LOOP
        found := position(needle IN substring(haystack FROM place FOR least(span, stop - place)));
        IF found > 0 THEN
            RETURN place + found - 1;
        END IF;
        place := place + span - size + 1;
        span := least(4 * span, 1048576 + size);
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION bytes_position(bytea, bytea, integer, integer) IS
    'where bytes stand first among those from start to before stop, counted from 1; null where '
    'they do not';
