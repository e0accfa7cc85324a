"""The functions that make text of bytes: none may fail, whatever it is given."""

import random

import psycopg2
import pytest

from rows import add_mail, clock, text_of
from scale import scaled

LARGEST = scaled(25 << 20, 4 << 20)


@pytest.fixture(scope="module")
def database(session_cluster):
    session_cluster.start()
    fresh = session_cluster.create()
    yield fresh
    fresh.drop()


@pytest.fixture(scope="module")
def value(database):
    connection = database.connect()
    connection.autocommit = True

    def run(sql, *args):
        args = [psycopg2.Binary(arg) if isinstance(arg, bytes) else arg for arg in args]
        with connection.cursor() as cursor:
            cursor.execute("SELECT " + sql, args)
            return cursor.fetchone()[0]
    return run


# raw_data

BYTES = [
    b"",
    b"plain",
    "grüße, 日本, 🪰".encode(),
    bytes(range(1, 256)),
    bytes(range(256)),
    b"\0",
    b"\0" * 1000,
    "ü\0ü".encode(),
    b"\xff\0\xff",
    b"\x01a\x01b\0\x01\x01",                # what the function itself uses as an escape
    b"\\000 \\\\ \\x00 \0 \\001 \xff",      # what looks like the escape form
    b"\\000 \\\\ \\x00 \0 \\001 \xc3\xbc",
    b"\xc3",                                # cut in a character
    b"\xed\xa0\x80",                        # a surrogate
    b"\xf4\x90\x80\x80",                    # beyond Unicode
    b"\xc0\x80",                            # the overlong NUL
    b"\xef\xbf\xbd\0",                      # U+FFFD itself
    b"\xe2\x82\xac" * 400000 + b"\0",       # characters across every border of pieces
    b"x" * 1048575 + b"\0" + b"\xff" * 1048577,
]


@pytest.mark.parametrize("raw", BYTES, ids=lambda raw: repr(raw[:12]))
def test_every_byte_becomes_text(value, raw):
    assert value("message_text(%s)", raw) == text_of(raw)


def test_single_bytes(value):
    for byte in range(256):
        raw = bytes([byte])
        assert value("message_text(%s)", raw) == text_of(raw), byte


def test_random_bytes(value):
    generator = random.Random(1)
    for alphabet in (bytes(range(256)), b"\0\x01ab\\0", b"\0\xc3\xbc\xe2\x82\xac\x01"):
        for _ in range(200):
            raw = bytes(generator.choices(alphabet, k=generator.randrange(1, 40)))
            assert value("message_text(%s)", raw) == text_of(raw), raw


@pytest.mark.parametrize("unit", [b"x", b"\0", b"\xff", b"\0\xff", "ü\0".encode()],
                         ids=["ASCII", "NUL", "Latin-1", "both", "UTF-8 with NUL"])
def test_the_largest_message(value, unit):
    count = LARGEST // len(unit)
    assert value("message_text(decode(repeat(%s, %s), 'hex')) = repeat(%s, %s)",
                 unit.hex(), count, text_of(unit), count)


# Header fields

FIELDS = [
    (b"Subject: hello\r\n\r\n", "hello"),
    (b"Subject:hello\n\n", "hello"),
    (b"Subject:\r\n\r\n", ""),
    (b"subJECT \t:  hello \t\r\n\r\n", "hello"),
    (b"Subject: first\r\nSubject: second\r\n\r\n", "first"),
    (b"SUBJECT: first\r\nSubject: second\r\nTo: x\r\n\r\n", "first"),
    (b"To: x\r\nSubject : first\r\nSubject: second\r\nTo: x\r\n\r\n", "first"),
    (b"To: x\r\nSubject\t: first\r\nSubject: second\r\nTo: x\r\n\r\n", "first"),
    (b"To: x\r\n\r\nSubject: in the body\r\nand: on\r\n", None),
    (b"To: x\n\nSubject: in the body\nand: on\n", None),
    (b"To: x\n\r\nSubject: in the body\nand: on\n", None),
    (b"Subject: a\r\n", "a"),
    (b"Subject: a\r\nb", "a"),
    (b"Received: x\r\nSubject: a\r\n\tb\r\n  c\r\nTo: x\r\n\r\n", "a\tb  c"),
    (b"Subject:\r\n a\r\n\r\n", "a"),
    (b"To: x\r\n\r\nSubject: in the body\r\n", None),
    (b"To: x\r\nX-Subject: other\r\nSubjects: other\r\n\r\n", None),
    (b"To: x\r\n Subject: folded\r\n\r\n", None),
    (b"Subject", None),
    (b"Subject: no end", "no end"),
    (b"", None),
    (b"\r\n\r\nSubject: x", None),
    (b"Received: x\r\nFrom alice Mon\r\nSubject: in the body\r\nTo: x\r\n\r\n", None),
    (b"Received: x\r\nno field\r\nSubject: in the body\r\n folded\r\n\r\n", None),
    (b"To \t: x\r\n\ty: z\r\n \r\nSubject: a\r\nb: c\r\n\r\n", "a"),
    (b" folded: x\r\nSubject: in the body\r\nTo: x\r\n\r\n", None),
    (b":\r\nSubject: in the body\r\nTo: x\r\n\r\n", None),
    (b"\0\xff\\: x\r\nSubject: \xc3\xbc\0\\000\r\n\r\n", "ü\ufffd\\000"),
    (b"Subject: \xfc\r\n\r\n", "ü"),
    (b"Long: " + b"y" * 9000 + b"\r\nSubject: late\r\n\r\n", "late"),
    (b"Long: " + b"y" * 8170 + b"\r\nSubject: " + b"cut" * 50 + b"\r\n\r\n", "cut" * 50),
    (b"Long: " + b"y" * 8167 + b"\r\nSubject: a\r\n b\r\n\r\n", "a b"),
    (b"Long: " + b"y" * 60000 + b"\r\nSubject: later\r\n\r\n", "later"),
    (b"Long: " + b"y" * 66000 + b"\r\nSubject: too late\r\n\r\n", None),
    (b"Subject: " + b"y" * 600000 + b"\r\n\r\n", "y" * (65536 - 9)),
]


@pytest.mark.parametrize("raw, want", FIELDS, ids=lambda case: repr(case)[:40])
def test_header_field(value, raw, want):
    assert value("header_field(%s, 'Subject')", raw) == want


def test_header_field_at_every_border(value):
    """Wherever a slice ends, the field is found whole."""
    for before in (*range(1990, 2050), *range(8120, 8200)):
        raw = b"L: " + b"y" * before + b"\r\nSubject: on\xc3\xbc\r\n two\r\nTo: x\r\n\r\nbody"
        assert value("header_field(%s, 'subject')", raw) == "onü two", before
        raw = raw.replace(b"\r\n two", b"")
        assert value("header_field(%s, 'subject')", raw) == "onü", before


def test_header_field_name_is_no_pattern(value):
    assert value("header_field(%s, 'S.*')", b"Subject: x\r\n\r\n") is None
    assert value("header_field(%s, 'S.b(j+')", b"S.b(j+: x\r\n\r\n") == "x"
    for name in ("", " ", ":", "ü", "Subject:"):
        assert value("header_field(%s, %s)", b"Subject: x\r\n :y\r\n\r\n", name) is None, name


# RFC 2047

WORDS = [
    ("plain", "plain"),
    ("", ""),
    ("a = b =? c ?= d", "a = b =? c ?= d"),
    ("=?utf-8?Q?hall=C3=B6_du?=", "hallö du"),
    ("=?UTF-8?b?aGFsbMO2?=", "hallö"),
    ("=?utf-8?B?aGFsbMO2bw?=", "hallöo"),
    ("=?us-ascii?Q?a=20b?= tail", "a b tail"),
    ("=?utf-8*de?Q?a?=", "a"),
    ("Re: =?iso-8859-1?Q?=E4=F6?= ok", "Re: äö ok"),
    ("=?iso-8859-15?Q?=A4?=", "€"),
    ("=?ISO-8859-2?Q?=B9?=", "š"),
    ("=?iso-8859-8-i?Q?=F9?=", "ש"),
    ("=?windows-1252?Q?=80=93?=", "€“"),
    ("=?cp1251?B?z/Do4uXy?=", "Привет"),
    ("=?koi8-r?B?8NLJ18XU?=", "Привет"),
    ("=?shift_jis?B?k/qWew==?=", "日本"),
    ("=?euc-jp?B?xvzL3A==?=", "日本"),
    ("=?gb2312?B?1tDOxA==?=", "中文"),
    ("=?big5?B?pKSk5Q==?=", "中文"),
    ("=?euc-kr?B?x9GxuQ==?=", "한국"),
    ("=?ks_c_5601-1987?B?x9GxuQ==?=", "한국"),
    # adjacent words
    ("=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"),
    ("=?utf-8?Q?a?=\r\n\t =?iso-8859-1?Q?=E4?=", "aä"),
    ("=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"),
    ("=?utf-8?Q?a?= ", "a "),
    ("x =?utf-8?Q?a?==?utf-8?Q?b?= y", "x ab y"),
    ("=?utf-8?Q?=E2=82?= =?utf-8?Q?=AC?=", "€"),
    ("=?utf-8?B?4oI=?=\r\n =?UTF-8?B?rA==?= end", "€ end"),
    # what cannot be decoded stays as it is
    ("=?nonesuch?Q?x?= y", "=?nonesuch?Q?x?= y"),
    ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?="),
    ("=?utf-8?Q?=FF?=", "=?utf-8?Q?=FF?="),
    ("=?utf-8?Q?=0?= x", "=?utf-8?Q?=0?= x"),
    ("=?utf-8?Q?=zz?=", "=?utf-8?Q?=zz?="),
    ("=?utf-8?Q?=00?=", "=?utf-8?Q?=00?="),
    ("=?utf-8?B?!!!?=", "=?utf-8?B?!!!?="),
    ("=?utf-8?B?AA==?=", "=?utf-8?B?AA==?="),
    ("=?utf-8?X?a?=", "=?utf-8?X?a?="),
    ("=?utf-8?Q?open", "=?utf-8?Q?open"),
    ("=?utf-8?Q?ok?= =?utf-8?Q?=FF?=", "ok =?utf-8?Q?=FF?="),
    ("=?utf-8?Q?=FF?= =?utf-8?Q?ok?=", "=?utf-8?Q?=FF?= ok"),
    ("=?utf-8?Q?=FF?= =?latin1?Q?=FC?=", "=?utf-8?Q?=FF?= ü"),
    ("=?utf-8?Q?\\a\\?=", "\\a\\"),
    ("=?utf-8?Q?€?=", "=?utf-8?Q?€?="),
]


@pytest.mark.parametrize("field, want", WORDS)
def test_header_decode(value, field, want):
    assert value("header_decode(%s)", field) == want


def test_header_decode_never_fails(value):
    generator = random.Random(2)
    parts = ["=?", "?=", "?", "Q", "B", "utf-8", "=", "=E4", "=C3", "=0", "_", " ", "\r\n ", "aGk=",
             "sjis", "€", "\\", "mule_internal", "sql_ascii", "x" * 70, "*"]
    for _ in range(500):
        field = "".join(generator.choices(parts, k=generator.randrange(1, 30)))
        assert value("header_decode(%s)", field) is not None, field


def test_a_header_nobody_reads_stays_as_it_is(value):
    field = "=?utf-8?Q?a?= " * 100000
    assert value("header_decode(%s)", field) == field


# Addresses

ADDRESSES = [
    ("bob@example.org", "bob", "example.org"),
    ("Bob.Smith+Tag@Example.ORG", "bob.smith+tag", "example.org"),
    ('"Bob"@x.example', "bob", "x.example"),
    ('"a b"@x.example', "a b", "x.example"),
    ('"a@b"@x.example', "a@b", "x.example"),
    ('"a\\"b\\\\c"@x.example', 'a"b\\c', "x.example"),
    ('""@x.example', "", "x.example"),
    ("a@b@x.example", "a@b", "x.example"),
    ("Postmaster", "postmaster", ""),
    ('"quoted"', '"quoted"', ""),
    ("", "", ""),
    ("@", "", ""),
    ("@x.example", "", "x.example"),
    ("bob@", "bob", ""),
    ("bob@[IPv6:2001:DB8::1]", "bob", "[ipv6:2001:db8::1]"),
    ("GRÜN@BÄUME.example", "grün", "bäume.example"),
    ("INFO@X.example", "info", "x.example"),
    ("x'/**/;--@a.example", "x'/**/;--", "a.example"),
    ("a\nb@x.example", "a\nb", "x.example"),
    ("\x01\x7f@x.example", "\x01\x7f", "x.example"),
    ("Ü" * 3000 + "@x.example", "ü" * 512, "x.example"),
    ('"', '"', ""),
    ('"@x', '"', "x"),
]


@pytest.mark.parametrize("address, username, domain", ADDRESSES, ids=lambda case: repr(case)[:30])
def test_addresses(value, address, username, domain):
    assert value("address_username(%s)", address) == username
    assert value("address_domain(%s)", address) == domain


def test_addresses_never_fail(value):
    generator = random.Random(3)
    alphabet = '@"\\.aÜİß\u0001\u007f 日🪰'
    for _ in range(500):
        address = "".join(generator.choices(alphabet, k=generator.randrange(12)))
        assert value("address_username(%s) || address_domain(%s)", address, address) is not None


def test_an_address_of_any_length_can_be_stored(database):
    """Its index entry has a limit; the row has none."""
    recipient = "🪰" * 20000 + "@" + "d" * 20000
    connection = database.connect()
    add_mail(connection, clock(connection), [recipient])
    connection.commit()
    assert database.query("SELECT recipient, username, domain FROM emails") == [
        (recipient, "🪰" * 512, "d" * 20000)]
