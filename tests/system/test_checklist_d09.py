"""Checklist D9: SIZE."""

import pytest

from paths import domain
from smtp import stuffed

LIMIT = 10_000


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool):
    return module_programs.smtpd(module_spool, SMTPD_MAX_SIZE=LIMIT)


def send(client, body):
    """Sends RCPT, DATA and the body (CRLF at its end not included) after MAIL."""
    client.command("RCPT TO:<b@t.example>", 250)
    client.command("DATA", 354)
    client.content(stuffed(body))


def test_d9_01_keyword_names_the_limit(smtpd):
    with smtpd.session("G") as client:
        assert client.ehlo()["SIZE"] == str(LIMIT)


@pytest.mark.parametrize("limit", [1, 26_214_400, 268_435_456])
def test_d9_01_other_limits(programs, spool, limit):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=limit)
    with smtpd.session("G") as client:
        assert client.ehlo()["SIZE"] == str(limit)


@pytest.mark.parametrize("size, code", [(LIMIT + 1, 552), (1 << 40, 552), (LIMIT, 250)])
def test_d9_02_declared_too_big(smtpd, size, code):
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<a@c.example> SIZE={size}", code,
                       "2.1.0" if code == 250 else "5.3.4")
        client.command("RCPT TO:<b@t.example>", 250 if code == 250 else 503)


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_d9_03_not_enough_room(small_disk, programs, kind):
    spool, _ = small_disk(kind, mebibytes=16)
    smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=1 << 20)
    with smtpd.session("E") as client:
        client.command("MAIL FROM:<a@c.example> SIZE=20000000", 452, "4.3.1")
        client.command("MAIL FROM:<a@c.example> SIZE=1000", 250, "2.1.0")


def test_d9_04_declared_small(smtpd, stored):
    with smtpd.session("E") as client:
        client.command("MAIL FROM:<a@c.example> SIZE=10", 250)
        send(client, b"x" * 1000)
        id = client.reply(250, "2.0.0").id
        client.command("MAIL FROM:<a@c.example> SIZE=10", 250)
        send(client, b"x" * LIMIT)
        client.reply(552, "5.3.4")
        client.alive()
    assert stored.message().id == id and stored.message().body == b"x" * 1000 + b"\r\n"


@pytest.mark.parametrize("parameter", ["SIZE=", "SIZE", "SIZE=x", "SIZE=-1", "SIZE=+1", "SIZE=1x",
                                       "SIZE=0x10", "SIZE=1.0", "SIZE=" + "1" * 21,
                                       "SIZE=" + "0" * 21])
def test_d9_05_syntax(smtpd, parameter):
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<a@c.example> {parameter}", 501, "5.5.4")
        client.alive()


@pytest.mark.parametrize("size, code", [
    ("0", 250), ("0" * 20, 250), ("0" * 19 + "1", 250), ("9" * 20, 552),
    ("18446744073709551615", 552), ("18446744073709551616", 552), ("18446744073709551617", 552),
    ("9223372036854775808", 552), ("4294967297", 552),
])
def test_d9_06_extremes(smtpd, size, code):
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<a@c.example> SIZE={size}", code,
                       "2.1.0" if code == 250 else "5.3.4")


def test_d9_07_line_grows_by_26(smtpd, stored):
    path = "l" * 64 + "@" + domain(189)
    line = f"MAIL FROM:<{path}> SIZE={1000:020d} BODY=8BITMIME SMTPUTF8"
    line += " " * (512 + 26 - 2 - len(line))
    with smtpd.session("E") as client:
        client.command(line, 250, "2.1.0")
        send(client, b"x")
        id = client.reply(250).id
    assert stored.message(id).mail_from == path


@pytest.mark.parametrize("body", [
    b"x" * (LIMIT - 2),
    (b".\r\n" * LIMIT)[:LIMIT - 2 - (LIMIT - 2) % 3] + b"x" * ((LIMIT - 2) % 3),
    b"." * (LIMIT - 2),
    b"\r\n" * (LIMIT // 2 - 1),
], ids=["plain", "dots", "one dot", "empty lines"])
def test_d9_08_what_is_counted(smtpd, stored, body):
    assert len(body) == LIMIT - 2
    with smtpd.session("M") as client:
        send(client, body)
        assert stored.message(client.reply(250, "2.0.0").id).body == body + b"\r\n"
        client.command("MAIL FROM:<a@c.example>", 250)
        send(client, body + b"x")
        client.reply(552, "5.3.4")
