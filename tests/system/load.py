"""Mail by the thousand: senders that work at once, and remember what was acknowledged."""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import random
import threading

import smtp


@dataclasses.dataclass
class Letter:
    """A message that can be made again from its number: any octets, of any size."""
    number: int
    size: int
    recipients: tuple = ()

    def __post_init__(self):
        self.recipients = self.recipients or (f"b{self.number % 97}@t.example",)

    @property
    def sender(self):
        """Unlike every other letter's, so that a second copy is found by it."""
        return f"a{self.number}@c.example"

    def body(self):
        """Without the CRLF at its end."""
        head = b"Subject: letter %d\r\n\r\n" % self.number
        return head + random.Random(self.number).randbytes(max(0, self.size - len(head) - 2))

    def digest(self):
        """SHA-256 of what is to be stored behind the trace fields, and its length."""
        stored = self.body() + b"\r\n"
        return hashlib.sha256(stored).digest(), len(stored)


def log_uniform(count, smallest, largest, seed=1):
    """Sizes whose logarithms are spread evenly."""
    chance = random.Random(seed)
    return [round(smallest * (largest / smallest) ** chance.random()) for _ in range(count)]


def deliver(client, letter):
    """Sends one letter in a session that said EHLO; returns its id."""
    return client.mail(letter.body(), letter.sender, letter.recipients)


def send_all(address, letters, clients=50):
    """Sends every letter, by so many clients at once, none of which may fail; returns {id:
    letter}."""
    waiting = iter(letters)
    lock = threading.Lock()
    acknowledged = {}

    def work():
        while True:
            with smtp.session(address, "E", timeout=120) as client:
                for _ in range(20):
                    with lock:
                        letter = next(waiting, None)
                    if letter is None:
                        return
                    id = deliver(client, letter)
                    with lock:
                        assert id not in acknowledged
                        acknowledged[id] = letter

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for worker in [pool.submit(work) for _ in range(clients)]:
            worker.result()
    return acknowledged


class Rain:
    """Letters that go on coming while servers die and come back. A sender that loses its
    connection goes on with another letter: whether the lost one was accepted nobody knows, only
    that it may not be there twice."""

    def __init__(self, address, clients=10, largest=20_000):
        self.address = address
        self.largest = largest
        self.numbers = itertools.count(1)
        self.over = threading.Event()
        self.acknowledged = {}
        self.failures = []
        self.threads = [threading.Thread(target=self._work) for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)
        assert self.failures == [], self.failures

    def _work(self):
        try:
            while not self.over.is_set():
                self._session_that_may_end()
        except BaseException as failure:
            self.failures.append(failure)

    def _session_that_may_end(self):
        """A connection refused or lost, or a temporary refusal, is what this is about."""
        try:
            self._session()
            return
        except smtp.Unexpected as refusal:
            if refusal.reply.code // 100 != 4:
                raise
        except (OSError, smtp.Closed):
            pass
        self.over.wait(0.05)

    def _session(self):
        with smtp.session(self.address, "E", timeout=60) as client:
            for _ in range(20):
                if self.over.is_set():
                    return
                number = next(self.numbers)
                letter = Letter(number, 50 + number * 7919 % self.largest)
                self.acknowledged[deliver(client, letter)] = letter


class Post(Rain):
    """Letters as a mail server sends them, each in a connection of its own: where a 421 asks for it
    the same letter is sent again, and whatever else goes wrong is a failure: a connection refused,
    reset, or closed before its reply. Behind the end every letter is acknowledged, once."""

    def __init__(self, address, clients=6, largest=4000, pause=0.01):
        super().__init__(address, clients, largest)
        self.pause = pause
        self.postponed = 0

    def _session_that_may_end(self):
        number = next(self.numbers)
        letter = Letter(number, 50 + number * 7919 % self.largest)
        while not self._accepted(letter):
            self.postponed += 1
            self.over.wait(self.pause)
        self.over.wait(self.pause)

    def _accepted(self, letter):
        try:
            with smtp.session(self.address, "E", timeout=60) as client:
                self.acknowledged[deliver(client, letter)] = letter
                client.command("QUIT", (221, 421))
                client.expect_close()
        except smtp.Unexpected as refusal:
            if refusal.reply.code != 421:
                raise
            return False
        return True

    def check(self, spool):
        """All that was acknowledged lies in the spool, unchanged, and nothing else does."""
        messages = spool.messages()
        assert {message.id for message in messages} == set(self.acknowledged)
        for message in messages:
            letter = self.acknowledged[message.id]
            assert message.mail_from == letter.sender
            assert hashlib.sha256(message.body).digest() == letter.digest()[0], message.id
        numbers = sorted(letter.number for letter in self.acknowledged.values())
        assert numbers == list(range(1, next(self.numbers)))


def differences(database, acknowledged):
    """What the database lacks, has twice or has changed, as a list of texts; [] when all is
    well."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE want (id uuid PRIMARY KEY, sender text,"
                       " recipients text[], digest bytea, length bigint)")
        for id, letter in acknowledged.items():
            cursor.execute("INSERT INTO want VALUES (%s, %s, %s, %s, %s)",
                           (id, letter.sender, list(letter.recipients), *letter.digest()))
        wrong = []
        for what, query in DIFFERENCES.items():
            cursor.execute(query)
            wrong += [f"{what}: {row}" for row in cursor.fetchall()]
    connection.close()
    return wrong


DIFFERENCES = {
    "lost": "SELECT id FROM want EXCEPT SELECT id FROM messages",
    "changed": "SELECT id, mail_from, m.size FROM want JOIN messages m USING (id)"
               " WHERE m.size <> octet_length(raw) OR mail_from <> sender"
               " OR sha256(substring(raw FROM (m.size - length + 1)::int)) <> digest"
               " OR m.size - length NOT BETWEEN 50 AND 2000",
    "wrong recipients": "SELECT w.id, w.recipients, array_agg(d.recipient ORDER BY d.position)"
                        " FROM want w LEFT JOIN deliveries d ON d.message_id = w.id"
                        " GROUP BY w.id, w.recipients"
                        " HAVING array_agg(d.recipient ORDER BY d.position)"
                        " IS DISTINCT FROM w.recipients",
    "twice": "SELECT mail_from, count(*) FROM messages GROUP BY mail_from HAVING count(*) > 1",
    "without a message": "SELECT message_id FROM deliveries EXCEPT SELECT id FROM messages",
}
