"""`mayfly-setup`: the group, the users and the spool of the services, made by one command."""

import os
import pathlib
import shutil
import subprocess

import pytest

from cluster import ROOT, short_directory
from host import Host

SETUP = ROOT / "common/setup.sh"
USERS = [f"mayfly-{program}" for program in ("smtpd", "storer", "reaper", "relay")]
QUEUES = [f"{queue}{directory}" for queue in ("store", "relay")
          for directory in ("", "/tmp", "/new", "/cur", "/failed")]

# By somebody who may write into it, as whoever is in the group may.
MADE = "groupadd --system mayfly && install -d -g mayfly -m 2770 /var/spool/mayfly"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users")


@pytest.fixture
def host():
    own = Host()
    shutil.copy(SETUP, own.directory / "mayfly-setup")
    yield own
    own.end()


def set_up(host, *arguments, **more):
    return host.run(host.directory / "mayfly-setup", *arguments, **more)


def tree(directory, gid):
    """What a spool must look like, and what it looks like."""
    found = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    assert found == set(QUEUES)
    for path in (directory, *directory.rglob("*")):
        status = path.stat()
        assert (oct(status.st_mode), status.st_uid, status.st_gid) == ("0o42770", 0, gid), path


@needs_root
def test_users_and_spool_are_made_once(host):
    assert set_up(host) == ""
    gid = int(host.run("getent", "group", "mayfly").split(":")[2])
    entries = [host.run("getent", "passwd", user).strip().split(":") for user in USERS]
    assert all(entry[3:] == [str(gid), f"Mayfly's {entry[0][7:]}", "/", "/usr/sbin/nologin"]
               for entry in entries)
    assert len({entry[2] for entry in entries}) == 4
    assert all(int(entry[2]) < 1000 for entry in entries)
    shadow = [host.run("getent", "shadow", user).split(":") for user in USERS]
    assert all(entry[1].startswith("!") for entry in shadow), "they have no password"
    tree(host.spool / "mayfly", gid)

    before = host.run("cat", "/etc/passwd", "/etc/group")
    waiting = host.spool / "mayfly/store/new/0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10"
    waiting.write_bytes(b"mail")
    assert set_up(host) == ""
    assert host.run("cat", "/etc/passwd", "/etc/group") == before
    assert waiting.read_bytes() == b"mail"
    # This machine's accounts are not those.
    assert "mayfly-smtpd" not in pathlib.Path("/etc/passwd").read_text()


@needs_root
def test_the_spool_is_where_it_is_wanted(host):
    place = host.directory / "disk/mail"
    set_up(host, SPOOL=str(place))
    tree(place, int(host.run("getent", "group", "mayfly").split(":")[2]))
    assert not (host.spool / "mayfly").exists()
    set_up(host, SPOOL=f"{place}//")
    set_up(host, SPOOL=f"{place}-2/")
    tree(place.with_name("mail-2"), int(host.run("getent", "group", "mayfly").split(":")[2]))
    for wrong in ("mail", "/"):
        assert "no absolute path" in set_up(host, SPOOL=wrong, code=78)


@needs_root
@pytest.mark.parametrize("before, named", [
    ("useradd --system mayfly-relay", "the user mayfly-relay is there already"),
    ("groupadd --system mayfly && mkdir -m 770 /var/spool/mayfly", "/var/spool/mayfly is there"),
    ("groupadd --system mayfly && install -dm 2770 /var/spool/mayfly", "/var/spool/mayfly is there"),
    ("touch /var/spool/mayfly", "/var/spool/mayfly is there already"),
    (f"{MADE} && ln -s /etc /var/spool/mayfly/store", "/var/spool/mayfly/store is there"),
    (f"{MADE} && ln -s /etc/new /var/spool/mayfly/relay", "/var/spool/mayfly/relay is there"),
])
def test_what_is_there_and_cannot_serve_is_named(host, before, named):
    host.run("sh", "-c", before)
    before = os.stat(host.directory / "etc")
    assert named in set_up(host, code=73)
    etc = os.stat(host.directory / "etc")
    assert (etc.st_mode, etc.st_gid) == (before.st_mode, before.st_gid)
    assert not (host.directory / "etc/new").exists()


@needs_root
def test_what_is_there_and_can_serve_is_left(host):
    host.run("sh", "-c", "groupadd --system mayfly"
             " && useradd --system --groups mayfly mayfly-relay"
             " && install -d -g mayfly -m 2770 /var/spool/mayfly")
    assert set_up(host) == ""
    assert host.run("id", "-gn", "mayfly-relay") == "mayfly-relay\n"


@pytest.fixture
def root():
    """The tree of another machine, which has the group already."""
    made = short_directory("mayfly-root-")
    (made / "etc").mkdir()
    for name in ("passwd", "group", "shadow", "gshadow"):
        (made / "etc" / name).touch()
    (made / "etc/group").write_text("mayfly:x:4242:\n")
    yield made
    shutil.rmtree(made)


@needs_root
def test_a_tree_of_another_machine(root):
    for _ in range(2):
        subprocess.run([SETUP, f"--root={root}"], check=True, timeout=60)
    lines = (root / "etc/passwd").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == USERS
    assert all(line.split(":")[3] == "4242" for line in lines)
    tree(root / "var/spool/mayfly", 4242)


# Stands for each command that makes a step: ends the shell that called it, before the step whose
# turn it is.
STEP = """#!/bin/sh
echo >> "$COUNT"
[ "$(wc -l < "$COUNT")" != "$AT" ] || { kill -9 $PPID; exit 1; }
exec "/usr/bin/${0##*/}" "$@"
"""
STEPS = 2 + 3 + 10   # the parent and the spool beside its place; three for that; the rest of it


@needs_root
def test_what_was_interrupted_is_completed(root):
    subprocess.run([SETUP, f"--root={root}"], check=True, timeout=60)
    commands = root / "commands"
    commands.mkdir()
    for name in ("mkdir", "chgrp", "chmod", "mv"):
        (commands / name).write_text(STEP)
        (commands / name).chmod(0o755)
    for step in range(1, STEPS + 2):
        place = f"/srv/{step}/mail"
        own = {"PATH": os.environ["PATH"], "SPOOL": place}
        interrupted = {**own, "PATH": f"{commands}:{own['PATH']}", "AT": str(step),
                       "COUNT": str(root / f"count-{step}")}
        done = subprocess.run([SETUP, f"--root={root}"], env=interrupted, timeout=60,
                              umask=0o077, stderr=subprocess.DEVNULL)
        assert (done.returncode == 0) == (step > STEPS), step
        subprocess.run([SETUP, f"--root={root}"], env=own, check=True, timeout=60, umask=0o077)
        assert [path.name for path in (root / f"srv/{step}").iterdir()] == ["mail"]
        assert (root / f"srv/{step}").stat().st_mode & 0o777 == 0o755
        tree(root / f"srv/{step}/mail", 4242)


def run_setup(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60)


@pytest.mark.parametrize("arguments", [("now",), ("--root",), ("--root=here",), ("--help", "more")])
def test_usage(arguments):
    done = run_setup(SETUP, *arguments)
    assert done.returncode == 64 and done.stderr.startswith("usage: mayfly-setup ")


def test_help():
    done = run_setup(SETUP, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: mayfly-setup ")


def test_it_is_for_root():
    copy = short_directory("mayfly-setup-")
    shutil.copy(SETUP, copy)
    prefix = [] if os.geteuid() else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = run_setup(*prefix, copy / SETUP.name)
    shutil.rmtree(copy)
    assert (done.returncode, done.stderr) == (77, "mayfly-setup: only root can make users\n")
