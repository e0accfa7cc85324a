"""Where it is measured: what a disk does for a durable file is most of what there is to measure.

A file system that is mounted with `discard` hands freed blocks back to what is below it, and
writing into them again is up to three times slower: identical runs differ by that. So two file
systems are made, ext4 on images that are written once from end to end, without `discard`: one for
the spool, as README advises, and one for the database. Where that may not be done, or
BENCH_DIRECTORY names a better place, both are directories.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import tempfile

GIB = 1 << 30


@dataclasses.dataclass
class Places:
    """Directories to measure in, and what they are, in words."""
    spool: pathlib.Path
    database: pathlib.Path
    what: str


class Refused(Exception):
    """A step of making a file system that this machine does not let us do."""


def run(*command):
    path = f"{os.environ['PATH']}:/sbin:/usr/sbin"
    done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, env={**os.environ, "PATH": path})
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise Refused(f"{command[0]}: {said[-1] if said else done.returncode}")
    return done.stdout.strip()


def mount_of(path):
    """(kind, options) of the file system that a path lies on."""
    best, found = "", ("", "")
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split()
        inside = os.path.realpath(path).startswith(point.rstrip("/") + "/") or point == "/"
        if inside and len(point) >= len(best):
            best, found = point, (kind, options)
    return found


def parent_for(bytes):
    """A directory with room for images, on a disk and not in memory."""
    for parent in (tempfile.gettempdir(), "/var/tmp"):
        if mount_of(parent)[0] != "tmpfs" and shutil.disk_usage(parent).free > bytes + 2 * GIB:
            return parent
    raise Refused(f"there is no room for images of {bytes / GIB:.0f} GiB")


@contextlib.contextmanager
def image(parent, name, gibibytes):
    """A fresh ext4 of that size, mounted on parent/name."""
    file, point = parent / f"{name}.image", parent / name
    point.mkdir()
    with contextlib.ExitStack() as undo:
        undo.callback(lambda: file.unlink(missing_ok=True))
        run("dd", "if=/dev/zero", f"of={file}", "bs=4M", f"count={int(gibibytes * 256)}",
            "oflag=direct", "status=none")
        device = run("losetup", "--find", "--show", "--direct-io=on", file)
        undo.callback(lambda: run("losetup", "--detach", device))
        # Mail is small: an inode for each 8 KiB.
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-i", "8192", "-E",
            "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device)
        run("mount", "-o", "nodiscard", device, point)
        undo.callback(lambda: run("umount", "-l", point))
        point.chmod(0o755)
        yield point


@contextlib.contextmanager
def made(spool_gibibytes, database_gibibytes):
    """Two file systems of our own."""
    if os.geteuid() != 0:
        raise Refused("only root may mount")
    parent = parent_for((spool_gibibytes + database_gibibytes) * GIB)
    with tempfile.TemporaryDirectory(prefix="mayfly-bench.", dir=parent) as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o755)
        with contextlib.ExitStack() as images:
            sizes = {"spool": spool_gibibytes, "database": database_gibibytes}
            points = [images.enter_context(image(directory, name, size))
                      for name, size in sizes.items()]
            yield Places(*points, "an ext4 each for spool and database, on loop devices")


@contextlib.contextmanager
def in_directory(parent, why):
    kind, options = mount_of(parent)
    what = f"{kind} in {parent} ({why})"
    if "discard" in options.split(","):
        what += ", MOUNTED WITH discard: the same run may be several times slower the next time"
    if kind == "tmpfs":
        what += ", IN MEMORY: what is durable costs nothing here"
    with tempfile.TemporaryDirectory(prefix="mayfly-bench.", dir=parent) as directory:
        directory = pathlib.Path(directory)
        directory.chmod(0o755)
        places = Places(directory / "spool", directory / "database", what)
        places.spool.mkdir()
        places.database.mkdir()
        yield places


@contextlib.contextmanager
def places(spool_gibibytes, database_gibibytes):
    """BENCH_DIRECTORY, file systems of our own, or the temporary directory."""
    wanted = os.environ.get("BENCH_DIRECTORY")
    with contextlib.ExitStack() as stack:
        if wanted:
            yield stack.enter_context(in_directory(wanted, "BENCH_DIRECTORY"))
            return
        try:
            own = stack.enter_context(made(spool_gibibytes, database_gibibytes))
        except Refused as refused:
            own = stack.enter_context(in_directory(tempfile.gettempdir(), str(refused)))
        yield own
