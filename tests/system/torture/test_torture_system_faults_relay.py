"""Faults of the system: relay."""

import pytest

from besieging import METRICS, besiege, library  # fixtures, too
from siege_relay import RelaySiege
from size import pick
from smarthost import SmartHost


@pytest.mark.deadline(1800)
def test_relay(besiege, tally_of):
    with SmartHost() as host, tally_of("system-faults/relay") as tally:
        siege = besiege(RelaySiege, tally, host=host)
        siege.run(pick((4, 1, 3), (12, 3, 8), (None, None, None)), METRICS)
    siege.verdict()
