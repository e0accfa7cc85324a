"""SMTP smuggling: nothing but CRLF.CRLF ends data, wherever, in whatever pieces, and beside
whatever else. The corpus is tests/smuggling/sequences.txt, and every arrangement of the octets
that could matter.

Each sequence is sent as content, with the commands of another message behind it. It must make one
message, get one reply, and be stored as RFC 5321 §4.5.2 says, octet for octet.
"""

import contextlib
import itertools
import re

import pytest

from cluster import ROOT
from smtp import bdat

CORPUS = ROOT / "tests" / "smuggling" / "sequences.txt"
ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "v": "\v", "f": "\f", "b": "\b", "0": "\0", "\\": "\\"}
EOD = b"\r\n.\r\n"
SMUGGLED = (b"MAIL FROM:<evil@c.example>\r\nRCPT TO:<victim@t.example>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nsmuggled")
ENVELOPE = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\n"
TOGETHER = 50   # transactions whose replies are read at once


def unescaped(text):
    """A sequence of the corpus as octets."""
    octets = b""
    for number, text in enumerate(re.split(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|[rntvfb0\\])", text)):
        if number % 2 == 0:
            octets += text.replace("·", " ").encode()
        elif text[0] == "x":
            octets += bytes([int(text[1:], 16)])
        elif text[0] == "u":
            octets += chr(int(text[1:], 16)).encode()
        else:
            octets += ESCAPES[text].encode()
    return octets


def corpus():
    lines = CORPUS.read_text().splitlines()
    return [unescaped(line.split("\t")[0]) for line in lines if line and not line.startswith("#")]


def unstuffed(wire):
    """What a receiver must make of it (RFC 5321 §4.5.2): a dot behind CRLF goes."""
    return re.sub(rb"(^|\r\n)\.", rb"\1", wire)


def around_a_dot(before, behind):
    """Every arrangement of up to so many octets that could matter before a dot, and behind it."""
    octets = [bytes([octet]) for octet in b"\r\n\0 \t."]
    sides = [[b"".join(side) for length in range(most + 1)
              for side in itertools.product(octets, repeat=length)] for most in (before, behind)]
    return [one + b"." + other for one, other in itertools.product(*sides)]


def content(sequence, head=b"Subject: x\r\n\r\nx"):
    """A message that would be two where the sequence ends data; None where it rightly does."""
    wire = head + sequence + SMUGGLED
    return None if EOD in b"\r\n" + wire else wire


def contents(sequences):
    """Messages with a sequence within a line, and with one at the start of data, where the line
    before is the DATA command, which did end in CRLF."""
    made = (content(sequence, head) for sequence in sequences
            for head in (b"Subject: x\r\n\r\nx", b""))
    return [wire for wire in made if wire is not None]


def deliver(client, stored, wires, begin=b"", sizes=None):
    """Sends each as the data of a transaction, many at once; each makes one message, with itself as
    content, and gets one reply. `begin` is sent before each transaction, and is answered 250."""
    for start in range(0, len(wires), TOGETHER):
        some = wires[start:start + TOGETHER]
        send(client, some, begin, sizes)
        for wire in some:
            expect(client, stored, wire, begin.count(b"\n"))
    nothing_more(client, stored)


def send(client, wires, begin=b"", sizes=None):
    client.send(b"".join(begin + ENVELOPE + b"DATA\r\n" + wire + EOD for wire in wires),
                sizes=sizes)


def expect(client, stored, wire, before=0):
    """The replies to one transaction, and the message it made."""
    for code in (250,) * before + (250, 250, 354):
        client.reply(code)
    stored_as(client, stored, wire)


def stored_as(client, stored, wire):
    message = stored.message(client.reply(250, "2.0.0").id)
    assert message.body == unstuffed(wire + b"\r\n"), wire
    assert (message.mail_from, message.recipients) == ("a@c.example", ["b@t.example"])
    message.path.unlink()


def nothing_more(client, stored):
    client.expect_silence(0.05)
    client.alive()
    assert stored.new() == [] and stored.tmp() == []


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool):
    return module_programs.smtpd(module_spool, SMTPD_MAX_MESSAGES=999_999, SMTPD_MAX_JUNK=1_000_000,
                                 SMTPD_MAX_ERRORS=1_000_000)


def test_d6_08_corpus_is_read_as_it_is_meant():
    sequences = corpus()
    assert len(set(sequences)) == len(sequences) > 60
    assert {b"\n.\n", b"\r\n.\0\r\n", b"\r\n. \r\n", b"\r\n\xe3\x80\x82\r\n",
            b"\r\n\xae\r\n"} <= set(sequences)
    # Each is refused as an end by what the RFC says, not by being unlike one.
    assert all(content(sequence) is not None for sequence in sequences)


def test_d6_08_corpus(smtpd, stored):
    with smtpd.session("E") as client:
        deliver(client, stored, contents(corpus()))


def test_d6_08_corpus_by_helo(smtpd, stored):
    with smtpd.session("G") as client:
        client.command("HELO c.example", 250)
        deliver(client, stored, contents(corpus()))


def test_d6_09_corpus_after_rset_and_second_hello(smtpd, stored):
    wires = contents(corpus())
    with smtpd.session("E") as client:
        deliver(client, stored, wires, ENVELOPE + b"RSET\r\n")
        client.command("EHLO c.example", 250)
        deliver(client, stored, wires)


def test_d6_08_corpus_octet_by_octet(smtpd, stored):
    with smtpd.session("E") as client:
        for wire in contents(corpus()):
            # As far as the commands that would be smuggled.
            octets = wire.index(SMUGGLED) + 5
            send(client, [wire], sizes=[len(ENVELOPE + b"DATA\r\n")] + [1] * octets)
            expect(client, stored, wire)
        nothing_more(client, stored)


def test_d6_08_corpus_cut_at_every_octet(smtpd, stored):
    """Two segments, so that what stands before the cut was read alone."""
    with smtpd.session("E") as client:
        for sequence in corpus():
            for cut in range(len(sequence) + 1):
                deliver_cut(client, stored, content(sequence), len(b"Subject: x\r\n\r\nx") + cut)
        nothing_more(client, stored)


def deliver_cut(client, stored, wire, cut):
    client.send(ENVELOPE + b"DATA\r\n")
    for code in (250, 250, 354):
        client.reply(code)
    # Under TLS a record is never read with the next; in the clear a pause parts two segments.
    client.send(wire[:cut])
    client.expect_silence(0.001)
    client.send(wire[cut:] + EOD)
    stored_as(client, stored, wire)


def test_d6_08_every_arrangement_alone(smtpd, stored):
    """Up to two octets before the dot and two behind it: 1,849, with a message of its own each."""
    wires = contents(around_a_dot(2, 2))
    assert len(wires) > 3000
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(smtpd.session("E")) for _ in range(16)]
        for start in range(0, len(wires), 16 * 10):
            shares = [wires[start + number:start + 160:16] for number in range(16)]
            for client, share in zip(clients, shares):
                send(client, share)
            for client, share in zip(clients, shares):
                for wire in share:
                    expect(client, stored, wire)
        for client in clients:
            nothing_more(client, stored)


@pytest.mark.parametrize("sizes", [None, 1009, [1] * 5000], ids=["whole", "pieces", "octets first"])
def test_d6_08_every_arrangement_together(smtpd, stored, sizes):
    """Up to three octets on each side: 67,081, all in one message."""
    parts = [part for part in around_a_dot(3, 3) if EOD not in part]
    wire = b"x" + b"y".join(parts) + b"z"
    assert EOD not in wire and len(parts) > 60_000
    with smtpd.session("E") as client:
        deliver(client, stored, [wire], sizes=sizes)


# Beside chunks, whose end is a count.

def in_chunks(client, stored, chunks):
    """Sends chunks, all at once; they make one message, whose content they are."""
    client.send(ENVELOPE + b"".join(bdat(chunk) for chunk in chunks) + bdat(b"", last=True))
    client.reply(250, "2.1.0")
    client.reply(250, "2.1.5")
    for _ in chunks:
        client.reply(250, "2.0.0")
    message = stored.message(client.reply(250, "2.0.0").id)
    assert message.body == b"".join(chunks), chunks
    message.path.unlink()


ENDS = [b"\r\n.\r\n", b".\r\n", b".", b"\r\n.", b"\r\n.\r", b"\r\n"]


def test_d6_08_corpus_in_chunks(smtpd, stored):
    with smtpd.session("E") as client:
        for sequence in corpus() + ENDS:
            in_chunks(client, stored, [b"x" + sequence + SMUGGLED])
            in_chunks(client, stored, [b"x" + sequence, SMUGGLED])
            in_chunks(client, stored, [sequence])
            for cut in range(len(sequence)):
                in_chunks(client, stored, [b"x" + sequence[:cut], sequence[cut:] + SMUGGLED])
        client.alive()
    assert stored.new() == []


def test_d6_08_data_after_a_chunk_that_ends_in_a_sequence(smtpd, stored):
    """The state of one way to end a message is not that of the other."""
    with smtpd.session("E") as client:
        for sequence in corpus() + ENDS:
            in_chunks(client, stored, [b"x" + sequence])
            deliver_cut(client, stored, b"\r\n.x" + SMUGGLED, 1)
            client.send(ENVELOPE + bdat(b"x" + sequence) + b"DATA\r\n")
            for code in (250, 250, 250, 503):
                client.reply(code)
            client.command("RSET", 250)
            deliver_cut(client, stored, b"\r\n" + SMUGGLED, 2)
        client.alive()
    assert stored.new() == []


def test_d6_08_chunks_after_data_that_is_refused(programs, spool):
    """What is read only to be refused ends where anything else would."""
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=200, SMTPD_MAX_ERRORS=1000, SMTPD_ERROR_DELAY=0)
    with smtpd.session("E") as client:
        for sequence in corpus():
            client.send(ENVELOPE + b"DATA\r\n" + b"x" * 300 + sequence + SMUGGLED + EOD)
            for code in (250, 250, 354, 552):
                client.reply(code)
            client.alive()
    assert spool.new() == []
