-- The newest mail of a mailbox, for lists: of a message only the header is fetched.
--
-- The deliveries are chosen first, from the mailbox index, and only those meet their messages. The
-- moment of expiry is a value and every call is planned with its own values: partitions that cannot
-- matter are left out, and a mailbox that gets all the mail does not spoil the plan for the others.
--
-- The next page is asked for with the last row's received_at. Rows that share theirs (a message to
-- two addresses of one mailbox) are therefore never parted, though a page gets longer than max_rows.

CREATE OR REPLACE FUNCTION inbox(username text, max_rows integer DEFAULT 50,
                                 before timestamptz DEFAULT NULL)
RETURNS TABLE (id bigint, received_at timestamptz, sender text, recipient text, subject text,
               size bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    mailbox text        := mailbox_name(inbox.username);
    oldest  timestamptz := statement_timestamp() - retention();
    newest  timestamptz := coalesce(before, 'infinity');
    page    integer     := greatest(coalesce(max_rows, 50), 0);
BEGIN
    RETURN QUERY
    SELECT d.id, d.received_at, m.mail_from, d.recipient,
           left(header_decode(left(header_field(m.raw, 'Subject'), 8192)), 1000), m.size
    FROM (SELECT deliveries.id, deliveries.received_at, deliveries.message_id,
                 deliveries.recipient
          FROM deliveries
          WHERE deliveries.username = mailbox
            AND deliveries.received_at > oldest
            AND deliveries.received_at < newest
          ORDER BY deliveries.received_at DESC
          FETCH FIRST (page) ROWS WITH TIES) AS d
    JOIN messages m ON m.id = d.message_id AND m.received_at = d.received_at
    ORDER BY d.received_at DESC, d.id DESC;
END
$$;

COMMENT ON FUNCTION inbox(text, integer, timestamptz) IS
    'the newest unexpired mail of a mailbox (any case), received before a moment if one is given: '
    'max_rows, and those that share the moment of the last, which leads to the next page; sender is '
    'the reverse-path, subject has at most 1000 characters';
