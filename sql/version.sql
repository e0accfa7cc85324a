-- storer and reaper refuse to work with a schema that is older than they are. In version 1 the
-- database made username and domain itself, and refuses them of a storer.

CREATE OR REPLACE FUNCTION schema_version() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 2;

COMMENT ON FUNCTION schema_version() IS
    'the version of this schema; rises by one with each change that storer or reaper relies on';
