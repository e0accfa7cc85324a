"""Connections that do nothing, and what they hold; and handshakes, of which TLS mostly consists."""

import contextlib
import os
import shutil
import statistics
import subprocess
import time

import machine
import postfix
import bench_tools
from accepting import column
from servers import ACCEPT_ONLY, Mayfly, Postfix
from table import Goal, number

# A tenth of what smtpd gets: Postfix has a process for each.
OF_POSTFIX = 10


def limits(count):
    """All connections come from one address here."""
    return {"SMTPD_MAX_CONNECTIONS_PER_CLIENT": count + 10, "SMTPD_MAX_CONNECTIONS": count + 100}


def held(server, count, tls):
    """KiB that a connection holds in a server that is fresh, but for one connection before: what is
    set up once is not a connection's."""
    with bench_tools.idle(server.port, 1, tls):
        pass
    time.sleep(0.2)
    before = machine.pss(server.pids())
    with bench_tools.idle(server.port, count, tls):
        time.sleep(0.5)
        return (machine.pss(server.pids()) - before) / count


def of_mayfly(bench, pair, count):
    with Mayfly(bench.places.spool, pair, **limits(count)) as server:
        return held(server, count, pair is not None)


def of_postfix(bench, pair, count):
    with Postfix(bench.places.spool, pair, **ACCEPT_ONLY) as server:
        return held(server, count, pair is not None)


def idle(bench):
    count = bench.size.idle
    for what, pair, goal in (("in the clear", None, Goal(most=2, unit="KiB")),
                             ("with TLS", bench.pair, None)):
        contenders = {"Mayfly": lambda: of_mayfly(bench, pair, count)}
        if bench.no_postfix is None:
            contenders["Postfix"] = lambda: of_postfix(bench, pair, count // OF_POSTFIX)
        results = bench.in_turns(f"idle {what}", contenders, " KiB")
        beside = (f"{number(statistics.median(results['Postfix']))} KiB Postfix"
                  if "Postfix" in results else bench.no_postfix)
        bench.table.figure(f"an idle connection after EHLO, {what}, PSS, {count:,} of them",
                           results["Mayfly"], "KiB", goal, beside)


class OpenSSL:
    """`openssl s_server`: a handshake, and no more. One ticket, as smtpd gives."""

    def __init__(self, pair, wrapper):
        self.pair = pair
        self.wrapper = wrapper

    def _start(self, port):
        return subprocess.Popen(
            [*self.wrapper, "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet",
             "-num_tickets", "1", "-cert", self.pair.cert, "-key", self.pair.key],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        self.process, self.port = postfix.on_a_free_port(self._start, postfix.listens)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


    def pids(self):
        return [self.process.pid]


def shake(server, count, core):
    """One run. `rate` is by the server's own time: where the client is the slower one, and an ECDSA
    signature costs it more to verify than the server to make, the clock on the wall shows the
    client's."""
    own = machine.cpu_seconds(server.pids())
    result = bench_tools.handshakes(server.port, count, isinstance(server, OpenSSL), core)
    own = machine.cpu_seconds(server.pids()) - own
    return {"rate": count / max(own, 0.01), "wall": result["rate"]}


def handshakes(bench):
    """The server has one core to itself, and the client another."""
    what = "STARTTLS handshakes a second of one core's time"
    cores = sorted(os.sched_getaffinity(0))
    missing = [name for name in ("openssl", "taskset") if not shutil.which(name)]
    if missing or len(cores) < 2:
        bench.skip(what, f"there is no {missing[0]}" if missing else "there is one core alone")
        return
    pinned = ["taskset", "-c", str(cores[0])]
    with contextlib.ExitStack() as stack:
        servers = {"Mayfly": stack.enter_context(Mayfly(bench.places.spool, bench.pair, pinned)),
                   "s_server": stack.enter_context(OpenSSL(bench.pair, pinned))}
        measures = {}
        for name, server in servers.items():
            count = max(100, int(shake(server, 100, cores[1])["wall"] * bench.size.seconds))
            measures[name] = (lambda server=server, count=count: shake(server, count, cores[1]))
        results = bench.in_turns(what, measures, "/s")
    walls = [number(statistics.median(column(runs, "wall"))) for runs in results.values()]
    bench.table.ratio(what, column(results["Mayfly"], "rate"), column(results["s_server"], "rate"),
                      "/s", f"openssl s_server (on the clock: {walls[0]} and {walls[1]})",
                      Goal(least=0.9))
