"""Programs of Debian packages that are not to be installed: one would replace the mail server of
whoever runs the tests, another start a server and write to its disk for ever. They are downloaded
and unpacked beside what was built, and run from there."""

import fcntl
import os
import pathlib
import shutil
import subprocess

from cluster import ROOT

INSTALLED = pathlib.Path("/")


def tree(package, program):
    """The directory below which a program of a package lies, by its path: / where it is
    installed."""
    unpacked = ROOT / "build" / package
    if os.access(INSTALLED / program, os.X_OK):
        return INSTALLED
    if not unpacked.exists():
        unpack(package, unpacked)
    return unpacked


def unpack(package, unpacked):
    fresh = unpacked.with_suffix(".fresh")
    unpacked.parent.mkdir(exist_ok=True)
    with open(unpacked.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if unpacked.exists():
            return
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        done = subprocess.run(["apt-get", "-qq", "download", package], cwd=fresh, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        packages = list(fresh.glob(f"{package}_*.deb"))
        assert packages, (f"{package} is neither installed nor to be had: "
                          f"`apt-get download {package}` said: {done.stdout}")
        subprocess.run(["dpkg", "-x", packages[0], fresh], check=True)
        packages[0].unlink()
        fresh.rename(unpacked)
