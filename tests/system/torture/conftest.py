"""What the parts of the torture share: their tallies, which are said even where pytest captures; and
that some of it is no part of `make test`."""

import pytest

from size import SIZE
from tally import tallied


def pytest_configure(config):
    config.addinivalue_line("markers", "not_in_make_test: takes longer than it adds there")


def pytest_collection_modifyitems(config, items):
    if SIZE != "test":
        return
    left = [item for item in items if item.get_closest_marker("not_in_make_test")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture
def tally_of(capfd):
    """A function that opens a tally: `with tally_of("power-cut/ext4") as tally:`."""
    def say(line):
        with capfd.disabled():
            print("\n" + line, flush=True)

    return lambda part: tallied(part, say)
