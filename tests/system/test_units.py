"""What systemd says of the units for it: they can be loaded as they are installed, and shut in what
they run as far as it can be.
"""

import functools
import re
import subprocess

import pytest

from cluster import ROOT
from test_install import SERVICES, make, scratch  # noqa: F401 (a fixture)

UNITS = [*(f"mayfly-{program}.service" for program in SERVICES), "mayfly-smtpd.socket"]

# The exposure that `systemd-analyze security` finds, from 0 to 100: what is left to smtpd is to be
# told apart from a service that needs nothing, to the others is the network.
EXPOSURE = {"smtpd": 10, "storer": 17, "reaper": 17, "relay": 17}

# What must be on, whatever it is rated at.
HARDENING = ["NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict",
             "ReadWritePaths=-/var/spool/mayfly -/var/lib/mayfly-metrics",
             "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes",
             "ProtectKernelTunables=yes", "ProtectKernelModules=yes",
             "ProtectKernelLogs=yes", "ProtectControlGroups=yes", "MemoryDenyWriteExecute=yes",
             "SystemCallFilter=@system-service", "UMask=0007", "Restart=always", "Group=mayfly"]


@pytest.fixture
def units(scratch):  # noqa: F811
    """The directory of the installed units."""
    make("install", f"PREFIX={scratch}/installed", "DESTDIR=")
    return scratch / "installed/lib/systemd/system"


def analyze(directory, *arguments):
    """systemd-analyze where the units are: so it finds what all of them share."""
    return subprocess.run(["systemd-analyze", *arguments], cwd=directory, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


def check_wrong(units, name, line, expected):
    """That a unit with one more line is complained of."""
    unit = units / name
    text = unit.read_text()
    unit.write_text(text.replace("[Service]\n", f"[Service]\n{line}\n"))
    said = analyze(units, "verify", "--man=no", f"./{name}").stdout
    assert expected in said, said
    unit.write_text(text)


def test_systemd_can_load_them(units):
    assert sorted(path.name for path in units.iterdir()) == sorted([*UNITS, "mayfly-.service.d"])
    done = analyze(units, "verify", "--man=no", *(f"./{name}" for name in UNITS))
    assert (done.returncode, done.stdout) == (0, "")

    check_wrong(units, "mayfly-storer.service", "ProtectSytem=strict", "Unknown key")
    check_wrong(units, "mayfly-relay.service", "ExecStartPre=/nowhere/program", "not executable")


@pytest.mark.parametrize("program", SERVICES)
def test_they_are_hardened(units, program):
    def rated(threshold):
        return analyze(units, "security", "--offline=yes", f"--threshold={threshold}", "--no-pager",
                       f"./mayfly-{program}.service")

    assert rated(EXPOSURE[program]).returncode == 0, rated(EXPOSURE[program]).stdout
    assert rated(1).returncode != 0, "the threshold is looked at"


def test_what_they_share_is_on():
    shared = (ROOT / "common/mayfly-.service.d/hardening.conf").read_text().splitlines()
    assert [line for line in HARDENING if line not in shared] == []


@pytest.mark.parametrize("program", SERVICES)
def test_each_is_itself(units, program):
    unit = (units / f"mayfly-{program}.service").read_text()
    assert f"\nUser=mayfly-{program}\n" in unit
    assert f"\nEnvironmentFile=-/etc/mayfly/{program}.env\n" in unit
    assert f"\nExecStart={units.parents[2]}/sbin/mayfly-{program}\n" in unit
    pages = re.search(r"^Documentation=(.*)$", unit, re.M).group(1).split()
    for name, section in re.findall(r"man:([a-z-]+)\((\d)\)", " ".join(pages)):
        assert (units.parents[2] / f"share/man/man{section}/{name}.{section}").exists()
    # Those with a watch read fs.inotify.max_queued_events in /proc/sys.
    assert ("\nProcSubset=pid\n" in unit) == (program in ("smtpd", "reaper"))
    # Nothing of one is said to override what all share, but by way of adding.
    shared = (units / "mayfly-.service.d/hardening.conf").read_text()
    keys = set(re.findall(r"^(\w+)=", unit, re.M)) & set(re.findall(r"^(\w+)=", shared, re.M))
    assert keys <= {"SystemCallFilter"} and "ProcSubset" not in shared


# The calls that are left to smtpd

# What it takes to confine itself, before it is ready.
CONFINING = {"prctl", "seccomp", "landlock_create_ruleset", "landlock_add_rule",
             "landlock_restrict_self", "capget", "capset", "setrlimit", "listen", "fstatfs"}


@functools.cache
def group(name):
    """The calls of one of systemd's groups."""
    lines = subprocess.check_output(["systemd-analyze", "syscall-filter", name], text=True)
    words = {line.strip() for line in lines.splitlines()[1:]}
    return expanded(word for word in words if not word.startswith("#"))


def expanded(words):
    return {call for word in words for call in (group(word) if word.startswith("@") else {word})}


def calls_left(*texts):
    """What SystemCallFilter= leaves, with the lines in the order in which systemd comes by them."""
    left = set()
    for text in texts:
        for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.M):
            if line.startswith("~"):
                left -= expanded(line[1:].split())
            else:
                left |= expanded(line.split())
    return left


def calls_of_smtpd():
    """Those that smtpd allows itself once it is confined."""
    table = (ROOT / "smtpd/syscalls.c").read_text()
    table = table.split("struct row allowed[] = {")[1].split("#if CONFINE_SANITIZED")[0]
    return {call for text in re.findall(r'"([a-z0-9_ ]+)"', table) for call in text.split()}


def test_smtpd_has_the_calls_that_it_needs():
    """The shared lines come last, and take away from what smtpd's own have given."""
    own = (ROOT / "smtpd/mayfly-smtpd.service").read_text()
    shared = (ROOT / "common/mayfly-.service.d/hardening.conf").read_text()
    needed = calls_of_smtpd() | CONFINING
    assert {"accept4", "syncfs", "futex"} < needed
    assert needed - calls_left(own, shared) == set()
    assert {"ptrace", "mount", "setuid", "chown"} & calls_left(own, shared) == set()
    assert calls_left("", shared) < calls_left(own, shared)
