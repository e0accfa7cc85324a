"""Failing system calls: a shared object (fault.c) preloaded into smtpd, and the plan it follows."""

import errno
import os
import subprocess

from cluster import ROOT

SOURCE = ROOT / "tests" / "system" / "fault.c"
PLAN_SIZE = 64


def build(directory):
    """Compiles the shared object; returns its path."""
    target = directory / "fault.so"
    flags = "-std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 -shared -fPIC".split()
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(target), str(SOURCE)], check=True)
    return target


class Faults:
    """What goes wrong in one program, changed while it runs."""

    def __init__(self, library, directory, spool):
        self.library = library
        self.spool = spool
        self.plan_file = directory / "plan"
        self.trace_file = directory / "trace"
        self.clear()
        self.trace_file.touch()

    def settings(self):
        """The environment of the program that is to suffer."""
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        return {"LD_PRELOAD": self.library, "FAULT_UNDER": self.spool.path,
                "FAULT_PLAN": self.plan_file, "FAULT_TRACE": self.trace_file,
                "ASAN_OPTIONS": (sanitizer + ":" if sanitizer else "") + "verify_asan_link_order=0"}

    def _plan(self, text):
        # In place: a confined program reads on in the file that it has opened.
        descriptor = os.open(self.plan_file, os.O_WRONLY | os.O_CREAT)
        os.pwrite(descriptor, text.encode().ljust(PLAN_SIZE, b"\0"), 0)
        os.close(descriptor)

    def fail(self, call, error):
        """Every such call fails; `error` is a name such as "EIO"."""
        self._plan(f"{call} error {getattr(errno, error)}")

    def delay(self, call, seconds):
        self._plan(f"{call} delay {round(seconds * 1000)}")

    def shorten(self, call):
        self._plan(f"{call} short 0")

    def clear(self):
        self._plan("")

    def forget(self):
        """Empties the trace."""
        os.truncate(self.trace_file, 0)

    def trace(self):
        """The names of the calls that succeeded since, and "reply" for what went to a socket."""
        return self.trace_file.read_text().split()
