"""Mail that flows while a program is struck: an smtpd that is left alone, its clients, and a
database beside it."""

import itertools
import shutil

import smtp
from crash import Bench
from load import Letter, deliver
from programs import Programs
from spool import Spool


class FlowBench(Bench):
    """A bench with a spool into which a whole smtpd writes what clients send."""

    settings = {}   # smtpd's

    def __init__(self, build):
        super().__init__(build)
        self.numbers = itertools.count(1)
        self.spool = Spool(self.directory / "spool")
        self.helpers = Programs()
        self.smtpd = self.helpers.smtpd(self.spool, **self.settings)

    def close(self):
        wrong = self.helpers.end()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert wrong == [], "\n".join(wrong)

    def send(self, *letters):
        """In one session; returns {id: letter} of what was acknowledged, which is all."""
        with smtp.session(self.smtpd.address, "E") as client:
            return {deliver(client, letter): letter for letter in letters}

    def letter(self, size=400, recipients=(), kind=Letter):
        return kind(next(self.numbers), size, recipients)

    def clear(self, *queues):
        """Forgets what an earlier scenario left in failed/, and in tmp/, where it may lie for
        hours."""
        for queue in queues:
            for directory in ("failed", "tmp", "cur", "new"):
                for name in queue.names(directory):
                    (queue.directory(directory) / name).unlink()
