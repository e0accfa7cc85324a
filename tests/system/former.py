"""Mayfly as it was: the programs and the schema of former versions, built from the history of the
repository and kept in build/former. A clone without it, a shallow one, has none.
"""

import fcntl
import os
import shutil
import subprocess

from cluster import ROOT
from programs import Programs

# {what it was like: (commit, its programs)}
VERSIONS = {
    "usernames generated": ("df3f9dfa424bc3c3f8761ced97719f3d4a2bd621",
                            ("smtpd", "storer", "reaper")),
    "relay finished": ("192c47912348f5faa17385046d27eccae6ffa119",
                       ("smtpd", "storer", "reaper", "relay")),
}


def git(*arguments, **options):
    return subprocess.run(["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, *arguments],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def lacking(version):
    """Why a version is not to be had; None where it is."""
    commit, _ = VERSIONS[version]
    if not shutil.which("git"):
        return "git is not installed"
    if git("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
        return f"this clone has no history back to {commit[:12]} (git fetch --unshallow)"
    return None


def built(version):
    """The directory of a version's tree, with its programs in build/."""
    commit, programs = VERSIONS[version]
    tree = ROOT / "build/former" / commit[:12]
    tree.parent.mkdir(parents=True, exist_ok=True)
    with open(tree.with_suffix(".lock"), "w") as lock:  # other tests, at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((tree / "build" / program).exists() for program in programs):
            shutil.rmtree(tree, ignore_errors=True)
            tree.mkdir()
            archive = git("archive", commit, stdout=subprocess.PIPE, check=True)
            subprocess.run(["tar", "x", "-C", tree], input=archive.stdout, check=True)
            _make(tree, programs)
    return tree


def _make(tree, programs):
    """Quickly; and what a later compiler warns of was well then."""
    done = subprocess.run(
        ["make", f"-j{os.cpu_count()}", "OPTIMIZE=-O0", "WARNINGS=-w", "CFLAGS=",
         *(f"build/{program}" for program in programs)],
        cwd=tree, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
    assert done.returncode == 0, done.stdout


class Versions(Programs):
    """Programs of which each is the former or the present one; the present unless it is in
    `former`."""

    def __init__(self, version):
        super().__init__()
        self.tree = built(version)
        self.former = set()

    def path(self, name):
        return str(self.tree / "build" / name) if name in self.former else super().path(name)
