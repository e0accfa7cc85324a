"""Two real servers, a primary and its standby by streaming replication, and storer with the
addresses of both: the primary dies, the standby is promoted, and what a real smtpd has acknowledged
is there, once.

Here they replicate synchronously, and STORER_KEEP is 0: a COMMIT is answered only when the standby
has it too, and a file that is gone is a message on both. The dangerous moments are those in which
the primary alone has it, and answers, or shows it, all the same.
"""

import contextlib
import os
import random
import signal
import time

import pytest

from deadline import wait_for
from letterbox import Letterbox, not_in_make_test, without_spin
from load import Rain, differences
from size import pick
from standby import ask, configure, pair

OURS = "FROM pg_stat_activity WHERE application_name = 'mayfly-storer'"
WAITING = OURS + " AND wait_event = 'SyncRep'"

pytestmark = pytest.mark.deadline(pick(180, 600, 1800))


@pytest.fixture(scope="module")
def module_servers():
    with pair(synchronous_standby_names="*") as servers:
        yield servers


@pytest.fixture
def servers(module_servers):
    yield module_servers
    module_servers.clear()


@pytest.fixture
def box(programs, spool):
    return Letterbox(programs, spool)


def waits(servers):
    """storer's COMMIT waits for the standby."""
    return ask(servers.primary, f"SELECT count(*) {WAITING}") > 0


def end_session(servers):
    ask(servers.primary, f"SELECT count(pg_terminate_backend(pid)) {OURS}")


@pytest.mark.parametrize("level", pick(["on"], ["on", "remote_apply"], ["on", "remote_apply"]))
def test_killed_under_load(tally_of, box, servers, level):
    """At random moments, with letters coming in from many sides, back and forth between the two."""
    chance = random.Random(level)
    configure(servers.primary, synchronous_commit=level)
    box.start_storer(servers.url)
    with tally_of(f"database-faults/failover-{level}") as tally:
        with Rain(box.smtpd.address, clients=4) as rain:
            for _ in range(pick(1, 2, 10)):
                enough = len(rain.acknowledged) + 20
                wait_for(lambda: len(rain.acknowledged) > enough, "letters are acknowledged")
                time.sleep(chance.uniform(0, 0.5))
                former = servers.fail_over()
                # Nothing is committed while there is nobody who could have it too.
                servers.return_as_standby(former)
                tally.did()
        box.acknowledged = rain.acknowledged
        box.compare(tally, servers.database())
    box.storer.stop()


def crash(servers):
    servers.primary.kill()
    servers.primary.start()


def restart(servers):
    servers.primary.restart()


def terminate(servers):
    ask(servers.primary, f"SELECT count(pg_terminate_backend(pid)) {WAITING}")


def cancel(servers):
    ask(servers.primary, f"SELECT count(pg_cancel_backend(pid)) {WAITING}")


WAYS = {"terminate": terminate, "cancel": cancel, "crash": crash, "restart": restart}


def test_a_commit_that_waits_for_the_standby_is_interrupted(tally_of, box, servers):
    """The primary has committed, and waits for a standby that hears nothing. What ends this wait
    does not undo the commit: from then on the primary shows the messages, and would call their
    insertion a replay. Then it is gone for good."""
    # The least that servers say: storer must hear of a wait that was ended all the same.
    box.start_storer(servers.url + " options='-c client_min_messages=error'")
    with tally_of("database-faults/failover-interrupted") as tally:
        for way in list(WAYS)[:pick(2, 4, 4)] * pick(1, 1, 3):
            box.send(3)
            box.drained()
            servers.standby.hold_back()
            sent = box.send_batch(5)
            wait_for(lambda: waits(servers), "the batch waits for the standby")
            WAYS[way](servers)
            database = servers.database()
            wait_for(lambda: database.value("SELECT count(*) FROM messages WHERE id = ANY"
                                            " (%s::uuid[])", list(sent)) > 0,
                     "the primary shows it")
            # storer tries again, and would unlink the files now.
            with without_spin(box.storer):
                time.sleep(2)
            former = servers.fail_over()
            assert len(differences(servers.database(), sent)) > 0, "the standby had it all the same"
            servers.return_as_standby(former)
            box.drained()
            tally.did()
        box.compare(tally, servers.database())
    box.storer.stop()


def signal_to(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@not_in_make_test
def test_the_primary_hangs(tally_of, box, servers):
    """It neither answers nor goes away, with a batch in hand, until somebody makes sure of it."""
    box.start_storer(servers.url)
    with tally_of("database-faults/failover-hung") as tally:
        for _ in range(pick(1, 1, 6)):
            box.send(3)
            box.drained()
            former = servers.primary
            for pid in [former.process.pid, *former.children()]:
                signal_to(pid, signal.SIGSTOP)
            box.send_batch(5)
            servers.standby.promote()
            with without_spin(box.storer):
                time.sleep(1)
            servers.fail_over(promote=False)
            servers.return_as_standby(former)
            box.drained()
            tally.did()
        box.compare(tally, servers.database())
    box.storer.stop()


@not_in_make_test
def test_the_former_primary_comes_back(tally_of, box, servers):
    """With a history of its own, fenced by being read-only: nothing is written there, whenever
    storer looks for a server again."""
    box.start_storer(servers.url)
    with tally_of("database-faults/failover-fenced") as tally:
        box.send(5)
        box.drained()
        former = servers.fail_over()
        with open(former.data / "postgresql.auto.conf", "a") as conf:
            conf.write("default_transaction_read_only = on\nsynchronous_standby_names = ''\n")
        former.start()
        before = ask(former, "SELECT count(*) FROM messages", servers.name)
        # There is no standby now, and the operator has said that there need not be.
        configure(servers.primary, synchronous_standby_names="")
        for _ in range(pick(3, 5, 30)):
            end_session(servers)
            box.send(3)
            box.drained()
            tally.did()
        assert ask(former, "SELECT count(*) FROM messages", servers.name) == before
        box.compare(tally, servers.database())
        former.stop()
        configure(servers.primary, synchronous_standby_names="*")
        servers.return_as_standby(former)
    box.storer.stop()


@not_in_make_test
def test_only_a_standby_is_there(tally_of, box, servers):
    """Letters wait, for as long as it takes nothing; once it is promoted it takes them."""
    url = f"host=127.0.0.1 port={servers.standby.port} user=postgres dbname={servers.name}"
    with tally_of("database-faults/standby") as tally:
        box.start_storer(url, ready=False)
        box.send(10)
        box.storer.wait_log(event="database_down")
        with without_spin(box.storer):
            time.sleep(2)
        assert len(box.spool.new()) == 10
        assert not box.storer.is_ready(), "it settled on a server that takes nothing"
        former = servers.fail_over()
        servers.return_as_standby(former)
        tally.did()
        box.compare(tally, servers.database())
    box.storer.stop()
