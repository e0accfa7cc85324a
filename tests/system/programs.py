"""The real programs: started with nothing in their environment but what a test gives, watched,
and always ended.

Standard error is read in the background and never blocks a program. At the end of a test everything
still running gets SIGTERM and must exit 0; a program that ended by itself, or that a sanitizer
spoke in, fails the test.
"""

import contextlib
import functools
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import threading
import time

import smtp
from cluster import ROOT, short_directory

BUILD = ROOT / os.environ.get("MAYFLY_BUILD", "build")
READY_SECONDS = 60
STOP_SECONDS = 10
# What a busy machine, or a sanitizer's last look at the heap, may add to the promised seconds.
GRACE_SECONDS = 20

SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|ThreadSanitizer|"
                       r"runtime error:")
PAIR = re.compile(r'([A-Za-z0-9_.]+)=("(?:[^"\\]|\\.)*"|[^ ]*)')

# What make may be told, in the order in which it makes directories of it: {word: (a flag of the
# compiler that it comes to, directory)}.
VARIANTS = {"SANITIZE=1": ("-fsanitize=address,undefined", "sanitize"),
            "SANITIZE=thread": ("-fsanitize=thread", "thread"),
            "FAULTS=1": ("-DFAULTS", "faults"),
            "COVERAGE=1": ("--coverage", "coverage")}


def make_words():
    """What make was told, of that, for the programs under test."""
    flags = (BUILD / "flags").read_text().split()
    return [word for word, (flag, _) in VARIANTS.items() if flag in flags]


def made_in(words):
    """The directory of the tree in which make builds what it is told so."""
    return "/".join(["build", *(part for word, (_, part) in VARIANTS.items() if word in words)])


@functools.cache
def sanitized():
    """Whether the programs were built with sanitizers."""
    return b"__asan_init" in (BUILD / "smtpd").read_bytes() or watches_threads()


@functools.cache
def hurries():
    """Whether they are as fast as they are made to be: not for a tool, and not without optimisation,
    to count what is run."""
    return not sanitized() and "--coverage" not in (BUILD / "flags").read_text().split()


@functools.cache
def watches_threads():
    """Whether they were built with ThreadSanitizer, which has a thread of its own from the start.
    What confines is of each thread, so they are not confined then."""
    return b"__tsan_init" in (BUILD / "smtpd").read_bytes()


def memory_slack(bytes):
    """A bound on how much a program's memory may grow. A sanitizer keeps freed memory a while."""
    return bytes + (512 << 20 if sanitized() else 0)


def environment(settings):
    """What a program sees: a path, a locale, the sanitizers' options, and the test's settings."""
    clean = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}
    clean |= {name: text for name, text in os.environ.items() if name.endswith("SAN_OPTIONS")}
    clean |= {name: str(value) for name, value in settings.items() if value is not None}
    return clean


def logfmt(line):
    """One log line as a dict; quotes and backslashes undone."""
    fields = {}
    for name, value in PAIR.findall(line):
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        fields[name] = value
    return fields


def url_of(database):
    """The connection string of a Database, or one already."""
    return getattr(database, "url", database)


class NotReady(AssertionError):
    """The program ended, or said nothing, where it should have become ready."""


class Program:
    """A running program. `stop`, `kill` and `wait` say that its end was wanted."""

    def __init__(self, name, process, ready, stderr):
        self.name = name
        self.process = process
        self.ready_fd = ready
        self.lines = []
        self.end_wanted = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(stderr,), daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.process.pid

    @property
    def returncode(self):
        return self.process.poll()

    # What it says

    def _read(self, descriptor):
        if descriptor is None:
            return
        rest = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(descriptor, 65536):
                *whole, rest = (rest + chunk).split(b"\n")
                self._add(whole)
        if rest:
            self._add([rest])
        os.close(descriptor)

    def _add(self, lines):
        with self._news:
            self.lines += [line.decode("utf-8", "backslashreplace") for line in lines]
            self._news.notify_all()

    def log(self, **fields):
        """The log lines, as dicts, that carry all these fields."""
        with self._news:
            lines = list(self.lines)
        wanted = {name: str(value) for name, value in fields.items()}
        return [entry for entry in map(logfmt, lines) if wanted.items() <= entry.items()]

    def wait_log(self, seconds=60, **fields):
        """Waits until a line carries all these fields; returns the first such."""
        end = time.monotonic() + seconds
        while True:
            if found := self.log(**fields):
                return found[0]
            with self._news:
                assert time.monotonic() < end, f"{self.name} did not log {fields}:\n{self.text()}"
                self._news.wait(0.1)

    def text(self):
        return "\n".join(self.lines)

    # Its life

    def wait_ready(self, seconds=READY_SECONDS):
        """Waits for the newline on READY_FD."""
        readable, _, _ = select.select([self.ready_fd], [], [], seconds)
        said = os.read(self.ready_fd, 64) if readable else None
        if said is None:
            raise NotReady(f"{self.name} was not ready within {seconds} s:\n{self.text()}")
        if said != b"\n":
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self._reader.join(5)
            raise NotReady(f"{self.name} ended ({self.returncode}), said {said!r}:\n{self.text()}")
        return self

    def is_ready(self):
        """Whether READY_FD has been written to; asks without waiting and leaves the answer for
        wait_ready."""
        return bool(select.select([self.ready_fd], [], [], 0)[0])

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=60):
        """Waits until it ends by itself; returns its exit code."""
        self.end_wanted = True
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def stop(self, number=signal.SIGTERM, seconds=None):
        """Asks it to stop, and sees that it does so in time, with 0."""
        if seconds is None:
            seconds = STOP_SECONDS + GRACE_SECONDS
        self.end_wanted = True
        self.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} runs {seconds} s after {number}:\n{self.text()}")
        self._reader.join(10)
        assert code == 0, f"{self.name} stopped with {code}:\n{self.text()}"

    def kill(self):
        self.end_wanted = True
        self.process.kill()
        self.process.wait(60)
        self._reader.join(10)

    def crash_report(self):
        return SANITIZER.search(self.text()) is not None

    # What the kernel knows of it

    def memory(self):
        """Its own memory in bytes: what would come back if it ended (private pages, swap
        included)."""
        fields = dict(re.findall(r"^(\w+):\s+(\d+) kB", self._proc("smaps_rollup"), re.M))
        private = ("Private_Clean", "Private_Dirty", "Swap")
        return 1024 * sum(int(fields.get(name, 0)) for name in private)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self):
        after_name = self._proc("stat").rsplit(")", 1)[1].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def _proc(self, file):
        return pathlib.Path(f"/proc/{self.pid}/{file}").read_text()


class Smtpd(Program):
    """smtpd, and the way to it. `tls`: the context of clients that are to say STARTTLS first."""

    tls = None

    @property
    def address(self):
        """The address it really listens on, as it said itself."""
        text = self.wait_log(event="listening")["address"]
        host, _, port = text.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def port(self):
        return self.address[1]

    def session(self, at="G", **options):
        """A client in the state that a letter of the checklist names: G, E, M, R or D. `tls=None`
        keeps it in the clear, whatever the others do."""
        options.setdefault("tls", self.tls)
        return smtp.session(self.address, at, **options)


class Relay(Program):
    """relay, which may be told that it is worth a try."""

    def hurry(self):
        """What an operator does when he has mended something."""
        self.send_signal(signal.SIGHUP)


CLASSES = {"smtpd": Smtpd, "relay": Relay}


class Programs:
    """Everything one test, or one module, starts. `pair`: the certificate behind which every
    session with smtpd is held (tlsfiles.Pair); None: they are held in the clear."""

    def __init__(self, pair=None):
        self.started = []
        self.pair = pair
        self.directory = short_directory("mayfly-run-")

    def path(self, name):
        return str(BUILD / name)

    def _path_for(self, name, owner):
        """Another user may not be let into the tree, which may lie under a private home: he gets a
        copy."""
        if owner is None:
            return self.path(name)
        copy = self.directory / name
        if not copy.exists():
            shutil.copy(self.path(name), copy)
        return str(copy)

    def start(self, name, *args, ready=True, stderr=None, wrapper=(), owner=None, ambient=None,
              pass_fds=(), **settings):
        """Starts build/<name> and waits until it says it is ready.

        `ready=False` does not wait; `stderr` is a descriptor to use instead of the pipe we read, or
        "closed"; `wrapper` a command to put before it; `owner` is (user, group), and `ambient` a
        capability that he has. What stands in capitals is a setting; one that is None is left out.
        """
        said, say = os.pipe()
        heard, hear = (None, stderr) if stderr is not None else os.pipe()
        cwd = self._working_directory()
        options = {}
        if owner:
            options = {"user": owner[0], "group": owner[1], "extra_groups": []}
            shutil.chown(cwd, *owner)
        if ambient:
            wrapper = [*wrapper, "setpriv", f"--reuid={owner[0]}", f"--regid={owner[1]}",
                       "--clear-groups", f"--inh-caps=+{ambient}", f"--ambient-caps=+{ambient}"]
            options = {}
        if stderr == "closed":
            # Popen has no word for it: inherited, and closed before exec.
            hear = None
            options["preexec_fn"] = lambda: os.close(2)
        settings.setdefault("READY_FD", say)
        try:
            process = subprocess.Popen(
                [*wrapper, self._path_for(name, owner), *args], cwd=cwd, env=environment(settings),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=hear,
                pass_fds=(say, *pass_fds), start_new_session=True, **options)
        finally:
            os.close(say)
            if stderr is None:
                os.close(hear)
        program = CLASSES.get(name, Program)(name, process, said, heard)
        self.started.append(program)
        if ready:
            program.wait_ready()
        return program

    def _working_directory(self):
        path = self.directory / str(len(self.started))
        path.mkdir()
        return path

    def smtpd(self, spool, **settings):
        """smtpd on a port that nobody else has."""
        settings.setdefault("SMTPD_LISTEN", "127.0.0.1:0")
        settings.setdefault("SMTPD_HOSTNAME", "mayfly.example")
        if watches_threads():
            settings.setdefault("SMTPD_CONFINE", "off")
        if self.pair:
            settings = self.pair.settings() | settings
        smtpd = self.start("smtpd", SPOOL=spool, **settings)
        if self.pair:
            smtpd.tls = self.pair.client()
        return smtpd

    def storer(self, spool, database, **settings):
        return self.start("storer", SPOOL=spool, DATABASE_URL=url_of(database), **settings)

    def relay(self, spool, smarthost, **settings):
        """relay to a smarthost, whose settings() say how it is reached."""
        own = {"SMTPD_HOSTNAME": "mayfly.example", "SMTPD_DOMAINS": "stored.example"}
        return self.start("relay", SPOOL=spool, **(own | smarthost.settings() | settings))

    def reaper(self, spool, database, **settings):
        return self.start("reaper", SPOOL=spool, DATABASE_URL=url_of(database), **settings)

    def run(self, name, *args, cwd=None, seconds=60, **settings):
        """Runs a program to its end: --help, --check, or settings it must refuse. Returns the
        CompletedProcess."""
        return subprocess.run(
            [self.path(name), *args], cwd=cwd or self.directory, env=environment(settings),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)

    def end(self):
        """Ends all that still runs; returns what was wrong, as a list of texts."""
        wrong = []
        for program in reversed(self.started):
            if program.returncode is None:
                try:
                    program.send_signal(signal.SIGCONT)
                    program.stop()
                except AssertionError as failure:
                    wrong.append(str(failure))
            elif not program.end_wanted:
                wrong.append(f"{program.name} ended by itself with {program.returncode}:\n"
                             f"{program.text()}")
            program._reader.join(10)
            if program.crash_report():
                wrong.append(f"a sanitizer spoke in {program.name}:\n{program.text()}")
            os.close(program.ready_fd)
        self.started.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        return wrong


