"""What the kernel counts: time of the processors, flushes of a disk, memory of processes; and which
machine it is, and whether it was left alone, so that a reader knows what a table is worth."""

import contextlib
import os
import pathlib
import platform
import re
import time

TICKS = os.sysconf("SC_CLK_TCK")


def _processors():
    """(seconds that all cores together were busy, seconds that they were there) since the start."""
    line = pathlib.Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, idle, waiting, interrupts, soft, stolen = map(int, line.split()[1:9])
    busy = user + nice + system + interrupts + soft
    return busy / TICKS, (busy + idle + waiting + stolen) / TICKS


def busy_seconds():
    return _processors()[0]


def others(seconds=1.0):
    """The share of the processors that somebody takes while nothing is measured."""
    busy, there = _processors()
    time.sleep(seconds)
    later_busy, later_there = _processors()
    return (later_busy - busy) / max(later_there - there, 0.01)


def flushes(path):
    """Flushes that the disk under a path was sent so far; None where the kernel does not say."""
    device = os.stat(path).st_dev
    stat = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    fields = stat.read_text().split() if stat.exists() else []
    return int(fields[15]) if len(fields) > 15 else None


def children(pid):
    """The processes that a process has started, and theirs."""
    found = []
    with contextlib.suppress(OSError):
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def pss(pids):
    """The memory of processes in KiB, pages that several share counted once among them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
    return total


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def load():
    return os.getloadavg()[0]


def description():
    """Processors, memory and kernel, in a line."""
    model = re.search(r"^model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    name = f" ({model.group(1)})" if model else ""
    return (f"{len(os.sched_getaffinity(0))} cores{name}, {memory:.0f} GiB, "
            f"Linux {platform.release()}")
