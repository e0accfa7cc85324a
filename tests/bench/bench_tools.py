"""The measuring programs that are built beside the tests, as functions: what one says on a line of
name=number is a dict here."""

import contextlib
import os
import re
import subprocess

from programs import BUILD

FIGURE = re.compile(r"([a-z0-9_]+)=([-+0-9.eE]+)")
SECONDS = 900


class Failed(Exception):
    """A tool that ended badly: a message was refused, or a connection broke, and no figure of that
    run counts."""


def path(name):
    return str(BUILD / "tests" / "bench" / name)


def command(name, *args, core=None):
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    return [*pinned, path(name), *map(str, args)]


def figures(text):
    return {name: float(value) for name, value in FIGURE.findall(text)}


def run(name, *args, core=None):
    done = subprocess.run(command(name, *args, core=core), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=SECONDS)
    if done.returncode != 0:
        raise Failed(f"{name} {' '.join(map(str, args))}: {done.stdout}{done.stderr}")
    return figures(done.stdout)


def load(port, sessions, messages, size=4096, keep=False, rate=None, users=None):
    """Mail from so many sessions: one message a connection, or (keep) many."""
    options = ["-s", sessions, "-n", messages, "-l", size]
    options += ["-k"] if keep else []
    options += ["-r", rate] if rate else []
    options += ["-u", users] if users else []
    return run("load", *options, f"127.0.0.1:{port}")


@contextlib.contextmanager
def idle(port, count, tls):
    """Connections that have said EHLO, held until the end of the block."""
    held = subprocess.Popen(command("load", "-i", count, *(["-t"] if tls else []),
                                    f"127.0.0.1:{port}"),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        said = figures(held.stdout.readline())
        if said.get("idle_up") != count:
            raise Failed(f"load -i {count}: {said}")
        yield
    finally:
        held.stdin.close()
        held.stdout.close()
        held.wait(SECONDS)


def handshakes(port, count, at_once, core, sessions=4):
    """TLS handshakes: at once, or behind EHLO and STARTTLS."""
    return run("load", "-H", count, "-s", sessions, *(["-D"] if at_once else []),
               f"127.0.0.1:{port}", core=core)


def files(directory, method, size, count, threads=1, batch=1):
    """Durable files."""
    return run("files", "-m", method, "-t", threads, "-b", batch, "-l", size, "-n", count,
               os.fspath(directory))


def copy(url, messages, size, batch, users):
    """Rows of messages and deliveries, by COPY on one connection."""
    return run("copy", "-n", messages, "-l", size, "-b", batch, "-u", users, url)
