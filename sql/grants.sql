-- Who may do what. The owner, mayfly_reaper, may do everything here; PUBLIC nothing.

REVOKE ALL ON FUNCTION
    schema_version(), retention(), set_retention(interval), deliveries_parse(),
    mailbox_name(text), address_username(text), address_domain(text),
    first_day(), partition_name(text, date), partition_state(text, date),
    make_partitions(date), make_partitions_ahead(), expired_partitions(),
    message_text(bytea), header_field(bytea, text), header_decode(text),
    encoded_word_bytes(text, text), charset_text(bytea, text),
    bytes_position(bytea, bytea, integer, integer), header_extent(bytea, integer, integer),
    escaped_text(text), header_fields(text), header_value(text, text), message_headers(uuid),
    mime_parameter(text, text), base64_bytes(bytea), quoted_printable_bytes(bytea),
    mime_decode(bytea, text), mime_entity(bytea, integer, integer, text),
    mime_children(bytea, text, text, text, integer, integer), mime_parts(bytea),
    message_parts(uuid), words_occur(text, text),
    inbox_search(text, text, text, integer, timestamptz),
    inbox(text, integer, timestamptz), notify_mailboxes(text[])
FROM PUBLIC;

-- storer: rows in, nothing out. INSERT … ON CONFLICT DO NOTHING without columns needs no SELECT;
-- what parses an address runs with the rights of who inserts.
GRANT INSERT (id, received_at, mail_from, client, helo, protocol, size, raw)
    ON messages TO mayfly_storer;
GRANT INSERT (message_id, received_at, position, recipient, username, domain)
    ON deliveries TO mayfly_storer;
GRANT USAGE ON SEQUENCE deliveries_id_seq TO mayfly_storer;
GRANT EXECUTE ON FUNCTION
    schema_version(), retention(), make_partitions(date), notify_mailboxes(text[]),
    mailbox_name(text), address_username(text), address_domain(text)
TO mayfly_storer;

-- Readers: what has not expired. The functions of a view run with the rights of who reads it; those
-- that message_headers and the like are made of run with their owner's.
GRANT SELECT ON emails TO mayfly_reader;
GRANT EXECUTE ON FUNCTION
    schema_version(), retention(), inbox(text, integer, timestamptz),
    inbox_search(text, text, text, integer, timestamptz), message_headers(uuid),
    message_parts(uuid),
    mailbox_name(text), address_username(text), address_domain(text),
    message_text(bytea), header_field(bytea, text), header_decode(text),
    encoded_word_bytes(text, text), charset_text(bytea, text)
TO mayfly_reader;
