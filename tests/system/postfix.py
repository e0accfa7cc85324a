"""Postfix without Postfix, which is not installed (unpacked.py): its load generator (smtp-source),
its sink (smtp-sink), and a whole private instance of it."""

import grp
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import threading

import pytest

import unpacked
from cluster import free_port, short_directory
from deadline import wait_for


def tree():
    """Below what usr/sbin and usr/lib/postfix of Postfix lie."""
    return unpacked.tree("postfix", "usr/sbin/smtp-source")


def libraries():
    return tree() / "usr" / "lib" / "postfix"


def program(name):
    """(the path of a program, the environment it needs)."""
    return (str(tree() / "usr" / "sbin" / name),
            {**os.environ, "LD_LIBRARY_PATH": str(libraries())})


def smtp_source():
    return program("smtp-source")


def on_a_free_port(start, accepts, attempts=5):
    """Starts a server on a port that may be taken before it has it; returns its process and port."""
    for _ in range(attempts):
        port = free_port()
        process = start(port)
        wait_for(lambda: process.poll() is not None or accepts(port), "it listens")
        if process.poll() is None:
            return process, port
    raise AssertionError(f"{process.args} ends with {process.returncode}")


def listens(port):
    """Whether somebody listens there; without a connection, which would be counted."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return wanted in pathlib.Path("/proc/net/tcp").read_text()


class Sink:
    """smtp-sink: as fast as a smarthost can be, for it forgets. It counts what it takes."""

    def __init__(self, *options):
        self.options = options
        self._said = b""

    def _start(self, port):
        path, environment = program("smtp-sink")
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        return subprocess.Popen([path, *as_nobody, "-c", *self.options, f"127.0.0.1:{port}", "1000"],
                                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, start_new_session=True)

    def __enter__(self):
        self.process, self.port = on_a_free_port(self._start, listens)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(60)
        self._reader.join(30)
        self.process.stdout.close()

    def _read(self):
        while data := os.read(self.process.stdout.fileno(), 65536):
            self._said = self._said[-200:] + data

    def settings(self):
        return {"RELAY_HOST": "127.0.0.1", "RELAY_PORT": self.port, "RELAY_TLS": "none"}

    def counts(self):
        """{"sess": connections that ended, "quit": of them with QUIT, "mesg": messages}"""
        shown = re.findall(rb"sess=(\d+) quit=(\d+) mesg=(\d+)\r", self._said)
        return dict(zip(("sess", "quit", "mesg"), map(int, shown[-1] if shown else (0, 0, 0))))

    def wait(self, count, seconds=60):
        wait_for(lambda: self.counts()["mesg"] >= count, f"{count} messages arrive", seconds)


# Besides what the instance is told: it asks no DNS, takes all mail of this machine for its own, and puts
# that into one maildir.
MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = {tree}/usr/sbin
daemon_directory = {libraries}/sbin
shlib_directory = {libraries}
meta_directory = {directory}/etc
import_environment = MAIL_CONFIG LD_LIBRARY_PATH={libraries}
mail_owner = {owner}
setgid_group = {group}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = next.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
smtpd_peername_lookup = no
disable_dns_lookups = yes
virtual_mailbox_domains = static:all
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = static:all/
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
virtual   unix - n n - - virtual
smtp      unix - - n - - smtp
scache    unix - - n - 1 scache
error     unix - - n - - error
retry     unix - - n - - error
anvil     unix - - n - 1 anvil
tlsmgr    unix - - n 1000? 1 tlsmgr
postlog   unix-dgram n - n - 1 postlogd
"""

# Directories of the queue, and who must own them.
OF_OWNER = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
            "public", "saved", "trace", "maildrop")


def account(kind, *names):
    """The first of these that is there: Postfix's own, or another's that nothing here runs as."""
    for name in names:
        try:
            return kind(name)
        except KeyError:
            pass
    raise AssertionError(f"none of {names} is there")


class Postfix:
    """A private Postfix on a loopback port, with STARTTLS: a real next hop. Its master and all that
    it starts are ended with it."""

    def __init__(self, pair=None, **settings):
        if os.geteuid() != 0:
            pytest.skip("Postfix's master needs to be root")
        self.pair = pair
        self.directory = short_directory("mayfly-postfix-")
        self.extra = settings
        if pair:
            self.extra |= {"smtpd_tls_security_level": "encrypt", "smtpd_tls_cert_file": pair.cert,
                           "smtpd_tls_key_file": pair.key, "tls_random_source": "dev:/dev/urandom"}

    def _prepare(self):
        owner = account(pwd.getpwnam, "postfix", "news")
        group = account(grp.getgrnam, "postdrop", "uucp")
        receiver = pwd.getpwnam("mail")
        for name in ("etc", "queue", "queue/pid", "data", "mail",
                     *(f"queue/{name}" for name in OF_OWNER)):
            (self.directory / name).mkdir()
        for name in ("data", *(f"queue/{name}" for name in OF_OWNER)):
            os.chown(self.directory / name, owner.pw_uid, 0)
            (self.directory / name).chmod(0o700)
        for name, mode in (("public", 0o710), ("maildrop", 0o730)):
            os.chown(self.directory / "queue" / name, owner.pw_uid, group.gr_gid)
            (self.directory / "queue" / name).chmod(mode)
        os.chown(self.directory / "mail", receiver.pw_uid, receiver.pw_gid)
        main = MAIN.format(directory=self.directory, tree=tree(), libraries=libraries(),
                           owner=owner.pw_name, group=group.gr_name, uid=receiver.pw_uid,
                           gid=receiver.pw_gid)
        main += "".join(f"{name} = {value}\n" for name, value in self.extra.items())
        (self.directory / "etc" / "main.cf").write_text(main)

    def _start(self, port):
        """Without `postfix start`, which wants to mend the permissions of what it takes for an
        installation."""
        etc = self.directory / "etc"
        (etc / "master.cf").write_text(MASTER.format(port=port))
        return subprocess.Popen(
            [libraries() / "sbin" / "master", "-c", etc, "-d"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "MAIL_CONFIG": etc, "LD_LIBRARY_PATH": libraries()})

    def __enter__(self):
        self._prepare()
        self.process, self.port = on_a_free_port(self._start, listens)
        return self

    def __exit__(self, *_):
        self.process.terminate()   # it ends its process group, which is its own
        self.process.wait(60)
        shutil.rmtree(self.directory, ignore_errors=True)

    def settings(self):
        settings = {"RELAY_HOST": "127.0.0.1", "RELAY_PORT": self.port, "RELAY_TLS": "none"}
        if self.pair:
            settings |= {"RELAY_TLS": "starttls", "RELAY_CA": self.pair.cert}
        return settings

    def log(self):
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def mail(self):
        """The files of the maildir, a recipient each, lines ending in LF, below the fields that
        Postfix adds."""
        return [path.read_bytes() for path in sorted((self.directory / "mail/all/new").glob("*"))]

    def wait(self, count=1, seconds=60):
        wait_for(lambda: len(self.mail()) >= count, f"{count} files arrive", seconds)
        return self.mail()
