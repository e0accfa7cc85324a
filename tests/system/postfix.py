"""Postfix's smtp-source, without Postfix: to install that package would replace the mail server of
whoever runs the tests. It is downloaded and unpacked beside what was built."""

import fcntl
import os
import shutil
import subprocess

from cluster import ROOT

INSTALLED = "/usr/sbin/smtp-source"
UNPACKED = ROOT / "build" / "postfix"


def smtp_source():
    """(the path of smtp-source, the environment it needs)."""
    if os.access(INSTALLED, os.X_OK):
        return INSTALLED, dict(os.environ)
    program = UNPACKED / "usr" / "sbin" / "smtp-source"
    if not program.exists():
        unpack()
    libraries = UNPACKED / "usr" / "lib" / "postfix"
    return str(program), {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


def unpack():
    fresh = UNPACKED.with_suffix(".fresh")
    UNPACKED.parent.mkdir(exist_ok=True)
    with open(UNPACKED.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if UNPACKED.exists():
            return
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        done = subprocess.run(["apt-get", "-qq", "download", "postfix"], cwd=fresh, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        packages = list(fresh.glob("postfix_*.deb"))
        assert packages, ("smtp-source is neither installed nor to be had: "
                          f"`apt-get download postfix` said: {done.stdout}")
        subprocess.run(["dpkg", "-x", packages[0], fresh], check=True)
        fresh.rename(UNPACKED)
