"""Mail as rows, put into the tables without smtpd or storer: for tests of what the database does
with it."""

import datetime

import psycopg2

from spool import uuid7


def clock(connection):
    """The database's idea of now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def make_day(connection, moment):
    """Makes the partitions of a moment's day, however long ago: as if they were made that day."""
    day = moment.astimezone(datetime.timezone.utc).date()
    with connection.cursor() as cursor:
        cursor.execute("SELECT make_partitions(%s)", (day,))
        if cursor.fetchone()[0]:
            return
        for parent in ("messages", "deliveries"):
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {parent}_{day:%Y%m%d} "
                           f"PARTITION OF {parent} FOR VALUES FROM ('{day} 00:00+00') "
                           f"TO ('{day + datetime.timedelta(1)} 00:00+00')")
            cursor.execute(f"ALTER TABLE {parent}_{day:%Y%m%d} OWNER TO mayfly_reaper")


def add_mail(connection, received_at, recipients=("bob@mayfly.example",),
             raw=b"Subject: x\r\n\r\nhi\r\n", mail_from="alice@example.org", id=None):
    """One message with its deliveries, in the present transaction; returns its id."""
    id = id or uuid7(received_at)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO messages (id, received_at, mail_from, client, helo, protocol, size, raw)"
            " VALUES (%s, %s, %s, '192.0.2.1', 'c.example', 'ESMTP', %s, %s)"
            " ON CONFLICT DO NOTHING",
            (id, received_at, mail_from, len(raw), psycopg2.Binary(raw)))
        cursor.executemany(
            "INSERT INTO deliveries (message_id, received_at, position, recipient)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [(id, received_at, position, recipient)
             for position, recipient in enumerate(recipients)])
    return id


def text_of(raw):
    """What emails.raw_data must be."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\0", "\ufffd")
