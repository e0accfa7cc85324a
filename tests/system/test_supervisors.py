"""All of Mayfly as it is installed, on a host of its own: under the real runsvdir and the real
s6-svscan, each program as the user that its service directory names. Started, ready, restarted one
by one while mail flows, its logs turned over, and stopped.
"""

import contextlib
import dataclasses
import os
import re

import pytest

import tlsfiles
from cluster import free_port
from deadline import wait_for
from host import Host
from load import Post, differences
from programs import sanitized
from smarthost import SmartHost
from spool import Spool
from test_install import SERVICES, make, without_runit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a host with users")

USER, PASSWORD = "me@mail.example", "the password of the smarthost"
LOG_BYTES, LOG_FILES = 5000, 4
# The time, then what smtpd said, whole; or what somebody else did: s6-fdholder, or libgcov.
LINE = re.compile(r"(\d{4}-\d\d-\d\d[_ ]\d\d:\d\d:\d\d\.\d+) +"
                  r"(?:level=\w+ event=(?:accepted .* size=\d+|(?!accepted).*)|(?! *level=).*)")
SUPERVISORS = ["runsvdir", "runsv", "svlogd", "s6-svscan", "s6-supervise", "s6-log"]


class Mail(Post):
    """Letters to one who is stored here, and one who is elsewhere."""

    def _accepted(self, letter):
        letter.recipients = (f"b{letter.number % 97}@t.example", f"r{letter.number}@far.example")
        return super()._accepted(letter)

    def check_stored(self, database):
        stored = {id: dataclasses.replace(letter, recipients=letter.recipients[:1])
                  for id, letter in self.acknowledged.items()}
        assert differences(database, stored) == []

    def check_relayed(self, deliveries):
        assert deliveries == {(letter.sender, letter.recipients[1]): 1
                              for letter in self.acknowledged.values()}


class Runit:
    """How it is done under runit."""

    def __init__(self, host):
        self.host = host
        self.service = host.directory / "service"

    def place(self, program):
        return self.host.directory / "sv" / f"mayfly-{program}"

    def start(self, port):
        """The port is that of the README: it is kept, whatever becomes of smtpd."""
        smtpd = self.place("smtpd")
        script(self.service / "mayfly-port/run",
               f"exec {smtpd}/listen-on 127.0.0.1 {port} runsv {smtpd}\n")
        for program in SERVICES[1:]:
            (self.service / f"mayfly-{program}").symlink_to(self.place(program))
        self.host.start("runsvdir", self.service)
        for program in SERVICES:
            wait_for((self.place(program) / "supervise/ok").exists, f"runsv supervises {program}")

    def wait_ready(self):
        self.host.run("sv", "-w", "60", "start", *map(self.place, SERVICES))

    def restart(self, program):
        """sv takes a service that began in the same second for one that it has restarted."""
        place = self.place(program)
        wait_for(lambda: int(re.search(r"\) (\d+)s", self.host.run("sv", "status", place))[1]) >= 2,
                 "it has run for two seconds")
        self.host.run("sv", "-w", "60", "restart", place)

    def stop(self):
        self.host.run("sv", "-w", "60", "stop", *map(self.place, SERVICES))

    def end(self):
        pid, = self.host.processes("runsvdir")
        self.host.run("kill", "-HUP", pid)


class S6:
    """The same under s6, where runit is not installed."""

    def __init__(self, host):
        self.host = host
        self.service = host.directory / "sv"

    def place(self, program):
        return self.service / f"mayfly-{program}"

    def start(self, port):
        keeper = self.service / "mayfly-port"
        rule = keeper / "rules/uid/0"
        (rule / "env").mkdir(parents=True)
        (rule / "allow").touch()
        for right in ("STORE", "RETRIEVE"):
            (rule / f"env/S6_FDHOLDER_{right}_REGEX").write_text("^smtp$\n")
        script(keeper / "run",
               "( for try in 1 2 3 4 5; do\n"
               f"../mayfly-smtpd/listen-on 127.0.0.1 {port} s6-fdholder-store s smtp && break\n"
               "sleep 1; done & )\n"
               "exec s6-fdholder-daemon -i rules s\n")
        (self.place("smtpd") / "socket").write_text("s6-fdholder-retrieve ../mayfly-port/s smtp\n")
        self.host.start("s6-svscan", self.service, env={"PATH": without_runit(self.host.directory)})
        for program in SERVICES:
            wait_for((self.place(program) / "supervise/status").exists, f"s6 supervises {program}")

    def wait_ready(self):
        self.host.run("s6-svwait", "-U", "-a", "-t", "60000", *map(self.place, SERVICES))

    def restart(self, program):
        self.host.run("s6-svc", "-wR", "-T", "60000", "-r", self.place(program))

    def stop(self):
        for program in SERVICES:
            self.host.run("s6-svc", "-wD", "-T", "60000", "-d", self.place(program))

    def end(self):
        self.host.run("s6-svscanctl", "-t", self.service)


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


@pytest.fixture
def host():
    own = Host()
    yield own
    own.end()


@contextlib.contextmanager
def logins_of(database):
    """{program: its URL} with logins as the README makes them, with the rights of their roles and
    no more."""
    programs = ("storer", "reaper")
    for program in programs:
        database.query(f'CREATE ROLE "mayfly-{program}" LOGIN IN ROLE mayfly_{program}')
    yield {program: database.url_as(f"mayfly-{program}") for program in programs}
    for program in programs:
        database.query(f'DROP ROLE "mayfly-{program}"')


@pytest.fixture
def logins(database):
    with logins_of(database) as urls:
        yield urls


@pytest.fixture
def smarthost(host):
    with SmartHost(tlsfiles.make(host.directory), users={USER: PASSWORD}) as started:
        yield started


def install(host, logins, smarthost):
    """As the README has it: the programs, the users and the spool, the service directories, the
    settings; and small logs."""
    make("install", f"PREFIX={host.directory}/installed", "DESTDIR=")
    host.run(host.directory / "installed/sbin/mayfly-setup")
    host.run("cp", "-r", host.directory / "installed/share/mayfly/service", host.directory / "sv")
    settings = {"smtpd": {"SMTPD_HOSTNAME": "mayfly.example", "SMTPD_DOMAINS": "t.example",
                          "SMTPD_RELAY_CLIENTS": "127.0.0.0/8"},
                "storer": {"DATABASE_URL": logins["storer"]},
                "reaper": {"DATABASE_URL": logins["reaper"]},
                "relay": {"SMTPD_HOSTNAME": "mayfly.example", "SMTPD_DOMAINS": "t.example",
                          **smarthost.settings()}}
    for program in SERVICES:
        directory = host.directory / f"sv/mayfly-{program}"
        if sanitized():  # as in test_install.install_service
            settings[program]["ASAN_OPTIONS"] = "detect_leaks=0"
        for name, value in settings[program].items():
            (directory / "env" / name).write_text(f"{value}\n")
            (directory / "env" / name).chmod(0o600)
        user = (directory / "user").read_text().strip()
        host.run("install", "-d", "-o", user, "-g", "mayfly", directory / "log/main")
        (directory / "log/main/config").write_text(f"s{LOG_BYTES}\nn{LOG_FILES}\n")


def logs(directory):
    """{name: lines} of what is kept, the oldest first. A file that is just now replaced is left
    out."""
    main = directory / "log/main"
    found = {}
    for path in [*sorted(main.glob("@*.[su]")), main / "current"]:
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.read_text().splitlines()
    return found


def text(directory):
    return "\n".join(line for lines in logs(directory).values() for line in lines)


def check_logs(directory, mail):
    """The logs have gone round, and the newest line is not lost; nor is any of them torn."""
    newest = max(mail.acknowledged)
    wait_for(lambda: f"id={newest}" in text(directory), "the last letter is in the log")
    kept = logs(directory)
    assert 1 < len(kept) <= LOG_FILES + 1, kept.keys()
    for name, lines in kept.items():
        assert sum(len(line) + 1 for line in lines) <= LOG_BYTES + 1000, name
        assert all(map(LINE.fullmatch, lines)), lines
    times = [LINE.fullmatch(line)[1] for lines in kept.values() for line in lines]
    assert times == sorted(times)


def running(host, program):
    """The one process of a program, which is its own user's."""
    (pid, user), = host.processes(f"mayfly-{program}").items()
    assert user == f"mayfly-{program}"
    return pid


@pytest.mark.deadline(180)
@pytest.mark.parametrize("kind", [Runit, S6])
def test_a_life_under(kind, host, database, logins, smarthost):
    install(host, logins, smarthost)
    supervisor = kind(host)
    port = free_port()
    supervisor.start(port)
    supervisor.wait_ready()
    # Each has said so itself, and is ready now: no letter needs to wait for anything.
    pids = {program: running(host, program) for program in SERVICES}

    with Mail(("127.0.0.1", port), clients=4, pause=0.02) as mail:
        for program in ("storer", "smtpd", "relay", "reaper"):
            supervisor.restart(program)
            assert running(host, program) != pids[program]
            others = [other for other in SERVICES if other != program]
            assert all(running(host, other) == pids[other] for other in others)
            pids[program] = running(host, program)
            flows(mail, database, smarthost)
        # Enough that what was said first is no longer kept.
        enough = LOG_BYTES * (LOG_FILES + 1) / 150
        wait_for(lambda: len(mail.acknowledged) > enough, "the logs are full")

    spool = Spool(host.spool / "mayfly")
    spool.wait_done()
    spool.relay.wait_done()
    mail.check_stored(database)
    mail.check_relayed(smarthost.deliveries())
    check_logs(supervisor.place("smtpd"), mail)
    for program in ("storer", "reaper", "relay"):
        said = text(supervisor.place(program))
        assert PASSWORD not in said and "level=error" not in said, said

    supervisor.stop()
    assert not any(host.processes(f"mayfly-{program}") for program in SERVICES)
    for program in SERVICES:
        place = supervisor.place(program)
        wait_for(lambda: "event=stopped" in text(place).splitlines()[-1], f"{program} says so")
    supervisor.end()
    wait_for(lambda: not any(map(host.processes, SUPERVISORS)), "and so does all that watched them")


def flows(mail, database, smarthost):
    """Waits until more has come in, been stored, and been sent."""
    def counts():
        return (len(mail.acknowledged), database.value("SELECT count(*) FROM messages"),
                len(smarthost.accepted()))

    before = counts()
    wait_for(lambda: all(now >= then + 10 for now, then in zip(counts(), before)), "mail flows")
