"""A PostgreSQL whose commits are durable, on the disk that is measured, and mail by the million,
made by SQL."""

import concurrent.futures
import contextlib
import datetime
import os
import shutil

import cluster
from rows import make_day

UTC = datetime.timezone.utc

# As a server of this size might be set; what makes a commit durable is on, as PostgreSQL comes.
SETTINGS = """
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 512MB
max_wal_size = 4GB
checkpoint_timeout = 15min
autovacuum = on
"""

# Messages spread evenly over a time, each with one delivery; ids as smtpd makes them, from the
# moment, so that keys grow as they do in life. Of a hundred, `hot` go to one mailbox, the others in
# turns to the rest.
MAIL = """
WITH mail AS MATERIALIZED (
    SELECT n, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
                   || lpad(to_hex(n %% 4096), 3, '0') || '8' || left(md5(n::text), 15))::uuid AS id
    FROM (SELECT n, %(begin)s + n * (%(length)s / %(count)s) AS at
          FROM generate_series(%(first)s, %(last)s) AS n) AS moments
), stored AS (
    INSERT INTO messages (id, received_at, mail_from, client, helo, protocol, size, raw)
    SELECT id, at, 'sender@example.org', '192.0.2.1', 'c.example', 'ESMTP', %(size)s,
           convert_to(rpad('Subject: letter ' || n || E'\\r\\n\\r\\n', %(size)s, 'text '), 'UTF8')
    FROM mail
)
INSERT INTO deliveries (message_id, received_at, recipient, username, domain)
SELECT id, at, name || '@mayfly.example', name, 'mayfly.example'
FROM mail, LATERAL (SELECT CASE WHEN n %% 100 < %(hot)s THEN 'hot'
                                ELSE 'box' || n %% %(mailboxes)s END AS name) AS names
"""
PIECE = 100_000
AT_ONCE = 2            # connections that fill


class Cluster(cluster.Cluster):
    """The private server of the tests, with its data in a directory to measure in."""

    def __init__(self, directory):
        self.place = directory / "postgresql"
        self.place.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.place, "postgres", "postgres")
        super().__init__()

    def _make_data(self):
        self.data = self.place / "data"
        super()._make_data()
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(SETTINGS)

    def copy(self, database):
        """A database with the same in it, copied by files: by rows it would fill the log."""
        name = f"mayfly_{next(self.names)}"
        version = int(self.value("SHOW server_version_num"))
        strategy = " STRATEGY file_copy" if version >= 150000 else ""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {database.name}{strategy}")
        self.execute("CHECKPOINT")
        return cluster.Database(self, name)

    def value(self, sql):
        return cluster.Database(self, "postgres").value(sql)

    def pids(self):
        return [self.process.pid, *self.children()]


def day_of(moment):
    """The midnight (UTC) before a moment."""
    return datetime.datetime.combine(moment.astimezone(UTC).date(), datetime.time(), UTC)


def fill(database, begin, length, count, mailboxes, size=300, hot=0):
    """So many messages, evenly from one moment on, for a timedelta."""
    def insert(first):
        with contextlib.closing(database.connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(
                MAIL, {"begin": begin, "length": length, "count": count, "first": first,
                       "last": min(first + PIECE, count) - 1, "size": size, "hot": hot,
                       "mailboxes": mailboxes})

    with contextlib.closing(database.connect()) as connection:
        connection.autocommit = True
        day = day_of(begin)
        while day < begin + length:
            make_day(connection, day)
            day += datetime.timedelta(1)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(insert, range(0, count, PIECE)))
    for statement in ("VACUUM ANALYZE messages", "VACUUM ANALYZE deliveries", "CHECKPOINT"):
        database.query(statement)
