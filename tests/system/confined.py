"""What confinement is tried with: a library that tries what is forbidden from inside smtpd
(confined.c), and kernels that lack what it takes (lacking.c)."""

import ctypes
import os
import subprocess

from cluster import ROOT

FLAGS = "-std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -O1".split()
CREATE_RULESET, VERSION = 444, 1


def compile(name, target, *flags):
    source = ROOT / "tests" / "system" / name
    subprocess.run([os.environ.get("CC", "cc"), *FLAGS, *flags, "-o", str(target), str(source)],
                   check=True)
    return target


def landlock_version():
    """That of this kernel; below 2 nothing can be confined."""
    return ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)


def threads(pid):
    """What the kernel says of every thread of a process, as dicts."""
    found = []
    for number in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{number}/status") as status:
            found.append(dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line))
    return found
