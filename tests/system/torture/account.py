"""What becomes of letters by the million: each is looked for while it must be there, and its id and
number are all that is kept of it, in files.
"""

import mmap
import os
import random
import uuid

import psycopg2
from psycopg2.extras import execute_values

from load import DIFFERENCES
from spool import uuid7_milliseconds
from traffic import AWAY, RECORD, letter_of

BATCH = 3000
PENDING_MOST = 10_000
SAMPLE = 200

LOOK = """
SELECT w.id::text, m.id IS NOT NULL,
       m.mail_from = w.sender AND m.size = octet_length(m.raw)
           AND m.size - w.length BETWEEN 50 AND 2000
           AND sha256(substring(m.raw FROM (m.size - w.length + 1)::int)) = w.digest,
       (SELECT array_agg(d.recipient ORDER BY d.position) FROM deliveries d
        WHERE d.message_id = w.id AND d.received_at = m.received_at) = w.recipients
FROM want w
LEFT JOIN messages m ON m.id = w.id AND m.received_at BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""


def born(id):
    """When it was received, in seconds since 1970."""
    return uuid7_milliseconds(id) / 1000


def stored_recipients(letter):
    return [one for one in letter.recipients if not one.endswith("@" + AWAY)]


class Account:
    """`clock` says what is expired. Findings are told to a tally."""

    def __init__(self, database, spool, clock, retention, directory, tally):
        self.database = database
        self.spool = spool
        self.clock = clock
        self.retention = retention
        self.tally = tally
        self.books = {}      # path of what a sender writes: how far it was read
        self.pending = {}    # id: number, acknowledged and not yet seen in the database
        self.known_path = directory / "known"
        self.known = open(self.known_path, "wb")
        self.found = self.expired_unseen = 0
        self.chance = random.Random(1)

    def follow(self, book):
        self.books[book] = 0

    def _read_books(self):
        """Some of each, so that none has to wait for another; the rest is in the file."""
        if len(self.pending) >= PENDING_MOST:
            return
        for path, at in self.books.items():
            if not path.exists():
                continue
            with open(path, "rb") as file:
                file.seek(at)
                octets = file.read(BATCH * RECORD.size)
            octets = octets[:len(octets) // RECORD.size * RECORD.size]
            self.books[path] = at + len(octets)
            for id, number in RECORD.iter_unpack(octets):
                self.pending[str(uuid.UUID(bytes=id))] = number

    def behind(self):
        """How many are acknowledged and not yet found."""
        unread = sum(path.stat().st_size - at for path, at in self.books.items() if path.exists())
        return unread // RECORD.size + len(self.pending)

    # Each once

    def look(self):
        """Looks for what was acknowledged since: in the spool first, and then in the database, in
        which it is before it has left the spool. Nothing is said while the database is away."""
        self._read_books()
        if not self.pending:
            return
        waiting = {id for name in ("new", "cur", "failed") for id in self.spool.names(name)}
        try:
            rows = self._rows()
        except psycopg2.Error:
            return
        now = self.clock.now()
        for id, there, whole, addressed in rows:
            number = self.pending[id]
            if there:
                if not whole or not addressed:
                    self.tally.altered(f"{id}, letter {number}: bytes {whole}, people {addressed}")
                self.found += 1
                self.tally.did()
                self._settle(id, number)
            elif born(id) + self.retention < now:
                self.expired_unseen += 1
                self._settle(id, number)
            elif id not in waiting:
                self.tally.lost(f"{id}, letter {number}: neither in the spool nor in the database")
                self._settle(id, number)

    def _rows(self):
        wanted = []
        for id, number in self.pending.items():
            letter = letter_of(number)
            wanted.append((id, letter.sender, stored_recipients(letter), *letter.digest()))
        times = [born(id) for id in self.pending]
        with self.database.cluster.connect(self.database.name) as connection:
            cursor = connection.cursor()
            cursor.execute("CREATE TEMP TABLE want (id uuid PRIMARY KEY, sender text,"
                           " recipients text[], digest bytea, length bigint) ON COMMIT DROP")
            execute_values(cursor, "INSERT INTO want VALUES %s", wanted, page_size=1000)
            cursor.execute("ANALYZE want")
            cursor.execute(LOOK, (min(times) - 1, max(times) + 1))
            rows = cursor.fetchall()
        connection.close()
        return rows

    def _settle(self, id, number):
        del self.pending[id]
        self.known.write(RECORD.pack(uuid.UUID(id).bytes, number))

    # No more than once

    def look_twice(self):
        """Whether anything is there twice, of known or unknown fate."""
        for what in ("twice", "without a message"):
            try:
                rows = self.database.query(DIFFERENCES[what])
            except psycopg2.OperationalError:
                return
            for row in rows:
                (self.tally.doubled if what == "twice" else self.tally.altered)(f"{what}: {row}")

    # Until it expires, and not after

    def records(self):
        """Every one whose fate is known: (id, number)."""
        self.known.flush()
        with open(self.known_path, "rb") as file:
            while octets := file.read(RECORD.size * 4096):
                for id, number in RECORD.iter_unpack(octets):
                    yield str(uuid.UUID(bytes=id)), number

    def _some_between(self, first, last):
        """Up to SAMPLE ids of letters that were received between two moments, of those that were
        found at about that time: they stand nearly in the order of their ids."""
        self.known.flush()
        count = os.path.getsize(self.known_path) // RECORD.size
        if count == 0:
            return []
        with open(self.known_path, "rb") as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
            def id_at(place):
                return str(uuid.UUID(bytes=octets[place * RECORD.size:place * RECORD.size + 16]))

            low, high = 0, count
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if born(id_at(middle)) < first else (low, middle)
            ids = [id_at(place) for place in range(low, min(count, low + 20 * SAMPLE))]
        ids = [id for id in ids if first <= born(id) <= last]
        return self.chance.sample(ids, min(SAMPLE, len(ids)))

    def look_at_the_border(self):
        """What readers see of letters just before they expire, and just after; returns how many of
        both were looked at."""
        margin = self.clock.rate  # a second, in which the question must be asked and answered
        begun = self.clock.now()
        border = begun - self.retention
        gone = self._some_between(border - 8 * margin, border)
        alive = self._some_between(border + margin, border + 9 * margin)
        try:
            shown = self._shown(gone)
            shown_alive = self._shown(alive)
        except psycopg2.OperationalError:
            return 0, 0
        for id in shown:
            self.tally.altered(f"{id} is shown, though it is expired")
        if self.clock.now() - begun >= margin:
            return len(gone), 0
        for id in set(alive) - shown_alive:
            self.tally.lost(f"{id} is not shown, though it is not expired")
        return len(gone), len(alive)

    def _shown(self, ids):
        return {id for id, in self.database.query(
            "SELECT DISTINCT message_id::text FROM emails WHERE message_id = ANY (%s::uuid[])",
            ids)}

    # At the end

    def look_at_all(self):
        """Everything that is not expired is there still; returns how many that were."""
        there = {id for id, in self.database.query("SELECT id::text FROM messages")}
        border = self.clock.now() - self.retention
        alive = [id for id, _ in self.records() if born(id) > border]
        for id in set(alive) - there:
            self.tally.lost(f"{id} was stored, and is there no more")
        return len(alive)
