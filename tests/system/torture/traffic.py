"""Mail for a soak, from processes of their own, so that who checks and who sends do not wait for
one another: `traffic.py '{"kind": "paced", …}'` sends until it gets TERM.

What was acknowledged is written into a file, 24 bytes a letter: its id and its number, from which
the letter can be made again (letter_of). Nothing else is kept, however long it takes. A connection
refused or lost and a 4xx are what a soak is about, and the letter is given up, as of unknown fate;
any other reply ends the process with a failure.
"""

import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import smtp  # noqa: E402
from load import Letter  # noqa: E402

RECORD = struct.Struct("<16sq")
# Numbers of letters: what is measured with, what is paced, what comes byte by byte.
MEASURED, PACED, SLOW = 1, 100_000_000, 200_000_000
STORED, AWAY = "stored.example", "away.example"
RELAYED_EACH = 10
DEBT_SECONDS = 2
PATIENCE = 60


def letter_of(number):
    """Of 50 bytes to 8 KB, each tenth with a recipient elsewhere as well."""
    if number >= SLOW:
        return Letter(number, 50, (f"slow{number % 97}@{STORED}",))
    people = (f"b{number % 997}@{STORED}",)
    if number % RELAYED_EACH == 0:
        people += (f"r{number}@{AWAY}",)
    return Letter(number, 50 + number * 7919 % 8000, people)


def envelope_of(letter):
    return "".join([f"MAIL FROM:<{letter.sender}>\r\n",
                    *(f"RCPT TO:<{recipient}>\r\n" for recipient in letter.recipients)]).encode()


class Refused(Exception):
    """A 4xx, or the end of a connection."""


class Book:
    """What was acknowledged."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, reply, number):
        id = reply.rsplit(b" ", 1)[1].strip().decode()
        os.write(self.file, RECORD.pack(uuid.UUID(id).bytes, number))


def check(reply, code):
    """What was to be said, or what may be."""
    if reply.startswith(code):
        return reply
    if not reply or reply.startswith(b"4"):
        raise Refused(reply)
    raise AssertionError(f"{code} was expected, got {reply!r}")


class Schedule:
    """When the next letter is due: so many a second, whatever becomes of those before. What could
    not be sent while a server was away comes behind it, but for what is older than DEBT_SECONDS."""

    def __init__(self, rate, first):
        self.rate = rate
        self.numbers = first
        self.due = time.monotonic()
        self.lock = threading.Lock()

    def next(self):
        """(number, when)"""
        with self.lock:
            number, self.numbers = self.numbers, self.numbers + 1
            if not self.rate:
                return number, 0
            self.due = max(self.due + 1 / self.rate, time.monotonic() - DEBT_SECONDS)
            return number, self.due


def send_paced(plan, over, book, counts):
    """Senders that send letter after letter, half of them with BDAT in one go, half with DATA."""
    schedule = Schedule(plan.get("rate"), plan["first"])
    wrong = []

    def session():
        with socket.create_connection(plan["address"], timeout=PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as replies:
                check(replies.readline(), b"220")
                connection.sendall(b"EHLO c.example\r\n")
                while check(replies.readline(), b"250")[3:4] == b"-":
                    pass
                for _ in range(50):
                    number, due = schedule.next()
                    if over.wait(max(0, due - time.monotonic())):
                        return
                    counts["sent"] += 1
                    book.add(exchange(connection, replies, letter_of(number)), number)

    def work():
        while not over.is_set():
            try:
                session()
            except (OSError, Refused):
                counts["given up"] += 1
                over.wait(0.05)
            except BaseException as failure:
                wrong.append(repr(failure))
                over.set()

    threads = [threading.Thread(target=work) for _ in range(plan["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def exchange(connection, replies, letter):
    """Sends one letter; returns the reply to its end."""
    body = letter.body()
    if letter.number % 2:
        connection.sendall(envelope_of(letter) + smtp.bdat(body + b"\r\n", last=True))
    else:
        connection.sendall(envelope_of(letter) + b"DATA\r\n")
    for _ in range(1 + len(letter.recipients)):
        check(replies.readline(), b"250")
    if letter.number % 2 == 0:
        check(replies.readline(), b"354")
        connection.sendall(smtp.stuffed(body) + b"\r\n.\r\n")
    return check(replies.readline(), b"250 2.0.0")


class Slow:
    """A client that says a byte (or `bytes`) now and then, for ever: letters, or nothing but
    NOOP."""

    def __init__(self, at, plan, book, counts):
        self.at = at
        self.plan = plan
        self.book = book
        self.counts = counts
        self.number = SLOW + plan["first"] + at * 1_000_000
        self.socket = None
        self.next = 0

    def connect(self):
        self.socket = socket.socket()
        self.socket.bind((f"127.0.0.{2 + self.at // 50}", 0))
        self.socket.settimeout(5)
        self.socket.connect(tuple(self.plan["address"]))
        self.heard = b""
        # What is said, and the code that is waited for behind it.
        self.lines = [(b"", b"220"), (b"EHLO slow.example\r\n", b"250 ")]
        self.saying = b""

    def _next_line(self):
        if not self.lines:
            self.lines = self._letter() if self.at % 2 else [(b"NOOP\r\n", b"250")]
        self.saying, self.wanted = self.lines.pop(0)

    def _letter(self):
        self.number += 1
        letter = letter_of(self.number)
        commands = envelope_of(letter).splitlines(keepends=True)
        return [*((line, b"250") for line in commands), (b"DATA\r\n", b"354"),
                (smtp.stuffed(letter.body()) + b"\r\n.\r\n", b"250 2.0.0")]

    def turn(self, hasty):
        """Its next byte. Half of them are slow in a command without end; the others are so in the
        data of a letter, whose commands come at once."""
        try:
            if self.socket is None:
                self.connect()
                self._next_line()
            if self.saying:
                data = self.wanted == b"250 2.0.0" or not self.at % 2
                length = self.plan["bytes"] if data and not hasty else len(self.saying)
                self.socket.sendall(self.saying[:length])
                self.saying = self.saying[length:]
            if not self.saying:
                self._hear()
        except (OSError, Refused):
            self.close()

    def _hear(self):
        while True:
            line, end, rest = self.heard.partition(b"\n")
            if not end:
                received = self.socket.recv(4096)
                if not received:
                    raise Refused
                self.heard += received
                continue
            self.heard = rest
            if line[3:4] != b"-":
                break
        check(line, self.wanted)
        if self.wanted == b"250 2.0.0":
            self.book.add(line, self.number)
            self.counts["sent"] += 1
        self._next_line()

    def close(self):
        self.counts["given up"] += 1
        if self.socket:
            self.socket.close()
        self.socket = None


def send_slowly(plan, over, book, counts):
    """All of them in turn, so that each says something every `pause` seconds."""
    counts |= {"turns": 0, "crowded": 0}
    clients = [Slow(at, plan, book, counts) for at in range(plan["clients"])]
    chance = random.Random(1)
    while not over.is_set():
        began = time.monotonic()
        for client in clients:
            client.turn(hasty=chance.random() < 0.01)
        connected = sum(client.socket is not None for client in clients)
        counts["turns"] += 1
        counts["crowded"] += connected >= len(clients) / 2
        over.wait(max(0.01, plan["pause"] - (time.monotonic() - began)))
    return []


KINDS = {"paced": send_paced, "slow": send_slowly}


class Traffic:
    """Such a process, as the test sees it."""

    def __init__(self, kind, book, **plan):
        self.book = book
        plan |= {"kind": kind, "book": str(book)}
        self.process = subprocess.Popen([sys.executable, __file__, json.dumps(plan)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def is_fine(self):
        return self.process.poll() is None

    def end(self):
        """Ends it; returns its counts."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == 0, f"a sender failed: {said}"
        return json.loads(said)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def main():
    plan = json.loads(sys.argv[1])
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    counts = {"sent": 0, "given up": 0}
    wrong = KINDS[plan["kind"]](plan, over, Book(plan["book"]), counts)
    print(json.dumps(counts | {"wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
