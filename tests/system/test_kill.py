"""kill -9 at any moment: nothing acknowledged is lost, nothing is stored twice."""

import random
import time

import pytest

from cluster import free_port
from deadline import wait_for
from load import Rain, differences
from scale import scaled

SECONDS = scaled(60, 5)

pytestmark = pytest.mark.deadline(120 + 3 * SECONDS)


class Victims:
    """The three servers of the pipeline, each of which can be killed and comes back."""

    def __init__(self, programs, spool, database, cluster):
        self.programs = programs
        self.spool = spool
        self.database = database
        self.cluster = cluster
        self.port = free_port()
        self.kills = 0
        self.start_smtpd()
        self.start_storer(ready=True)

    def start_smtpd(self):
        self.smtpd = self.programs.smtpd(self.spool, SMTPD_LISTEN=f"127.0.0.1:{self.port}")

    def start_storer(self, ready=False):
        self.storer = self.programs.start("storer", ready=ready, SPOOL=self.spool, STORER_RESCAN=2,
                                          DATABASE_URL=self.database.url)

    def kill_smtpd(self):
        self.smtpd.kill()
        self.start_smtpd()

    def kill_storer(self):
        self.storer.kill()
        self.start_storer()

    def kill_postgresql(self):
        self.cluster.kill()
        self.cluster.start()

    def kill(self, name):
        getattr(self, f"kill_{name}")()
        self.kills += 1


@pytest.mark.parametrize("names", [["smtpd"], ["storer"], ["postgresql"],
                                   ["smtpd", "storer", "postgresql"]], ids="+".join)
def test_killed_at_random_under_load(programs, spool, database, cluster, names):
    victims = Victims(programs, spool, database, cluster)
    chance = random.Random(7)
    end = time.monotonic() + SECONDS
    with Rain(("127.0.0.1", victims.port)) as rain:
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.05, 1.5))
            victims.kill(chance.choice(names))
    assert victims.kills >= 3 and len(rain.acknowledged) > 50
    wait_for(lambda: not spool.new(), "new/ is empty", 120, interval=0.1)
    assert differences(database, rain.acknowledged) == []
    # What an interrupted smtpd leaves behind was never acknowledged and never seen.
    assert not set(spool.tmp()) & set(rain.acknowledged)
    assert spool.failed() == []
    assert victims.smtpd.returncode is None and victims.storer.returncode is None


@pytest.mark.parametrize("how", ["immediate", "stop"])
def test_postgresql_shut_down_under_load(programs, spool, database, cluster, how):
    victims = Victims(programs, spool, database, cluster)
    with Rain(("127.0.0.1", victims.port)) as rain:
        for _ in range(3):
            time.sleep(0.5)
            getattr(cluster, how)()
            cluster.start()
        time.sleep(0.5)
    wait_for(lambda: not spool.new(), "new/ is empty", 120, interval=0.1)
    assert differences(database, rain.acknowledged) == []
    assert victims.storer.returncode is None


def test_every_program_stopped_and_started_under_load(programs, spool, database, cluster):
    victims = Victims(programs, spool, database, cluster)
    with Rain(("127.0.0.1", victims.port)) as rain:
        for _ in range(3):
            time.sleep(0.5)
            victims.smtpd.stop()
            victims.start_smtpd()
            victims.storer.stop()
            victims.start_storer()
        time.sleep(0.5)
    wait_for(lambda: not spool.new(), "new/ is empty", 120, interval=0.1)
    assert differences(database, rain.acknowledged) == []
    # Nobody was killed, so nothing half received is left.
    assert spool.tmp() == []
