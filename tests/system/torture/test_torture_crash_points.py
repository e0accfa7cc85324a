"""Every step on which it depends that no message is lost, cut short: the program ended before it
and behind it, the step failed, or done by half. The steps are those that the code names
(common/fault.h), and one that nothing here comes by is a failure."""

import contextlib
import shutil
import subprocess
import tempfile

import pytest

import disk
import points
from cluster import short_directory
from crash import cases_of, sample, strike_all, survey
from crash_reaper import ReaperBench
from crash_relay import RelayBench
from crash_smtpd import SmtpdBench
from crash_storer import StorerBench
from programs import BUILD, Programs, environment
from size import pick

pytestmark = pytest.mark.deadline(3000)

SIDE_BY_SIDE = 3

# At how many of its passes a point is struck, and whether in each scenario that comes by, or one.
PASSES, REPEAT = pick((1, False), (2, False), (3, True))

# What a program has because it is linked with all of a file, and never calls: how its points begin.
NOT_CALLED = {"smtpd": ("place.",),         # relay's, and files become durable otherwise
              "storer": (),
              "relay": ("retire.move",),    # nothing of it is kept or returned
              "reaper": ("scan.open",)}     # it opens directories by their path


@pytest.fixture(scope="session")
def faulty():
    """The directory of the programs with points."""
    return points.build()


@contextlib.contextmanager
def opened(make):
    with contextlib.ExitStack() as stack:
        benches = []
        for _ in range(SIDE_BY_SIDE):
            benches.append(make())
            stack.callback(benches[-1].close)
        yield benches


def crash(make, tally, count):
    """Strikes a program in benches that are made so, that many times, or (None) wherever it comes
    by; returns the points."""
    with opened(make) as benches:
        seen = survey(benches, tally)
        cases = cases_of(benches[0], seen, PASSES, REPEAT)
        strike_all(benches, sample(cases, count), tally)
    return {point for passed in seen.values() for point in passed}


def check_reached(faulty, program, reached, excused=()):
    there = points.points_of(faulty / program)
    idle = {point for point in there if point.startswith(NOT_CALLED[program])}
    assert not idle & reached, "they are called after all"
    missed = sorted(set(there) - idle - reached - {one for one in there if one.startswith(excused)})
    assert missed == [], f"nothing comes by these points of {program}: {missed}"


def places():
    """Where a spool is committed by which method: {method: directory}."""
    found = {}
    for directory in (tempfile.gettempdir(), "/var/tmp", "/dev/shm"):
        with contextlib.suppress(OSError):
            found.setdefault(method_in(directory), directory)
    return found


def method_in(directory):
    spool = tempfile.mkdtemp(prefix="mayfly-method-", dir=directory)
    programs = Programs()
    try:
        return programs.smtpd(spool).wait_log(event="committing")["method"]
    finally:
        programs.end()
        shutil.rmtree(spool, ignore_errors=True)


# The points of each method that are passed with it alone.
OF_METHOD = {"syncfs": ("commit.syncfs", "commit.wait"), "fsync": ("commit.fsync_new",)}
KIND = {"syncfs": "ext4", "fsync": "tmpfs"}


@pytest.mark.parametrize("method", sorted(OF_METHOD))
def test_smtpd(faulty, tally_of, method):
    """Both ways to commit, each on a file system where it is chosen."""
    with contextlib.ExitStack() as stack:
        place = places().get(method)
        if place is None:
            directory = short_directory("mayfly-crash-disk-")
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            place = stack.enter_context(disk.mounted(directory, KIND[method], 128, 4000))
        with tally_of(f"crash-points/smtpd-{method}") as tally:
            reached = crash(lambda: SmtpdBench(faulty, place), tally,
                            pick(15, 70, None))
    other, = set(OF_METHOD) - {method}
    check_reached(faulty, "smtpd", reached, OF_METHOD[other])


def test_storer(faulty, tally_of, cluster):
    with tally_of("crash-points/storer") as tally:
        reached = crash(lambda: StorerBench(faulty, cluster), tally,
                        pick(8, 60, None))
    check_reached(faulty, "storer", reached)


def test_relay(faulty, tally_of):
    with tally_of("crash-points/relay") as tally:
        reached = crash(lambda: RelayBench(faulty), tally, pick(15, 100, None))
    check_reached(faulty, "relay", reached)


def test_reaper(faulty, tally_of, cluster):
    with tally_of("crash-points/reaper") as tally:
        reached = crash(lambda: ReaperBench(faulty, cluster), tally,
                        pick(5, 30, None))
    check_reached(faulty, "reaper", reached)


@pytest.mark.parametrize("plan, understood", [
    ("aside.write.before:5", True), ("aside.write.after:kill:3", True),
    ("aside.write.length:short:0,aside.write.after:kill", True), ("storer.stored:kill", True),
    ("aside.write.before", False), ("aside.write.before:", False), ("aside.write.before:0", False),
    ("aside.write.before:-5", False), ("aside.write.before:5x", False),
    ("aside.write.before:killed", False), ("aside.write.before:99999", False),
    ("aside.write.before:5:", False), ("aside.write.before:5:-1", False),
    ("aside.write.before:5:1x", False), ("aside.write.before:5:1:1", False),
    ("aside.write.before:short", False), ("aside.write.length:5", False),
    ("storer.stored:short", False), ("storer.stored:5", False),
    ("aside.write:kill", False), ("aside.write.before.:5", False), ("sweep.remove.before:5", False),
    ("aside.write.before:5,nothing:kill", False), (",", False)])
def test_a_plan_without_effect_is_refused(faulty, plan, understood):
    """Who is told what he cannot do must not pass for one who was struck."""
    done = subprocess.run([faulty / "storer", "--help"], env=environment({"FAULT_POINTS": plan}),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == (0 if understood else 78)
    assert ("event=fault_plan_bad" in done.stderr) != understood


@pytest.mark.parametrize("program", points.PROGRAMS)
def test_no_other_build_has_any(faulty, program):
    """Not a name, not a call, nothing that looks for them: the programs are those without
    points."""
    names = {text.split()[1] for text in points.section_of(faulty / program)}
    assert len(names) > 5
    assert points.section_of(BUILD / program) == []
    content = (BUILD / program).read_bytes()
    symbols = subprocess.run(["nm", BUILD / program], capture_output=True, text=True, check=True)
    assert " fault_" not in symbols.stdout
    for name in names | {"FAULT_POINTS", "FAULT_HITS"}:
        assert name.encode() not in content, name
