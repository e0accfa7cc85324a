"""A program under strikes: what all four have in common.

First it is let run, and the calls that it makes are counted. Then each is struck with each error
that it may give: once, while work flows, and the work that suffered is looked for; lastingly, and
the program must neither spin nor fill its log, and go on when the fault is over; and at the start,
where the program must say what is wrong and end with a code of its own, or come up all the same.
"""

import contextlib
import dataclasses
import random
import shutil
import signal
import time

import strike
from deadline import wait_for
from programs import BUILD

EXIT_CODES = range(64, 79)   # sysexits.h
FOREVER = 1 << 30

# Of a core, while a fault lasts. What is allowed besides is what one look at the spool, or one
# letter, may cost on a machine that is busy with other things.
CPU_SHARE, CPU_SLACK = 0.2, 0.05
CALLS_A_SECOND, CALLS_SLACK = 1000, 500
LINES_A_SECOND, LINES_SLACK = 20, 20

# What a disk does when it is gone, and when it is full.
DISK = ("open", "openat", "opendir", "readdir", "read", "pread", "write", "writev", "pwrite",
        "fsync", "syncfs", "renameat", "renameat2", "unlinkat", "fstatat", "faccessat")
DISK_FULL = ("write", "writev", "pwrite", "fsync", "syncfs", "mkdirat")

# Where a lasting error has a program turn in circles soonest; with the first one did.
SPINNING = {("stat", "queue/scanner.c"), ("accept4", "smtpd/listener.c")}

# What is passed at the start alone, and may still be counted behind it.
STARTING = ("common/program.c",)

# libuv aborts where the kernel has no memory for one more descriptor to watch, and where it gets no
# pipe before there is a loop. That is as good as kill -9, which must lose nothing either.
DEADLY = {("epoll_ctl", "libuv"), ("pipe2", "libuv")}


@dataclasses.dataclass(frozen=True)
class Strike:
    place: strike.Place
    error: str
    where: str       # for the reader
    times: int = 1

    def __str__(self):
        often = {1: "", FOREVER: ", lasting"}.get(self.times, f", {self.times} times")
        return f"{self.place.call} ({self.place.kind}, {self.where}): {self.error}{often}"


def is_deadly(place):
    return (place.call, place.library) in DEADLY


class Siege:
    """One program. What it has to do in which way is the business of those who derive from this."""

    name = ""
    reach_seconds = 3     # within which work that flows makes every call again
    watch_seconds = 1.3   # in which what is done every second is done

    def __init__(self, programs, spool, library, directory, tally, say=print):
        self.say = say
        self.programs = programs
        self.spool = spool
        self.tally = tally
        self.directory = directory
        self.board = strike.Board(library, directory / f"{self.name}-board", spool.path)
        self.program = None
        self.wrong = []      # besides what became of the mail
        self.struck = set()  # places, and what else, that a strike has come to
        self.missed = []     # strikes at calls that were not made again: (at what, told)
        self.chance = random.Random(5)

    # For those who derive

    def settings(self):
        """What the program is started with."""
        raise NotImplementedError

    def prepare(self):
        """Puts into a fresh spool what a program should find at its start."""

    def work(self, told):
        """Gives the program some of everything that it has to do; `told`: what is the matter."""
        raise NotImplementedError

    def settle(self):
        """Waits until it has done all that it was given."""
        raise NotImplementedError

    def compare(self):
        """Tells the tally what became of what was given."""
        raise NotImplementedError

    def complaints(self):
        """How often it has said so far, in its own way, that something went wrong."""
        return 0

    def has_to_complain(self, planned):
        """Whether it may not pass over that in silence: without a power cut nobody would see that
        nothing is on the disk."""
        return False

    # Life

    def start(self, ready=True):
        self.program = self.programs.start(self.name, ready=ready, SPOOL=self.spool,
                                           METRICS_FILE=self.directory / f"{self.name}-metrics",
                                           **self.settings(), **self.board.settings())
        return self.program

    def begin(self):
        """A fresh process, and nothing planned."""
        self.board.clear()
        return self.start()

    def stop(self):
        self.board.lift()
        self.program.stop()

    def revive(self, told, allowed=()):
        """Starts it again where it has ended, which only the codes that are allowed may be."""
        if self.program.returncode is None:
            return False
        code = self.program.wait()
        if code not in allowed:
            self.wrong.append(f"{told}: ended with {code}:\n{self.program.text()[-2000:]}")
        self.begin()
        return True

    # Which strikes there are

    def where(self, place):
        return strike.source_of(str(BUILD / self.name), place)

    def strikes(self, places, count=None, without=()):
        """Every place with each of its errors, in an order that is always the same and begins with
        one error of each place, those first that may not be passed over; `count` of them, where all
        are too many. `without`: source files that are left out."""
        turns = []
        for place in sorted(places, key=str):
            if self.where(place).partition(":")[0] in without:
                continue
            errors = list(place.errors())
            self.chance.shuffle(errors)
            errors.sort(key=lambda error: error in strike.PASSING)
            for turn, error in enumerate(errors):
                planned = Strike(place, error, self.where(place), 3 if error == "EINTR" else 1)
                later = not self.has_to_complain(planned), place.kind != "spool"
                turns.append((turn, later, self.chance.random(), planned))
        return [row[-1] for row in sorted(turns, key=lambda row: row[:3])][:count]

    def lasting(self, places, count=None, without=()):
        """A strike that lasts, for each place that has an error which may."""
        found = {}
        for planned in self.strikes(places, without=without):
            if planned.error not in strike.PASSING and not is_deadly(planned.place):
                found.setdefault(planned.place, dataclasses.replace(planned, times=FOREVER))
        return sorted(found.values(), key=self.is_harmless)[:count]

    @staticmethod
    def is_harmless(planned):
        return (planned.place.call, planned.where.partition(":")[0]) not in SPINNING

    def watched(self, rounds=2):
        """The places that it passes while it works."""
        self.board.forget()
        for _ in range(rounds):
            self.work("nothing")
            self.settle()
        time.sleep(self.watch_seconds)
        return self.board.places()

    def count(self, reached, at, told):
        if reached:
            self.tally.did()
            self.struck.add(at)
        else:
            self.missed.append((at, str(told)))

    def strike_each(self, some, strike_one):
        """And once more where a place was not come by at all."""
        for planned in some:
            strike_one(planned)
        for planned in {planned.place.bare(): planned for planned in some}.values():
            if planned.place.bare() not in self.struck:
                strike_one(planned)

    # Once

    def strike_once(self, planned):
        """Strikes while work flows, and looks what became of the work."""
        end, before = time.monotonic() + self.reach_seconds, self.complaints()
        self.board.strike(planned.place, planned.error, planned.times)
        while True:
            self.work(str(planned))
            self.wait_struck(0.3)
            if (self.board.struck or time.monotonic() > end
                    or self.program.returncode is not None):
                break
        reached = self.board.struck > 0
        deadly = reached and is_deadly(planned.place)
        if deadly:
            self.wait_dead()
        self.board.lift()
        self.revive(planned, (-signal.SIGABRT,) if deadly else ())
        self.count(reached, planned.place.bare(), planned)
        self.settle()
        if reached and self.has_to_complain(planned) and self.complaints() == before:
            self.tally.lost(f"{planned}: all was acknowledged that it was needed for")
        self.compare()

    def wait_struck(self, seconds):
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.board.struck or self.program.returncode is not None,
                     "the strike", seconds, 0.005)

    def wait_dead(self):
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.program.returncode is not None, "it is dead", 3)

    # Lastingly

    def strike_lastingly(self, planned, window=0.5):
        """The fault stays, and the program has to bear with it; then it is over."""
        self.bear(planned.place.bare(), str(planned), window,
                  lambda: self.board.strike(planned.place, planned.error, FOREVER))

    def strike_spool(self, calls, error, window=0.5):
        """All of the spool fails at once, as a disk does."""
        told = f"the whole spool: {error}"
        self.bear(told, told, window, lambda: self.board.strike_spool(calls, error))

    def bear(self, at, told, window, begin):
        begin()
        self.work(told)
        self.wait_struck(self.reach_seconds)
        calls, lines, cpu = self.board.calls, len(self.program.lines), self.cpu()
        began = time.monotonic()
        self.work_under_fault(told)
        time.sleep(window)
        self.judge(told, time.monotonic() - began, self.board.calls - calls,
                   len(self.program.lines) - lines, self.cpu() - cpu)
        reached = self.board.struck > 0
        self.board.lift()
        self.revive(told)
        self.count(reached, at, told)
        self.settle()
        self.compare()

    def work_under_fault(self, told):
        """What goes on coming while the fault lasts."""

    def cpu(self):
        return strike.cpu_seconds(self.program.pid) if self.program.returncode is None else 0

    def judge(self, told, seconds, calls, lines, cpu):
        bounds = {"calls": (calls, seconds * CALLS_A_SECOND + CALLS_SLACK),
                  "lines": (lines, seconds * LINES_A_SECOND + LINES_SLACK),
                  "seconds of a core": (cpu, seconds * CPU_SHARE + CPU_SLACK)}
        self.wrong += [f"{told}: {count:.3f} {what} in {seconds:.2f} s"
                       for what, (count, most) in bounds.items() if count > most]

    # At the start

    def strike_at_start(self, planned, names, objects, skip=0, seconds=30):
        """It ends with a code and a reason, or comes up all the same and works."""
        shutil.rmtree(self.spool.path, ignore_errors=True)
        self.prepare()
        self.board.clear()
        self.board.strike(planned.place, planned.error, planned.times, skip, names, objects)
        program = self.start(ready=False)
        told = f"at the start, {planned}" + (f", the {skip + 1}th time" if skip else "")
        try:
            wait_for(lambda: program.returncode is not None or program.is_ready() or
                     program.log(event="ready"), "it ends or is ready", seconds)
        except AssertionError:
            self.wrong.append(f"{told}: neither ends nor is ready:\n{program.text()}")
        self.board.lift()
        reached = self.board.struck > 0
        if reached and is_deadly(planned.place):
            self.wait_dead()   # which it may be only behind its being ready
        if self.has_ended(program):
            code = program.wait()
            said = [line for line in program.lines if "level=error" in line]
            if (code not in EXIT_CODES or not said) and not (
                    code == -signal.SIGABRT and is_deadly(planned.place)):
                self.wrong.append(f"{told}: ended with {code}, said {program.lines[-3:]}")
            self.begin()
        else:
            self.work(told)
        self.settle()
        self.compare()
        self.revive(told)
        self.stop()
        self.count(reached, planned.place.bare(), told)

    @staticmethod
    def has_ended(program):
        """Whether what looked like a start was an end: the pipe that it says so by was closed."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: program.returncode is not None or program.log(event="ready"),
                     "it has ended, or said that it is ready", 5)
        return program.returncode is not None

    # All of it

    def run(self, sizes, without=()):
        """So many strikes of each kind; None: all. The spool at once is always struck as well."""
        once, lasting, at_start = sizes
        self.prepare()
        self.begin()
        first = self.board.places()
        names, objects = self.board.names(), self.board.objects()
        self.settle()
        self.compare()
        places = self.watched()
        self.compare()
        self.strike_each(self.strikes(places, once, (*STARTING, *without)), self.strike_once)
        self.strike_each(self.lasting(places, lasting, (*STARTING, *without)),
                         self.strike_lastingly)
        on_spool = {place.call for place in places if place.kind == "spool"}
        for calls, error in ((DISK, "EIO"), (DISK_FULL, "ENOSPC")):
            if on_spool.intersection(calls):
                self.strike_spool(calls, error)
        self.stop()
        self.strike_each(self.strikes(first, at_start),
                         lambda planned: self.strike_at_start(planned, names, objects))
        if at_start is None:
            # Where a place is passed more than once, also in the middle.
            often = [place for place in first if first[place] > 1]
            for planned in self.strikes(often, len(often)):
                self.strike_at_start(planned, names, objects,
                                     self.chance.randrange(1, first[planned.place]))
        return places

    def verdict(self):
        """Fails with what was wrong besides what the tally knows: also when something was never
        struck, or much was not. What was not is said in any case."""
        if self.missed:
            self.say(f"{self.name}: not struck: " + "; ".join(told for _, told in self.missed))
        assert not self.wrong, f"{len(self.wrong)} wrong:\n" + "\n".join(self.wrong[:20])
        never = [told for at, told in self.missed if at not in self.struck]
        assert not never, f"never struck: {never}"
        assert len(self.missed) <= max(1, self.tally.tried / 10), f"not struck: {self.missed}"
