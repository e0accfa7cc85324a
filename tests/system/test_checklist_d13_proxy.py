"""Checklist D13: the PROXY protocol."""

import contextlib
import select
import signal
import time

import pytest

import smtp
from balancer import (
    ALPN, AUTHORITY, CRC32C, LOCAL, NETNS, NOOP, PROXY, SIGNATURE, TCP4, TCP6, TLS, UDP4, UDP6,
    UNIQUE_ID, UNIX, UNSPEC, block, connect, summed, tlv, v1, v2)
from deadline import wait_for
from programs import GRACE_SECONDS, memory_slack
from scale import scaled

PEER = "127.0.0.1"
HEADER_SECONDS = 10
EVERY_TLV = (tlv(ALPN, b"smtp") + tlv(AUTHORITY, b"mx.example") + tlv(NOOP) +
             tlv(UNIQUE_ID, bytes(128)) + tlv(TLS, bytes(5) + tlv(0x21, b"TLSv1.3")) +
             tlv(NETNS, b"blue") + tlv(0xe0, b"ours") + tlv(0xff))
FULL = tlv(NOOP, bytes(4096 - 12 - 3))


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool):
    """One that hears the balancer on the loopback, and shares the name `smtpd` of the others."""
    return module_programs.smtpd(module_spool, SMTPD_PROXY_CLIENTS=f"198.51.100.0/24,{PEER}",
                                 SMTPD_MAX_CONNECTIONS_PER_CLIENT=1000)


def refusals(smtpd):
    return smtpd.log(event="proxy_refused")


@pytest.fixture
def refused_none(smtpd):
    """A function that sees that no header was refused in this test; `id` is a message that was
    accepted behind all of them."""
    before = len(refusals(smtpd))

    def check(id):
        smtpd.wait_log(event="accepted", id=id)
        assert refusals(smtpd)[before:] == []
    return check


def is_refused(smtpd, octets, reason, **how):
    """Octets that are no header: closed without a word, and the log says why."""
    before = len(refusals(smtpd))
    with smtp.Client(smtpd.address) as client:
        client.send(octets, **how)
        client.expect_close(HEADER_SECONDS + GRACE_SECONDS)
    wait_for(lambda: len(refusals(smtpd)) > before, "the refusal is logged")
    said, = refusals(smtpd)[before:]
    assert (said["reason"], said["client"]) == (reason, PEER)


# Headers, and the client that each names (None: the peer itself).
HEADERS = {
    "v1 TCP4": (v1("192.0.2.1"), "192.0.2.1 56324"),
    "v1 TCP4, longest": (v1("255.255.255.254", 65535, "255.255.255.255"), "255.255.255.254 65535"),
    "v1 TCP6": (v1("2001:db8::1"), "2001:db8::1 56324"),
    "v1 TCP6, mapped": (v1("::ffff:192.0.2.1", 1), "192.0.2.1 1"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN, more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2 TCP4": (v2("192.0.2.1"), "192.0.2.1 56324"),
    "v2 TCP6": (v2("2001:db8::1"), "2001:db8::1 56324"),
    "v2 TCP6, mapped": (v2("::ffff:192.0.2.1"), "192.0.2.1 56324"),
    "v2 TCP4, TLVs": (v2("192.0.2.1", tlvs=EVERY_TLV), "192.0.2.1 56324"),
    "v2 TCP6, TLVs": (v2("2001:db8::1", tlvs=EVERY_TLV), "2001:db8::1 56324"),
    "v2 TCP4, checksum": (summed(v2("192.0.2.1", tlvs=EVERY_TLV)), "192.0.2.1 56324"),
    "v2 TCP6, checksum": (summed(v2("2001:db8::1")), "2001:db8::1 56324"),
    "v2 TCP4, longest": (v2("192.0.2.1", tlvs=FULL), "192.0.2.1 56324"),
    "v2 LOCAL": (block(LOCAL, UNSPEC), None),
    "v2 LOCAL, addresses": (block(LOCAL, TCP4, v2("192.0.2.1")[16:]), None),
    "v2 LOCAL, TLVs": (block(LOCAL, UNSPEC, EVERY_TLV), None),
    "v2 UNSPEC": (block(PROXY, UNSPEC), None),
    "v2 UDP4": (block(PROXY, UDP4, bytes(12)), None),
    "v2 UDP6": (block(PROXY, UDP6, bytes(36)), None),
    "v2 UNIX": (block(PROXY, UNIX, bytes(216)), None),
}


@pytest.mark.parametrize("header, named", HEADERS.values(), ids=HEADERS)
def test_d13_06_address(smtpd, stored, header, named):
    """In the envelope, in the trace field and in the log."""
    with connect(smtpd, header, "E") as client:
        port = client.socket.getsockname()[1]
        before = len(smtpd.log(event="refused"))
        client.command("FOO", 500)
        id = client.mail()
        client.quit()
    want = named or f"{PEER} {port}"
    address = want.split()[0]
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    message = stored.message(id)
    assert message.client == want
    assert f"({literal})" in message.received_field
    assert smtpd.wait_log(event="accepted", id=id)["client"] == address
    assert [entry["client"] for entry in smtpd.log(event="refused")[before:]] == [address]


def test_d13_06_address_in_the_database(programs, spool, database):
    """Whatever a header may name is an address there, too."""
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER)
    programs.storer(spool, database)
    named = {}
    for source in ("192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "::1",
                   "::192.0.2.1", "fe80::1", "ff02::1"):
        for header in (v1(source, 0), v2(source, 0)):
            with connect(smtpd, header, "E") as client:
                named[client.mail()] = source
    wait_for(lambda: not spool.new(), "new/ is empty")
    assert spool.failed() == []
    assert dict(database.query("SELECT id::text, host(client) FROM messages")) == named


@pytest.mark.parametrize("header", [v1("192.0.2.1"), v2("2001:db8::1", tlvs=EVERY_TLV)],
                         ids=["v1", "v2"])
def test_d13_06_an_octet_at_a_time(smtpd, stored, header):
    """The greeting comes behind the last one, and not before."""
    with smtp.Client(smtpd.address) as client:
        for octet in header[:-1]:
            client.send(bytes([octet]))
            assert not select.select([client.socket], [], [], 0.002)[0]
        client.expect_silence()
        client.send(header[-1:])
        client.greeting()
        client.to("E")
        id = client.mail()
    assert stored.message(id).client.endswith(" 56324")


@pytest.mark.parametrize("header", [v1("192.0.2.1"), summed(v2("192.0.2.1"))], ids=["v1", "v2"])
def test_d13_06_cut_anywhere(smtpd, refused_none, header):
    for at in range(1, len(header)):
        with smtp.Client(smtpd.address) as client:
            client.send(header + b"EHLO c.example\r\n", sizes=[at], pause=0.01)
            client.greeting()
            client.reply(250, bare=True)
            id = client.mail()
    refused_none(id)


@pytest.mark.parametrize("header, named", [HEADERS["v1 TCP4"], HEADERS["v2 TCP4, longest"],
                                           HEADERS["v2 LOCAL"]], ids=["v1", "v2", "LOCAL"])
def test_d13_06_a_session_in_one_segment(smtpd, stored, header, named):
    """A client that does not wait for the greeting: not one of its octets is lost or used twice."""
    with smtp.Client(smtpd.address) as client:
        client.send(header + b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\n"
                    b"RCPT TO:<b@t.example>\r\nDATA\r\nSubject: x\r\n\r\ny\r\n.\r\nQUIT\r\n")
        client.greeting()
        client.reply(250, bare=True)
        for code in (250, 250, 354):
            client.reply(code)
        id = client.reply(250).id
        client.reply(221)
        client.expect_close()
    assert stored.message(id).body == b"Subject: x\r\n\r\ny\r\n"
    assert named is None or stored.message(id).client == named


@pytest.mark.parametrize("build, others", [
    (v1, ["192.0.2.1"] * 2), (v2, ["192.0.2.1"] * 2), (v2, ["2001:db8::1", "2001:db8::2"]),
    (v2, ["::ffff:192.0.2.1", "192.0.2.1"])], ids=["v1", "v2", "/64", "mapped"])
def test_d13_06_connections_of_a_client(programs, spool, build, others):
    """Counted by the address of the header: the balancer has as many as it likes."""
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER, SMTPD_MAX_CONNECTIONS_PER_CLIENT=2)
    with contextlib.ExitStack() as open:
        first, second = (open.enter_context(connect(smtpd, build(source))) for source in others)
        with smtp.Client(smtpd.address) as client:
            client.send(build(others[0]))
            client.reply(421, ("4.7.0", "4.3.2"))
            client.expect_close()
        for number in range(10):
            open.enter_context(connect(smtpd, build(f"198.51.100.{number}")))
        first.alive()
        second.quit()

        def comes_in():
            with smtp.Client(smtpd.address) as client:
                client.send(build(others[0]))
                return client.reply((220, 421), bare=True).code == 220
        wait_for(comes_in, "a place is free again")


def test_d13_06_connections_of_the_balancer(programs, spool):
    """It is a client itself where it names no other."""
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER, SMTPD_MAX_CONNECTIONS_PER_CLIENT=1)
    with connect(smtpd, block(LOCAL, UNSPEC)), connect(smtpd, v1("192.0.2.1")):
        with smtp.Client(smtpd.address) as client:
            client.send(b"PROXY UNKNOWN\r\n")
            client.reply(421, ("4.7.0", "4.3.2"))
            client.expect_close()


def test_d13_06_one_too_many(programs, spool):
    """All connections count from the start, with or without a header."""
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER, SMTPD_MAX_CONNECTIONS=2)
    with connect(smtpd, v1("192.0.2.1")) as first, smtp.Client(smtpd.address) as silent:
        with smtp.Client(smtpd.address) as client:
            client.send(v1("192.0.2.2"))
            client.reply(421, ("4.7.0", "4.3.2"))
            client.expect_close()
        first.alive()
        silent.send(v1("192.0.2.3"))
        silent.greeting()


def test_d13_06_networks(programs, spool):
    """A listed network, over IPv4 and IPv6, and beside it a peer that is not listed."""
    smtpd = programs.smtpd(spool, SMTPD_LISTEN="127.0.0.1:0,[::1]:0",
                           SMTPD_PROXY_CLIENTS="127.0.0.2/31,::1/128")
    wait_for(lambda: len(smtpd.log(event="listening")) == 2, "it listens on both")
    ports = [int(entry["address"].rpartition(":")[2]) for entry in smtpd.log(event="listening")]
    ipv4, ipv6 = (PEER, ports[0]), ("::1", ports[1])
    for address, source in ((ipv4, "127.0.0.2"), (ipv4, "127.0.0.3"), (ipv6, None)):
        with smtp.Client(address, source=source) as client:
            client.expect_silence()
            client.send(v1("192.0.2.1"))
            client.greeting()
            client.to("E")
            id = client.mail()
        assert spool.message(id).client == "192.0.2.1 56324"
    for source in ("127.0.0.1", "127.0.0.4"):
        with smtp.session(ipv4, "E", source=source) as client:
            id = client.mail()
        assert spool.message(id).client.split()[0] == source


def test_d13_06_the_list_is_read_again(programs, spool, tmp_path):
    """For those who come then; a list that cannot be read leaves the balancers as they were: a
    header taken for a command, or a client taken for a header, would refuse all mail."""
    peers = tmp_path / "peers"
    peers.write_text("127.0.0.1\n")
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=f"@{peers}")

    def reread():
        before = len(smtpd.log(event="reloaded"))
        smtpd.send_signal(signal.SIGHUP)
        wait_for(lambda: len(smtpd.log(event="reloaded")) > before, "the list is read again")

    with smtp.Client(smtpd.address) as during:
        during.send(v1("192.0.2.1")[:20])
        peers.write_text("127.0.0.2 # moved\n")
        reread()
        with smtpd.session("E") as client:
            client.mail()
        during.send(v1("192.0.2.1")[20:])
        during.greeting()
    peers.write_text("127.0.0.2/8\n")
    reread()
    assert smtpd.wait_log(event="list_invalid")["entry"] == "127.0.0.2/8"
    with smtpd.session("E") as client:
        client.mail()
    with smtp.Client(smtpd.address, source="127.0.0.2") as client:
        client.send(v1("192.0.2.1"))
        client.greeting()


def test_d13_06_behind_it_tls(programs, spool, pair):
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER, **pair.settings())
    for header in (v1("192.0.2.1"), v2("192.0.2.1", tlvs=EVERY_TLV)):
        with connect(smtpd, header, "E") as client:
            client.starttls(pair.client())
            client.to("E")
            id = client.mail()
            client.quit()
        message = spool.message(id)
        assert (message.client, message.protocol) == ("192.0.2.1 56324", "ESMTPS")


@pytest.mark.parametrize("early", [False, True])
def test_d13_06_greeting_delay(programs, spool, early):
    """It begins behind the header; what the client says with it is said too early."""
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER, SMTPD_PREGREET=1)
    with smtp.Client(smtpd.address) as client:
        client.send(v1("192.0.2.1") + (b"EHLO c.example\r\n" if early else b""))
        if early:
            client.reply(554, "5.5.1")
            assert smtpd.wait_log(event="early_talker")["client"] == "192.0.2.1"
        else:
            client.greeting()
            client.to("E")
            client.mail()


V2 = v2("192.0.2.1")
BAD = {
    "a command": (b"EHLO c.example\r\n", "missing"),
    "an empty line": (b"\r\nEHLO c.example\r\n", "missing"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "missing"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: mayfly.example\r\n\r\n", "missing"),
    "junk": (b"\0" * 1000, "missing"),
    "behind a command": (b"NOOP\r\n" + v1("192.0.2.1"), "missing"),
    "lower case": (v1("192.0.2.1").lower(), "missing"),
    "two spaces": (b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 25\r\n", "protocol"),
    "TCP5": (b"PROXY TCP5 192.0.2.1 192.0.2.2 1 25\r\n", "protocol"),
    "a word too few": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "line"),
    "another family": (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n", "address"),
    "a name": (b"PROXY TCP4 c.example mx.example 1 25\r\n", "address"),
    "a large port": (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n", "port"),
    "a zero before": (b"PROXY TCP4 192.0.2.1 192.0.2.2 025 25\r\n", "port"),
    "a bare LF": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\nEHLO c.example\r\n", "line"),
    "a NUL": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\0\r\n", "line"),
    "a long line": (b"PROXY UNKNOWN " + b"x" * 92, "too_long"),
    "a signature cut short": (SIGNATURE[:-1] + b"\r\n", "missing"),
    "version 3": (SIGNATURE + b"\x31" + V2[13:], "version"),
    "command 2": (SIGNATURE + b"\x22" + V2[13:], "command"),
    "family 4": (block(PROXY, 0x41, bytes(12)), "family"),
    "transport 3": (block(PROXY, 0x13, bytes(12)), "family"),
    "addresses cut short": (block(PROXY, TCP4, bytes(11)), "too_short"),
    "IPv6 with addresses of IPv4": (block(PROXY, TCP6, bytes(12)), "too_short"),
    "a TLV cut short": (v2("192.0.2.1", tlvs=b"\x04\x00\x05four"), "tlv"),
    "half a TLV": (v2("192.0.2.1", tlvs=b"\x04\x00"), "tlv"),
    "a wrong checksum": (v2("192.0.2.1", tlvs=tlv(CRC32C, bytes(4))), "checksum"),
    "an address changed": (summed(v2("192.0.2.1")).replace(b"\xc0\0\2\1", b"\xc0\0\2\2"),
                           "checksum"),
    "length 65535": (block(PROXY, TCP4, length=65535), "too_long"),
    "length 65535, LOCAL": (block(LOCAL, UNSPEC, length=65535), "too_long"),
    "length 65535, all of it": (block(PROXY, TCP4, bytes(65535)), "too_long"),
    "length 4097": (block(PROXY, UNIX, bytes(4097)), "too_long"),
}


@pytest.mark.parametrize("octets, reason", BAD.values(), ids=BAD)
def test_d13_07_malformed(smtpd, stored, octets, reason):
    is_refused(smtpd, octets, reason)
    is_refused(smtpd, octets + b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\n"
               b"RCPT TO:<b@t.example>\r\nDATA\r\nx\r\n.\r\n" * 10, reason)
    assert stored.new() == []


def test_d13_07_in_parts(smtpd):
    """The first wrong octet is enough, however they come."""
    is_refused(smtpd, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\n", "line", sizes=1)
    is_refused(smtpd, v2("192.0.2.1", tlvs=b"\x04\x00\x05"), "tlv", sizes=1)


def trickle(client, octets, stop):
    """Sends one after the other until the server closes; returns how long that took."""
    start = time.monotonic()
    for octet in octets:
        if select.select([client.socket], [], [], 0.25)[0] or time.monotonic() > start + stop:
            break
        with contextlib.suppress(ConnectionError):
            client.send(bytes([octet]))
    client.expect_close(1)
    return time.monotonic() - start


@pytest.mark.parametrize("octets", [b"", v1("192.0.2.1"), b"PROXY UNKNOWN " + b"x" * 90,
                                    v2("192.0.2.1", tlvs=FULL)],
                         ids=["nothing", "v1, cut short", "v1, slow", "v2, slow"])
def test_d13_07_late(smtpd, octets):
    """Ten seconds for all of it: an octet now and then wins no time."""
    before = len(refusals(smtpd))
    with smtp.Client(smtpd.address) as client:
        start = time.monotonic()
        if len(octets) > 60:
            trickle(client, octets, HEADER_SECONDS + GRACE_SECONDS)
        else:
            client.send(octets[:-1])
            client.expect_close(HEADER_SECONDS + GRACE_SECONDS)
        assert time.monotonic() - start > HEADER_SECONDS - 1
    wait_for(lambda: len(refusals(smtpd)) > before, "the refusal is logged")
    assert refusals(smtpd)[-1]["reason"] == "timeout"


@pytest.mark.parametrize("second", [v1("192.0.2.2"), b"PROXY UNKNOWN\r\n", v2("192.0.2.2"),
                                    block(LOCAL, UNSPEC)], ids=["v1", "UNKNOWN", "v2", "LOCAL"])
@pytest.mark.parametrize("first", [v1("192.0.2.1"), v2("192.0.2.1"), block(LOCAL, UNSPEC)],
                         ids=["v1", "v2", "LOCAL"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "behind the greeting"])
def test_d13_07_twice(smtpd, stored, first, second, at_once):
    with smtp.Client(smtpd.address) as client:
        client.send(first + second if at_once else first)
        client.greeting()
        if not at_once:
            client.send(second)
        client.expect_close()
    assert stored.new() == []


@pytest.mark.parametrize("at", ["E", "M", "R"])
def test_d13_07_twice_later(smtpd, stored, at):
    with connect(smtpd, v1("192.0.2.1"), at) as client:
        client.send(v1("192.0.2.2"))
        client.expect_close()
    assert stored.new() == []


def test_d13_07_a_header_in_content_is_content(smtpd, stored):
    with connect(smtpd, v1("192.0.2.1"), "E") as client:
        id = client.mail(v1("192.0.2.2") + V2)
    assert stored.message(id).body == v1("192.0.2.2") + V2 + b"\r\n"


def test_d13_07_memory(programs, spool):
    """Clients that stop in the middle of a long header: little is kept of it."""
    count = scaled(2000, 500)
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER)
    with contextlib.ExitStack() as open:
        for number in range(20):
            open.enter_context(connect(smtpd, v2(f"192.0.2.{number}")))
        before = smtpd.memory()
        descriptors = smtpd.descriptors()
        clients = [open.enter_context(smtp.Client(smtpd.address)) for _ in range(count)]
        for client in clients:
            client.send(v2("192.0.2.1", tlvs=FULL)[:-1])
        wait_for(lambda: smtpd.descriptors() == descriptors + count, "all are connected")
        with connect(smtpd, v2("192.0.2.2", tlvs=FULL), "E") as client:
            client.mail()
        assert smtpd.memory() - before < memory_slack(count * 2048 + (256 << 10))
        clients[-1].send(b"\0")
        clients[-1].greeting()


def test_d13_07_hanging_up(programs, spool):
    """In the middle of a header, in every way, many times: every place is free afterwards."""
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER, SMTPD_MAX_CONNECTIONS=4,
                           SMTPD_MAX_CONNECTIONS_PER_CLIENT=4)
    for number in range(scaled(400, 100)):
        with smtp.Client(smtpd.address) as client:
            client.send(v2("192.0.2.1", tlvs=EVERY_TLV)[:number % 40])
            [client.close, client.reset, client.half_close][number % 3]()
            if number % 3 == 2:
                client.rest()

    def all_places():
        with contextlib.ExitStack() as open:
            clients = [open.enter_context(smtp.Client(smtpd.address)) for _ in range(4)]
            for client in clients:
                client.send(v1("192.0.2.1"))
            return [client.reply((220, 421), bare=True).code for client in clients] == [220] * 4
    wait_for(all_places, "every place is free")


def test_d13_07_stopping(programs, spool):
    """Whoever has said nothing yet does not hold up the end."""
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER)
    with smtp.Client(smtpd.address), smtp.Client(smtpd.address) as half:
        half.send(v1("192.0.2.1")[:9])
        with connect(smtpd, v1("192.0.2.1")):
            smtpd.stop()


@pytest.mark.parametrize("settings", [{}, {"SMTPD_PROXY_CLIENTS": "192.0.2.0/24,::1"}],
                         ids=["not enabled", "not listed"])
@pytest.mark.parametrize("header", [v1("192.0.2.1"), v1("2001:db8::1"), b"PROXY UNKNOWN\r\n",
                                    b"proxy TCP4 192.0.2.1 192.0.2.2 1 25\r\n"],
                         ids=["TCP4", "TCP6", "UNKNOWN", "lower case"])
def test_d13_08_unlisted(programs, spool, settings, header):
    smtpd = programs.smtpd(spool, **settings)
    for early in (False, True):
        with smtp.Client(smtpd.address) as client:
            if early:
                client.send(header)
                client.greeting()
            else:
                client.greeting()
                client.send(header)
            client.reply(500, "5.5.1")
            client.to("E")
            client.send(header)
            client.reply(500, "5.5.1")
            id = client.mail()
        assert spool.message(id).client.split()[0] == PEER


def test_d13_08_unlisted_binary(programs, spool):
    """No line of it is a command, and none of it names a client."""
    smtpd = programs.smtpd(spool)
    with smtpd.session("G") as client:
        client.send(v2("192.0.2.1") + b"\r\n")
        for _ in range(4):
            client.reply(500)
        client.to("E")
        id = client.mail()
    assert spool.message(id).client.split()[0] == PEER
