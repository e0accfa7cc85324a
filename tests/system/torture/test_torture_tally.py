"""The tally itself: it says what it was told, and lets nothing pass."""

import json

import pytest

from tally import Tally, tallied


def test_says_what_it_was_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setenv("TORTURE_TABLE", str(tmp_path / "table"))
    with tallied("cut/ext4", said.append) as tally:
        tally.did(3)
    assert said == ["part=cut/ext4 tried=3 lost=0 doubled=0 altered=0"]
    assert json.loads((tmp_path / "table").read_text()) == {
        "part": "cut/ext4", "tried": 3, "lost": 0, "doubled": 0, "altered": 0}


@pytest.mark.parametrize("what", ["lost", "doubled", "altered"])
def test_one_message_is_enough(what):
    said = []
    with pytest.raises(AssertionError, match=f"{what}: 0193"):
        with tallied("cut", said.append) as tally:
            tally.did()
            getattr(tally, what)("0193")
    assert f"{what}=1" in said[0]


def test_trying_nothing_is_no_proof():
    with pytest.raises(AssertionError, match="tried nothing"):
        with tallied("cut", lambda line: None):
            pass


def test_what_the_database_shows_is_taken_for_what_it_is():
    tally = Tally("cut")
    tally.compare(["lost: (1,)", "twice: ('a', 2)", "changed: (2,)", "wrong recipients: (3,)",
                   "without a message: (4,)"])
    assert tally.line() == "part=cut tried=0 lost=1 doubled=1 altered=3"
