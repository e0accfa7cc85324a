"""relay when the smarthost is away, has enough, or chokes on a message; when its spool holds what is
none of its own, or is taken away; and when it is told to stop in the middle."""

import contextlib
import os
import shutil
import signal
import time

import pytest

import spool as spool_format
from deadline import wait_for
from programs import GRACE_SECONDS, STOP_SECONDS
from scale import scaled
from smarthost import DROP, HANG, OFFERS, SmartHost
from spool import fresh_spool


@pytest.fixture
def host():
    with SmartHost() as started:
        yield started


def once(host):
    """Everything was accepted once."""
    return set(host.deliveries().values()) == {1}


# A host that is away

def gaps(moments):
    return [after - before for before, after in zip(moments, moments[1:])]


def test_tries_are_five_seconds_apart_and_then_twice_that(programs):
    """However many messages wait, and go on coming: it is one host that is away. All goes at once when
    it is back."""
    kinds = [("CONNECT", DROP), ("CONNECT", "421 4.3.2 not now"), ("EHLO", DROP)]
    with contextlib.ExitStack() as stack:
        sites = [Site(programs, stack, step, say) for step, say in kinds]
        for site in sites:
            wait_for(lambda: site.put() or len(site.host.connections) >= 3, "the third try",
                     interval=0.3)
        for site in sites:
            first, second = gaps([connection.opened for connection in site.host.connections])[:2]
            assert first > 4.8 and second > 9.8, site.host.connections
            assert len(site.spool.relay.new()) == len(site.ids) and site.spool.relay.cur() == []
            assert len(site.relay.log(event="smarthost_trouble")) == 1
            site.host.behave()
            site.relay.hurry()
        for site in sites:
            site.host.wait(len(site.ids))
            site.spool.relay.wait_done()
            assert once(site.host) and len(site.host.connections) < 3 + 3
            site.relay.wait_log(event="smarthost_back")


class Site:
    """A host that does something at a step, and a relay with mail for it; apart from all others."""

    def __init__(self, programs, stack, step, say, connections=1):
        self.host = stack.enter_context(SmartHost())
        self.host.at(step, say)
        self.spool = fresh_spool()
        stack.callback(shutil.rmtree, self.spool.path.parent, ignore_errors=True)
        self.ids = self.spool.relay.put_many(20)
        self.relay = programs.relay(self.spool, self.host, RELAY_CONNECTIONS=connections)

    def put(self):
        self.ids.append(self.spool.relay.put(recipients=[f"x{len(self.ids)}@t.example"]))


def test_nobody_listens_at_start(programs, spool, host):
    host.stop()
    relay = programs.relay(spool, host)
    spool.relay.put_many(200)
    assert relay.wait_log(event="smarthost_trouble")["why"] == "unreachable"
    used = relay.cpu_seconds()
    host.start()
    host.wait(200)
    spool.relay.wait_done()
    assert once(host)
    assert relay.cpu_seconds() - used < 10


def test_it_goes_in_the_middle(programs, spool, host):
    """What it had said 250 to is done with; the rest comes when it is back."""
    host.at("END", wait=0.02)
    relay = programs.relay(spool, host)
    spool.relay.put_many(300)
    for count in (50, 100):
        host.wait(count)
        host.stop()
        relay.wait_log(event="smarthost_trouble")
        host.start()
        relay.hurry()
    host.behave()
    relay.hurry()
    spool.relay.wait_done()
    deliveries = host.deliveries()
    assert len(deliveries) == 300 and sum(deliveries.values()) <= 300 + 2 * 4
    assert spool.relay.failed() == []


def test_a_connection_that_served_may_end(programs, spool, host):
    """Hosts end connections that are idle: no trouble, the next message makes another."""
    relay = programs.relay(spool, host)
    for number in range(3):
        spool.relay.put()
        host.wait(number + 1)
        host.restart()
    assert not relay.log(event="smarthost_trouble") and len(host.connections) == 3


# A host that wants less

@pytest.mark.parametrize("step, say", [
    ("MAIL", "421 4.7.0 try again later"), ("MAIL", "450 4.7.0 rate limited"),
    ("RCPT", "454 4.7.0 too much from you"), ("END", "421 4.7.28 unusual rate"),
], ids=["421", "4.7.0", "454", "421 at the end"])
def test_a_rate_limit_slows_all(programs, spool, host, step, say):
    host.at(step, say)
    relay = programs.relay(spool, host, RELAY_CONNECTIONS=3)
    spool.relay.put_many(40)
    assert relay.wait_log(event="smarthost_trouble")["why"] == "throttled"
    time.sleep(1)
    # What the connections had in hand, and nothing since.
    tried = host.commands("MAIL")
    assert tried <= 3 * 2
    assert len(spool.relay.new()) + len(spool.relay.ids("cur")) == 40 and not spool.relay.failed()
    host.behave()
    relay.hurry()
    spool.relay.wait_tried()
    for id in spool.relay.ids("cur"):
        spool.relay.due_in(id, -1)
    relay.hurry()
    spool.relay.wait_done()
    assert len(host.deliveries()) == 40 and once(host)


def test_one_poisonous_message_blocks_no_other(programs, spool, host):
    """The host drops the connection whenever it sees it."""
    host.at("END", DROP, like="poison")
    relay = programs.relay(spool, host, RELAY_CONNECTIONS=1)
    poison = spool.relay.put(mail_from="poison@c.example")
    spool.relay.put_many(30)
    wait_for(lambda: relay.hurry() or not spool.relay.new(), "it has left new/", interval=0.5)
    host.wait(30)
    assert spool.relay.ids("cur") == [poison] and spool.relay.failed() == []
    assert once(host) and len(host.deliveries()) == 30
    assert relay.returncode is None


# Connections

def test_connections_are_kept_and_no_more_than_allowed(programs, spool, host):
    host.at("END", wait=0.05)
    relay = programs.relay(spool, host, RELAY_CONNECTIONS=3)
    spool.relay.put_many(60)
    most = 0
    while len(host.accepted()) < 60:
        most = max(most, host.open())
        time.sleep(0.01)
    spool.relay.wait_done()
    assert most == 3 and len(host.connections) == 3 and once(host)
    assert {connection.ehlo for connection in host.connections} == {"mayfly.example"}
    spool.relay.put()
    host.wait(61)
    assert len(host.connections) == 3
    relay.stop()
    assert all(connection.verbs()[-1] == "QUIT" for connection in host.connections)


def test_limits_that_the_host_states(programs, spool):
    """RFC 9422: so many recipients of a message, and messages of a connection, and no more."""
    with SmartHost(offers=(*OFFERS, "LIMITS RCPTMAX=4 MAILMAX=5")) as host:
        programs.relay(spool, host, RELAY_CONNECTIONS=1)
        spool.relay.put(recipients=[f"b{number}@t.example" for number in range(10)])
        host.wait(3)
        spool.relay.put_many(10, mail_from="many@c.example")
        spool.relay.wait_done()
    assert [len(got.recipients) for got in host.accepted()[:3]] == [4, 4, 2]
    assert [connection.verbs().count("MAIL") for connection in host.connections] == [5, 5, 3]
    assert [connection.verbs()[-1] for connection in host.connections[:2]] == ["QUIT"] * 2


def test_a_second_message_waits_for_no_other(programs, spool, host):
    """A slow transaction takes one connection, not all."""
    host.at("END", HANG, like="slow", times=1)
    programs.relay(spool, host)
    spool.relay.put(mail_from="slow@c.example")
    host.wait_for_command("DATA")
    spool.relay.put_many(20)
    wait_for(lambda: len(spool.relay.new()) == 1, "the others have gone")
    assert len(host.accepted()) == 20


# The spool

def test_torn_forged_and_foreign_files_are_set_aside(programs, spool, host):
    queue = spool.relay.make()
    id, other = spool_format.uuid7(), spool_format.uuid7()
    whole = spool_format.encode(id, spool_format.now(), "a@c.example", ["b@t.example"], b"x" * 100)
    queue.put_many(5)
    bad = [queue.put(content=whole.replace(id.encode(), other.encode())[:-1], id=other),
           queue.put(content=whole, id=spool_format.uuid7()),
           queue.put(content=b"", id=spool_format.uuid7()),
           queue.put(content=os.urandom(3000), id=spool_format.uuid7()),
           queue.put(content=whole[:80], id=spool_format.uuid7())]
    for name in ("README", "core.1234", "a b\nc"):
        (queue.directory("new") / name).write_bytes(whole)
        bad.append(name)
    bad += [spool_format.uuid7() for _ in range(3)]
    (queue.directory("new") / bad[-3]).mkdir()
    (queue.directory("new") / bad[-2]).symlink_to("/etc/passwd")
    os.mkfifo(queue.directory("new") / bad[-1])
    queue.put_many(5)
    programs.relay(spool, host)
    wait_for(lambda: not queue.new(), "nothing is left")
    host.wait(10)
    assert sorted(queue.failed()) == sorted(bad + [f"{name}.reason" for name in bad])
    assert all(queue.reason(name).strip() for name in bad)
    assert spool.new() == [] and len(host.accepted()) == 10


EVIL = ["b@t.example>\r\nRCPT TO:<evil@t.example", "b@t.example\r\nDATA", "b\0@t.example", "b@t.example ",
        "b c@t.example", "b@t.example> SIZE=1", "b\x1b@t.example", "", "b@t.example\n", "<b@t.example>",
        "@x.example:b@t.example", "b@-t.example", "b@t..example", "\x7f@t.example"]


@pytest.mark.parametrize("who", ["recipient", "sender"])
def test_an_address_that_is_none_never_reaches_a_command(programs, spool, host, who):
    """Nobody may write such a file but he who may write into the spool."""
    queue = spool.relay.make()
    ids = [queue.put(mail_from=evil) if who == "sender" else queue.put(recipients=["x@t.example", evil])
           for evil in EVIL if evil or who == "recipient"]
    good = queue.put(recipients=["good@t.example"])
    programs.relay(spool, host)
    wait_for(lambda: not queue.new(), "nothing is left")
    assert queue.cur() == [] and sorted(queue.ids("failed")) == sorted(ids)
    host.wait()
    assert host.deliveries() == {("a@c.example", "good@t.example"): 1} and good
    assert host.commands("MAIL") == 1


def test_where_both_are_there_cur_counts(programs, spool, host):
    """As a crash leaves it behind, in the middle of a record; and nobody waits for the next full look."""
    id = spool.relay.put(recipients=["done@t.example", "left@t.example"])
    received = spool.relay.message(id).received
    spool.relay.put(recipients=["left@t.example"], id=id, received=received, into="cur")
    spool.relay.due_in(id, -1)
    programs.relay(spool, host, RELAY_RESCAN=3600)
    spool.relay.wait_done()
    assert host.deliveries() == {("a@c.example", "left@t.example"): 1}


@pytest.mark.parametrize("what", ["", "relay", "relay/new"])
def test_a_directory_that_is_replaced_is_noticed(programs, spool, host, what):
    relay = programs.relay(spool, host, RELAY_RESCAN=1)
    spool.relay.put()
    host.wait(1)
    spool.relay.wait_done()
    (spool.path / what).rename(spool.path.parent / "old")
    spool.relay.put()
    host.wait(2)
    shutil.rmtree(spool.path / what)
    wait_for(lambda: set(spool_format.DIRECTORIES) <= set(os.listdir(spool.relay.queue))
             if spool.relay.queue.is_dir() else False, "made again")
    spool.relay.put()
    host.wait(3)
    spool.relay.wait_done()
    assert relay.log(event="spool_replaced")


def test_an_event_that_was_lost(programs, spool, host):
    """More files than the kernel keeps events, while relay stands still."""
    relay = programs.relay(spool, host, RELAY_RESCAN=2)
    relay.send_signal(signal.SIGSTOP)
    count = scaled(20_000, 300)
    spool.relay.put_many(count)
    relay.send_signal(signal.SIGCONT)
    host.wait(count, 120)
    spool.relay.wait_done()
    assert once(host)


# Two of them, and the end

def test_the_second_waits_and_takes_over(programs, spool, host):
    first = programs.relay(spool, host)
    second = programs.relay(spool, host, ready=False)
    second.wait_log(event="lock_waiting")
    spool.relay.put_many(20)
    spool.relay.wait_done()
    assert not second.is_ready()
    first.kill()
    second.wait_ready()
    spool.relay.put_many(20)
    host.wait(40)
    spool.relay.wait_done()
    assert sum(host.deliveries().values()) == 40


def test_stopped_while_the_host_is_silent(programs):
    """In time, and nothing is lost: the next one sends it."""
    steps = ["CONNECT", "EHLO", "MAIL", "DATA", "END"]
    with contextlib.ExitStack() as stack:
        sites = [Site(programs, stack, step, HANG, connections=4) for step in steps]
        for site, step in zip(sites, steps):
            wait_for(lambda: len(site.host.transactions) if step == "END" else
                     site.host.open() if step == "CONNECT" else site.host.commands(step),
                     f"it is silent at {step}")
        begin = time.monotonic()
        for site in sites:
            site.relay.end_wanted = True
            site.relay.send_signal(signal.SIGTERM)
        for site in sites:
            assert site.relay.wait() == 0 and site.relay.log(event="stopped")
            assert not site.relay.log(event="handles_left")
            assert not site.relay.log(event="stopped_late")
        assert time.monotonic() - begin < STOP_SECONDS + GRACE_SECONDS
        for site in sites:
            assert sorted(site.spool.relay.new() + site.spool.relay.ids("cur")) == sorted(site.ids)
            site.host.behave()
            programs.relay(site.spool, site.host)
        for site in sites:
            site.host.wait(len(site.ids))
            site.spool.relay.wait_done()
            assert once(site.host)


def test_stopped_in_a_slow_transaction(programs, spool, host):
    """What is in hand is finished: it is not sent again."""
    host.at("END", wait=2)
    relay = programs.relay(spool, host)
    spool.relay.put()
    wait_for(lambda: host.transactions, "the data has come")
    relay.stop()
    spool.relay.wait_done()
    assert once(host) and len(host.transactions) == 1


def test_ready_and_the_spool_is_made(programs, spool, host):
    assert not spool.path.exists()
    host.stop()
    programs.relay(spool, host)   # waits until it is ready, which needs no smarthost
    assert set(os.listdir(spool.relay.queue)) >= set(spool_format.DIRECTORIES)


def test_no_spool_is_possible(programs, spool, host):
    ended = programs.run("relay", **(host.settings() | {"SPOOL": "/proc/nowhere"}))
    assert ended.returncode == 71 and "spool_unusable" in ended.stderr
