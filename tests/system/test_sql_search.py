"""inbox_search: the mail of a mailbox whose subject and sender are as asked for, newest first, page
by page, and no more work than the page needs."""

import datetime

import pytest

from nasty import NASTY
from rows import add_mail, clock, make_day

SECOND = datetime.timedelta(seconds=1)
COLUMNS = ["id", "message_id", "received_at", "sender", "header_from", "recipient", "subject",
           "size"]

# (subject, From, reverse-path), oldest first
MAIL = [
    ("Confirm your account", "GitHub <noreply@github.example>", "bounce+1@mailer.example"),
    ("Reset your password", "GitHub <noreply@github.example>", "bounce+2@mailer.example"),
    ("=?utf-8?Q?Best=C3=A4tige_dein_KONTO?=", "=?utf-8?Q?J=C3=B6rg?= <j@x.example>",
     "j@x.example"),
    ("100% off_now", None, ""),
    (None, "GitHub <noreply@github.example>", "bounce+1@mailer.example"),
]


@pytest.fixture(scope="module")
def connection(session_cluster):
    session_cluster.start()
    fresh = session_cluster.create()
    connection = fresh.connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '60s'")
    now = clock(connection)
    for number, (subject, sender, path) in enumerate(MAIL):
        moment = now - (100 - number) * SECOND
        make_day(connection, moment)
        raw = b"".join(name + value.encode() + b"\r\n" for name, value in [
            (b"Received: ", "from x"), (b"Subject: ", subject), (b"From: ", sender)] if value)
        add_mail(connection, moment, ["Bob@x.example", "other@x.example"], raw + b"\r\nSubject: no",
                 mail_from=path)
    yield connection
    fresh.drop()


@pytest.fixture
def search(connection):
    def run(what="*", **arguments):
        named = ", ".join(f"{name} => %s" for name in arguments)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {what} FROM inbox_search({named})", list(arguments.values()))
            return cursor.fetchall()
    return run


FOUND = [
    ({}, [4, 3, 2, 1, 0]),
    ({"in_subject": "confirm"}, [0]),
    ({"in_subject": "ACCOUNT confirm"}, [0]),
    ({"in_subject": "confirm password"}, []),
    ({"in_subject": "your"}, [1, 0]),
    ({"in_subject": " your \t\n"}, [1, 0]),
    ({"in_subject": ""}, [4, 3, 2, 1, 0]),
    ({"in_subject": "bestätige konto"}, [2]),
    ({"in_subject": "BESTÄTIGE"}, [2]),
    ({"in_subject": "%"}, [3]),
    ({"in_subject": "f_n"}, [3]),
    ({"in_subject": "c.nfirm"}, []),
    ({"in_subject": "no"}, [3]),
    ({"in_sender": "github"}, [4, 1, 0]),
    ({"in_sender": "jörg"}, [2]),
    ({"in_sender": "bounce+1@mailer.example"}, [4, 0]),
    ({"in_sender": "github bounce+1"}, [4, 0]),
    ({"in_subject": "your", "in_sender": "github"}, [1, 0]),
    ({"in_subject": "your", "in_sender": "github", "max_rows": 1}, [1]),
    ({"in_sender": "github", "max_rows": 2}, [4, 1]),
    ({"max_rows": 0}, []),
    ({"max_rows": -1}, []),
    ({"max_rows": None, "in_subject": None, "in_sender": None, "before": None}, [4, 3, 2, 1, 0]),
    ({"in_subject": "'; DROP TABLE messages; --"}, []),
    ({"in_subject": "\\"}, []),
]


@pytest.mark.parametrize("arguments, want", FOUND, ids=lambda case: repr(case)[:50])
def test_found(search, arguments, want):
    subjects = [subject and subject.replace("=?utf-8?Q?Best=C3=A4tige_dein_KONTO?=",
                                            "Bestätige dein KONTO") for subject, _, _ in MAIL]
    got = search("subject, sender", username="BOB", **arguments)
    assert got == [(subjects[number], MAIL[number][2]) for number in want]


def test_it_is_as_inbox_with_more_columns(connection, search):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM inbox_search('bob')")
        assert [column.name for column in cursor.description] == COLUMNS
        cursor.execute("SELECT * FROM inbox('bob')")
        inbox = cursor.fetchall()
        cursor.execute("SELECT message_id FROM emails WHERE username = 'bob'")
        ids = cursor.fetchall()
    assert search("id, received_at, sender, recipient, subject, size", username="bob") == inbox
    assert search("message_id", username="bob") == ids
    assert search(username=None) == search(username="nobody") == []


def test_pages(connection, search):
    """Rows that share a moment are on one page, as in inbox."""
    now = clock(connection) - 30 * SECOND
    for index in range(6):
        add_mail(connection, now - index * SECOND, [f"paged@{host}.example" for host in "abc"],
                 b"Subject: even" if index % 2 == 0 else b"Subject: odd")
    want = search("id", username="paged", in_subject="even")
    assert len(want) == 9
    for size in (1, 3, 4, 9, 50):
        seen, before = [], None
        while page := search("id, received_at", username="paged", in_subject="even", max_rows=size,
                             before=before):
            assert len(page) <= size + 2
            seen += [(id,) for id, _ in page]
            before = page[-1][1]
        assert seen == want, size


def test_expired_mail_is_not_found(connection, search):
    old = clock(connection) - datetime.timedelta(days=7, seconds=1)
    make_day(connection, old)
    add_mail(connection, old, ["late@x.example"])
    assert search(username="late") == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_retention('8 days')")
        assert len(search(username="late")) == 1
        cursor.execute("SELECT set_retention('7 days')")


def test_of_a_long_field_the_beginning_is_decoded(connection, search):
    """The list has all of it, of no more messages than it shows."""
    words = b"=?utf-8?Q?=C3=BC?= " * 200
    add_mail(connection, clock(connection) - SECOND, ["long@x.example"],
             b"From: " + words + b"\r\nSubject: " + words + b"\r\n\r\n")
    whole = 2048 // 19
    assert search("subject, header_from", username="long") == [
        ("ü" * whole + " =?utf-8?Q?=C3=B",) * 2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT subject FROM inbox('long')")
        assert cursor.fetchall() == [("ü" * 200,)]


def test_of_hostile_messages(connection, search):
    now = clock(connection) - SECOND
    for name, raw in NASTY.items():
        if len(raw) < 500_000:
            add_mail(connection, now, ["hostile@x.example"], raw)
    rows = search("subject, header_from", username="hostile")
    assert len(rows) > 30
    assert all(len(subject or "") <= 1000 for subject, _ in rows)
    assert search(username="hostile", in_subject="nothing " * 100_000) == []


def test_it_looks_at_a_thousand(connection, search):
    """And, when it finds what it is asked for, at no more than that."""
    now = clock(connection) - 20 * SECOND
    with connection.cursor() as cursor:
        cursor.execute("""
            INSERT INTO messages (id, received_at, mail_from, size, raw)
            SELECT gen_random_uuid(), %s::timestamptz - n * interval '1 millisecond', 'many@x', 20,
                   convert_to('Subject: number ' || n, 'UTF8') FROM generate_series(1, 1200) AS n""",
                       (now,))
        cursor.execute("INSERT INTO deliveries (message_id, received_at, position, recipient)"
                       " SELECT id, received_at, 0, 'many@x' FROM messages"
                       " WHERE mail_from = 'many@x'")
        cursor.execute("ANALYZE messages, deliveries")
        assert search("subject", username="many", in_subject="number 1000") == [("number 1000",)]
        assert search("subject", username="many", in_subject="number 1001") == []
        assert search("subject", username="many", in_subject="number 1001",
                      before=now - datetime.timedelta(seconds=1)) == [("number 1001",)]
        # The functions that look into a header are counted by the server.
        cursor.execute("BEGIN")
        cursor.execute("SET LOCAL track_functions = 'all'")
        search(username="many", max_rows=10)
        cursor.execute("SELECT calls FROM pg_stat_xact_user_functions"
                       " WHERE funcname = 'header_extent'")
        assert 10 <= cursor.fetchone()[0] <= 12
        cursor.execute("COMMIT")
