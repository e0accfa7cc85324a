"""Mail that had to wait: for the database, for storer, for an event that never came."""

import pathlib
import signal
import time

import pytest

from deadline import wait_for
from load import Letter, differences, send_all
from programs import memory_slack
from scale import scaled

MIB = 1 << 20

pytestmark = pytest.mark.deadline(600)


def drained(spool, seconds=300):
    wait_for(lambda: not spool.new(), "new/ is empty", seconds, interval=0.1)


def stored_once(database, ids):
    """Each of these is one message with one delivery, and nothing else is there."""
    once = [(len(ids), len(ids))]
    assert database.query("SELECT count(*), count(DISTINCT id) FROM messages") == once
    assert database.query("SELECT count(*), count(DISTINCT message_id) FROM deliveries") == once
    found = {id for id, in database.query("SELECT id::text FROM messages")}
    assert found == set(ids)


def test_database_down_while_mail_comes(programs, spool, database, cluster):
    smtpd = programs.smtpd(spool)
    storer = programs.storer(spool, database)
    cluster.stop()
    storer.wait_log(level="warn")
    letters = [Letter(number, 200 + number * 37 % 20_000) for number in range(scaled(1000, 300))]
    acknowledged = send_all(smtpd.address, letters, clients=20)
    assert len(spool.new()) == len(letters)
    cluster.start()
    drained(spool)
    assert differences(database, acknowledged) == []
    assert storer.returncode is None


def test_d6_22_quick_reply_with_the_database_down(programs, spool, database, cluster):
    smtpd = programs.smtpd(spool)
    programs.storer(spool, database)
    cluster.stop()

    def seconds():
        start = time.monotonic()
        with smtpd.session("E") as client:
            client.mail()
        return time.monotonic() - start

    assert min(seconds() for _ in range(5)) < 1
    cluster.start()
    drained(spool)


def test_events_lost_while_storer_stood_still(programs, spool, database):
    """More files than the kernel keeps events: libuv does not say that some were lost."""
    events = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    count = min(max(20_000, events + 3000), 100_000)
    # The look that comes by the clock must not be what saves it.
    storer = programs.storer(spool, database, STORER_RESCAN=3600)
    storer.send_signal(signal.SIGSTOP)
    ids = spool.put_many(count)
    storer.send_signal(signal.SIGCONT)
    drained(spool)
    stored_once(database, ids)


def test_events_lost_while_messages_go_on_coming(programs, spool, database):
    storer = programs.storer(spool, database, STORER_RESCAN=3600)
    ids = []
    for _ in range(5):
        storer.send_signal(signal.SIGSTOP)
        ids += spool.put_many(200)
        storer.send_signal(signal.SIGCONT)
        ids += spool.put_many(200)
    drained(spool)
    stored_once(database, ids)


def test_files_waiting_at_start(programs, spool, database):
    ids = spool.put_many(scaled(100_000, 10_000))
    storer = programs.storer(spool, database)
    most = before = storer.memory()
    while spool.new():
        most = max(most, storer.memory())
        time.sleep(0.05)
    # Of the same order whatever waits: a batch, and what libpq needs to send it.
    assert most < memory_slack(96 * MIB), f"{before} at start, {most} at most"
    stored_once(database, ids)
