"""A day of mail that goes at once: what reaper's pass takes, what it writes into PostgreSQL's log,
and whether those who insert at that time notice."""

import datetime
import threading
import time

from database import UTC, day_of, fill
from servers import Installation
from spool import uuid7
from storing import percentile
from table import Goal

INSERT = """
WITH stored AS (
    INSERT INTO messages (id, received_at, mail_from, client, helo, protocol, size, raw)
    VALUES (%(id)s, %(at)s, 'a@c.example', '192.0.2.1', 'c.example', 'ESMTP', 4096, %(raw)s)
)
INSERT INTO deliveries (message_id, received_at, recipient, username, domain)
VALUES (%(id)s, %(at)s, 'b@mayfly.example', 'b', 'mayfly.example')
"""


class Stream:
    """Somebody who inserts one message after the other, each in a transaction that is durable, and
    remembers when each began and how long it took."""

    def __init__(self, database):
        self.connection = database.connect()
        self.connection.autocommit = True
        self.taken = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.insert)

    def insert(self):
        cursor = self.connection.cursor()
        while not self.ended.is_set():
            moment = datetime.datetime.now(UTC)
            begin = time.monotonic()
            cursor.execute(INSERT, {"id": uuid7(moment), "at": moment, "raw": b"x" * 4096})
            self.taken.append((begin, time.monotonic() - begin))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.connection.close()

    def between(self, begin, end):
        """Milliseconds of the inserts that any of that time was part of."""
        return [1e3 * taken for start, taken in self.taken if start < end and start + taken > begin]


def log_position(database):
    return database.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")


def pass_of(server, database):
    """reaper from its start until its first pass is over, in seconds; by then the day is gone."""
    begin = time.monotonic()
    reaper = server.start("reaper", DATABASE_URL=database.url)
    seconds = time.monotonic() - begin
    reaper.stop()
    return seconds


def expired_day(bench):
    """A database with one day of mail that is past the retention, and some of today's."""
    database = bench.cluster.create()
    today = day_of(datetime.datetime.now(UTC))
    day = datetime.timedelta(days=1)
    fill(database, today - 9 * day, day, bench.size.day, mailboxes=10_000, size=200)
    fill(database, today, day, 1000, mailboxes=100, size=200)
    return database


def assert_gone(database):
    days = database.value("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname < "
                          "'messages_' || to_char(now() - interval '8 days', 'YYYYMMDD')"
                          " AND relname LIKE 'messages\\\\_%'")
    assert days == 0, f"{days} expired days are left"


def alone(bench, server, filled):
    """A pass that nobody is beside: seconds, and bytes of the log."""
    database = bench.cluster.copy(filled)
    before = log_position(database)
    seconds = pass_of(server, database)
    written = log_position(database) - before
    assert_gone(database)
    database.drop()
    return seconds, float(written)


def disturbed(bench, server, filled):
    """p99 and the longest of the inserts in the second of a pass, and the same of the seconds
    before it; in milliseconds."""
    database = bench.cluster.copy(filled)
    seconds = bench.size.stream
    with Stream(database) as stream:
        time.sleep(1)
        calm = time.monotonic()
        time.sleep(seconds)
        begin = time.monotonic()
        length = max(1.0, pass_of(server, database))
        time.sleep(max(0, begin + length + 0.2 - time.monotonic()))
    assert_gone(database)
    database.drop()
    before, beside = stream.between(calm, begin), stream.between(begin, begin + length)
    return {"rate": percentile(beside, 0.99), "calm": percentile(before, 0.99),
            "longest": max(beside), "calm_longest": max(before)}


def reap(bench):
    count = bench.size.day
    bench.say(f"fills a day with {count:,} messages")
    filled = expired_day(bench)
    with Installation(bench.places.spool) as server:
        runs = [alone(bench, server, filled) for _ in range(bench.size.runs)]
        bench.say(f"passes: {runs}")
        results = bench.in_turns("inserts beside a pass, p99", {
            "beside": lambda: disturbed(bench, server, filled)}, " ms")["beside"]
    filled.drop()
    what = f"reaper: a day of {count:,} messages gone,"
    bench.table.figure(f"{what} from its start", [run[0] for run in runs], "s",
                       Goal(most=1, unit="s"))
    bench.table.figure(f"{what} written into the log", [run[1] / 1e6 for run in runs], "MB",
                       Goal(most=1, unit="MB"))
    for name, key, calm, goal in (("p99", "rate", "calm", Goal(most=1.2)),
                                  ("longest", "longest", "calm_longest", None)):
        bench.table.ratio(f"… an insert in the second of the pass, {name}",
                          [run[key] for run in results], [run[calm] for run in results], "ms",
                          "ms before it", goal)
