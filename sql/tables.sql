-- The two tables of mail, partitioned by day (UTC) of received_at; partitions.sql makes the days.
--
-- received_at is the envelope's and stands in every key, so that a message stored twice meets its
-- own key. There is no CHECK and no foreign key: 23514 then means one thing, a missing partition,
-- and a partition can be detached without looking at the other table.

-- Looked for first: even IF NOT EXISTS, ALTER TABLE and CREATE INDEX wait for every running insert,
-- and hold up the next ones, only to find that there is nothing to do.

SELECT to_regclass('messages') IS NULL AS missing
\gset
\if :missing
CREATE TABLE messages (
    id          uuid        NOT NULL,
    received_at timestamptz NOT NULL,
    mail_from   text        NOT NULL,
    client      inet,
    helo        text,
    protocol    text,
    size        bigint      NOT NULL,
    raw         bytea       NOT NULL,
    -- id first: a message is looked for by the id that the logs and the sender know.
    PRIMARY KEY (id, received_at)
) PARTITION BY RANGE (received_at);

-- Out of line and uncompressed: pglz costs more time than it saves space, and a header is read from
-- the beginning of a message without fetching the rest.
ALTER TABLE ONLY messages ALTER COLUMN raw SET STORAGE EXTERNAL;

COMMENT ON TABLE messages IS
    'received mail, one row a message; holds expired mail too, read emails instead';
COMMENT ON COLUMN messages.id IS 'the id in the reply to the sender, in the logs and in the spool';
COMMENT ON COLUMN messages.received_at IS 'when its data began to come in';
COMMENT ON COLUMN messages.mail_from IS
    'reverse-path as given, without angle brackets; empty for notifications';
COMMENT ON COLUMN messages.client IS 'address of the SMTP client';
COMMENT ON COLUMN messages.helo IS 'what the client called itself';
COMMENT ON COLUMN messages.protocol IS 'SMTP, ESMTP, ESMTPS, …';
COMMENT ON COLUMN messages.size IS 'bytes of raw';
COMMENT ON COLUMN messages.raw IS 'the message, byte for byte';
\endif

SELECT to_regclass('deliveries') IS NULL AS missing
\gset
\if :missing
CREATE SEQUENCE deliveries_id_seq;

COMMENT ON SEQUENCE deliveries_id_seq IS 'deliveries.id';

-- The number comes from a sequence of its own, not from an identity column: a partition made by
-- LIKE cannot have one of those (before PostgreSQL 17, ATTACH drops or refuses them).
CREATE TABLE deliveries (
    id          bigint      NOT NULL DEFAULT nextval('deliveries_id_seq'),
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL,
    position    integer     NOT NULL DEFAULT 1,
    recipient   text        NOT NULL,
    username    text COLLATE "C" NOT NULL,
    domain      text COLLATE "C" NOT NULL,
    PRIMARY KEY (received_at, message_id, position),
    UNIQUE (id, received_at)
) PARTITION BY RANGE (received_at);

COMMENT ON TABLE deliveries IS
    'one row a recipient of a message; holds expired mail too, read emails instead';
COMMENT ON COLUMN deliveries.id IS 'number of the delivery, from one sequence for all days';
COMMENT ON COLUMN deliveries.message_id IS 'messages.id';
COMMENT ON COLUMN deliveries.received_at IS 'messages.received_at';
COMMENT ON COLUMN deliveries.position IS 'place of the recipient in the envelope';
COMMENT ON COLUMN deliveries.recipient IS 'forward-path as given, without angle brackets';
COMMENT ON COLUMN deliveries.username IS 'mailbox: address_username(recipient)';
COMMENT ON COLUMN deliveries.domain IS 'address_domain(recipient)';

CREATE INDEX deliveries_mailbox ON deliveries (username, received_at DESC);
COMMENT ON INDEX deliveries_mailbox IS 'the mail of a mailbox, newest first';

CREATE INDEX deliveries_message ON deliveries (message_id);
COMMENT ON INDEX deliveries_message IS
    'the deliveries of a message whose id the logs or the sender know';
\endif

-- They were generated once, which refuses the rows of a storer that brings them; what they hold
-- stays. The one time that there is something to do, inserts wait while the rows are looked through.
SELECT attgenerated <> '' AS generated
FROM pg_attribute
WHERE attrelid = 'deliveries'::regclass AND attname = 'username'
\gset
\if :generated
ALTER TABLE deliveries
    ALTER COLUMN position SET DEFAULT 1,
    ALTER COLUMN username DROP EXPRESSION, ALTER COLUMN username SET NOT NULL,
    ALTER COLUMN domain DROP EXPRESSION, ALTER COLUMN domain SET NOT NULL;
\endif

-- For rows that come with the address alone: from elsewhere, or from a COPY of storer, where taking
-- the address apart is more than a change of case. Its other rows bring all columns, and the WHEN of
-- the trigger spares them the call. Not generated columns: those refuse a row that brings its
-- own values, as one from a dump does. Each partition gets the trigger with ATTACH.
CREATE OR REPLACE FUNCTION deliveries_parse() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    NEW.username := coalesce(NEW.username, address_username(NEW.recipient));
    NEW.domain := coalesce(NEW.domain, address_domain(NEW.recipient));
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION deliveries_parse() IS
    'fills in the username and domain of a delivery that comes without them';

-- One that was disabled for a restore, and not enabled again, is as good as missing.
SELECT count(*) FILTER (WHERE tgrelid = 'deliveries'::regclass) = 0 AS missing,
       count(*) FILTER (WHERE tgenabled IN ('D', 'R')) > 0 AS disabled
FROM pg_trigger
WHERE tgname = 'deliveries_parse'
  AND (tgrelid = 'deliveries'::regclass
       OR tgrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'deliveries'::regclass))
\gset
\if :missing
CREATE TRIGGER deliveries_parse BEFORE INSERT ON deliveries
    FOR EACH ROW WHEN (NEW.username IS NULL OR NEW.domain IS NULL)
    EXECUTE FUNCTION deliveries_parse();
COMMENT ON TRIGGER deliveries_parse ON deliveries IS
    'for rows that come with the address alone';
\elif :disabled
ALTER TABLE deliveries ENABLE TRIGGER deliveries_parse;
\endif
