"""The smarthost of a soak: it looks at each letter as it comes, and keeps a number of it."""

import re

from letters import as_relayed
from smarthost import Connection, SmartHost
from traffic import AWAY, letter_of

SENDER = re.compile(r"a(\d+)@c\.example")


class Sink(SmartHost):
    """Knows of each letter in which run of relay it came last: what came in one that was killed may
    come once more (README, promise 8)."""

    def __init__(self, tally):
        super().__init__()
        self.tally = tally
        self.run_of = {}       # number of a letter: number of a run
        self.killed = set()    # runs
        self.again = 0         # what came once more, and may have

    # It is to forget what a smarthost of the other tests remembers.

    def connected(self, session):
        self.sessions.add(session)
        return Connection(next(self._numbers), 0)

    def received(self, transaction):
        transaction.connection.commands.clear()

    def accept(self, transaction):
        match = SENDER.fullmatch(transaction.mail_from)
        if not match:
            self.tally.altered(f"a sender: {transaction.mail_from!r}")
            return
        number = int(match.group(1))
        letter = letter_of(number)
        if transaction.body != as_relayed(letter.body()):
            self.tally.altered(f"letter {number}, relayed")
        if transaction.recipients != [one for one in letter.recipients if one.endswith("@" + AWAY)]:
            self.tally.altered(f"letter {number}, relayed to {transaction.recipients}")
        run = int(transaction.connection.ehlo.partition(".")[0].removeprefix("run"))
        if before := self.run_of.get(number):
            if before in self.killed and run != before:
                self.again += 1
            else:
                self.tally.doubled(f"letter {number}, relayed in runs {before} and {run}")
        self.run_of[number] = run
        self.tally.did()

    def look(self, numbers):
        """Whether all these came."""
        for number in numbers:
            if number not in self.run_of:
                self.tally.lost(f"letter {number} was not relayed")
