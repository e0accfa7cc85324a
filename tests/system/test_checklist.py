"""Every row of the checklist has a test that names it."""

import pathlib
import re

import transport
from cluster import ROOT
from vulnerabilities import TESTS

HERE = pathlib.Path(__file__).parent


def rows():
    return re.findall(r"^\| (D\d+-\d\d) \|", (HERE / "checklist.md").read_text(), re.M)


def rows_with_a_test():
    found = set()
    for path in HERE.glob("test_*.py"):
        for part, number in re.findall(r"^def test_d(\d+)_(\d\d)_", path.read_text(), re.M):
            found.add(f"D{part}-{number}")
    return found


def test_every_row_has_a_test():
    assert len(rows()) == len(set(rows())) > 100
    assert sorted(set(rows()) - rows_with_a_test()) == []


def test_every_named_row_exists():
    assert sorted(rows_with_a_test() - set(rows())) == []


def test_what_is_tried_once_exists():
    """An exception from the rule that all is tried both ways is about some test."""
    tests = [name for path in HERE.glob("test_*.py")
             for name in re.findall(r"^def (test_d\d+_\w+)", path.read_text(), re.M)]
    for prefix in transport.ONCE:
        assert any(name.startswith(f"test_{prefix}") for name in tests), prefix
    both = [name for name in tests if transport.both(name)]
    assert len(both) > len(tests) / 2


def test_every_vulnerability_has_a_test():
    rows = re.findall(r"^\| (V-\d\d) \|", (HERE / "checklist.md").read_text(), re.M)
    assert rows == sorted(TESTS) and len(rows) > 20
    for row, tests in TESTS.items():
        for test in tests:
            file, _, function = test.partition("::")
            path = ROOT / file if file.startswith("tests/") else HERE / file
            assert path.is_file(), (row, test)
            assert not function or f"def {function}(" in path.read_text(), (row, test)
