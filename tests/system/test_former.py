"""What a former version left, saved in tests/former, so that a clone without history can try it as
well: tables with rows in them, and a spool, both of which the present programs take up as theirs.
Where there is a history, test_upgrade.py has the former programs themselves.
"""

import time

import pytest

from cluster import ROOT
from deadline import wait_for
from smarthost import SmartHost
from spool import Spool, now, stamp, uuid7
from test_supervisors import logins_of

SAVED = ROOT / "tests/former"
EARLIER = "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10"

PARENTS = ("messages", "deliveries", "settings")

# What of a table a program or a reader can tell.
SHAPE = """
SELECT table_name, column_name, data_type, is_nullable, column_default, is_generated, collation_name
FROM information_schema.columns
WHERE table_name ~ '^(messages|deliveries|settings)' ORDER BY table_name, column_name
"""


@pytest.fixture
def tables(database, empty_database):
    """A database with the former tables; `database` has brought the roles."""
    loaded = empty_database.cluster.load_schema(empty_database.url, SAVED / "tables.sql")
    assert loaded.returncode == 0, loaded.stderr
    return empty_database


def upgrade(database):
    loaded = database.cluster.load_schema(database.url)
    assert loaded.returncode == 0, loaded.stderr


def test_tables_with_rows_are_brought_up_to_date(tables, database):
    upgrade(tables)
    columns = tables.query(SHAPE)
    assert {row for row in columns if row[0] in PARENTS} \
        == {row for row in database.query(SHAPE) if row[0] in PARENTS}
    # Days that were there have the same columns as those that are new.
    assert len({row[1:] for row in columns if row[0].startswith("deliveries_")}) == 7

    assert tables.value("SELECT retention()").total_seconds() == 86400, "what was set stays"
    assert tables.query("SELECT username, domain, recipient FROM deliveries ORDER BY id") \
        == [("early+bird", "t.example", "Early+Bird@T.example")] * 2
    assert tables.query("SELECT mail_from, raw_data FROM emails") \
        == [("earlier@c.example", "Subject: earlier\r\n\r\nhi")]
    assert tables.query("SELECT subject FROM inbox('early+bird')") == [("earlier",)]
    upgrade(tables)
    assert tables.value("SELECT count(*) FROM messages") == 2


def test_they_take_rows_from_storers_of_either_kind(tables):
    """One brings username and domain, and one that was not restarted yet does not."""
    upgrade(tables)
    with logins_of(tables):
        for position, (names, values) in enumerate([
                ("", ""), (", username, domain", ", 'early+bird', 't.example'")], 2):
            connection = tables.connect(user="mayfly-storer")
            connection.cursor().execute(
                f"INSERT INTO deliveries (message_id, received_at, position, recipient{names})"
                f" VALUES (%s, now(), %s, 'Early+Bird@T.example'{values})", (EARLIER, position))
            connection.commit()
            connection.close()
    assert tables.query("SELECT DISTINCT username, domain FROM deliveries") \
        == [("early+bird", "t.example")]


def test_new_programs_wait_for_the_new_schema(tables, programs, spool):
    """Nor does storer try the old one, which would refuse username and domain of the first mail."""
    tables.query("CREATE FUNCTION retention() RETURNS interval LANGUAGE sql"
                 " RETURN interval '1 day';"
                 " CREATE FUNCTION make_partitions(day date) RETURNS boolean LANGUAGE sql RETURN false;"
                 " ALTER FUNCTION retention() OWNER TO mayfly_reaper;"
                 " ALTER FUNCTION make_partitions(date) OWNER TO mayfly_reaper")
    mail = spool.put_many(3)
    storer = programs.storer(spool, tables, ready=False)
    said = storer.wait_log(event="setup_error")
    assert "version 1" in said["message"] and "schema.sql" in said["remedy"]
    reaper = programs.reaper(spool, tables, ready=False)
    assert "schema.sql" in reaper.wait_log(event="database_not_set_up")["advice"]
    time.sleep(1)
    assert not storer.is_ready() and not reaper.is_ready() and spool.new() == sorted(mail)
    assert len(storer.log(event="setup_error")) == 1
    upgrade(tables)
    storer.wait_ready()
    reaper.wait_ready()
    spool.wait_done()
    assert tables.query("SELECT id::text FROM messages WHERE id::text = ANY(%s) ORDER BY 1", mail) \
        == [(id,) for id in sorted(mail)]


def saved_spool(path):
    """The saved spool at a path, with each message's id and time made new, as the retention wants
    it."""
    spool = Spool(path).make()
    spool.relay.make()
    ids = {}
    for file in sorted((SAVED / "spool").rglob("*")):
        if not file.is_file():
            continue
        id, _, kind = file.name.partition(".")
        if id not in ids:
            moment = now()
            ids[id] = uuid7(moment), stamp(moment)
        content = file.read_bytes()
        if not kind:
            was = content.split(b"X-Envelope-Received: ")[1].split(b"\r\n")[0]
            content = content.replace(id.encode(), ids[id][0].encode()).replace(
                was, ids[id][1].encode())
        place = spool.path / file.relative_to(SAVED / "spool").parent
        (place / ids[id][0]).with_suffix(f".{kind}" if kind else "").write_bytes(content)
    return spool


def test_its_spool_is_taken_up(programs, spool, database):
    old = saved_spool(spool.path)
    both, = old.new()
    message, = old.messages()
    partly, = old.relay.ids("cur")
    assert old.relay.ids("failed") == [partly] and old.relay.new() == [both]
    old.relay.due_in(partly, 0)
    with SmartHost() as smarthost:
        programs.storer(old, database)
        programs.reaper(old, database)
        relay = programs.relay(old, smarthost, SMTPD_DOMAINS="t.example")
        old.wait_done()
        old.relay.wait_done()
        assert smarthost.deliveries() == {("alice@c.example", "carol@far.example"): 1,
                                          ("", "bob@later.example"): 1}
        # And what an operator puts back.
        (old.relay.directory("failed") / partly).rename(old.relay.directory("new") / partly)
        relay.hurry()
        wait_for(lambda: smarthost.deliveries()["", "bob@never.example"] == 1, "it is sent")
        old.relay.wait_done()
    assert database.query("SELECT id::text, mail_from, encode(raw, 'hex') FROM messages") \
        == [(both, "alice@c.example", message.raw.hex())]
    assert database.query("SELECT recipient, username FROM deliveries ORDER BY position") \
        == [('"b o b"@t.example', "b o b"), ("Carol@T.example", "carol")]


def test_the_envelope_is_what_it_was(programs, spool):
    """A former storer or relay takes what smtpd writes now, for it is the same lines."""
    def lines(file):
        head = file.read_bytes().split(b"X-Envelope-Size")[0]
        return [line.split(b":")[0] for line in head.split(b"\r\n")]

    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="t.example", SMTPD_RELAY_CLIENTS="127.0.0.0/8")
    with smtpd.session("E") as client:
        client.mail(b"Subject: both\r\n", "alice@c.example",
                    ['"b o b"@t.example', "Carol@T.example", "carol@far.example"])
    for queue in (spool, spool.relay):
        saved, = (SAVED / "spool" / queue.queue.name / "new").iterdir()
        assert lines(queue.directory("new") / queue.new()[0]) == lines(saved)
