"""smtpd under strikes: clients that send, are put off or cut off, and send again."""

import contextlib
import hashlib
import itertools

import smtp
from cluster import free_port
from deadline import wait_for
from load import Letter, deliver
from siege import Siege
from strike import PASSING

STORED, RELAYED = "t.example", "o.example"
PATIENCE = 20   # seconds that a client waits for a reply
LARGE = 300_000   # more than one piece (MESSAGE_HELD_MAX)

# What is sent in a round: size and recipients.
ROUND = [(500, (f"a@{STORED}",)),
         (700, (f"a@{RELAYED}",)),
         (900, (f"a@{STORED}", f"b@{RELAYED}", f"c@{STORED}")),
         (LARGE, (f"a@{STORED}", f"b@{RELAYED}"))]


class SmtpdSiege(Siege):

    name = "smtpd"
    reach_seconds = 8   # metrics are written every five
    patience = PATIENCE

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.numbers = itertools.count(1)
        self.acknowledged = {}   # {id: letter}
        self.refused = {}        # {sender: what was the matter}, by 4xx
        self.refusals = 0        # how often that was said
        self.unknown = set()     # senders that lost their connection
        self.again = []          # letters to be sent again
        self.address = ("127.0.0.1", free_port())

    def settings(self):
        return {"SMTPD_LISTEN": "%s:%d" % self.address, "SMTPD_HOSTNAME": "mayfly.example",
                "SMTPD_DOMAINS": STORED, "SMTPD_RELAY_CLIENTS": "127.0.0.1"}

    # Clients

    def work(self, told):
        letters = [Letter(next(self.numbers), size, recipients) for size, recipients in ROUND]
        self.send(letters, told)

    def bear(self, *arguments):
        """Clients do not wait long for a server whose fault lasts."""
        self.patience = 1
        super().bear(*arguments)
        self.patience = PATIENCE

    def work_under_fault(self, told):
        letters = self.take_again()
        self.again = letters[4:]
        self.send(letters[:4], told)

    def send(self, letters, told):
        """Sends each, in one session as long as that lasts. Where there is no answer within the
        client's patience it gives up, as when the connection is lost."""
        waiting = list(letters)
        while waiting and self.program.returncode is None:
            before = len(waiting)
            with contextlib.suppress(OSError, AssertionError):
                with smtp.session(self.address, "E", timeout=self.patience) as client:
                    while waiting:
                        self.send_one(client, waiting.pop(0), told)
            if len(waiting) == before:   # not even a session
                break
        self.again += waiting

    def send_one(self, client, letter, told):
        try:
            self.acknowledged[deliver(client, letter)] = letter
            return
        except smtp.Unexpected as refusal:
            if refusal.reply.code // 100 != 4:
                self.tally.lost(f"{told}: {letter.sender} was told {refusal.reply}")
                return
            self.refused[letter.sender] = told
            self.refusals += 1
            self.again.append(letter)
            client.command("RSET", 250)
        except (OSError, smtp.Closed, AssertionError) as lost:
            self.unknown.add(letter.sender)
            self.again.append(letter)
            raise smtp.Closed(str(lost)) from lost

    def take_again(self):
        letters, self.again = self.again, []
        return letters

    def settle(self):
        """The fault is over: whoever was put off comes again, and is accepted."""
        self.patience = PATIENCE
        for _ in range(3):
            if self.again:
                self.send(self.take_again(), "the fault is over")
        if self.again:
            self.wrong.append(f"not accepted when the fault is over: {len(self.again)}:\n"
                              + self.program.text()[-2000:])
            self.again = []

    def complaints(self):
        return self.refusals

    def has_to_complain(self, planned):
        """What was interrupted, or done in part, may be done again."""
        call, kind = planned.place.call, planned.place.kind
        return kind == "spool" and (
            call in ("fsync", "syncfs", "renameat", "openat")
            or call in ("writev", "pwrite") and planned.error not in PASSING)

    # What became of it

    def compare(self):
        """All that was acknowledged is there, once, unaltered; what was refused is not, nor is
        anything half."""
        wait_for(self.idle, "smtpd has nothing in hand", 20)
        there = {}
        for queue in (self.spool, self.spool.relay):
            for message in queue.messages():
                there[queue.queue.name, message.id] = message
        for id, letter in self.acknowledged.items():
            for queue, domain in (("store", STORED), ("relay", RELAYED)):
                recipients = [name for name in letter.recipients if name.endswith(domain)]
                if recipients:
                    self.compare_one(there.pop((queue, id), None), letter, recipients, id)
        for (queue, id), message in there.items():
            self.judge_extra(queue, id, message)
        self.clear()

    def idle(self):
        """An aborted message is undone in the background."""
        left = {name for queue in (self.spool, self.spool.relay) for name in queue.tmp()}
        return not left or left <= {entry["id"] for entry in self.program.log(event="tmp_left")}

    def compare_one(self, message, letter, recipients, id):
        if message is None:
            self.tally.lost(f"{id} of {letter.sender}")
        elif (hashlib.sha256(message.body).digest() != letter.digest()[0]
              or message.mail_from != letter.sender or message.recipients != recipients):
            self.tally.altered(f"{id} of {letter.sender}")

    def judge_extra(self, queue, id, message):
        """There although nobody was told: as SMTP has it, where the reply was lost; and where smtpd
        says that it could not take it back."""
        if message.mail_from in self.unknown or self.program.log(event="not_withdrawn", id=id):
            return
        self.tally.doubled(f"{queue}/{id} of {message.mail_from}, refused: "
                           f"{self.refused.get(message.mail_from)}")

    def clear(self):
        for queue in (self.spool, self.spool.relay):
            queue.clear()
        for state in (self.acknowledged, self.refused, self.unknown):
            state.clear()

