"""message_headers: every field of an unexpired message, in order, as a mail reader shows it."""

import datetime
import email
import email.message
import email.policy
import uuid

import pytest

from nasty import NASTY
from rows import add_mail, clock, make_day, text_of

# For a statement that reads one message, whatever it holds. Most take milliseconds.
TIMEOUT = "SET statement_timeout = '60s'"


@pytest.fixture(scope="module")
def connection(session_cluster):
    session_cluster.start()
    fresh = session_cluster.create()
    connection = fresh.connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(TIMEOUT)
    yield connection
    fresh.drop()


@pytest.fixture
def headers(connection):
    """A function that stores a message and reads its header."""
    def run(raw):
        id = add_mail(connection, clock(connection), raw=raw)
        return headers_of(connection, id)
    return run


def headers_of(connection, id):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM message_headers(%s)", (id,))
        assert [column.name for column in cursor.description] == ["position", "name", "value"]
        rows = cursor.fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return [row[1:] for row in rows]


FIELDS = [
    (b"", []),
    (b"\r\nA: b\r\n", []),
    (b"A: b", [("A", "b")]),
    (b"A:b\nC :\t d \nA: e\n\nF: g\n", [("A", "b"), ("C", "d"), ("A", "e")]),
    (b"A: b\r\n\tc\r\n  d\r\nE:\r\n f\r\n\r\n", [("A", "b\tc  d"), ("E", "f")]),
    (b"A: b\r\n \r\n c\r\nD: e\r\n\r\n", [("A", "b  c"), ("D", "e")]),
    (b"A: b\r\nno field\r\nC: d\r\n\r\n", [("A", "b")]),
    (b"A: b\r\nno field: c\r\nC: d\r\n\r\n", [("A", "b")]),
    (b" A: b\r\nC: d\r\n\r\n", []),
    (b"A: b: c\r\n:\r\n", [("A", "b: c")]),
    (b"A: \r\nB:\r\n\r\n", [("A", ""), ("B", "")]),
    (b"Subject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\r\n =?utf-8?B?IQ==?= x\r\n\r\n",
     [("Subject", "grüße! x")]),
    (b"A: \xc3\xbc\r\nB: \xfc\r\nC: \0\\000\r\n\r\n\xff", [("A", "ü"), ("B", "ü"),
                                                          ("C", "\ufffd\\000")]),
    (b"A\\\xfc: b\rc\r\n\r\n", [("A\\ü", "b\rc")]),
    (b"A: " + b"x" * 200_000 + b"\r\nB: c\r\n\r\n", [("A", "x" * 200_000), ("B", "c")]),
    (b"A: b\r\n" + b"C: " + b"x" * 300_000 + b"\r\nD: e\r\n\r\n",
     [("A", "b"), ("C", "x" * (262_144 - 9))]),
    (b"A: b\r\n" + b"x" * 300_000 + b": c\r\n\r\n", [("A", "b")]),
    (b"A: b\r\n" + b"x" * 10_000 + b": c\r\n\r\n", [("A", "b"), ("x" * 10_000, "c")]),
    (b"A: b\r\n" * 10_000, [("A", "b")] * 10_000),
]


@pytest.mark.parametrize("raw, want", FIELDS, ids=lambda case: repr(case)[:30])
def test_fields(headers, raw, want):
    assert headers(raw) == want


def test_at_every_border(headers):
    """Wherever the first slice ends, all fields are found whole, and nothing of the body."""
    for before in range(4060, 4100):
        raw = b"L: " + b"y" * before + b"\r\nS: a\r\n b\r\nT: \xfc\r\n\r\nB: c\r\n" + b"x" * 5000
        assert headers(raw) == [("L", "y" * before), ("S", "a b"), ("T", "ü")], before


def test_as_python_reads_it(headers):
    """The fields of well-formed messages, with Python's own parser for a judge."""
    texts = ["plain", "Grüße aus Köln", "日本語の件名", "long" + " long" * 60, "lang" + " und grün" * 30,
            
             "a =? b ?= c", "\"quoted\" <a@b.example>; x=y", "🪰" * 40, "x" * 900, "a  b   c"]
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    for number, text in enumerate(texts):
        message[f"X-Text-{number}"] = text
    message["Subject"] = "Re: " + texts[1]
    message["To"] = "Jörg Müller <j@x.example>, b@x.example"
    message["Date"] = "Sat, 21 Nov 2026 19:08:11 +0000"
    message.set_content("Grüße\n")
    raw = message.as_bytes()
    assert b"=?utf-8?" in raw and b"\r\n " in raw
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert headers(raw) == [(name, str(value)) for name, value in parsed.items()]


def test_it_agrees_with_header_field(connection, headers):
    """On the first field of each name, which inbox shows."""
    raw = b"Subject: one\r\nFrom: a\r\n\tb\r\nSUBJECT: two\r\nX: \xfc\\\0\r\n\r\nFrom: c\r\n"
    for name, value in {name.lower(): value for name, value in reversed(headers(raw))}.items():
        with connection.cursor() as cursor:
            cursor.execute("SELECT header_field(%s, %s)", (raw, name))
            assert cursor.fetchall() == [(value,)]


@pytest.mark.parametrize("message", NASTY)
def test_it_agrees_with_header_field_on_what_a_header_is(connection, message):
    """Within the 64 kB that are looked at."""
    with connection.cursor() as cursor:
        for name in ("Subject", "RECEIVED", "to", "a", "Content-Type", "just"):
            cursor.execute("SELECT value FROM header_extent(%s, 1, %s), header_fields(fields)"
                           " WHERE lower(name) = lower(%s) ORDER BY position LIMIT 1",
                           (NASTY[message][:65_536], min(len(NASTY[message]), 65_536) + 1, name))
            want = cursor.fetchone() or (None,)
            cursor.execute("SELECT header_field(%s, %s)", (NASTY[message][:70_000], name))
            assert cursor.fetchone() == want, name


@pytest.mark.parametrize("name", NASTY)
def test_nothing_makes_it_fail(headers, name):
    shown = headers(NASTY[name])
    assert sum(len(text) for row in shown for text in row) <= 4 * 262_144
    # All of it stands in the message, but for what was decoded or folded.
    text = text_of(NASTY[name][:300_000])
    for field, value in shown[:100]:
        assert field in text
        assert value in text or not value.isascii() or "\n" in text


def test_only_of_what_has_not_expired(connection):
    now = clock(connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_retention('1 hour')")
    try:
        for age, want in (datetime.timedelta(minutes=50), [("A", "b")]), \
                (datetime.timedelta(minutes=60, seconds=1), []):
            make_day(connection, now - age)
            id = add_mail(connection, now - age, raw=b"A: b\r\n\r\n")
            assert headers_of(connection, id) == want
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_retention('7 days')")
    assert headers_of(connection, id) == [("A", "b")]
    assert headers_of(connection, str(uuid.uuid4())) == []
    assert headers_of(connection, None) == []
