"""What the benchmark makes of what it has measured, and the server that forgets, which it stands
beside. That the figures themselves are right is the tools' matter (test_bench_tools.py)."""

import socket
import subprocess
import sys
import time

import pytest

from cluster import ROOT
from postfix import listens, on_a_free_port

sys.path.insert(0, str(ROOT / "tests" / "bench"))

import accepting  # noqa: E402
import storing  # noqa: E402
import bench_tools  # noqa: E402
from table import Goal, Table, number  # noqa: E402


@pytest.mark.parametrize("value, want", [(0, "0"), (0.0123, "0.012"), (1.234, "1.23"),
                                         (12.34, "12.3"), (1234.5, "1,234"), (None, "–")])
def test_numbers_have_three_digits(value, want):
    assert number(value) == want


def test_a_ratio_is_that_of_the_medians_and_shows_its_range():
    row = Table().ratio("x", [10, 30, 20], [10, 10, 5], "/s", "other", Goal(least=2))
    assert row.mine == "20.0 /s" and row.beside == "10.0 other"
    assert row.ratio == "2.00 × (1.00 to 4.00)" and row.verdict == "yes"


@pytest.mark.parametrize("goal, value, want", [
    (Goal(least=2), 2, "yes"), (Goal(least=2), 1.99, "**no**"),
    (Goal(most=2), 2, "yes"), (Goal(most=2), 2.01, "**no**"), (None, 2, "")])
def test_a_goal_is_reached_or_not(goal, value, want):
    assert Table().figure("x", [value], "ms", goal).verdict == want


def test_what_is_not_measured_has_no_verdict():
    table = Table()
    table.skipped("x", "there is no y")
    assert table.markdown().splitlines()[-1] == "| x | not measured | there is no y |  |  |  |"


def test_loopback_is_taken_off_in_time_not_in_rate():
    # 10 ms a message, of which 6 are the loopback's: 4 are left.
    assert accepting.without_loopback(100, 1 / 0.006) == pytest.approx(250)


def test_a_backlog_that_only_swings_does_not_grow(spool):
    backlog = storing.Backlog(spool)
    backlog.seen = [0, 0, 0, 10, 30, 20, 30, 10, 20]
    assert backlog.growth() == 0
    backlog.seen = [0, 0, 0, 10, 20, 30, 40, 50, 60]
    assert backlog.growth() == 30


@pytest.fixture
def sink():
    process, port = on_a_free_port(lambda port: subprocess.Popen([bench_tools.path("sink"), str(port)]),
                                   listens)
    yield port
    process.kill()
    process.wait(60)


def test_the_sink_takes_all_that_is_sent(sink):
    for keep in (False, True):
        said = bench_tools.load(sink, 5, 100, 70_000, keep)
        assert said["ok"] == 100 and said["errors"] == said["rejected"] == 0


@pytest.mark.parametrize("body", [b"", b"x\r\n", b"..\r\n\r.\r\n.x\r\n\n.\r\n"])
def test_the_sink_finds_the_end_in_whatever_pieces_it_comes(sink, body):
    """A reply too early would be one too many: what is left of the data would be a command."""
    whole = body + b".\r\n"
    want = ["220"]
    with socket.create_connection(("127.0.0.1", sink), 30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = client.makefile("r")
        got = [replies.readline()[:3]]
        for cut in range(1, len(whole)):
            client.sendall(b"DATA\r\n")
            got.append(replies.readline()[:3])
            client.sendall(whole[:cut])
            time.sleep(0.01)
            client.sendall(whole[cut:])
            got.append(replies.readline()[:3])
            want += ["354", "250"]
        client.sendall(b"QUIT\r\n")
        got += [line[:3] for line in replies]
    assert got == [*want, "221"]
