"""Whether something grows that should not: looks taken now and then at memory, descriptors and
disk, and the last third of them against the first."""

import collections
import os
import statistics

MIB = 1 << 20

# A program that lives so long is compared with itself as well; its first seconds are its beginning.
LIFE_SECONDS = 30
YOUNG_SECONDS = 5
# What storer takes more when something waits and its three batches are full than when nothing does.
LIFE_BYTES = 8 * MIB

# Fewer looks than these say nothing.
LEAST_LOOKS = 12

# How much larger the last third may be: a factor, and bytes (or a count) on top of it, which are
# what the noise of some seconds comes to. Of what is high and low in turn, the extreme is taken
# that stays where it is when nothing grows.
BOUNDS = {
    "memory": (max, 1.5, 8 * MIB),           # private bytes of a program
    "descriptors": (max, 1.25, 40),          # of a program
    # From the first partition that went on.
    "days with partitions": (max, 1.0, 1),
    "database": (min, 1.25, 1024),           # bytes, for each message that is in it
    "spool files": (min, 1.0, 400),          # in tmp/, new/, cur/: what is left when all goes well
    "spool bytes": (min, 1.0, 4 * MIB),
}


def bounds_of(what):
    """By the first words of a series' name: `memory of storer`."""
    return next(bounds for name, bounds in BOUNDS.items() if what.startswith(name))


def thirds(values):
    size = len(values) // 3
    return values[:size], values[-size:]


def grown(what, values):
    """A text, when the last third is larger than it may be."""
    extreme, factor, more = bounds_of(what)
    first, last = (extreme(third) for third in thirds(values))
    if last > first * factor + more:
        return f"{what}: {first} in the first third, {last} in the last, of {len(values)} looks"
    return None


def spool_size(spool):
    """(files, bytes) of what is on its way, on both queues."""
    files = octets = 0
    for queue in (spool, spool.relay):
        for name in ("tmp", "new", "cur"):
            for entry in scan(queue.directory(name)):
                files += 1
                octets += size_of(entry)
    return files, octets


def scan(directory):
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def size_of(entry):
    """What it takes on the disk; nothing where it has gone meanwhile."""
    try:
        return entry.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


class Samples:
    """Series of numbers, each under its name, and the lives of programs."""

    def __init__(self):
        self.series = collections.defaultdict(list)
        self.lives = collections.defaultdict(list)

    def add(self, what, value):
        self.series[what].append(value)

    def look_at_programs(self, ages):
        """`ages`: {program: seconds since it was started}. Two of one name share the clients, now
        in one way and now in another, and count together."""
        sums = collections.Counter()
        for program, age in ages.items():
            memory = program.memory()
            if age >= YOUNG_SECONDS:
                self.lives[program.name, program.pid].append((age, memory))
            sums[f"memory of {program.name}"] += memory
            sums[f"descriptors of {program.name}"] += program.descriptors()
        for what, sum in sums.items():
            self.add(what, sum)

    def look_at_spool(self, spool):
        files, octets = spool_size(spool)
        self.add("spool files", files)
        self.add("spool bytes", octets)

    def growth(self):
        """Everything that has grown, as texts."""
        found = [grown(what, values) for what, values in self.series.items()
                 if len(values) >= LEAST_LOOKS]
        for (name, pid), looks in self.lives.items():
            if looks[-1][0] - looks[0][0] >= LIFE_SECONDS:
                first, last = thirds([memory for _, memory in looks])
                before, after = statistics.median(first), statistics.median(last)
                if after > before * 1.25 + LIFE_BYTES:
                    found.append(f"memory of {name} {pid}: {before:.0f} in the first third of its "
                                 f"life of {looks[-1][0]:.0f} s, {after:.0f} in the last")
        return [text for text in found if text]

    def summary(self):
        """A line for each series: the extremes that are compared."""
        lines = []
        for what, values in sorted(self.series.items()):
            if len(values) >= LEAST_LOOKS:
                extreme = bounds_of(what)[0]
                first, last = (extreme(third) for third in thirds(values))
                lines.append(f"  {what}: {extreme.__name__} of the first third {first:,}, "
                             f"of the last {last:,}")
        lives = [looks[-1][0] for looks in self.lives.values()]
        if lives:
            lines.append(f"  longest life of a program: {max(lives):.0f} s")
        return "\n".join(lines)
