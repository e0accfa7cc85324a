"""storer: from files to rows, each message once, whatever stands in the way."""

import spool as spool_format
from deadline import wait_for


def stored(database):
    return database.value("SELECT count(*) FROM messages")


def test_a_message_becomes_a_row_and_its_file_goes(programs, spool, database):
    storer = programs.storer(spool, database)
    id = spool.put(b"Subject: x\r\n\r\nbody\r\n", ["Bob@T.example", '"carol"@t.example'],
                   mail_from="a@c.example")
    wait_for(lambda: stored(database) == 1, "the message is stored")
    wait_for(lambda: not spool.new(), "the file is removed")
    row = database.query("SELECT id::text, mail_from, host(client), helo, protocol, size, raw"
                         " FROM messages")[0]
    raw = spool_format.raw_of(b"Subject: x\r\n\r\nbody\r\n", "a@c.example")
    assert row[:5] == (id, "a@c.example", "192.0.2.1", "c.example", "ESMTP")
    assert row[5] == len(raw)
    assert bytes(row[6]) == raw
    assert database.query("SELECT position, recipient, username, domain, message_id::text"
                          " FROM deliveries ORDER BY position") == [
        (1, "Bob@T.example", "bob", "t.example", id),
        (2, '"carol"@t.example', "carol", "t.example", id)]
    assert storer.log(event="stored", id=id)
