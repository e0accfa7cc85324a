"""smtpd struck while it commits: what it acknowledged lies in the spool, whole and once."""

import concurrent.futures
import shutil
import tempfile
from pathlib import Path

import smtp
from crash import Bench, Scenario
from load import Letter, deliver
from spool import Spool, parse

STORED, RELAYED, BOTH = ("b@t.example",), ("c@r.example",), ("b@t.example", "c@r.example")
SMALL, LARGE = 600, 200_000     # in one write, and in pieces
QUEUE_OF = {"t.example": "store", "r.example": "relay"}

# A message that could not be taken back may be there although it was refused: that is said in the
# log, and the client sends it once more.
CANNOT_WITHDRAW = ("commit.withdraw",)


class SmtpdBench(Bench):
    """`place`: where the spools are made, which decides how smtpd commits."""

    name = "smtpd"
    scenarios = (Scenario("six letters"),
                 Scenario("one that cannot be renamed", ("commit.rename.before:5",),
                          ("commit.", "writer.unlink", "message.")),
                 Scenario("no file without a name", ("commit.journal.before:95",), ("commit.",)))

    def __init__(self, build, place):
        super().__init__(build)
        self.place = place

    def run(self, scenario, programs):
        spool = Spool(Path(tempfile.mkdtemp(prefix="mayfly-crash-", dir=self.place)) / "spool")
        spool.path.parent.chmod(0o755)
        try:
            self._run(scenario, programs, spool)
        finally:
            shutil.rmtree(spool.path.parent)

    def _smtpd(self, programs, spool, **settings):
        return programs.smtpd(spool, SMTPD_DOMAINS="t.example", SMTPD_RELAY_CLIENTS="127.0.0.0/8",
                              **settings)

    def _run(self, scenario, programs, spool):
        smtpd = self._smtpd(programs, spool, **self.struck(scenario))
        letters = [Letter(number, size, recipients) for number, (size, recipients) in enumerate(
            ((SMALL, STORED), (SMALL, RELAYED), (SMALL, BOTH), (LARGE, STORED), (LARGE, BOTH)), 1)]
        said = self._send(smtpd, letters)
        if smtpd.returncode is None:
            said += self._send(smtpd, [Letter(6, SMALL, RELAYED)])
        self.finish(smtpd)
        again = self._smtpd(programs, spool)
        refused = [letter for letter, answer in said if answer == "refused"]
        later = self._send(again, [*refused, Letter(7, SMALL, BOTH)])
        assert {answer for _, answer in later} == {"acknowledged"}, f"{later}:\n{again.text()}"
        for letter, answer in [*said, later[-1]]:
            self._compare(spool, letter, answer)

    def _send(self, smtpd, letters):
        """All at once; returns what became of each: (letter, acknowledged, refused or unknown)."""
        address = smtpd.address
        with concurrent.futures.ThreadPoolExecutor(len(letters)) as clients:
            answers = list(clients.map(lambda letter: self._say(address, letter), letters))
        return list(zip(letters, answers))

    def _say(self, address, letter):
        try:
            with smtp.session(address, "E", timeout=60) as client:
                deliver(client, letter)
                return "acknowledged"
        except smtp.Unexpected as refusal:
            if refusal.reply.code // 100 != 4:
                self.wrong.append(("lost", f"{letter.sender} was told {refusal.reply}"))
            return "refused"
        except (OSError, smtp.Closed):
            return "unknown"

    def _compare(self, spool, letter, answer):
        for domain, name in QUEUE_OF.items():
            wanted = [one for one in letter.recipients if one.endswith("@" + domain)]
            found = self._found(spool.relay if name == "relay" else spool, letter)
            least = 1 if wanted and answer != "unknown" else 0
            most = 1 if wanted else 0
            if answer == "refused" and self.strike and \
                    self.strike.point.startswith(CANNOT_WITHDRAW) and not self.strike.kills:
                most = 2
            if len(found) < least:
                self.wrong.append(("lost", f"{letter.sender} in {name}, {answer}"))
            if len(found) > most:
                self.wrong.append(("doubled", f"{letter.sender} in {name}, {answer}: {len(found)}"))
            for message in found:
                if (message.recipients, message.body) != (wanted, letter.body() + b"\r\n"):
                    self.wrong.append(("altered", f"{letter.sender} in {name}"))

    def _found(self, queue, letter):
        found = []
        for name in queue.new():
            try:
                message = parse(queue.directory("new") / name)
            except AssertionError as failure:
                self.wrong.append(("altered", f"{name} is no message: {failure}"))
                continue
            if message.mail_from == letter.sender:
                found.append(message)
        return found
