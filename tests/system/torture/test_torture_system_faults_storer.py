"""Faults of the system: storer."""

import shutil

import pytest

from besieging import METRICS, besiege, library  # fixtures, too
from cluster import short_directory
from siege_storer import StorerSiege
from size import SIZE, pick
from spool import Spool


@pytest.mark.deadline(1800)
def test_storer(besiege, tally_of, database, cluster):
    with tally_of("system-faults/storer") as tally:
        siege = besiege(StorerSiege, tally, database=database)
        known = siege.run(pick((4, 1, 3), (12, 3, 12), (None, None, None)), METRICS)
        if SIZE != "test":
            strike_keeping(besiege, tally, cluster, known)
    siege.verdict()


def strike_keeping(besiege, tally, cluster, known):
    """What storer does with files that it keeps, besides."""
    database, spool = cluster.create(), Spool(short_directory("mayfly-spool-") / "spool")
    siege = besiege(StorerSiege, tally, spool, database=database, keep=1)
    siege.prepare()
    siege.begin()
    siege.settle()
    siege.compare()
    places = [place for place in siege.watched() if place not in known]
    siege.compare()
    siege.strike_each(siege.strikes(places, pick(0, 3, None), METRICS), siege.strike_once)
    siege.stop()
    siege.verdict()
    database.drop()
    shutil.rmtree(spool.path.parent, ignore_errors=True)
