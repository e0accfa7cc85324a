"""What a disk may hold after a power cut, by the record of what was written to it and flushed.

Of what came before a flush all is there. Of what was written behind the last flush any part may be:
each write by itself, in whatever order the disk liked, and of each write any of its sectors.

A state is what is left of the writes between one flush and the next, on top of all before. The
power may have gone at any moment from the last write that is in it until the next flush was done:
it is held against all that had been promised in any of these moments.
"""

import bisect
import dataclasses
import mmap
import os
import random
import struct

HEAD = struct.Struct("=QII")  # struct record of recorder.c
WRITE, FLUSH = 0, 1

# What a disk writes whole or not at all. Of 512 bytes, unless the file system itself counts on more:
# XFS keeps in each block of its metadata by which entry of its log it was last changed, and does not
# look again at what says that it is new, be only its first part new. So it is told of a disk that
# has sectors of 4 KiB, the size of its blocks, and is torn between those.
SECTORS = {"ext4": 512, "btrfs": 512, "xfs": 4096}

# Of these even the file systems think that they are written whole or not at all (a device with
# sectors of 4 KiB does so): when they are torn no machine would start, whatever lay there. The
# superblock of ext4 and the two of btrfs, which is all of them that such a disk has.
WHOLE = {"ext4": ((0, 4096),), "btrfs": ((64 << 10, 4096), (64 << 20, 4096)), "xfs": ()}


class Log:
    """The record, as it lies in a file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.writes = []   # (offset on the disk, length, where the bytes stand); None for a flush
        self.flushes = []  # their indices
        at = 0
        while at < len(self.bytes):
            offset, length, kind = HEAD.unpack_from(self.bytes, at)
            at += HEAD.size
            if kind == FLUSH:
                self.flushes.append(len(self.writes))
            self.writes.append(None if kind == FLUSH else (offset, length, at))
            at += length
        assert at == len(self.bytes), "the record ends within a write"

    def data(self, index):
        offset, length, at = self.writes[index]
        return offset, self.bytes[at:at + length]

    def windows(self, forgetful=False):
        """What stands between two flushes: [(first index, index behind the last)], none empty.
        `forgetful`: a disk to which a flush means nothing."""
        bounds = [-1, *([] if forgetful else self.flushes), len(self.writes)]
        return [(before + 1, end) for before, end in zip(bounds, bounds[1:]) if end > before + 1]


@dataclasses.dataclass
class State:
    """All writes before `first`, and of those from there to `end` the `kept`: {index: None, or the
    sectors that are left of it}."""
    number: int
    what: str
    first: int
    end: int
    kept: dict

    @property
    def last(self):
        """No write behind this one has left a trace."""
        return max(self.kept, default=self.first - 1)

    @property
    def earliest(self):
        """How many records there were, at least, when the power went."""
        return self.last + 1

    @property
    def latest(self):
        """And at most: had the next one been done, more would be there."""
        return self.end

    def __str__(self):
        return (f"state {self.number}: {self.what}, {len(self.kept)} of the "
                f"{self.end - self.first} writes behind the flush at {self.first - 1}; power cut "
                f"between {self.earliest} and {self.latest}")

    def key(self):
        return self.first, tuple((index, sectors and tuple(sector.start for sector in sectors))
                                 for index, sectors in sorted(self.kept.items()))


class Chooser:
    """Chooses states, the same ones for the same record, notes and seed."""

    def __init__(self, log, kind, promises, seed, forgetful=False):
        """`promises`: the positions at which something was promised."""
        self.log = log
        self.whole = WHOLE[kind]
        self.sector = SECTORS[kind]
        self.chance = random.Random(seed)
        self.windows = log.windows(forgetful)
        ends = [end for _, end in self.windows]
        # The window within which a promise was made; behind the last there is none.
        at = [bisect.bisect_left(ends, position) for position in promises]
        self.promising = [index for index in at if index < len(self.windows)]
        self.kinds = {"none": self._none, "all": self._all, "the first": self._prefix,
                      "all but one": self._all_but_one, "only one": self._only_one,
                      "half": self._half, "most": self._most, "torn": self._torn,
                      "half, torn": self._half_torn}

    def choose(self, count):
        """So many states, no two alike, in the order of the record; fewer, when there are no
        more."""
        states, seen = [], set()
        for _ in range(count * 40):
            if len(states) == count:
                break
            window = self._window()
            what = self.chance.choice(list(self.kinds))
            writes = [index for index in range(*window) if self.log.writes[index]]
            state = State(len(states), what, *window, self.kinds[what](writes))
            if state.key() not in seen:
                seen.add(state.key())
                states.append(state)
        states.sort(key=lambda state: (state.first, state.number))
        for number, state in enumerate(states):
            state.number = number
        return states

    def _window(self):
        """Two thirds just behind a promise, and what is promised holds in all the others, too."""
        if self.promising and self.chance.random() < 2 / 3:
            # The promise is the last thing that happened, or something came behind it.
            index = self.chance.choice(self.promising) + self.chance.choice((0, 0, 0, 1, 2))
            return self.windows[min(index, len(self.windows) - 1)]
        return self.chance.choice(self.windows)

    # Which writes are left

    def _none(self, _writes):
        return {}

    def _all(self, writes):
        return dict.fromkeys(writes)

    def _prefix(self, writes):
        return dict.fromkeys(writes[:self.chance.randrange(len(writes) + 1)])

    def _all_but_one(self, writes):
        lost = self.chance.choice(writes)
        return dict.fromkeys(index for index in writes if index != lost)

    def _only_one(self, writes):
        return {self.chance.choice(writes): None}

    def _some(self, writes, part):
        return dict.fromkeys(index for index in writes if self.chance.random() < part)

    def _half(self, writes):
        return self._some(writes, 0.5)

    def _most(self, writes):
        return self._some(writes, 0.9)

    def _torn(self, writes):
        """The disk was in the middle of one of them."""
        kept = self._prefix(writes) or self._all(writes)
        return self._tear(kept, [max(kept)])

    def _half_torn(self, writes):
        kept = self._half(writes) or self._all(writes)
        return self._tear(kept, self.chance.sample(sorted(kept), min(3, len(kept))))

    def _tear(self, kept, indices):
        for index in indices:
            offset, length, _ = self.log.writes[index]
            count = length // self.sector
            if count < 2 or any(offset < begin + size and begin < offset + length
                                for begin, size in self.whole):
                continue
            if self.chance.random() < 0.5:
                left = range(self.chance.randrange(1, count))
            else:
                left = sorted(self.chance.sample(range(count), self.chance.randrange(1, count)))
            kept[index] = [slice(at * self.sector, (at + 1) * self.sector) for at in left]
        return kept


class Builder:
    """Puts states together, in the order of the record: `base` is the disk up to a flush and only
    goes forward, `target` the state."""

    def __init__(self, log, blank, base, target):
        self.log = log
        self.done = 0
        self.size = os.path.getsize(blank)
        self.target = target
        self.base = os.open(base, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        source = os.open(blank, os.O_RDONLY)
        copy_holes(source, self.base, self.size)
        os.close(source)

    def build(self, state):
        assert state.first >= self.done
        for index in range(self.done, state.first):
            self._write(self.base, index)
        self.done = state.first
        target = os.open(self.target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        copy_holes(self.base, target, self.size)
        for index, sectors in sorted(state.kept.items()):
            self._write(target, index, sectors)
        os.close(target)

    def _write(self, file, index, sectors=None):
        if self.log.writes[index] is None:
            return
        offset, data = self.log.data(index)
        if sectors is None:
            os.pwrite(file, data, offset)
            return
        for sector in sectors:
            os.pwrite(file, data[sector], offset + sector.start)


def copy_holes(source, target, size):
    """Copies a file into an empty one, without its holes."""
    os.ftruncate(target, size)
    at = 0
    while True:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            at += os.pwrite(target, os.pread(source, min(1 << 20, end - at), at), at)
