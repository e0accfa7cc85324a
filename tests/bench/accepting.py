"""Mail taken with a promise: how fast, for how much CPU and how many flushes, beside Postfix,
beside smtp-sink, which promises nothing, and beside durable files that nobody sent."""

import contextlib
import dataclasses
import statistics

import machine
import bench_tools
from servers import ACCEPT_ONLY, Mayfly, Nothing, Postfix, Sink, remove_tree
from table import Goal, number

KIB = 1 << 10


@dataclasses.dataclass
class Cell:
    """A way of sending."""
    what: str
    sessions: int
    size: int = 4 * KIB
    keep: bool = False
    goal: float = None


SMALL = [
    Cell("one message a connection, 10 sessions", 10, goal=3.5),
    Cell("one message a connection, 50 sessions", 50, goal=3.5),
    Cell("connections kept, 10 sessions", 10, keep=True, goal=5),
    Cell("connections kept, 50 sessions", 50, keep=True, goal=5),
]
LARGE = [
    Cell("64 KiB, 10 sessions", 10, 64 * KIB, goal=2),
    Cell("1 MiB, 10 sessions", 10, 1024 * KIB, goal=2),
]
PROFILED = SMALL[1]
OF_FILES = Goal(least=0.8)


def send(server, cell, count, path, clear=True):
    """One run: what the client saw, and what the machine spent on it besides the client. What lies
    in the queue is cleared away before it, or not."""
    if clear:
        server.reset()
    busy, own = machine.busy_seconds(), machine.cpu_seconds(server.pids())
    flushed = machine.flushes(path)
    result = bench_tools.load(server.port, cell.sessions, count, cell.size, cell.keep)
    busy, own = machine.busy_seconds() - busy, machine.cpu_seconds(server.pids()) - own
    result["cpu_us"] = 1e6 * (busy - result["cpu_seconds"]) / count
    result["own_us"] = 1e6 * own / count
    if flushed is not None:
        result["flushes"] = (machine.flushes(path) - flushed) / count
    return result


def count_for(bench, server, cell):
    """How many messages make a run. What runs before is not counted: caches are filled by it, and
    Postfix starts a process for each session."""
    trial = max(4 * cell.sessions, 100) if cell.size < 1024 * KIB else 20
    server.reset()
    for _ in range(2):
        rate = bench_tools.load(server.port, cell.sessions, trial, cell.size, cell.keep)["rate"]
    most = min(rate * bench.size.seconds, bench.size.bytes / cell.size)
    return max(int(most), 2 * cell.sessions)


@contextlib.contextmanager
def contenders(bench):
    """The servers that can be measured here."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(Mayfly(bench.places.spool))]
        if bench.no_postfix is None:
            found.append(stack.enter_context(Postfix(bench.places.spool, **ACCEPT_ONLY)))
        if bench.no_sink is None:
            found.append(stack.enter_context(Sink()))
        found.append(stack.enter_context(Nothing()))
        yield found


def runs_of(bench, found, cell, **more):
    """{name: runs} of all servers, and of `more`, in one way of sending."""
    measures = {}
    for server in found:
        count = count_for(bench, server, cell)
        measures[server.name] = (lambda server=server, count=count:
                                 send(server, cell, count, bench.places.spool))
    return bench.in_turns(cell.what, measures | more, "/s")


def column(runs, name):
    return [run[name] for run in runs if name in run]


def beside_postfix(bench, cell, results):
    what = f"accepted durably: {cell.what}"
    if Postfix.name not in results:
        bench.skip(f"{what}, beside Postfix", bench.no_postfix)
        return
    bench.table.ratio(what, column(results["Mayfly"], "rate"), column(results["Postfix"], "rate"),
                      "/s", "Postfix", Goal(least=cell.goal))


def beside_sink(bench, cell, results):
    """No goal: what is left of what client and loopback can do at most."""
    for sink in (Sink, Nothing):
        what = f"… of what {sink.name}, client and loopback can do: {cell.what}"
        if sink.name in results:
            bench.table.ratio(what, column(results["Mayfly"], "rate"),
                              column(results[sink.name], "rate"), "/s", sink.name)
        else:
            bench.skip(what, bench.no_sink)


def at_fifty(bench, results):
    """What a message costs at 50 sessions."""
    mine = results["Mayfly"]
    own = statistics.median(column(mine, "own_us"))
    theirs = results.get("Postfix", [])
    of_postfix = (f"{number(statistics.median(column(theirs, 'cpu_us')))} µs Postfix"
                  if theirs else "")
    bench.table.figure("CPU a message, of everything but the client: one message a connection, 50 "
                       f"sessions (smtpd itself: {number(own)} µs)", column(mine, "cpu_us"), "µs",
                       Goal(most=150, unit="µs"), of_postfix)
    flushed = column(mine, "flushes")
    if flushed:
        of_postfix = (f"{number(statistics.median(column(theirs, 'flushes')))} Postfix"
                      if theirs else "")
        bench.table.figure("flushes a message, 50 sessions", flushed, "", Goal(most=0.15, unit=""),
                           of_postfix)
    else:
        bench.skip("flushes a message, 50 sessions", "the kernel does not count them for this disk")
    if theirs:
        bench.table.ratio("reply to the dot, p99, 50 sessions", column(mine, "dot_p99_ms"),
                          column(theirs, "dot_p99_ms"), "ms", "ms Postfix", Goal(most=0.25))
    else:
        bench.skip("reply to the dot, p99, 50 sessions", bench.no_postfix)


def durable(bench, size, method, threads, batch):
    """A measure of files a second, as a function of nothing."""
    def measure():
        directory = bench.places.spool / "files"
        directory.mkdir()
        try:
            return bench_tools.files(directory, method, size, count, threads, batch)
        finally:
            remove_tree(directory)

    count = 4 * max(threads, batch)
    count = max(count, int(min(measure()["rate"] * bench.size.seconds, bench.size.bytes / size)))
    return measure


def limits(bench, size, sessions):
    """Durable files of that size as fast as this disk has them from so many at once: each for
    itself in as many threads, or in groups as large as all that wait, by one syncfs."""
    return {f"{sessions} threads, fsync each": durable(bench, size, "each", sessions, 1),
            f"groups of {sessions}, syncfs": durable(bench, size, "syncfs", 1, sessions)}


def best(results, names):
    """(name, rates) of the fastest."""
    name = max(names, key=lambda name: statistics.median(column(results[name], "rate")))
    return name, column(results[name], "rate")


def small(bench):
    with contenders(bench) as found:
        for cell in SMALL:
            results = runs_of(bench, found, cell)
            beside_postfix(bench, cell, results)
            beside_sink(bench, cell, results)
            if cell is PROFILED:
                at_fifty(bench, results)
        alone = bench.in_turns("durable files of 4 KiB",
                               limits(bench, cell.size, cell.sessions), "/s")
        name, rates = best(alone, alone)
        bench.table.ratio(f"… of durable files of that size: {cell.what}",
                          column(results["Mayfly"], "rate"), rates, "/s", f"files/s ({name})")


def without_loopback(rate, limit):
    """A rate with what client and loopback take of each message's time taken off."""
    return 1 / (1 / rate - 1 / limit)


def beside_files(bench, cell, results, alone):
    what = f"… of durable files of that size, loopback taken off: {cell.what}"
    name, rates = best(results, alone)
    whole, sink = (statistics.median(column(results[server.name], "rate"))
                   for server in (Mayfly, Nothing))
    plain = whole / statistics.median(rates)
    beside = f"{number(statistics.median(rates))} files/s ({name}); {number(plain)} × with loopback"
    if whole >= sink:
        bench.table.add(what, f"{number(whole)} /s", beside,
                        "as fast as sink, which writes nothing", OF_FILES, float("inf"))
        return
    value = without_loopback(whole, sink) / statistics.median(rates)
    bench.table.add(what, f"{number(without_loopback(whole, sink))} /s", beside,
                    f"{number(value)} ×", OF_FILES, value)


def large(bench):
    with contenders(bench) as found:
        for cell in LARGE:
            alone = limits(bench, cell.size, cell.sessions)
            results = runs_of(bench, found, cell, **alone)
            beside_postfix(bench, cell, results)
            beside_sink(bench, cell, results)
            beside_files(bench, cell, results, alone)
