"""After the power cut: mounts each state of a disk, with the kernel's own recovery, and holds what
lies in the spool against what had been promised.

    aftermath.py DIRECTORY SEED COUNT PART OF    the states of one part, of so many
    aftermath.py DIRECTORY SEED COUNT only N     the one with that number

A process of its own, with mounts of its own, so that several work at once and none leaves anything
behind. DIRECTORY holds the record of one disk (recorded.py) and `story.json`, written by the test.
It says a line of JSON for each state.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from load import Letter                              # noqa: E402
from powercut import Builder, Chooser, Log           # noqa: E402
from spool import ID, parse                          # noqa: E402

# What a reader of the queue goes by: lines of an envelope, and as many bytes behind as it says.
ENVELOPE = re.compile(rb"(?:X-Envelope-(?!Size)[A-Za-z]+: [^\r\n\0]*\r\n)+"
                      rb"X-Envelope-Size: (\d{16})\r\n")
TO = re.compile(rb"^X-Envelope-To: <([^\r\n]*)>\r$", re.M)
NOTIFICATION = ".notification"
OPTIONS = {"xfs": "loop,nouuid"}
BTRFS_FORGET_DEVICE = 0x50009405
PLACES = [(queue, directory) for queue in ("store", "relay")
          for directory in ("new", "cur", "failed")]


@dataclasses.dataclass
class Story:
    """What the test knows. Positions are those of the recorder.

    `letters`: {sender: (number, size, recipients)}, all that were ever begun; `torn`: senders of
    those never ended. `acknowledged`, `stored`: {id: position}. `relayed`: {id: [position]}.
    `sent`: {id: sender}. `taken`: {sender: {recipient: position}}, by the smarthost. `domain`: what
    is stored."""
    kind: str
    domain: str = "t.example"
    letters: dict = dataclasses.field(default_factory=dict)
    torn: list = dataclasses.field(default_factory=list)
    sent: dict = dataclasses.field(default_factory=dict)
    acknowledged: dict = dataclasses.field(default_factory=dict)
    stored: dict = dataclasses.field(default_factory=dict)
    relayed: dict = dataclasses.field(default_factory=dict)
    taken: dict = dataclasses.field(default_factory=dict)
    forgetful: bool = False

    def write(self, directory):
        with open(directory / "story.json", "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file)

    @classmethod
    def read(cls, directory):
        with open(pathlib.Path(directory) / "story.json", encoding="utf-8") as file:
            return cls(**json.load(file))

    def letter(self, sender):
        number, size, recipients = self.letters[sender]
        return Letter(number, size, tuple(recipients))

    def recipients(self, sender, queue):
        """Those of a letter that belong to a queue."""
        return [recipient for recipient in self.letters[sender][2]
                if recipient.endswith("@" + self.domain) == (queue == "store")]

    def promises(self):
        """When anything was promised."""
        return sorted([*self.acknowledged.values(), *self.stored.values(),
                       *(position for all in self.relayed.values() for position in all)])


class Judge:
    """Knows the story, and what it has seen: of a file that lies in a thousand states the bytes are
    looked at in each, but compared with the letter once."""

    def __init__(self, story):
        self.story = story
        self.seen = {}        # by place and digest
        self.to_do = {}       # {directory of relay's queue: {id: the recipients in its file}}

    # One file

    def verdict(self, queue, directory, name, content):
        """"whole", "torn" when its readers can tell, or in words what is wrong with it."""
        key = (queue, directory, name, hashlib.sha256(content).digest())
        if key not in self.seen:
            self.seen[key] = self._judge(self.spool / queue / directory / name, content)
        verdict, recipients = self.seen[key]
        if queue == "relay":
            self.to_do[directory][name] = recipients
        return verdict

    def _judge(self, path, content):
        envelope = ENVELOPE.match(content)
        if not envelope or int(envelope.group(1)) != len(content) - envelope.end():
            return "torn", []
        recipients = [recipient.decode("utf-8", "replace")
                      for recipient in TO.findall(envelope.group(0))]
        if b"X-Envelope-From: <>\r\n" in envelope.group(0):
            return "whole", recipients   # relay's notification, and not a letter of ours
        try:
            message = parse(path)
            letter = self.story.letter(message.mail_from)
            body = message.body
        except (AssertionError, KeyError, UnicodeDecodeError) as wrong:
            return f"is not as it was written: {wrong!r}", []
        if message.mail_from in self.story.torn:
            return "is whole, although its sender never ended it", []
        if (hashlib.sha256(body).digest(), len(body)) != letter.digest():
            return "has other bytes than its letter", []
        return self._judge_recipients(path, message), recipients

    def _judge_recipients(self, path, message):
        queue, directory, _ = path.parts[-3:]
        want = self.story.recipients(message.mail_from, queue)
        if directory in ("cur", "failed") and queue == "relay":
            # Only those who are still to do, or have failed.
            return "whole" if set(message.recipients) <= set(want) else "has recipients of others"
        return "whole" if message.recipients == want else f"has recipients {message.recipients}"

    # All of them

    def look(self, spool, state):
        """What is wrong: {"lost": texts, "doubled": texts, "altered": texts}, and how many promises
        were held against it."""
        self.spool, self.state = spool, state
        self.wrong = {"lost": [], "doubled": [], "altered": []}
        self.to_do = {directory: {} for _, directory in PLACES}
        self.files = {place: self._files(*place) for place in PLACES}
        self._look_at_files()
        looked = 0
        for id, position in self.story.acknowledged.items():
            if position <= state.latest:
                looked += 1
                self._look_for(id)
        return self.wrong, looked

    def _files(self, queue, directory):
        """{name: verdict}"""
        try:
            names = os.listdir(self.spool / queue / directory)
        except FileNotFoundError:
            return {}
        names = [name for name in names if not name.endswith(".reason")]
        return {name: self.verdict(queue, directory, name, content)
                for name, content in read_all(self.spool / queue / directory, names)}

    def _look_at_files(self):
        """What nobody was promised may be torn, when it says so; not before relay, who would have
        sent it."""
        for (queue, directory), files in self.files.items():
            for name, verdict in files.items():
                where = f"{queue}/{directory}/{name}"
                if (queue, directory) == ("store", "failed"):
                    self.wrong["altered"].append(f"{where} was set aside")
                elif not ID.fullmatch(name.removesuffix(NOTIFICATION)):
                    self.wrong["altered"].append(f"{where} is nobody's message")
                elif verdict not in ("whole", "torn"):
                    self.wrong["altered"].append(f"{where} {verdict}")
                elif verdict == "torn" and queue == "relay":
                    self.wrong["altered"].append(f"{where} is torn, and relay may have seen it")
                elif queue == "relay":
                    self._look_for_twin(name)
        for name in self.files["store", "new"].keys() & self.files["store", "cur"]:
            self.wrong["doubled"].append(f"store/new/{name} is in store/cur, too")

    def _look_for_twin(self, id):
        """What relay can see is in the other queue, too, if it belongs there."""
        sender = self.story.sent.get(id)
        if sender and self.story.recipients(sender, "store") and not self._is_stored(id) and \
                self.files["store", "new"].get(id) != "whole":
            self.wrong["lost"].append(f"{id} is in relay's queue alone")

    def _is_stored(self, id):
        """In the database, before the last write that has left a trace: that may be its removal."""
        return self.story.stored.get(id, self.state.end) <= self.state.last

    def _look_for(self, id):
        sender = self.story.sent[id]
        if self.story.recipients(sender, "store"):
            self._look_in_store(id)
        if want := self.story.recipients(sender, "relay"):
            self._look_in_relay(id, sender, want)

    def _lose(self, id, what):
        self.wrong["lost"].append(f"{id}, acknowledged at {self.story.acknowledged[id]}, {what}")

    def _look_in_store(self, id):
        places = [self.files["store", directory].get(id) for directory in ("new", "cur")]
        if "torn" in places:
            self._lose(id, "is torn in store's queue")
        elif not self._is_stored(id) and places[0] is None:
            self._lose(id, "is not in store/new")

    def _look_in_relay(self, id, sender, want):
        """Each recipient is still to do, or the smarthost has the message for him, or he has failed
        and the sender is told; and who was recorded as done is not to do again."""
        directory = "cur" if id in self.files["relay", "cur"] else "new"
        verdict = self.files["relay", directory].get(id)
        if verdict == "torn":
            self._lose(id, "is torn in relay's queue")
        if verdict not in (None, "whole"):
            return  # said already
        to_do = self.to_do[directory].get(id, [])
        failed = self.to_do["failed"].get(id, [])
        if failed and not self._is_told(sender):
            self._lose(id, f"has failed for {failed}, and {sender} is not told")
        taken = self.story.taken.get(sender, {})
        # The last word that was surely said before the power went: it covers what was taken before.
        recorded = max((position for position in self.story.relayed.get(id, [])
                        if position <= self.state.latest), default=0)
        for recipient in want:
            if recipient not in to_do and recipient not in failed and \
                    taken.get(recipient, self.state.end) > self.state.last:
                self._lose(id, f"is not to be relayed to {recipient}")
            if recipient in to_do and taken.get(recipient, self.state.end) < recorded:
                self.wrong["doubled"].append(f"{id} is to be relayed to {recipient} again")

    def _is_told(self, sender):
        """A notification is on its way to him, or begun beside what has failed, or was sent."""
        return (any(sender in recipients for directory in self.to_do.values()
                    for recipients in directory.values()) or
                self.story.taken.get("", {}).get(sender, self.state.end) <= self.state.last)


def read_all(directory, names, at_once=200):
    """(name, bytes) of each file. The disk is told first of all that will be asked of it, and has
    less to wait for."""
    for begin in range(0, len(names), at_once):
        some = names[begin:begin + at_once]
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(directory / name, "rb", buffering=0))
                     for name in some]
            for file in files:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
            for name, file in zip(some, files):
                yield name, file.readall()


class Bench:
    """Where states are mounted, one after the other."""

    def __init__(self, record, directory):
        self.story = Story.read(record)
        self.log = Log(record / "log")
        self.directory = directory
        self.target = directory / "state"
        self.point = directory / "disk"
        self.point.mkdir()
        self.builder = Builder(self.log, record / "blank", directory / "base", self.target)
        self.judge = Judge(self.story)

    def states(self, seed, count):
        return Chooser(self.log, self.story.kind, self.story.promises(), seed,
                       self.story.forgetful).choose(count)

    def examine(self, state):
        self.builder.build(state)
        wrong, looked = {"lost": [], "doubled": [], "altered": []}, 0
        refusal = self._mount()
        if refusal:
            wrong["lost"].append(f"all, for {self.story.kind} does not mount: {refusal}")
        else:
            try:
                wrong, looked = self.judge.look(self.point / "spool", state)
            except OSError as error:
                wrong["lost"].append(f"all that {self.story.kind} cannot read: {error}")
            self._unmount()
        return {"state": str(state), "looked": looked, **wrong}

    def _mount(self):
        """Returns None, or why it is refused."""
        done = subprocess.run(
            ["mount", "-t", self.story.kind, "-o", OPTIONS.get(self.story.kind, "loop"),
             str(self.target), str(self.point)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return done.stderr.strip() or f"mount ended with {done.returncode}" \
            if done.returncode else None

    def _unmount(self):
        device = self._device()
        subprocess.run(["umount", str(self.point)], stdin=subprocess.DEVNULL, check=True)
        if self.story.kind == "btrfs":
            forget(device)

    def _device(self):
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            return next(line.split()[0] for line in mounts if line.split()[1] == str(self.point))


def forget(device):
    """btrfs remembers what it has seen, by the file system's own number and its age; the next state
    has the same number and may be younger."""
    control = os.open("/dev/btrfs-control", os.O_RDWR)
    try:
        fcntl.ioctl(control, BTRFS_FORGET_DEVICE,
                    bytearray(bytes(8) + device.encode().ljust(4088, b"\0")))
    except OSError:
        pass  # not known, and so forgotten
    finally:
        os.close(control)


def mine(states, part, of):
    """A piece of the whole, for the base goes only forward."""
    if part == "only":
        return [states[int(of)]]
    return states[len(states) * int(part) // int(of):len(states) * (int(part) + 1) // int(of)]


def main(record, seed, count, part, of):
    with tempfile.TemporaryDirectory(prefix="state-", dir=record) as directory:
        bench = Bench(pathlib.Path(record), pathlib.Path(directory))
        for state in mine(bench.states(int(seed), int(count)), part, of):
            print(json.dumps(bench.examine(state)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
