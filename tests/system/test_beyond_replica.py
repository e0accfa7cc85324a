"""A standby for those who read, and in the primary's place when that is gone: each step is one that
the README names, on two real servers."""

import contextlib
import datetime

import psycopg2
import pytest

from deadline import wait_for
from load import Letter, deliver, differences
from queuetool import Tool
from rows import add_mail, make_day, text_of
from standby import ask, configure, pair

READER = "alice"


@pytest.fixture(scope="module")
def servers():
    with pair() as both:
        both.primary.execute(f"CREATE ROLE {READER} LOGIN IN ROLE mayfly_reader")
        yield both


@pytest.fixture
def reader(servers):
    """A reader's session on the standby, which has all that the primary has."""
    servers.standby.catch_up()
    with contextlib.closing(servers.standby.connect(servers.name, READER)) as connection:
        connection.autocommit = True
        yield connection


def rows(connection, sql, *args):
    with connection.cursor() as cursor:
        cursor.execute(sql, args or None)
        return cursor.fetchall() if cursor.description else []


def send(smtpd, numbers, size=300):
    """{id: letter}, acknowledged."""
    with smtpd.session("E", timeout=120) as client:
        return {deliver(client, letter): letter
                for letter in (Letter(number, size) for number in numbers)}


def wait_stored(spool):
    wait_for(lambda: not spool.new(), "new/ is empty", 120)


def now(servers):
    return ask(servers.primary, "SELECT clock_timestamp()")


# Readers

RAW = (b"Return-Path: <a@b>\r\nSubject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\r\n\r\n" + bytes(range(256)))

READABLE = ("SELECT oid::regclass::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
            " AND has_table_privilege(%s, oid, 'SELECT')")
# What a volatile function does may be refused: it could write.
VOLATILE = ("SELECT oid::regprocedure::text FROM pg_proc"
            " WHERE pronamespace = 'public'::regnamespace AND provolatile = 'v'"
            " AND has_function_privilege(%s, oid, 'EXECUTE')")


def test_a_reader_finds_everything_on_the_standby(servers, reader):
    primary = servers.primary.connect(servers.name)
    moment = now(servers)
    id = add_mail(primary, moment, ["Bob@Mayfly.example"], RAW)
    primary.commit()
    primary.close()
    servers.standby.catch_up()
    assert rows(reader, "SELECT pg_is_in_recovery()") == [(True,)]
    assert rows(reader, "SELECT recipient, raw_data, received_at FROM emails WHERE username ="
                        " 'bob' AND message_id = %s", id) == [
        ("Bob@Mayfly.example", text_of(RAW), moment)]
    assert rows(reader, "SELECT sender, subject, size FROM inbox('BOB', 50, %s + interval '1 s')",
                moment) == [("alice@example.org", "grüße", len(RAW))]
    relations = [name for name, in rows(reader, READABLE, "mayfly_reader")]
    assert "emails" in relations
    for relation in relations:
        rows(reader, f"SELECT * FROM {relation}")
    assert rows(reader, VOLATILE, "mayfly_reader") == []
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(reader, "SELECT * FROM messages")
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        rows(reader, "LISTEN mayfly")


def test_who_is_told_by_the_primary_finds_it_on_the_standby(programs, spool, servers, reader):
    """With remote_apply for storer, whose NOTIFY comes behind a COMMIT that has waited for it."""
    servers.primary.execute('CREATE ROLE "mayfly-storer" LOGIN IN ROLE mayfly_storer')
    servers.primary.execute('ALTER ROLE "mayfly-storer" SET synchronous_commit = remote_apply')
    configure(servers.primary, synchronous_standby_names="*")
    told = servers.primary.connect(servers.name, READER)
    told.autocommit = True
    rows(told, "LISTEN mayfly")
    smtpd = programs.smtpd(spool)
    storer = programs.storer(spool, servers.primary.url(servers.name, "mayfly-storer"))
    ask(servers.standby, "SELECT pg_wal_replay_pause()")
    wait_for(lambda: ask(servers.standby, "SELECT pg_get_wal_replay_pause_state()") == "paused",
             "the standby shows nothing new")
    id, = send(smtpd, [1])
    wait_for(lambda: ask(servers.primary, "SELECT count(*) FROM pg_stat_activity"
                                          " WHERE wait_event = 'SyncRep'") == 1, "it is waited for")
    told.poll()
    assert not told.notifies and spool.new() == [id]
    ask(servers.standby, "SELECT pg_wal_replay_resume()")
    wait_for(lambda: told.poll() or told.notifies, "the notification")
    assert rows(reader, "SELECT count(*) FROM emails WHERE message_id = %s", id) == [(1,)]
    told.close()
    storer.stop()
    configure(servers.primary, synchronous_standby_names="")


def test_mail_expires_on_the_standby_by_itself(servers, reader):
    """Nothing comes from the primary in that moment."""
    servers.clear()
    primary = servers.primary.connect(servers.name)
    add_mail(primary, now(servers), ["bob@mayfly.example"])
    primary.commit()
    servers.standby.catch_up()
    assert rows(reader, "SELECT count(*) FROM emails") == [(1,)]
    rows(primary, "SELECT set_retention('2 seconds')")
    primary.commit()
    servers.standby.catch_up()
    servers.standby.hold_back()
    wait_for(lambda: rows(reader, "SELECT count(*) FROM emails") == [(0,)], "it has expired")
    assert rows(reader, "SELECT * FROM inbox('bob')") == []
    rows(primary, "SELECT set_retention('7 days')")
    primary.commit()
    primary.close()
    servers.standby.catch_up()


def test_a_reader_who_does_not_end_holds_up_the_standby_no_longer_than_it_may(servers, reader):
    """When a partition goes: its lock is taken there too, behind the reader's transaction."""
    configure(servers.standby, max_standby_streaming_delay="1s")
    primary = servers.primary.connect(servers.name)
    primary.autocommit = True
    old = now(servers) - datetime.timedelta(9)
    make_day(primary, old)
    servers.standby.catch_up()
    reader.autocommit = False
    rows(reader, "SELECT count(*) FROM emails")
    while steps := rows(primary, "SELECT command FROM expired_partitions()"):
        rows(primary, steps[0][0])
    primary.close()
    servers.standby.catch_up()
    assert ask(servers.standby, f"SELECT to_regclass('messages_{old:%Y%m%d}')",
               servers.name) is None
    with pytest.raises(psycopg2.Error, match="recovery|closed"):
        rows(reader, "SELECT count(*) FROM emails")


# Failover

def test_the_standby_takes_over_and_what_it_lacked_is_replayed(programs, spool, servers):
    """Asynchronous replication, the commands of the README. The last test of these servers."""
    servers.clear()
    smtpd = programs.smtpd(spool)
    # The last batch that left new/ is known until the next one does: its return is found by a scan.
    storer = programs.storer(spool, servers.url, STORER_KEEP=86400, STORER_RESCAN=1)
    sent = send(smtpd, range(100, 110))
    wait_stored(spool)
    servers.standby.catch_up()
    servers.standby.hold_back()
    missing = send(smtpd, range(110, 120))
    wait_stored(spool)
    servers.primary.kill()
    storer.wait_log(event="database_down")
    assert ask(servers.standby, "SELECT pg_promote()")
    while_it_was_away = send(smtpd, range(120, 130))
    wait_stored(spool)
    assert len(storer.log(event="database_up", port=servers.standby.port)) == 1
    database = servers.database(servers.standby)
    lost = differences(database, sent | missing | while_it_was_away)
    assert sorted(text for text in lost if text.startswith("lost")) == sorted(
        f"lost: {(id,)}" for id in missing)
    Tool(spool)("replay")
    wait_stored(spool)
    assert differences(database, sent | missing | while_it_was_away) == []
    assert set(spool.cur()) == set(sent | missing | while_it_was_away)
    storer.stop()
