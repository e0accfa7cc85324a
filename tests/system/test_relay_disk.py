"""relay on a disk that fails, or is full: what the smarthost has taken is not sent again, what it has
not is not lost, and all is recorded when the disk is well again."""

import time

import pytest

from deadline import wait_for
from smarthost import SmartHost

A = "a{}@stored.example"
PEOPLE = ["x@t.example", "later@t.example", "never@t.example"]
COUNT = 5


@pytest.fixture
def host():
    with SmartHost() as started:
        started.at("RCPT", "450 4.2.1 busy", like="later")
        started.at("RCPT", "550 5.1.1 no", like="never")
        yield started


def recorded(spool):
    """Each message is deferred for one recipient and has failed for another, and its sender is
    told."""
    queue = spool.relay
    return (queue.new() == [] and [len(queue.ids(name)) for name in ("cur", "failed")] == [COUNT] * 2
            and len(spool.new()) == COUNT and all(
                message.recipients == ["later@t.example"] for message in queue.messages("cur")))


def sent(host):
    return host.deliveries() == {(A.format(number), "x@t.example"): 1 for number in range(COUNT)}


@pytest.mark.parametrize("call, error", [
    ("create", "ENOSPC"), ("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EIO"),
    ("unlink", "EROFS")])
def test_what_cannot_be_recorded_is_recorded_later(programs, spool, faults, host, call, error):
    relay = programs.relay(spool, host, **faults.settings())
    faults.fail(call, error)
    for number in range(COUNT):
        spool.relay.put(recipients=PEOPLE, mail_from=A.format(number))
    host.wait(COUNT)
    relay.wait_log(level="error")
    # Time enough for another try of the record.
    time.sleep(1.5)
    assert sent(host) and relay.returncode is None and not recorded(spool)
    # It asks no more of the smarthost than it can record.
    assert host.commands("MAIL") == COUNT
    faults.clear()
    wait_for(lambda: recorded(spool), "all is recorded")
    wait_for(lambda: spool.relay.tmp() == [], "nothing is left over")
    assert sent(host)
    relay.stop()


def test_stopped_while_nothing_can_be_recorded(programs, spool, faults, host):
    """In time; the next one sends what nobody could write down, and only that."""
    relay = programs.relay(spool, host, **faults.settings())
    spool.relay.put(recipients=["x@t.example"], mail_from="before@c.example")
    spool.relay.wait_done()
    faults.fail("unlink", "EIO")
    id = spool.relay.put(recipients=["x@t.example"], mail_from="after@c.example")
    host.wait(2)
    relay.wait_log(level="error", id=id)
    relay.stop()
    assert spool.relay.new() == [id]
    programs.relay(spool, host)
    spool.relay.wait_done()
    assert host.deliveries() == {("before@c.example", "x@t.example"): 1,
                                 ("after@c.example", "x@t.example"): 2}


def test_a_full_disk(programs, small_disk, host):
    """What is only to be removed is removed; what is to be written waits for room."""
    spool, filler = small_disk("tmpfs", 8)
    relay = programs.relay(spool, host)
    plain = spool.relay.put(recipients=["x@t.example"], mail_from="plain@c.example", into="tmp")
    mixed = spool.relay.put(recipients=PEOPLE, mail_from=A.format(0), into="tmp")
    filler.bytes()
    for id in (plain, mixed):
        (spool.relay.directory("tmp") / id).rename(spool.relay.directory("new") / id)
    host.wait(2)
    wait_for(lambda: spool.relay.new() == [mixed], "what was accepted whole is gone")
    relay.wait_log(level="error")
    time.sleep(1.5)
    assert spool.relay.new() == [mixed] and set(host.deliveries().values()) == {1}
    filler.empty()
    wait_for(lambda: spool.relay.new() == [] and spool.relay.ids("failed") == [mixed]
             and len(spool.new()) == 1, "the rest is recorded")
    assert [message.recipients for message in spool.relay.messages("cur")] == [["later@t.example"]]
    assert set(host.deliveries().values()) == {1}
