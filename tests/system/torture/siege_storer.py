"""storer under strikes: letters in the spool, files that are none, and a database to get them
into."""

import itertools

import load
from deadline import wait_for
from load import Letter
from siege import Siege

# What is put into the spool in a round: size and recipients. The first piece of a file that is read
# is 16 KiB.
ROUND = [(400, ("a@t.example",)),
         (40_000, tuple(f"b{number}@t.example" for number in range(30))),
         (300_000, ("a@t.example", "c@t.example"))]


class StorerSiege(Siege):

    name = "storer"
    reach_seconds = 4

    def __init__(self, *arguments, database, keep=0):
        super().__init__(*arguments)
        self.database = database
        self.keep = keep
        self.numbers = itertools.count(1)
        self.put = {}          # {id: letter}, of all that was ever put there
        self.told = {}         # {id: what was the matter then}
        self.open = {}         # the part of it that has not been compared yet
        self.torn = set()      # files that are none, which are to be set aside

    def settings(self):
        return {"DATABASE_URL": self.database.url, "STORER_RESCAN": 1, "STORER_KEEP": self.keep}

    def prepare(self):
        """Letters, a torn file, and one that an earlier storer kept."""
        self.work("before the start")
        self.put_letter(Letter(next(self.numbers), 300, ("kept@t.example",)), "before", "cur")

    def work(self, told):
        for size, recipients in ROUND:
            self.put_letter(Letter(next(self.numbers), size, recipients), told)
        id = self.spool.put(content=b"X-Envelope-Id: torn\r\n")
        self.torn.add(id)

    def work_under_fault(self, told):
        self.put_letter(Letter(next(self.numbers), 300, ("late@t.example",)), told)

    def put_letter(self, letter, told, into="new"):
        id = self.spool.put(body=letter.body() + b"\r\n", mail_from=letter.sender,
                            recipients=letter.recipients, into=into)
        self.put[id] = self.open[id] = letter
        self.told[id] = told

    def is_done(self):
        return not self.spool.new() and not self.spool.cur()

    def settle(self):
        """All looks are repeated, and a lost connection comes back within ten seconds."""
        try:
            wait_for(self.is_done, "storer is done", 40, 0.01)
        except AssertionError:
            self.wrong.append(f"not done: new {self.spool.new()}, cur {self.spool.cur()}:\n"
                              + self.program.text()[-3000:])
            for name in ("new", "cur"):
                for id in self.spool.names(name):
                    (self.spool.directory(name) / id).unlink(missing_ok=True)

    def compare(self):
        """All that was put there is in the database, once, unaltered; what is no message lies in
        failed/ with its reason, and nothing else does."""
        for text in self.differences():
            id = text.partition("'")[2].partition("'")[0]
            self.tally.compare([f"{text} ({self.told.get(id, 'unknown')})"])
        self.compare_failed()
        self.torn.clear()
        self.open.clear()

    def compare_failed(self):
        """A file whose name seemed to be taken has a number behind it."""
        failed = {name.partition(".")[0]: name for name in self.spool.ids("failed")}
        for id in failed.keys() ^ self.torn:
            self.tally.lost(f"{id}: torn and not in failed/, or in failed/ and not torn")
        for name in failed.values():
            try:
                if "torn" not in self.spool.reason(name):
                    self.tally.altered(f"{name}: {self.spool.reason(name)}")
            except FileNotFoundError:
                self.tally.lost(f"the reason of {name}")
        for name in self.spool.failed():
            (self.spool.directory("failed") / name).unlink()

    def differences(self):
        found = load.differences(self.database, self.open)
        self.database.query("TRUNCATE messages, deliveries")
        return found
