-- Looking for mail in a mailbox, by what lists show of it: subject and sender.

-- The collation is that of addresses.sql.
CREATE OR REPLACE FUNCTION words_occur(words text, place text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN NOT EXISTS (
    SELECT
    FROM regexp_split_to_table(lower(left(words, 1000) COLLATE :"folding"), '\s+') AS word
    WHERE strpos(lower(coalesce(place, '') COLLATE :"folding"), word) = 0);

COMMENT ON FUNCTION words_occur(text, text) IS
    'whether all of these words, or beginnings or pieces of words, stand in a text: in any order '
    'and in any case; of words, 1000 characters count';

-- As inbox, with its order, its pages, and its reasons; but a message is looked into before it is
-- known whether it counts, and how many of a mailbox do nobody knows. So no more than a thousand
-- are looked at, and one at a time: a full page ends the work. (LIMIT 1 says to the planner what it
-- says in emails.sql.) Who wants to look further back says before what. Of a field, 2048 characters
-- are decoded, more than a subject has and less than inbox takes for its fifty: a thousand hostile
-- ones are to take seconds.
--
-- The sender is what a reader takes for it, the field From, which anybody can write, or the
-- reverse-path.
CREATE OR REPLACE FUNCTION inbox_search(username text, in_subject text DEFAULT NULL,
                                        in_sender text DEFAULT NULL,
                                        max_rows integer DEFAULT 50,
                                        before timestamptz DEFAULT NULL)
RETURNS TABLE (id bigint, message_id uuid, received_at timestamptz, sender text, header_from text,
               recipient text, subject text, size bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    mailbox text        := mailbox_name(inbox_search.username);
    oldest  timestamptz := statement_timestamp() - retention();
    newest  timestamptz := coalesce(before, 'infinity');
    page    integer     := greatest(coalesce(max_rows, 50), 0);
BEGIN
    RETURN QUERY
    SELECT *
    FROM (SELECT d.id, d.message_id, d.received_at, m.mail_from, shown.header_from, d.recipient,
                 shown.subject, m.size
          FROM (SELECT deliveries.id, deliveries.received_at, deliveries.message_id,
                       deliveries.recipient
                FROM deliveries
                WHERE deliveries.username = mailbox
                  AND deliveries.received_at > oldest
                  AND deliveries.received_at < newest
                ORDER BY deliveries.received_at DESC
                LIMIT 1000) AS d,
               LATERAL (SELECT messages.mail_from, messages.size, messages.raw
                        FROM messages
                        WHERE messages.id = d.message_id AND messages.received_at = d.received_at
                        LIMIT 1) AS m,
               LATERAL (SELECT left(header_decode(left(header_value(e.fields, 'subject'), 2048)),
                                    1000) AS subject,
                               left(header_decode(left(header_value(e.fields, 'from'), 2048)),
                                    1000) AS header_from
                        FROM header_extent(m.raw, 1, least(octet_length(m.raw), 65536) + 1) AS e
                        LIMIT 1) AS shown
          WHERE (in_subject IS NULL OR words_occur(in_subject, shown.subject))
            AND (in_sender IS NULL
                 OR words_occur(in_sender, m.mail_from || ' ' || coalesce(shown.header_from, '')))
          ORDER BY d.received_at DESC
          FETCH FIRST (page) ROWS WITH TIES) AS found
    ORDER BY found.received_at DESC, found.id DESC;
END
$$;

COMMENT ON FUNCTION inbox_search(text, text, text, integer, timestamptz) IS
    'the newest unexpired mail of a mailbox (any case) with all words of in_subject in its subject, '
    'and all of in_sender in its field From or its reverse-path, in any case; received before a '
    'moment if one is given; pages are those of inbox; looks at the newest 1000 messages, and at '
    'the first 2048 characters of a field';
