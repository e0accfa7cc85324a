"""Checklist D6-08 and D6-09: only CRLF.CRLF ends data.

What other servers took for the end let one sender write the envelope of the next message ("SMTP
smuggling"): CVE-2023-51764, 51765, 51766, CVE-2024-27305.
"""

import itertools
import random
import re

import pytest

from scale import scaled

SEQUENCES = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\n\n.\r\n",
    b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\n. \r\n", b"\r\r\n.\r\r\n",
    # More of the kind, as a study of 1,600 services tried them.
    b"\r\n.\r\0\n", b"\r\n\t.\r\n", b"\r\n.\t\r\n", b"\r\n.\x0b\r\n", b"\r\n.\x0c\r\n",
    b"\x85.\x85", b"\n\r.\n\r", b"\r\r.\r\r", b"\0\n.\r\n", b"\r\0\n.\r\n", b"\r\n..\r\n",
    b"\r\n\xe2\x80\xa4\r\n",
]

SMUGGLED = (b"MAIL FROM:<evil@c.example>\r\nRCPT TO:<victim@t.example>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nsmuggled")
EOD = b"\r\n.\r\n"


def unstuffed(wire):
    """What a receiver must make of it (RFC 5321 §4.5.2): a dot behind CRLF goes."""
    return re.sub(rb"(^|\r\n)\.", rb"\1", wire)


def begin(client):
    """A transaction, up to its data."""
    client.command("MAIL FROM:<a@c.example>", 250)
    client.command("RCPT TO:<b@t.example>", 250)
    client.command("DATA", 354)
    return client


def first(smtpd):
    return smtpd.session("D")


def second(smtpd):
    client = smtpd.session("E")
    client.mail(b"the first message")
    return begin(client)


def after_rset(smtpd):
    client = smtpd.session("R")
    client.command("RSET", 250, "2.0.0")
    return begin(client)


def is_content(client, stored, wire, **how):
    """The wire bytes make one message and get one reply, which comes at the real end."""
    client.send(wire, **how)
    client.expect_silence(0.05)
    client.send(EOD)
    id = client.reply(250, "2.0.0").id
    assert client.command("NOOP", 250, "2.0.0").text.find("queued") < 0
    client.quit()
    message = stored.message(id)
    assert message.mail_from == "a@c.example" and message.recipients == ["b@t.example"]
    assert message.body == unstuffed(wire + b"\r\n")


def ids(sequence):
    return repr(sequence)[2:-1]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=ids)
def test_d6_08_only_crlf_dot_crlf_ends_data(smtpd, stored, sequence):
    is_content(first(smtpd), stored, b"Subject: x\r\n\r\nx" + sequence + SMUGGLED)
    assert len(stored.new()) == 1


@pytest.mark.parametrize("sequence", SEQUENCES, ids=ids)
def test_d6_08_at_the_start_of_data(smtpd, stored, sequence):
    # The line before is the DATA command, which did end in CRLF.
    is_content(first(smtpd), stored, sequence.removeprefix(b"\r\n") + SMUGGLED)


@pytest.mark.parametrize("sequence", SEQUENCES, ids=ids)
def test_d6_08_cut_at_every_octet(smtpd, stored, sequence):
    head = b"Subject: x\r\n\r\nx"
    for cut in range(len(sequence) + 1):
        is_content(first(smtpd), stored, head + sequence + SMUGGLED, sizes=[len(head) + cut],
                   pause=0.01)
    is_content(first(smtpd), stored, head + sequence + SMUGGLED, sizes=1)


def test_d6_08_every_short_sequence(smtpd, stored):
    """Every arrangement of five octets that could matter, but for the real end."""
    wire = b"".join(b"x" + bytes(octets) + b"y"
                    for octets in itertools.product(b"\r\n.\0", repeat=5)
                    if EOD not in bytes(octets))
    is_content(first(smtpd), stored, wire)
    is_content(first(smtpd), stored, wire, sizes=1000)


@pytest.mark.parametrize("seed", range(scaled(200, 20)))
def test_d6_08_anything_in_any_pieces(smtpd, stored, seed):
    chance = random.Random(seed)
    wire = bytes(chance.choices(b"\r\n.\0x", weights=[4, 4, 4, 1, 2], k=chance.randrange(1, 4000)))
    wire = b"x" + wire + b"x"
    while EOD in wire:
        wire = wire.replace(EOD, b"\r\n:\r\n")
    sizes = [chance.randrange(1, 40) for _ in range(len(wire) // 20)]
    is_content(first(smtpd), stored, wire, sizes=sizes)


@pytest.mark.parametrize("before", [second, after_rset], ids=["second transaction", "after RSET"])
@pytest.mark.parametrize("sequence", SEQUENCES, ids=ids)
def test_d6_09_also_later_in_a_session(smtpd, stored, before, sequence):
    wire = b"Subject: x\r\n\r\nx" + sequence + SMUGGLED
    is_content(before(smtpd), stored, wire)
    is_content(before(smtpd), stored, wire, sizes=1)
    assert len(stored.new()) == (4 if before is second else 2)
