"""Mail on a disk whose power will be cut, and the cutting."""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import load
import smtp
from aftermath import Story
from deadline import wait_for
from load import Letter
from size import pick
from spool import Spool

SEED = 5
WORKERS = pick(1, 3, 3)
PIECES = 300_000   # more than smtpd holds of one message, so that it is written in pieces
UNSETTLED = 40     # letters at most whose names and sizes stand in the journal alone
RECIPIENTS = (("b{}@t.example",), ("b{}@t.example", "c{}@t.example"), ("b{}@far.example",),
              ("b{}@t.example", "b{}@far.example"),
              ("b{}@t.example", "b{}@far.example", "later{}@far.example"),
              ("b{}@far.example", "never{}@far.example"), ("b{}@t.example", "never{}@far.example"))


class Mail:
    """What is sent to one spool, and what became of it."""

    def __init__(self, disk):
        self.disk = disk
        self.story = Story(disk.kind)
        self.numbers = itertools.count(1)
        self.spool = Spool(disk.point / "spool")

    def begin(self, letter):
        """Every letter of which a byte may come to the disk is known to the story."""
        self.story.letters[letter.sender] = (letter.number, letter.size, letter.recipients)
        return letter

    def letters(self, count):
        """Small ones mostly, and some that are written in pieces, for one queue or both."""
        sizes = load.log_uniform(count, 100, 20_000, seed=next(self.numbers))
        for place, size in enumerate(sizes):
            number = next(self.numbers)
            size = PIECES + size * 10 if place % 12 == 7 else size
            recipients = RECIPIENTS[number * 7919 % len(RECIPIENTS)]
            yield self.begin(Letter(number, size, tuple(text.format(number)
                                                        for text in recipients)))

    def send(self, address, count, clients):
        letters = list(self.letters(count))
        for begin in range(0, count, UNSETTLED):
            sent = load.send_all(address, letters[begin:begin + UNSETTLED], clients)
            self.story.sent |= {id: letter.sender for id, letter in sent.items()}
            self.disk.settle()

    def break_off(self, address, count):
        """Letters whose senders are gone before the end, with pieces of them on the disk."""
        for _ in range(count):
            letter = self.begin(Letter(next(self.numbers), 2 * PIECES))
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
    """So many states of the disk, each mounted and looked at."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        parts = [pool.submit(aftermath, mail.disk.directory, count, part, WORKERS)
                 for part in range(WORKERS)]
        states = [state for part in parts for state in part.result()]
    assert len(states) == count, f"only {len(states)} states could be told apart"
    # A state before the first message proves little.
    assert sum(state["looked"] > 0 for state in states) > count / 2
    return states


def keep_record(mail, name, count):
    """Where somebody wants to look into it; returns the command for one state."""
    if not os.environ.get("TORTURE_KEEP"):
        return ""
    kept = pathlib.Path(os.environ["TORTURE_KEEP"]) / name.replace("/", "-")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(mail.disk.directory, kept)
    return f" [aftermath.py {kept} {SEED} {count} only …]"


def cut(mail, tally, count):
    """Cuts the power so often, and tells the tally."""
    states = examine(mail, count)
    wrong = [(what, state["state"], text) for state in states
             for what in ("lost", "doubled", "altered") for text in state[what]]
    where = keep_record(mail, tally.part, count) if wrong else ""
    for what, state, text in wrong:
        getattr(tally, what)(f"{text}; seed {SEED}, {state}{where}")
    tally.did(len(states))
