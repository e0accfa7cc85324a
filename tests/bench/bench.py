"""Measures Mayfly beside a private Postfix and beside the limits of the machine, in turns, and
prints one table of ratios.

    /usr/bin/python3 tests/bench/bench.py [--quick] [--only SECTION…] [--factor F]

BENCH_DIRECTORY names a place to measure in; without it, one is made (volume.py). What something is
missing for is skipped, and the table says so. README.md says what each row means.
"""

import argparse
import contextlib
import dataclasses
import functools
import resource
import shutil
import signal
import statistics
import sys
import time
import traceback

import servers  # first: it knows where the tests' own modules are

import accepting
import growth
import holding
import machine
import reading
import retention
import storing
import tlsfiles
import volume
from cluster import short_directory
from database import Cluster
from table import Table, number


@dataclasses.dataclass
class Size:
    """How much of everything is measured."""
    runs: int
    seconds: float          # of a run of mail at full speed
    bytes: int              # of mail in a run at most
    minute: float           # seconds of mail that is accepted and stored
    searches: int           # of the rate for that at most
    lone: int               # messages by themselves
    backlog: int            # messages for storer alone
    idle: int               # connections that do nothing
    day: int                # messages that expire together
    stream: float           # seconds of inserts before that
    mailbox_messages: int   # messages among which a mailbox is listed
    grown_sessions: int     # connections, messages and waiting messages of which there will be ten
    grown_messages: int     # times as many, and messages in such a run
    grown_backlog: int
    spool_gibibytes: float
    database_gibibytes: float


FULL = Size(runs=5, seconds=2.5, bytes=700 << 20, minute=60, searches=4, lone=200, backlog=100_000,
            idle=2_000, day=1_000_000, stream=10, mailbox_messages=5_000_000,
            grown_sessions=50, grown_messages=20_000, grown_backlog=3_000,
            spool_gibibytes=4, database_gibibytes=14)
QUICK = Size(runs=3, seconds=0.6, bytes=100 << 20, minute=5, searches=2, lone=50, backlog=5_000,
             idle=300, day=50_000, stream=1, mailbox_messages=200_000,
             grown_sessions=20, grown_messages=2_000, grown_backlog=400,
             spool_gibibytes=1, database_gibibytes=2)


def scaled(size, factor):
    """The same with every time and count smaller: to see that a section works, not to measure."""
    counts = {field.name: type(getattr(size, field.name))(getattr(size, field.name) * factor) or 1
              for field in dataclasses.fields(size)
              if field.name != "runs" and not field.name.endswith("gibibytes")}
    return dataclasses.replace(size, **counts)


@dataclasses.dataclass
class Section:
    """Rows that are measured together; `minutes` is about what it takes in full and quick."""
    name: str
    measure: object
    minutes: tuple


SECTIONS = [
    Section("accept", accepting.small, (6, 0.4)),
    Section("sizes", accepting.large, (4, 0.3)),
    Section("sustained", storing.sustained, (5, 0.2)),
    Section("lone", storing.lone, (1, 0.1)),
    Section("storer", storing.alone, (5, 0.2)),
    Section("idle", holding.idle, (2, 0.2)),
    Section("handshakes", holding.handshakes, (1, 0.1)),
    Section("reaper", retention.reap, (4, 0.2)),
    Section("inbox", reading.inbox, (5, 0.2)),
    Section("growth", growth.grow, (6, 0.3)),
]


class Bench:
    """What sections share: places, size, table, certificate, a voice."""

    def __init__(self, places, size, table, stack):
        self.places = places
        self.size = size
        self.table = table
        self.stack = stack
        self.begin = time.monotonic()

    @functools.cached_property
    def pair(self):
        directory = short_directory("mayfly-bench-tls-")
        self.stack.callback(shutil.rmtree, directory, ignore_errors=True)
        return tlsfiles.make(directory)

    @functools.cached_property
    def cluster(self):
        """PostgreSQL, started when somebody wants it."""
        cluster = Cluster(self.places.database)
        self.stack.callback(cluster.remove)
        cluster.start()
        return cluster

    @functools.cached_property
    def no_postfix(self):
        return servers.postfix_missing()

    @functools.cached_property
    def no_sink(self):
        return servers.tools_missing()

    def say(self, text):
        passed = int(time.monotonic() - self.begin)
        print(f"{passed // 60:3}:{passed % 60:02} {text}", file=sys.stderr, flush=True)

    def skip(self, what, why):
        self.say(self.table.skipped(what, why).line())

    def in_turns(self, what, contenders, unit=""):
        """Runs every contender, a function of nothing that returns a figure or a dict of figures,
        one after the other, and all of it as often as runs are wanted, so that a change of the
        machine meets all of them. Returns {name: results}."""
        results = {name: [] for name in contenders}
        for _ in range(self.size.runs):
            for name, measure in contenders.items():
                results[name].append(measure())
        for name, runs in results.items():
            rates = [run["rate"] if isinstance(run, dict) else run for run in runs]
            self.say(f"{what}: {name} {number(statistics.median(rates))}{unit}"
                     f" ({', '.join(map(number, rates))})")
        return results


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--only", nargs="+", metavar="SECTION", default=[],
                        choices=[section.name for section in SECTIONS],
                        help=", ".join(section.name for section in SECTIONS))
    parser.add_argument("--factor", type=float, default=1,
                        help="of every time and count: to see that something works")
    return parser.parse_args()


def measure_all(bench, sections, quick):
    """Runs the sections; returns the names of those that failed. One that fails takes no other with
    it, and its row says so; Ctrl-C ends all, and what was measured until then is shown."""
    failed = []
    for section in sections:
        bench.say(f"{section.name}: about {section.minutes[quick]:g} minutes")
        try:
            section.measure(bench)
        except KeyboardInterrupt:
            failed.append(f"{section.name} and what follows: interrupted")
            break
        except Exception as error:  # a section may fail by whatever it uses
            traceback.print_exc()
            failed.append(section.name)
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            bench.table.skipped(f"**{section.name} failed**", said[:200].replace("|", "/"))
    return failed


def heading(size, quick, places, seconds, loads, others):
    """Which machine, where, and whether it was quiet."""
    lines = [f"{time.strftime('%Y-%m-%d')}, {machine.description()}, on {places.what}.",
             f"Medians of {size.runs} runs in turns{', small ones' if quick else ''}; "
             f"{seconds / 60:.0f} minutes.",
             "Load {:.1f} at the beginning and {:.1f} at the end; others took {:.0f} % of the "
             "processors before and {:.0f} % after.".format(
                 *loads, *(100 * share for share in others))]
    if max(others) > 0.1:
        lines.append("**The machine was not quiet: this table says little.**")
    return "\n".join(lines)


def main():
    asked = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    size = scaled(QUICK if asked.quick else FULL, asked.factor)
    sections = [section for section in SECTIONS if section.name in (asked.only or section.name)]
    begin, load, others = time.monotonic(), machine.load(), machine.others()
    table = Table()
    with contextlib.ExitStack() as stack:
        places = stack.enter_context(volume.places(size.spool_gibibytes, size.database_gibibytes))
        failed = measure_all(Bench(places, size, table, stack), sections, asked.quick)
    time.sleep(2)   # what was ended is gone
    print(heading(size, asked.quick, places, time.monotonic() - begin, (load, machine.load()),
                  (others, machine.others())), end="\n\n")
    print(table.markdown())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
