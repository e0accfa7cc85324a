"""Checklist D2: command lines."""

import socket

import pytest

import smtp
from programs import memory_slack
from scale import scaled

MIB = 1 << 20


def test_d2_01_any_case(smtpd):
    with smtpd.session("G") as client:
        client.command("eHlO c.example", 250)
        client.command("mail from:<a@c.example> size=10", 250, "2.1.0")
        client.command("rCPT tO:<b@t.example>", 250, "2.1.5")
        client.command("rset", 250, "2.0.0")
        client.command("Mail From:<a@c.example> Body=8bitMime sMtPuTf8", 250, "2.1.0")
        client.command("quit", 221, "2.0.0")


@pytest.mark.parametrize("line", ["HELOX c", "HEL c", "EHLOX c", "DATAX", "QUITE", "NOOPS", "RSETT",
                                  "MAILFROM:<a@c.example>", "RCPTTO:<b@t.example>", "VRFYX b", "D"])
def test_d2_02_whole_verb_only(smtpd, line):
    with smtpd.session("R") as client:
        client.command(line, 500, "5.5.1")
        client.alive()
        client.command("DATA", 354)


@pytest.mark.parametrize("line", ["TURN", "ETRN x", "SEND FROM:<a@b>", "SOML FROM:<a@b>",
                                  "SAML FROM:<a@b>"])
def test_d2_03_known_but_not_implemented(smtpd, line):
    with smtpd.session("E") as client:
        client.command(line, (502, 500), "5.5.1")
        client.alive()


@pytest.mark.parametrize("line", ["XFOO", "XCLIENT ADDR=192.0.2.9", "X"])
def test_d2_04_private_command(smtpd, line):
    with smtpd.session("E") as client:
        client.command(line, 500, "5.5.1")
        client.alive()


@pytest.mark.parametrize("line", ["", " ", "   "])
def test_d2_05_empty_line(smtpd, line):
    with smtpd.session("E") as client:
        client.command(line, 500, "5.5.2")
        client.alive()


@pytest.mark.parametrize("length", [511, 512])
def test_d2_06_512_octets(smtpd, length):
    with smtpd.session("E") as client:
        client.command("NOOP " + "x" * (length - 7), 250, "2.0.0")
        client.alive()


@pytest.mark.parametrize("sizes", [None, 1000, 4096])
def test_d2_07_too_long_line(smtpd, sizes):
    with smtpd.session("R") as client:
        client.send(b"x" * 100_000 + b"\r\nNOOP\r\n", sizes=sizes)
        client.reply(500, "5.5.2")
        client.reply(250, "2.0.0")
        client.expect_silence(0.1)
        client.command("DATA", 354)


@pytest.mark.parametrize("filling", [b"MAIL FROM:<evil@c.example>", b"x\n", b"x\r", b"\r"])
def test_d2_07_nothing_of_a_too_long_line_is_a_command(smtpd, filling):
    with smtpd.session("E") as client:
        client.send(filling * (100_000 // len(filling)) + b"\r\nNOOP\r\n")
        client.reply(500, "5.5.2")
        client.reply(250, "2.0.0")
        client.expect_silence(0.1)


def test_d2_08_endless_line(smtpd):
    client = smtpd.session("E")
    before, most, refused = smtpd.memory(), 0, False
    for _ in range(scaled(1024, 64)):
        try:
            client.send(b"x" * MIB)
        except (ConnectionError, socket.timeout):
            refused = True
            break
        most = max(most, smtpd.memory())
    assert most - before < memory_slack(4 * MIB)
    if not refused:
        client.send("\r\n")
    try:
        reply = client.reply()
        assert (reply.code, reply.enhanced) in ((500, "5.5.2"), (421, "4.7.0"))
    except smtp.Closed:
        assert refused, "closed without a word"
    client.close()
    smtpd.session("E").alive()


def test_d2_09_lf_alone_ends_nothing(smtpd):
    for line in ("NOOP\nNOOP", "NOOP\n", "\nNOOP",
                 "MAIL FROM:<a@c.example>\nRCPT TO:<b@t.example>"):
        with smtpd.session("E") as client:
            client.command(line, 500, "5.5.2")
            client.expect_silence(0.1)
            client.command("RCPT TO:<b@t.example>", 503, "5.5.1")


def test_d2_10_cr_alone_ends_nothing(smtpd):
    for line in ("NOOP\rNOOP", "NOOP\r", "\rNOOP", "NOOP\r\rNOOP"):
        with smtpd.session("E") as client:
            client.command(line, (500, 501), "5.5.2")
            client.expect_silence(0.1)
            client.alive()


def test_d2_11_control_octets(smtpd):
    with smtpd.session("E") as client:
        client.command(b"NO\0OP", 500, "5.5.2")
        client.command(b"NOOP\0", 500, "5.5.2")
        client.command(b"MAIL FROM:<a\1@c.example>", 501, "5.1.7")
        client.command(b"MAIL FROM:<a\x7f@c.example>", 501, "5.1.7")
        client.command(b"MAIL FROM:<a@c\1.example>", 501, "5.1.7")
        client.command("MAIL FROM:<a@c.example>", 250, "2.1.0")
        client.command(b"RCPT TO:<b\1@t.example>", 501, "5.1.3")
        client.alive()


@pytest.mark.parametrize("line", [b"\xc3\xa9HLO c", b"\xffNOOP", b"NOOP\xa0", b"N\xd6\xd6P"])
def test_d2_12_8_bit_in_a_verb(smtpd, line):
    with smtpd.session("E") as client:
        client.command(line, 500, "5.5.2")
        client.alive()


def test_d2_13_trailing_white_space(smtpd):
    with smtpd.session("G") as client:
        client.command("EHLO c.example ", 250)
        client.command("MAIL FROM:<a@c.example> ", 250, "2.1.0")
        client.command("RCPT TO:<b@t.example>\t ", 250, "2.1.5")
        client.command("NOOP  ", 250, "2.0.0")
        client.command("DATA ", 354)
        client.content(b"x")
        client.reply(250, "2.0.0")
        client.command("RSET ", 250, "2.0.0")
        client.command("QUIT ", 221, "2.0.0")
        client.expect_close()


@pytest.mark.parametrize("verb", ["DATA", "RSET", "QUIT"])
def test_d2_14_argument_where_none_belongs(smtpd, verb):
    with smtpd.session("R") as client:
        client.command(f"{verb} x", 501, "5.5.4")
        client.alive()
        client.command("DATA", 354)


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT h:25 HTTP/1.1"])
def test_d2_15_http(smtpd, stored, line):
    with smtp.Client(smtpd.address) as client:
        client.greeting()
        client.send(f"{line}\r\nHost: mayfly.example\r\n\r\nEHLO c.example\r\n"
                    "MAIL FROM:<evil@c.example>\r\nRCPT TO:<b@t.example>\r\nDATA\r\nx\r\n.\r\n")
        client.reply(421, "4.7.0")
        client.expect_close()
    assert stored.new() == []
