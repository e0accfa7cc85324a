"""Letters that clients send in a thread each, whatever becomes of the servers meanwhile, and what
is known of them afterwards: the model, in which a letter is acknowledged, refused, or of a fate
that nobody knows.
"""

import random
import re
import threading

import smtp
from load import Letter

# A connection that hangs, because a server is halted, is not given up before the servers go on.
PATIENCE = 120

ACKNOWLEDGED, REFUSED, UNKNOWN = "acknowledged", "refused", "unknown"

STORED, RELAYED = "stored.example", "away.example"
# What the database, or the smarthost, has something against for a while.
POISON, LATER, NEVER = "poison.example", "later.example", "never.example"
STORED_DOMAINS = (STORED, POISON)


def as_relayed(body):
    """What the smarthost gets of it: relay makes every bare CR and LF a line end
    (relay/content.h)."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", body) + b"\r\n"


def is_stored(recipient):
    return recipient.rpartition("@")[2] in STORED_DOMAINS


class Posted:
    """One letter on its way. `fate` is None until the client knows."""

    def __init__(self, number, size, domains, how):
        people = tuple(f"r{at}@{domain}" for at, domain in enumerate(domains))
        self.letter = Letter(number, size, people)
        self.how = how
        self.fate = None
        self.id = None
        self.wrong = None      # what must not happen whoever is killed
        self.said_all = False  # the end of the data may have gone out
        self.thread = None

    def __str__(self):
        to = ", ".join(self.letter.recipients)
        return f"letter {self.letter.number} ({self.how}, to {to}, {self.fate}, id {self.id})"

    @property
    def for_store(self):
        return tuple(filter(is_stored, self.letter.recipients))

    @property
    def for_relay(self):
        return tuple(one for one in self.letter.recipients if not is_stored(one))

    def as_stored(self):
        """What the database must have of it."""
        return Letter(self.letter.number, self.letter.size, self.for_store)

    def send(self, address):
        self.thread = threading.Thread(target=self._send, args=(address,), daemon=True)
        self.thread.start()

    def wait(self, seconds):
        """Whether the client is done with it within so many seconds."""
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def _send(self, address):
        try:
            fate = self._session(address)
        except smtp.Unexpected as unexpected:
            if unexpected.reply.code // 100 != 4:
                self.wrong = str(unexpected)
            fate = None
        except (OSError, smtp.Closed):
            fate = None
        except AssertionError as failure:
            self.wrong = str(failure)
            fate = None
        self.fate = fate or (UNKNOWN if self.said_all else REFUSED)

    def _session(self, address):
        with smtp.session(address, "E", timeout=PATIENCE) as client:
            return WAYS[self.how](self, client)

    # What a client does in one way or another

    def _envelope(self):
        lines = [f"MAIL FROM:<{self.letter.sender}>"]
        lines += [f"RCPT TO:<{recipient}>" for recipient in self.letter.recipients]
        return [f"{line}\r\n".encode() for line in lines]

    def _end(self, client, data):
        """The last of the data, and the answer."""
        self.said_all = True
        client.send(data)
        self.id = client.reply(250, "2.0.0").id
        return ACKNOWLEDGED

    def _content(self):
        return smtp.stuffed(self.letter.body()) + b"\r\n.\r\n"

    def _to_data(self, client):
        for line in (*self._envelope(), b"DATA\r\n"):
            client.send(line)
            client.reply((250, 354))

    def data(self, client):
        self._to_data(client)
        return self._end(client, self._content())

    def pipelined(self, client):
        client.send(b"".join(self._envelope()) + b"DATA\r\n")
        for _ in range(len(self.letter.recipients) + 1):
            client.reply(250)
        client.reply(354)
        return self._end(client, self._content())

    def chunks(self, client):
        """BDAT, in two chunks, the second behind the answer to the first."""
        for line in self._envelope():
            client.send(line)
            client.reply(250)
        body = self.letter.body() + b"\r\n"
        client.bdat(body[:len(body) // 2])
        client.reply(250)
        return self._end(client, smtp.bdat(body[len(body) // 2:], last=True))

    def at_once(self, client):
        """All that there is to say, in one go."""
        body = self.letter.body() + b"\r\n"
        self.said_all = True
        client.send(b"".join(self._envelope()) + smtp.bdat(body, last=True))
        for _ in range(len(self.letter.recipients) + 1):
            client.reply(250)
        self.id = client.reply(250, "2.0.0").id
        return ACKNOWLEDGED

    def slowly(self, client):
        """A second from the first byte to the last."""
        self._to_data(client)
        content = self._content()
        client.send(content[:-3], sizes=max(1, len(content) // 20), pause=0.05)
        return self._end(client, content[-3:])

    def abandoned(self, client):
        """Gone in the midst of the data, with a goodbye or without: nothing was ever to come of
        it."""
        self._to_data(client)
        client.send(self._content()[:-2 - random.Random(self.letter.number).randrange(40)])
        if self.letter.number % 2:
            client.reset()
        return REFUSED

    def deaf(self, client):
        """Gone behind the last byte, without hearing what is said to it."""
        self._to_data(client)
        self.said_all = True
        client.send(self._content())
        if self.letter.number % 2:
            client.reset()
        return UNKNOWN


WAYS = {"data": Posted.data, "pipelined": Posted.pipelined, "chunks": Posted.chunks,
        "at once": Posted.at_once, "slowly": Posted.slowly, "abandoned": Posted.abandoned,
        "deaf": Posted.deaf}
