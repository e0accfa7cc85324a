"""Letters that a real smtpd acknowledged while the database is at fault, and the last look at what
became of them."""

import contextlib
import itertools
import signal
import time

import pytest

from deadline import wait_for
from load import Letter, deliver, differences

# What takes longer than it adds in `make test`, beside the rest of its file.
not_in_make_test = pytest.mark.least("quick")

# Letters in one session: smtpd ends one after SMTPD_MAX_MESSAGES.
SESSION_MOST = 5_000


class Letterbox:
    """A running smtpd, what it has acknowledged, and how the storer of its spool fares."""

    def __init__(self, programs, spool):
        self.programs = programs
        self.spool = spool
        self.smtpd = programs.smtpd(spool)
        # All of one width, so that every letter of a size takes as many bytes on its way.
        self.numbers = itertools.count(100_000)
        self.acknowledged = {}
        self.storer = None
        self.client = None
        self.in_session = 0   # letters

    def start_storer(self, database, ready=True, **settings):
        settings = {"STORER_RESCAN": 1, "LOG_LEVEL": "debug"} | settings
        url = getattr(database, "url", database)
        self.storer = self.programs.start("storer", ready=ready, SPOOL=self.spool,
                                          DATABASE_URL=url, **settings)
        return self.storer

    def send(self, count=1, size=300, recipients=()):
        """Sends so many letters, and returns {id: letter} of them."""
        if self.in_session + count > SESSION_MOST:
            self.hang_up()
        self.client = self.client or self.smtpd.session("E", timeout=120)
        self.in_session += count
        sent = {}
        for _ in range(count):
            letter = Letter(next(self.numbers), size, recipients)
            sent[deliver(self.client, letter)] = letter
        self.acknowledged |= sent
        return sent

    def send_batch(self, count, size=300, recipients=()):
        """The same, seen by storer all at once: they become one batch."""
        self.storer.send_signal(signal.SIGSTOP)
        try:
            return self.send(count, size, recipients)
        finally:
            self.storer.send_signal(signal.SIGCONT)

    def hang_up(self):
        """Ends the session, for which a smtpd that is to stop would wait."""
        if self.client:
            self.client.close()
        self.client = None
        self.in_session = 0

    def drained(self, seconds=120):
        wait_for(lambda: not self.spool.new(), "new/ is empty", seconds, interval=0.002)

    def look(self, database):
        """What the database lacks, has twice or has changed."""
        return differences(database, self.acknowledged)

    def compare(self, tally, database, seconds=120):
        """The last look, once nothing is wrong any more: all is stored, once and unaltered, nothing
        was set aside for the database's faults, and storer has lived through them."""
        self.hang_up()
        self.drained(seconds)
        tally.compare(self.look(database))
        for id in self.spool.failed():
            tally.lost(f"set aside: {id}")
        assert self.storer.returncode is None, self.storer.text()
        assert not self.storer.log(event="database_confused"), self.storer.text()
        assert not self.storer.log(event="handles_left"), self.storer.text()


def tries(program):
    """How often storer has met trouble with the database so far: each is a line for debugging."""
    return sum(len(program.log(event=event)) for event in
               ("database_trouble", "database_retry", "database_down", "passed_over"))


@contextlib.contextmanager
def without_spin(program, a_second=12):
    """While this lasts, and whatever fails, the program may try no more often than that, and use no
    more than a part of a core. On a busy machine it is the tries that tell."""
    cpu, tried, began = program.cpu_seconds(), tries(program), time.monotonic()
    yield
    lasted = time.monotonic() - began
    used, tried = program.cpu_seconds() - cpu, tries(program) - tried
    assert tried <= 8 + a_second * lasted, f"{program.name} tried {tried} times in {lasted:.1f} s"
    assert used <= 0.3 + 0.2 * lasted, f"{program.name} used {used:.2f} s of {lasted:.1f} s"
