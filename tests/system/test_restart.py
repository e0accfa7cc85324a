"""smtpd is restarted under load, in each way that the README names, and no client is refused,
reset, or closed before its reply; nor is a letter lost or there twice.
"""

import os
import signal
import socket
import subprocess

import pytest

import smtp
from cluster import free_port, short_directory
from deadline import wait_for
from load import Post
from scale import scaled

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


@pytest.mark.deadline(300)
def test_a_shared_port(programs, spool):
    """The next one is ready before the one before it is told to stop. Senders who had meant that
    one come again after a second, so this takes more than a second each time."""
    settings = {"SMTPD_LISTEN": f"127.0.0.1:{free_port()}", "SMTPD_REUSEPORT": 1}
    smtpd = programs.smtpd(spool, **settings)
    with Post(smtpd.address, pause=0.05) as post:
        for _ in range(scaled(RESTARTS, 25)):
            following = programs.smtpd(spool, **settings)
            some_letters(post)
            smtpd.stop()
            assert not smtpd.log(event="no_filter")
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


# Who waits to be accepted when the stop begins: for that to be known, smtpd is halted while they
# come.

MANY = {"SMTPD_MAX_CONNECTIONS_PER_CLIENT": 1000}


def stop_with_a_crowd(smtpd, count=200):
    """Returns those who had connected before it was told to stop: more than it accepts in the two
    turns that its loop may make before it sees the signal."""
    address = smtpd.address
    smtpd.send_signal(signal.SIGSTOP)
    crowd = [smtp.Client(address) for _ in range(count)]
    smtpd.end_wanted = True
    smtpd.send_signal(signal.SIGTERM)
    smtpd.send_signal(signal.SIGCONT)
    return crowd


def served_or_told(client):
    """It may still have been greeted, and is told at the latest with its next command."""
    if client.reply((220, 421), bare=True).code == 220:
        client.command("QUIT", (221, 421))
    client.expect_close()


def test_who_waits_for_a_port_that_is_closed_hears_why(programs, spool):
    smtpd = programs.smtpd(spool, **MANY)
    for client in stop_with_a_crowd(smtpd):
        served_or_told(client)
    assert smtpd.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        smtp.Client(smtpd.address)


def test_who_waits_for_an_inherited_socket_is_served_by_the_next(programs, spool, held):
    how = by_shell(":", f"0<&{held.fileno()}") | {"pass_fds": (held.fileno(),)}
    smtpd = programs.smtpd(spool, **how, **MANY)
    crowd = stop_with_a_crowd(smtpd)
    early = [client for client in crowd if smtpd_spoke(client, smtpd)]
    assert len(early) < len(crowd)
    programs.smtpd(spool, **how, **MANY)
    for client in crowd:
        if client not in early:
            client.greeting()
            client.to("E").mail()
    assert len(spool.new()) == len(crowd) - len(early)


def smtpd_spoke(client, smtpd):
    """Whether the smtpd that ends has accepted this client, who then hears all it has to say."""
    wait_for(lambda: client.readable() or smtpd.returncode is not None, "a word, or its end")
    if not client.readable():
        return False
    served_or_told(client)
    return True


def test_who_waits_for_a_shared_port_is_served(programs, spool):
    """By the one that ends, whose queue they are in; and nobody new comes to it."""
    settings = {"SMTPD_LISTEN": f"127.0.0.1:{free_port()}", "SMTPD_REUSEPORT": 1}
    ending = programs.smtpd(spool, **settings, **MANY)
    staying = programs.smtpd(spool, **settings, **MANY)
    crowd = stop_with_a_crowd(ending, 300)
    for client in crowd:
        served_or_told(client)
    for _ in range(20):
        staying.session("E").quit()
    assert ending.wait() == 0


def test_a_passed_descriptor_that_is_no_socket(programs, spool):
    done = programs.run("smtpd", SPOOL=spool, LISTEN_FDS=1)
    assert done.returncode == 78 and 'address="descriptor 3"' in done.stderr, done
