"""Confinement of the real smtpd: what is forbidden, tried from inside; what goes on; what is left of
its privileges; kernels that lack what it takes."""

import os
import pathlib
import socket

import pytest

import smtp
import tlsfiles
from cluster import short_directory
from confined import compile, landlock_version, threads
from deadline import wait_for

pytestmark = pytest.mark.skipif(landlock_version() < 2, reason="no Landlock to be confined by")

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
UID, GROUP = 61001, 61000
DAC_OVERRIDE = 1 << 1


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """A wrapper for programs: lacking("landlock")."""
    tool = compile("lacking.c", tmp_path_factory.mktemp("lacking") / "lacking")
    return lambda what: [str(tool), what]


def hang_up(smtpd):
    """SIGHUP, and waits until smtpd has done what it does then."""
    before = len(smtpd.log(event="reloaded"))
    smtpd.send_signal(1)
    wait_for(lambda: len(smtpd.log(event="reloaded")) > before, "everything is read again")


# From inside

def test_what_is_forbidden_is_refused_on_the_loop_and_in_the_pool(programs, spool, tmp_path):
    library = compile("confined.c", tmp_path / "confined.so", "-shared", "-fPIC")
    directory = pathlib.Path(short_directory("mayfly-outside-"))
    (directory / "secret").write_text("nobody's")
    domains = tmp_path / "lists" / "domains"
    domains.parent.mkdir()
    domains.write_text("t.example\n")
    programs.smtpd(spool).stop()
    for name in ("tmp", "new"):
        (spool.directory(name) / "there").write_text("a message\n")
    report = tmp_path / "report"
    with socket.create_server(("127.0.0.1", 0)) as server, \
            socket.socket(socket.AF_UNIX) as local:
        local.bind(str(directory / "socket"))
        local.listen()
        smtpd = programs.smtpd(
            spool, LD_PRELOAD=library, SMTPD_DOMAINS=f"@{domains}", SMTPD_CONFINE="require",
            METRICS_FILE=tmp_path / "metrics" / "m.prom", CONFINED_REPORT=report,
            CONFINED_SPOOL=spool.path, CONFINED_OUTSIDE=directory, CONFINED_LIST=domains,
            CONFINED_PORT=server.getsockname()[1],
            ASAN_OPTIONS=":".join(filter(None, [os.environ.get("ASAN_OPTIONS"),
                                                "verify_asan_link_order=0"])))
        with smtpd.session("E") as client:
            ids = [client.mail() for _ in range(3)]
    tried = [line.split(" ", 3) for line in report.read_text().splitlines()]
    assert [line for line in tried if line[1] != "right"] == []
    assert [line[0] for line in tried if line[3] == "done"] == ["loop", "pool"]
    assert len(tried) > 2 * 100
    assert set(ids) <= set(spool.new())
    assert sorted(path.name for path in directory.iterdir()) == ["secret", "socket"]
    (directory / "secret").unlink()
    (directory / "socket").unlink()
    directory.rmdir()


def test_a_list_above_the_spool_is_warned_of(programs, spool, tmp_path):
    """Whoever may read the list may read the mail."""
    above = spool.path.parent / "domains"
    above.write_text("t.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{above}")
    assert smtpd.wait_log(event="spool_readable")["directory"] == str(above.parent)
    beside = tmp_path / "lists" / "domains"
    beside.parent.mkdir()
    beside.write_text("t.example\n")
    assert not programs.smtpd(spool, SMTPD_DOMAINS=f"@{beside}").log(event="spool_readable")


# What goes on

def test_the_spool_is_made_and_the_metrics_are_written(programs, spool, tmp_path):
    metrics = tmp_path / "metrics" / "smtpd.prom"
    metrics.parent.mkdir()
    smtpd = programs.smtpd(spool, METRICS_FILE=metrics, SMTPD_CONFINE="require")
    smtpd.wait_log(event="confined", level="info", landlock=landlock_version(), seccomp=1)
    with smtpd.session("E") as client:
        client.mail()
        client.mail(b"x" * 3_000_000)
    wait_for(metrics.exists, "the metrics are written")
    first = metrics.stat().st_ino
    wait_for(lambda: metrics.stat().st_ino != first, "they are written again")
    smtpd.stop()
    assert len(spool.messages()) == 2 and spool.tmp() == []
    assert 'mayfly_smtpd_messages_total 2' in metrics.read_text()
    assert not smtpd.log(event="metrics_unwritable")


def test_a_directory_that_is_not_there_keeps_nobody_from_starting(programs, spool, tmp_path):
    smtpd = programs.smtpd(spool, METRICS_FILE=tmp_path / "absent" / "smtpd.prom")
    smtpd.wait_log(event="metrics_unwritable")
    with smtpd.session("E") as client:
        client.mail()


def test_lists_are_read_again(programs, spool, tmp_path):
    domains = tmp_path / "domains"
    domains.write_text("one.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{domains}", SMTPD_CONFINE="require")
    with smtpd.session("E") as client:
        client.mail(recipients=["b@one.example"])
        fresh = tmp_path / "fresh"
        fresh.write_text("two.example\n")
        fresh.rename(domains)
        hang_up(smtpd)
        client.mail(recipients=["b@two.example"])
        client.command("MAIL FROM:<a@c.example>", 250)
        client.command("RCPT TO:<b@one.example>", 550)


def archive(directory, number):
    """A certificate as certbot keeps it: a number for each renewal, and links to the last."""
    kept, live = directory / "archive" / "mayfly.example", directory / "live" / "mayfly.example"
    kept.mkdir(parents=True, exist_ok=True)
    live.mkdir(parents=True, exist_ok=True)
    pair = tlsfiles.make(kept, name=f"pair{number}")
    for path in (pair.cert, pair.key):
        fresh = live / "fresh"
        fresh.symlink_to(pathlib.Path("../../archive/mayfly.example") / path.name)
        fresh.rename(live / f"pair{path.suffix}")
    return pair, tlsfiles.Pair(live / "pair.crt", live / "pair.key")


def turned(directory, number):
    """A certificate as Kubernetes mounts it: ..data is a link to a directory, turned at each
    renewal."""
    directory.mkdir(exist_ok=True)
    version = directory / f"..version{number}"
    version.mkdir()
    pair = tlsfiles.make(version)
    fresh = directory / "..fresh"
    fresh.symlink_to(version.name)
    fresh.rename(directory / "..data")
    for path in (pair.cert, pair.key):
        if not (directory / path.name).is_symlink():
            (directory / path.name).symlink_to(pathlib.Path("..data") / path.name)
    return pair, tlsfiles.Pair(directory / "tls.crt", directory / "tls.key")


@pytest.mark.parametrize("renew", [archive, turned])
def test_certificates_are_renewed_through_links(programs, spool, tmp_path, renew):
    _, named = renew(tmp_path / "tls", 1)
    smtpd = programs.smtpd(spool, SMTPD_CONFINE="require", **named.settings())
    for number in (2, 3):
        fresh, _ = renew(tmp_path / "tls", number)
        hang_up(smtpd)
        with smtpd.session("E") as client:
            client.starttls(fresh.client())
            client.command("EHLO c.example", 250)
            client.mail()
    assert not smtpd.log(event="tls_kept")


# Privileges

def privileged_port():
    """A free port below 1024 of the loopback."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.skip("no port below 1024 is free")


def check_threads(smtpd, capabilities):
    """After some mail, so that the pool runs."""
    found = threads(smtpd.pid)
    assert len(found) > 1
    for thread in found:
        assert (thread["NoNewPrivs"], thread["Seccomp"]) == ("1", "2")
        sets = {name: int(thread[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
        assert sets == {"CapInh": 0, "CapPrm": capabilities, "CapEff": capabilities, "CapAmb": 0}


@NEEDS_ROOT
def test_a_user_of_its_own_on_a_privileged_port(programs, spool):
    spool.path.mkdir()
    os.chown(spool.path, 0, GROUP)
    spool.path.chmod(0o2770)
    smtpd = programs.smtpd(spool, owner=(UID, GROUP), ambient="net_bind_service",
                           SMTPD_LISTEN=f"127.0.0.1:{privileged_port()}", SMTPD_CONFINE="require")
    with smtpd.session("E") as client:
        client.mail()
    assert smtpd.port < 1024
    assert threads(smtpd.pid)[0]["Uid"].split() == [str(UID)] * 4
    check_threads(smtpd, 0)
    smtpd.wait_log(event="confined")
    assert not smtpd.log(event="running_as_root")


@NEEDS_ROOT
def test_root_keeps_what_the_spool_of_another_takes(programs, spool):
    programs.smtpd(spool).stop()
    for path in (spool.path, *spool.path.rglob("*")):
        os.chown(path, UID, GROUP)
    smtpd = programs.smtpd(spool, SMTPD_CONFINE="require")
    with smtpd.session("E") as client:
        client.mail()
    check_threads(smtpd, DAC_OVERRIDE)
    smtpd.wait_log(event="confined")
    assert len(smtpd.log(event="running_as_root", level="warn")) == 1


# Kernels that lack something

@pytest.mark.parametrize("what", ["landlock", "seccomp"])
def test_a_kernel_that_lacks_it(programs, spool, lacking, what):
    smtpd = programs.smtpd(spool, wrapper=lacking(what))
    with smtpd.session("E") as client:
        client.mail()
    smtpd.wait_log(event="ready")
    assert [entry["what"] for entry in smtpd.log(event="not_confined", level="warn")] == [what]
    assert smtpd.log(event="not_confined")[0]["reason"].startswith("the kernel was built without")
    assert not smtpd.log(event="confined")


@pytest.mark.parametrize("what", ["landlock", "seccomp"])
def test_a_kernel_that_lacks_what_is_required(programs, spool, lacking, what):
    smtpd = programs.smtpd(spool, wrapper=lacking(what), ready=False, SMTPD_CONFINE="require")
    assert smtpd.wait() == 71
    assert [entry["what"] for entry in smtpd.log(event="not_confined", level="error")] == [what]
    assert not smtpd.log(event="ready")


def test_off_is_off(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_CONFINE="off")
    with smtpd.session("E") as client:
        client.mail()
    smtpd.wait_log(event="ready")
    assert not smtpd.log(event="confined") and not smtpd.log(event="not_confined")
    assert {thread["Seccomp"] for thread in threads(smtpd.pid)} == {"0"}
