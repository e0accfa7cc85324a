"""Strikes: each call of a running program, found by counting, made to fail with each error that it
may give. The library that does it is strike.c; this is the side that plans.

A place is a call and where it is made: `openat` of one line of the source. Its errors depend on
what it is made on: no file gives ECONNRESET.
"""

import contextlib
import dataclasses
import errno
import functools
import mmap
import os
import struct
import subprocess

from cluster import ROOT

SOURCES = [ROOT / "tests" / "system" / "torture" / name for name in ("strike.c", "strike_calls.c")]

SHORT = "short"   # half of it is done
KINDS = ("other", "spool", "socket", "event")

# As in strike.c.
OBJECTS, NAMES, PLACES = 64, 96, 2048
PLAN = struct.Struct("=IIIiQIiiI")
CALLS_AT = PLAN.size
MARKED_AT = CALLS_AT + 8
OBJECT = struct.Struct("=QQ112s")
OBJECTS_AT = MARKED_AT + NAMES
NAMES_AT = OBJECTS_AT + OBJECTS * OBJECT.size
PLACE = struct.Struct("=QQII")
PLACES_AT = NAMES_AT + NAMES * 24
BOARD_SIZE = PLACES_AT + PLACES * PLACE.size

WRITING = ("ENOSPC", "EIO", "EDQUOT", "EINTR")
OPENING = ("EMFILE", "ENFILE", "EIO", "EACCES", "EINTR")
STATUS = ("EIO", "ENOMEM")
TABLE = ("EMFILE", "ENFILE", "ENOMEM")   # descriptors, and memory for them
BROKEN = ("ECONNRESET", "ETIMEDOUT", "EINTR")

# What each call may give, by its manual page; where it depends on what it is made on, by that.
ERRORS = {
    "open": OPENING, "openat": (*OPENING, "ENOSPC", "EDQUOT"), "fopen": OPENING,
    "opendir": OPENING, "fdopendir": ("ENOMEM",), "readdir": ("EIO",),
    "fsync": WRITING, "syncfs": ("EIO", "ENOSPC", "EDQUOT"), "sync_file_range": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO", "EINTR"),
    **dict.fromkeys(("rename", "renameat", "link", "linkat"), ("EIO", "ENOSPC", "EDQUOT")),
    "renameat2": ("EIO", "ENOSPC", "EINVAL"),
    **dict.fromkeys(("unlink", "unlinkat"), ("EIO", "EROFS")),
    "close": {"spool": ("EIO", "EINTR", "ENOSPC", "EDQUOT"), "other": ("EIO", "EINTR"),
              "socket": ("EINTR",), "event": ("EINTR",)},
    **dict.fromkeys(("stat", "lstat", "fstat", "fstatat", "statx", "access", "faccessat"), STATUS),
    **dict.fromkeys(("statfs", "fstatfs", "fstatvfs"), ("EIO", "EINTR", "ENOSYS")),
    **dict.fromkeys(("mkdir", "mkdirat"), ("ENOSPC", "EIO", "EDQUOT")),
    **dict.fromkeys(("fchmodat", "futimens", "utimensat"), ("EIO", "EROFS", "EPERM")),
    "flock": ("EINTR", "ENOLCK"), "dup": ("EMFILE",), "dup2": ("EINTR", "EMFILE"),
    "read": {"spool": ("EIO", "EINTR", SHORT), "other": ("EIO", "EINTR", SHORT),
             "socket": (*BROKEN, SHORT), "event": ("EINTR",)},
    **dict.fromkeys(("readv", "pread"), ("EIO", "EINTR", SHORT)),
    "write": {"spool": (*WRITING, SHORT), "other": (*WRITING, SHORT), "event": ("EINTR",),
              "socket": ("EPIPE", "ECONNRESET", "EINTR", SHORT)},
    "writev": {"spool": (*WRITING, SHORT), "other": (*WRITING, SHORT), "event": ("EINTR",),
               "socket": ("EPIPE", "ECONNRESET", "EINTR", SHORT)},
    "pwrite": (*WRITING, SHORT),
    "pwritev2": ("EIO", "EINTR", "EAGAIN", SHORT),
    **dict.fromkeys(("send", "sendmsg"), ("EPIPE", "ECONNRESET", "EINTR", "ENOBUFS", SHORT)),
    "recv": (*BROKEN, SHORT), "recvmsg": BROKEN,
    "inotify_init1": TABLE, "inotify_add_watch": ("ENOSPC", "ENOMEM"),
    "accept4": ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EINTR", "EPROTO"),
    **dict.fromkeys(("epoll_create1", "eventfd", "pipe2", "socketpair"), TABLE),
    "socket": (*TABLE, "ENOBUFS"),
    "connect": ("ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "EINTR"),
    "bind": ("EADDRINUSE", "EACCES"), "listen": ("EADDRINUSE",), "shutdown": ("ENOTCONN",),
    **dict.fromkeys(("getsockname", "getpeername", "getsockopt", "setsockopt"), ("ENOBUFS",)),
    "poll": ("EINTR", "ENOMEM"),
    "epoll_ctl": ("ENOMEM", "ENOSPC"), "epoll_pwait": ("EINTR",),
    "getaddrinfo": ("EAI_AGAIN", "EAI_MEMORY", "EAI_FAIL"),
}
NUMBERS = {SHORT: -1, "EAI_AGAIN": -3, "EAI_FAIL": -4, "EAI_MEMORY": -10}

# A signal interrupts a call now and then, and a connection that broke while it waited is accepted
# with that error once: such does not last on any machine.
PASSING = {"EINTR", "EAGAIN", "ECONNABORTED", "EPROTO", SHORT}

# libpq takes every error of send for the end of the connection, and waits for that end, which does
# not come where the kernel was only short of memory.
BELIEVED = {("libpq", "ENOBUFS")}


def build(directory):
    """Compiles the library; returns its path."""
    target = directory / "strike.so"
    flags = "-std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 -shared -fPIC".split()
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(target), *map(str, SOURCES)],
                   check=True)
    return target


@dataclasses.dataclass(frozen=True)
class Place:
    """A call of a program, or of a library of its."""
    call: str
    object: str     # the library's file name, "" for the program
    offset: int     # of the return address
    kind: str       # of what it was made on

    def errors(self):
        known = ERRORS.get(self.call, ())
        known = known.get(self.kind, ()) if isinstance(known, dict) else known
        return tuple(error for error in known if (self.library, error) not in BELIEVED)

    def bare(self):
        """The place itself, whatever it was made on: a strike does not ask."""
        return dataclasses.replace(self, kind="")

    @property
    def library(self):
        return self.object.partition(".so")[0]


@functools.lru_cache(None)
def source_of(program, place):
    """Where a place of the program itself is, for those who are to mend it."""
    if place.object:
        return place.library
    said = subprocess.run(["addr2line", "-i", "-e", program, hex(place.offset - 1)],
                          capture_output=True, text=True, check=False).stdout.splitlines()
    # The first that is no header of the system's: its inline functions are called by someone.
    lines = [line.split()[0] for line in said if "/include/" not in line]
    path, _, line = (lines[0] if lines else "?:0").rpartition(":")
    return "/".join(path.split("/")[-2:]) + ":" + line


class Board:
    """What goes wrong in one program, and what it does. One board goes with one process at a time;
    `clear` is for the next."""

    def __init__(self, library, path, under):
        self.library = library
        self.path = path
        self.under = under
        with open(path, "wb") as file:
            file.truncate(BOARD_SIZE)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), BOARD_SIZE)

    def close(self):
        self.page.close()
        self.path.unlink()

    def clear(self):
        self.page[:] = bytes(BOARD_SIZE)

    def settings(self):
        """The environment of the program that is to suffer."""
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        return {"LD_PRELOAD": self.library, "STRIKE_UNDER": self.under, "STRIKE_BOARD": self.path,
                "ASAN_OPTIONS": (sanitizer + ":" if sanitizer else "") + "verify_asan_link_order=0"}

    # What was done

    def _text(self, at, length):
        return self.page[at:at + length].split(b"\0")[0].decode()

    def _objects(self):
        rows = [OBJECT.unpack_from(self.page, OBJECTS_AT + i * OBJECT.size) for i in range(OBJECTS)]
        return [(base, end, name.split(b"\0")[0].decode()) for base, end, name in rows if end]

    def objects(self):
        return [name for _, _, name in self._objects()]

    def names(self):
        found = [self._text(NAMES_AT + 24 * i, 24) for i in range(NAMES)]
        return [name for name in found if name]

    def places(self):
        """{Place: how often it was passed}"""
        objects, names, found = self._objects(), self.names(), {}
        for i in range(PLACES):
            key, count, kind, _ = PLACE.unpack_from(self.page, PLACES_AT + i * PLACE.size)
            for base, end, name in objects if key else ():
                if base <= key >> 8 < end:
                    place = Place(names[key & 255], name, (key >> 8) - base, KINDS[kind])
                    found[place] = found.get(place, 0) + count
        return found

    def forget(self):
        """Counts anew."""
        self.page[PLACES_AT:] = bytes(PLACES * PLACE.size)

    @property
    def calls(self):
        return struct.unpack_from("=Q", self.page, CALLS_AT)[0]

    @property
    def struck(self):
        return PLAN.unpack_from(self.page)[8]

    # What is to be done

    def _arm(self, call, object, error, offset, everything, skip, times):
        self.lift()
        number = NUMBERS[error] if error in NUMBERS else getattr(errno, error)
        PLAN.pack_into(self.page, 0, 0, call, object, number, offset, everything, skip, times, 0)
        struct.pack_into("=I", self.page, 0, 1)

    def strike(self, place, error, times=1, skip=0, names=None, objects=None):
        """That place fails so often, after it was passed `skip` times. `names` and `objects` of an
        earlier process, where this one is yet to start."""
        names = names or self.names()
        objects = objects or self.objects()
        self._arm(names.index(place.call), objects.index(place.object), error, place.offset, 0,
                  skip, times)

    def strike_spool(self, calls, error):
        """Every such call on the spool fails from now on."""
        names = self.names()
        self.page[MARKED_AT:MARKED_AT + NAMES] = bytes(
            i < len(names) and names[i] in calls for i in range(NAMES))
        self._arm(0, 0, error, 0, 1, 0, 1 << 30)

    def lift(self):
        struct.pack_into("=I", self.page, 0, 0)


def cpu_seconds(pid):
    """What all threads of a process have used; finer than the ticks of `stat`."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9
