"""The power goes: the spool on a real ext4, XFS and btrfs, whose disk is left as a disk may leave it at
any moment of a load, and comes up again by the kernel's own recovery. Every message whose 250 had been
sent is whole in its queues, or where the queue's reader said that it had put it.

TORTURE_KEEP=directory keeps the record of a disk under which something was lost, so that a
state can be looked at again by its number: see aftermath.py.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import load
import recorded
import smtp
from aftermath import Story
from cluster import short_directory
from deadline import wait_for
from load import Letter
from routing import relaying
from size import pick
from smarthost import SmartHost
from spool import Spool

KINDS = ("ext4", "xfs", "btrfs")
STATES = pick(12, 100, 1000)
FSYNC_STATES = pick(6, 30, 200)
SEED = 5
WORKERS = pick(1, 2, 2)
PIECES = 300_000   # more than smtpd holds of one message, so that it is written in pieces
RECIPIENTS = (("b{}@t.example",), ("b{}@t.example", "c{}@t.example"), ("b{}@far.example",),
              ("b{}@t.example", "b{}@far.example"),
              ("b{}@t.example", "b{}@far.example", "later{}@far.example"))


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
        disks.append(recorded.RecordedDisk(kind, tools))
        return disks[-1].__enter__()

    yield mount
    for disk in disks:
        disk.__exit__()


class Mail:
    """What is sent to one spool, and what becomes of it."""

    def __init__(self, disk):
        self.disk = disk
        self.story = Story(disk.kind)
        self.numbers = itertools.count(1)
        self.spool = Spool(disk.point / "spool")

    def letters(self, count):
        """Small ones mostly, and some that are written in pieces, for one queue or both."""
        sizes = load.log_uniform(count, 100, 20_000, seed=next(self.numbers))
        for place, size in enumerate(sizes):
            number = next(self.numbers)
            size = PIECES + size * 10 if place % 12 == 7 else size
            recipients = RECIPIENTS[number * 7919 % len(RECIPIENTS)]
            yield self._begun(Letter(number, size, tuple(text.format(number)
                                                         for text in recipients)))

    def _begun(self, letter):
        self.story.letters[letter.sender] = (letter.number, letter.size, letter.recipients)
        return letter

    def send(self, address, count, clients):
        letters = list(self.letters(count))
        sent = load.send_all(address, letters, clients)
        self.story.sent |= {id: letter.sender for id, letter in sent.items()}

    def break_off(self, address, count):
        """Letters whose senders are gone before the end, with pieces of them on the disk."""
        for _ in range(count):
            letter = self._begun(Letter(next(self.numbers), 2 * PIECES))
            self.story.torn.append(letter.sender)
            with smtp.session(address, "E") as client:
                client.command(f"MAIL FROM:<{letter.sender}>", 250)
                client.command(f"RCPT TO:<{letter.recipients[0]}>", 250)
                client.command("DATA", 354)
                client.send(smtp.stuffed(letter.body()))
                client.reset()
        wait_for(lambda: not self.spool.tmp(), "what was broken off is removed")

    def stored_letters(self):
        """{id: letter} of what belongs into the database, for its recipients there."""
        return {id: dataclasses.replace(self.story.letter(sender), recipients=tuple(here))
                for id, sender in self.story.sent.items()
                if (here := self.story.recipients(sender, "store"))}

    def end(self):
        """The disk is taken away; what was noted belongs to the story."""
        self.disk.close()
        noted = self.disk.noted()
        self.story.acknowledged = {id: at[0] for id, at in noted["acknowledged"].items()}
        self.story.stored = {id: at[0] for id, at in noted.get("stored", {}).items()}
        self.story.relayed = noted.get("relayed", {})
        assert self.story.acknowledged.keys() == self.story.sent.keys()
        self.story.write(self.disk.directory)


class Witness(SmartHost):
    """A smarthost that has no time for some, and knows by the disk's clock when it took what."""

    def __init__(self, disk):
        super().__init__()
        self.disk = disk
        self.taken = {}
        self.at("RCPT", "450 4.2.1 busy", like="later")

    def accept(self, transaction):
        position = self.disk.position()   # before the 250 is on its way
        taken = self.taken.setdefault(transaction.mail_from, {})
        taken |= dict.fromkeys(transaction.recipients, position)
        super().accept(transaction)


# Loads


def receive(programs, mail, alone, together, **settings):
    """smtpd and its clients: first one alone, so that each commit is of one message and the next
    thing that happens; then many at once."""
    smtpd = relaying(programs, mail.spool, SMTPD_RELAY_CLIENTS="127.0.0.0/8", SMTPD_MIN_FREE=0,
                     **mail.disk.settings(**settings))
    mail.send(smtpd.address, alone, clients=1)
    mail.break_off(smtpd.address, pick(2, 3, 5))
    mail.send(smtpd.address, together, clients=20)
    return smtpd


def store(programs, mail, database, smtpd, count, keep):
    """storer takes away what lies there while more comes in."""
    storer = programs.storer(mail.spool, database, STORER_KEEP=keep, STORER_RESCAN=1,
                             LOG_LEVEL="debug", **mail.disk.settings())
    mail.send(smtpd.address, count, clients=5)
    mail.spool.wait_done()
    storer.stop()


def relay(programs, mail, smtpd, count):
    """relay does the same with the other queue, and keeps those that are put off."""
    with Witness(mail.disk) as host:
        program = programs.relay(mail.spool, host, **mail.disk.settings())
        mail.send(smtpd.address, count, clients=5)
        mail.spool.relay.wait_tried()
        program.stop()
        mail.story.taken = host.taken


# States


def aftermath(directory, count, part, of):
    """What became of some states, as aftermath.py says it. It has mounts of its own, which end
    with it."""
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable,
         pathlib.Path(__file__).with_name("aftermath.py"), directory,
         *map(str, (SEED, count, part, of))],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def examine(mail, count):
    """Every state of the disk that was chosen, mounted and looked at."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        parts = [pool.submit(aftermath, mail.disk.directory, count, part, WORKERS)
                 for part in range(WORKERS)]
        return [state for part in parts for state in part.result()]


def keep_record(mail, name):
    """Where somebody wants to look into it; says where."""
    if not os.environ.get("TORTURE_KEEP"):
        return ""
    kept = pathlib.Path(os.environ["TORTURE_KEEP"]) / name.replace("/", "-")
    shutil.copytree(mail.disk.directory, kept, dirs_exist_ok=True)
    return f" [seed {SEED}, record in {kept}]"


def cut(mail, tally, count):
    """Cuts the power so often, and tells the tally."""
    states = examine(mail, count)
    assert len(states) == count, f"only {len(states)} states could be told apart"
    wrong = [(what, state["state"], text) for state in states
             for what in ("lost", "doubled", "altered") for text in state[what]]
    where = keep_record(mail, tally.part) if wrong else ""
    for what, state, text in wrong:
        getattr(tally, what)(f"{text}; {state}{where}")
    tally.did(len(states))
    # A state before the first message proves little.
    assert sum(state["looked"] > 0 for state in states) > count / 2


@pytest.mark.deadline(pick(180, 600, 2400))
@pytest.mark.parametrize("kind", KINDS)
def test_power_cut(programs, database, disk_of, tally_of, kind):
    """smtpd, storer and relay at work, by the way of committing that smtpd chooses here."""
    with tally_of(f"power-cut/{kind}") as tally:
        mail = Mail(disk_of(kind))
        smtpd = receive(programs, mail, alone=pick(12, 60, 250), together=pick(20, 120, 400))
        assert smtpd.wait_log(event="committing")["method"] == "syncfs"
        store(programs, mail, database, smtpd, pick(10, 50, 200), keep=0)
        store(programs, mail, database, smtpd, pick(5, 40, 150), keep=1)
        relay(programs, mail, smtpd, pick(5, 40, 150))
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
        smtpd = receive(programs, mail, alone=pick(8, 20, 100), together=pick(15, 40, 150),
                        WITNESS_SYNCFS=0)
        assert smtpd.wait_log(event="committing")["method"] == "fsync"
        smtpd.stop()
        mail.end()
        cut(mail, tally, FSYNC_STATES)
