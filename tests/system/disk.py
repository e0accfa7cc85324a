"""Small file systems of our own: a spool that can be full."""

import contextlib
import os
import subprocess

import pytest


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


@contextlib.contextmanager
def mounted(directory, kind, mebibytes, inodes):
    """Mounts a fresh file system of that kind and size; skips the test where we may not."""
    point = directory / f"{kind}-disk"
    point.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,nr_inodes={inodes},mode=0755",
                   "none", str(point)]
    else:
        image = directory / f"{kind}-image"
        with open(image, "wb") as file:
            os.truncate(file.fileno(), mebibytes << 20)
        # No blocks kept for root, who may be us.
        made = run("/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(inodes), str(image))
        assert made.returncode == 0, made.stderr
        command = ["mount", "-o", "loop", str(image), str(point)]
    done = run(*command)
    if done.returncode != 0:
        pytest.skip(f"may not mount {kind}: {done.stderr.strip()}")
    try:
        point.chmod(0o755)
        yield point
    finally:
        done = run("umount", "-l", str(point))
        assert done.returncode == 0, done.stderr


class Filler:
    """Takes the room of a file system, and gives it back."""

    def __init__(self, point):
        self.point = point
        self.taken = []

    def bytes(self, leave=0):
        """Takes all bytes but `leave`."""
        path = self.point / f"filler-{len(self.taken)}"
        self.taken.append(path)
        with open(path, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 16))
            os.ftruncate(file.fileno(), max(0, file.tell() - leave))
            os.fsync(file.fileno())

    def inodes(self):
        """Takes every inode."""
        with contextlib.suppress(OSError):
            while True:
                path = self.point / f"filler-{len(self.taken)}"
                path.touch()
                self.taken.append(path)

    def empty(self):
        for path in self.taken:
            path.unlink(missing_ok=True)
        self.taken.clear()
        os.sync()
