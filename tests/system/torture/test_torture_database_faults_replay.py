"""A failover that loses commits: the standby gets the log when it can, and is promoted without what
the primary had answered for. storer keeps the files for STORER_KEEP seconds, and what is missing is
inserted again from cur/, by the operator's hand or when the time is over; what is not, is not.

The loss is made real, and is seen, before it is mended. The letters are acknowledged by a real
smtpd.
"""

import random

import pytest

from deadline import wait_for
from letterbox import Letterbox, not_in_make_test
from load import Rain, differences
from size import pick
from standby import pair

pytestmark = pytest.mark.deadline(pick(180, 600, 1800))


@pytest.fixture(scope="module")
def module_servers():
    with pair() as servers:
        yield servers


@pytest.fixture
def servers(module_servers):
    yield module_servers
    module_servers.clear()


@pytest.fixture
def box(programs, spool):
    return Letterbox(programs, spool)


def lose(box, servers, count):
    """Letters that storer was told are committed, and that the new primary does not have; returns
    them, and the server that had them."""
    kept = box.send(3)
    box.drained()
    servers.standby.catch_up()
    servers.standby.hold_back()
    sent = box.send_batch(count)
    box.drained()
    assert differences(servers.database(), sent) == []
    former = servers.fail_over()
    found = differences(servers.database(), kept | sent)
    lost = {text for text in found if text.startswith("lost:")}
    assert lost == {f"lost: {(id,)}" for id in sent}, "these, and no others, are lost"
    return sent, former


def stored_again(box, servers, sent):
    wait_for(lambda: servers.database().value(
        "SELECT count(*) FROM messages WHERE id = ANY (%s::uuid[])", list(sent)) == len(sent),
        "what was lost is back", 120)


def test_by_hand(tally_of, box, servers):
    """mv cur/* new/, as the README has it."""
    box.start_storer(servers.url, STORER_KEEP=86400)
    with tally_of("database-faults/replay-by-hand") as tally:
        for _ in range(pick(1, 2, 8)):
            sent, former = lose(box, servers, 20)
            for id in box.spool.cur():
                (box.spool.queue / "cur" / id).rename(box.spool.queue / "new" / id)
            stored_again(box, servers, sent)
            servers.return_as_standby(former)
            tally.did(len(sent))
        box.compare(tally, servers.database())
    assert set(box.spool.cur()) == set(box.acknowledged)
    box.storer.stop()


def test_when_the_time_is_over(tally_of, box, servers):
    """By itself. Longer than a failover takes, on however busy a machine: storer is given its time
    when that is over."""
    with tally_of("database-faults/replay") as tally:
        for _ in range(pick(1, 2, 8)):
            if box.storer:
                box.storer.stop()
            box.start_storer(servers.url, STORER_KEEP=86400)
            sent, former = lose(box, servers, 20)
            box.storer.stop()
            box.start_storer(servers.url, STORER_KEEP=pick(1, 2, 3))
            stored_again(box, servers, sent)
            wait_for(lambda: not box.spool.cur(), "cur/ is empty")
            servers.return_as_standby(former)
            tally.did(len(sent))
        box.compare(tally, servers.database())
    box.storer.stop()


@not_in_make_test
def test_under_load(tally_of, box, servers):
    """The stream is held back at random moments, and storer goes on all the while; each failover
    comes well within the time that files are kept."""
    chance = random.Random(5)
    keep = pick(30, 30, 60)
    box.start_storer(servers.url, STORER_KEEP=keep)
    with tally_of("database-faults/replay-under-load") as tally:
        lost = 0
        for _ in range(pick(1, 1, 3)):
            with Rain(box.smtpd.address, clients=3, largest=3000) as rain:
                rain.numbers = box.numbers
                for _ in range(pick(1, 2, 3)):
                    lost += one_failover(box, servers, rain, chance)
                    tally.did()
            box.acknowledged |= rain.acknowledged
        box.drained()
        wait_for(lambda: not box.spool.cur(), "cur/ is empty", 180, interval=0.2)
        assert lost > 0, "nothing was lost, and so nothing was tried"
        box.compare(tally, servers.database())
    box.storer.stop()


def one_failover(box, servers, rain, chance):
    """Returns how many letters it lost for the time being."""
    def more(count):
        enough = len(rain.acknowledged) + count
        wait_for(lambda: len(rain.acknowledged) > enough, "letters are acknowledged")
    more(chance.randrange(30))
    servers.standby.hold_back()
    more(10)
    wait_for(lambda: servers.database().value("SELECT count(*) FROM messages")
             > servers.database(servers.standby).value("SELECT count(*) FROM messages"),
             "the standby falls behind")
    had = {id for id, in servers.database().query("SELECT id FROM messages")}
    former = servers.fail_over()
    has = {id for id, in servers.database().query("SELECT id FROM messages")}
    servers.return_as_standby(former)
    return len(had - has)
