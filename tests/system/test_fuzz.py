"""The fuzz targets, for a short while: every seed, which includes every input that ever broke one,
and then the same inputs made of them each time. `make fuzz` looks for new ones."""

import subprocess

import pytest

from cluster import ROOT
from scale import scaled

FUZZ = ROOT / "tests" / "fuzz"
TARGETS = sorted(path.stem for path in FUZZ.glob("*.c") if "_" not in path.stem)
RUNS = scaled(100_000, 5_000)


def test_there_are_targets():
    assert {"command", "path", "data", "proxy", "envelope", "session", "relay"} <= set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_target(target, tmp_path):
    seeds = FUZZ / "corpus" / target
    assert any(seeds.iterdir())
    working = tmp_path / "corpus"
    working.mkdir()
    done = subprocess.run(
        [ROOT / "build/fuzz/tests/fuzz" / target, f"-runs={RUNS}", "-seed=1", "-timeout=60",
         f"-dict={FUZZ / target}.dict", f"-artifact_prefix={tmp_path}/", working, seeds],
        env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr[-10_000:]
    assert f"Done {RUNS} runs" in done.stderr
