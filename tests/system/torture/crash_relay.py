"""relay struck while it sends and records: each recipient is sent to once, or in the window of
promise 8 twice; each failure is told once, and nobody is forgotten.

A scenario has one letter, so that what was passed says on which side of the window relay died: the
window opens when the last byte is sent, and closes when the record is in the file that counts,
which is where the scenario says (`recorded`).
"""

import collections
import contextlib
import dataclasses
import itertools
import os
import random
import time

import notices
from crash import Scenario
from crash_flow import FlowBench
from deadline import wait_for
from load import Letter
from smarthost import SmartHost
from spool import encode, now, raw_of, uuid7

HERE, AWAY = "stored.example", "away.example"
X, LATER, NEVER = "x@t.example", "later@t.example", "never@t.example"
PIECES = 150_000     # more than relay reads at once

SETTINGS = {"SMTPD_HOSTNAME": "mayfly.example", "SMTPD_DOMAINS": HERE, "RELAY_RESCAN": 1,
            "RELAY_CONNECTIONS": 1}


class Lines(Letter):
    """Of lines that relay sends as they are, some of which begin with a dot."""

    def body(self):
        chance = random.Random(self.number)
        lines = [f"Subject: letter {self.number}", ""]
        while sum(map(len, lines)) < self.size:
            lines.append(chance.choice(["", ".", "..", "é"]) + chance.randbytes(30).hex())
        return "\r\n".join(lines).encode()


class FromHere(Lines):
    """Notifications of it are stored."""

    @property
    def sender(self):
        return f"a{self.number}@{HERE}"


class FromAway(Lines):
    """Notifications of it are relayed."""

    @property
    def sender(self):
        return f"a{self.number}@{AWAY}"


@dataclasses.dataclass(frozen=True)
class Relayed(Scenario):
    """`kind` is of the letter; `first`: where the run that is struck is the second one, what ended
    the first; `extra`: a method of the bench that puts more into the queue."""
    recipients: tuple = (X,)
    size: int = 400
    kind: type = FromHere
    recorded: str = "place.rename.after"
    first: str = None
    extra: str = None


class RelayBench(FlowBench):
    name = "relay"
    settings = {"SMTPD_DOMAINS": HERE, "SMTPD_RELAY_CLIENTS": "127.0.0.0/8"}
    scenarios = (
        Relayed("one of each", recipients=(X, LATER, NEVER)),
        Relayed("accepted", recorded="retire.remove.after"),
        Relayed("refused, and that is relayed", recipients=(NEVER,), kind=FromAway,
                recorded="retire.remove.after"),
        Relayed("in pieces", recipients=(X, LATER), size=PIECES,
                only=("reader.read", "excerpt.", "writer.", "place.", "touch.", "session.")),
        Relayed("strangers in the queue", recorded="retire.remove.after", extra="_put_strangers",
                only=("aside.", "scan.", "retire.remove")),
        Relayed("a record that was not ended", recipients=(X, LATER, NEVER),
                first="failure.notify.before"),
        Relayed("a message that was superseded", recipients=(X, LATER), first="place.rename.after",
                only=("superseded.", "retire.remove")),
        Relayed("a reason that cannot be renamed", ("reason.rename.before:5",), ("reason.",),
                recipients=(X, LATER)),
        Relayed("a record that cannot be renamed", ("place.rename.before:5",),
                ("place.", "writer.", "excerpt.", "record"), recipients=(X, LATER)),
        Relayed("an old file system", ("aside.move.before:22",), ("aside.",),
                recorded="retire.remove.after", extra="_put_strangers"),
        Relayed("strangers whose reason cannot be renamed", ("aside.reason.before:5",), ("aside.",),
                recorded="retire.remove.after", extra="_put_strangers"),
    )

    def __init__(self, build):
        super().__init__(build)
        self.host = SmartHost().start()

    def close(self):
        self.host.stop()
        super().close()

    def run(self, scenario, programs):
        queue = self.spool.relay
        self.clear(self.spool, queue)
        self.host.behave()
        self.host.at("RCPT", "450 4.2.1 busy", like="later")
        self.host.at("RCPT", "550 5.1.1 no such user", like="never")
        letter = self.letter(scenario.size, scenario.recipients, scenario.kind)
        (id, _), = self.send(letter).items()
        if scenario.first:
            self._start(programs, FAULT_POINTS=f"{scenario.first}:kill").wait()
        aside = getattr(self, scenario.extra)() if scenario.extra else {}
        relay = self._start(programs, **self.struck(scenario))
        if not self.settle(relay, lambda: relay.is_ready() and not queue.new() and
                           self._is_recorded()) and self._again(relay, id):
            self.settle(relay, lambda: not self._is_due(id) and self._is_recorded())
        self.finish(relay)
        self._finish(programs)
        self._compare(letter, id, *self._window(scenario))
        self._compare_aside(aside, id if NEVER in letter.recipients else None)

    def _start(self, programs, **settings):
        return programs.start("relay", ready=False, SPOOL=self.spool, **self.host.settings(),
                              **SETTINGS, **settings)

    def _is_recorded(self):
        """Nothing is with the recorder."""
        passed = self.hits.passed()
        return passed["recording.begin"] == passed["recording.end"]

    # What is put off

    def _is_due(self, id):
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self.spool.relay.directory("cur") / id).st_mtime < time.time()
        return False

    def _again(self, relay, *ids):
        """What was put off is tried now."""
        there = [id for id in ids or self.spool.relay.ids("cur")]
        for id in list(there):
            try:
                self.spool.relay.due_in(id, -1)
            except FileNotFoundError:
                there.remove(id)
        if there and relay.returncode is None:
            relay.hurry()
        return bool(there)

    def _finish(self, programs):
        """A relay that is left alone, and a smarthost that takes what it put off, do the rest."""
        queue = self.spool.relay
        self.host.behave()
        self.host.at("RCPT", "550 5.1.1 no such user", like="never")
        again = self._start(programs).wait_ready()

        def done():
            if not queue.new() and queue.ids("cur"):
                self._again(again)
            return not queue.new() and not queue.cur()

        wait_for(done, "relay is done", interval=0.05)
        again.stop()

    # What must be

    def _window(self, scenario):
        """How often those who were accepted may have been sent to: (least, most). A letter, and a
        notification, that was in the window when relay died is sent once more."""
        lines = self.hits.lines()
        if not self.strike or not self.strike.kills or "session.ended" not in lines:
            return 1, 1
        after = lines[len(lines) - lines[::-1].index("session.ended"):]
        if "transaction.accepted" not in after:
            # Nobody knows what the smarthost has made of it.
            return 1, 2
        # What is recorded meanwhile is of another message, which the notification is of.
        own = itertools.dropwhile(lambda line: line != "record.begin", itertools.dropwhile(
            lambda line: line != "transaction.accepted", after))
        return (1, 1) if scenario.recorded in own else (2, 2)

    def _compare(self, letter, id, least, most):
        sent = [got for got in self.host.accepted() if got.mail_from == letter.sender]
        times = collections.Counter(one for got in sent for one in got.recipients)
        for got in sent:
            if got.body != letter.body() + b"\r\n":
                self.wrong.append(("altered", f"{letter.sender} to {got.recipients}"))
        wanted = {X: (least, most), LATER: (1, 1)}
        for recipient in set(letter.recipients) - {NEVER}:
            self._count(recipient, times.pop(recipient, 0), *wanted[recipient])
        for recipient in times:
            self.wrong.append(("doubled", f"{recipient}, who was not to get it"))
        if NEVER not in letter.recipients:
            self._count("a notification", self._told(letter), 0, 0)
            return
        failed = self.spool.relay.messages("failed")
        self._count("failed/", sum(message.recipients == [NEVER] for message in failed), 1, 1)
        if isinstance(letter, FromHere):
            least = most = 1
        self._count("the notification", self._told(letter), least, most)

    def _count(self, what, times, least, most):
        if times < least:
            self.wrong.append(("lost", f"{what}: {times} of {least}"))
        if times > most:
            self.wrong.append(("doubled", f"{what}: {times} of {most}"))

    def _told(self, letter):
        """How often the sender was told of NEVER."""
        told = [message.body for message in (*self.spool.messages(), *self.host.accepted())
                if message.recipients == [letter.sender]]
        for body in told:
            if list(notices.read(body).recipients) != [NEVER]:
                self.wrong.append(("altered", f"a notification of {letter.sender}"))
        return len(told)

    # Strangers

    def _put_strangers(self):
        """What is no mail to be sent; returns {name: content}."""
        torn, bad = uuid7(), uuid7()
        raw = raw_of(b"Subject: bad\r\n\r\n", "a@c.example", queue="relay")
        files = {"what-is-this": b"no message", torn: b"X-Envelope-Id: " + torn.encode(),
                 bad: encode(bad, now(), "a@c.example", ["no address at all"], raw)}
        for name, content in files.items():
            self.spool.relay.put(id=name, content=content, into="cur" if name == torn else "new")
        # What a crash may leave alone; nobody misses it.
        alone = self.spool.relay.directory("cur") / f"{uuid7()}.reason"
        alone.write_text("alone\n")
        os.utime(alone, (0, 0))
        return files

    def _compare_aside(self, aside, own):
        """failed/ has what was set aside, and the failure of the letter, each with its reason."""
        failed = self.spool.relay.failed()
        names = set(aside) | ({own} if own else set())
        for name in set(failed) - {name + end for name in names for end in ("", ".reason")}:
            self.wrong.append(("doubled", f"failed/{name}"))
        for name in names:
            if not {name, name + ".reason"} <= set(failed):
                self.wrong.append(("lost", f"failed/{name}, with its reason, is not in {failed}"))
        for name in set(aside) & set(failed):
            if (self.spool.relay.directory("failed") / name).read_bytes() != aside[name]:
                self.wrong.append(("altered", f"failed/{name}"))
