"""Faults of the system: reaper."""

import pytest

from besieging import METRICS, besiege, library  # fixtures, too
from siege_reaper import ReaperSiege
from size import pick


@pytest.mark.deadline(1800)
def test_reaper(besiege, tally_of, database):
    with tally_of("system-faults/reaper") as tally:
        siege = besiege(ReaperSiege, tally, database=database)
        siege.run(pick((4, 1, 3), (8, 2, 8), (None, None, None)), METRICS)
    siege.verdict()
