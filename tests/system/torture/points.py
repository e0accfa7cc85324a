"""Fault points (common/fault.h): the build of the programs that has them, which there are, and what
is done at one of them.

The list of them is what stands in the programs themselves, in the section that the macros fill.
"""

import collections
import dataclasses
import errno
import fcntl
import os
import re
import subprocess

from cluster import ROOT
from programs import Programs, made_in, make_words

PROGRAMS = ("smtpd", "storer", "relay", "reaper")
SECTION = "fault_points"

NOT_FOR_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "BUILD", "SANITIZE", "FAULTS",
                "COVERAGE"}


def build():
    """Makes the programs with points beside those that are under test, in the same way but that
    nobody looks for counters in them; unless they are there and new. Returns their directory.
    Several sessions at once make them once."""
    words = [*(word for word in make_words() if word.startswith("SANITIZE=")), "FAULTS=1"]
    directory = made_in(words)
    environment = {name: text for name, text in os.environ.items() if name not in NOT_FOR_MAKE}
    (ROOT / directory).mkdir(parents=True, exist_ok=True)
    with open(ROOT / directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(["make", "-s", f"-j{os.cpu_count()}", *words, "all"],
                              cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert made.returncode == 0, made.stdout
    return ROOT / directory


def section_of(program):
    """The strings of the section; [] in a program without."""
    shown = subprocess.run(["readelf", "-p", SECTION, program], capture_output=True, text=True,
                           check=True)
    return sorted(set(re.findall(r"^\s*\[\s*[0-9a-f]+\]\s+(.+)$", shown.stdout, re.M)))


def points_of(program):
    """{point: its actions} of a program."""
    points = {}
    for text in section_of(program):
        kind, _, name = text.partition(" ")
        if kind == "step":
            points[f"{name}.before"] = points[f"{name}.after"] = ("kill", "EIO")
        elif kind == "length":
            points[f"{name}.length"] = ("short", "torn")
        else:
            assert kind == "point", text
            points[name] = ("kill",)
    return points


@dataclasses.dataclass(frozen=True)
class Strike:
    """What is done at a point, behind so many passes: `kill`; the name of an error, which is
    returned; `short`, a transfer of half; or `torn`, of half and killed behind it."""
    point: str
    action: str
    passes: int = 0

    def __str__(self):
        return f"{self.action} at {self.point}" + (f" ({self.passes + 1})" if self.passes else "")

    @property
    def kills(self):
        return self.action in ("kill", "torn")

    def rules(self):
        """As FAULT_POINTS has it."""
        if self.action == "torn":
            # Every length is of a step, whose passes may be more: an empty one has no half. It is
            # the first transfer that is torn, or any that comes behind it.
            step = self.point.removesuffix(".length")
            return [f"{self.point}:short:{self.passes}", f"{step}.after:kill:{self.passes}"]
        number = {"kill": "kill", "short": "short"}.get(self.action)
        return [f"{self.point}:{number or getattr(errno, self.action)}:{self.passes}"]


class Hits:
    """What a program said of the points that it passed, in their order."""

    def __init__(self, path):
        self.path = path

    def lines(self):
        return self.path.read_text().split() if self.path.exists() else []

    def passed(self):
        """{point: how often}"""
        return collections.Counter(line for line in self.lines() if line[0] != "!")

    def struck(self, point):
        return f"!{point}" in self.lines()


class FaultyPrograms(Programs):
    """Programs with points in them: clean ones, and one that is struck."""

    def __init__(self, build):
        super().__init__()
        self.build = build

    def path(self, name):
        return str(self.build / name)
