"""Checklist D6-17 to D6-23: the trace fields, and what may not become one."""

import datetime
import email.utils
import re

import pytest

import smtp

RECEIVED = re.compile(
    r"from (?P<helo>\S+) \((?:(?P<name>[^()\[\]]+) )?\[(?P<client>[^\]]+)\]\) "
    r"by (?P<by>\S+) (?:\([^()]*\) )?with (?P<protocol>\S+) id (?P<id>\S+)"
    r"(?: for <(?P<recipient>[^>]*)>)?; (?P<date>.*)")


def transaction(smtpd, stored, hello="EHLO c.example", parameters="", recipients=("b@t.example",),
                sender="a@c.example", body=b"x"):
    with smtpd.session("G") as client:
        client.command(hello, 250)
        client.command(f"MAIL FROM:<{sender}>{parameters}", 250)
        for recipient in recipients:
            client.command(f"RCPT TO:<{recipient}>", 250)
        client.command("DATA", 354)
        client.content(smtp.stuffed(body))
        return stored.message(client.reply(250).id)


# RFC 3848 has no word for HELO behind STARTTLS.
PROTOCOLS = {("plain", "EHLO"): "ESMTP", ("tls", "EHLO"): "ESMTPS",
             ("plain", "HELO"): "SMTP", ("tls", "HELO"): "SMTP"}


@pytest.mark.parametrize("hello", ["EHLO c.example", "HELO c.example"])
def test_d6_17_received(smtpd, stored, transport, hello):
    protocol = PROTOCOLS[transport, hello[:4]]
    message = transaction(smtpd, stored, hello)
    match = RECEIVED.fullmatch(message.received_field)
    assert match, message.received_field
    assert match["helo"] == "c.example"
    assert match["client"] == "127.0.0.1"
    assert match["by"] == "mayfly.example"
    assert match["protocol"] == message.protocol == protocol
    assert match["id"] == message.id
    assert re.fullmatch(r"(\w{3}, )?\d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", match["date"])
    date = email.utils.parsedate_to_datetime(match["date"])
    assert abs(date - message.received) < datetime.timedelta(seconds=1)
    assert message.client.split()[0] == "127.0.0.1" and int(message.client.split()[1]) > 0


def test_d6_17_received_lines_are_short(smtpd, stored):
    message = transaction(smtpd, stored, f"EHLO {'h' * 255}", recipients=["r" * 64 + "@t.example"])
    for line in message.trace.split(b"\r\n"):
        assert len(line) <= 998


def test_d6_17_address_of_an_ipv6_client(programs, spool):
    try:
        smtpd = programs.smtpd(spool, SMTPD_LISTEN="[::1]:0")
    except AssertionError as failure:
        pytest.skip(f"no IPv6 here: {failure}")
    message = transaction(smtpd, spool)
    assert RECEIVED.fullmatch(message.received_field)["client"] == "IPv6:::1"
    assert message.client.split()[0] == "::1"


@pytest.mark.parametrize("recipients, want", [
    (["b@t.example"], "b@t.example"),
    (["b@t.example", "c@t.example"], None),
    (["b@t.example"] * 2, "b@t.example"),
])
def test_d6_18_for_only_with_one_recipient(smtpd, stored, recipients, want):
    message = transaction(smtpd, stored, recipients=recipients)
    assert RECEIVED.fullmatch(message.received_field)["recipient"] == want
    if want is None:
        assert b"t.example" not in message.raw


@pytest.mark.parametrize("sender", ["a@c.example", ""])
def test_d6_19_return_path(smtpd, stored, sender):
    message = transaction(smtpd, stored, sender=sender,
                          body=b"Return-Path: <forged@c.example>\r\n\r\nx")
    assert message.raw.startswith(b"Return-Path: <%s>\r\nReceived: " % sender.encode())
    assert message.body.startswith(b"Return-Path: <forged@c.example>\r\n")


def test_d6_20_message_unchanged(smtpd, stored):
    body = (b"Received: from x.example\r\n\tby y.example; Sat, 21 Nov 2026 19:08:11 +0000\r\n"
            b"bcc: secret@t.example\r\nSubject: no date, no from, no message-id  \r\n"
            b"Bad header line without a colon\r\n\r\n8-bit: \xff\r\nbare\nline\rends\r\n")
    message = transaction(smtpd, stored, body=body.removesuffix(b"\r\n"),
                          recipients=["b@t.example", "hidden@t.example"])
    assert message.body == body
    assert b"hidden" not in message.raw


def hops(count, name=b"Received"):
    return b"".join(b"%s: from h%d.example\r\n\tby x.example; date\r\n" % (name, number)
                    for number in range(count))


@pytest.mark.parametrize("count, name, code", [
    (99, b"Received", 250), (100, b"Received", 250), (101, b"Received", 554),
    (101, b"rECEIVED", 554), (500, b"Received", 554), (500, b"X-Received", 250),
    (500, b"Received-SPF", 250),
])
def test_d6_21_hop_limit(smtpd, stored, count, name, code):
    with smtpd.session("D") as client:
        client.content(hops(count, name) + b"\r\nx")
        client.reply(code, "2.0.0" if code == 250 else "5.4.6")
        client.alive()
    assert len(stored.new()) == (code == 250) and stored.tmp() == []


def test_d6_21_hops_count_in_the_header_only(smtpd, stored):
    message = transaction(smtpd, stored, body=hops(100) + b"\r\n" + hops(100) + b"x")
    assert message.body.count(b"Received:") == 200


def test_d6_21_hops_octet_by_octet(smtpd):
    with smtpd.session("D") as client:
        client.content(hops(101) + b"\r\nx", sizes=7)
        client.reply(554, "5.4.6")


@pytest.mark.parametrize("name", ["a)b", "a(b", "((((", "a;b", "a\\", '"a', "[a", "a@b", "a,b",
                                  "<a>"])
def test_d6_23_received_stays_one_field(smtpd, stored, name):
    with smtpd.session("G") as client:
        reply = client.command(f"EHLO {name}", (250, 501))
        if reply.code == 501:
            return
        id = client.mail(b"Subject: x\r\n\r\nx")
    message = stored.message(id)
    assert message.body == b"Subject: x\r\n\r\nx\r\n"
    assert re.fullmatch(rb"Return-Path: [^\r\n]*\r\nReceived: [^\r\n]*(\r\n[ \t][^\r\n]*)*\r\n",
                        message.trace)
    # Comments and quotes are closed, so that a date can be found behind the semicolon.
    depth = 0
    for octet in re.sub(r"\\.|\"(?:\\.|[^\"\\])*\"", "", message.received_field):
        depth += (octet == "(") - (octet == ")")
        assert depth >= 0
    assert depth == 0
    assert email.utils.parsedate_to_datetime(message.received_field.rsplit(";", 1)[1])


@pytest.mark.parametrize("line", ["EHLO a\nX-Envelope-To: <evil@t.example>",
                                  "EHLO a\rX-Envelope-To: <evil@t.example>",
                                  "MAIL FROM:<a\nX-Envelope-To:b@c.example>",
                                  "RCPT TO:<a\rX-Envelope-To:b@c.example>"])
def test_d6_23_line_ends_cannot_be_forged(smtpd, stored, line):
    with smtpd.session("M" if line.startswith("RCPT") else "E") as client:
        reply = client.command(line)
        assert reply.code in (500, 501)
        client.command("RSET", 250)
        id = client.mail()
    assert b"X-Envelope-To: <evil" not in stored.message(id).path.read_bytes()
