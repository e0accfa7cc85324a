"""smtpd is restarted under load, in each way that the README names, and no client is refused, reset,
or closed before its reply; nor is a letter lost or there twice.
"""

import os
import socket
import subprocess

import pytest

from cluster import free_port, short_directory
from deadline import wait_for
from load import Post

RESTARTS = 50


@pytest.fixture
def held():
    """A listening socket that outlives every smtpd."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield listener


def some_letters(post, count=10):
    """Waits until so many more are acknowledged: nobody is restarted before there was work."""
    before = len(post.acknowledged)
    wait_for(lambda: len(post.acknowledged) >= before + count, "letters are taken", interval=0.005)


def restart(start, post):
    """One smtpd after another, each started when the one before it has ended, as a supervisor does;
    returns the last."""
    smtpd = start()
    for _ in range(RESTARTS):
        some_letters(post)
        smtpd.stop()
        smtpd = start()
    some_letters(post)
    return smtpd


def by_shell(words, *sockets):
    """What hands over sockets to a program, and is replaced by it."""
    return {"wrapper": ["bash", "-c", f'{words}; exec "$0" "$@" ' + " ".join(sockets)]}


def test_sockets_of_listen_fds(programs, spool, held):
    how = by_shell("export LISTEN_PID=$$ LISTEN_FDS=1", f"3<&{held.fileno()}")
    with Post(held.getsockname()) as post:
        smtpd = restart(lambda: programs.smtpd(spool, **how, pass_fds=(held.fileno(),)), post)
    assert smtpd.log(event="listening", inherited=1)
    post.check(spool)


def test_descriptor_0(programs, spool, held):
    how = by_shell(":", f"0<&{held.fileno()}")
    with Post(held.getsockname()) as post:
        smtpd = restart(lambda: programs.smtpd(spool, **how, pass_fds=(held.fileno(),)), post)
    assert smtpd.log(event="listening", inherited=1)
    post.check(spool)


def test_a_shared_port(programs, spool):
    """The next one is ready before the one before it is told to stop."""
    settings = {"SMTPD_LISTEN": f"127.0.0.1:{free_port()}", "SMTPD_REUSEPORT": 1}
    smtpd = programs.smtpd(spool, **settings)
    with Post(smtpd.address, pause=0.05) as post:
        for _ in range(RESTARTS):
            following = programs.smtpd(spool, **settings)
            some_letters(post)
            smtpd.stop()
            smtpd = following
    assert not smtpd.log(event="listening", inherited=1)
    post.check(spool)


@pytest.fixture
def fdholder(held):
    """s6's daemon that holds descriptors, with a listening socket in it: its own socket's path."""
    directory = short_directory("mayfly-fdholder-")
    rule = directory / "rules" / "uid" / str(os.getuid())
    (rule / "env").mkdir(parents=True)
    (rule / "allow").touch()
    for what in ("STORE", "RETRIEVE"):
        (rule / "env" / f"S6_FDHOLDER_{what}_REGEX").write_text("^smtp$\n")
    path = directory / "s"
    daemon = subprocess.Popen(["s6-fdholder-daemon", "-i", directory / "rules", path],
                              stdin=subprocess.DEVNULL)
    try:
        wait_for(path.exists, "s6-fdholder-daemon listens")
        subprocess.run(["s6-fdholder-store", path, "smtp"], stdin=held, check=True, timeout=60)
        yield path
    finally:
        daemon.terminate()
        daemon.wait(60)


def test_a_socket_from_s6_fdholder(programs, spool, held, fdholder):
    """The socket is the daemon's alone: ours is closed."""
    address = held.getsockname()
    held.close()
    retrieve = ["s6-fdholder-retrieve", str(fdholder), "smtp"]
    with Post(address) as post:
        smtpd = restart(lambda: programs.smtpd(spool, wrapper=retrieve), post)
    assert smtpd.log(event="listening", inherited=1)
    post.check(spool)
