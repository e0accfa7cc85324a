"""What the parts of the torture share: their tallies, which are said even where pytest captures; and
that some of it is no part of `make test`."""

import pytest

from size import SIZE, SIZES
from tally import tallied


def pytest_configure(config):
    config.addinivalue_line("markers", "least(size): no part of a smaller one")


def pytest_collection_modifyitems(config, items):
    left = [item for item in items if is_too_much(item.get_closest_marker("least"))]
    config.hook.pytest_deselected(items=left)
    # The torture first: its tests are long, and one that is begun last is waited for by all.
    items[:] = sorted((item for item in items if item not in left),
                      key=lambda item: item.path.parent.name != "torture")


def is_too_much(marker):
    return marker is not None and SIZES.index(SIZE) < SIZES.index(marker.args[0])


@pytest.fixture
def tally_of(capfd):
    """A function that opens a tally: `with tally_of("power-cut/ext4") as tally:`."""
    def say(line):
        with capfd.disabled():
            print("\n" + line, flush=True)

    return lambda part: tallied(part, say)
