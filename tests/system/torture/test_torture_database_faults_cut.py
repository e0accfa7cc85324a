"""storer's connection, cut behind every byte of a batch: on the way there, where the batch may or
may not have been committed, and on the way back, where it was and storer does not know.

The letters are acknowledged by a real smtpd. storer is given the proxy several times over as its
list of hosts, and so comes back at once, as it does where a second server is at hand: thousands of
cuts take no thousands of pauses.
"""

import random

import pytest

from deadline import wait_for
from letterbox import Letterbox
from proxy import BATCH, COPIED, FINISH, NOTIFY, RESET, SESSION, TO_CLIENT, TO_SERVER, Cut, Proxy
from size import pick

HOSTS = 8

# On the way there, at full size: by a reset behind every byte, by an orderly end behind every fourth,
# for the two differ only in how storer hears of it.
FINE = {RESET: 1, FINISH: 4}

# What storer asks of a session before it is good for anything.
CHECK = b"schema_version()"


def url_through(proxy, database):
    hosts, ports = ",".join(["127.0.0.1"] * HOSTS), ",".join([str(proxy.port)] * HOSTS)
    return (f"host={hosts} port={ports} user=postgres dbname={database.name} sslmode=disable"
            " gssencmode=disable")


@pytest.fixture
def proxy(cluster):
    with Proxy(f"{cluster.directory}/.s.PGSQL.{cluster.port}") as running:
        yield running


@pytest.fixture
def box(programs, spool, database, proxy):
    box = Letterbox(programs, spool)
    box.start_storer(url_through(proxy, database))
    # The partitions of today are made once, and are not part of what is cut.
    box.send()
    box.drained()
    return box


def send_one(box):
    return box.send(size=100, recipients=("bob@t.example", "carol@t.example"))


def send_copied(box):
    """A batch that goes by COPY, behind one that has told this session the bounds."""
    return box.send_batch(4, size=100)


def places(length, step):
    """Every so many bytes, and the first and the last of them."""
    return sorted({*range(0, length, step), length})


@pytest.mark.deadline(pick(120, 600, 3600))
@pytest.mark.parametrize("how", [RESET, FINISH])
def test_at_every_byte_of_a_batch(tally_of, box, database, proxy, how):
    measured = proxy.measure(BATCH, lambda said: NOTIFY in said)
    send_one(box)
    lengths = measured()
    assert lengths[TO_SERVER] > 1000 and lengths[TO_CLIENT] > 50
    with tally_of(f"database-faults/cut-{how}") as tally:
        for direction, steps in ((TO_SERVER, pick(160, 40, FINE[how])), (TO_CLIENT, pick(20, 10, 1))):
            before = proxy.replays
            for after in places(lengths[direction], steps):
                proxy.arm(Cut(direction, after, how))
                send_one(box)
                proxy.wait_fired()
                box.drained()
                tally.did()
            # What comes back comes of a COMMIT, so that storer must have sent again what was there.
            assert direction == TO_SERVER or proxy.replays > before
        box.compare(tally, database)


@pytest.mark.deadline(pick(120, 600, 3600))
@pytest.mark.parametrize("how", [RESET, FINISH])
def test_at_every_byte_of_a_batch_that_is_copied(tally_of, box, database, proxy, how):
    """The rows are asked for twice in it, so that there are more ways to stand still."""
    measured = proxy.measure(COPIED, lambda said: NOTIFY in said)
    send_copied(box)
    lengths = measured()
    assert lengths[TO_SERVER] > 2000 and lengths[TO_CLIENT] > 100
    with tally_of(f"database-faults/cut-copy-{how}") as tally:
        for direction, steps in ((TO_SERVER, pick(400, 60, FINE[how])), (TO_CLIENT, pick(40, 10, 1))):
            before = proxy.replays
            for after in places(lengths[direction], steps):
                box.send(size=100)
                box.drained()
                proxy.arm(Cut(direction, after, how, COPIED))
                send_copied(box)
                proxy.wait_fired()
                box.drained()
                tally.did()
            assert direction == TO_SERVER or proxy.replays > before
        box.compare(tally, database)


@pytest.mark.deadline(pick(120, 600, 3600))
def test_at_every_byte_of_a_session_s_beginning(tally_of, box, database, proxy):
    measured = proxy.measure(SESSION, lambda said: CHECK in said)
    proxy.drop()
    lengths = measured()
    with tally_of("database-faults/cut-session") as tally:
        for direction, step in ((TO_SERVER, pick(120, 20, 1)), (TO_CLIENT, pick(60, 20, 1))):
            for after in places(lengths[direction], step):
                proxy.arm(Cut(direction, after, RESET, SESSION))
                proxy.drop()
                proxy.wait_fired()
                send_one(box)
                box.drained()
                tally.did()
        box.compare(tally, database)


@pytest.mark.deadline(pick(120, 600, 1800))
def test_at_some_bytes_of_a_large_batch(tally_of, box, database, proxy):
    """Of what does not fit into the buffers of anyone on the way."""
    count, size = 40, 20_000
    measured = proxy.measure(BATCH, lambda said: NOTIFY in said)
    box.send_batch(count, size)
    lengths = measured()
    box.drained()
    assert lengths[TO_SERVER] > 0.9 * count * size
    chance = random.Random(3)
    with tally_of("database-faults/cut-large") as tally:
        for number in range(pick(4, 20, 150)):
            how = (RESET, FINISH)[number % 2]
            proxy.arm(Cut(TO_SERVER, chance.randrange(lengths[TO_SERVER] // 2), how))
            box.send_batch(count, size)
            proxy.wait_fired()
            box.drained()
            tally.did()
        box.compare(tally, database)


@pytest.mark.deadline(300)
def test_cut_again_and_again(tally_of, box, database, proxy):
    """A way on which no batch gets through, for a while: nothing is given up."""
    with tally_of("database-faults/cut-always") as tally:
        sent = box.send_batch(20)
        for number in range(pick(12, 30, 60)):
            proxy.arm(Cut((TO_SERVER, TO_CLIENT)[number % 2], 40, RESET))
            proxy.wait_fired()
            tally.did()
        assert box.spool.failed() == []
        wait_for(lambda: not set(box.spool.new()) & set(sent), "they are stored in the end")
        box.compare(tally, database)
