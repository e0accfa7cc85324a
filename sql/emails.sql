-- What readers read: unexpired mail, a row a delivery, newest first.
--
-- security_barrier keeps a reader's own functions from being tried on expired rows, and the view
-- from being taken apart: a reader's ORDER BY … LIMIT does not get inside. So it has the order that
-- mail is read in, and sorts nothing but deliveries; each then looks up its one message as it is
-- asked for, and the reader's LIMIT ends the work before the rest is fetched and decoded. (LIMIT 1
-- says to the planner what the partitioned key does not: a lookup is cheap, and a join of the whole
-- tables is no alternative to it.)
--
-- Deliveries themselves are planned as if all were wanted: of a mailbox with a hundred thousand of
-- them they may all be read and sorted, which takes part of a second, unless random_page_cost is
-- near 1, as for an SSD; then its index is read in order, and only as far as the LIMIT. inbox says
-- how many it wants, and needs no such setting. And every row that is counted has had its message
-- looked up, some microseconds each: count(*) costs what the rows would without their content.
--
-- The view is made beside the old one and takes its place only when it differs: replacing it waits
-- for every transaction that has read it, and holds up those that want to.

CREATE VIEW emails_next WITH (security_barrier) AS
SELECT d.id,
       d.username,
       d.recipient,
       message_text(m.raw) AS raw_data,
       d.received_at,
       d.message_id,
       m.mail_from,
       d.domain,
       m.size
FROM (SELECT *
      FROM deliveries
      -- A subquery is computed once; a function would be called for each row.
      WHERE received_at > (SELECT statement_timestamp() - retention())
      ORDER BY received_at DESC) AS d,
     LATERAL (SELECT messages.mail_from, messages.size, messages.raw
              FROM messages
              WHERE messages.id = d.message_id AND messages.received_at = d.received_at
              LIMIT 1) AS m
ORDER BY d.received_at DESC;

DO $$
DECLARE
    definition text := pg_get_viewdef('emails_next'::regclass);
BEGIN
    IF pg_get_viewdef(to_regclass('emails')) IS DISTINCT FROM definition THEN
        EXECUTE 'CREATE OR REPLACE VIEW emails WITH (security_barrier) AS ' || definition;
        COMMENT ON VIEW emails IS 'unexpired mail, a row a recipient, newest first';
        COMMENT ON COLUMN emails.id IS 'number of the delivery';
        COMMENT ON COLUMN emails.username IS
            'mailbox: what stands before the last @, in lower case';
        COMMENT ON COLUMN emails.recipient IS 'address as the client gave it';
        COMMENT ON COLUMN emails.raw_data IS
            'the whole message as text: UTF-8, else every byte as Latin-1; NUL as U+FFFD';
        COMMENT ON COLUMN emails.received_at IS 'when it was received';
        COMMENT ON COLUMN emails.message_id IS 'the id in the reply to the sender and in the logs';
        COMMENT ON COLUMN emails.mail_from IS 'reverse-path; empty for notifications';
        COMMENT ON COLUMN emails.domain IS 'domain of the recipient, in lower case';
        COMMENT ON COLUMN emails.size IS 'bytes of the message';
    END IF;
END
$$;

DROP VIEW emails_next;
