"""A smarthost of raw bytes that means harm, or is broken: at one step of the conversation it does what
a test says, and is right in all else, so that what is tried is that step.

It runs in threads of the test, one a connection, on a port of the kernel's choice.
"""

import contextlib
import dataclasses
import select
import socket
import ssl
import threading

from deadline import wait_for
from smarthost import server_context

TIMEOUT = 60
RIGHT = {
    "CONNECT": b"220 hostile.example ESMTP\r\n",
    "EHLO": b"250-hostile.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
    "EHLO-CLEAR": b"250-hostile.example\r\n250 STARTTLS\r\n",
    "STARTTLS": b"220 2.0.0 go ahead\r\n",
    "AUTH": b"235 2.7.0 welcome\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go ahead\r\n",
    "END": b"250 2.0.0 ok\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "NOOP": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
}


class Gone(Exception):
    """The other side has closed, or we are to."""


@dataclasses.dataclass
class Talk:
    """One connection. `send`, `silence` and `close` are what a step may do."""
    socket: socket.socket
    number: int
    ill: bool                     # whether it is not to be right in everything
    cut: int = None               # how many bytes are said before it closes; None: all
    received: bytes = b""
    said: int = 0
    secure: bool = False
    ended: bool = False           # the end of data was received
    heard: list = dataclasses.field(default_factory=list)   # lines, without their ends

    def send(self, data, pieces=None):
        """Says it and returns it; `pieces`: so many bytes at a time, each in a segment of its own."""
        if self.cut is not None:
            data = data[:self.cut - self.said]
        self.said += len(data)
        for at in range(0, len(data), pieces or len(data) or 1):
            self.socket.sendall(data[at:at + (pieces or len(data))])
        if self.cut is not None and self.said >= self.cut:
            raise Gone
        return data

    def silence(self):
        """Says nothing until the other side closes, and hears no more."""
        with contextlib.suppress(TimeoutError):
            while self.socket.recv(65536):
                pass
        raise Gone

    def close(self):
        raise Gone

    def line(self):
        while b"\n" not in self.received:
            self._receive()
        line, _, self.received = self.received.partition(b"\n")
        self.heard.append(line.rstrip(b"\r"))
        return self.heard[-1]

    def content(self):
        """What comes up to the end of data, which is taken off."""
        self.received = bytearray(b"\r\n" + self.received)
        at = 0
        while (end := self.received.find(b"\r\n.\r\n", at)) < 0:
            at = max(0, len(self.received) - 4)
            self._receive()
        content, self.received = bytes(self.received[2:end + 2]), bytes(self.received[end + 5:])
        self.ended = True
        return content

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise Gone
        self.received += data

    def encrypt(self, context):
        self.received = b""
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.secure = True


class Hostile:
    """`steps`: {step: what it says there instead of what is RIGHT}: bytes, or a function that is
    given the Talk. `pair`: a certificate; with it STARTTLS is offered (`context`: in
    another way). `pieces`: how many bytes go into one segment. `cut`: how many bytes are said before it closes. All this is so for the first
    `ill` connections (None: for all), until `heal`."""

    def __init__(self, steps=None, pair=None, pieces=None, cut=None, ill=1, user=None, context=None):
        self.steps = steps or {}
        self.pair = pair
        self.context = context or (server_context(pair) if pair else None)
        self.pieces = pieces
        self.cut = cut
        self.ill = ill
        self.user = user
        self.well = False
        self.talks = []
        self.messages = []            # (content, whether the end of data was answered)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self._over = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    # Its life

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        self._thread.join(30)
        self._listener.close()
        with self._lock:
            for talk in self.talks:
                with contextlib.suppress(OSError):
                    talk.socket.shutdown(socket.SHUT_RDWR)

    def heal(self):
        """From the next step on it is right in everything."""
        self.well = True

    def settings(self):
        """What relay must be told of it."""
        settings = {"RELAY_HOST": "127.0.0.1", "RELAY_PORT": self.port, "RELAY_TLS": "none"}
        if self.pair:
            settings |= {"RELAY_TLS": "starttls", "RELAY_CA": self.pair.cert}
        if self.user:
            settings |= {"RELAY_USER": self.user, "RELAY_PASSWORD": "secret"}
        return settings

    # What it does

    def _accept(self):
        while not self._over:
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            peer, _ = self._listener.accept()
            peer.settimeout(TIMEOUT)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ill = not self.well and (self.ill is None or len(self.talks) < self.ill)
            talk = Talk(peer, len(self.talks) + 1, ill, self.cut if ill else None)
            with self._lock:
                self.talks.append(talk)
            threading.Thread(target=self._serve, args=(talk,), daemon=True).start()

    def _serve(self, talk):
        with contextlib.suppress(Gone, OSError, ssl.SSLError, ValueError):
            self._step(talk, "CONNECT")
            while True:
                verb, _, argument = talk.line().partition(b" ")
                self._command(talk, verb[:8].decode("ascii", "replace").upper(), argument)
        with contextlib.suppress(OSError):
            talk.socket.close()

    def _command(self, talk, verb, argument):
        if verb == "AUTH" and b" " not in argument:
            talk.send(b"334 \r\n")
            talk.line()
        if verb == "EHLO" and self.context and not talk.secure:
            self._step(talk, "EHLO-CLEAR")
        elif verb == "STARTTLS":
            self._step(talk, verb)
            talk.encrypt(self.context)
        elif verb == "DATA" and self._step(talk, verb).startswith(b"354"):
            content = talk.content()
            with self._lock:
                self.messages.append(content)
            self._step(talk, "END")
        elif verb != "DATA":
            self._step(talk, verb)
        if verb == "QUIT":
            raise Gone

    def _step(self, talk, step):
        """Returns what was said, as far as it is known."""
        ill = talk.ill and not self.well
        say = self.steps.get(step) if ill else None
        if say is None:
            say = RIGHT.get(step, b"502 5.5.1 no such command\r\n")
            if step == "EHLO" and self.user:
                say = say.replace(b"250-PIPELINING", b"250-AUTH PLAIN\r\n250-PIPELINING")
        if not callable(say):
            return talk.send(say, self.pieces if ill else None)
        said = say(talk)
        return said if isinstance(said, bytes) else b""

    # What it remembers

    def heard(self):
        """Every line of every connection, without contents."""
        with self._lock:
            return [line for talk in self.talks for line in talk.heard]

    def wait_connections(self, count, seconds=60):
        wait_for(lambda: len(self.talks) >= count, f"{count} connections", seconds)

    def wait_message(self, marker, seconds=60):
        """Waits until a message with these bytes in it has come; returns how many have."""
        return wait_for(lambda: sum(marker in content for content in list(self.messages)),
                        f"{marker!r} arrives", seconds)
