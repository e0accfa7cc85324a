-- The parts of an address, for every text there is: nothing here can fail, because storer's insert
-- would fail with it.
--
-- Lower case is Unicode's, by ICU's root collation, so that it does not depend on the database's
-- locale (a Turkish one makes ı of I); a server built without ICU folds A to Z alone.

SELECT CASE WHEN EXISTS (SELECT FROM pg_collation
                         WHERE collname = 'und-x-icu'
                           AND collnamespace = 'pg_catalog'::regnamespace)
            THEN 'und-x-icu' ELSE 'C' END AS folding
\gset

-- Names of mailboxes are cut at 512 characters: four bytes each are what an index entry can hold.
CREATE OR REPLACE FUNCTION mailbox_name(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN left(lower(name COLLATE :"folding"), 512);

COMMENT ON FUNCTION mailbox_name(text) IS
    'a mailbox as deliveries.username holds it: lower case, at most 512 characters';

CREATE OR REPLACE FUNCTION address_domain(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN strpos(address, '@') = 0 THEN ''
            ELSE lower(split_part(address, '@', -1) COLLATE :"folding") END;

COMMENT ON FUNCTION address_domain(text) IS
    'what follows the last @ of an address, in lower case; empty where there is none';

-- A quoted string means what it would mean without its quotes and backslashes (RFC 5321, section
-- 4.1.2): "bob"@example.org and bob@example.org are one mailbox.
CREATE OR REPLACE FUNCTION address_username(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN mailbox_name(
    CASE WHEN strpos(address, '@') = 0 THEN address
         WHEN strpos(address, '"') = 0 THEN
             left(address, -1 - length(split_part(address, '@', -1)))
         ELSE regexp_replace(
                  regexp_replace(left(address, -1 - length(split_part(address, '@', -1))),
                                 '^"(.*)"$', '\1'),
                  '\\(.)', '\1', 'g')
    END);

COMMENT ON FUNCTION address_username(text) IS
    'what stands before the last @ of an address, without quotes, in lower case; the whole '
    'address where there is no @';
