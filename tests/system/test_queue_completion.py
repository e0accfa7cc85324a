"""Bash completes the queue tool: commands, options, ids; and runs nothing that a name says."""

import os
import subprocess

import pytest

from cluster import ROOT
from programs import environment
from queuetool import PROGRAM, Tool, fail

ASK = """
source "$1"; shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_mayfly_queue
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(spool):
    spool.make()
    spool.relay.make()

    def run(*words):
        done = subprocess.run(
            ["bash", "--norc", "-c", ASK, "bash", ROOT / "queue/mayfly-queue.bash", PROGRAM,
             *words],
            env=environment({"SPOOL": spool}), capture_output=True, text=True, timeout=60,
            cwd=spool.path.parent)
        assert (done.returncode, done.stderr) == (0, ""), done
        return sorted(done.stdout.split())
    return run


def test_commands_and_options(complete):
    assert complete("re") == ["remove", "replay", "retry"]
    assert {"list", "trace", "--help"} <= set(complete(""))
    assert complete("list", "--") == ["--json", "--queue"]
    assert complete("check", "--r") == ["--repair"]
    assert complete("show", "--queue", "s") == ["store"]
    assert complete("show", "--queue", "=", "") == ["relay", "store"]
    assert complete("show", "--queue", "=") == ["relay", "store"]
    assert complete("replay", "") == [] and complete("nothing", "") == []


def test_the_options_are_those_of_the_tool(complete, spool):
    """Each that is offered is taken, and each that is taken is offered."""
    tool = Tool(spool)
    for command in complete(""):
        if command.startswith("-"):
            continue
        offered = complete(command, "--")
        for option in ("--all", "--envelope", "--json", "--queue", "--raw", "--repair", "--yes"):
            said = tool.run(command, option + ("=store" if option == "--queue" else ""), "--no")
            assert (f"no such option: {option}" in said.stderr.decode()) == (option not in offered)


def test_ids(complete, spool):
    live, failed = spool.put(), fail(spool, "first line\nsecond  line")
    fail(spool, name="from-elsewhere")
    assert complete("show", "") == sorted([live, failed, "from-elsewhere"])
    assert complete("retry", "") == sorted([failed, "from-elsewhere"])
    assert complete("remove", "--yes", live[:12]) == [id for id in sorted([live, failed])
                                                     if id.startswith(live[:12])]
    assert complete("trace", "from") == ["from-elsewhere"]


def test_names_that_would_be_run_are_not_offered(complete, spool):
    for name in ("$(touch owned)", "`touch owned`", "x;touch owned", "-rf", "a b", "\x1b[31m",
                 "~root"):
        fail(spool, name=name)
    assert complete("show", "") == [] and complete("remove", "$") == []
    assert os.listdir(spool.path.parent) == ["spool"]
