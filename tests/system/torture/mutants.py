"""Deliberately broken builds: their patches, and a workshop where each is built and tried.

A mutant is tests/mutants/<name>.patch. Above the patch its head says what is broken and whom that
would hurt (`Mutant:`), and which test notices (`Caught by:`, one a line): a unit test program, such
as unit/queue_commit, or a pytest node, such as tests/system/test_kill.py::test_….

A suite that cannot fail proves nothing, so it is the suite that is on trial here. Each mutant is
built from a copy of the tree with its objects and their times, in which make compiles nothing but
the file that the patch changed; the tree itself is left alone, with what was built in it.
"""

import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import threading
import xml.etree.ElementTree

from cluster import ROOT, short_directory
from programs import made_in, make_words

PATCHES = ROOT / "tests" / "mutants"
# What a patch may change: a mutant of the tests would be no mutant of Mayfly.
FOLDERS = ("common", "queue", "smtpd", "storer", "reaper", "relay", "sql")
BUILD_SECONDS = 600
TRY_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Mutant:
    name: str
    what: str
    catchers: tuple
    files: tuple
    path: pathlib.Path


def head_fields(head):
    """The fields above a patch, in order; a line that begins with a space goes on with the last."""
    fields = []
    for line in head.splitlines():
        name, colon, text = line.partition(": ")
        if line.startswith(" ") and fields:
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}")
        elif colon:
            fields.append((name, text.strip()))
        elif line:
            raise ValueError(f"not a field: {line!r}")
    return fields


def read(path):
    text = path.read_text()
    head, mark, _ = text.partition("diff --git ")
    fields = head_fields(head) if mark else []
    return Mutant(
        name=path.stem,
        what=" ".join(value for name, value in fields if name == "Mutant"),
        catchers=tuple(value for name, value in fields if name == "Caught by"),
        files=tuple(re.findall(r"^\+\+\+ b/(.*)$", text, re.M)),
        path=path)


def read_all():
    return [read(path) for path in sorted(PATCHES.glob("*.patch"))]


def is_unit(catcher):
    return catcher.startswith("unit/")


def environment(**more):
    """What a command of the workshop sees: nothing of the make or the pytest around it, whose
    variables would make it another build and another run."""
    inner = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "TORTURE", "TORTURE_TABLE",
             "MAYFLY_BUILD")
    kept = {name: text for name, text in os.environ.items()
            if name not in inner and not name.startswith(("PYTEST_", "GIT_"))}
    return kept | more


class Ended:
    """A command that was run: its code, what it said, and whether it had to be ended."""

    def __init__(self, code, said, overdue=False):
        self.code, self.said, self.overdue = code, said, overdue

    def last_words(self):
        return "\n".join(self.said.splitlines()[-25:])


class Workshop:
    """A sound copy of the tree, from which mutants are made."""

    def __init__(self):
        self.directory = short_directory("mayfly-mutants-")
        self.sound = self.directory / "sound"
        self.words = make_words()
        self.variant = made_in(self.words)
        self.running = set()
        self.lock = threading.Lock()
        ignore = shutil.ignore_patterns(".git", "build", "__pycache__", "corpus", ".hypothesis")
        shutil.copytree(ROOT, self.sound, ignore=ignore, symlinks=True)

    def end(self):
        """Ends what still runs; pytest then ends what it started."""
        with self.lock:
            for process in self.running:
                process.terminate()

    def remove(self):
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, tree, *command, seconds, **variables):
        process = subprocess.Popen(
            list(map(str, command)), cwd=tree, env=environment(**variables), text=True,
            errors="backslashreplace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        with self.lock:
            self.running.add(process)
        try:
            said, _ = process.communicate(timeout=seconds)
            return Ended(process.returncode, said)
        except subprocess.TimeoutExpired:
            process.terminate()
            said, _ = process.communicate(timeout=60)
            return Ended(process.returncode, said, overdue=True)
        finally:
            with self.lock:
                self.running.discard(process)

    # Making

    def bring_objects(self):
        """Takes over what is built already, so that nothing is compiled twice. What is missing or
        old make compiles."""
        source, target = ROOT / self.variant, self.sound / self.variant
        if not (source / "flags").exists():
            return
        target.mkdir(parents=True)
        for part in source.iterdir():
            if part.name in ("objects", "tests"):
                shutil.copytree(part, target / part.name,
                                ignore=shutil.ignore_patterns("fuzz", "bench", "*.gcda"))
            elif part.is_file():
                shutil.copy2(part, target / part.name)

    def build(self, tree, catchers):
        """Makes the programs, and the unit tests that are named. The compiler is that of what was
        built before."""
        flags = self.sound / self.variant / "flags"
        words = flags.read_text().split() if flags.exists() else []
        compiler = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
        units = [f"{self.variant}/tests/{catcher}" for catcher in catchers if is_unit(catcher)]
        return self.run(tree, "make", "--no-print-directory", *self.words, "all", *units,
                        *([f"CC={' '.join(compiler)}"] if compiler else []),
                        seconds=BUILD_SECONDS)

    def apply(self, tree, mutant, *options):
        """No repository around the copy is looked for: git would pass over what is not in it."""
        return self.run(tree, "git", "apply", *options, mutant.path, seconds=60,
                        GIT_CEILING_DIRECTORIES=str(self.directory))

    # Trying

    def pytest(self, tree, *arguments):
        """Runs system tests of a tree on what was built in it; returns how it ended, and counts of
        tests, failures, errors and skipped."""
        report = tree / "report.xml"
        ended = self.run(tree, "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                         "--tb=short", f"--junitxml={report}", *arguments, seconds=TRY_SECONDS,
                         MAYFLY_BUILD=self.variant)
        counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        if report.exists():
            suite = xml.etree.ElementTree.parse(report).getroot().find("testsuite")
            counts |= {name: int(suite.get(name)) for name in counts}
        return ended, counts

    def unit(self, tree, catcher):
        return self.run(tree, tree / self.variant / "tests" / catcher, seconds=TRY_SECONDS)

    def unknown(self, catchers):
        """Which of these tests there are not, in words; None when there are all."""
        lost = [catcher for catcher in catchers if is_unit(catcher) and
                not (self.sound / "tests" / f"{catcher}.c").exists()]
        if lost:
            return f"no such unit test: {', '.join(lost)}"
        nodes = [catcher for catcher in catchers if not is_unit(catcher)]
        ended, _ = self.pytest(self.sound, "--collect-only", *nodes)
        return None if ended.code == 0 else ended.last_words()

    def sound_fails(self, catchers):
        """What is wrong with these tests where nothing is broken, in words, or None. What always
        fails, or is skipped here, catches nothing."""
        for catcher in filter(is_unit, catchers):
            ended = self.unit(self.sound, catcher)
            if ended.code != 0:
                return f"{catcher} fails without a mutant:\n{ended.last_words()}"
        nodes = [catcher for catcher in catchers if not is_unit(catcher)]
        if not nodes:
            return None
        spread = ("-n", "2", "--dist", "loadfile") if len(nodes) > 4 else ()
        ended, counts = self.pytest(self.sound, *spread, *nodes)
        if ended.code != 0 or counts["skipped"] or not counts["tests"]:
            return f"fails, or is skipped, without a mutant ({counts}):\n{ended.last_words()}"
        return None

    def survives(self, mutant):
        """Builds a mutant and lets its tests try it. Returns None when each catches it by a failed
        test, or else in words what happened."""
        tree = self.directory / mutant.name
        shutil.copytree(self.sound, tree, symlinks=True)
        try:
            applied = self.apply(tree, mutant)
            if applied.code != 0:
                return f"does not apply:\n{applied.last_words()}"
            built = self.build(tree, mutant.catchers)
            if built.code != 0:
                return f"does not build:\n{built.last_words()}"
            for catcher in mutant.catchers:
                if (words := self.escapes(tree, catcher)) is not None:
                    return words
            return None
        finally:
            shutil.rmtree(tree, ignore_errors=True)

    def escapes(self, tree, catcher):
        if is_unit(catcher):
            # ERROR is a test that failed, and then could not put away what it had begun.
            ended = self.unit(tree, catcher)
            failed = ended.code > 0 and re.search(r"\[ +(FAILED|ERROR) +\]", ended.said)
        else:
            ended, counts = self.pytest(tree, "-x", catcher)
            failed = ended.code == 1 and counts["failures"] > 0
        if failed and not ended.overdue:
            return None
        how = "had to be ended" if ended.overdue else f"ended with {ended.code}"
        return f"{catcher} {how}, and no test of it failed:\n{ended.last_words()}"
