"""What a part of the torture tried, and what became of the mail: the line that it ends with.

A tally is of one thing that is tried many times. What is found is told to it in words, of which the
first few are shown when the part fails; that it is told nothing is the proof.
"""

import contextlib
import json
import os

SHOWN = 20


class Tally:
    """Counts, under the name of a part and of what was done there, such as `power-cut/ext4`."""

    def __init__(self, part):
        self.part = part
        self.tried = 0
        self.found = {"lost": [], "doubled": [], "altered": []}

    def did(self, count=1):
        """So many states, faults or cuts were tried and looked at."""
        self.tried += count

    def lost(self, what):
        self.found["lost"].append(str(what))

    def doubled(self, what):
        self.found["doubled"].append(str(what))

    def altered(self, what):
        self.found["altered"].append(str(what))

    def compare(self, differences):
        """Takes what load.differences found, a text each, for what it is."""
        for text in differences:
            what = text.partition(":")[0]
            {"lost": self.lost, "twice": self.doubled}.get(what, self.altered)(text)

    def line(self):
        counts = " ".join(f"{what}={len(found)}" for what, found in self.found.items())
        return f"part={self.part} tried={self.tried} {counts}"

    def row(self):
        return {"part": self.part, "tried": self.tried,
                **{what: len(found) for what, found in self.found.items()}}

    def check(self):
        """Fails when a message is lost, doubled or altered, or when nothing was tried at all."""
        wrong = [f"{what}: {text}" for what, found in self.found.items() for text in found]
        more = "" if len(wrong) <= SHOWN else f"\n… and {len(wrong) - SHOWN} more"
        assert not wrong, self.line() + "\n" + "\n".join(wrong[:SHOWN]) + more
        assert self.tried > 0, f"{self.part} tried nothing"


@contextlib.contextmanager
def tallied(part, say=print):
    """A tally whose line is said, written into the file TORTURE_TABLE if there is one, and checked
    at the end, however that comes."""
    tally = Tally(part)
    try:
        yield tally
    finally:
        say(tally.line())
        if path := os.environ.get("TORTURE_TABLE"):
            with open(path, "a", encoding="utf-8") as table:
                table.write(json.dumps(tally.row()) + "\n")
    tally.check()
