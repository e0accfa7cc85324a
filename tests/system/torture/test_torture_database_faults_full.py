"""Disks that get full under PostgreSQL, and have room again: the one with the tables, on which an
INSERT fails, and the one with the log, on which the whole server does.

The letters are acknowledged by a real smtpd, whose spool lies on another disk.
"""

import contextlib
import shutil
import time

import pytest

import disk
from cluster import Cluster, Database, short_directory
from deadline import wait_for
from letterbox import Letterbox, without_spin
from size import pick

pytestmark = pytest.mark.deadline(pick(180, 600, 900))

FULL = "53100"


@pytest.fixture
def box(programs, spool):
    return Letterbox(programs, spool)


@pytest.fixture
def mounts():
    """A function that mounts a small disk, of a kind and a size, for the server's user."""
    directory = short_directory("mayfly-full-")
    with contextlib.ExitStack() as stack:
        def mount(kind, mebibytes):
            point = stack.enter_context(disk.mounted(directory, kind, mebibytes, 5000))
            place = point / "place"
            place.mkdir()
            shutil.chown(place, "postgres", "postgres")
            return place, disk.Filler(point)

        yield mount
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def elsewhere(cluster):
    """A function that makes a database whose tables lie in a directory."""
    made = []

    def create(place):
        cluster.create().drop()  # the template is there now
        cluster.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        cluster.execute("CREATE DATABASE mayfly_small TEMPLATE mayfly_template TABLESPACE small")
        made.append(Database(cluster, "mayfly_small"))
        return made[0]

    yield create
    for database in made:
        database.drop()
        cluster.execute("DROP TABLESPACE small")


@pytest.mark.parametrize("kind", pick(["tmpfs"], ["tmpfs", "ext4"], ["tmpfs", "ext4"]))
def test_no_room_for_the_tables(tally_of, box, mounts, elsewhere, kind):
    place, filler = mounts(kind, 64)
    database = elsewhere(place)
    box.start_storer(database)
    with tally_of(f"database-faults/full-{kind}") as tally:
        for number in range(pick(1, 3, 10)):
            box.send(3)
            box.drained()
            before = len(box.storer.log(event="database_trouble", sqlstate=FULL))
            filler.bytes(leave=number % 3 * 100_000)
            sent = box.send_batch(30, 20_000)
            wait_for(lambda: len(box.storer.log(event="database_trouble", sqlstate=FULL)) > before,
                     "there is no room")
            with without_spin(box.storer):
                sent |= box.send(5)
                time.sleep(1)
            assert len(box.spool.new()) > 0 and box.spool.failed() == []
            filler.empty()
            box.drained()
            # Room for the next time.
            tally.compare(box.look(database))
            database.query("TRUNCATE messages, deliveries")
            box.acknowledged.clear()
            tally.did()
        box.compare(tally, database)
    box.storer.stop()


class LoggedElsewhere(Cluster):
    """A server with small segments of the log, in a directory of its own."""

    def __init__(self, place):
        self.place = place
        super().__init__()

    def _run(self, program, *args):
        if program == "initdb":
            args += ("--waldir", self.place / "wal", "--wal-segsize", 1)
        super()._run(program, *args)

    def _make_data(self):
        super()._make_data()
        with open(self.data / "postgresql.conf", "a") as conf:
            # What a checkpoint has no need of is taken away, and not kept to be used again; and
            # none comes by itself, which would make room.
            conf.write("wal_recycle = off\nmin_wal_size = 2MB\nmax_wal_size = 1GB\n"
                       "checkpoint_timeout = 1h\n")

    def panics(self):
        return self.log_text().count("PANIC:")


def test_no_room_for_the_log(tally_of, box, mounts):
    """The server ends with a PANIC, comes back if it can, and cannot until there is room."""
    place, filler = mounts("tmpfs", 64)
    server = LoggedElsewhere(place)
    try:
        server.start()
        database = server.create()
        box.start_storer(database)
        with tally_of("database-faults/full-log") as tally:
            for _ in range(pick(1, 2, 8)):
                box.send(3)
                box.drained()
                before = server.panics()
                filler.bytes()
                for _ in range(50):
                    box.send(10, 20_000)
                    if server.panics() > before:
                        break
                    time.sleep(0.1)
                assert server.panics() > before, "the log found room all the same"
                with without_spin(box.storer):
                    box.send(5)
                    time.sleep(2)
                assert len(box.spool.new()) > 0 and box.spool.failed() == []
                filler.empty()
                server.start()
                box.drained()
                server.execute("CHECKPOINT")
                tally.did()
            box.compare(tally, database)
        box.storer.stop()
    finally:
        server.kill()
        server.remove()
