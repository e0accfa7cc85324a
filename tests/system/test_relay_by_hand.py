"""What README says an operator may do with the queue of relay by hand, while relay runs: with the commands
as they stand there.
"""

import os
import subprocess
import time

import pytest

import notices
from deadline import wait_for
from smarthost import SmartHost

LATER, NEVER = "450 4.2.0 Later", "550 5.1.1 Never"
ME, TO = "me@stored.example", ["b@t.example"]


@pytest.fixture
def host():
    with SmartHost() as started:
        yield started


@pytest.fixture
def relay(programs, spool, host):
    return programs.relay(spool, host, RELAY_RESCAN=1)


def shell(spool, line):
    subprocess.run(["sh", "-euc", line], cwd=spool.relay.queue, check=True, timeout=60, stdin=subprocess.DEVNULL)


def due(spool, id):
    return (spool.relay.directory("cur") / id).stat().st_mtime


def test_a_deferred_message_is_touched_and_tried(spool, host, relay):
    host.at("RCPT", LATER, times=1)
    id = spool.relay.put(recipients=TO)
    relay.wait_log(event="deferred", id=id)
    first = due(spool, id)
    assert first > time.time() and LATER in spool.relay.reason(id, "cur")
    shell(spool, f"touch cur/{id}")
    sent, = host.wait()
    assert sent.recipients == TO and time.time() < first
    wait_for(lambda: spool.relay.cur() == [], "it has left the queue")


def test_a_deferred_message_is_removed(spool, host, relay):
    host.at("RCPT", LATER, like="b@", times=1)
    id = spool.relay.put(recipients=TO)
    relay.wait_log(event="deferred", id=id)
    shell(spool, f"rm cur/{id}*")
    relay.hurry()
    spool.relay.put(recipients=["c@t.example"])
    assert host.wait()[0].recipients == ["c@t.example"]
    wait_for(lambda: not spool.relay.new(), "the other has left the queue")
    assert (spool.relay.cur(), spool.relay.failed(), spool.new()) == ([], [], [])


def test_a_failed_message_is_put_back_and_goes(programs, spool, host):
    """For those that failed, and no other; and nobody waits for a full look at the queue."""
    relay = programs.relay(spool, host, RELAY_RESCAN=3600)
    host.at("RCPT", NEVER, like="b@", times=1)
    id = spool.relay.put(recipients=["a@t.example", *TO], mail_from=ME)
    relay.wait_log(event="failed", id=id)
    wait_for(lambda: not spool.relay.new() and not spool.relay.cur(), "it is done with")
    time.sleep(2)  # as somebody who types
    shell(spool, f"mv failed/{id} new/{id}")
    assert [sent.recipients for sent in host.wait(2)] == [["a@t.example"], TO]
    wait_for(lambda: not spool.relay.new(), "it has left the queue")
    assert spool.relay.ids("failed") == []


def test_one_that_fails_from_cur_is_put_back_at_once(programs, spool, host):
    """Its name counts as in hand for a moment longer, and its way back is the only event that new/
    has had meanwhile."""
    relay = programs.relay(spool, host, RELAY_RESCAN=3600)
    host.at("RCPT", LATER, times=1)
    id = spool.relay.put(recipients=TO, mail_from=ME)
    relay.wait_log(event="deferred", id=id)
    host.at("RCPT", NEVER, times=1)
    shell(spool, f"touch cur/{id}")
    relay.hurry()
    relay.wait_log(event="failed", id=id)
    os.rename(spool.relay.directory("failed") / id, spool.relay.directory("new") / id)
    sent, = host.wait()
    assert sent.recipients == TO
    wait_for(lambda: not spool.relay.new() + spool.relay.cur(), "it has left the queue")


def test_a_failed_message_that_fails_again_is_said_again(spool, host, relay):
    host.at("RCPT", NEVER, times=1)
    host.at("RCPT", "550 5.1.1 Never ever")
    id = spool.relay.put(recipients=TO, mail_from=ME)
    relay.wait_log(event="failed", id=id)
    shell(spool, f"mv failed/{id} new/{id}")
    wait_for(lambda: len(relay.log(event="failed", id=id)) == 2, "it has failed again")
    assert spool.relay.ids("failed") == [id]
    assert "Never ever" in spool.relay.reason(id)
    said = [notices.read(message.body).text for message in spool.messages()]
    assert ["Never ever" in text for text in said] == [False, True]
