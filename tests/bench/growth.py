"""Whether a message costs more where there is more of everything: ten times the backlog, the
connections, the mailboxes. Costs are those of the server, PostgreSQL's among them, and of time."""

import bench_tools
from accepting import Cell, column, send
from holding import limits
from servers import Mayfly, remove_tree
from storing import make_backlog, store_backlog
from table import Goal

TIMES = 10
WITHIN = Goal(most=1.2)


def rows(bench, what, few, many):
    """Costs at ten times as much, beside those at once."""
    for name, key, unit in (("CPU", "cpu_us", "µs"), ("time", "us", "µs")):
        bench.table.ratio(f"{name} a message, {what}", column(many, key), column(few, key), unit,
                          f"{unit} at a tenth", WITHIN)


def sent(server, bench, sessions, count, clear=True):
    """Costs of mail that is accepted."""
    cell = Cell("", sessions)
    result = send(server, cell, count, bench.places.spool, clear)
    return {"rate": result["rate"], "us": 1e6 / result["rate"], "cpu_us": result["cpu_us"]}


def connections(bench):
    few, count = bench.size.grown_sessions, bench.size.grown_messages
    with Mayfly(bench.places.spool, **limits(few * TIMES)) as server:
        sent(server, bench, few * TIMES, count)
        results = bench.in_turns("accepted", {
            sessions: lambda sessions=sessions: sent(server, bench, sessions, count)
            for sessions in (few, few * TIMES)}, "/s")
    rows(bench, f"accepted, with {few * TIMES} connections at once", *results.values())


def idle_beside(bench):
    """Mail that is accepted while others hold a connection and say nothing."""
    few, count = bench.size.idle // TIMES, bench.size.grown_messages

    def measure(server, idle):
        with bench_tools.idle(server.port, idle, False):
            return sent(server, bench, 50, count)

    with Mayfly(bench.places.spool, **limits(few * TIMES + 50)) as server:
        sent(server, bench, 50, count)
        results = bench.in_turns("accepted beside idle connections", {
            idle: lambda idle=idle: measure(server, idle) for idle in (few, few * TIMES)}, "/s")
    rows(bench, f"accepted, beside {few * TIMES:,} idle connections", *results.values())


def fill_spool(server, count, sessions):
    """So many messages that wait while others come."""
    server.reset()
    bench_tools.load(server.port, sessions, count, keep=True)


def accepted_behind(bench):
    """Mail that is accepted while others wait for storer."""
    few, count = bench.size.grown_backlog, bench.size.grown_messages

    def measure(server, waiting):
        fill_spool(server, waiting, 50)
        return sent(server, bench, 50, count, clear=False)

    with Mayfly(bench.places.spool) as server:
        sent(server, bench, 50, count)
        results = bench.in_turns("accepted behind a backlog", {
            waiting: lambda waiting=waiting: measure(server, waiting)
            for waiting in (few, few * TIMES)}, "/s")
    rows(bench, f"accepted, with {few * TIMES:,} that wait", *results.values())


def stored(bench, what, kinds):
    """Mail that is stored, of two backlogs, each {name: (messages, mailboxes)}."""
    places = {name: bench.places.spool / f"backlog-{name}" for name in kinds}
    for name, (count, mailboxes) in kinds.items():
        make_backlog(bench, places[name], count, mailboxes)
    try:
        results = bench.in_turns(what, {
            name: lambda name=name: store_backlog(bench, places[name], kinds[name][0])
            for name in kinds}, "/s")
    finally:
        for place in places.values():
            remove_tree(place)
    rows(bench, what, *results.values())


def grow(bench):
    few, many = bench.size.grown_backlog, TIMES * bench.size.grown_backlog
    connections(bench)
    idle_beside(bench)
    accepted_behind(bench)
    stored(bench, f"stored, of a backlog of {many:,}", {"few": (few, 1000), "many": (many, 1000)})
    stored(bench, f"stored, into {many:,} mailboxes", {"few": (many, few), "many": (many, many)})
