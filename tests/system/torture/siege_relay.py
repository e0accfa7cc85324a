"""relay under strikes: letters that are accepted, put off and refused, and a smarthost that
remembers."""

import contextlib
import itertools
import os
import random
import time

import notices
from deadline import wait_for
from load import Letter
from siege import Siege, is_deadly

LARGE = 300_000   # more than one piece (MAIL_PIECE)
SENDER_DOMAIN = "stored.example"   # where notifications go into the store queue

# Put into the queue in a round: size and recipients. What the smarthost says is in their names.
ROUND = [(400, ("a@t.example",)),
         (600, ("a@t.example", "later@t.example")),
         (900, ("never@t.example", "b@t.example", "later@t.example")),
         (500, ("never@t.example",)),
         (LARGE, ("a@t.example", "b@t.example"))]


class TextLetter(Letter):
    """Lines that any server takes."""

    @property
    def sender(self):
        return f"a{self.number}@{SENDER_DOMAIN}"

    def body(self):
        head = b"Subject: letter %d\r\n\r\n" % self.number
        text = random.Random(self.number).randbytes(max(0, self.size - len(head)) // 2).hex()
        return head + "\r\n".join(text[at:at + 70] for at in range(0, len(text), 70)).encode()


class RelaySiege(Siege):

    name = "relay"
    reach_seconds = 3

    def __init__(self, *arguments, host):
        super().__init__(*arguments)
        self.host = host
        self.numbers = itertools.count(1)
        self.open = {}           # {sender: (id, letter, told)}
        # The connection is struck, or relay dies: SMTP promises no more.
        self.at_least_once = False
        self.misbehave()

    def misbehave(self):
        self.host.at("RCPT", "450 4.2.1 mailbox busy", like="later")
        self.host.at("RCPT", "550 5.1.1 no such user here", like="never")

    def settings(self):
        return {"SMTPD_HOSTNAME": "mayfly.example", "SMTPD_DOMAINS": SENDER_DOMAIN,
                "RELAY_RESCAN": 1, **self.host.settings()}

    def prepare(self):
        self.work("before the start")

    def work(self, told):
        """Also with what was put off in an earlier round."""
        for size, recipients in ROUND:
            self.put_letter(size, recipients, told)
        if self.make_due() and self.program is not None:
            self.hurry()

    def work_under_fault(self, told):
        self.put_letter(300, ("c@t.example",), told)

    def strike_once(self, planned):
        self.at_least_once = planned.place.kind == "socket" or is_deadly(planned.place)
        super().strike_once(planned)

    def strike_lastingly(self, planned, window=0.5):
        self.at_least_once = planned.place.kind == "socket"
        super().strike_lastingly(planned, window)

    def strike_at_start(self, planned, *arguments):
        self.at_least_once = planned.place.kind == "socket" or is_deadly(planned.place)
        super().strike_at_start(planned, *arguments)

    def complaints(self):
        return len(self.program.log(level="error"))

    def has_to_complain(self, planned):
        return planned.place.call == "fsync"

    def put_letter(self, size, recipients, told):
        letter = TextLetter(next(self.numbers), size, recipients)
        id = self.spool.relay.put(letter.body() + b"\r\n", recipients, mail_from=letter.sender)
        self.open[letter.sender] = id, letter, told

    # The fault is over

    def settle(self):
        """What was put off is due, and now the smarthost takes it."""
        try:
            wait_for(self.tried, "all is tried", 60, 0.1)
            self.host.rules = [rule for rule in self.host.rules if rule.say[0] == "5"]
            wait_for(self.done, "all is done", 60, 0.1)
        except AssertionError:
            relay = self.spool.relay
            self.wrong.append(f"not done: new {relay.new()}, cur {relay.cur()}:\n"
                              + self.program.text()[-3000:])
            for name in ("new", "cur"):
                for id in relay.names(name):
                    (relay.directory(name) / id).unlink(missing_ok=True)
        self.host.behave()
        self.misbehave()

    def tried(self):
        return not self.spool.relay.new() or self.hurry()

    def done(self):
        self.make_due()
        return not self.spool.relay.new() and not self.spool.relay.ids("cur") or self.hurry()

    def make_due(self):
        """Returns what was put off."""
        relay = self.spool.relay
        ids = relay.ids("cur")
        for id in ids:
            with contextlib.suppress(FileNotFoundError):
                os.utime(relay.directory("cur") / id, (0, 0))
        return ids

    def hurry(self):
        """As an operator does who has mended something; a smarthost that was away is tried at
        once."""
        if self.program.returncode is None:
            self.program.hurry()
        time.sleep(0.1)

    # What became of it

    def compare(self):
        """Each recipient was sent to once, or has failed once and its sender heard of it once."""
        sent = self.sent()
        failed = {message.mail_from: message for message in self.spool.relay.messages("failed")}
        heard = self.heard()
        for sender, (id, letter, told) in self.open.items():
            name = f"{id} of {sender} ({told})"
            for recipient in letter.recipients:
                want = 0 if "never" in recipient else 1
                bodies = sent.pop((sender, recipient), [])
                if len(bodies) < want:
                    self.tally.lost(f"{name} for {recipient}")
                elif len(bodies) > want and not (want and self.at_least_once):
                    self.tally.doubled(f"{name} for {recipient}: {len(bodies)} times")
                if any(body != letter.body() + b"\r\n" for body in bodies):
                    self.tally.altered(f"{name} for {recipient}")
            self.compare_failure(name, sender, letter, failed.pop(sender, None),
                                 heard.pop(sender, []))
        for what in (*sent, *failed, *heard):
            self.tally.altered(f"nobody wrote {what}")
        self.clear()

    def sent(self):
        """{(sender, recipient): bodies}"""
        found = {}
        for transaction in self.host.accepted():
            for recipient in transaction.recipients:
                key = transaction.mail_from, recipient
                found.setdefault(key, []).append(transaction.body)
        return found

    def heard(self):
        """{sender: the recipients that he heard of, a list for each notification}"""
        found = {}
        for message in self.spool.messages():
            told = list(notices.read(message.body).recipients)
            found.setdefault(message.recipients[0], []).append(told)
        return found

    def compare_failure(self, name, sender, letter, failed, heard):
        never = [recipient for recipient in letter.recipients if "never" in recipient]
        if [failed.recipients if failed else []] != [never]:
            self.tally.lost(f"{name}: in failed/ for {failed and failed.recipients}")
        if sorted(sum(heard, [])) != never:
            what = self.tally.doubled if len(heard) > 1 else self.tally.lost
            what(f"{name}: {sender} heard of {heard}")

    def clear(self):
        self.open.clear()
        with self.host._lock:
            self.host.transactions.clear()
        self.spool.clear()
        for path in self.spool.relay.directory("failed").iterdir():
            path.unlink()
