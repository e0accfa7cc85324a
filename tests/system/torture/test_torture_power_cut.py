"""The power goes: the spool on a real ext4, XFS and btrfs, whose disk is left as a disk may leave
it at any moment of a load, and comes up again by the kernel's own recovery. Every message whose 250
had been sent is whole in its queues, or where the queue's reader said that it had put it.

TORTURE_KEEP=directory keeps the record of a disk on which something was lost, so that a state can
be looked at again by its number: see aftermath.py.
"""

import os
import shutil

import pytest

import load
import recorded
from cluster import short_directory
from cutting import Mail, cut, examine
from disk import run
from load import Letter
from powercut import FLUSH, HEAD, SECTORS, WRITE, Chooser, Log
from routing import relaying
from size import pick
from smarthost import SmartHost

KINDS = ("ext4", "xfs", "btrfs")
STATES = pick(12, 100, 1000)
FSYNC_STATES = pick(6, 30, 200)


@pytest.fixture(scope="module")
def tools():
    """The recorder and the witness, compiled."""
    recorded.permitted()
    directory = short_directory("mayfly-tools-")
    recorded.compile(directory)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def disk_of(tools):
    """A function that mounts a recorded disk."""
    disks = []

    def mount(kind):
        disk = recorded.RecordedDisk(kind, tools)
        disks.append(disk)
        return disk.__enter__()

    yield mount
    for disk in disks:
        disk.__exit__()


# The method itself: that it finds what it is to find.


def put(mail, count, flush):
    """Messages that somebody writes and renames as is usual, and promises; with what makes them
    durable, or without."""
    for _ in range(count):
        letter = mail.begin(Letter(next(mail.numbers), 3000))
        id = mail.spool.put(letter.body() + b"\r\n", letter.recipients, mail_from=letter.sender)
        if flush:
            for path in (mail.spool.directory("new") / id, mail.spool.directory("new")):
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
        with open(mail.disk.notes, "a", encoding="utf-8") as notes:
            notes.write(f"acknowledged {id} {mail.disk.position()}\n")
        mail.story.sent[id] = letter.sender


def losing(mail):
    """How many of the states of a disk have lost something."""
    mail.end()
    states = examine(mail, 12)
    assert not any(state["doubled"] or state["altered"] for state in states)
    return sum(bool(state["lost"]) for state in states)


def test_the_record_is_the_disk(disk_of):
    """What was recorded, written once more in its order, is what the disk holds."""
    disk = disk_of("ext4")
    put(Mail(disk), 3, flush=True)
    disk.close()
    log = Log(disk.directory / "log")
    with open(disk.directory / "blank", "r+b") as again:
        for index, write in enumerate(log.writes):
            if write:
                offset, data = log.data(index)
                again.seek(offset)
                again.write(data)
    same = run("cmp", str(disk.directory / "blank"), str(disk.image))
    assert same.returncode == 0, same.stdout + same.stderr
    assert len(log.writes) == disk.position() and len(log.flushes) >= 3


def test_what_was_not_flushed_is_lost(disk_of):
    """The check can fail: rename without fsync is not durable, and a disk says so."""
    disk = disk_of("ext4")
    mail = Mail(disk)
    put(mail, 1, flush=True)   # something that all states have
    put(mail, 20, flush=False)
    run("sync", "-f", str(disk.point))
    assert losing(mail) > 0   # how many is the kernel's affair: it may have written back early


def test_what_was_flushed_is_lost_when_flushes_are_not_heeded(disk_of):
    """With fsync nothing is lost; and it is the flush that makes it so, not luck."""
    mail = Mail(disk_of("ext4"))
    put(mail, 20, flush=True)
    assert losing(mail) == 0
    mail.story.forgetful = True
    assert losing(mail) > 0


def test_a_state_is_what_a_disk_may_leave(tmp_path):
    """A record made up: two writes, a flush, three writes, a flush, one write."""
    with open(tmp_path / "log", "wb") as file:
        for length in (4096, 512, 0, 4096, 8192, 512, 0, 1024):
            file.write(HEAD.pack(1 << 20, length, WRITE if length else FLUSH) + bytes(length))
    log = Log(tmp_path / "log")
    assert log.windows() == [(0, 2), (3, 6), (7, 8)] and log.windows(forgetful=True) == [(0, 8)]
    states = Chooser(log, "ext4", [3, 7], 1).choose(60)
    assert states == Chooser(log, "ext4", [3, 7], 1).choose(60)
    assert len({state.key() for state in states}) == len(states) == 60
    assert {state.what for state in states} > {"none", "all", "torn"}
    for state in states:
        assert (state.first, state.end) in log.windows()
        assert set(state.kept) <= set(range(state.first, state.end))
        assert state.first <= state.earliest <= state.latest == state.end
        for index, sectors in state.kept.items():
            whole = range(0, log.writes[index][1], SECTORS["ext4"])
            assert sectors is None or {sector.start for sector in sectors} < set(whole)


# The programs.


class Witness(SmartHost):
    """A smarthost that has no time for some, knows nothing of others, and knows by the disk's clock
    when it took what."""

    def __init__(self, disk):
        super().__init__()
        self.disk = disk
        self.taken = {}
        self.at("RCPT", "450 4.2.1 busy", like="later")
        self.at("RCPT", "550 5.1.1 unknown", like="never")

    def accept(self, transaction):
        position = self.disk.position()   # before the 250 is on its way
        taken = self.taken.setdefault(transaction.mail_from, {})
        taken |= dict.fromkeys(transaction.recipients, position)
        super().accept(transaction)


def receive(programs, mail, alone, together, **settings):
    """smtpd and its clients: first one alone, so that each commit is of one message, and its 250
    the next thing that happens; then many at once."""
    smtpd = relaying(programs, mail.spool, SMTPD_RELAY_CLIENTS="127.0.0.0/8", SMTPD_MIN_FREE=0,
                     **mail.disk.settings(**settings))
    mail.send(smtpd.address, alone, clients=1)
    mail.break_off(smtpd.address, pick(2, 3, 5))
    mail.send(smtpd.address, together, clients=20)
    return smtpd


def store(programs, mail, database, smtpd, count, keep):
    """storer takes away what lies there while more comes in."""
    storer = programs.storer(mail.spool, database, STORER_KEEP=keep, STORER_RESCAN=1,
                             **mail.disk.settings())
    mail.send(smtpd.address, count, clients=5)
    mail.spool.wait_done()
    storer.stop()


def relay(programs, mail, smtpd, count):
    """relay does the same with the other queue, and keeps those that are put off."""
    with Witness(mail.disk) as host:
        program = programs.relay(mail.spool, host, SMTPD_DOMAINS=mail.story.domain,
                                 **mail.disk.settings())
        mail.send(smtpd.address, count, clients=5)
        mail.spool.relay.wait_tried()
        program.stop()
        mail.story.taken = host.taken


@pytest.mark.deadline(pick(180, 600, 2400))
@pytest.mark.parametrize("kind", KINDS)
def test_power_cut(programs, database, disk_of, tally_of, kind):
    """smtpd, storer and relay at work, by the way of committing that smtpd chooses here."""
    with tally_of(f"power-cut/{kind}") as tally:
        mail = Mail(disk_of(kind))
        smtpd = receive(programs, mail, alone=pick(12, 40, 150), together=pick(20, 80, 200))
        assert smtpd.wait_log(event="committing")["method"] == "syncfs"
        store(programs, mail, database, smtpd, pick(10, 30, 100), keep=0)
        store(programs, mail, database, smtpd, pick(5, 20, 60), keep=1)
        relay(programs, mail, smtpd, pick(5, 20, 80))
        store(programs, mail, database, smtpd, 0, keep=0)
        smtpd.stop()
        mail.end()
        tally.compare(load.differences(database, mail.stored_letters()))
        cut(mail, tally, STATES)


@pytest.mark.deadline(pick(180, 600, 1200))
@pytest.mark.parametrize("kind", KINDS)
def test_power_cut_fsync(programs, disk_of, tally_of, kind):
    """The way that is left on any other file system."""
    with tally_of(f"power-cut/{kind}-fsync") as tally:
        mail = Mail(disk_of(kind))
        smtpd = receive(programs, mail, alone=pick(8, 20, 60), together=pick(15, 40, 100),
                        WITNESS_SYNCFS=0)
        assert smtpd.wait_log(event="committing")["method"] == "fsync"
        smtpd.stop()
        mail.end()
        cut(mail, tally, FSYNC_STATES)
