"""A host of its own for what a real one must not be used for: users, /etc and the spool.

It is a mount namespace, in which copies lie over /etc and /var/spool, and a namespace of
processes, so that whatever was started there ends with it. Network, programs and all else are this
machine's. Only root can make one.
"""

import os
import pathlib
import shutil
import subprocess

from cluster import short_directory

# What becomes process 1 of it. The mounts are made in the namespace, and end with it.
FIRST = """
set -e
mount --bind "$0/etc" /etc
mount --bind "$0/spool" /var/spool
echo ready
exec sleep infinity
"""


class Host:
    """The host; `directory` is a scratch directory that both sides see."""

    def __init__(self):
        self.directory = short_directory("mayfly-host-")
        self.spool = self.directory / "spool"
        self.spool.mkdir()
        subprocess.run(["cp", "-a", "/etc", self.directory / "etc"], check=True)
        self.outside = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sh", "-c", FIRST, self.directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
        assert self.outside.stdout.readline() == b"ready\n", "the host does not come up"
        children = pathlib.Path(f"/proc/{self.outside.pid}/task/{self.outside.pid}/children")
        self.first = children.read_text().split()[0]

    def end(self):
        """Ends every process of it, by ending its first."""
        self.outside.kill()
        self.outside.wait(60)
        shutil.rmtree(self.directory)

    def inside(self, *command):
        """The command line that runs a command there."""
        return ["nsenter", f"--target={self.first}", "--mount", "--pid", *map(str, command)]

    def start(self, *command, **options):
        """Starts a command there that goes on; it ends with the host at the latest."""
        return subprocess.Popen(self.inside(*command), stdin=subprocess.DEVNULL,
                                start_new_session=True, **options)

    def run(self, *command, code=0, **settings):
        """What a command there says, which must end with that code."""
        done = subprocess.run(self.inside(*command), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **settings},
                              timeout=90)
        assert done.returncode == code, f"{command} ended with {done.returncode}: {done.stdout}"
        return done.stdout

    def processes(self, name):
        """{pid: user} of the processes of that name, by the numbers that they have there. Those
        that have ended are none: process 1 looks after no orphans."""
        listing = self.inside("ps", "-C", name, "-o", "pid=,stat=,user:40=")
        listed = subprocess.run(listing, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                text=True, timeout=60)
        rows = map(str.split, listed.stdout.splitlines())
        return {int(pid): user for pid, state, user in rows if state[0] != "Z"}
