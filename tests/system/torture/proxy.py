"""Between storer and PostgreSQL: a proxy that counts bytes, and cuts a connection behind the one
that it is told.

One thread owns every socket. A socket that one thread closes while another reads from it stays open
in the kernel, and what was to be a reset would be nothing at all.
"""

import contextlib
import dataclasses
import selectors
import socket
import struct
import threading

from deadline import wait_for

TO_SERVER, TO_CLIENT = "to the server", "to the client"
RESET, FINISH = "reset", "finish"

# With it storer's conversation about a batch begins, whichever way it goes; that about one that goes
# by COPY; and its session.
BATCH = b"BEGIN ISOLATION LEVEL"
COPIED = BATCH + b" REPEATABLE READ; COPY messages"
SESSION = b"\0user\0"

# storer's words for readers: the last conversation about a batch.
NOTIFY = b"notify_mailboxes"

# The tag of an INSERT that found every row there.
NOTHING_NEW = b"INSERT 0 0\0"


@dataclasses.dataclass
class Cut:
    """Once storer has said `begin`, and so many bytes more have passed in one direction, the
    connection ends, at both its ends. What stands behind that byte never arrives."""
    direction: str
    after: int
    how: str
    begin: bytes = BATCH


class Link:
    """One connection from storer, and the one to the server that stands for it."""

    def __init__(self, client, server):
        self.sockets = {TO_SERVER: (client, server), TO_CLIENT: (server, client)}
        self.passed = None  # {direction: bytes} since the beginning of what is to be cut
        self.said = b""
        self.tail = b""     # of the answer to what was said last

    def close(self, how=FINISH):
        for end in self.sockets[TO_SERVER]:
            if how == RESET:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to `target`, an address or the path of a Unix
    socket, until a cut comes to its byte."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.waker, self.wakened = socket.socketpair()
        self.selector.register(self.wakened, selectors.EVENT_READ)
        self.links = set()
        self.cut = None
        self.dropping = None
        self.over = False
        self.seen = None  # of a measured conversation: bytes in each direction, and the words
        self.replays = 0
        self.failure = None
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.waker.send(b"x")
        self.thread.join(30)
        assert not self.thread.is_alive() and self.failure is None, self.failure

    # What a test asks for

    def arm(self, cut):
        """From now on the first connection that comes to this byte is cut there, and no other."""
        self.seen = None
        self.cut = cut

    def fired(self):
        assert self.failure is None, self.failure
        return self.cut is None

    def wait_fired(self):
        """Waits until the connection has been cut."""
        wait_for(self.fired, f"{self.cut} comes about", interval=0.001)

    def drop(self, how=RESET):
        """Ends every connection that there is."""
        self.dropping = how
        self.waker.send(b"x")
        wait_for(lambda: self.dropping is None, "the connections are dropped", interval=0.001)

    def measure(self, begin, is_over):
        """Counts the bytes of a conversation that is not cut: those from `begin` on that have
        passed when is_over(what storer said in it) holds. Returns a function that waits for them,
        and for silence behind them."""
        self.arm(Cut(TO_SERVER, 1 << 40, RESET, begin))

        def result():
            wait_for(lambda: self.seen and is_over(self.seen.said) and self._is_answered(self.seen),
                     "the conversation is over")
            passed = dict(self.seen.passed)
            self.cut = None
            return passed
        return result

    @staticmethod
    def _is_answered(link):
        """The server's last word was ReadyForQuery: nothing is under way."""
        return link.tail.startswith(b"Z\0\0\0\x05")

    # The thread

    def _run(self):
        try:
            while not self.over:
                for key, _ in self.selector.select():
                    self._handle(key)
        except BaseException as failure:
            self.failure = failure
        finally:
            for link in list(self.links):
                self._end(link, FINISH)
            self.listener.close()
            self.selector.close()
            self.waker.close()
            self.wakened.close()

    def _handle(self, key):
        if key.fileobj is self.listener:
            self._accept()
        elif key.fileobj is self.wakened:
            self.wakened.recv(64)
            if self.dropping:
                for link in list(self.links):
                    self._end(link, self.dropping)
                self.dropping = None
        elif key.data[0] in self.links:
            self._pass(*key.data)

    def _accept(self):
        client, _ = self.listener.accept()
        try:
            if isinstance(self.target, tuple):
                server = socket.create_connection(self.target, timeout=30)
            else:
                server = socket.socket(socket.AF_UNIX)
                server.settimeout(30)
                server.connect(self.target)
        except OSError:
            client.close()
            return
        link = Link(client, server)
        self.links.add(link)
        for end in (client, server):
            end.settimeout(30)
            if end.family == socket.AF_INET:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for direction, (source, _) in link.sockets.items():
            self.selector.register(source, selectors.EVENT_READ, (link, direction))

    def _end(self, link, how):
        self.links.discard(link)
        for end in link.sockets[TO_SERVER]:
            self.selector.unregister(end)
        link.close(how)

    def _pass(self, link, direction):
        source, target = link.sockets[direction]
        try:
            chunk = source.recv(1 << 16)
        except OSError:
            chunk = b""
        if not chunk:
            self._end(link, FINISH)
            return
        whole = self._allowed(link, direction, chunk)
        with contextlib.suppress(OSError):  # its end is read, too
            target.sendall(chunk[:whole])
        if whole < len(chunk) or (link.passed and self._is_due(link, direction)):
            how, self.cut = self.cut.how, None
            self._end(link, how)

    def _is_due(self, link, direction):
        cut = self.cut
        return cut is not None and cut.direction == direction and (
            link.passed[direction] >= cut.after)

    def _allowed(self, link, direction, chunk):
        """How much of this may pass. Storer never sends two conversations without an answer between
        them, so that the first chunk of one begins with it."""
        cut = self.cut
        link.tail = chunk[-6:] if direction == TO_CLIENT else b""
        if direction == TO_CLIENT:
            self.replays += chunk.count(NOTHING_NEW)
        begins = direction == TO_SERVER and cut is not None and cut.begin in chunk
        if begins and link.passed is None:
            link.passed = {TO_SERVER: 0, TO_CLIENT: 0}
            link.said = b""
            self.seen = link
        if cut is None:
            link.passed = None
        if link.passed is None:
            return len(chunk)
        whole = len(chunk)
        if cut.direction == direction:
            whole = min(whole, cut.after - link.passed[direction])
        link.passed[direction] += whole
        link.said += chunk if direction == TO_SERVER else b""
        return whole
