"""Fixtures of those who besiege a program, imported by name."""

import shutil

import pytest

from cluster import short_directory
from strike import build

# The same in every program; smtpd is the one that it is tried in.
METRICS = ("common/metrics.c",)


@pytest.fixture(scope="session")
def library():
    """The library that strikes."""
    directory = short_directory("mayfly-strike-")
    yield build(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def besiege(programs, spool, library, tmp_path, capfd):
    """A function that makes a siege of a class, for a tally."""
    def say(text):
        with capfd.disabled():
            print("\n" + text, flush=True)

    def begin(kind, tally, in_spool=None, **what):
        return kind(programs, in_spool or spool, library, tmp_path, tally, say, **what)

    return begin
