"""An SMTP client of raw bytes: it sends what it is told, as it is told, and trusts no reply.

Every reply it reads must keep the laws of the protocol (the checklist's D1-02 to D1-04), so every
test that talks to smtpd checks them as well, in the clear and behind STARTTLS.
"""

import contextlib
import dataclasses
import re
import select
import socket
import struct
import time

from tls import Tls

TIMEOUT = 30
LINE_MAX = 512

LINE = re.compile(r"([2-5][0-9][0-9])([ -])(.*)", re.S)
ENHANCED = re.compile(r"([0-9])\.(\d{1,3})\.(\d{1,3})(?: |$)")

# What a client in each state has sent, and the reply to each.
STEPS = {
    "E": ("EHLO c.example", 250),
    "M": ("MAIL FROM:<a@c.example>", 250),
    "R": ("RCPT TO:<b@t.example>", 250),
    "D": ("DATA", 354),
}


class Closed(AssertionError):
    """The server closed where a reply was expected."""


class Unexpected(AssertionError):
    """Another reply than the one that was asked for."""

    def __init__(self, wanted, reply):
        super().__init__(f"wanted {wanted}, got {reply}")
        self.reply = reply


@dataclasses.dataclass
class Reply:
    """One reply: its code, its enhanced code ("2.1.0" or None), and the text of each line after
    the codes."""
    code: int
    enhanced: str
    lines: list

    @property
    def text(self):
        return " ".join(self.lines)

    @property
    def id(self):
        """The id that the reply to the end of data names."""
        found = re.search(r"queued as ([0-9a-f-]{36})", self.text)
        assert found, f"no id in {self}"
        return found.group(1)


def check_line(line):
    """The laws of one line, CRLF included; returns (code, separator, rest)."""
    assert line.endswith(b"\r\n"), f"a reply line must end in CRLF: {line!r}"
    assert len(line) <= LINE_MAX, f"a reply line of {len(line)} octets: {line!r}"
    assert all(32 <= octet < 127 for octet in line[:-2]), f"not printable ASCII: {line!r}"
    match = LINE.fullmatch(line[:-2].decode("ascii"))
    assert match, f"not a reply: {line!r}"
    return int(match.group(1)), match.group(2), match.group(3)


def parse_reply(lines, bare):
    """The laws of a whole reply, given its lines; `bare` where no enhanced code belongs to a
    success."""
    parsed = [check_line(line) for line in lines]
    code = parsed[0][0]
    assert all(each[0] == code for each in parsed), f"codes differ within a reply: {lines}"
    wants_enhanced = not (code // 100 == 3 or (bare and code // 100 == 2))
    enhanced, texts = set(), []
    for _, _, text in parsed:
        match = ENHANCED.match(text)
        if wants_enhanced:
            assert match, f"no enhanced code: {lines}"
            assert int(match.group(1)) == code // 100, f"the classes of the codes differ: {lines}"
            enhanced.add(match.group(0).strip())
            text = text[match.end():]
        else:
            assert not match, f"an enhanced code where none belongs: {lines}"
        texts.append(text)
    assert len(enhanced) <= 1, f"enhanced codes differ within a reply: {lines}"
    return Reply(code, enhanced.pop() if enhanced else None, texts)


class Client:
    """A connection. Nothing is sent or read but what a test asks for. `source`: the address it
    comes from, such as 127.0.0.2, to be another client."""

    def __init__(self, address, timeout=TIMEOUT, receive_buffer=None, source=None):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.tls = None
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Sending

    def send(self, data, *, sizes=None, pause=0.0):
        """Sends bytes (text becomes Latin-1). `sizes` cuts them into segments, or into TLS
        records: a number for equal pieces, or a list of lengths, the rest going last; `pause`
        seconds between two."""
        data = data.encode("latin-1") if isinstance(data, str) else data
        for number, piece in enumerate(pieces(data, sizes)):
            if number and pause:
                time.sleep(pause)
            self.socket.sendall(self.tls.encrypt(piece) if self.tls else piece)

    def send_raw(self, octets, *, sizes=None, pause=0.0):
        """Sends octets as they are, beside TLS where there is one: garbage, or records cut in
        pieces."""
        for number, piece in enumerate(pieces(octets, sizes)):
            if number and pause:
                time.sleep(pause)
            self.socket.sendall(piece)

    def half_close(self):
        """FIN: we have said all, and still listen. Under TLS there is no close_notify before it."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """RST: the connection is gone, without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    # TLS

    def starttls(self, context, **how):
        """STARTTLS, its 220 and the handshake."""
        self.command("STARTTLS", 220, "2.0.0")
        return self.handshake(context, **how)

    def handshake(self, context, **how):
        """From here on all goes through TLS. Closed when the server gives up, ssl.SSLError when the
        client does."""
        assert not self.received, f"in the clear, where TLS begins: {self.received!r}"
        tls = Tls(context, "mayfly.example")
        while not tls.handshake():
            self.send_raw(tls.pending(), **how)
            octets = self._octets("the server's part of the handshake")
            if not octets:
                raise Closed("closed in the handshake")
            tls.receive(octets)
        self.send_raw(tls.pending(), **how)
        self.tls = tls
        return self

    # Reading

    def line(self):
        """One line as it came, CRLF included."""
        while b"\n" not in self.received:
            self._receive("a reply")
        line, _, self.received = self.received.partition(b"\n")
        return line + b"\n"

    def _octets(self, wanted):
        """What comes over the wire next; b"" is its end."""
        try:
            return self.socket.recv(65536)
        except ConnectionResetError as error:
            raise Closed(f"reset where {wanted} was expected; got {self.received!r}") from error
        except socket.timeout as error:
            raise AssertionError(f"no {wanted} in {self.socket.gettimeout()} s; "
                                 f"got {self.received!r}") from error

    def _plain(self, wanted):
        """What the server says next; b"" is the end, which under TLS may be its close_notify."""
        if not self.tls:
            return self._octets(wanted)
        while not self.tls.ended:
            octets = self._octets(wanted)
            self.tls.receive(octets)
            # A record may carry nothing that was said: a session ticket.
            data = self.tls.decrypt()
            if data or not octets:
                return data
        return b""

    def _receive(self, wanted):
        data = self._plain(wanted)
        if not data:
            raise Closed(f"closed where {wanted} was expected; got {self.received!r}")
        self.received += data

    def reply(self, code=None, enhanced=None, bare=False):
        """Reads one reply, checks its laws, and its codes where they are given. `bare`: the
        greeting, or the reply to HELO or EHLO, whose success has no enhanced code. `code` may be
        a tuple of those allowed."""
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        reply = parse_reply(lines, bare)
        codes = code if isinstance(code, tuple) else (code,)
        if code is not None and reply.code not in codes:
            raise Unexpected(code, reply)
        classes = enhanced if isinstance(enhanced, tuple) else (enhanced,)
        assert enhanced is None or reply.enhanced in classes, f"wanted {enhanced}, got {reply}"
        return reply

    def command(self, line, code=None, enhanced=None):
        """Sends one line and reads its reply."""
        data = line.encode("utf-8") if isinstance(line, str) else line
        self.send(data + b"\r\n")
        bare = data[:4].upper() in (b"HELO", b"EHLO")
        return self.reply(code, enhanced, bare)

    def greeting(self, code=220):
        return self.reply(code, bare=True)

    def rest(self):
        """All that comes until the server closes, as it came."""
        with contextlib.suppress(Closed):
            while True:
                self._receive("the end")
        data, self.received = self.received, b""
        return data

    def expect_close(self, seconds=TIMEOUT):
        """Nothing more comes, and the server closes."""
        with self._patience(seconds):
            try:
                data = self.received or self._plain("the end")
                while self.tls and not data and self._octets("the end behind that of TLS"):
                    pass
            except Closed:
                data = b""
        assert data == b"", f"more than expected: {data!r}"

    def expect_silence(self, seconds=0.3):
        """Nothing comes for a while, and the connection stays open. Only a wrong server can make
        this fail."""
        assert not self.received, f"silence expected, got {self.received!r}"
        with self._patience(seconds):
            try:
                data = self._plain("silence")
            except Closed:
                data = b""
            except AssertionError:
                return
        raise AssertionError(f"silence expected, got {data!r} (nothing: closed)")

    @contextlib.contextmanager
    def _patience(self, seconds):
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            yield
        finally:
            self.socket.settimeout(before)

    def readable(self):
        """Whether something has come, a close included; does not wait."""
        while not self.received and select.select([self.socket], [], [], 0)[0]:
            if not self.tls:
                return True
            octets = self._octets("anything")
            self.tls.receive(octets)
            self.received += self.tls.decrypt()
            if not octets or self.tls.ended:
                return True
        return bool(self.received)

    # Parts of a session

    def to(self, state):
        """Goes on from the greeting to a state of the checklist: G, E, M, R or D."""
        for step in "GEMRD"[1:"GEMRD".index(state) + 1]:
            self.command(*STEPS[step])
        return self

    def alive(self):
        """The session goes on: NOOP is answered 250, and is the only thing answered."""
        self.command("NOOP", 250, "2.0.0")

    def ehlo(self, name="c.example"):
        """EHLO; returns {keyword: parameter} of what is offered."""
        reply = self.command(f"EHLO {name}", 250)
        offered = (line.partition(" ") for line in reply.lines[1:])
        return {keyword.upper(): parameter for keyword, _, parameter in offered}

    def content(self, body, end=b"\r\n.\r\n", **how):
        """Sends data as it goes over the wire (dots already stuffed) and its end."""
        self.send(body + end, **how)

    def bdat(self, chunk, last=False, **how):
        """Sends one chunk with its command."""
        self.send(bdat(chunk, last), **how)

    def mail(self, body=b"Subject: hello\r\n\r\nhello", sender="a@c.example",
             recipients=("b@t.example",)):
        """A whole transaction after EHLO; `body` is what the client means, CRLF at its end not
        included. Returns the id."""
        self.command(f"MAIL FROM:<{sender}>", 250)
        for recipient in recipients:
            self.command(f"RCPT TO:<{recipient}>", 250)
        self.command("DATA", 354)
        self.content(stuffed(body))
        return self.reply(250, "2.0.0").id

    def quit(self):
        self.command("QUIT", 221, "2.0.0")
        self.expect_close()
        self.close()


def pieces(data, sizes):
    """Cuts data: None leaves it whole, a number makes equal pieces, a list gives the first
    lengths."""
    if sizes is None:
        return [data]
    if isinstance(sizes, int):
        return [data[at:at + sizes] for at in range(0, len(data), sizes)]
    cut, at = [], 0
    for size in sizes:
        cut.append(data[at:at + size])
        at += size
    return [piece for piece in (*cut, data[at:]) if piece]


def stuffed(body):
    """Dot transparency as RFC 5321 §4.5.2 asks: only a dot that begins a line is doubled."""
    return re.sub(rb"(^|\r\n)\.", rb"\1..", body)


def bdat(chunk, last=False):
    """BDAT and its chunk, as they go over the wire."""
    return b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if last else b"") + chunk


def session(address, at="G", tls=None, **options):
    """A client that has read the greeting and gone on to a state; behind STARTTLS with `tls`, an
    ssl.SSLContext."""
    client = Client(address, **options)
    client.greeting()
    if tls:
        client.ehlo()
        client.starttls(tls)
    return client.to(at)
