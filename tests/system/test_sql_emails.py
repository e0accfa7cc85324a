"""emails and inbox: exactly the unexpired mail, every column right, and no sequential scan however
much there is."""

import datetime
import json

import psycopg2
import pytest

from rows import add_mail, clock, make_day, text_of
from scale import scaled

SECOND = datetime.timedelta(seconds=1)
DAY = datetime.timedelta(days=1)

COLUMNS = ["id", "username", "recipient", "raw_data", "received_at", "message_id", "mail_from",
           "domain", "size"]
INBOX_COLUMNS = ["id", "received_at", "sender", "recipient", "subject", "size"]


def rows_of(connection, sql, *args):
    with connection.cursor() as cursor:
        cursor.execute(sql, args or None)
        return cursor.fetchall()


def columns_of(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [column.name for column in cursor.description]


def test_columns(database):
    connection = database.connect()
    assert columns_of(connection, "SELECT * FROM emails") == COLUMNS
    assert columns_of(connection, "SELECT * FROM inbox('x')") == INBOX_COLUMNS


def test_a_message_as_readers_see_it(database):
    connection = database.connect()
    now = clock(connection)
    raw = b"Return-Path: <a@b>\r\nSubject: =?utf-8?Q?gr=C3=BC=C3=9Fe?=\r\n\r\n" + bytes(range(256))
    id = add_mail(connection, now, ["Bob@Mayfly.example", '"a b"@x.example', "Postmaster"], raw,
                  mail_from="")
    seen = rows_of(connection, f"SELECT {', '.join(COLUMNS[1:])} FROM emails ORDER BY username")
    assert seen == [
        (username, recipient, text_of(raw), now, id, "", domain, len(raw))
        for username, recipient, domain in [
            ("a b", '"a b"@x.example', "x.example"),
            ("bob", "Bob@Mayfly.example", "mayfly.example"),
            ("postmaster", "Postmaster", "")]]
    listed = rows_of(connection, "SELECT received_at, sender, recipient, subject, size"
                     " FROM inbox('BOB')")
    assert listed == [(now, "", "Bob@Mayfly.example", "grüße", len(raw))]
    assert rows_of(connection, "SELECT id FROM inbox('bob')") == rows_of(
        connection, "SELECT id FROM emails WHERE username = 'bob'")


def test_the_same_message_again_is_no_second_row(database):
    connection = database.connect()
    now = clock(connection)
    id = add_mail(connection, now, ["a@x.example", "b@x.example"])
    add_mail(connection, now, ["a@x.example", "b@x.example"], id=id)
    assert rows_of(connection, "SELECT count(*) FROM emails") == [(2,)]


def test_a_delivery_that_brings_its_mailbox_keeps_it(database):
    """As storer and a dump do; who hands over the address alone gets it parsed."""
    connection = database.connect()
    now = clock(connection)
    id = add_mail(connection, now, ["Bob@A.example"])
    rows_of(connection, "INSERT INTO deliveries (message_id, received_at, position, recipient,"
            " username, domain) VALUES (%s, %s, 2, 'Carol@B.example', 'her', 'there')"
            " RETURNING id", id, now)
    assert rows_of(connection, "SELECT username, domain FROM emails ORDER BY recipient") == [
        ("bob", "a.example"), ("her", "there")]


def test_delivery_ids_are_unique_over_days(database):
    connection = database.connect()
    now = clock(connection)
    for days in range(3):
        make_day(connection, now - days * DAY)
        add_mail(connection, now - days * DAY, ["a@x.example"] * 3)
    assert rows_of(connection, "SELECT count(*), count(DISTINCT id) FROM emails") == [(9, 9)]


# Expiry

def test_the_boundary(database):
    """A second past it is gone, half a minute short of it is there, through each way there is."""
    connection = database.connect()
    for retention in ("7 days", "1 hour", "366 days"):
        rows_of(connection, "SELECT set_retention(%s)", retention)
        oldest = rows_of(connection, "SELECT statement_timestamp() - retention()")[0][0]
        for mailbox, received in (("old", oldest - SECOND), ("young", oldest + 30 * SECOND)):
            make_day(connection, received)
            add_mail(connection, received, [f"{mailbox}@x.example"])
        assert rows_of(connection, "SELECT username FROM emails") == [("young",)]
        assert len(rows_of(connection, "SELECT * FROM inbox('young')")) == 1
        assert rows_of(connection, "SELECT * FROM inbox('old')") == []
        assert rows_of(connection, "SELECT count(*) FROM messages") == [(2,)]
        connection.rollback()


def test_the_boundary_exactly(database):
    """At the very moment of expiry: a row that is as old as the retention is gone, and one a
    microsecond younger is there, by the clock of the statement that looks."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp() - interval '12 seconds'")
        moment = cursor.fetchone()[0]
    make_day(connection, moment)
    add_mail(connection, moment)
    connection.commit()
    connection.autocommit = True
    rows_of(connection, "SELECT set_retention('15 seconds')")
    seen, gone = None, None
    while gone is None:
        count, looked = rows_of(connection, "SELECT (SELECT count(*) FROM emails),"
                                " statement_timestamp()")[0]
        assert count == (looked - moment < 15 * SECOND), (looked, moment)
        seen, gone = (looked, gone) if count else (seen, looked)
    assert seen is not None


def test_a_new_retention_counts_at_once(database):
    reader = database.connect()
    reader.autocommit = True
    writer = database.connect()
    add_mail(writer, clock(writer) - 60 * SECOND)
    writer.commit()
    assert rows_of(reader, "SELECT count(*) FROM emails") == [(1,)]
    database.query("SELECT set_retention('30 seconds')")
    assert rows_of(reader, "SELECT count(*) FROM emails") == [(0,)]
    assert rows_of(reader, "SELECT * FROM inbox('bob')") == []
    database.query("SELECT set_retention('7 days')")
    assert rows_of(reader, "SELECT count(*) FROM emails") == [(1,)]


def test_a_retention_that_makes_no_sense(database):
    for period in ("0", "-1 day", "0.9 seconds", "100 years", "366 days 1 second",
                   "-7 days +1 second", None):
        with pytest.raises(psycopg2.errors.InvalidParameterValue):
            database.query("SELECT set_retention(%s)", period)
    for retention in ("0", "-1 day", "100 years"):
        with pytest.raises(psycopg2.errors.CheckViolation):
            database.query("UPDATE settings SET retention = %s", retention)
    assert database.value("SELECT retention() = interval '168 hours'")


def test_a_retention_is_seconds(database):
    """Not days and months, whose length a session's time zone would decide."""
    assert database.value("SELECT set_retention('1 month 2 days')::text") == "768:00:00"
    assert database.value("SELECT retention()::text") == "768:00:00"


def test_settings_have_one_row(database):
    with pytest.raises(psycopg2.errors.UniqueViolation):
        database.query("INSERT INTO settings (retention) VALUES ('1 day')")
    with pytest.raises(psycopg2.errors.CheckViolation):
        database.query("INSERT INTO settings (one_row, retention) VALUES (false, '1 day')")


# inbox

def test_inbox_pages(database):
    connection = database.connect()
    now = clock(connection)
    make_day(connection, now - DAY)
    moments = [now - index * DAY / 40 for index in range(60)]
    for index, moment in enumerate(moments):
        make_day(connection, moment)
        add_mail(connection, moment, ["bob@x.example"], b"Subject: %d\r\n\r\n" % index)
        add_mail(connection, moment, ["other@x.example"])

    def page(*args):
        call = ", ".join(["%s"] * (1 + len(args)))
        return rows_of(connection, f"SELECT subject, received_at FROM inbox({call})", "bob", *args)
    assert [int(row[0]) for row in page()] == list(range(50))
    assert [int(row[0]) for row in page(7)] == list(range(7))
    assert [int(row[0]) for row in page(None)] == list(range(50))
    assert [int(row[0]) for row in page(1000)] == list(range(60))
    assert page(0) == [] and page(-5) == []
    first = page(20)
    second = page(20, first[-1][1])
    assert [int(row[0]) for row in first + second] == list(range(40))
    assert page(20, now - 30 * DAY) == []


def test_inbox_pages_do_not_part_a_moment(database):
    """One message to many addresses of a mailbox is on one page, however small the page."""
    connection = database.connect()
    now = clock(connection)
    for index in range(6):
        add_mail(connection, now - index * SECOND, [f"bob@{host}.example" for host in "abc"])
    want = [id for id, in rows_of(connection, "SELECT id FROM emails WHERE username = 'bob'"
                                  " ORDER BY received_at DESC, id DESC")]
    assert len(want) == 18
    for size in (1, 2, 3, 4, 7, 18, 50):
        seen, before = [], None
        while page := rows_of(connection, "SELECT id, received_at FROM inbox('bob', %s, %s)",
                              size, before):
            assert len(page) <= size + 2
            seen += [row[0] for row in page]
            before = page[-1][1]
        assert seen == want, size


@pytest.mark.parametrize("subject", ["y" * 500000, ("=?utf-8?Q?" + "y" * 60 + "?=\r\n ") * 90],
                         ids=["plain", "encoded"])
def test_inbox_shows_no_more_of_a_subject_than_fits_a_list(database, subject):
    connection = database.connect()
    add_mail(connection, clock(connection), raw=f"Subject: {subject}\r\n\r\n".encode())
    assert rows_of(connection, "SELECT subject FROM inbox('bob')") == [("y" * 1000,)]


def test_inbox_of_hostile_messages(database):
    connection = database.connect()
    now = clock(connection)
    for raw in (b"", b"\0", bytes(range(256)), b"Subject: \0\xff=?x?Q?=\r\n\r\n", b"\r\n" * 1000,
                b"Subject: " + b"=?utf-8?Q?=FF?= " * 50000):
        add_mail(connection, now, raw=raw)
    assert len(rows_of(connection, "SELECT * FROM inbox('bob')")) == 6
    assert rows_of(connection, "SELECT * FROM inbox(NULL)") == []
    assert rows_of(connection, "SELECT * FROM inbox(%s)", "'; DROP TABLE messages; --") == []


# Speed: what the planner does with a large table

@pytest.fixture(scope="module")
def large(session_cluster):
    """Eight days of mail: a hot mailbox, many others, statistics as autovacuum would leave them."""
    session_cluster.start()
    fresh = session_cluster.create()
    connection = fresh.connect()
    now = clock(connection)
    for days in range(9):
        make_day(connection, now - days * DAY)
    count = scaled(300000, 40000)
    with connection.cursor() as cursor:
        cursor.execute("""
            INSERT INTO messages (id, received_at, mail_from, size, raw)
            SELECT gen_random_uuid(), %s::timestamptz - n * interval '8 days' / %s, 'a@b.example',
                   400, convert_to(E'Subject: ' || n || E'\\r\\n\\r\\n' || repeat('x', 400), 'UTF8')
            FROM generate_series(0, %s - 1) AS n""", (now, count, count))
        cursor.execute("""
            INSERT INTO deliveries (message_id, received_at, position, recipient)
            SELECT id, received_at, 0,
                   CASE WHEN number %% 10 = 0 THEN 'hot' ELSE 'user' || number %% (%s / 20) END
                   || '@x.example'
            FROM (SELECT *, row_number() OVER () AS number FROM messages) AS m""", (count,))
        cursor.execute("ANALYZE messages, deliveries")
    connection.commit()
    yield fresh
    fresh.drop()


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def plan_of(database, sql):
    plan = database.value("EXPLAIN (ANALYZE, FORMAT JSON) " + sql)
    return (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]


EMAILS = [
    "SELECT * FROM emails WHERE username = 'user7'",
    "SELECT * FROM emails WHERE username = 'hot'",
    "SELECT * FROM emails WHERE username = 'hot' ORDER BY received_at DESC LIMIT 50",
    "SELECT * FROM emails WHERE username = 'hot' AND received_at > now() - interval '1 hour'",
    "SELECT * FROM emails ORDER BY received_at DESC LIMIT 10",
    "SELECT * FROM emails WHERE id = 1000",
    "SELECT * FROM emails WHERE message_id = '{id}'",
    "SELECT count(*) FROM emails WHERE username = 'hot'",
]


@pytest.mark.parametrize("sql", EMAILS)
def test_emails_without_a_sequential_scan(large, sql):
    id = large.value("SELECT id FROM messages ORDER BY received_at LIMIT 1")
    plan = plan_of(large, sql.format(id=id))
    # A day that has just begun may be read whole, while it is small.
    whole_day = scaled(300000, 40000) / 8
    scanned = [node for node in nodes(plan)
               if node["Node Type"] == "Seq Scan" and node["Actual Loops"] > 0
               and node["Actual Rows"] + node.get("Rows Removed by Filter", 0) > whole_day / 3]
    assert not scanned, scanned


def test_a_limit_ends_the_work(large):
    """Of a hot mailbox no more messages are fetched than asked for."""
    plan = plan_of(large, "SELECT * FROM emails WHERE username = 'hot' LIMIT 20")
    fetched = sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan)
                  if node.get("Relation Name", "").startswith("messages"))
    assert fetched == 20


def test_a_limit_ends_the_reading_of_the_index(large):
    """With the cost of a page as it is on an SSD, no more deliveries are read either."""
    with large.connect(options="-c random_page_cost=1.1").cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM emails WHERE username = 'hot'"
                       " ORDER BY received_at DESC LIMIT 20")
        plan = cursor.fetchone()[0][0]["Plan"]
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan)
               if node.get("Relation Name", "").startswith("deliveries"))
    assert 20 <= read <= 21


def test_a_filter_of_the_readers_own_sees_no_expired_row(large):
    """The view is a security barrier: a function that talks hears nothing of what has expired."""
    large.query("CREATE FUNCTION tell(at timestamptz) RETURNS boolean LANGUAGE plpgsql COST 0.0001"
                " AS $$BEGIN IF at < now() - retention() - interval '1 minute'"
                " THEN RAISE 'expired'; END IF; RETURN true; END$$")
    assert large.value("SELECT count(*) FROM messages"
                       " WHERE received_at < now() - retention() - interval '1 minute'") > 0
    assert large.value("SELECT count(*) FROM emails WHERE tell(received_at)") > 0


def test_inbox_without_a_sequential_scan(large):
    """The server itself tells the plans of a function's statements."""
    connection = large.connect()
    with connection.cursor() as cursor:
        cursor.execute("LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;"
                       "SET auto_explain.log_nested_statements = on;"
                       "SET auto_explain.log_analyze = on; SET client_min_messages = log")
        for mailbox in ("hot", "user7", "nobody"):
            cursor.execute("SELECT * FROM inbox(%s)", (mailbox,))
    notices = "".join(connection.notices)
    assert "deliveries" in notices and "Limit" in notices
    for line in notices.splitlines():
        assert "Seq Scan" not in line or "rows=0 " in line.split("actual")[-1] \
            or "never executed" in line or "settings" in line, line


def test_inbox_is_the_same_as_emails(large):
    want = large.query("SELECT id, received_at, mail_from, recipient, size FROM emails"
                       " WHERE username = 'hot' ORDER BY received_at DESC LIMIT 30")
    got = large.query("SELECT id, received_at, sender, recipient, size FROM inbox('hot', 30)")
    assert got == want
