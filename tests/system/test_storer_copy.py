"""storer by COPY, the way of what is stored for the first time: what comes of it is what INSERT
makes, and what COPY is refused for is stored all the same."""

import contextlib
import json
import os
import shutil
import signal

import pytest

import spool as spool_format
from deadline import wait_for
from spool import fresh_spool
from test_storer import ago, doubled, heard, ids, listen, make_old, stored
from test_storer_trouble import role, terminate  # noqa: F401

LEAST = 4  # COPY_LEAST

# What each column holds, but for the numbers of the deliveries, which come as they come.
MESSAGES = """SELECT id::text, received_at, mail_from, host(client), family(client),
                     masklen(client), helo, protocol, size, encode(raw, 'hex')
              FROM messages ORDER BY id"""
DELIVERIES = """SELECT message_id::text, received_at, position, recipient, username, domain
                FROM deliveries ORDER BY message_id, position"""

ADDRESSES = [
    "bob@t.example", "BOB@T.Example", "b.o-b+tag_{}~!#$%&'*/=?^`|@t.example", "bob", "Bob", "@",
    "@t.example", "bob@", "bob@T.EXAMPLE.", "a@b@C.example", "A@@b", "@@", "x@[192.0.2.1]",
    "x@[IPv6:2001:DB8::1]", '"bob"@t.example', '"B\\"o\\\\b"@t.example', '"a@b"@t.example',
    'b"o"b@t.example', '"@t.example', '"bob', "b\\ob@t.example", "b\\\\@t.example", "\\@\\",
    "bo b@t.example", "bob @t.example", "bob@t .example", " bob@t.example", "bob@t.example ",
    "ü@exämple.example", "Ü@EXÄMPLE.example", "İstanbul@t.example", "ıI@Iı.example",
    "ΑΣ@ΑΣ.example", "ß@ẞ.example", "漢字@例え.example", "😀@t.example",
    "bob@ÉCOLE.example", "É@t.example", "e\u0301E\u0301@t.example",
    "a" * 512 + "@t.example", "a" * 513 + "@t.example", "A" * 600 + "@T.example", "A" * 512,
    "B" * 513, "c" * 600, "Ä" * 600 + "@t.example", "bob@" + "D" * 900 + ".example",
    "bob@<t.example>", "<bob@t.example", "NULL", "\\N", "(1,2)", "{a,b}",
    "bob@t.example@", "::1@::1", "%s@%d", "'; DROP TABLE deliveries; --@t.example",
]


@pytest.fixture
def storer(programs, spool, database):
    """One that knows the bounds already, and to which no day is missing: its first batch is over."""
    database.query("SELECT make_partitions(current_date - day) FROM generate_series(0, 3) AS day")
    started = programs.storer(spool, database, LOG_LEVEL="debug")
    warm_up(spool)
    return started


def warm_up(spool):
    id = spool.put(mail_from="first@c.example")
    wait_for(lambda: not spool.new(), "the first batch is over")
    return id


@contextlib.contextmanager
def at_once(storer):
    """What is put meanwhile is seen by storer all at once."""
    storer.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        storer.send_signal(signal.SIGCONT)


def check_ways(storer, **wanted):
    """So many messages had the batches that went by `insert`, and those by `copy`. A line may come
    after what it tells of."""
    def ways():
        return {way: [int(batch["messages"]) for batch in storer.log(event="batch", by=way)]
                for way in wanted}
    whole = sum(map(sum, wanted.values()))
    wait_for(lambda: sum(map(sum, ways().values())) >= whole, f"{whole} are said to be stored")
    assert ways() == wanted and len(storer.log(event="batch")) == sum(map(len, wanted.values()))


def refused(storer):
    return [line["sqlstate"] for line in storer.log(event="copy_refused")]


def quiet(storer):
    """Nobody was bothered with what COPY was refused for."""
    for event in ("database_trouble", "setup_error", "set_aside", "passed_over", "database_down",
                  "database_confused"):
        assert not storer.log(event=event), storer.text()


# What each column holds

def some_of_all(spool):
    """Messages of all kinds, to recipients of all kinds."""
    for at in range(0, len(ADDRESSES), 7):
        spool.put(recipients=ADDRESSES[at:at + 7])
    spool.put(recipients=[f"u{number}@t.example" for number in range(3000)])
    spool.put(recipients=["b@t.example", "c@t.example", "b@T.EXAMPLE", "B@t.example"])
    spool.put(mail_from="", raw=bytes(range(256)) * 300, client="2001:db8::1 25")
    spool.put(raw=b"", client="::ffff:192.0.2.1 1", helo="h", protocol="SMTP")
    spool.put(mail_from='"q\\"" ü@c.example', helo='hélo [\\N] "', raw=b"\0\\N\r\n\\.\r\n\xff",
              client="255.255.255.255 65535")
    spool.put(raw=os.urandom(2_000_000), client="0.0.0.0 0")
    spool.put(received=ago(hours=30).replace(microsecond=999_999), client=":: 1")
    spool.put(received=ago(hours=-20).replace(microsecond=1))


def test_rows_are_those_that_insert_makes(programs, spool, cluster, storer, database):
    """The same files into two databases, one of which gets them one at a time."""
    with at_once(storer):
        some_of_all(spool)
        twin = fresh_spool()
        shutil.copytree(spool.path, twin.path, dirs_exist_ok=True)
    other = cluster.create()
    try:
        single = programs.storer(twin, other, STORER_BATCH_MESSAGES=1, LOG_LEVEL="debug")
        for one in (spool, twin):
            wait_for(lambda one=one: not one.new(), "new/ is empty")
        database.query("DELETE FROM messages WHERE mail_from = 'first@c.example'")
        database.query("DELETE FROM deliveries WHERE message_id NOT IN (SELECT id FROM messages)")
        for rows in (MESSAGES, DELIVERIES):
            assert database.query(rows) == other.query(rows)
        assert not spool.failed() and not twin.failed()
        check_ways(storer, insert=[1], copy=[stored(database)])
        check_ways(single, insert=[1] * stored(other), copy=[])
        single.stop()
    finally:
        other.drop()
        shutil.rmtree(twin.path.parent, ignore_errors=True)


def test_mailboxes_are_those_of_the_database_s_own_functions(spool, storer, database):
    """storer takes apart what is plain, and leaves the rest to them: who reads mail must never see
    the difference."""
    with at_once(storer):
        expected = [spool.put(recipients=[address]) for address in ADDRESSES]
    wait_for(lambda: not spool.new(), "new/ is empty")
    check_ways(storer, insert=[1], copy=[len(expected)])
    assert database.query("SELECT recipient, username, domain FROM deliveries WHERE"
                          " (username, domain) IS DISTINCT FROM"
                          " (address_username(recipient), address_domain(recipient))") == []
    assert {row[0] for row in database.query("SELECT recipient FROM deliveries")} >= set(ADDRESSES)
    quiet(storer)


def test_readers_are_told_of_what_was_copied(programs, spool, database):
    connection = listen(database)
    storer = programs.storer(spool, database, LOG_LEVEL="debug")
    warm_up(spool)
    with at_once(storer):
        names = [f"reader{number}" for number in range(LEAST)]
        for name in names:
            spool.put(recipients=[f"{name.upper()}@t.example"])
    payloads = heard(connection, 1 + LEAST)
    assert sorted(name for payload in payloads for name in json.loads(payload)) == ["b", *names]
    check_ways(storer, insert=[1], copy=[LEAST])


# Which way

def test_what_is_few_or_was_tried_before_is_inserted(programs, spool, storer, database):
    with at_once(storer):
        spool.put_many(LEAST - 1)
    wait_for(lambda: not spool.new(), "new/ is empty")
    with at_once(storer):
        spool.put_many(LEAST)
        spool.put(received=ago(days=7, hours=-1))
    wait_for(lambda: not spool.new(), "new/ is empty")
    terminate(database)
    storer.wait_log(event="database_up")
    with at_once(storer):
        spool.put_many(LEAST)
    wait_for(lambda: not spool.new(), "new/ is empty")
    check_ways(storer, insert=[1, LEAST - 1, LEAST + 1, LEAST], copy=[])
    with at_once(storer):
        spool.put_many(LEAST)
    wait_for(lambda: not spool.new(), "new/ is empty")
    check_ways(storer, insert=[1, LEAST - 1, LEAST + 1, LEAST], copy=[LEAST])
    assert stored(database) == 4 * LEAST + 1


def test_what_was_kept_is_inserted_once_more(programs, spool, database):
    """A replay finds its rows there, and is no work for COPY."""
    storer = programs.storer(spool, database, STORER_KEEP=2, STORER_RESCAN=1, LOG_LEVEL="debug")
    first = warm_up(spool)
    with at_once(storer):
        expected = spool.put_many(20)
    wait_for(lambda: not spool.new(), "new/ is empty")
    numbers = delivery_numbers(database)
    wait_for(lambda: not spool.cur(), "cur/ is empty")
    assert ids(database) == sorted([first, *expected])
    assert delivery_numbers(database) == numbers
    replays = len(storer.log(event="batch")) - 2
    assert replays > 0 and len(storer.log(event="batch", by="copy")) == 1 and not refused(storer)


# What COPY is refused for

def delivery_numbers(database):
    """Which change when a delivery is stored anew."""
    return database.query("SELECT id, message_id::text FROM deliveries ORDER BY id")


def test_what_is_stored_already_stays_as_it_is(programs, spool, storer, database):
    """As behind an end between a COMMIT and the removal of its files: a batch of it, and some of it
    among what is new."""
    with at_once(storer):
        expected = spool.put_many(12)
        files = {id: (spool.directory("new") / id).read_bytes() for id in expected}
    wait_for(lambda: not spool.new(), "new/ is empty")
    numbers = delivery_numbers(database)
    check_ways(storer, insert=[1], copy=[12])
    storer.kill()
    for id in expected:
        spool.put(id=id, content=files[id])
    expected += spool.put_many(10)
    storer = programs.storer(spool, database, LOG_LEVEL="debug", STORER_BATCH_MESSAGES=8)
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert set(expected) < set(ids(database)) and stored(database) == len(expected) + 1
    assert delivery_numbers(database)[:len(numbers)] == numbers
    assert not spool.failed() and not doubled(database)
    check_ways(storer, insert=[8, 8], copy=[6])
    assert refused(storer) == ["23505"]
    quiet(storer)


def poison(spool, **fields):
    """A message with a field that is no text for the database."""
    id = spool_format.uuid7()
    content = spool_format.encode(id, spool_format.now(), "a@c.example", ["b@t.example"], b"x")
    for old, new in fields.values():
        assert old in content
        content = content.replace(old, new)
    return spool.put(id=id, content=content)


def test_poison_is_set_aside_alone(spool, storer, database):
    with at_once(storer):
        good = spool.put_many(6)
        bad = {poison(spool, helo=(b"Helo: c.example", b"Helo: c\xff.example")): "22021"}
        good += spool.put_many(6)
        bad[poison(spool, to=(b"To: <b@t", b"To: <b\xc3@t"))] = "22021"
        bad[poison(spool, helo=(b"Helo: c.example", b"Helo: c\0.example"))] = None
        good += spool.put_many(2)
        # The last of its batch: what follows begins behind an error.
        bad[poison(spool, sender=(b"From: <a@c", b"From: <\xed\xa0\x80@c"))] = "22021"
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert stored(database) == len(good) + 1 and set(good) < set(ids(database))
    assert [name for name in spool.failed() if "." not in name] == sorted(bad)
    for id, sqlstate in bad.items():
        assert sqlstate is None or sqlstate in spool.reason(id)
    assert refused(storer) == ["22021"]
    for _ in range(3):
        with at_once(storer):
            good += spool.put_many(5)
        wait_for(lambda: not spool.new(), "new/ is empty")
    assert stored(database) == len(good) + 1
    storer.wait_log(event="batch", by="copy")
    assert not storer.log(event="database_trouble"), storer.text()


def test_a_missing_partition_is_made(spool, storer, database):
    """It was there when the batch before came in."""
    for day in range(3):
        for table in ("messages", "deliveries"):
            database.query(f"DROP TABLE {table}_{ago(days=day):%Y%m%d}")
    with at_once(storer):
        expected = [spool.put(received=ago(days=day)) for day in range(3) for _ in range(4)]
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert ids(database) == sorted(expected)
    with at_once(storer):
        expected += [spool.put(received=ago(days=day)) for day in range(3) for _ in range(4)]
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert ids(database) == sorted(expected)
    check_ways(storer, insert=[1, 12], copy=[12])
    quiet(storer)


@pytest.mark.parametrize("code, said", [("40001", "database_trouble"), ("57014", "copy_refused"),
                                        ("XX000", "copy_refused")])
def test_what_is_no_message_s_fault_is_tried_again(spool, storer, database, code, said):
    """Once, in a COPY and in no INSERT: a sequence is not rolled back. XX000 is what Citus makes of
    whatever a worker says."""
    database.query(f"""
        CREATE SEQUENCE tries;
        CREATE FUNCTION be_moody() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') = 1 THEN
                RAISE EXCEPTION 'not this time' USING ERRCODE = '{code}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER moody AFTER INSERT ON deliveries FOR EACH STATEMENT
            EXECUTE FUNCTION be_moody()""")
    with at_once(storer):
        expected = spool.put_many(10)
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert stored(database) == len(expected) + 1 and not spool.failed()
    assert storer.wait_log(event=said)["sqlstate"] == code
    with at_once(storer):
        expected += spool.put_many(10)
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert stored(database) == len(expected) + 1
    check_ways(storer, insert=[1, 10], copy=[10])


def test_a_retention_that_has_just_become_shorter(spool, storer, database):
    """What it makes expired is stored nowhere that a reader sees it, and is not set aside. The next
    batch knows."""
    database.query("SELECT set_retention(interval '2 hours')")
    with at_once(storer):
        good = spool.put_many(5)
        late = [spool.put(received=ago(hours=3)) for _ in range(2)]
        for id in late:
            make_old(spool.directory("new") / id, ago(hours=3))
    wait_for(lambda: not spool.new(), "new/ is empty")
    check_ways(storer, insert=[1], copy=[7])
    with at_once(storer):
        good += spool.put_many(5)
        later = spool.put(received=ago(hours=3))
        make_old(spool.directory("new") / later, ago(hours=3))
    wait_for(lambda: not spool.new(), "new/ is empty")
    check_ways(storer, insert=[1, 6], copy=[7])
    for id in (*late, later):
        storer.wait_log(event="expired", id=id)
    shown = {id for id, in database.query("SELECT message_id::text FROM emails")}
    assert shown > set(good) and not shown & {*late, later}
    assert later not in ids(database) and not spool.failed()


# How the database is set up

def test_the_group_s_rights_are_enough(programs, spool, database, role):
    storer = programs.storer(spool, database.url_as(role), LOG_LEVEL="debug")
    warm_up(spool)
    with at_once(storer):
        for at in range(0, len(ADDRESSES), 7):
            spool.put(recipients=ADDRESSES[at:at + 7])
    wait_for(lambda: not spool.new(), "new/ is empty")
    check_ways(storer, insert=[1], copy=[stored(database) - 1])
    quiet(storer)


SPOILT = {
    "a trigger that is disabled": (
        "23502", "ALTER TABLE deliveries_{day:%Y%m%d} DISABLE TRIGGER deliveries_parse"),
    "rows that are guarded": (
        "0A000", "ALTER TABLE messages ENABLE ROW LEVEL SECURITY;"
                 "CREATE POLICY mail ON messages FOR INSERT TO mayfly_storer WITH CHECK (true)"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_suits_insert_alone_is_no_error(programs, spool, database, role, tmp_path, what):
    """Where an operator has done something to the tables that is nothing to INSERT, it is nothing
    to storer either: it says so once, and copies no more."""
    code, sql = SPOILT[what]
    metrics = tmp_path / "storer.prom"
    storer = programs.storer(spool, database.url_as(role), LOG_LEVEL="debug", METRICS_FILE=metrics)
    warm_up(spool)
    database.query(sql.format(day=spool_format.now()))
    expected = []
    for _ in range(2):
        with at_once(storer):
            expected += spool.put_many(5) + [spool.put(recipients=['"Bob"@t.example'])]
        wait_for(lambda: not spool.new(), "new/ is empty")
    assert set(expected) < set(ids(database)) and not spool.failed()
    assert database.value("SELECT count(*) FROM deliveries WHERE username = 'bob'") == 2
    check_ways(storer, insert=[1, 6, 6], copy=[])
    said, = storer.log(event="copy_refused")
    assert (said["level"], said["sqlstate"]) == ("warn", code)
    quiet(storer)
    storer.stop()
    assert "mayfly_storer_copies_refused_total 1\n" in metrics.read_text()


def test_without_a_retention_nothing_is_removed(spool, storer, database):
    database.query("DELETE FROM settings")
    with at_once(storer):
        expected = spool.put_many(6)
    storer.wait_log(event="setup_error")
    assert refused(storer) == [""]
    assert spool.new() == sorted(expected) and not spool.failed()
    database.query("INSERT INTO settings (retention) VALUES (interval '7 days')")
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert stored(database) == len(expected) + 1 and not doubled(database)
