"""A clock that runs faster: a shared object (clock.c) preloaded into programs, and what it says."""

import datetime
import os
import subprocess
import time

from cluster import ROOT, Cluster

SOURCE = ROOT / "tests" / "system" / "torture" / "clock.c"
DAY = 86400
BILLION = 1_000_000_000


class Clock:
    """Begins at the next noon (UTC); from then on a day takes so many seconds."""

    def __init__(self, directory, seconds_a_day):
        self.rate = round(DAY / seconds_a_day)
        self.began = time.time_ns()
        half = DAY // 2
        self.first = (self.began // BILLION // DAY * DAY + half + DAY) * BILLION
        self.library = directory / "clock.so"
        flags = "-std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 -shared -fPIC".split()
        subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(self.library), str(SOURCE)],
                       check=True)

    def settings(self):
        """The environment of a program that is to go by it."""
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        return {"LD_PRELOAD": str(self.library), "CLOCK_FROM": str(self.began),
                "CLOCK_TO": str(self.first), "CLOCK_RATE": str(self.rate),
                "ASAN_OPTIONS": (sanitizer + ":" if sanitizer else "") + "verify_asan_link_order=0"}

    def at(self, true):
        """What it says at a moment of the true time, in seconds; of a file's time too."""
        return (self.first + (round(true * BILLION) - self.began) * self.rate) / BILLION

    def now(self):
        """What it says now: seconds since 1970."""
        return (self.first + (time.time_ns() - self.began) * self.rate) / BILLION

    def passed(self):
        """Seconds that went by on it."""
        return self.now() - self.first / BILLION

    def true(self, seconds):
        """How long that takes."""
        return seconds / self.rate


def day_of(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date()


class QuickCluster(Cluster):
    """A PostgreSQL that goes by such a clock. What it does now and then by itself, it is to do as
    often as it would."""

    def __init__(self, clock):
        super().__init__()
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"autovacuum_naptime = {min(60 * clock.rate, 2_000_000)}\n"
                       "checkpoint_timeout = 86400\nmax_wal_size = 256MB\n"
                       "authentication_timeout = 600\n")
        self.as_owner["env"] = os.environ | clock.settings()
