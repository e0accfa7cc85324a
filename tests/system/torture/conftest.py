"""What the parts of the torture share: their tallies, which are said even where pytest captures."""

import pytest

from tally import tallied


@pytest.fixture
def tally_of(capfd):
    """A function that opens a tally: `with tally_of("power-cut/ext4") as tally:`."""
    def say(line):
        with capfd.disabled():
            print("\n" + line, flush=True)

    return lambda part: tallied(part, say)
