"""storer struck while it stores and retires: what was acknowledged is in the database, whole and
once, and what was to be set aside is set aside."""

import datetime
import signal

from crash import Scenario
from crash_flow import FlowBench
from deadline import wait_for
from load import differences
from spool import encode, now, raw_of, uuid7

TWO = ("x@t.example", "y@t.example")
DAY = datetime.timedelta(days=1)
SETTINGS = {"STORER_RESCAN": 1}
COPIED = 8  # letters of a batch that is copied, even if one of them goes before the others


class StorerBench(FlowBench):
    name = "storer"
    scenarios = (Scenario("a batch, and what is set aside"),
                 Scenario("files that are kept", only=("retire.move",)),
                 Scenario("an old file system", ("aside.move.before:22",), ("aside.",)),
                 Scenario("a reason that cannot be renamed", ("aside.reason.before:5",),
                          ("aside.",)))

    def __init__(self, build, cluster):
        super().__init__(build)
        self.database = cluster.create()
        self.longago = now() - 3 * DAY

    def close(self):
        self.database.drop()
        super().close()

    def run(self, scenario, programs):
        self._prepare()
        keep = 1 if scenario.name == "files that are kept" else 0
        settings = SETTINGS | {"STORER_KEEP": keep}
        acknowledged = self.send(self.letter(), self.letter(recipients=TWO), self.letter(60_000))
        acknowledged |= self._put("new", self.longago) | self._put("cur", now())
        aside = self._put_strangers()
        storer = programs.start("storer", ready=False, SPOOL=self.spool, **settings,
                                DATABASE_URL=self.database.url, **self.struck(scenario))
        if not self.settle(storer, self._is_empty):
            acknowledged |= self._send_batch(storer)
            self.settle(storer, self._is_empty)
        self.finish(storer)
        again = programs.storer(self.spool, self.database, **settings)
        wait_for(self._is_empty, "new/ and cur/ are empty")
        # The last files are gone before they are done with.
        again.stop()
        for text in differences(self.database, acknowledged):
            what = text.partition(":")[0]
            self.wrong.append(({"lost": "lost", "twice": "doubled"}.get(what, "altered"), text))
        self._compare_aside(aside)

    def _prepare(self):
        """No mail, and no partitions for what came days ago."""
        self.clear(self.spool)
        self.database.query("TRUNCATE messages, deliveries")
        for table in ("messages", "deliveries"):
            self.database.query(f"DROP TABLE IF EXISTS {table}_{self.longago:%Y%m%d}")

    def _send_batch(self, storer):
        """Letters that storer sees all at once, when it has stored some already; returns {id:
        letter}."""
        storer.send_signal(signal.SIGSTOP)
        try:
            return self.send(*(self.letter() for _ in range(COPIED)))
        finally:
            storer.send_signal(signal.SIGCONT)

    def _put(self, directory, received):
        """A letter that lay there since; returns {id: letter}."""
        letter = self.letter()
        id = self.spool.put(letter.body() + b"\r\n", letter.recipients, received=received,
                            mail_from=letter.sender, into=directory)
        return {id: letter}

    def _put_strangers(self):
        """What is no mail to be stored; returns {name: content}."""
        early = now() + 3 * DAY
        raw = raw_of(b"Subject: early\r\n\r\n", "a@c.example")
        torn = uuid7()
        files = {"what-is-this": b"no message", torn: b"X-Envelope-Id: " + torn.encode(),
                 uuid7(early): None}
        for name, content in files.items():
            if content is None:
                files[name] = encode(name, early, "a@c.example", ["b@t.example"], raw)
            self.spool.put(id=name, content=files[name])
        return files

    def _is_empty(self):
        return not self.spool.new() and not self.spool.cur()

    def _compare_aside(self, aside):
        failed = self.spool.failed()
        for name in set(failed) - {name + end for name in aside for end in ("", ".reason")}:
            self.wrong.append(("doubled", f"failed/{name}"))
        for name, content in aside.items():
            if name not in failed or name + ".reason" not in failed:
                self.wrong.append(("lost", f"failed/{name}, with its reason, is not in {failed}"))
            elif (self.spool.directory("failed") / name).read_bytes() != content:
                self.wrong.append(("altered", f"failed/{name}"))
