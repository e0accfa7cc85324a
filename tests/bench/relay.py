"""Measures what goes through: messages a second that are accepted, and that have arrived at a sink,
by smtpd with relay and by a private Postfix, in turns, with their queues in DIRECTORY.

    /usr/bin/python3 tests/bench/relay.py DIRECTORY

Postfix is downloaded and unpacked, never installed (tests/system/postfix.py); its smtp-source sends and its
smtp-sink, which forgets, is the smarthost of both.
"""

import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import servers  # first: it knows where the tests' own modules are

import postfix
from deadline import wait_for
from servers import Sink

RUNS = int(os.environ.get("BENCH_RUNS", 5))
MESSAGES = int(os.environ.get("BENCH_MESSAGES", 3000))
SIZE = 4096
SESSIONS = 10

# A relaying Postfix greets the first messages for a destination with many connections at once, too.
POSTFIX = {
    "initial_destination_concurrency": 20,
    "default_destination_concurrency_limit": 50,
    "smtp_connection_cache_on_demand": "yes",
}


class Mayfly(servers.Mayfly):
    """smtpd and relay as they come, with a file system that has the spool and nothing else."""

    name = "smtpd and relay"

    def __init__(self, directory, sink):
        super().__init__(directory, SMTPD_DOMAINS="")
        self.own |= {"SMTPD_RELAY_CLIENTS": "127.0.0.0/8"}
        self.sink = sink

    def begin(self):
        super().begin()
        self.start("relay", RELAY_HOST="127.0.0.1", RELAY_PORT=self.sink.port, RELAY_TLS="none")

    def is_empty(self):
        return not self.spool.relay.new() and not self.spool.relay.cur()


class Postfix(servers.Postfix):
    """A private instance that relays."""

    def __init__(self, directory, sink):
        super().__init__(directory, relayhost=f"[127.0.0.1]:{sink.port}", **POSTFIX)

    def is_empty(self):
        return not any(path.is_file() for name in ("incoming", "active", "deferred")
                       for path in (self.directory / "queue" / name).rglob("*"))


def measure(server, sink):
    """One run: (messages a second that were accepted, that have arrived)."""
    program, environment = postfix.program("smtp-source")
    target = sink.count() + MESSAGES
    begin = time.monotonic()
    subprocess.run([program, "-s", str(SESSIONS), "-l", str(SIZE), "-m", str(MESSAGES),
                    f"127.0.0.1:{server.port}"], env=environment, check=True, timeout=600,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    accepted = time.monotonic()
    wait_for(lambda: sink.count() >= target, "all messages arrive", 600, 0.005)
    arrived = time.monotonic()
    wait_for(server.is_empty, "the queue is empty", 600)
    assert sink.count() == target, f"{sink.count() - target} messages arrived twice"
    os.sync()
    return MESSAGES / (accepted - begin), MESSAGES / (arrived - begin)


def report(rates):
    medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in rates.items()}
    print(f"{SIZE} bytes, {SESSIONS} sessions, median of {RUNS} runs of {MESSAGES} messages\n")
    print("| | accepted a second | relayed a second | from .. to |\n|---|---|---|---|")
    for name, (accepted, relayed) in medians.items():
        column = [run[1] for run in rates[name]]
        print(f"| {name} | {accepted:,.0f} | {relayed:,.0f} | {min(column):,.0f} .. {max(column):,.0f} |")
    if Postfix.name in medians:
        ratios = [mine / its for mine, its in zip(medians[Mayfly.name], medians[Postfix.name])]
        print("| ratio | {:.2f} | {:.2f} | |".format(*ratios))


def main(parent):
    missing = servers.tools_missing()
    if missing:
        print(f"Not measured: {missing}", file=sys.stderr)
        return
    kinds = [Mayfly, Postfix]
    if servers.postfix_missing():
        print(f"Postfix is not measured: {servers.postfix_missing()}.", file=sys.stderr)
        kinds.remove(Postfix)
    with contextlib.ExitStack() as stack:
        directory, elsewhere = (pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="mayfly-bench.", dir=place))) for place in (parent, None))
        directory.chmod(0o755)
        sink = stack.enter_context(Sink(elsewhere / "counters"))
        both = [stack.enter_context(kind(directory, sink)) for kind in kinds]
        rates = {server.name: [] for server in both}
        for _ in range(RUNS):
            for server in both:
                rates[server.name].append(measure(server, sink))
    report(rates)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    main(sys.argv[1])
