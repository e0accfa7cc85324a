"""A new user's first command: `make run`, as it is typed, in a copy of the tree; and with a smarthost.

Each test has its own copy, its own SMTP port and so its own area; the lines that `make run` prints
are pasted into a shell as they stand.
"""

import contextlib
import getpass
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import tlsfiles
from cluster import ROOT, free_port, short_directory
from deadline import wait_for
from programs import BUILD, make_words
from smarthost import SmartHost

READY = "What follows are the programs' logs."
STOP_SECONDS = 10
AS_ROOT = os.geteuid() == 0

pytestmark = pytest.mark.deadline(300)


def as_user(user):
    """What turns a command into that user's; nothing for the user of this test."""
    if user is None:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={user_group(user)}", "--clear-groups"]


def user_group(user):
    return subprocess.check_output(["id", "-gn", user], text=True).strip()


def build_options():
    """What make must be told so that it takes what the programs under test were built with."""
    compiler = (BUILD / "flags").read_text().split()[0]
    return ["BUILD=build", f"CC={compiler}", *make_words()]


def copy_tree(clone):
    """The tree as it is on the disk, with what is built already, so that no test builds it all."""
    shutil.copytree(ROOT, clone, symlinks=True,
                    ignore=lambda path, names: {".git", "build", "run", ".env", "__pycache__", ".pytest_cache"}
                    & set(names) if pathlib.Path(path) == ROOT else {"__pycache__"} & set(names))
    shutil.copytree(BUILD, clone / "build", copy_function=shutil.copy2,
                    ignore=shutil.ignore_patterns("sanitize", "thread", "coverage", "faults", "fuzz", "tidy",
                                                  "former", "postfix*", "prometheus*"))


class Clone:
    """A copy of the tree for one user, and the `make run` in it. `end` leaves nothing behind."""

    def __init__(self, directory, user=None):
        self.path = directory
        self.user = user
        self.port = free_port()
        self.make_run = None
        self.output = directory.parent / "output"
        directory.parent.mkdir(parents=True, exist_ok=True)
        copy_tree(directory)
        if user is not None:
            subprocess.check_call(["chown", "-R", f"{user}:{user_group(user)}", str(directory.parent)])

    def environment(self, settings):
        clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.path.parent)}
        clean.update({name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")})
        return {**clean, **settings}

    def make(self, *arguments, **settings):
        """A finished make; settings are environment variables."""
        return subprocess.run([*as_user(self.user), "make", *build_options(), *arguments], cwd=self.path,
                              env=self.environment(settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=240)

    def begin(self, *arguments, **settings):
        """Starts `make run` as the leader of a process group that no signal is ignored in, as a shell
        does at a terminal."""
        with open(self.output, "wb") as output:
            self.make_run = subprocess.Popen(
                ["env", "--default-signal", *as_user(self.user), "make", *build_options(), "run", *arguments],
                cwd=self.path,
                env=self.environment({"SMTPD_LISTEN": f"127.0.0.1:{self.port}", **settings}),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    def start(self, *arguments, **settings):
        self.begin(*arguments, **settings)
        wait_for(lambda: READY in self.said() or self.make_run.poll() is not None, "make run is ready", 180)
        assert self.make_run.poll() is None, self.said()

    def said(self):
        return self.output.read_text(errors="replace")

    def line(self, begin):
        """The printed line that begins so, a pattern, to be pasted."""
        found = re.findall(rf"^  ({begin}.*)$", self.said(), re.MULTILINE)
        assert len(found) == 1, self.said()
        return found[0]

    def paste(self, line):
        done = subprocess.run(["bash", "-c", line], cwd="/", env=self.environment({}), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def send(self):
        return self.paste(self.line("printf.*It works"))

    def send_out(self):
        """Through the smarthost."""
        return self.paste(self.line("printf.*It went out"))

    def show(self):
        return self.paste(self.line("psql"))

    def area(self):
        return (self.path / "run").resolve()

    def processes(self):
        """The command lines of what has to do with this area, by pid."""
        found = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                where = [os.readlink(path.parent / "cwd"), *path.read_text().split("\0"),
                         *(path.parent / "environ").read_text(errors="replace").split("\0")]
                if any(str(self.path) in text or str(self.area()) in text for text in where):
                    found[int(path.parent.name)] = where[1:3]
        return found

    def ended(self):
        """Waits for `make run` to end, and sees that it left no process."""
        began = time.monotonic()
        self.make_run.wait(60)
        assert time.monotonic() - began < STOP_SECONDS
        assert self.processes() == {}
        assert not listening(self.port)

    def interrupt(self):
        """What Ctrl-C does: INT to every process of the terminal's foreground group."""
        os.killpg(self.make_run.pid, signal.SIGINT)
        self.ended()

    def wrapper(self):
        """The pid of run.sh, which holds the lock on the area."""
        for pid, command in self.processes().items():
            if command[:2] == ["/bin/bash", "common/run.sh"] and parent(pid) == self.make_run.pid:
                return pid
        raise AssertionError(self.processes())

    def end(self):
        if self.make_run is not None and self.make_run.poll() is None:
            os.killpg(self.make_run.pid, signal.SIGTERM)
            self.make_run.wait(60)
        forgot = self.make("clean-run")
        left = self.processes()
        assert forgot.returncode == 0, forgot.stdout
        assert left == {}


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def someone():
    """A user who is not root: this one, or nobody."""
    return "nobody" if AS_ROOT else None


@contextlib.contextmanager
def a_clone(name="mayfly", user=None, home_mode=0o755):
    directory = short_directory("mayfly-run-")
    clone = Clone(directory / name, user)
    directory.chmod(home_mode)
    try:
        yield clone
    finally:
        try:
            clone.end()
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("user", [pytest.param(None, id="root" if AS_ROOT else getpass.getuser()),
                                  pytest.param("nobody", marks=pytest.mark.skipif(not AS_ROOT, reason="needs root"))])
def test_a_mail_sent_with_the_printed_line_is_shown_by_the_other_and_kept(user):
    with a_clone(user=user, home_mode=0o755 if user is None else 0o700) as clone:
        clone.start()
        assert f"SMTP       127.0.0.1:{clone.port}" in clone.said()
        assert clone.send() == ""
        wait_for(lambda: "It works." in clone.show(), "the mail is in the database")
        first = clone.show()

        again = clone.make("run")
        assert again.returncode != 0 and "Mayfly runs from here already." in again.stdout
        assert clone.line("psql") in again.stdout

        clone.interrupt()
        clone.start()
        assert clone.show() == first
        os.kill(clone.make_run.pid, signal.SIGTERM)
        clone.ended()

        assert clone.make("clean-run").returncode == 0
        assert not os.path.lexists(clone.path / "run")


def test_what_a_killed_run_left_is_ended_by_the_next():
    with a_clone() as clone:
        clone.start()
        clone.send()
        wait_for(lambda: "It works." in clone.show(), "the mail is in the database")
        os.kill(clone.wrapper(), signal.SIGKILL)
        clone.make_run.wait(60)
        assert listening(clone.port)

        clone.start()
        assert "The last run was killed" in clone.said()
        assert "It works." in clone.show()
        clone.interrupt()


def test_mail_that_waits_in_the_spool_is_stored_at_the_next_start():
    with a_clone() as clone:
        clone.start()
        service = clone.path / "run" / "service" / "mayfly-storer"
        subprocess.check_call(["sv", "-w", "20", "down", str(service)])
        clone.send()
        assert "It works." not in clone.show()
        clone.interrupt()
        clone.start()
        wait_for(lambda: "It works." in clone.show(), "the mail is in the database")


@pytest.mark.skipif(not AS_ROOT, reason="only root's cluster belongs to another user")
def test_a_clone_under_a_closed_home_lies_elsewhere():
    with a_clone(home_mode=0o700) as clone:
        clone.start()
        assert (clone.path / "run").is_symlink()
        assert str(clone.area()).startswith("/var/tmp/mayfly-")
        clone.send()
        wait_for(lambda: "It works." in clone.show(), "the mail is in the database")
        clone.interrupt()
        area = clone.area()
        assert clone.make("clean-run").returncode == 0
        assert not area.exists() and not os.path.lexists(clone.path / "run")


def test_a_clone_under_a_very_long_path_with_spaces_lies_elsewhere():
    with a_clone("/".join(["a very long way down"] * 10), user=someone()) as clone:
        clone.start()
        assert (clone.path / "run").is_symlink()
        clone.send()
        wait_for(lambda: "It works." in clone.show(), "the mail is in the database")
        clone.interrupt()


def test_a_name_in_var_tmp_that_somebody_else_made_is_not_used():
    with a_clone("/".join(["long"] * 30), user=someone()) as clone:
        area = clone.make("run", SMTPD_MAX_SIZE="-1")  # ends before it starts anything
        assert area.returncode != 0
        place = clone.area()
        assert clone.make("clean-run").returncode == 0
        elsewhere = short_directory("mayfly-run-")
        place.symlink_to(elsewhere)
        try:
            refused = clone.make("run")
            assert refused.returncode != 0 and "is a symbolic link" in refused.stdout
            assert list(elsewhere.iterdir()) == []
        finally:
            place.unlink()
            elsewhere.rmdir()


def test_a_port_that_is_taken_is_named():
    with a_clone() as clone, socket.socket() as other:
        other.bind(("127.0.0.1", clone.port))
        other.listen()
        refused = clone.make("run", SMTPD_LISTEN=f"127.0.0.1:{clone.port}")
        assert refused.returncode != 0
        assert f"Another program listens on 127.0.0.1:{clone.port}" in refused.stdout
        assert clone.processes() == {}


def test_port_listens_on_every_address():
    with a_clone() as clone:
        clone.start(f"PORT={clone.port}")
        assert f"smtp://127.0.0.1:{clone.port}" in clone.line("printf")
        clone.send()
        clone.interrupt()


def test_a_wrong_setting_is_named_before_anything_is_started():
    with a_clone() as clone:
        refused = clone.make("run", SMTPD_MAX_SIZE="lots")
        assert refused.returncode != 0
        assert "SMTPD_MAX_SIZE" in refused.stdout and "lots" in refused.stdout
        assert clone.processes() == {}


# With a smarthost

PASSWORD = "the password of the smarthost"
USER = "me@mail.example"


@pytest.fixture
def pair(tmp_path):
    """A smarthost's certificate, which anybody may read."""
    return tlsfiles.make(tmp_path)


def told_of(host, **settings):
    """What make is told on its command line."""
    settings = {"RELAY_HOST": "127.0.0.1", "RELAY_PORT": host.port, "RELAY_TLS": "none", **settings}
    return [f"{name}={value}" for name, value in settings.items()]


def files_with(secret, directory):
    return [path for path in directory.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def check_not_said(clone, secret):
    """Neither printed, nor logged, nor in a command line."""
    assert secret not in clone.said()
    assert files_with(secret, clone.area() / "log") == []
    assert processes_with(clone, secret, "cmdline") == set()


def processes_with(clone, secret, what="environ"):
    """The names of those that have it."""
    found = set()
    for pid in clone.processes():
        path = pathlib.Path(f"/proc/{pid}/{what}")
        with contextlib.suppress(OSError):
            if secret.encode() in path.read_bytes():
                found.add(path.with_name("comm").read_text().strip())
    return found


def test_without_a_smarthost_nothing_is_relayed():
    with a_clone() as clone:
        clone.start()
        assert not (clone.path / "run/service/mayfly-relay").exists()
        assert "It went out" not in clone.said()
        clone.interrupt()


def test_with_a_smarthost_one_mail_is_stored_and_the_other_sent():
    with SmartHost() as host, a_clone() as clone:
        clone.start(*told_of(host))
        assert "Mail to mayfly.example is stored" in clone.said()
        assert "to other domains goes to 127.0.0.1." in clone.said()
        assert clone.send() == ""
        wait_for(lambda: "It works." in clone.show(), "the mail is in the database")
        assert clone.send_out() == ""
        sent, = host.wait()
        assert (sent.mail_from, sent.recipients) == ("alice@mayfly.example", ["bob@example.net"])
        assert sent.body.endswith(b"\r\n\r\nIt went out.\r\n")
        assert "It went out." not in clone.show()
        clone.interrupt()
        assert len(host.accepted()) == 1


def test_the_password_is_for_relay_alone(pair, tmp_path):
    """In a file that is the caller's alone, who may be root while the programs are not."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o400)
    with SmartHost(pair, users={USER: PASSWORD}) as host, a_clone() as clone:
        clone.start(*told_of(host, RELAY_TLS="starttls", RELAY_CA=pair.cert, RELAY_USER=USER,
                             RELAY_PASSWORD_FILE=file))
        assert clone.send_out() == ""
        sent, = host.wait()
        assert (sent.mail_from, sent.recipients, sent.connection.user) == (USER, [USER], USER)
        check_not_said(clone, PASSWORD)
        assert processes_with(clone, PASSWORD) == set()
        assert all(copy.stat().st_mode & 0o777 == 0o400 for copy in files_with(PASSWORD, clone.area() / "service"))
        clone.interrupt()
        assert files_with(PASSWORD, clone.area()) == []


def test_the_password_in_the_environment_is_for_relay_alone(pair):
    with SmartHost(pair, users={USER: PASSWORD}) as host, a_clone() as clone:
        clone.start(*told_of(host, RELAY_TLS="starttls", RELAY_CA=pair.cert, RELAY_USER=USER),
                    RELAY_PASSWORD=PASSWORD)
        clone.send_out()
        host.wait()
        check_not_said(clone, PASSWORD)
        # make has it from this test, and hands it to run.sh.
        assert processes_with(clone, PASSWORD) - {"make", "run.sh"} == {"mayfly-relay"}
        clone.interrupt()
        assert files_with(PASSWORD, clone.area()) == []


def test_a_smarthost_in_dotenv(pair):
    """With a path that is seen from the clone, and domains that the user chose, who is not root."""
    with SmartHost(pair, users={USER: PASSWORD}) as host, a_clone(user=someone()) as clone:
        shutil.copy(pair.cert, clone.path / "authority.pem")
        (clone.path / "password").write_text(PASSWORD)
        lines = told_of(host, RELAY_TLS="starttls", RELAY_CA="authority.pem", RELAY_USER=USER,
                        SMTPD_DOMAINS="here.example")
        (clone.path / ".env").write_text("".join(f"export {line}\n" for line in lines)
                                         + "RELAY_PASSWORD_FILE = 'password'\n")
        clone.start()
        assert "Mail to here.example is stored" in clone.said()
        assert "bob@here.example" in clone.line("printf.*It works")
        clone.send_out()
        assert host.wait()[0].connection.user == USER
        clone.interrupt()


def test_a_token_that_relay_cannot_read_is_named(tmp_path):
    token = tmp_path / "token"
    if AS_ROOT:
        token.write_text("a token\n")
        token.chmod(0o400)
    with a_clone() as clone:
        refused = clone.make("run", "RELAY_HOST=127.0.0.1", f"RELAY_USER={USER}", f"RELAY_TOKEN_FILE={token}")
        assert refused.returncode != 0
        assert f"RELAY_TOKEN_FILE={token} is not a file that" in refused.stdout
        assert clone.processes() == {}


def test_a_smarthost_and_everything_stored_is_said():
    with SmartHost() as host, a_clone() as clone:
        clone.start(*told_of(host, SMTPD_DOMAINS="*"))
        assert "SMTPD_DOMAINS is *: all mail is stored" in clone.said()
        assert "It went out" not in clone.said()
        clone.interrupt()
