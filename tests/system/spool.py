"""The spool as files: what any other program, or an operator with a shell, may do with it.

Written from the format alone, so that it checks the programs and is not checked by them.
"""

import dataclasses
import datetime
import os
import pathlib
import re
import secrets
import time

from cluster import short_directory
from deadline import wait_for

DIRECTORIES = ("tmp", "new", "cur", "failed")
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
UTC = datetime.timezone.utc
STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"

# Received ends behind its date, and not where a line no longer looks like a continuation: the
# message itself may begin with white space. Return-Path belongs to final delivery.
RECEIVED = rb"Received: (?P<received>(?:[^\r\n]|\r\n[ \t])*?;\s+[^;\r\n]*[+-]\d{4})\r\n"
TRACE = {"store": re.compile(rb"Return-Path: (?P<return_path>[^\r\n]*)\r\n" + RECEIVED),
         "relay": re.compile(RECEIVED)}

SINGLE = ("Id", "Received", "Client", "Helo", "Protocol", "From")


def now():
    return datetime.datetime.now(UTC)


def milliseconds(moment):
    epoch = datetime.datetime(1970, 1, 1, tzinfo=UTC)
    return (moment - epoch) // datetime.timedelta(milliseconds=1)


def uuid7(moment=None):
    """A UUIDv7 (RFC 9562) of that moment, in text form."""
    stamp = milliseconds(moment or now())
    bits = secrets.randbits(74)
    whole = (stamp << 80) | (7 << 76) | ((bits >> 62) << 64) | (2 << 62) | (bits & (1 << 62) - 1)
    text = f"{whole:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def uuid7_milliseconds(id):
    return int(id.replace("-", "")[:12], 16)


def stamp(moment):
    return moment.astimezone(UTC).strftime(STAMP)


def raw_of(body, mail_from, trace=None, queue="store"):
    """What follows the envelope: the trace fields that smtpd writes, then the message."""
    if trace is None:
        trace = f"Return-Path: <{mail_from}>\r\n" if queue == "store" else ""
        trace += ("Received: from c.example ([192.0.2.1])\r\n"
                  "\tby mayfly.example with ESMTP; Sat, 21 Nov 2026 19:08:11 +0000\r\n")
    return (trace.encode() if isinstance(trace, str) else trace) + body


def encode(id, received, mail_from, recipients, raw, client="192.0.2.1 43210", helo="c.example",
           protocol="ESMTP", size=None):
    """A whole spool file. Every argument may be wrong on purpose."""
    lines = [f"X-Envelope-Id: {id}",
             f"X-Envelope-Received: {received if isinstance(received, str) else stamp(received)}",
             f"X-Envelope-Client: {client}",
             f"X-Envelope-Helo: {helo}",
             f"X-Envelope-Protocol: {protocol}",
             f"X-Envelope-From: <{mail_from}>"]
    lines += [f"X-Envelope-To: <{recipient}>" for recipient in recipients]
    lines.append(f"X-Envelope-Size: {len(raw) if size is None else size:016d}")
    return "".join(line + "\r\n" for line in lines).encode() + raw


@dataclasses.dataclass
class Message:
    """A spool file, read strictly."""
    path: pathlib.Path
    id: str
    received: datetime.datetime
    client: str
    helo: str
    protocol: str
    mail_from: str
    recipients: list
    size: int
    raw: bytes

    @property
    def queue(self):
        """The queue that it lies in: store or relay."""
        return self.path.parent.parent.name

    def _trace(self):
        match = TRACE[self.queue].match(self.raw)
        assert match, f"{self.id}: no trace fields at the top: {self.raw[:300]!r}"
        return match

    @property
    def trace(self):
        """The trace fields at the top of raw."""
        return self._trace().group(0)

    @property
    def body(self):
        """The message as the client sent it: raw without the trace fields."""
        return self.raw[self._trace().end():]

    @property
    def return_path(self):
        return self._trace().group("return_path").decode()

    @property
    def received_field(self):
        """The Received field that smtpd added, unfolded, without its name."""
        return re.sub(rb"\r\n[ \t]+", b" ", self._trace().group("received")).decode()


def parse(path):
    """Reads a spool file and asserts all that the format promises."""
    path = pathlib.Path(path)
    rest = path.read_bytes()
    values = {}

    def line(name):
        nonlocal rest
        match = re.match(rb"X-Envelope-" + name.encode() + rb": ([^\r\n\0]*)\r\n", rest)
        assert match, f"{path}: no X-Envelope-{name} where it belongs: {rest[:200]!r}"
        rest = rest[match.end():]
        return match.group(1).decode("utf-8")

    for name in SINGLE:
        values[name] = line(name)
    recipients = []
    while rest.startswith(b"X-Envelope-To:"):
        recipients.append(unbracketed(line("To")))
    size = line("Size")
    assert re.fullmatch(r"[0-9]{16}", size), f"{path}: size {size!r}"
    assert int(size) == len(rest), f"{path}: X-Envelope-Size {size}, {len(rest)} bytes follow"
    assert recipients, f"{path}: no recipient"
    assert values["Id"] == path.name and ID.fullmatch(path.name), f"{path}: id {values['Id']}"
    assert re.fullmatch(r".{19}\.[0-9]{6}Z", values["Received"]), values["Received"]
    received = datetime.datetime.strptime(values["Received"], STAMP).replace(tzinfo=UTC)
    assert uuid7_milliseconds(path.name) == milliseconds(received), f"{path}: id and time differ"
    return Message(path, values["Id"], received, values["Client"], values["Helo"],
                   values["Protocol"], unbracketed(values["From"]), recipients, int(size), rest)


def unbracketed(text):
    assert text.startswith("<") and text.endswith(">"), text
    return text[1:-1]


class Queue:
    """A queue of a SPOOL directory, `path`. It is not there until a program or `make` makes it."""

    def __init__(self, path, queue):
        self.path = pathlib.Path(path)
        self.queue = self.path / queue

    def make(self):
        """Makes the directories as a program would."""
        for directory in (self.path, self.queue, *(self.queue / name for name in DIRECTORIES)):
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)  # a program may be making it at this moment
                directory.chmod(0o2770)
        return self

    def directory(self, name):
        return self.queue / name

    def names(self, name):
        """The names in one directory, sorted; [] when it is not there."""
        try:
            return sorted(os.listdir(self.queue / name))
        except FileNotFoundError:
            return []

    def new(self):
        return self.names("new")

    def tmp(self):
        return self.names("tmp")

    def cur(self):
        return self.names("cur")

    def failed(self):
        return self.names("failed")

    def ids(self, name):
        """The messages of one directory, without what stands beside them."""
        return [file for file in self.names(name)
                if not file.endswith((".reason", ".notification"))]

    def reason(self, id, name="failed"):
        return (self.queue / name / f"{id}.reason").read_text()

    def wait_done(self, seconds=60):
        """Waits until nothing is left to be done: no message is in new/ or cur/."""
        wait_for(lambda: not self.new() and not self.ids("cur"), f"{self.queue.name} is done",
                 seconds)

    def wait_tried(self, seconds=60):
        """Waits until new/ is empty."""
        wait_for(lambda: not self.new(), f"new/ of {self.queue.name} is empty", seconds)

    def due_in(self, id, seconds):
        """Makes that the time until the next try of a message in cur/."""
        os.utime(self.queue / "cur" / id, (time.time() + seconds,) * 2)

    def messages(self, name="new"):
        """Every message of a directory, parsed, in the order of their ids."""
        return [parse(self.queue / name / id) for id in self.ids(name)]

    def message(self, id=None):
        """The message with that id in new/, or the only one."""
        if id is not None:
            return parse(self.queue / "new" / id)
        found = self.new()
        assert len(found) == 1, f"one message expected in new/, found {found}"
        return parse(self.queue / "new" / found[0])

    def clear(self):
        """Removes what lies in new/: for modules whose tests share one smtpd."""
        for id in self.new():
            (self.queue / "new" / id).unlink()

    def put(self, body=b"Subject: hello\r\n\r\nhello\r\n", recipients=("b@t.example",), id=None,
            received=None, mail_from="a@c.example", raw=None, content=None, into="new", **fields):
        """Writes a message as smtpd would (tmp/, then a rename); returns its id.

        `raw` replaces the trace fields and body, `content` the whole file, byte for byte.
        """
        self.make()
        received = received or now()
        id = id or uuid7(received if isinstance(received, datetime.datetime) else None)
        if content is None:
            raw = raw_of(body, mail_from, queue=self.queue.name) if raw is None else raw
            content = encode(id, received, mail_from, recipients, raw, **fields)
        self._place(id, content, into)
        return id

    def put_many(self, count, body=b"Subject: hello\r\n\r\nhello\r\n", mail_from="a@c.example",
                 recipient="b{}@t.example", into="new"):
        """Writes `count` messages fast, each moved into place by a rename; returns their ids in
        order.

        `{}` in the recipient is the number of the message. The bytes are written before the first
        rename, so that the renames come as one burst.
        """
        self.make()
        ids, raw = [], raw_of(body, mail_from, queue=self.queue.name)
        for number in range(count):
            moment = now()
            id = uuid7(moment)
            content = encode(id, moment, mail_from, [recipient.format(number)], raw)
            descriptor = os.open(self.queue / "tmp" / id, CREATE, 0o640)
            os.write(descriptor, content)
            os.close(descriptor)
            ids.append(id)
        source, target = f"{self.queue}/tmp/", f"{self.queue}/{into}/"
        for id in ids:
            os.rename(source + id, target + id)
        return ids

    def _place(self, id, content, into):
        temporary = self.queue / "tmp" / id
        descriptor = os.open(temporary, CREATE, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.rename(self.queue / into / id)


class Spool(Queue):
    """A SPOOL directory: its store queue, and `relay`, the other."""

    def __init__(self, path):
        super().__init__(path, "store")
        self.store = self.queue
        self.relay = Queue(path, "relay")

    def __str__(self):
        return str(self.path)


def fresh_spool():
    """A spool that is yet to be made, in a directory of its own."""
    return Spool(short_directory("mayfly-spool-") / "spool")
