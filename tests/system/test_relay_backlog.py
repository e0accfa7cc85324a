"""Mail that has waited long for its smarthost: all of it goes, and relay does not grow with it."""

import re
import time

import pytest

from deadline import wait_for
from postfix import Sink
from programs import memory_slack
from scale import scaled
from smarthost import SmartHost

MIB = 1 << 20
COUNT = scaled(100_000, 3_000)

pytestmark = pytest.mark.deadline(900)


def drained(queue, relay, seconds=600):
    """Waits until the queue is empty; the most memory that was seen."""
    end, most = time.monotonic() + seconds, relay.memory()
    while queue.new() or queue.cur():
        most = max(most, relay.memory())
        assert time.monotonic() < end, f"{len(queue.new())} and {len(queue.cur())} are left"
        time.sleep(0.1)
    return most


def test_files_waiting_at_start(programs, spool):
    with Sink() as sink:
        spool.relay.put_many(COUNT)
        begin = time.monotonic()
        relay = programs.relay(spool, sink)
        before = relay.memory()
        most = drained(spool.relay, relay)
        print(f"{COUNT / (time.monotonic() - begin):.0f} messages a second, {most / MIB:.0f} MiB")
        sink.wait(COUNT)
        # Of the same order whatever waits: what is in hand, and a list of names.
        assert most < memory_slack(before + 48 * MIB), f"{before} at start, {most} at most"
        relay.stop()
        assert sink.counts()["mesg"] == COUNT
    assert spool.relay.failed() == [] and spool.relay.tmp() == []


def test_all_of_it_is_deferred_and_waits(programs, spool):
    """cur/ is full of what is not due: looking through it again and again costs little."""
    count = COUNT // 3
    with SmartHost() as host:
        host.stop()
        spool.relay.put_many(count, into="cur")
        for id in spool.relay.cur():
            spool.relay.due_in(id, 3600)
        relay = programs.relay(spool, host, RELAY_RESCAN=1)
        before = relay.memory()
        host.start()
        new = spool.relay.put()
        host.wait()
        wait_for(lambda: new not in spool.relay.new(), "it is done")
        used = relay.cpu_seconds()
        time.sleep(3)
        # Three looks at most, each at every file.
        assert relay.cpu_seconds() - used < 3 * (0.1 + count * 60e-6)
        assert relay.memory() < memory_slack(before + 16 * MIB)
    assert len(spool.relay.cur()) == count and spool.relay.failed() == []


def test_large_messages_do_not_have_to_fit_in_memory(programs, spool):
    size, count = 20 * MIB, scaled(40, 4)
    body = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * (size // 18)
    with Sink() as sink:
        for _ in range(count):
            spool.relay.put(body)
        relay = programs.relay(spool, sink)
        before = relay.memory()
        most = drained(spool.relay, relay)
        sink.wait(count)
        assert most < memory_slack(before + 16 * MIB), f"{before} at start, {most} at most"


def test_a_hundred_recipients_each(programs, spool):
    """As many as smtpd takes for one message, and more messages than connections."""
    recipients = [f"{'x' * 50}{number}@{'d' * 60}.example" for number in range(100)]
    with SmartHost() as host:
        for _ in range(20):
            spool.relay.put(recipients=recipients)
        relay = programs.relay(spool, host)
        before = relay.memory()
        most = drained(spool.relay, relay)
        host.wait(20)
        assert {len(got.recipients) for got in host.accepted()} == {100}
        assert most < memory_slack(before + 16 * MIB)


def test_what_metrics_say(programs, spool, tmp_path):
    file = tmp_path / "metrics"
    with SmartHost() as host:
        host.at("RCPT", "550 5.1.1 no", like="never")
        host.at("RCPT", "450 4.2.1 busy", like="later")
        relay = programs.relay(spool, host, METRICS_FILE=file)
        for _ in range(7):
            spool.relay.put(recipients=["x@t.example", "y@t.example", "never@t.example",
                                        "later@t.example"], mail_from="")
        wait_for(lambda: len(spool.relay.ids("cur")) == 7 and not spool.relay.new(), "all is tried")
        relay.stop()
    text = file.read_text()
    for result, count in (("accepted", 14), ("deferred", 7), ("failed", 7)):
        assert re.search(rf'^mayfly_relay_recipients_total{{result="{result}"}} {count}$', text, re.M)
    assert re.search(r"^mayfly_relay_connections_total [1-4]$", text, re.M)
