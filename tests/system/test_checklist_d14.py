"""Checklist D14: abuse and resources. Counters that leak have a file of their own."""

import contextlib
import os
import socket
import time

import pytest

import smtp
from cluster import free_port
from deadline import wait_for
from programs import memory_slack
from scale import scaled

MIB = 1 << 20
KIB = 1 << 10


@pytest.mark.parametrize("line, code",
                         [("FOO", 500), ("", 500), ("MAIL FROM:a", 501), ("EXPN x", 502),
                                        ("DATA", 503), ("MAIL FROM:<a@c.example> X=1", 555)])
def test_d14_01_error_limit(programs, spool, line, code):
    smtpd = programs.smtpd(spool, SMTPD_ERROR_DELAY=0)
    with smtpd.session("E") as client:
        for _ in range(19):
            client.command(line, code)
        client.send(f"{line}\r\nNOOP\r\n")
        client.reply(421, "4.7.0")
        client.expect_close()


def test_d14_01_refused_recipients_are_errors(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_ERROR_DELAY=0, SMTPD_MAX_ERRORS=5,
                           SMTPD_REJECT_RECIPIENTS="bad@")
    with smtpd.session("R") as client:
        client.send("RCPT TO:<bad@t.example>\r\n" * 10)
        for _ in range(4):
            client.reply(550, "5.1.1")
        client.reply(421, "4.7.0")
        client.expect_close()
    assert spool.new() == []


def test_d14_01_success_forgives_nothing(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_ERROR_DELAY=0, SMTPD_MAX_ERRORS=5)
    with smtpd.session("E") as client:
        for _ in range(4):
            client.mail()
            client.command("FOO", 500, "5.5.1")
        client.command("FOO", 421, "4.7.0")
        client.expect_close()


def test_d14_02_error_delay_is_felt_by_nobody_else(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_ERRORS=4, SMTPD_ERROR_DELAY=2)
    with smtpd.session("E") as bad, smtpd.session("E") as good:
        for _ in range(3):
            bad.send("FOO\r\n")
            start = time.monotonic()
            good.alive()
            good.mail()
            bad.reply(500, "5.5.1")
            waited = time.monotonic() - start
        assert waited >= 1.5
        assert len(spool.messages()) == 3


def test_d14_02_every_reply_is_delayed(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_ERRORS=4, SMTPD_ERROR_DELAY=1)
    with smtpd.session("E") as client:
        for _ in range(3):
            client.command("FOO", 500, "5.5.1")
        for _ in range(2):
            start = time.monotonic()
            client.alive()
            assert time.monotonic() - start >= 0.9


def test_d14_03_junk_limit(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_JUNK=10)
    with smtpd.session("E") as client:
        for _ in range(5):
            for _ in range(6):
                client.alive()
            client.mail()
        client.send("NOOP\r\n" * 20)
        codes = []
        while not codes or codes[-1] != 421:
            codes.append(client.reply((250, 421)).code)
        assert 9 <= len(codes) <= 12
        client.expect_close()


def test_d14_03_default(programs, spool):
    smtpd = programs.smtpd(spool)
    with smtpd.session("E") as client:
        client.send("NOOP\r\n" * 1000)
        codes = []
        while not codes or codes[-1] != 421:
            codes.append(client.reply((250, 421)).code)
        assert 990 <= len(codes) <= 1000
        client.expect_close()


@pytest.mark.parametrize("line", ["RSET", "VRFY b", "HELP", "EHLO c.example"])
def test_d14_03_what_is_junk(programs, spool, line):
    smtpd = programs.smtpd(spool, SMTPD_MAX_JUNK=10)
    with smtpd.session("E") as client:
        for _ in range(10):
            if client.command(line).code == 421:
                client.expect_close()
                return
    raise AssertionError("no end of it")


def test_d14_04_connections_of_one_client(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=3)
    inside = [smtpd.session("E", source="127.0.0.2") for _ in range(3)]
    with smtp.Client(smtpd.address, source="127.0.0.2") as late:
        late.reply(421, "4.7.0")
        late.expect_close()
    smtpd.session("E", source="127.0.0.3").quit()
    inside.pop().quit()
    wait_for(lambda: greeting(smtpd, "127.0.0.2") == 220, "the client may come back")
    for client in inside:
        client.alive()


def greeting(smtpd, source):
    with smtp.Client(smtpd.address, source=source) as client:
        return client.reply(bare=True).code


def has_ipv6():
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback")
def test_d14_04_ipv6_client(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_LISTEN="[::1]:0", SMTPD_MAX_CONNECTIONS_PER_CLIENT=2)
    inside = [smtpd.session("E") for _ in range(2)]
    with smtp.Client(smtpd.address) as late:
        late.reply(421, "4.7.0")
        late.expect_close()
    for client in inside:
        client.quit()
    wait_for(lambda: greeting(smtpd, None) == 220, "the client may come back")


def behind_proxy(smtpd, address):
    """A client of that IPv6 address, behind a load balancer."""
    client = smtp.Client(smtpd.address)
    client.send(f"PROXY TCP6 {address} 2001:db8:ffff::25 40000 25\r\n")
    return client


def test_d14_04_a_client_is_an_ipv6_network(programs, spool):
    """The loopback has one address of IPv6: those of a network come through a load balancer."""
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=3,
                           SMTPD_PROXY_CLIENTS="127.0.0.1")
    inside = [behind_proxy(smtpd, f"2001:db8:1:2:{number:x}::{number + 1:x}")
              for number in range(3)]
    for client in inside:
        client.greeting()
    with behind_proxy(smtpd, "2001:db8:1:2:ffff:ffff:ffff:ffff") as late:
        late.reply(421, "4.7.0")
        late.expect_close()
    with behind_proxy(smtpd, "2001:db8:1:3::1") as neighbour:
        neighbour.greeting()
    inside.pop().quit()

    def served():
        with behind_proxy(smtpd, "2001:db8:1:2::9") as client:
            return client.reply(bare=True).code == 220

    wait_for(served, "the network may come back")
    for client in inside:
        client.close()


def trickle(client, piece, pause, seconds=60):
    """Sends a piece again and again until the server says something."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while not client.readable():
            assert time.monotonic() < end, "no end of it"
            client.send(piece)
            time.sleep(pause)


@pytest.mark.parametrize("verb", ["DATA", "BDAT 1000000 LAST"])
def test_d14_06_slow_sender(programs, spool, verb):
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=2, SMTPD_MIN_RATE=1000)
    with smtpd.session("R") as client:
        client.send(f"{verb}\r\n")
        if verb == "DATA":
            client.reply(354)
        trickle(client, b"x", 0.1)
        client.reply(421, "4.4.2")
        client.expect_close()
    assert spool.new() == []


@pytest.mark.parametrize("verb", ["DATA", "BDAT 1000000000 LAST"])
def test_d14_06_data_takes_too_long(programs, spool, verb):
    smtpd = programs.smtpd(spool, SMTPD_MAX_TIME=2, SMTPD_MIN_RATE=0)
    with smtpd.session("R") as client:
        client.send(f"{verb}\r\n")
        if verb == "DATA":
            client.reply(354)
        trickle(client, b"x" * 1000, 0.05)
        client.reply(421, "4.4.2")
        client.expect_close()
    assert spool.new() == []


def test_d14_06_slow_but_steady_sender_is_served(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=1, SMTPD_MIN_RATE=100)
    with smtpd.session("D") as client:
        for _ in range(30):
            client.send(b"x" * 200)
            time.sleep(0.1)
        client.content(b"")
        client.reply(250, "2.0.0")


def test_d14_06_slow_command(programs, spool):
    """A line must end within the time, however many octets come."""
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=2)
    with smtpd.session("E") as client:
        trickle(client, b"N", 0.05, 30)
        client.reply(421, "4.4.2")
        client.expect_close()


LINE = b"NOOP " + b"x" * 2040   # the longest that is still held


def test_d14_08_memory(programs, spool, transport):
    """Half a line of the greatest length from each; what OpenSSL keeps comes on top."""
    count = scaled(1000, 200)
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=count)
    smtpd.session("E").quit()
    before = smtpd.memory()
    clients = [smtpd.session("R") for _ in range(count)]
    for client in clients:
        client.send(LINE)
    clients[-1].expect_silence(0.2)
    each = (8 if transport == "plain" else 64) * KIB
    assert smtpd.memory() - before < memory_slack(MIB + count * each)
    for client in clients:
        client.send("\r\n")
    for client in clients:
        assert client.reply((250, 500)).code
        client.close()


def test_d14_08_content_of_many(programs, spool):
    """Messages that come all at once are on the disk, not in memory."""
    count = scaled(1000, 50)
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=count)
    clients = [smtpd.session("D") for _ in range(count)]
    before = most = smtpd.memory()
    for _ in range(4):
        for client in clients:
            client.send(b"x" * 256 * KIB)
        most = max(most, smtpd.memory())
    for client in clients:
        client.content(b"")
    ids = [client.reply(250, "2.0.0").id for client in clients]
    assert most - before < memory_slack(8 * MIB + count * 300 * KIB)
    assert {spool.directory("new").joinpath(id).stat().st_size > MIB for id in ids} == {True}
    for client in clients:
        client.close()


@pytest.mark.parametrize("how", ["closed", "full", "no reader"])
def test_d14_09_unwritable_log(programs, spool, how):
    port = free_port()
    settings = {"SMTPD_LISTEN": f"127.0.0.1:{port}", "LOG_LEVEL": "debug"}
    ends = ()
    if how == "closed":
        smtpd = programs.smtpd(spool, stderr="closed", **settings)
    else:
        ends = reader, writer = os.pipe()
        if how == "full":
            fill(writer)
        smtpd = programs.smtpd(spool, stderr=writer, **settings)
    if how == "no reader":
        os.close(reader)
        ends = (writer,)
    for _ in range(20):
        with smtp.session(("127.0.0.1", port), "E") as client:
            client.mail()
            client.command("FOO", 500)
    assert len(spool.messages()) == 20
    smtpd.stop()
    for end in ends:
        os.close(end)


def fill(writer):
    """Fills a pipe, and leaves it as blocking as it was."""
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1))
    os.set_blocking(writer, True)
