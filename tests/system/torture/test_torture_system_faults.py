"""Faults of the system: each call that a program makes on files, sockets and the loop fails with
each error that it may give, once, for a while, and at the start. Mail is put off or tried again,
and neither lost nor sent twice; nobody turns in circles; a program that cannot go on says why.

The calls are found by counting them in a program that works (strike.c), so that none is forgotten
that is added to it.
"""

import re
import subprocess

import pytest

from besieging import METRICS, besiege, library  # fixtures, too
from programs import BUILD
from siege_smtpd import SmtpdSiege
from size import pick

# What the C library has for files, sockets and the loop. close is there for all that ends.
LIBC = set("""
    open openat openat2 creat fopen freopen fdopen opendir fdopendir readdir scandir read
    readv pread preadv preadv2 write writev pwrite pwritev pwritev2 send sendto sendmsg
    sendmmsg sendfile recv recvfrom recvmsg recvmmsg splice tee vmsplice copy_file_range fsync
    fdatasync sync syncfs sync_file_range msync ftruncate truncate fallocate posix_fallocate
    rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat remove rmdir close
    fstat stat lstat fstatat statx statfs fstatfs statvfs fstatvfs mkdir mkdirat mkfifo mknod
    mknodat mkstemp mkostemp tmpfile chmod fchmod fchmodat chown fchown fchownat futimens
    utimensat utime utimes futimes flock lockf access faccessat eaccess dup dup2 dup3
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch accept accept4 socket
    socketpair pipe pipe2 connect bind listen getsockname getpeername getsockopt setsockopt
    shutdown getaddrinfo poll ppoll select pselect epoll_create epoll_create1 epoll_ctl
    epoll_wait epoll_pwait eventfd timerfd_create signalfd memfd_create setxattr fsetxattr
""".split())

PROGRAMS = ("smtpd", "storer", "relay", "reaper")


def symbols(path, which):
    """Undefined or defined ones: the call that each is, without what the compiler and the size of a
    file make of its name."""
    said = subprocess.run(["nm", "-D", f"--{which}-only", str(path)], capture_output=True,
                          text=True, check=True).stdout
    names = (line.split()[-1].partition("@")[0] for line in said.splitlines())
    return {re.sub(r"^__(.*)_(2|chk)$", r"\1", name).removesuffix("64") for name in names}


def test_every_call_can_be_struck(library):
    """A call that a program makes and the library does not know would never fail."""
    known = symbols(library, "defined")
    for name in PROGRAMS:
        assert symbols(BUILD / name, "undefined") & LIBC <= known, name


# Strikes once, lasting, and at the start; None is all.

@pytest.mark.deadline(1800)
def test_smtpd(besiege, tally_of):
    with tally_of("system-faults/smtpd") as tally:
        siege = besiege(SmtpdSiege, tally)
        siege.watch_seconds = pick(0, 0, 6)   # of which metrics are written every five
        siege.run(pick((8, 2, 6), (40, 6, 24), (None, None, None)), pick(METRICS, METRICS, ()))
    siege.verdict()
