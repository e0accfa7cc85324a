"""PostgreSQL killed in the middle of a batch: at gates where it is known to be, before the COMMIT,
behind it and before its answer, and at moments that chance has chosen.

The letters are acknowledged by a real smtpd, which goes on all the while. The server runs without
fsync, since what a killed one had written is still in the kernel.
"""

import os
import random
import signal
import time

import pytest

import gates
from letterbox import Letterbox
from size import pick

pytestmark = pytest.mark.deadline(pick(180, 600, 1800))


@pytest.fixture
def box(programs, spool):
    return Letterbox(programs, spool)


def backend(database):
    return database.value(f"SELECT pid FROM pg_stat_activity WHERE {gates.OURS}"
                          " AND datname = current_database()")


def kill_backend(database):
    """Only the process that works for storer: the server ends all others, and recovers."""
    os.kill(backend(database), signal.SIGKILL)


def terminate(database):
    database.query("SELECT pg_terminate_backend(%s)", backend(database))


WAYS = {
    "kill": lambda database: database.cluster.kill(),
    "immediate": lambda database: database.cluster.immediate(),
    "backend": kill_backend,
    "fast": lambda database: database.cluster.stop(),
    "terminate": terminate,
}


@pytest.mark.parametrize("way", list(WAYS)[:pick(2, 5, 5)])
def test_in_the_middle_of_a_batch(tally_of, box, database, way):
    """One that goes by INSERT and one that goes by COPY, in turn; the next way to be killed begins
    with the other."""
    gates.build(database)
    box.start_storer(database)
    first = list(WAYS).index(way)
    with tally_of(f"database-faults/killed-{way}") as tally:
        for number, stage in enumerate(gates.STAGES * pick(1, 1, 6), first):
            gates.warm_up(box)
            with gates.shut(database, stage):
                gates.send_to(box, database, stage, gates.WAYS[number % 2])
                WAYS[way](database)
                # Whoever comes while there is no database is answered as ever.
                box.send(3)
                database.cluster.start()
            box.drained()
            tally.did()
        box.compare(tally, database)


def test_at_moments_of_chance(tally_of, box, database):
    """From the moment at which storer sees a batch of any size, to some time after it."""
    chance = random.Random(11)
    box.start_storer(database)
    with tally_of("database-faults/killed-at-random") as tally:
        for number in range(pick(3, 15, 150)):
            box.send_batch(chance.choice((1, 10, 40)), chance.choice((200, 20_000)))
            time.sleep(chance.uniform(0, 0.03))
            WAYS[("kill", "immediate")[number % 2]](database)
            database.cluster.start()
            box.drained()
            tally.did()
        box.compare(tally, database)
