"""reaper struck while it lets partitions go and sweeps: what has expired goes in the end, and
nothing that lives, be it in the database, on its way there, or in the spool."""

import contextlib
import datetime
import os
import time

import psycopg2

from crash import Scenario
from crash_flow import FlowBench
from deadline import wait_for
from load import differences
from rows import add_mail, make_day
from spool import now

PARENTS = ("messages", "deliveries")
HOUR = 3600
ANCIENT = "01890000-0000-7000-8000-000000000000"
TWO = ("x@t.example", "y@t.example")
PENDING = "a detach that was not ended"


def days(number):
    return now() + datetime.timedelta(days=number)


class ReaperBench(FlowBench):
    name = "reaper"
    scenarios = (Scenario("two days that have expired"), Scenario(PENDING, only=("pass.", "pgconn.")))

    def __init__(self, build, cluster):
        super().__init__(build)
        self.database = cluster.create()
        # It keeps files in cur/, and so leaves there what it must not touch yet.
        self.helpers.storer(self.spool, self.database, STORER_KEEP=24 * HOUR)

    def close(self):
        super().close()
        self.database.drop()

    def run(self, scenario, programs):
        expired, ahead = (days(-9), days(-10)), days(9)
        with contextlib.closing(self.database.connect()) as connection:
            living = self._prepare(connection, expired, ahead)
            if scenario.name == PENDING:
                self._leave_pending(connection, expired[0])
        stays, goes = self._put_files()
        reaper = programs.start("reaper", ready=False, SPOOL=self.spool, REAPER_INTERVAL=1,
                                DATABASE_URL=self.database.url, **self.struck(scenario))
        acknowledged = self.send(self.letter(), self.letter(recipients=TWO))
        self.settle(reaper, reaper.is_ready)
        acknowledged |= self.send(self.letter())
        self.finish(reaper)
        again = programs.reaper(self.spool, self.database, REAPER_INTERVAL=1)
        wait_for(lambda: not self._tables(expired) and len(self._tables([ahead])) == len(PARENTS),
                 "what has expired is gone, and what is to come is there")
        again.stop()
        wait_for(lambda: not self.spool.new(), "all is stored")
        self._compare(acknowledged, living, stays, goes)

    def _prepare(self, connection, expired, ahead):
        """Mail that has expired and mail that has not, and a day to come without partitions;
        returns the ids of what lives."""
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE messages, deliveries")
            for parent in PARENTS:
                cursor.execute(f"DROP TABLE IF EXISTS {parent}_{ahead:%Y%m%d}")
        living = []
        for number, moment in enumerate((*expired, days(-6.9), days(-1))):
            make_day(connection, moment)
            id = add_mail(connection, moment, mail_from=f"old{number}@c.example")
            if moment not in expired:
                living.append(id)
        connection.commit()
        return living

    def _leave_pending(self, connection, day):
        """As a reaper that was killed: the detach waits for a reader, and its session ends."""
        with contextlib.closing(self.database.connect()) as reader, connection.cursor() as cursor:
            reader.cursor().execute("SELECT count(*) FROM messages")
            connection.autocommit = True
            cursor.execute("SET lock_timeout = '50ms'")
            with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                cursor.execute(f"ALTER TABLE messages DETACH PARTITION messages_{day:%Y%m%d}"
                               " CONCURRENTLY")
        assert self.database.value("SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 1

    def _tables(self, moments):
        names = [f"{parent}_{moment:%Y%m%d}" for parent in PARENTS for moment in moments]
        return self.database.query("SELECT relname FROM pg_class WHERE relname = ANY (%s)", names)

    def _put_files(self):
        """Files that are to stay, and those that have become stale: (paths, paths)."""
        stays, goes = [], []
        for queue in (self.spool, self.spool.relay):
            for name, age, paths in (("tmp/fresh", 35 * HOUR, stays),
                                     ("tmp/stale", 37 * HOUR, goes),
                                     ("failed/young", 24 * HOUR, stays),
                                     ("failed/young.reason", 24 * HOUR, stays),
                                     (f"cur/{ANCIENT}", 9000 * HOUR, stays),
                                     ("failed/old", 200 * HOUR, goes),
                                     ("failed/old.reason", 200 * HOUR, goes)):
                path = queue.queue / name
                path.write_text(name)
                os.utime(path, (time.time() - age,) * 2)
                paths.append(path)
        return stays, goes

    def _compare(self, acknowledged, living, stays, goes):
        for text in differences(self.database, acknowledged):
            what = text.partition(":")[0]
            self.wrong.append(({"lost": "lost", "twice": "doubled"}.get(what, "altered"), text))
        left = {id for id, in self.database.query("SELECT id::text FROM messages")}
        self.wrong += [("lost", f"{id}, which has not expired") for id in living if id not in left]
        if strange := left - set(living) - set(acknowledged):
            self.wrong.append(("altered", f"these should be gone: {strange}"))
        self.wrong += [("lost", str(path)) for path in stays if not path.exists()]
        self.wrong += [("altered", f"{path} should be gone") for path in goes if path.exists()]
        self.wrong += [("altered", str(path)) for path in stays
                       if path.exists() and not str(path).endswith(path.read_text())]
