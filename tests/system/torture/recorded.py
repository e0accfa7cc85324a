"""A real file system on a disk that remembers all that is written to it and flushed (recorder.c),
for a program whose power is to be cut afterwards; and the clock by which it notes what it says
(witness.c)."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from cluster import short_directory
from deadline import wait_for
from disk import run
from powercut import SECTORS

HERE = pathlib.Path(__file__).resolve().parent
FLAGS = "-std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -O1".split()
FUSE = "/usr/include/fuse3"
ROOM = 3 << 30   # for the record of a full run, and the states that are put together of it

# As an operator would make them, each on about the smallest disk on which it is what it is on a
# large one: ext4 has smaller blocks on less, and XFS takes no less. Most of it stays a hole. XFS is
# told how the disk is torn.
MAKE = {"ext4": (512, ["mkfs.ext4", "-q", "-F"]),
        "xfs": (300, ["mkfs.xfs", "-q", "-f", "-s", f"size={SECTORS['xfs']}"]),
        "btrfs": (256, ["mkfs.btrfs", "-q", "-f"])}


def in_memory():
    """A fresh directory where files cost no disk, if there is such with room."""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        if room.f_bavail * room.f_frsize > ROOM:
            return pathlib.Path(tempfile.mkdtemp(prefix="mayfly-power-", dir="/dev/shm"))
    return short_directory("mayfly-power-")


def compile(directory):
    """Compiles the recorder and the witness into a directory."""
    compiler = os.environ.get("CC", "cc")
    for target, options in (("recorder", [f"-I{FUSE}", "-lfuse3"]),
                            ("witness.so", ["-shared", "-fPIC"])):
        source = HERE / f"{pathlib.Path(target).stem}.c"
        subprocess.run([compiler, *FLAGS, "-o", str(directory / target), str(source), *options],
                       check=True)


# What there is to say where it is not for us to mount, or the kernel cannot.
NOT_HERE = re.compile(r"not permitted|permission denied|superuser|unknown filesystem type"
                      r"|no such (file|device)", re.I)


def probe(what, *command, **options):
    """Runs a command that has nothing to do with what is tried: when it is not permitted, the test
    is skipped. That anything else goes wrong is a failure; returns what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env=os.environ | {"LC_ALL": "C"}, **options)
    if done.returncode != 0:
        assert NOT_HERE.search(done.stderr), f"{what}: {done.stderr}"
        pytest.skip(f"may not {what}, so no power is cut: {done.stderr.strip()}")
    return done.stdout.strip()


def permitted():
    """Skips where such a disk cannot be had: by mounts that are plain, and those of nobody."""
    if os.geteuid() != 0:
        pytest.skip("not root: may not mount, so no power is cut")
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            pytest.skip(f"no {device}: no disk of our own, so no power is cut")
    with tempfile.TemporaryDirectory(prefix="mayfly-probe-", dir="/var/tmp") as directory:
        probe_fuse(directory)
        probe_loop(directory)


def probe_fuse(point):
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no FUSE here, so no power is cut: {error}")
    try:
        probe("mount a FUSE file system", "mount", "-i", "-t", "fuse", "-o",
              f"fd={server},rootmode=40000,user_id=0,group_id=0", "probe", point,
              pass_fds=[server])
        run("umount", "-l", point)
    finally:
        os.close(server)


def probe_loop(directory):
    image, point = f"{directory}/image", f"{directory}/point"
    os.mkdir(point)
    with open(image, "wb") as file:
        file.truncate(1 << 20)
    made = run(*MAKE["ext4"][1], image)
    assert made.returncode == 0, made.stderr
    device = probe("have a loop device", "losetup", "--find", "--show", image)
    try:
        probe("mount ext4 on a loop device", "mount", "-t", "ext4", device, point)
        run("umount", point)
    finally:
        run("losetup", "--detach", device)


def is_known(kind):
    """Whether the kernel has a file system; one that it loads as a module it has once it was asked
    for."""
    return kind in pathlib.Path("/proc/filesystems").read_text().split()


class RecordedDisk:
    """What is left of it stays in `directory`: `blank`, the disk before it was first mounted;
    `log`; `notes`. While it is mounted the file system is at `point`."""

    def __init__(self, kind, tools):
        self.kind = kind
        self.tools = tools
        self.directory = in_memory()
        self.image = self.directory / "image"
        self.notes = self.directory / "notes"
        self.point = self.directory / "disk"
        self.recorder = None
        self._mounts = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._make()
            self._record()
            self._mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._mounts.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _make(self):
        mebibytes, command = MAKE[self.kind]
        with open(self.image, "wb") as file:
            file.truncate(mebibytes << 20)
        made = run(*command, str(self.image))
        assert made.returncode == 0, made.stderr
        run("fallocate", "--dig-holes", str(self.image))  # the zeroes of an empty journal
        run("cp", "--sparse=always", str(self.image), str(self.directory / "blank"))
        self.notes.touch()
        self.point.mkdir()

    def _record(self):
        served = self.directory / "served"
        served.mkdir()
        self.recorder = subprocess.Popen(
            [self.tools / "recorder", self.image, self.directory / "log",
             self.directory / "position", served],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._mounts.callback(self._end_recorder, served)
        wait_for(lambda: os.path.ismount(served) or self.recorder.poll() is not None,
                 "the recorded disk is there")
        assert self.recorder.poll() is None, self.recorder.stderr.read()

    def _end_recorder(self, served):
        run("fusermount3", "-u", "-z", str(served))
        try:
            self.recorder.wait(30)
        except subprocess.TimeoutExpired:
            self.recorder.kill()
            self.recorder.wait(30)
        self.recorder.stderr.close()

    def _mount(self):
        done = run("mount", "-t", self.kind, "-o", "loop", str(self.directory / "served" / "disk"),
                   str(self.point))
        if done.returncode != 0 and not is_known(self.kind):
            pytest.skip(f"a kernel without {self.kind}, so no power is cut: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        self._mounts.callback(self._unmount)
        self.point.chmod(0o755)

    def _unmount(self):
        if os.path.ismount(self.point):
            done = run("umount", str(self.point))
            if done.returncode != 0:
                run("umount", "-l", str(self.point))

    def settle(self):
        """The file system brings home what its journal holds, as it does every half minute: XFS
        would else go through all of it, in small steps, whenever a state is mounted."""
        if self.kind == "xfs":
            for way in ("--freeze", "--unfreeze"):
                done = run("fsfreeze", way, str(self.point))
                assert done.returncode == 0, done.stderr

    def close(self):
        """Unmounts it: from here on there is only the record."""
        self._mounts.close()

    def settings(self, **more):
        """The environment of a program that is to note what it says."""
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        return {"LD_PRELOAD": self.tools / "witness.so", "WITNESS_NOTES": self.notes,
                "WITNESS_POSITION": self.directory / "position",
                "ASAN_OPTIONS": (sanitizer + ":" if sanitizer else "") + "verify_asan_link_order=0",
                **more}

    def position(self):
        """How many writes and flushes there were so far."""
        return int.from_bytes((self.directory / "position").read_bytes(), "little")

    def noted(self):
        """{what: {id: positions}}, in the order of the notes."""
        found = {}
        for line in self.notes.read_text().splitlines():
            what, id, position = line.split()
            found.setdefault(what, {}).setdefault(id, []).append(int(position))
        return found
