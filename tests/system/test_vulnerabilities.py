"""What befell other servers, where no row of the checklist has a test for it already."""

import gzip
import itertools
import os
import pathlib
import re
import subprocess
import time

import pytest

from cluster import ROOT
from deadline import wait_for
from programs import memory_slack
from smtp import bdat, stuffed
from spool import ID

MIB = 1 << 20

HELLO = "EHLO c.example\r\n"
SENDER = HELLO + "MAIL FROM:<a@c.example>\r\n"
ENVELOPE = SENDER + "RCPT TO:<b@t.example>\r\n"
STATES = {
    "START": "",
    "READY": HELLO,
    "MAIL": SENDER,
    "REFUSED": SENDER + "RCPT TO:<bad@t.example>\r\n",
    "CHUNKED": ENVELOPE + "BDAT 2\r\nxyRCPT TO:<late@t.example>\r\nDATA\r\n",
    "after LAST": ENVELOPE + "BDAT 0 LAST\r\n",
    "after DATA": ENVELOPE + "DATA\r\n.\r\n",
}
CHUNKS = {
    "empty": bdat(b"", last=True),
    "dot": bdat(b".\r\n", last=True),
    "commands": bdat(b"QUIT\r\n" * 20),
    "many": bdat(b"x") * 50 + bdat(b"", last=True) * 3,
    "too big": bdat(b"x" * 300_000, last=True),
    "huge": b"BDAT 18446744073709551615 LAST\r\n" + b"RSET\r\n" * 1000,
    "zero and more": b"BDAT 00000000000000000000 LAST\r\n",
    "negative": b"BDAT -1 LAST\r\n",
    "wrapped": b"BDAT 18446744073709551617 LAST\r\nx",
    "wrapped to 32 bits": b"BDAT 4294967297 LAST\r\nx",
}


@pytest.mark.parametrize("state", STATES)
def test_v_06_chunks_in_every_wrong_state(programs, spool, state):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=100_000, SMTPD_MAX_ERRORS=1000,
                           SMTPD_ERROR_DELAY=0,
                           SMTPD_REJECT_RECIPIENTS="bad@")
    before = smtpd.memory()
    for chunk, also in itertools.product(CHUNKS.values(), repeat=2):
        with smtpd.session("G") as client:
            client.send(STATES[state].encode() + chunk + also)
            client.half_close()
            client.rest()
    with smtpd.session("R") as client:
        client.bdat(b"well", last=True)
        id = client.reply(250, "2.0.0").id
        client.quit()
    wait_for(lambda: spool.tmp() == [], "tmp/ is clean")
    assert spool.message(id).body == b"well"
    # The message of the state itself, with the good chunks behind it where it was not yet whole.
    begins = {"CHUNKED": b"xy", "after LAST": b"", "after DATA": b""}.get(state)
    for message in spool.messages():
        if message.id != id:
            assert begins is not None and message.body.startswith(begins)
            assert message.body == begins or state == "CHUNKED"
            assert message.recipients == ["b@t.example"]
    assert smtpd.memory() - before < memory_slack(2 * MIB)


def test_v_08_no_names_are_looked_up():
    """Names are resolved where the settings are read, and nowhere that a client could choose
    one."""
    lookups = re.compile(r"\b((?:uv_)?get(?:addr|name)info|gethostby\w+|res_\w+)\(")
    found = {(path.name, name) for path in (ROOT / "smtpd").glob("*.c")
             for name in lookups.findall(path.read_text())}
    assert found == {("config.c", "getaddrinfo")}


@pytest.mark.parametrize("body", [
    b"", b"\r\n", b"no header at all", b"Subject: x", b"Subject: x\r\n", b"Subject: x\r\n\r\n",
    b"Subject: x\n\nbody", b"Subject: x\r\rbody", b"Subject: x\r\n \r\nbody", b"\r\n\r\nSubject: x",
    b"Subject: x\r\n\n\r\nbody", b"Subject: x\n\r\nbody", b": x\r\n\r\n", b"\0\r\n\r\n\0",
    b"Subject : x\r\n\r\n", b"DKIM-Signature: v=1; l=0\r\n\r\nbody\r\n", b" folded first\r\n\r\n",
    b"Subject: a\r\n\tb\r\n c\r\n\r\n.", b"\xef\xbb\xbfSubject: x\r\n\r\n",
], ids=repr)
def test_v_10_odd_ends_of_a_header(smtpd, stored, body):
    with smtpd.session("R") as client:
        client.bdat(body, last=True)
        chunked = client.reply(250, "2.0.0").id
        client.command("MAIL FROM:<a@c.example>", 250)
        client.command("RCPT TO:<b@t.example>", 250)
        client.command("DATA", 354)
        client.send(stuffed(body + b"\r\n") + b".\r\n")
        assert stored.message(chunked).body == body
        assert stored.message(client.reply(250, "2.0.0").id).body == body + b"\r\n"


def sockets(pid):
    """The inodes of the sockets that a process holds."""
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def test_v_13_listens_nowhere_else(programs, spool):
    """No control socket, no HTTP: one socket, which is that of SMTPD_LISTEN."""
    smtpd = programs.smtpd(spool)
    held, listening = sockets(smtpd.pid), []
    for family in ("tcp", "tcp6", "udp", "udp6"):
        for line in pathlib.Path(f"/proc/{smtpd.pid}/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in held:
                listening.append((family, int(fields[1].split(":")[1], 16)))
    assert listening == [("tcp", smtpd.port)]
    named = [line.split()
             for line in pathlib.Path(f"/proc/{smtpd.pid}/net/unix").read_text().splitlines()]
    assert not [fields for fields in named if len(fields) > 7 and fields[6] in held]


ADDRESSES = [b'"a\rb"@c.example', b'"a\nb"@c.example', b'"a\r\nb"@c.example', b'"a\\\rb"@c.example',
             b'"a\\\nX-Envelope-To: <evil@t.example>"@c.example', b'"a\0b"@c.example',
             b"a@c.example>\nX-Envelope-To: <evil@t.example", b"a\x85b@c.example",
             b"a\xe2\x80\xa8b@c.example"]


@pytest.mark.parametrize("address", ADDRESSES, ids=repr)
@pytest.mark.parametrize("parameter", [b"", b" SMTPUTF8"], ids=["", "SMTPUTF8"])
def test_v_14_line_ends_in_addresses(smtpd, stored, address, parameter):
    """An address either is refused, or lies in the envelope as one line."""
    with smtpd.session("E") as client:
        client.send(b"MAIL FROM:<" + address + b">" + parameter + b"\r\nRSET\r\n"
                    b"MAIL FROM:<a@c.example>" + parameter + b"\r\nRCPT TO:<" + address + b">\r\n"
                    b"RCPT TO:<b@t.example>\r\nNOOP end\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
        client.rest()
    message = stored.message()
    head = message.path.read_bytes().split(b"Return-Path:")[0]
    assert head.count(b"X-Envelope-To:") == len(message.recipients) <= 2
    assert not re.search(rb"[\0\r\n]", head.replace(b"\r\n", b""))
    assert "evil@t.example" not in message.recipients


def test_v_15_names_of_files(smtpd, stored):
    """Nothing that a client says becomes part of a name."""
    with smtpd.session("G") as client:
        client.command("EHLO ../../../../tmp/x", (250, 501))
        client.command("EHLO c.example", 250)
        for path in ('"../../x"@c.example', '"; touch x"@c.example', "a/b@c.example",
                     "$(id)@c.example"):
            client.command(f"MAIL FROM:<{path}>", (250, 501))
            client.command("RSET", 250)
        client.mail(b"Message-ID: <../../evil>\r\n"
                    b"Content-Disposition: attachment; filename=\"`id`\"\r\n\r\nx",
                    sender='"../../x"@c.example', recipients=['"../../y"@t.example'])
    for name in stored.new():
        assert ID.fullmatch(name)
    assert {path.name for path in stored.path.iterdir()} <= {"store", "relay"}
    assert {path.name for path in stored.store.iterdir()} == {"tmp", "new", "cur", "failed"}


def needed(program):
    text = subprocess.check_output(["readelf", "-d", program], text=True)
    return re.findall(r"NEEDED.*\[(.*)\]", text)


def test_v_16_nothing_is_decompressed(programs, smtpd, stored):
    for name in ("smtpd", "storer"):
        assert not [library for library in needed(programs.path(name))
                    if re.match(r"lib(z|bz2|lzma|zstd|brotli|archive|magic)\b", library)]
    bomb = gzip.compress(bytes(50 * MIB))
    before = smtpd.memory()
    with smtpd.session("E") as client:
        id = client.mail(b"Content-Encoding: gzip\r\nContent-Type: application/zip\r\n\r\n" + bomb)
    assert stored.message(id).body.endswith(bomb + b"\r\n")
    assert smtpd.memory() - before < memory_slack(4 * MIB)


def nested(depth):
    """A message of parts within parts."""
    head = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
                    for level in range(depth))
    return b"Subject: =?utf-8?q?deep?=\r\n" + head + b"\r\nx"


def many_fields(count):
    return b"".join(b"X-%d: %s\r\n" % (number, b"=?utf-8?b?" * 20)
                    for number in range(count)) + b"\r\nx"


@pytest.mark.parametrize("body",
                         [nested(100_000), many_fields(20_000), b"Subject: "
                          + b"\r\n a" * 1_000_000,
                                  b"Content-Type: message/rfc822\r\n\r\n" * 100_000,
                                  b"Subject: " + b"(" * 2_000_000], ids=["parts", "fields", "folds",
                                                                        "messages", "comments"])
def test_v_22_nested_parts(programs, spool, database, body):
    smtpd, storer = programs.smtpd(spool), programs.storer(spool, database)
    before = smtpd.memory()
    with smtpd.session("E") as client:
        start = time.monotonic()
        id = client.mail(body)
        assert time.monotonic() - start < 30
        client.alive()
    assert smtpd.memory() - before < memory_slack(4 * MIB)
    wait_for(lambda: not spool.new(), "it is stored")
    assert bytes(database.value("SELECT raw FROM messages WHERE id = %s", id)).endswith(body
                                                                                        + b"\r\n")
    start = time.monotonic()
    assert len(database.query("SELECT * FROM inbox('b')")) == 1
    assert time.monotonic() - start < 30
    assert storer.returncode is None
