"""Mail for relay, and for both queues, on its way to the disk: durable in all of its queues before it
is acknowledged, and in none when that fails."""

import contextlib
import random
import time

import pytest

import smtp
from cluster import free_port
from disk import Filler, mounted
from load import Letter, Rain, deliver
from routing import INSIDE, OUTSIDE, check, codes, relaying, send
from scale import scaled
from spool import Spool


def order(faults):
    return [call for call in faults.trace() if call in ("fsync", "syncfs", "rename", "reply")]


def test_durable_in_both_before_the_reply(programs, spool, faults):
    """What relay can see is durable, and store's is durable before; where nothing is relayed it
    costs what it did."""
    smtpd = relaying(programs, spool, **faults.settings())
    if smtpd.wait_log(event="committing")["method"] == "syncfs":
        store, relay = ["rename", "syncfs"], ["syncfs", "rename", "syncfs"]
        both = ["rename", "syncfs", "rename", "syncfs"]
    else:
        store = relay = ["fsync", "rename", "fsync"]
        both = ["fsync", "fsync", "rename", "fsync", "rename", "fsync"]
    for recipients, want in ((["b@t.example"], store), (["b@far.example"], relay),
                             (["b@t.example", "b@far.example"], both)):
        with smtpd.session("E", source=INSIDE) as client:
            codes(client, *recipients)
            client.command("DATA", 354)
            faults.forget()
            client.content(b"x")
            client.reply(250)
            assert order(faults) == [*want, "reply"]


@pytest.mark.parametrize("call", ["rename", "syncfs", "fsync", "create", "write"])
def test_what_fails_is_in_neither_queue(programs, spool, faults, call):
    smtpd = relaying(programs, spool, **faults.settings())
    with smtpd.session("E", source=INSIDE) as client:
        for size in (100, 300_000):
            codes(client, "b@t.example", "b@far.example")
            client.command("DATA", 354)
            faults.fail(call, "EIO")
            client.content(bytes(size))
            reply = client.reply()
            faults.clear()
            # fsync is not asked for where one syncfs is for all, unless there are pieces.
            if reply.code == 250:
                assert call in ("fsync", "syncfs")
                assert spool.message(reply.id).size > size
                assert spool.relay.message(reply.id).size > size
                spool.clear()
                spool.relay.clear()
            else:
                assert (reply.code, reply.enhanced) == (451, "4.3.0")
            assert spool.new() == spool.relay.new() == spool.tmp() == spool.relay.tmp() == []
        id = client.mail(recipients=["b@t.example", "b@far.example"])
    check(spool, id, ["b@t.example"])
    check(spool.relay, id, ["b@far.example"])


@contextlib.contextmanager
def split(directory, small):
    """A spool one of whose queues is on a small disk of its own, and what fills that."""
    spool = Spool(directory / "spool")
    spool.path.mkdir()
    with mounted(directory, "tmpfs", 8, 1000) as point:
        (spool.path / small).symlink_to(point)
        yield spool, Filler(point)


@pytest.mark.parametrize("small", ["store", "relay"])
def test_disk_full_of_one_queue(programs, tmp_path, small):
    """What is for that queue is put off, with all its recipients; what is for the other is not."""
    with split(tmp_path, small) as (spool, filler):
        smtpd = relaying(programs, spool, SMTPD_MIN_FREE=0)
        queues = {"store": spool, "relay": spool.relay}
        mailboxes = {"store": "b@t.example", "relay": "b@far.example"}
        other = "relay" if small == "store" else "store"
        body = bytes(200_000)
        with smtpd.session("E", source=INSIDE) as client:
            client.mail(recipients=mailboxes.values())  # the directories are made, the disk is used
            for queue in queues.values():
                queue.clear()
            filler.bytes(leave=64 << 10)
            for recipients in ([mailboxes[small]], list(mailboxes.values())):
                codes(client, *recipients)
                client.command("DATA", 354)
                client.content(body)
                client.reply(452, "4.3.1")
                for queue in queues.values():
                    assert queue.new() == queue.tmp() == []
            id = client.mail(body, recipients=[mailboxes[other]])
            check(queues[other], id, [mailboxes[other]], body + b"\r\n")
            filler.empty()
            id = client.mail(body, recipients=mailboxes.values())
            for name, queue in queues.items():
                check(queue, id, [mailboxes[name]], body + b"\r\n")
        smtpd.stop()


def test_room_is_asked_of_both_disks_of_those_who_may_relay(programs, tmp_path):
    with split(tmp_path, "relay") as (spool, _):
        smtpd = relaying(programs, spool, SMTPD_MIN_FREE=16 << 20)
        with smtpd.session("E", source=INSIDE) as client:
            client.command("MAIL FROM:<a@c.example>", 452, "4.3.1")
        send(smtpd, OUTSIDE, "b@t.example")
        smtpd.stop()


def test_each_queue_is_made_durable_in_its_own_way(programs, tmp_path):
    with split(tmp_path, "relay") as (spool, _):
        smtpd = relaying(programs, spool, SMTPD_MIN_FREE=0)
        said = smtpd.wait_log(event="committing")
        assert said.get("method") == "fsync" or (said["store"], said["relay"]) == ("syncfs", "fsync")
        id = send(smtpd, INSIDE, "b@t.example", "b@far.example")
        check(spool, id, ["b@t.example"])
        check(spool.relay, id, ["b@far.example"])
        smtpd.stop()


def test_each_queue_is_flushed_where_it_is(programs, faults_on, tmp_path):
    """Two disks of the kind for which one flush is for all that is on them."""
    spool = Spool(tmp_path / "spool")
    spool.path.mkdir()
    with mounted(tmp_path, "ext4", 24, 1000) as point:
        (spool.path / "relay").symlink_to(point)
        faults = faults_on(Spool(tmp_path))
        smtpd = relaying(programs, spool, SMTPD_MIN_FREE=0, **faults.settings())
        here = smtpd.wait_log(event="committing")
        here = here.get("store", here.get("method"))
        with smtpd.session("E", source=INSIDE) as client:
            codes(client, "b@t.example", "b@far.example")
            client.command("DATA", 354)
            faults.forget()
            client.content(b"x")
            client.reply(250)
            own = ["rename", "syncfs"] if here == "syncfs" else ["fsync", "rename", "fsync"]
            assert order(faults) == [*own, "syncfs", "rename", "syncfs", "reply"]
        smtpd.stop()


class TwoQueues(Rain):
    """Letters for both queues."""

    def _session(self):
        with smtp.session(self.address, "E", timeout=60) as client:
            for _ in range(20):
                if self.over.is_set():
                    return
                number = next(self.numbers)
                letter = Letter(number, 50 + number * 7919 % self.largest,
                                (f"b{number}@t.example", f"b{number}@far.example"))
                self.acknowledged[deliver(client, letter)] = letter


SECONDS = scaled(60, 6)


@pytest.mark.deadline(120 + 3 * SECONDS)
def test_killed_at_random_each_acknowledged_one_is_in_both(programs, spool):
    port = free_port()
    settings = {"SMTPD_LISTEN": f"127.0.0.1:{port}", "SMTPD_RELAY_CLIENTS": "127.0.0.0/8"}
    smtpd = relaying(programs, spool, **settings)
    chance, kills = random.Random(7), 0
    end = time.monotonic() + SECONDS
    with TwoQueues(("127.0.0.1", port), largest=100_000) as rain:
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.05, 0.6))
            smtpd.kill()
            kills += 1
            smtpd = relaying(programs, spool, **settings)
    assert kills >= 3 and len(rain.acknowledged) > 50
    for name, queue in (("t", spool), ("far", spool.relay)):
        messages = {message.id: message for message in queue.messages()}  # each is whole
        for id, letter in rain.acknowledged.items():
            assert messages[id].body == letter.body() + b"\r\n"
            assert messages[id].recipients == [f"b{letter.number}@{name}.example"]
    # What was not acknowledged may be in store alone, and never in relay alone.
    assert set(spool.relay.new()) <= set(spool.new())
