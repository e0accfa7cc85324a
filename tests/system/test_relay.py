"""From a program on this machine through smtpd and relay to a smarthost, which is away, slow or
restarted in between; and what must not be changed on the way."""

import random
import re
import smtplib
import time

import pytest

from deadline import wait_for
from load import Letter, deliver
from postfix import Postfix
from smarthost import DROP, OFFERS, SmartHost
from test_clients import MESSAGE, run, wire

ONE = ["b@t.example"]
FIFTY = [f"b{number}@t{number % 3}.example" for number in range(50)]
LOGIN = {"me": "secret"}


@pytest.fixture
def host(pair):
    with SmartHost(pair, users=LOGIN) as started:
        yield started


@pytest.fixture(scope="module")
def module_host(pair):
    with SmartHost(pair, users=LOGIN) as started:
        yield started


def pure_relay(programs, spool, **settings):
    """smtpd that stores nothing, and takes mail to anywhere from this machine."""
    return programs.smtpd(spool, **({"SMTPD_DOMAINS": "", "SMTPD_RELAY_CLIENTS": "127.0.0.0/8"}
                                    | settings))


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool, module_host):
    module_programs.relay(module_spool, module_host)
    return pure_relay(module_programs, module_spool)


def well_formed(raw):
    """Every line end is CRLF, and the last line has one."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", raw)
    return lines if not lines or lines.endswith(b"\r\n") else lines + b"\r\n"


# Clients as they are found in the world

@pytest.fixture(params=[ONE, FIFTY], ids=["one", "fifty"])
def recipients(request, module_host):
    """To whom; what arrived for an earlier test is forgotten."""
    module_host.transactions.clear()
    return request.param


def arrived(host, recipients):
    """One transaction, which is what the client was given, below the trace field of smtpd."""
    got, = host.wait()
    assert got.recipients == recipients and got.mail_from == "a@c.example"
    assert got.body == wire(MESSAGE)
    assert got.connection.user == "me" and got.connection.secure
    assert b" by mayfly.example " in re.sub(rb"\s+", b" ", got.content[:300])
    assert (b"for <b@t.example>" in got.content[:500]) == (recipients == ONE)
    assert b"Return-Path:" not in got.content and b"X-Envelope" not in got.content


def test_smtplib(smtpd, module_host, recipients):
    with smtplib.SMTP(*smtpd.address, local_hostname="c.example", timeout=30) as client:
        assert client.sendmail("a@c.example", recipients, wire(MESSAGE)) == {}
    arrived(module_host, recipients)


def test_curl(smtpd, module_host, recipients):
    to = [word for recipient in recipients for word in ("--mail-rcpt", recipient)]
    run("curl", "-sS", f"smtp://127.0.0.1:{smtpd.port}/c.example", "--crlf", "--mail-from",
        "a@c.example", *to, "--upload-file", "-", text=MESSAGE)
    arrived(module_host, recipients)


def test_swaks(smtpd, module_host, recipients, tmp_path):
    message = tmp_path / "message"
    message.write_text(MESSAGE.removesuffix("\n"))
    run("swaks", "--server", "127.0.0.1", "--port", smtpd.port, "--helo", "c.example", "--from",
        "a@c.example", "--to", ",".join(recipients), "--data", f"@{message}")
    arrived(module_host, recipients)


# What is not changed, and what must be

BODIES = {
    "dots": b"..x\r\n.\r\n..\r\n.. \r\n",
    "bare ends": b"a\nb\rc\r\n\r\rd\n\n",
    "no end": b"Subject: x\r\n\r\nlast",
    "a CR at the end": b"x\r",
    "nothing": b"",
    "an empty line": b"\r\n",
    "every octet": bytes(range(256)) * 3,
    "smuggled": b"x\n.\nMAIL FROM:<evil@c.example>\r\n\r.\r\ny\r\n.\rz\n.\r\n",
    "a long line": b"x" * 100_000 + b"\r\n",
    "much": random.Random(7).randbytes(3_000_000),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_content(smtpd, module_host, module_spool, body):
    module_host.transactions.clear()
    id = module_spool.relay.put(body)
    wait_for(lambda: id not in module_spool.relay.new(), "it is sent")
    got, = module_host.wait()
    assert got.body == well_formed(body)
    assert ("BODY=8BITMIME" in got.options) == any(octet > 127 for octet in body)
    assert f"SIZE={len(got.content)}" in got.options or body != well_formed(body)
    module_spool.relay.wait_done()
    assert module_spool.relay.tmp() == [] and module_spool.relay.failed() == []


def test_utf8_is_said_where_it_is_needed(smtpd, module_host, module_spool):
    module_host.transactions.clear()
    module_spool.relay.put(recipients=["b@t.example"], mail_from="ascii@c.example")
    module_spool.relay.put(recipients=["é@t.example"], mail_from="a@c.example")
    module_spool.relay.put(recipients=["b@t.example"], mail_from="ü@c.example")
    found = {(got.mail_from, *got.recipients): "SMTPUTF8" in got.options
             for got in module_host.wait(3)}
    assert found == {("ascii@c.example", "b@t.example"): False, ("a@c.example", "é@t.example"): True,
                     ("ü@c.example", "b@t.example"): True}


def test_odd_addresses_are_exact(smtpd, module_host, module_spool):
    module_host.transactions.clear()
    odd = ['"x> y"@t.example', r'"\"q\\"@t.example', "b+c=d@[192.0.2.1]", "x" * 64 + "@t.example",
           "B.C@T.Example", "{|}~`@t.example"]
    module_spool.relay.put(recipients=odd, mail_from="")
    got, = module_host.wait()
    assert (got.mail_from, got.recipients) == ("", odd)


def lacking(*keywords):
    return [offer for offer in OFFERS if offer.split()[0] not in keywords]


@pytest.mark.parametrize("lacks, protocol, body, recipient, status", [
    (["8BITMIME", "SMTPUTF8"], "ESMTP", "Subject: x\r\n\r\nGrüße\r\n", "b@t.example", "5.6.3"),
    (["SMTPUTF8"], "UTF8SMTP", "Subject: x\r\n\r\nx\r\n", "é@t.example", "5.6.7"),
    (["SMTPUTF8"], "UTF8SMTP", "Subject: Grüße\r\n\r\nx\r\n", "b@t.example", "5.6.9"),
], ids=["8BITMIME", "SMTPUTF8", "SMTPUTF8 for a header"])
def test_a_host_that_lacks_what_it_needs(programs, spool, pair, lacks, protocol, body, recipient,
                                         status):
    """Whom it can serve it serves: the other mail of the same connection."""
    with SmartHost(pair, offers=lacking(*lacks)) as host:
        programs.relay(spool, host)
        id = spool.relay.put(body.encode(), [recipient], mail_from="a@stored.example",
                             protocol=protocol)
        spool.relay.put(recipients=["ascii@t.example"])
        host.wait()
        notice = wait_for(spool.new, "a notification")
        spool.relay.wait_done()
        assert host.deliveries() == {("a@c.example", "ascii@t.example"): 1}
        assert not any("é" in argument for connection in host.connections
                       for _, argument, _ in connection.commands)
    assert lacks[0] in spool.relay.reason(id)
    assert f"Status: {status}".encode() in spool.message(notice[0]).raw


def test_whom_it_cannot_serve_does_not_stop_the_others(programs, spool, pair):
    with SmartHost(pair, offers=lacking("SMTPUTF8")) as host:
        programs.relay(spool, host)
        id = spool.relay.put(recipients=["b@t.example", "é@t.example", "c@t.example"], mail_from="")
        got, = host.wait()
        wait_for(lambda: spool.relay.ids("failed"), "one recipient fails")
        spool.relay.wait_done()
        assert got.recipients == ["b@t.example", "c@t.example"]
    assert spool.relay.messages("failed")[0].recipients == ["é@t.example"]
    assert "SMTPUTF8" in spool.relay.reason(id)


def test_a_real_next_hop(programs, spool, pair):
    """Postfix, behind STARTTLS, from smtpd to its maildir."""
    with Postfix(pair) as host:
        programs.relay(spool, host)
        smtpd = pure_relay(programs, spool)
        with smtplib.SMTP(*smtpd.address, local_hostname="c.example", timeout=30) as client:
            client.sendmail("a@c.example", ["b@t.example", "c@t.example"], wire(MESSAGE))
        files = host.wait(2)
        assert "status=sent" in host.log()
    for file in files:
        assert file.endswith(MESSAGE.encode().partition(b"\n\n")[2])
        assert b"ESMTPS" in file and file.startswith(b"Return-Path: <a@c.example>\n")


# Away, slow, restarted

def letters(first, count):
    return [Letter(number, 500 + number * 37 % 9000) for number in range(first, first + count)]


def send(smtpd, letters):
    """Sends them in one session; how long the slowest acknowledgement took."""
    slowest = 0
    with smtpd.session("E") as client:
        for letter in letters:
            begin = time.monotonic()
            deliver(client, letter)
            slowest = max(slowest, time.monotonic() - begin)
    return slowest


def test_away_then_slow_restarted_and_hostile(programs, spool, host):
    """Clients do not notice; all arrives, and what arrives twice was on its way when the host went."""
    host.stop()
    relay = programs.relay(spool, host)
    smtpd = pure_relay(programs, spool)
    send(smtpd, letters(0, 20))
    relay.wait_log(event="smarthost_trouble", why="unreachable")
    assert len(spool.relay.new()) == 20
    host.start()
    relay.hurry()
    host.at("END", wait=0.2)
    host.wait(8)
    send(smtpd, letters(20, 20))
    host.wait_for_command("DATA", 12)
    host.restart()
    host.behave()
    relay.hurry()
    host.at("RCPT", "250-yes\r\n550 no", times=2)
    host.at("DATA", DROP, times=2)
    send(smtpd, letters(40, 20))
    wait_for(lambda: relay.hurry() or not host.rules[-1].times, "it does its worst", interval=0.5)
    spool.relay.wait_tried()
    for id in spool.relay.ids("cur"):   # alone with the host when it did so, twice
        spool.relay.due_in(id, -1)
    relay.hurry()
    spool.relay.wait_done()
    deliveries = host.deliveries()
    assert set(deliveries) == {(letter.sender, *letter.recipients) for letter in letters(0, 60)}
    assert spool.relay.failed() == [] and relay.returncode is None
    # No more than the connections had in hand when the host was restarted.
    assert sum(deliveries.values()) <= 60 + 4


def test_a_slow_host_holds_up_no_client(programs, spool, host):
    host.at("END", wait=3)
    programs.relay(spool, host)
    smtpd = pure_relay(programs, spool)
    slowest = min(send(smtpd, letters(number, 3)) for number in (0, 3, 6))
    assert slowest < 1
    host.behave()
    spool.relay.wait_done()


# Both queues

def test_storing_and_relaying_at_once(programs, spool, database, host):
    """One letter to both kinds of recipient is one letter in each queue, under one id."""
    programs.storer(spool, database)
    relay = programs.relay(spool, host)
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="stored.example", SMTPD_RELAY_CLIENTS="127.0.0.1")
    for number in range(30):
        with smtpd.session("E") as client:
            id = client.mail(Letter(number, 900).body(), f"a{number}@c.example",
                             ("b@stored.example", "c@t.example", "d@stored.example"))
        if number == 10:
            relay.stop()
    wait_for(lambda: database.value("SELECT count(*) FROM messages") == 30, "all are stored")
    assert database.value("SELECT count(*) FROM deliveries WHERE domain = 'stored.example'") == 60
    assert database.value("SELECT count(*) FROM deliveries") == 60
    assert database.query("SELECT 1 FROM messages WHERE id = %s", id)
    # relay was away, and nobody else noticed.
    assert id in spool.relay.new() and spool.new() == []
    assert spool.relay.message(id).recipients == ["c@t.example"]
    programs.relay(spool, host)
    host.wait(30)
    spool.relay.wait_done()
    assert host.deliveries() == {(f"a{number}@c.example", "c@t.example"): 1 for number in range(30)}
    stored = bytes(database.value("SELECT raw FROM messages WHERE id = %s", id))
    sent, = (got for got in host.accepted() if got.mail_from == "a29@c.example")
    assert stored.endswith(Letter(29, 900).body() + b"\r\n")
    assert sent.body == well_formed(Letter(29, 900).body())
