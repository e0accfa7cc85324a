"""message_parts: what a mail reader would take a message apart into, with Python's email package
for a judge of what is well formed, and nothing worse than few parts for what is not."""

import datetime
import email
import email.mime.application
import email.mime.image
import email.mime.message
import email.mime.multipart
import email.mime.text
import email.policy
import random
import uuid

import pytest

from nasty import LARGE, MULTIPART, NASTY, many_parts, messages_within, nested
from rows import add_mail, clock, make_day
from scale import scaled

# For a statement that reads one message, whatever it holds. Most take milliseconds.
TIMEOUT = "SET statement_timeout = '100s'"

COLUMNS = ["number", "content_type", "charset", "disposition", "filename", "size", "content",
           "content_text"]


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


def rows_of(connection, sql, *args):
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchall()


def parts_of(connection, id):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM message_parts(%s)", (id,))
        assert [column.name for column in cursor.description] == COLUMNS
        rows = cursor.fetchall()
    return [(*row[:6], None if row[6] is None else bytes(row[6]), row[7]) for row in rows]


@pytest.fixture
def parts(connection):
    """A function that stores a message and takes it apart."""
    def run(raw):
        return parts_of(connection, add_mail(connection, clock(connection), raw=raw))
    return run


# Python as the judge

def judged(message, path=(), is_message=True):
    """(number, type, charset, disposition, filename, content) of each part, numbered as in IMAP; an
    attached message without its content."""
    if message.get_content_maintype() == "multipart":
        assert message.is_multipart()
        if not is_message:
            yield row_of(path, message, None)
        for number, child in enumerate(message.get_payload(), 1):
            yield from judged(child, (*path, number), False)
        return
    own = (*path, 1) if is_message else path
    if message.get_content_type() == "message/rfc822":
        yield row_of(own, message, None)
        yield from judged(message.get_payload(0), own)
    else:
        yield row_of(own, message, message.get_payload(decode=True))


def row_of(path, message, content):
    return (".".join(map(str, path)), message.get_content_type(), message.get_content_charset(),
            message.get_content_disposition(), message.get_filename(), content)


def assert_as_judged(got, raw):
    want = list(judged(email.message_from_bytes(raw, policy=email.policy.default)))
    assert [(*row[:5], None if row[1] == "message/rfc822" else row[6]) for row in got] == want


TEXTS = ["plain\r\n", "Grüße aus Köln, " * 20 + "\r\n", "日本語\r\n" * 10, "", "x" * 2000,
         "a=b = c\r\n", "line\r\n" * 100, "--\r\nsignature\r\n", "trailing\r\n\r\n", "€\r\n.\r\n"]


def modern(generator):
    """A message such as today's libraries make."""
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = "x"
    message.set_content(generator.choice(TEXTS), cte=generator.choice(
        ["quoted-printable", "base64", "8bit"]))
    if generator.random() < 0.6:
        message.add_alternative("<p>grün</p>" * generator.randrange(1, 50), subtype="html",
                                charset=generator.choice(["utf-8", "iso-8859-1", "windows-1252"]))
        if generator.random() < 0.5:
            message.get_payload()[1].add_related(generator.randbytes(300), "image", "png",
                                                 cid="<a@b>")
    for number in range(generator.randrange(3)):
        message.add_attachment(generator.randbytes(generator.randrange(5000)), "application", "pdf",
                               filename=generator.choice(["a b.pdf", "Grüße; \"x\".pdf", "日本.pdf",
                                                          "x" * 200 + "ü.pdf"]))
    if generator.random() < 0.3:
        inner = modern(generator)
        message.add_attachment(inner)
    return message


def old(generator, depth=0):
    """A message such as they used to be made, with the same boundary prefix at all levels."""
    outer = email.mime.multipart.MIMEMultipart(
        generator.choice(["mixed", "alternative", "report", "x-other"]),
        boundary="=_b" + "x" * depth)
    outer.preamble = generator.choice([None, "This is a multipart message.\r\n--=_bx and so on"])
    outer.epilogue = generator.choice([None, "the end", "--=_b\r\nno part\r\n"])
    for _ in range(generator.randrange(1, 4)):
        kind = generator.randrange(5)
        if kind == 0 and depth < 4:
            part = old(generator, depth + 1)
        elif kind == 1:
            part = email.mime.message.MIMEMessage(email.mime.text.MIMEText(generator.choice(TEXTS)))
        elif kind == 2:
            part = email.mime.application.MIMEApplication(generator.randbytes(200))
            part.add_header("Content-Disposition", "attachment",
                            filename=generator.choice(["a.bin", ("iso-8859-1", "de", "für.bin")]))
        else:
            charset = generator.choice(["us-ascii", "utf-8", "iso-8859-15", "koi8-r"])
            text = generator.choice(TEXTS).encode(charset, "replace").decode(charset)
            part = email.mime.text.MIMEText(text, "plain", charset)
        outer.attach(part)
    return outer


@pytest.mark.parametrize("make", [modern, old])
@pytest.mark.parametrize("line_end", ["\r\n", "\n"], ids=["CRLF", "LF"])
def test_as_python_reads_it(parts, make, line_end):
    generator = random.Random(1)
    for _ in range(scaled(400, 20)):
        policy = email.policy.default.clone(linesep=line_end, cte_type="8bit")
        raw = make(generator).as_bytes(policy=policy)
        assert_as_judged(parts(raw), raw)


def test_text_is_content_in_its_charset(parts):
    generator = random.Random(2)
    for _ in range(scaled(200, 20)):
        raw = modern(generator).as_bytes()
        for _, kind, charset, _, _, size, content, text in parts(raw):
            if kind.startswith("text/"):
                assert text == content.decode(charset)
            if content is not None:
                assert size == len(content)


# Cases that a mail reader reads and a generator does not make

def body(text, encoding="8bit", kind=b"text/plain"):
    return b"Content-Type: " + kind + b"\r\nContent-Transfer-Encoding: " + encoding.encode() \
        + b"\r\n\r\n" + text


BODIES = [
    (body(b"x \t\r\na=\r\nb=  \r\nc=3D=3d \n=\n=e4", "Quoted-Printable",
          b"text/plain; charset=latin1"),
     b"x\r\nabc==\n\xe4", "x\r\nabc==\n\xe4"),
    (body(b"=00=FF=\0\\\\=\xff=4=zz==41=", "quoted-printable"), b"\0\xff=\0\\\\=\xff=4=zz=A=",
     "\ufffd\xff=\ufffd\\\\=\xff=4=zz=A="),
    (body(b"a_b=3D41", "quoted-printable"), b"a_b=41", "a_b=41"),
    (body(b"aGFs\r\n bMO2\r\n", "BASE64"), "hallö".encode(), "hallö"),
    (body(b"aGFsbMO2bw", "base64"), "hallöo".encode(), "hallöo"),
    (body(b"aG!F\xffs\0bM\\O2", "base64 (comment)"), "hallö".encode(), "hallö"),
    (body(b"aGk=\r\naGk=\r\n", "base64"), b"hi", "hi"),
    (body(b"aGkh\r\na", "base64"), b"hi!", "hi!"),
    (body(b"=aGk", "base64"), b"", ""),
    (body(b"x", "x-uuencode"), b"x", "x"),
    (body("€".encode(), kind=b"text/plain; charset=nonesuch"), "€".encode(), "€"),
    (body(b"\xe4", kind=b"text/plain; charset=utf-8"), b"\xe4", "ä"),
    (body(b"\xa4", kind=b'TEXT/Plain; x="; charset=b"; charset="ISO-8859-15" (euro)'),
     b"\xa4", "€"),
    (body(b"\xa4", kind=b"text/plain (a comment); charset=iso-8859-15 (euro)"), b"\xa4", "€"),
    (body(b"x", kind=b"text"), b"x", "x"),
    (b"Content-Type: text/plain; charset=iso-8859-15\r\nContent-Type: text/html\r\n\r\n\xa4",
     b"\xa4", "€"),
    (b"no header\r\n\r\nat all", b"no header\r\n\r\nat all", "no header\r\n\r\nat all"),
    (b"A: b\r\nno field\r\n\r\nc", b"no field\r\n\r\nc", "no field\r\n\r\nc"),
    (b"A: " + b"x" * 300_000 + b"\r\n\r\nbody", b"body", "body"),
    (b"A: " + b"x" * 300_000 + b"\n\nbody", b"body", "body"),
    (b"A: " + b"x" * (262_144 - 4) + b"\n\nbody", b"body", "body"),
    (b"A: " + b"x" * (262_144 - 5) + b"\n\r\nbody", b"body", "body"),
    (b"A: " + b"x" * (262_144 - 6) + b"\nB : c\r\n\r\nbody", b"body", "body"),
    (b"A: b\r\n" + b"x" * 300_000, b"x" * 300_000, "x" * 300_000),
    (b"A: b\r\n" + b"x " * 150_000 + b"\r\n\r\ny", b"x " * 150_000 + b"\r\n\r\ny",
     "x " * 150_000 + "\r\n\r\ny"),
]


@pytest.mark.parametrize("raw, content, text", BODIES, ids=lambda case: repr(case)[:30])
def test_bodies(parts, raw, content, text):
    (row,) = parts(raw)
    assert (row[0], row[5:]) == ("1", (len(content), content, text))


FILENAMES = [
    (b"attachment; filename=a.txt", "a.txt"),
    (b'attachment; filename="a \\"b\\"; c.txt"', 'a "b"; c.txt'),
    (b"attachment; FileName = a b.txt ; x=y", "a b.txt"),
    (b"attachment; filename=a.txt (the file)", "a.txt"),
    (b'attachment; filename="unterminated', "unterminated"),
    (b'attachment; filename=""', ""),
    (b"attachment; filename=", ""),
    (b"attachment", "name"),
    (b"attachment; filename*=utf-8''%E2%82%AC%20x", "€ x"),
    (b"attachment; filename*=''%E2%82%AC", "€"),
    (b"attachment; filename*=iso-8859-1'de'f%FCr_=", "für_="),
    (b"attachment; filename=plain; filename*=utf-8''b%C3%A4tter", "bätter"),
    (b"attachment; filename*=utf-8''whole; filename*0=a; filename*1=b", "whole"),
    (b'attachment; filename*1="b%41"; filename*0="a"; filename*2=c', "ab%41c"),
    (b"attachment;\r\n filename*0*=utf-8''a%E2%82;\r\n filename*1*=%AC;\r\n filename*2=\"%b\"",
     "a€%b"),
    (b"attachment; filename*0=\"it's\"; filename*1*=%20o'clock", "it's o'clock"),
    (b"attachment; filename*0=\"a'b'c\"; filename*1*=%20d", "a'b'c d"),
    (b"attachment; filename*0*=utf-8; filename*1*=''a", "utf-8''a"),
    (b"attachment; filename*1=\"'\"; filename*0*=latin1''%FC", "ü'"),
    (b"attachment; filename*=nonesuch''%41", "%41"),
    (b"attachment; filename*=utf-8''%FF%zz", "%FF%zz"),
    (b"attachment; filename*=utf-8''a%00", "a%00"),
    (b'attachment; filename="=?utf-8?Q?gr=C3=BCn.txt?="', "grün.txt"),
    (b'attachment; filename="gr\xc3\xbcn.txt"', "grün.txt"),
    (b'attachment; filename="gr\xfcn.txt"', "grün.txt"),
    (b'attachment; filename="=?utf-8?Q?=C3=BC?=' + b"x" * 980 + b'"', "ü" + "x" * 980),
    (b'attachment; filename="=?utf-8?Q?=C3=BC?=' + b"x" * 990 + b'"',
     "=?utf-8?Q?=C3=BC?=" + "x" * 990),
    (b'attachment; filename="../../etc/passwd"', "../../etc/passwd"),
]


@pytest.mark.parametrize("field, want", FILENAMES, ids=lambda case: repr(case)[:50])
def test_filename(parts, field, want):
    (row,) = parts(b"Content-Type: text/plain; name=name\r\nContent-Disposition: " + field
                   + b"\r\n\r\n")
    assert row[3:5] == ("attachment", want)


def multipart(boundary, *pieces):
    return MULTIPART % boundary + b"".join(pieces)


STRUCTURES = [
    # one boundary the beginning of another, inside and outside
    (multipart(b"b", b"--b\r\n", multipart(b"bb", b"--bb\r\n\r\n1\r\n--bb\r\n\r\n2\r\n--bb--\r\n"),
               b"--b\r\n\r\n3\r\n--b--\r\n"),
     [("1", None), ("1.1", b"1"), ("1.2", b"2"), ("2", b"3")]),
    (multipart(b"bb", b"--bb\r\n", multipart(b"b", b"--b\r\n\r\n1\r\n--bb1\r\n\r\n--b--\r\n"),
               b"--bb--\r\n"), [("1", None), ("1.1", b"1\r\n--bb1\r\n")]),
    # unterminated, at the end and inside
    (multipart(b"b", b"--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n"), [("1", b"1"), ("2", b"2\r\n")]),
    (multipart(b"b", b"--b\r\n", multipart(b"c", b"--c\r\n\r\n1"), b"\r\n--b\r\n\r\n2\r\n--b--"),
     [("1", None), ("1.1", b"1"), ("2", b"2")]),
    (multipart(b"b", b"--b\r\nContent-Type: text/plain"), [("1", b"")]),
    (multipart(b"b", b"--b"), [("1", b"")]),
    # white space behind a delimiter, LF alone, an empty part, a line end that belongs to two
    (multipart(b"b", b"--b \t\r\n\r\n1\n--b\n\n2\n\n--b\r\n\r\n--b--  \r\n",
               b"\r\nend\r\n--b\r\n\r\nno"),
     [("1", b"1"), ("2", b"2\n"), ("3", b"")]),
    (multipart(b"b ", b"--b\r\n\r\n1\r\n--b--"), [("1", b"1")]),
    # what comes before the first, and delimiters within lines
    (multipart(b"b", b"pre --b\r\n --b\r\n--b\r\n\r\n1 --b\r\n--b-\r\n--b---\r\n--b--"),
     [("1", b"1 --b\r\n--b-\r\n--b---")]),
    # a boundary is no pattern, and no encoded word
    (multipart(b"=?utf-8?Q?b?=", b"--=?utf-8?Q?b?=\r\n\r\n1\r\n--=?utf-8?Q?b?=--"),
     [("1", b"1")]),
    (multipart(b"a.*[b", b"--axxb\r\n\r\n1\r\n--a.*[b\r\n\r\n2\r\n--a.*[b--"), [("1", b"2")]),
    # nothing there
    (multipart(b"b", b"text\r\n"), [("1", b"text\r\n")]),
    (multipart(b"b", b"--b--\r\ntext\r\n"), [("1", b"--b--\r\ntext\r\n")]),
    (b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\n1", [("1", b"--b\r\n\r\n1")]),
    # a boundary that is none
    (b"Content-Type: multipart/mixed; boundary*=''b%0A--b\r\n\r\n--b\n--b\n\n1",
     [("1", b"--b\n--b\n\n1")]),
    (multipart(b"b\tb", b"--b\tb\r\n\r\n1"), [("1", b"--b\tb\r\n\r\n1")]),
    (multipart(b"b" * 200, b"--" + b"b" * 200 + b"\r\n\r\n1"), [("1", b"1")]),
    (multipart(b"b" * 201, b"--" + b"b" * 201 + b"\r\n\r\n1"),
     [("1", b"--" + b"b" * 201 + b"\r\n\r\n1")]),
    # messages: with one part, with several, a digest, encoded although they must not be
    (body(b"Subject: x\r\n\r\n1", kind=b"message/rfc822"), [("1", b"Subject: x\r\n\r\n1"),
                                                            ("1.1", b"1")]),
    (multipart(b"b", b"--b\r\n\r\n1\r\n--b\r\n", body(multipart(
        b"c", b"--c\r\n\r\n2\r\n--c\r\n\r\n3\r\n--c--"), kind=b"message/rfc822"), b"\r\n--b--"),
     [("1", b"1"), ("2", multipart(b"c", b"--c\r\n\r\n2\r\n--c\r\n\r\n3\r\n--c--")), ("2.1", b"2"),
      ("2.2", b"3")]),
    (multipart(b"b", b"--b\r\n\r\nSubject: x\r\n\r\n1\r\n--b--").replace(b"mixed", b"digest"),
     [("1", b"Subject: x\r\n\r\n1"), ("1.1", b"1")]),
    (body(b"Content-Type: multipart/mixed\r\n\r\n1", kind=b"message/rfc822"),
     [("1", b"Content-Type: multipart/mixed\r\n\r\n1"), ("1.1", b"1")]),
    (body(b"U3ViamVjdDogeA0KDQox", "base64", b"message/rfc822"), [("1", b"Subject: x\r\n\r\n1")]),
    (messages_within(2), [("1", messages_within(1)), ("1.1", None),
                          ("1.1.1", b"text")]),
    # NUL and other bytes about delimiters
    (multipart(b"b", b"\0--b\r\n--b\r\n\r\n\0\xff\r\n--b\0\r\n--b--"), [("1", b"\0\xff\r\n--b\0")]),
]


@pytest.mark.parametrize("raw, want", STRUCTURES, ids=lambda case: repr(case)[:40])
def test_structures(parts, raw, want):
    assert [(row[0], row[6]) for row in parts(raw)] == want


def test_delimiters_at_every_border(parts):
    """Wherever a search goes on, a delimiter is found."""
    for before in [*range(4080, 4105), *range(20470, 20490)]:
        raw = multipart(b"bound", b"x" * before, b"\r\n--bound\r\n\r\n1\r\n--bound--\r\n")
        assert [row[6] for row in parts(raw)] == [b"1"], before


# What nobody sent in earnest

@pytest.mark.parametrize("name", NASTY)
def test_nothing_makes_it_fail(connection, name):
    id = add_mail(connection, clock(connection), raw=NASTY[name])
    (count, numbers, shown, texts, deepest), = rows_of(
        connection, "SELECT count(*), count(DISTINCT number), sum(octet_length(content)),"
        " sum(length(content_text)),"
        " max(cardinality(string_to_array(number, '.'))) FROM message_parts(%s)", id)
    assert 1 <= count == numbers <= 1000 and deepest <= 34
    assert shown <= 2 * len(NASTY[name]) and (texts or 0) <= shown


def test_what_is_too_deep_is_shown_whole(parts):
    rows = parts(nested(1000))
    assert len(rows) == 32
    assert {row[6] for row in rows[:-1]} == {None} and rows[-1][6].startswith(b"--b32\r\n")
    assert b"\r\n\r\ntext\r\n" in rows[-1][6]


def test_what_begins_like_a_delimiter_is_looked_at_a_thousand_times(parts):
    for strays, want in (900, [b"--bb\r\n" * 899 + b"--bb", b"x"]), (1100, None):
        got = [row[6] for row in parts(multipart(b"b", b"--b\r\n\r\n", b"--bb\r\n" * strays,
                                                 b"--b\r\n\r\nx\r\n--b--\r\n"))]
        assert got == want if want else len(got) == 1


def test_many_multiparts_share_what_they_are_looked_at(connection, parts):
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; SET LOCAL track_functions = 'all'")
        assert len(parts(NASTY["almost delimiters in many parts"])) == 100
        cursor.execute("SELECT calls FROM pg_stat_xact_user_functions"
                       " WHERE funcname = 'bytes_position'")
        (calls,), = cursor.fetchall()
        cursor.execute("COMMIT")
    assert 100 * 10 < calls < 100 * 25


def test_the_first_thousand_of_many_parts(parts):
    for count in (999, 5000):
        assert [row[:1] + row[6:7] for row in parts(many_parts(count))] == [
            (str(number), b"x") for number in range(1, 1000)]


def test_random_bytes_of_mime(parts):
    """Any order of the words that MIME is made of."""
    generator = random.Random(3)
    words = [b"--b", b"--b--", b"--c", b"\r\n", b"\n", b"\r\n\r\n", MULTIPART % b"b",
             MULTIPART % b"c", b"Content-Type: message/rfc822\r\n", b"Content-Type: text/plain",
             b"; charset=", b"utf-8", b"Content-Transfer-Encoding: base64\r\n", b"aGk=", b"=",
             b"Content-Disposition: x; filename*0*=", b"'", b"%41", b'"', b"\0", b"\xff", b"\\",
             b" "]
    for _ in range(scaled(2000, 100)):
        raw = b"".join(generator.choices(words, k=generator.randrange(1, 40)))
        assert parts(raw), raw


def memory_of(connection):
    """The most memory that the server's process has had, with what it touched of the shared."""
    (pid,), = rows_of(connection, "SELECT pg_backend_pid()")
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) << 10


def test_memory_is_bounded_by_the_size(session_cluster, connection):
    """However deep it is, and however many parts there are, by a multiple of the message's size."""
    for name in ("large and deep", "large with delimiters"):
        id = add_mail(connection, clock(connection), raw=NASTY[name])
        fresh = session_cluster.connect(connection.info.dbname)
        before = memory_of(fresh)
        rows_of(fresh, "SELECT count(content) FROM message_parts(%s)", id)
        assert memory_of(fresh) - before < 12 * LARGE + (32 << 20), name
        fresh.close()


def test_only_of_what_has_not_expired(connection):
    now = clock(connection)
    rows_of(connection, "SELECT set_retention('1 hour')")
    try:
        for age, want in (datetime.timedelta(minutes=50), 1), \
                (datetime.timedelta(minutes=60, seconds=1), 0):
            make_day(connection, now - age)
            id = add_mail(connection, now - age)
            assert len(parts_of(connection, id)) == want
    finally:
        rows_of(connection, "SELECT set_retention('7 days')")
    assert len(parts_of(connection, id)) == 1
    assert parts_of(connection, str(uuid.uuid4())) == parts_of(connection, None) == []
