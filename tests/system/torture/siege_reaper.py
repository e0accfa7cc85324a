"""reaper under strikes: what is stale has to go, in the end; what lives must not be touched."""

import contextlib
import datetime
import itertools
import os
import time

import psycopg2

from deadline import wait_for
from rows import add_mail, clock, make_day
from siege import Siege

OLD = datetime.timedelta(days=9)
AGE = 9 * 86400


class ReaperSiege(Siege):

    name = "reaper"

    def __init__(self, *arguments, database):
        super().__init__(*arguments)
        self.database = database
        self.numbers = itertools.count(1)
        self.stale = []      # files that must go
        self.live = {}       # {file: what it holds}
        self.mails = []      # ids of rows that have not expired

    def settings(self):
        return {"DATABASE_URL": self.database.url, "REAPER_INTERVAL": 1}

    def prepare(self):
        self.work("before the start")

    def work(self, told):
        """Files of every age, an expired day, and mail of today."""
        self.spool.make()
        self.spool.relay.make()
        for queue in ("store", "relay"):
            number = next(self.numbers)
            for path in (f"tmp/{number}", f"failed/{number}", f"failed/{number}.reason"):
                self.stale.append(self.put_file(f"{queue}/{path}", AGE))
            for path in (f"new/{number}", f"cur/{number}", f"cur/{number}.reason"):
                file = self.put_file(f"{queue}/{path}", AGE)
                self.live[file] = str(number)
            for path in (f"tmp/{number}.young", f"failed/{number}.young"):
                self.live[self.put_file(f"{queue}/{path}", 60, str(number))] = str(number)
        connection = self.database.connect()
        now = clock(connection)
        make_day(connection, now)
        self.mails.append(add_mail(connection, now))
        connection.commit()
        # The day may be on its way out while a fault lasts.
        with contextlib.suppress(psycopg2.Error):
            make_day(connection, now - OLD)
            add_mail(connection, now - OLD)
            connection.commit()
        connection.close()

    def put_file(self, path, age, content=None):
        """By its descriptor: a reason goes with its message, which may be found before it is old."""
        file = self.spool.path / path
        stamp = time.time() - age
        with open(file, "w", encoding="utf-8") as open_file:
            open_file.write(content or file.name.partition(".")[0])
            open_file.flush()
            os.utime(open_file.fileno(), (stamp, stamp))
        return file

    # The fault is over

    def expired(self):
        return self.database.value(
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ "
            "'^(messages|deliveries)_[0-9]{8}$' AND right(relname, 8)::date < current_date - 8")

    def settle(self):
        try:
            wait_for(lambda: not any(file.exists() for file in self.stale) and not self.expired(),
                     "what is stale has gone", 40, 0.05)
        except AssertionError:
            left = [str(file) for file in self.stale if file.exists()]
            self.wrong.append(f"still there: {left}, {self.expired()} partitions:\n"
                              + self.program.text()[-3000:])
        self.stale.clear()

    # What became of it

    def compare(self):
        for file, content in self.live.items():
            if not file.exists():
                self.tally.lost(file)
            elif file.read_text() != content:
                self.tally.altered(file)
            file.unlink(missing_ok=True)
        there = {id for id, in self.database.query("SELECT id::text FROM messages")}
        for id in set(self.mails) - there:
            self.tally.lost(f"the row of {id}")
        self.live.clear()
        self.mails.clear()
