"""The tools of the benchmark do what their numbers say: what load says it sent is in the spool,
what it says of time is the server's, and what files and copy count is there."""

import contextlib
import re
import subprocess
import time

import pytest

import postfix
from faults import Faults
from hostile import RIGHT, Gone, Hostile
from programs import BUILD, environment
from spool import Spool
from deadline import wait_for

SIZE = 3001
MESSAGES = 24
SESSIONS = 4
REPORT = {
    "load": ["ok", "rejected", "errors", "connections", "seconds", "rate", "dot_p50_ms",
             "dot_p99_ms", "dot_max_ms", "message_p50_ms", "message_p99_ms", "cpu_seconds"],
    "handshakes": ["handshakes", "errors", "seconds", "rate", "cpu_seconds"],
    "files": ["files", "seconds", "rate", "mb_per_second", "cpu_seconds"],
    "copy": ["rows", "seconds", "rate", "cpu_seconds"],
}


def command(tool, *args):
    program = BUILD / "tests" / "bench" / tool
    assert program.exists(), f"{program} is not there: make bench-tools"
    return [str(program), *map(str, args)]


def run(tool, *args, code=0, **settings):
    """Runs a tool to its end, which is to have this exit code."""
    done = subprocess.run(command(tool, *args), env=environment(settings), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == code, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done


def numbers(done, report):
    """The one line that it printed, as {name: number}."""
    found = dict(re.fullmatch(r"(\w+)=([0-9.]+)", word).groups() for word in done.stdout.split())
    assert list(found) == REPORT[report] and done.stdout.count("\n") == 1
    return {name: float(number) for name, number in found.items()}


def load(port, *args, code=0):
    return numbers(run("load", *args, f"127.0.0.1:{port}", code=code), "load")


@pytest.fixture(scope="module")
def tls_smtpd(module_programs, module_spool, pair):
    """With a certificate, for those who say STARTTLS and those who do not."""
    return module_programs.smtpd(module_spool, **pair.settings())


@pytest.fixture
def sent(tls_smtpd, module_spool):
    """Sends by load; returns what it says, and what has come."""
    module_spool.clear()
    return lambda *args: (load(tls_smtpd.port, *args), module_spool.messages())


# load

@pytest.mark.parametrize("options", ["", "-k", "-p", "-k -p", "-t", "-k -t -p", "-r 400",
                                     "-k -r 400"])
def test_what_was_sent_has_come(sent, options):
    said, messages = sent(*options.split(), "-n", MESSAGES, "-s", SESSIONS, "-l", SIZE,
                          "-u", 5, "-d", "t.example")
    assert said["ok"] == MESSAGES == len(messages)
    assert said["rejected"] == said["errors"] == 0
    assert said["connections"] == (SESSIONS if "-k" in options else MESSAGES)
    assert {len(message.body) for message in messages} == {SIZE}
    assert {message.protocol for message in messages} == {"ESMTPS" if "-t" in options else "ESMTP"}
    assert sorted(recipient for message in messages for recipient in message.recipients) == sorted(
        f"user{number % 5}@t.example" for number in range(MESSAGES))
    assert 0 < said["dot_p50_ms"] <= said["dot_p99_ms"] <= said["dot_max_ms"]
    assert said["dot_p50_ms"] <= said["message_p50_ms"] <= said["message_p99_ms"]
    assert said["rate"] == pytest.approx(MESSAGES / said["seconds"], rel=0.1)
    assert 0 < said["cpu_seconds"]
    if "-r" in options:
        assert said["seconds"] >= (MESSAGES - 1) / 400


@pytest.mark.parametrize("options", ["", "-t"])
def test_a_message_that_no_socket_takes_at_once(sent, options):
    size = 5_000_000
    said, messages = sent(*options.split(), "-k", "-n", 2, "-s", 2, "-l", size)
    assert said["ok"] == 2
    bodies = [message.body for message in messages]
    assert [len(body) for body in bodies] == [size, size]
    header, _, text = bodies[0].partition(b"\r\n\r\n")
    assert header.startswith(b"From: ") and b"base64" in header
    assert text.endswith(b"\r\n")
    lines = text[:-2].split(b"\r\n")
    assert all(re.fullmatch(rb"[A-Za-z0-9+/]{1,76}", line) for line in lines)
    assert len(set(lines)) == len(lines)


def test_a_kept_connection_of_which_the_server_has_enough(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_MESSAGES=10)
    said = load(smtpd.port, "-k", "-s", 1, "-n", 35)
    assert (said["ok"], said["connections"], said["rejected"]) == (35, 4, 0)
    assert len(spool.new()) == 35


@pytest.mark.parametrize("options", ["", "-k", "-p", "-k -p"])
def test_what_was_refused_is_counted(programs, spool, options):
    smtpd = programs.smtpd(spool, SMTPD_REJECT_RECIPIENTS="user1@")
    said = load(smtpd.port, *options.split(), "-s", 3, "-n", 20, "-u", 4, code=1)
    assert (said["ok"], said["rejected"], said["errors"]) == (15, 5, 0)
    assert len(spool.new()) == 15


def go(_):
    raise Gone


def test_servers_that_are_no_good():
    with Hostile({"END": go}, ill=None) as server:
        said = load(server.port, "-n", 8, "-s", 2, code=1)
        assert (said["ok"], said["errors"]) == (0, 8)
        gone = server.port
    assert load(gone, "-n", 8, "-k", code=1)["errors"] == 8
    with Hostile({"DATA": b"what?\r\n"}, ill=1) as server:
        said = load(server.port, "-n", 8, "-s", 2, code=1)
        assert (said["ok"], said["errors"]) == (7, 1)


def test_replies_in_pieces():
    with Hostile(ill=None, pieces=1) as server:
        assert load(server.port, "-n", 3, "-k", "-p")["ok"] == 3
        assert len(server.messages) == 3


def slow(talk):
    """An answer that takes 50 ms."""
    time.sleep(0.05)
    return talk.send(RIGHT["END"])


def test_time_is_the_servers():
    with Hostile({"END": slow}, ill=None) as server:
        said = load(server.port, "-k", "-s", 1, "-n", 4)
        assert said["dot_p50_ms"] >= 50 and said["message_p50_ms"] >= 50
        # One after the other, where each was due at once: the last one waited for all.
        said = load(server.port, "-k", "-s", 1, "-n", 4, "-r", 10_000)
        assert said["message_p99_ms"] >= 199
        assert said["message_p99_ms"] > 2 * said["dot_p50_ms"]


@pytest.mark.parametrize("args", [["192.0.2.1:25"], ["[2001:db8::1]:25"], ["127.0.0.1"],
                                  ["-n", "0", "127.0.0.1:1"], ["-l", "1", "127.0.0.1:1"],
                                  ["-n", "1x", "127.0.0.1:1"], ["-D", "127.0.0.1:1"]])
def test_what_load_does_not_take(args):
    assert run("load", *args, code=64).stdout == ""


@pytest.mark.parametrize("options", [[], ["-t"]])
def test_idle_connections(tls_smtpd, options):
    count = 2 * tls_smtpd.descriptors()
    with subprocess.Popen(command("load", "-i", count, *options, f"127.0.0.1:{tls_smtpd.port}"),
                          env=environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as idle:
        try:
            assert idle.stdout.readline() == f"idle_up={count} errors=0\n"
            assert tls_smtpd.descriptors() > count
            idle.stdin.close()
            assert idle.wait(30) == 0
        finally:
            idle.kill()
    wait_for(lambda: tls_smtpd.descriptors() < count, "they are closed")


def test_idle_connections_that_are_refused(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=20)
    done = run("load", "-i", 30, "-w", "0.01", f"127.0.0.1:{smtpd.port}", code=1)
    assert done.stdout == "idle_up=20 errors=10\n"


def test_handshakes(tls_smtpd, programs, spool, pair):
    done = run("load", "-H", 12, "-s", 3, f"127.0.0.1:{tls_smtpd.port}")
    assert numbers(done, "handshakes")["handshakes"] == 12
    with Hostile(ill=None, pair=pair) as server:
        done = run("load", "-H", 5, f"127.0.0.1:{server.port}")
        assert numbers(done, "handshakes")["handshakes"] == 5
        wait_for(lambda: server.context.session_stats()["accept_good"] == 5, "five handshakes")
        assert server.context.session_stats()["hits"] == 0
    done = run("load", "-H", 5, f"127.0.0.1:{programs.smtpd(spool).port}", code=1)
    assert numbers(done, "handshakes")["errors"] == 5


def test_handshakes_without_smtp(pair, tmp_path):
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(tmp_path / "log", "wb"))

        def start(port):
            return subprocess.Popen(
                ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pair.cert,
                 "-key", pair.key, "-naccept", "6", "-www"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        server, port = postfix.on_a_free_port(start, postfix.listens)
        stack.callback(server.wait)
        stack.callback(server.kill)
        done = run("load", "-H", 6, "-s", 1, "-D", f"127.0.0.1:{port}")
        assert numbers(done, "handshakes")["handshakes"] == 6
        assert server.wait(30) == 0


# files and copy

EACH = ["fsync", "rename", "fsync"]
SYNCFS = [*["rename"] * 8, "syncfs", *["rename"] * 8, "syncfs", *["rename"] * 4, "syncfs"]


@pytest.mark.parametrize("options, calls", [("each", EACH * 20), ("syncfs -b 8", SYNCFS),
                                            ("each -t 2", EACH * 20), ("syncfs -b 8 -t 2", SYNCFS)])
def test_files(fault_library, tmp_path, options, calls):
    place = tmp_path / "place"
    place.mkdir()
    faults = Faults(fault_library, tmp_path, Spool(place))
    args = ["-m", *options.split(), "-n", 20, "-l", SIZE]
    done = run("files", *args, "-k", place, **faults.settings())
    assert numbers(done, "files")["files"] == 20
    made = list((place / "new").iterdir())
    assert [path.stat().st_size for path in made] == [SIZE] * 20
    assert not any((place / "tmp").iterdir())
    made_of = [call for call in faults.trace() if call in ("fsync", "rename", "syncfs")]
    # The first one makes way.
    if "-t" not in options:
        assert made_of[1:] == calls
    assert sorted(made_of[1:]) == sorted(calls)
    run("files", *args, place)
    assert set((place / "new").iterdir()) == set(made)
    faults.fail(calls[-1], "EIO")
    run("files", *args, place, code=71, **faults.settings())


def test_copy(database):
    done = run("copy", "-n", 50, "-l", SIZE, "-b", 20, "-u", 7, database.url)
    assert numbers(done, "copy")["rows"] == 50
    assert database.query("SELECT count(*), count(DISTINCT raw), min(length(raw)), max(size),"
                          " count(DISTINCT xmin::text) FROM messages") == [(50, 50, SIZE, SIZE, 3)]
    assert database.query(
        "SELECT count(*), count(DISTINCT username),"
        " bool_and(username = address_username(recipient) AND domain = address_domain(recipient))"
        " FROM deliveries JOIN messages ON messages.id = message_id"
        " AND messages.received_at = deliveries.received_at") == [(50, 7, True)]
    assert database.value("SELECT count(*) FROM emails WHERE username = 'user0'") == 8
    failed = run("copy", "-n", 1, "-l", 100, "-b", 1, database.url + "_no_such", code=1)
    assert "_no_such" in failed.stderr
