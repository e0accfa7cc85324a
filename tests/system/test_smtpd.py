"""smtpd as a program: how it starts, stops, logs and keeps within its bounds."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

import smtp
from cluster import free_port
from deadline import wait_for
from programs import memory_slack
from scale import scaled
from spool import DIRECTORIES

MIB = 1 << 20
SESSION = (b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nDATA\r\n"
           b"Subject: x\r\n\r\nx\r\n.\r\n")


# Starting

def test_spool_is_made_at_start(programs, spool):
    old = os.umask(0o077)
    try:
        programs.smtpd(spool)
    finally:
        os.umask(old)
    for path in (spool.path, spool.store, *map(spool.directory, DIRECTORIES)):
        mode = path.stat().st_mode
        assert stat.S_ISDIR(mode) and oct(stat.S_IMODE(mode)) == "0o2770", path


def test_files_are_readable_by_the_group(programs, spool):
    old = os.umask(0o077)
    try:
        smtpd = programs.smtpd(spool)
    finally:
        os.umask(old)
    with smtpd.session("E") as client:
        client.mail()
        client.mail(b"x" * 3_000_000)
    for message in spool.messages():
        assert oct(stat.S_IMODE(message.path.stat().st_mode)) == "0o640"


def test_what_was_there_stays(programs, spool):
    first = programs.smtpd(spool)
    with first.session("E") as client:
        id = client.mail()
    first.stop()
    second = programs.smtpd(spool)
    with second.session("E") as client:
        client.mail()
    assert id in spool.new() and len(spool.messages()) == 2


def test_spool_that_cannot_be(programs, tmp_path):
    (tmp_path / "file").touch()
    done = programs.run("smtpd", SPOOL=tmp_path / "file" / "spool", SMTPD_LISTEN="127.0.0.1:0")
    assert done.returncode not in (0, None) and str(tmp_path / "file") in done.stderr


def test_address_in_use(programs, spool):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = programs.run("smtpd", SPOOL=spool, SMTPD_LISTEN=address)
    assert done.returncode in (69, 71), done
    assert address in done.stderr


def test_several_addresses(programs, spool):
    ports = [free_port(), free_port()]
    programs.smtpd(spool, SMTPD_LISTEN=",".join(f"127.0.0.1:{port}" for port in ports))
    for port in ports:
        smtp.session(("127.0.0.1", port), "E").quit()


def addresses_here(name):
    """The addresses of a name that this machine has, as they are logged."""
    for family, _, _, _, address in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM):
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.bind(address)
            yield f"[{address[0]}]" if family == socket.AF_INET6 else address[0]


def test_listens_on_every_address_of_a_name(programs, spool):
    port = free_port()
    smtpd = programs.smtpd(spool, SMTPD_LISTEN=f"localhost:{port}")
    hosts = set(addresses_here("localhost"))
    smtpd.wait_log(event="ready")
    assert {entry["address"] for entry in smtpd.log(event="listening")} == {
        f"{host}:{port}" for host in hosts}
    for host in hosts:
        smtp.session((host.strip("[]"), port), "E").quit()


def test_port_means_every_address(programs, spool):
    port = free_port()
    programs.smtpd(spool, PORT=port, SMTPD_LISTEN=None)
    smtp.session(("127.0.0.1", port), "E").quit()
    with contextlib.suppress(OSError):
        smtp.session(("::1", port), "E").quit()


def test_inherited_sockets(programs, spool):
    here = ("127.0.0.1", 0)
    with socket.create_server(here) as one, socket.create_server(here) as two:
        start = 'LISTEN_PID=$$ LISTEN_FDS=2; export LISTEN_PID LISTEN_FDS; exec "$0" "$@"'
        placed = f"{start} 3<&{one.fileno()} 4<&{two.fileno()}"
        programs.smtpd(spool, SMTPD_LISTEN="127.0.0.1:1", wrapper=["bash", "-c", placed],
                       pass_fds=(one.fileno(), two.fileno()))
        for listener in (one, two):
            smtp.session(listener.getsockname(), "E").quit()


def test_readiness_does_not_go_to_an_inherited_socket(programs, spool):
    with socket.create_server(("127.0.0.1", 0)) as one:
        start = 'LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$0"'
        ended = subprocess.run(
            ["bash", "-c", f"{start} 3<&{one.fileno()}", programs.path("smtpd")],
            env={"SPOOL": str(spool.path), "READY_FD": "3"}, pass_fds=(one.fileno(),),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 78, ended.stderr
    assert 'setting=READY_FD value=3 expected="a descriptor behind those of LISTEN_FDS"' in (
        ended.stderr)


def test_inherited_sockets_of_another_process_are_ignored(programs, spool):
    smtpd = programs.smtpd(spool, LISTEN_PID="1", LISTEN_FDS="2")
    smtpd.session("E").quit()


def test_ready_once_and_closed(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_LISTEN="127.0.0.1:0")
    assert os.read(smtpd.ready_fd, 10) == b"", "READY_FD is closed after its newline"
    smtpd.session("E").quit()


def test_no_database_in_the_program(programs):
    path = programs.path("smtpd")
    dynamic = subprocess.check_output(["readelf", "-d", path], text=True)
    everything = subprocess.check_output(["ldd", path], text=True)
    assert "NEEDED" in dynamic
    assert "libpq" not in dynamic + everything


def test_runs_no_other_program(programs):
    undefined = subprocess.check_output(["nm", "-D", "--undefined-only", programs.path("smtpd")],
                                        text=True)
    called = re.findall(r" U (\w+)", undefined)
    assert "uv_run" in called
    starts = re.compile(r"exec|v?fork|system$|popen|posix_spawn|uv_spawn")
    assert [name for name in called if starts.match(name)] == []


# Stopping

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_on_request(programs, spool, number):
    smtpd = programs.smtpd(spool)
    smtpd.stop(number)
    with pytest.raises(OSError):
        smtp.Client(smtpd.address)


def test_second_signal_ends_at_once(programs, spool, faults):
    smtpd = programs.smtpd(spool, **faults.settings())
    with smtpd.session("D") as client:
        faults.delay("rename", 30)
        client.content(b"x")
        wait_for(spool.tmp, "the message is being committed")
        smtpd.send_signal(signal.SIGTERM)
        smtpd.wait_log(event="stopping")
        smtpd.stop(seconds=20)
    assert spool.new() == []


def test_does_not_wait_for_a_client_that_does_not_read(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_JUNK=1_000_000)
    client = smtpd.session("E", receive_buffer=4096, timeout=2)
    with contextlib.suppress(OSError):
        client.send(b"HELP\r\n" * 100_000)
    smtpd.stop()
    client.close()


def test_does_not_wait_for_clients_that_send_for_ever(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_ERRORS=4, SMTPD_ERROR_DELAY=2)
    good, delayed = smtpd.session("D"), smtpd.session("R")
    for _ in range(3):
        delayed.command("FOO", 500)
    delayed.command("DATA", 354)
    smtpd.send_signal(signal.SIGTERM)
    while smtpd.returncode is None:
        for client in (good, delayed):
            with contextlib.suppress(OSError):
                client.send(b"and so on\r\n")
        time.sleep(0.1)
    assert smtpd.wait() == 0
    assert smtpd.log(event="stopped") and not smtpd.log(event="stopped_late")
    assert spool.new() == [] and spool.tmp() == []
    good.close()
    delayed.close()


def test_killed_leaves_only_whole_messages(programs, spool):
    smtpd = programs.smtpd(spool)
    clients = [smtpd.session("D") for _ in range(10)]
    for client in clients:
        client.send(b"x" * 500_000)
    with smtpd.session("E") as client:
        id = client.mail()
    smtpd.kill()
    assert [message.id for message in spool.messages()] == [id]


# Disconnections

def test_disconnect_at_every_octet(smtpd, stored):
    complete = 0
    for length in range(len(SESSION) + 1):
        with smtpd.session("G") as client:
            client.send(SESSION[:length])
            client.half_close()
            complete += client.rest().count(b"queued as")
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert complete == 1 and len(stored.messages()) == 1


def test_reset_at_every_octet(smtpd, stored):
    for length in range(len(SESSION) + 1):
        client = smtpd.session("G")
        client.send(SESSION[:length])
        client.reset()
    smtpd.session("E").alive()
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert len(stored.messages()) <= 1


# The disk

def test_messages_that_wait_share_a_commit(programs, spool, faults):
    smtpd = programs.smtpd(spool, **faults.settings())
    clients = [smtpd.session("D") for _ in range(20)]
    faults.delay("rename", 0.05)
    clients[0].content(b"the first")
    wait_for(spool.tmp, "the first commit has begun")
    faults.forget()
    for client in clients[1:]:
        client.content(b"x")
    for client in clients:
        client.reply(250, "2.0.0")
    calls = faults.trace()
    syncs = [call for call in calls if call in ("syncfs", "fsync")]
    if "syncfs" in calls:
        # The first one's, and one for those who came meanwhile; one more where they just missed it.
        assert len(syncs) <= 3, calls
    else:
        # A file each, and the directory once a group.
        assert len(syncs) <= 20 + 3, calls
    assert len(spool.messages()) == 20


def test_large_message_in_small_memory(programs, spool):
    size = scaled(256, 64) * MIB
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=256 * MIB)
    before = most = smtpd.memory()
    with smtpd.session("D") as client:
        piece = bytes(range(33, 97)) * (MIB // 64)
        for _ in range(size // MIB - 1):
            client.send(piece)
            most = max(most, smtpd.memory())
        client.content(b"")
        id = client.reply(250, "2.0.0").id
    assert most - before < memory_slack(8 * MIB)
    path = spool.directory("new") / id
    assert path.stat().st_size > size - MIB


def test_reads_no_faster_than_the_disk_takes_it(programs, spool, faults):
    smtpd = programs.smtpd(spool, **faults.settings())
    before = most = smtpd.memory()
    with smtpd.session("D") as client:
        faults.delay("write", 0.05)
        for _ in range(8):
            client.send(b"x" * MIB)
            most = max(most, smtpd.memory())
        faults.clear()
        client.content(b"")
        client.reply(250, "2.0.0")
    assert most - before < memory_slack(8 * MIB)


def test_idle_connections_cost_little(programs, spool):
    smtpd = programs.smtpd(spool)
    smtpd.session("E").quit()
    before = smtpd.memory()
    clients = [smtpd.session("E", source=f"127.0.0.{2 + n % 4}") for n in range(200)]
    assert smtpd.memory() - before < memory_slack(200 * 32 * 1024)
    for client in clients:
        client.close()


def test_idle_program_uses_no_processor(programs, spool):
    smtpd = programs.smtpd(spool)
    clients = [smtpd.session("E") for _ in range(20)]
    before = smtpd.cpu_seconds()
    time.sleep(2)
    assert smtpd.cpu_seconds() - before < 0.5
    for client in clients:
        client.close()


# What it says

def test_log_of_a_message(programs, spool):
    smtpd = programs.smtpd(spool)
    with smtpd.session("G") as client:
        client.command('EHLO c"\\=x', (250, 501))
        client.command("EHLO c.example", 250)
        id = client.mail(b"Subject: secretly\r\n\r\nsecretly",
                         recipients=["b@t.example", "c@t.example"])
    entry = smtpd.wait_log(event="accepted", id=id)
    assert entry["level"] == "info" and entry["rcpt"] == "2"
    assert entry["client"].startswith("127.0.0.1")
    # What is counted is what the client sent, or that and our trace fields.
    assert int(entry["size"]) in (len(spool.message(id).body), len(spool.message(id).raw))
    assert "secretly" not in smtpd.text()


def test_log_has_no_password_and_no_content(programs, spool):
    smtpd = programs.smtpd(spool, LOG_LEVEL="debug", SMTPD_REJECT_RECIPIENTS="bad@",
                           SMTPD_MAX_ERRORS=1000, SMTPD_ERROR_DELAY=0)
    with smtpd.session("E") as client:
        client.command("AUTH PLAIN hidden", 502)
        client.command("MAIL FROM:<a@c.example>", 250)
        client.command("RCPT TO:<bad@t.example>", 550)
        client.command("DATA", 554)
        client.command("BURL hidden", 502)
        for line in (b"Subject: hidden", b"", b" hidden", b"hidden", b"Mail us what is hidden",
                     b"Data that is hidden", b"EHLO x\nhidden", b"hidden\0",
                     b"x" * 3000 + b"hidden", b"."):
            client.command(line, (500, 501, 503))
        client.alive()
    smtpd.stop()
    assert "hidden" not in smtpd.text()
    assert smtpd.log(event="refused", line="RCPT TO:<bad@t.example>", code=550)
    assert smtpd.log(event="refused", line="DATA", code=554)
    assert smtpd.log(event="refused", line="", code=502, length=len("AUTH PLAIN hidden"))


def test_log_lines_are_short_and_clean(programs, spool):
    smtpd = programs.smtpd(spool, LOG_LEVEL="debug")
    with smtpd.session("G") as client:
        client.command(b"EHLO " + b'"' * 400, (250, 501))
        client.command(b"EHLO \xff\x1b[31m\x07" + b"\\" * 300, (250, 500, 501))
        client.command("EHLO c.example", 250)
        long = "l" * 64 + "@" + ".".join(["d" * 63] * 2) + ".example"
        client.mail(sender=long, recipients=[long])
    smtpd.stop()
    for line in smtpd.lines:
        assert len(line.encode()) <= 999, line
        assert line.isprintable() and line.isascii(), repr(line)
        assert re.match(r"level=(debug|info|warn|error) event=[a-z_]+", line), line




SAMPLE = re.compile(r"(mayfly_[a-z_]+)(?:\{[^}]*\})? (\d+(?:\.\d+)?)")


def samples(path):
    """The file of metrics as {name: sum over its labels}, and whether it is well formed."""
    found = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            found[match[1]] = found.get(match[1], 0) + float(match[2])
    return found


def test_metrics(programs, spool, tmp_path):
    path = tmp_path / "metrics.prom"
    smtpd = programs.smtpd(spool, METRICS_FILE=path)
    wait_for(path.exists, "the file of metrics is written")
    with smtpd.session("E") as client:
        for _ in range(7):
            client.mail()
    first = path.stat().st_ino
    wait_for(lambda: path.stat().st_ino != first, "the file is replaced, not rewritten")
    wait_for(lambda: 7 in samples(path).values(), "seven messages are counted")
    smtpd.stop()
    assert 7 in samples(path).values()
    assert [name.name for name in tmp_path.iterdir() if "metrics" in name.name] == ["metrics.prom"]
    assert "# TYPE mayfly_" in path.read_text() and "# HELP mayfly_" in path.read_text()


def test_reload_that_is_asked_for_while_it_starts(programs, spool):
    """It ends nobody, and is not forgotten: pending from before the start, to be sure of the moment."""
    begin = ("import os, signal, sys\n"
             "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})\n"
             "os.kill(os.getpid(), signal.SIGHUP)\n"
             "os.execv(sys.argv[1], sys.argv[1:])")
    smtpd = programs.smtpd(spool, wrapper=(sys.executable, "-c", begin))
    smtpd.wait_log(event="reloaded")
    smtpd.session("E").alive()
