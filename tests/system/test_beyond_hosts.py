"""More than one of each program: hosts with spools of their own into one database, and several
smtpd on one port. Each step is one that the README names."""

import os
import shutil
import threading

import pytest

from cluster import free_port
from deadline import wait_for
from load import Letter, Post, differences, send_all
from spool import fresh_spool

PARTITIONS = ("SELECT inhrelid::regclass::text FROM pg_inherits"
              " WHERE inhparent IN ('messages'::regclass, 'deliveries'::regclass)")
MAKES_PARTITIONS = ("SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name = 'mayfly-storer' AND query ~ 'make_partitions'"
                    " AND wait_event_type = 'Lock'")


@pytest.fixture
def spools():
    """The spools of two hosts."""
    both = fresh_spool().make(), fresh_spool().make()
    yield both
    for spool in both:
        shutil.rmtree(spool.path.parent, ignore_errors=True)


def wait_stored(spools):
    for spool in spools:
        wait_for(lambda: not spool.new(), "new/ is empty", 120)
        assert spool.failed() == []


def test_two_hosts_one_database(programs, spools, database):
    """Both take mail and store it, at the same time."""
    smtpds = [programs.smtpd(spool) for spool in spools]
    for spool in spools:
        programs.storer(spool, database)
    letters = [[Letter(number, 50 + number * 997 % 20_000) for number in range(first, 400, 2)]
               for first in (0, 1)]
    taken = [{}, {}]

    def send(host):
        taken[host] = send_all(smtpds[host].address, letters[host], clients=4)

    senders = [threading.Thread(target=send, args=(host,)) for host in (0, 1)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert [len(ids) for ids in taken] == [200, 200] and not set(taken[0]) & set(taken[1])
    wait_stored(spools)
    assert differences(database, taken[0] | taken[1]) == []
    assert database.query("SELECT count(DISTINCT id), count(*) FROM deliveries") == [(400, 400)]


def test_both_make_the_partition_that_is_missing(programs, spools, database):
    """At the same moment: the lock for which both wait then is let go for one after the other. And
    half of the messages lie in both spools, as where a disk was copied: they are there once."""
    storers = [programs.storer(spool, database) for spool in spools]
    for partition, in database.query(PARTITIONS):
        database.query(f"DROP TABLE {partition}")
    blocker = database.connect()
    blocker.cursor().execute("LOCK TABLE ONLY messages IN SHARE UPDATE EXCLUSIVE MODE")
    ids = spools[0].put_many(200)
    for id in ids[::2]:
        shutil.copy(spools[0].directory("new") / id, spools[1].directory("tmp") / id)
        (spools[1].directory("tmp") / id).rename(spools[1].directory("new") / id)
    wait_for(lambda: database.value(MAKES_PARTITIONS) == 2, "both want to make it")
    blocker.rollback()
    wait_stored(spools)
    assert [str(id) for id, in database.query("SELECT id FROM messages ORDER BY id")] == sorted(ids)
    assert database.query("SELECT count(DISTINCT message_id), count(*) FROM deliveries") == [
        (200, 200)]
    # Waiting longer than its lock_timeout, and meeting the other's copy, are reasons to try again.
    for storer in storers:
        assert not storer.log(level="error")
        assert {line["sqlstate"] for line in storer.log(event="database_trouble")} <= {
            "55P03", "40001"}


def test_one_reaper_leads_and_each_sweeps_its_own_spool(programs, spools, database):
    first = programs.reaper(spools[0], database)
    stale = spools[1].directory("failed") / "0192e4b0-0000-7000-8000-000000000000"
    stale.touch()
    os.utime(stale, (0, 0))
    second = programs.reaper(spools[1], database, ready=False, REAPER_INTERVAL=1,
                             REAPER_RETENTION=1)
    second.wait_log(event="lock_waiting")
    wait_for(lambda: not stale.exists(), "the second one sweeps")
    assert database.value("SELECT extract(epoch FROM retention())") == 604800
    first.stop()
    second.wait_ready()
    assert database.value("SELECT extract(epoch FROM retention())") == 1


def taken(smtpd):
    return len(smtpd.log(event="accepted"))


def test_two_smtpd_on_one_port(programs, spool):
    """One of them is stopped, and comes back, while the other goes on; whoever comes is served.
    (test_restart.py looks at the moment of the stop, again and again.)"""
    settings = {"SMTPD_LISTEN": f"127.0.0.1:{free_port()}", "SMTPD_REUSEPORT": 1}
    staying, leaving = (programs.smtpd(spool, **settings) for _ in range(2))
    with Post(staying.address, pause=0.02) as post:
        wait_for(lambda: taken(leaving) > 10 and taken(staying) > 10, "both take mail")
        leaving.stop()
        before = taken(staying)
        wait_for(lambda: taken(staying) > before + 10, "the other one takes it alone")
        leaving = programs.smtpd(spool, **settings)
        wait_for(lambda: taken(leaving) > 10, "it takes mail again")
    post.check(spool)
