-- What of a former schema holds data, as it was when usernames were generated (commit df3f9df): all
-- else of it, schema.sql replaces. tests/system/test_former.py upgrades this, with rows in it.
GRANT CREATE ON SCHEMA public TO mayfly_reaper;
SET ROLE mayfly_reaper;

CREATE FUNCTION schema_version() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 1;

CREATE TABLE settings (
    one_row   boolean  PRIMARY KEY DEFAULT true CHECK (one_row),
    retention interval NOT NULL CHECK (retention BETWEEN interval '1 second' AND interval '8784 hours')
);
INSERT INTO settings (retention) VALUES (make_interval(secs => 86400));

CREATE FUNCTION address_username(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(regexp_replace(address, '@[^@]*$', ''));
CREATE FUNCTION address_domain(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lower(substring(address FROM '@([^@]*)$'));

CREATE TABLE messages (
    id          uuid        NOT NULL,
    received_at timestamptz NOT NULL,
    mail_from   text        NOT NULL,
    client      inet,
    helo        text,
    protocol    text,
    size        bigint      NOT NULL,
    raw         bytea       NOT NULL,
    PRIMARY KEY (id, received_at)
) PARTITION BY RANGE (received_at);
ALTER TABLE ONLY messages ALTER COLUMN raw SET STORAGE EXTERNAL;

CREATE SEQUENCE deliveries_id_seq;
CREATE TABLE deliveries (
    id          bigint      NOT NULL DEFAULT nextval('deliveries_id_seq'),
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL,
    position    integer     NOT NULL,
    recipient   text        NOT NULL,
    username    text COLLATE "C" GENERATED ALWAYS AS (address_username(recipient)) STORED,
    domain      text COLLATE "C" GENERATED ALWAYS AS (address_domain(recipient)) STORED,
    PRIMARY KEY (received_at, message_id, position),
    UNIQUE (id, received_at)
) PARTITION BY RANGE (received_at);
CREATE INDEX deliveries_mailbox ON deliveries (username, received_at DESC);
CREATE INDEX deliveries_message ON deliveries (message_id);

-- Yesterday, today and tomorrow, so that midnight does not matter.
SELECT format('CREATE TABLE %1$s_%2$s (LIKE %1$s INCLUDING ALL EXCLUDING COMMENTS);'
              'ALTER TABLE %1$s ATTACH PARTITION %1$s_%2$s FOR VALUES FROM (%3$L) TO (%4$L)',
              parent, to_char(day, 'YYYYMMDD'), to_char(day, 'YYYY-MM-DD 00:00:00+00'),
              to_char(day + interval '1 day', 'YYYY-MM-DD 00:00:00+00'))
FROM unnest(ARRAY['messages', 'deliveries']) AS parent,
     generate_series(-1, 1) AS days,
     LATERAL (SELECT (now() AT TIME ZONE 'UTC')::date + days * interval '1 day' AS day) AS dates
\gexec

INSERT INTO messages (id, received_at, mail_from, client, helo, protocol, size, raw)
VALUES ('0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10', now() - interval '1 hour', 'earlier@c.example',
        '192.0.2.1', 'c.example', 'ESMTP', 22, E'Subject: earlier\r\n\r\nhi'),
       ('0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d11', now() - interval '25 hours', 'expired@c.example',
        '192.0.2.1', 'c.example', 'ESMTP', 2, 'hi');
INSERT INTO deliveries (message_id, received_at, position, recipient)
SELECT id, received_at, 1, 'Early+Bird@T.example' FROM messages;
