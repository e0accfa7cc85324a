"""Checklist D6: DATA. Where data ends has a file of its own, and so have the trace fields and the
disk's failures."""

import random
import time

import pytest

from deadline import wait_for
from programs import memory_slack
from scale import scaled
from smtp import stuffed

MIB = 1 << 20


def sent(smtpd, stored, wire):
    """Sends what goes over the wire, its end included; returns the message that was stored."""
    with smtpd.session("D") as client:
        client.send(wire)
        return stored.message(client.reply(250, "2.0.0").id)


def test_d6_01_start(smtpd):
    with smtpd.session("R") as client:
        client.command("DATA", 354)


def test_d6_02_no_recipient(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_REJECT_RECIPIENTS="bad@")
    with smtpd.session("M") as client:
        client.command("DATA", 503, "5.5.1")
        client.command("RCPT TO:<bad@t.example>", 550, "5.1.1")
        client.command("DATA", 554, "5.5.1")
        client.command("RCPT TO:<b@t.example>", 250, "2.1.5")
        client.command("DATA", 354)


def test_d6_03_one_reply_with_the_id(smtpd, stored):
    with smtpd.session("D") as client:
        client.send(b"x\r\n.\r\n")
        reply = client.reply(250, "2.0.0")
        client.expect_silence(0.2)
        client.alive()
    assert stored.new() == [reply.id]
    assert reply.text == f"Ok: queued as {reply.id}"
    assert stored.message().body == b"x\r\n"


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["held in memory", "written in pieces"])
def test_d6_03_durable_before_the_reply(programs, spool, faults, size):
    smtpd = programs.smtpd(spool, **faults.settings())
    with smtpd.session("D") as client:
        faults.forget()
        client.send(b"x" * size + b"\r\n.\r\n")
        client.reply(250, "2.0.0")
        calls = faults.trace()
    before = calls[:calls.index("reply")]
    assert calls.count("reply") == 1 and before.count("rename") == 1
    renamed = before.index("rename")
    # The name is synced after it was made, by the directory's fsync or with the whole file system.
    assert "fsync" in before[renamed:] or "syncfs" in before[renamed:], calls
    # Without syncfs, what the name stands for must have been synced before.
    assert "fsync" in before[:renamed] or "syncfs" in before[renamed:], calls


def test_d6_03_the_reply_waits_for_the_disk(programs, spool, faults):
    smtpd = programs.smtpd(spool, **faults.settings())
    with smtpd.session("D") as client:
        faults.delay("rename", 1)
        start = time.monotonic()
        client.send(b"x\r\n.\r\n")
        client.reply(250, "2.0.0")
        assert time.monotonic() - start >= 1


def test_d6_04_empty_message(smtpd, stored):
    assert sent(smtpd, stored, b".\r\n").body == b""


@pytest.mark.parametrize("wire, want", [
    (b"..\r\n...a\r\n.b\r\n.\r\n", b".\r\n..a\r\nb\r\n"),
    (b"\r\n.\r\n", b"\r\n"),
    (b"a.\r\n.\r\n", b"a.\r\n"),
    (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
    (b"..\r\n.\r\n", b".\r\n"),
    (b". \r\n.\r\n", b" \r\n"),
])
@pytest.mark.parametrize("step", [None, 1], ids=["whole", "bytewise"])
def test_d6_05_dot_transparency(smtpd, stored, wire, want, step):
    with smtpd.session("D") as client:
        client.send(wire, sizes=step)
        assert stored.message(client.reply(250, "2.0.0").id).body == want


@pytest.mark.parametrize("split", range(16))
def test_d6_06_end_in_segments(smtpd, stored, split):
    # Bit n of the number: whether the end is cut behind its nth octet.
    sizes, length = [], 1
    for bit in range(4):
        if split >> bit & 1:
            sizes.append(length)
            length = 0
        length += 1
    with smtpd.session("D") as client:
        client.send(b"x")
        client.send(b"\r\n.\r\n", sizes=sizes, pause=0.01)
        id = client.reply(250, "2.0.0").id
        client.alive()
    assert stored.message(id).body == b"x\r\n"


def test_d6_07_commands_after_the_end(smtpd, stored):
    with smtpd.session("D") as client:
        client.send("x\r\n.\r\nNOOP\r\n"
                    "MAIL FROM:<a2@c.example>\r\nRCPT TO:<b2@t.example>\r\nDATA\r\n")
        first = client.reply(250, "2.0.0").id
        for code, enhanced in [(250, "2.0.0"), (250, "2.1.0"), (250, "2.1.5"), (354, None)]:
            client.reply(code, enhanced)
        client.send(b"y\r\n.\r\n")
        second = client.reply(250, "2.0.0").id
    assert stored.message(first).body == b"x\r\n"
    assert stored.message(second).body == b"y\r\n"
    assert stored.message(second).mail_from == "a2@c.example"


@pytest.mark.parametrize("length", [997, 998, 999])
def test_d6_10_lines_of_a_thousand_octets(smtpd, stored, length):
    line = b"x" * length + b"\r\n"
    assert sent(smtpd, stored, line * 3 + b".\r\n").body == line * 3


@pytest.mark.parametrize("filling", [b"x", b".", b"x.", b"\r", b"\n"])
def test_d6_11_long_lines(smtpd, stored, filling):
    body = filling * ((1 << 20) // len(filling)) + b"x\r\n"
    assert sent(smtpd, stored, stuffed(body) + b".\r\n").body == body


def test_d6_12_every_octet(smtpd, stored):
    body = bytes(range(256)) * 4 + bytes(reversed(range(256))) + b"\0\0\r\n"
    assert sent(smtpd, stored, stuffed(body) + b".\r\n").body == body


@pytest.mark.parametrize("power", range(9, 22))
def test_d6_12_sizes_where_buffers_end(smtpd, stored, power):
    with smtpd.session("E") as client:
        bodies = [random.Random(size).randbytes(size) for size in around(1 << power)]
        ids = [client.mail(body) for body in bodies]
    for id, body in zip(ids, bodies):
        assert stored.message(id).body == body + b"\r\n"


def around(size):
    """Lengths at which the message, with or without its last CRLF and the trace fields, is near."""
    return [size + by for by in (-300, -4, -3, -2, -1, 0, 1)]


@pytest.mark.parametrize("size", [1001, 5000, 3_000_000])
def test_d6_13_too_big(programs, spool, size):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=1000)
    with smtpd.session("D") as client:
        client.send(b"x" * (size - 2) + b"\r\n.\r\n")
        client.reply(552, "5.3.4")
        client.expect_silence(0.1)
        assert spool.new() == [] and spool.tmp() == []
        client.mail(b"x" * 998)
    assert len(spool.messages()) == 1


def test_d6_13_too_big_for_memory(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=2_000_000)
    with smtpd.session("D") as client:
        client.send(b"x" * 2_000_000 + b"\r\n.\r\n")
        client.reply(552, "5.3.4")
        wait_for(lambda: spool.tmp() == [], "tmp/ is clean")
        assert spool.new() == []
        client.mail(b"x" * 1_999_998)
    assert spool.message().body == b"x" * 1_999_998 + b"\r\n"


def test_d6_13_endless_data(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=MIB)
    before = most = smtpd.memory()
    with smtpd.session("D") as client:
        for _ in range(scaled(10_240, 128)):
            client.send(b"x" * MIB)
            most = max(most, smtpd.memory())
        assert sum(path.stat().st_size for path in spool.directory("tmp").iterdir()) <= 2 * MIB
        client.content(b"")
        client.reply(552, "5.3.4")
        client.alive()
    assert most - before < memory_slack(4 * MIB)
    assert spool.new() == [] and spool.tmp() == []


def test_d6_15_buffers_cleared(smtpd, stored):
    with smtpd.session("D") as client:
        client.send(b"first\r\n.\r\n")
        client.reply(250, "2.0.0")
        client.command("RCPT TO:<late@t.example>", 503, "5.5.1")
        client.command("DATA", 503, "5.5.1")
        id = client.mail(b"second", "a2@c.example", ["b2@t.example"])
    message = stored.message(id)
    assert message.mail_from == "a2@c.example"
    assert message.recipients == ["b2@t.example"]
    assert message.body == b"second\r\n"


def test_d6_16_cleared_after_failure(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=1000)
    with smtpd.session("D") as client:
        client.send(b"x" * 1000 + b"\r\n.\r\n")
        client.reply(552, "5.3.4")
        client.command("DATA", 503, "5.5.1")
        client.command("RCPT TO:<late@t.example>", 503, "5.5.1")
        client.mail(b"second", "a2@c.example", ["b2@t.example"])
    assert spool.message().recipients == ["b2@t.example"]


def test_d6_22_quick_reply(smtpd):
    # smtpd has no database to wait for: none is running here. The best of several, since the disk
    # and the machine are shared.
    def seconds():
        with smtpd.session("D") as client:
            start = time.monotonic()
            client.send(b"x\r\n.\r\n")
            client.reply(250, "2.0.0")
            return time.monotonic() - start

    assert min(seconds() for _ in range(10)) < 1
