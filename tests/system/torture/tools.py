"""How the suite is run under a tool: a build of its own, the unit tests one by one, the system tests
in a pytest of their own, and what came of each."""

import os
import pathlib
import shutil
import signal
import subprocess
import xml.etree.ElementTree

import pytest

from cluster import ROOT

SYSTEM = ROOT / "tests" / "system"
CORES = os.cpu_count() or 1
# As many as common/test.sh has.
WORKERS = min(CORES + 1, 4)
SECONDS = 3 * 3600

# What has nothing of the programs in it that another build would show: these run SQL, the tools of
# the tests, or a build of their own, with sanitizers as it is.
ELSEWHERE = ("test_checklist.py", "test_client.py", "test_fuzz.py", "test_smarthost.py",
             "test_sql_emails.py", "test_sql_partitions.py", "test_sql_schema.py",
             "test_sql_text.py", "test_tree.py", "test_vulnerabilities.py")


def need(*tools):
    """Skips where one of these is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here (`common/packages.sh install torture`)")


def make(*words):
    """A make to its end, on every core; returns what it said."""
    environment = {name: text for name, text in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "MAYFLY_BUILD", "TORTURE",
                                   "TORTURE_TABLE")}
    done = subprocess.run(["make", "--no-print-directory", f"-j{CORES}", *words], cwd=ROOT,
                          env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


def unit_tests(build, leave=()):
    """The unit tests of a build, which was made before."""
    programs = sorted(path for path in (ROOT / build / "tests" / "unit").iterdir()
                      if path.is_file() and os.access(path, os.X_OK))
    assert programs, f"{build} has no unit tests"
    sources = {path.stem for path in (ROOT / "tests" / "unit").glob("*.c")}
    return [path for path in programs if path.name in sources and path.name not in leave]


def run_units(build, tally, leave=(), **environment):
    """Runs them; each that is clean is one that was tried."""
    for program in unit_tests(build, leave):
        done = subprocess.run([program], env=os.environ | environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200)
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{said[-20_000:]}"
        tally.did()


def modules(leave=()):
    """The system tests that are run once more under a tool."""
    left = {*ELSEWHERE, *leave}
    missing = [name for name in left if not (SYSTEM / name).exists()]
    assert not missing, f"left out and not there: {missing}"
    return [path for path in sorted(SYSTEM.glob("test_*.py")) if path.name not in left]


def run_system(build, directory, paths, tally, **environment):
    """Runs system tests on the programs of a build; each module that is clean is one that was
    tried."""
    report = pathlib.Path(directory) / "report.xml"
    words = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(WORKERS),
             "--dist", "loadfile", f"--junitxml={report}", *map(str, paths)]
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    with open(pathlib.Path(directory) / "said", "w+", encoding="utf-8", errors="replace") as said:
        run = subprocess.Popen(words, cwd=ROOT, env=clean | {"MAYFLY_BUILD": build} | environment,
                               stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        try:
            code = run.wait(SECONDS)
        finally:
            if run.poll() is None:
                run.send_signal(signal.SIGTERM)
                run.wait(120)
        said.seek(0)
        assert code == 0, f"{' '.join(words)} ended with {code}:\n{said.read()[-60_000:]}"
    ran = set()
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            ran.add(case.get("classname").split(".")[-1])
    for name in sorted(ran):
        assert (SYSTEM / f"{name}.py").exists(), name
        tally.did()
