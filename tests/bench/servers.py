"""The servers that are measured, each as a context with a port: Mayfly as it comes, with its log in
a file; a private Postfix, which is told not to hold back, and logs nothing; and smtp-sink, which
forgets all it is sent and so shows what the client and the loopback cost by themselves.

Postfix is downloaded and unpacked, never installed (tests/system/postfix.py).
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

import machine  # noqa: E402
import postfix  # noqa: E402
import bench_tools  # noqa: E402
from cluster import free_port  # noqa: E402
from programs import Programs, url_of  # noqa: E402
from spool import Spool  # noqa: E402

# What makes Postfix faster than it comes: as many processes as sessions, each for many messages; no
# limits of a client; no pause for those who are faster than the queue; no log.
GENEROUS = {
    "virtual_mailbox_domains": "",
    "default_process_limit": 260,
    "max_use": 10000,
    "in_flow_delay": 0,
    "smtpd_client_connection_count_limit": 0,
    "message_size_limit": 52428800,
    "queue_minfree": 0,
    "maillog_file": "",
}

# Its fastest way to be durable: a message is on the disk in hold/ at the reply, and nobody touches
# it again, as in new/ of a spool whose storer does not run.
ACCEPT_ONLY = {"smtpd_recipient_restrictions":
               "check_recipient_access static:HOLD, permit_mynetworks, reject"}


def postfix_missing():
    """Why there is no Postfix here to measure; None when there is."""
    if os.geteuid() != 0:
        return "Postfix's master needs to be root"
    return tools_missing()


def tools_missing():
    """Why there is nothing of Postfix's here."""
    try:
        postfix.tree()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return str(error).strip().splitlines()[0]
    return None


def remove_files(directory):
    """All files below a directory; a server may be making and moving some."""
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                path.unlink()


def remove_tree(directory):
    shutil.rmtree(directory)
    settle(directory.parent)


def settle(path):
    """Everything on the disk, so that no run pays for the one before it."""
    os.sync()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Installation:
    """A spool, a log in a file, and what is started on them, with these settings."""

    def __init__(self, directory, **settings):
        self.spool = Spool(directory / "spool")
        self.programs = Programs()
        self.log = self.programs.directory / "log"
        self.settings = {"SMTPD_HOSTNAME": "mayfly.example"} | settings

    def __enter__(self):
        try:
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begin(self):
        self.spool.make()

    def __exit__(self, *_):
        wrong = self.programs.end()
        shutil.rmtree(self.spool.path, ignore_errors=True)
        assert not wrong, wrong

    def start(self, name, **settings):
        with open(self.log, "ab") as log:
            return self.programs.start(name, stderr=log.fileno(), SPOOL=self.spool,
                                       **(self.settings | settings))

    def storer(self, database, **settings):
        return self.start("storer", DATABASE_URL=url_of(database), **settings)

    def reset(self):
        """A spool without a message, and a log without a line."""
        remove_files(self.spool.path)
        os.truncate(self.log, 0)
        settle(self.spool.path)


class Mayfly(Installation):
    """An installation with smtpd, which has a certificate if it is given one."""

    name = "Mayfly"

    def __init__(self, directory, pair=None, wrapper=(), **settings):
        super().__init__(directory, **settings)
        self.port = free_port()
        self.own = (pair.settings() if pair else {}) | {
            "wrapper": wrapper, "SMTPD_LISTEN": f"127.0.0.1:{self.port}"}

    def begin(self):
        self.smtpd = self.start("smtpd", **self.own)

    def pids(self):
        return [self.smtpd.pid]


class Postfix(postfix.Postfix):
    """A private instance with its queue in a directory to measure in."""

    name = "Postfix"

    def __init__(self, directory, pair=None, **settings):
        super().__init__(pair, **(GENEROUS | settings))
        shutil.rmtree(self.directory)
        self.directory = directory / "postfix"
        self.directory.mkdir()

    def pids(self):
        return [self.process.pid, *machine.children(self.process.pid)]

    def reset(self):
        remove_files(self.directory / "queue" / "hold")
        settle(self.directory)


class Nothing:
    """What client and loopback can do by themselves: a server that takes a message as it comes and
    forgets it (sink.c). smtp-sink looks at every octet, and is slower with large ones than a server
    that keeps them."""

    name = "sink"

    def _start(self, port):
        return subprocess.Popen([bench_tools.path("sink"), str(port)], stdin=subprocess.DEVNULL)

    def __enter__(self):
        self.process, self.port = postfix.on_a_free_port(self._start, postfix.listens)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def pids(self):
        return [self.process.pid]

    def reset(self):
        """It keeps nothing."""


class Sink(Nothing):
    """smtp-sink. With a file for its counters it says how much has come, and wakes nobody."""

    name = "smtp-sink"

    def __init__(self, counters=None):
        self.path = counters

    def _start(self, port):
        program, environment = postfix.program("smtp-sink")
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        counting = ["-c"] if self.path else []
        with open(self.path or os.devnull, "wb") as counters:
            return subprocess.Popen(
                [program, *as_nobody, *counting, "-m", "5000", f"127.0.0.1:{port}", "1000"],
                env=environment, stdin=subprocess.DEVNULL, stdout=counters,
                stderr=subprocess.DEVNULL)

    def count(self):
        """Messages so far."""
        with open(self.path, "rb") as counters:
            counters.seek(max(0, os.fstat(counters.fileno()).st_size - 200))
            shown = counters.read().rpartition(b"\r")[0]
        return int(shown.rpartition(b"mesg=")[2] or 0)
