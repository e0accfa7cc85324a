"""From the spool into the database: mail accepted and stored at once for a minute, one message by
itself until a reader sees it, and storer alone beside COPY."""

import os
import shutil
import socket
import statistics
import threading
import time

import machine
import bench_tools
from deadline import wait_for
from servers import Installation, Mayfly, remove_tree, settle
from table import Goal, number

SIZE = 4096
SESSIONS = 50
BATCH = 256            # storer's own
USERS = 1000
GROWING = 0.01         # of what is sent: a backlog that keeps more of it grows


class Backlog:
    """How many files wait in new/, looked at every second while a block runs."""

    def __init__(self, spool):
        self.directory = spool.directory("new")
        self.seen = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def now(self):
        return len(os.listdir(self.directory))

    def watch(self):
        while not self.ended.wait(1):
            self.seen.append(self.now())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.seen.append(self.now())
        self.ended.set()
        self.thread.join()

    def growth(self):
        """Files by which the last third of the time was above the second: what one has added."""
        third = max(1, len(self.seen) // 3)
        if len(self.seen) < 3:
            return self.seen[-1]
        return statistics.mean(self.seen[-third:]) - statistics.mean(self.seen[third:-third])


def together(server, seconds, rate=None, count=None):
    """One stretch of mail with storer at work: at a rate, or as many as there can be. Returns what
    happened, `rate` being that of what was stored until the client ended."""
    count = count or int(rate * seconds)
    with Backlog(server.spool) as backlog:
        result = bench_tools.load(server.port, SESSIONS, count, SIZE, rate=rate, users=USERS)
    left = backlog.seen[-1]
    wait_for(lambda: backlog.now() == 0, "the backlog is stored", 600, 0.05)
    return {"rate": (count - left) / result["seconds"], "left": left, "count": count,
            "accepted": result["rate"],
            "grew": backlog.growth() > GROWING * count / 3 + 2 * SESSIONS}


def search(bench, server, rate):
    """The best of the stretches at growing or falling rates, from one on, whose backlog did not
    grow; None where it always did."""
    best = None
    for _ in range(bench.size.searches):
        run = together(server, bench.size.minute, rate)
        bench.say(f"{number(rate)}/s asked: {number(run['accepted'])}/s accepted, "
                  f"{number(run['rate'])}/s stored, {run['left']} left, "
                  f"{'growing' if run['grew'] else 'not growing'}")
        if run["grew"] and best:
            break
        if run["grew"]:
            rate *= 0.9
            continue
        best = max(best or run, run, key=lambda one: one["rate"])
        if run["accepted"] < 0.97 * rate:
            break   # it cannot be more: the client had to wait
        rate *= 1.1
    return best


def sustained(bench):
    """Accepted and stored, with a backlog that does not grow. Where that is about is shown by as
    much as can be sent: what storer stores meanwhile."""
    database = bench.cluster.create()
    with Mayfly(bench.places.spool) as server:
        server.storer(database)
        warm = together(server, 0, count=20 * SESSIONS)
        most = together(server, 0, count=max(1000, int(warm["rate"] * bench.size.minute / 4)))
        best = search(bench, server, most["rate"])
    database.drop()
    what = (f"accepted and stored, {bench.size.minute:g} s, backlog not growing: one message a "
            "connection, 50 sessions")
    full = (f"as much as can be sent: {number(most['accepted'])} /s accepted, of which "
            f"{number(most['rate'])} /s stored meanwhile")
    if best:
        bench.table.add(what, f"{number(best['rate'])} /s", full, "")
    else:
        bench.table.add(what, "it grew at every rate tried", full, "")


class Reader:
    """Somebody who looks into a mailbox again and again until there is something."""

    def __init__(self, database):
        self.connection = database.connect()
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.cursor.execute("PREPARE look (text) AS "
                            "SELECT raw_data FROM emails WHERE username = $1")

    def wait(self, mailbox, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.cursor.execute("EXECUTE look (%s)", (mailbox,))
            if self.cursor.fetchone():
                return time.monotonic()
        raise AssertionError(f"mail to {mailbox} is not seen after {seconds} s")


def send_one(port, mailbox, body):
    """Sends a message; returns the moment at which 250 was there."""
    def say(line):
        connection.sendall(line)
        reply = connection.recv(1024)
        assert reply[:1] in b"23", (line[:60], reply)

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.recv(1024)
        say(b"EHLO c.example\r\n")
        say(b"MAIL FROM:<a@c.example>\r\n")
        say(b"RCPT TO:<%s@mayfly.example>\r\n" % mailbox.encode())
        say(b"DATA\r\n")
        say(body + b"\r\n.\r\n")
        return time.monotonic()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def lone(bench):
    """One message at a time, each into a mailbox of its own that is empty before."""
    body = b"Subject: alone\r\n\r\n" + b"\r\n".join([b"x" * 70] * (SIZE // 72))
    database = bench.cluster.create()
    middle, high = [], []
    with Mayfly(bench.places.spool) as server:
        server.storer(database)
        reader = Reader(database)
        for run in range(bench.size.runs):
            waits = []
            for count in range(bench.size.lone):
                mailbox = f"lone-{run}-{count}"
                begin = send_one(server.port, mailbox, body)
                waits.append(1e3 * (reader.wait(mailbox) - begin))
                time.sleep(0.01)   # until storer has gone to sleep again
            middle.append(percentile(waits, 0.5))
            high.append(percentile(waits, 0.99))
    database.drop()
    bench.say(f"lone: p50 {middle}, p99 {high}")
    what = f"a lone message: 250 until a reader of emails sees it, of {bench.size.lone},"
    bench.table.figure(f"{what} p50", middle, "ms", Goal(most=5, unit="ms"))
    bench.table.figure(f"{what} p99", high, "ms", Goal(most=20, unit="ms"))


def make_backlog(bench, directory, count, users=USERS):
    """Files as smtpd writes them, in a directory of their own."""
    with Mayfly(bench.places.spool) as server:
        bench_tools.load(server.port, SESSIONS, count, SIZE, keep=True, users=users)
        server.spool.directory("new").rename(directory)
        server.spool.directory("new").mkdir()
    settle(directory)


def is_empty(directory):
    """Without reading all the names of a directory that is not."""
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def store_backlog(bench, backlog, count):
    """One run of storer on a copy of a backlog, into a fresh database: `rate` is from its start
    until nothing is left, `us` and `cpu_us` a message from when it was ready. What it took of the
    processors is PostgreSQL's work too."""
    database = bench.cluster.create()
    with Installation(bench.places.spool) as server:
        new = server.spool.directory("new")
        shutil.copytree(backlog, new, dirs_exist_ok=True)
        settle(new)
        bench.cluster.execute("CHECKPOINT")
        begin = time.monotonic()
        server.storer(database)
        ready, busy = time.monotonic(), machine.busy_seconds()
        wait_for(lambda: is_empty(new), "the backlog is stored", 1800, 0.02)
        end, busy = time.monotonic(), machine.busy_seconds() - busy
    stored, size = database.query("SELECT count(*), avg(size)::int FROM messages")[0]
    database.drop()
    assert stored == count, f"{stored} of {count} messages are stored"
    return {"rate": count / (end - begin), "us": 1e6 * (end - ready) / count,
            "cpu_us": 1e6 * busy / count, "size": size}


def copy_rows(bench, count, size):
    """As many rows of that size into a fresh database by COPY, from memory."""
    database = bench.cluster.create()
    bench.cluster.execute("CHECKPOINT")
    result = bench_tools.copy(database.url, count, size, BATCH, USERS)
    stored = database.value("SELECT count(*) FROM messages")
    database.drop()
    assert stored == count, f"{stored} of {count} rows are stored"
    return result


def alone(bench):
    """storer beside COPY binary by one connection, which reads no files, removes none, and fails on
    a replay."""
    count, backlog = bench.size.backlog, bench.places.spool / "backlog"
    make_backlog(bench, backlog, count)
    try:
        size = store_backlog(bench, backlog, count)["size"]
        results = bench.in_turns(f"a backlog of {count:,}", {
            "storer": lambda: store_backlog(bench, backlog, count),
            "COPY": lambda: copy_rows(bench, count, size)}, "/s")
    finally:
        remove_tree(backlog)
    bench.table.ratio(f"storer alone, on a backlog of {count:,}",
                      [run["rate"] for run in results["storer"]],
                      [run["rate"] for run in results["COPY"]], "/s", "COPY binary",
                      Goal(least=0.9))
