-- Telling readers of new mail.

-- For storer, in a transaction of its own after the COMMIT of a batch: a hint, never a reason to
-- store anything again. A payload has at most 7,999 bytes; the longest name of a mailbox takes less
-- than half of that, whatever JSON must escape in it.
CREATE OR REPLACE FUNCTION notify_mailboxes(recipients text[]) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    mailbox text;
    payload text;
BEGIN
    FOR mailbox IN
        SELECT DISTINCT to_json(address_username(recipient))::text
        FROM unnest(recipients) AS recipient
        WHERE recipient IS NOT NULL
    LOOP
        IF octet_length(payload) + octet_length(mailbox) + 2 > 7999 THEN
            PERFORM pg_notify('mayfly', payload || ']');
            payload := NULL;
        END IF;
        payload := coalesce(payload || ',', '[') || mailbox;
    END LOOP;
    IF payload IS NOT NULL THEN
        PERFORM pg_notify('mayfly', payload || ']');
    END IF;
END
$$;

COMMENT ON FUNCTION notify_mailboxes(text[]) IS
    'tells who listens on channel mayfly of new mail for these addresses: JSON arrays of usernames';
