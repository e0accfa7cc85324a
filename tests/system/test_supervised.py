"""What the README says of services under real supervisors: the port is kept while smtpd is restarted,
and nobody who comes is refused, reset, or closed before his reply; relay's credentials are root's, or
those of its user.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import tlsfiles
from deadline import wait_for
from load import Post
from smarthost import SmartHost
from spool import Spool
from test_install import (  # noqa: F401 (scratch and service are fixtures)
    AS_ROOT, install_service, program_of, scratch, service, without_runit)

RESTARTS = 4


@contextlib.contextmanager
def supervised(*command, **options):
    supervisor = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL,
                                  **options)
    try:
        yield supervisor
    finally:
        supervisor.terminate()
        supervisor.wait(60)


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, timeout=90)


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


def log_of(directory):
    return (directory / "log/main/current").read_text()


def some_letters(post, count=10):
    before = len(post.acknowledged)
    wait_for(lambda: len(post.acknowledged) >= before + count, "letters are taken")


def sv_restart(directory):
    """sv takes a service that began in the same second for one that it has restarted."""
    def seconds():
        status = subprocess.check_output(["sv", "status", directory], text=True)
        return int(re.match(r"run: \S+ \(pid \d+\) (\d+)s", status).group(1))

    wait_for(lambda: seconds() >= 2, "it has run for two seconds")
    run("sv", "-w", "60", "restart", directory)


def s6_restart(directory):
    run("s6-svc", "-wR", "-T", "60000", "-r", directory)


def restart(directory, port, command):
    """Each returns when the next smtpd is ready."""
    with Post(("127.0.0.1", port)) as post:
        for _ in range(RESTARTS):
            pid = program_of(directory)
            command(directory)
            assert program_of(directory) not in (None, pid)
            some_letters(post)
    return post


def test_runit_keeps_the_port(service):
    """runsv passes on what it was started with: descriptor 0."""
    directory, port = service
    keeper = directory.parent / "port"
    script(keeper / "run", f"exec {directory}/listen-on 127.0.0.1 {port} runsv {directory}\n")
    with supervised("runsv", str(keeper)):
        wait_for((directory / "supervise/ok").exists, "runsv supervises smtpd")
        run("sv", "-w", "60", "start", directory)
        post = restart(directory, port, sv_restart)
        assert f"event=listening address=127.0.0.1:{port} inherited=1" in log_of(directory)
    wait_for(lambda: program_of(directory) is None, "smtpd ends with the service of its port")
    post.check(Spool(directory.parents[1] / "spool"))


def test_s6_keeps_the_port(service):
    directory, port = service
    scratch = directory.parents[1]
    keeper = directory.parent / "port"
    rule = keeper / f"rules/uid/{os.getuid()}"
    (rule / "env").mkdir(parents=True)
    (rule / "allow").touch()
    for what in ("STORE", "RETRIEVE"):
        (rule / f"env/S6_FDHOLDER_{what}_REGEX").write_text("^smtp$\n")
    script(keeper / "run",
           "( for try in 1 2 3 4 5\n"
           f"do {directory}/listen-on 127.0.0.1 {port} s6-fdholder-store s smtp && break\n"
           "sleep 1; done & )\n"
           "exec s6-fdholder-daemon -i rules s\n")
    (directory / "socket").write_text(f"s6-fdholder-retrieve {keeper}/s smtp\n")
    with supervised("s6-svscan", str(directory.parent), env={"PATH": without_runit(scratch)}):
        wait_for((directory / "supervise/status").exists, "s6 supervises smtpd")
        run("s6-svwait", "-U", "-t", "60000", directory)
        post = restart(directory, port, s6_restart)
        assert f"event=listening address=127.0.0.1:{port} inherited=1" in log_of(directory)
    wait_for(lambda: program_of(directory) is None, "smtpd ends with its supervisor")
    post.check(Spool(scratch / "spool"))


def test_two_services_share_the_port_under_runit(service):
    one, port = service
    two = one.parent / "smtpd-2"
    (one / "env/SMTPD_REUSEPORT").write_text("1\n")
    shutil.copytree(one, two)
    with supervised("runsv", str(one)), supervised("runsv", str(two)):
        for directory in (one, two):
            wait_for((directory / "supervise/ok").exists, "runsv supervises smtpd")
            run("sv", "-w", "60", "start", directory)
        with Post(("127.0.0.1", port)) as post:
            for directory in (one, two) * 2:
                sv_restart(directory)
                some_letters(post)
    assert all("event=accepted" in log_of(directory) for directory in (one, two))
    assert all(log_of(directory).count("event=ready") == 3 for directory in (one, two))
    wait_for(lambda: program_of(one) is None, "both end")
    post.check(Spool(one.parents[1] / "spool"))


@pytest.mark.parametrize("arguments", [(), ("127.0.0.1",), ("127.0.0.1", "25"),
                                       ("localhost", "25", "true"), ("127.0.0.1", "smtp", "true"),
                                       ("192.0.2.1", "0", "true"),
                                       ("127.0.0.1", "0", "/nowhere/program")])
def test_listen_on_says_what_is_wrong(service, arguments):
    directory, _ = service
    done = subprocess.run([directory / "listen-on", *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode not in (0, None) and "listen-on" in done.stderr


# relay

USER, PASSWORD = "me@mail.example", "the password of the smarthost"


@pytest.fixture
def smarthost(scratch):  # noqa: F811
    with SmartHost(tlsfiles.make(scratch), users={USER: PASSWORD}) as started:
        yield started


@pytest.fixture
def relay_service(scratch, smarthost):  # noqa: F811
    """relay's service directory, which lacks the password."""
    directory = install_service(scratch, "relay")
    for name, value in (smarthost.settings() | {"RELAY_PASSWORD": None}).items():
        if value is not None:
            (directory / "env" / name).write_text(f"{value}\n")
    return directory


def check_relays(directory, smarthost):
    """Its user may read what smtpd, another user of the same group, has put into the queue."""
    spool = Spool(directory.parents[1] / "spool")
    spool.relay.put(recipients=["b@t.example"])
    sent, = smarthost.wait()
    assert sent.connection.user == USER and sent.connection.secure
    if AS_ROOT:
        assert pathlib.Path(f"/proc/{program_of(directory, 'relay')}").owner() == "nobody"
    wait_for(lambda: not spool.relay.new(), "the message has left the queue")
    assert PASSWORD not in log_of(directory)


def test_relay_under_runit_with_the_password_in_a_file_of_its_user(relay_service, smarthost):
    password = relay_service / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o400)
    if AS_ROOT:
        shutil.chown(password, "nobody")
    (relay_service / "env/RELAY_PASSWORD_FILE").write_text(f"{password}\n")
    with supervised("runsv", str(relay_service)):
        wait_for((relay_service / "supervise/ok").exists, "runsv supervises relay")
        run("sv", "-w", "60", "start", relay_service)
        check_relays(relay_service, smarthost)
    assert program_of(relay_service, "relay") is None


def test_relay_under_s6_with_the_password_in_a_file_of_root(relay_service, smarthost):
    password = relay_service / "env/RELAY_PASSWORD"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o400)
    scratch = relay_service.parents[1]  # noqa: F811
    with supervised("s6-svscan", str(relay_service.parent), env={"PATH": without_runit(scratch)}):
        wait_for((relay_service / "supervise/status").exists, "s6 supervises relay")
        run("s6-svwait", "-U", "-t", "60000", relay_service)
        check_relays(relay_service, smarthost)
    wait_for(lambda: program_of(relay_service, "relay") is None, "relay ends with its supervisor")
