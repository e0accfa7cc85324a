"""Measures what goes through: messages a second that are accepted, and that have arrived at a sink,
by smtpd with relay and by a private Postfix, in turns, with their queues in DIRECTORY.

    /usr/bin/python3 tests/bench/relay.py DIRECTORY

Postfix is downloaded and unpacked, never installed (tests/system/postfix.py); its smtp-source sends and its
smtp-sink, which forgets, is the smarthost of both.
"""

import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

import postfix  # noqa: E402
from cluster import free_port  # noqa: E402
from deadline import wait_for  # noqa: E402
from programs import Programs  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS", 5))
MESSAGES = int(os.environ.get("BENCH_MESSAGES", 3000))
SIZE = 4096
SESSIONS = 10

# What makes Postfix faster than it comes: it greets the first messages for a destination with many
# connections at once, does not slow down its clients, and logs nothing, where Mayfly writes its log.
POSTFIX = {
    "virtual_mailbox_domains": "",
    "initial_destination_concurrency": 20,
    "default_destination_concurrency_limit": 50,
    "default_process_limit": 260,
    "max_use": 10000,
    "in_flow_delay": 0,
    "smtp_connection_cache_on_demand": "yes",
    "smtpd_client_connection_count_limit": 0,
    "queue_minfree": 0,
    "maillog_file": "",
}


class Sink:
    """smtp-sink, whose counters go into a file: nobody is woken for each message."""

    def __init__(self, elsewhere):
        self.path = elsewhere / "counters"

    def start(self, port):
        program, environment = postfix.program("smtp-sink")
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        with open(self.path, "wb") as counters:
            return subprocess.Popen(
                [program, *as_nobody, "-c", "-m", "5000", f"127.0.0.1:{port}", "1000"], env=environment,
                stdin=subprocess.DEVNULL, stdout=counters, stderr=subprocess.DEVNULL)

    def __enter__(self):
        self.process, self.port = postfix.on_a_free_port(self.start, postfix.listens)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def count(self):
        """Messages so far."""
        with open(self.path, "rb") as counters:
            counters.seek(max(0, os.fstat(counters.fileno()).st_size - 200))
            shown = counters.read().rpartition(b"\r")[0]
        return int(shown.rpartition(b"mesg=")[2] or 0)


class Mayfly:
    """smtpd and relay as they come, with a file system that has the spool and nothing else."""

    name = "smtpd and relay"

    def __init__(self, directory, elsewhere, sink):
        self.spool = directory / "spool"
        self.log = elsewhere / "log"
        self.sink = sink
        self.port = free_port()

    def __enter__(self):
        self.programs = Programs()
        with open(self.log, "wb") as log:
            common = {"SPOOL": self.spool, "SMTPD_DOMAINS": "", "SMTPD_HOSTNAME": "mayfly.example"}
            self.programs.start("smtpd", stderr=log.fileno(), SMTPD_LISTEN=f"127.0.0.1:{self.port}",
                                SMTPD_RELAY_CLIENTS="127.0.0.0/8", **common)
            self.programs.start("relay", stderr=log.fileno(), RELAY_HOST="127.0.0.1",
                                RELAY_PORT=self.sink.port, RELAY_TLS="none", **common)
        return self

    def __exit__(self, *_):
        wrong = self.programs.end()
        assert not wrong, wrong

    def is_empty(self):
        return not any(os.listdir(self.spool / "relay" / name) for name in ("new", "cur"))


class Postfix(postfix.Postfix):
    """A private instance that relays."""

    name = "Postfix"

    def __init__(self, directory, _elsewhere, sink):
        super().__init__(relayhost=f"[127.0.0.1]:{sink.port}", **POSTFIX)
        shutil.rmtree(self.directory)
        self.directory = directory / "postfix"
        self.directory.mkdir()

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
    try:
        postfix.tree()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"Not measured: {error}", file=sys.stderr)
        return
    kinds = [Mayfly, Postfix]
    if os.geteuid() != 0:
        print("Postfix is not measured: its master needs to be root.", file=sys.stderr)
        kinds.remove(Postfix)
    with contextlib.ExitStack() as stack:
        directory, elsewhere = (pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="mayfly-bench.", dir=place))) for place in (parent, None))
        directory.chmod(0o755)
        sink = stack.enter_context(Sink(elsewhere))
        servers = [stack.enter_context(kind(directory, elsewhere, sink)) for kind in kinds]
        rates = {server.name: [] for server in servers}
        for _ in range(RUNS):
            for server in servers:
                rates[server.name].append(measure(server, sink))
    report(rates)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    main(sys.argv[1])
