"""Mutants: builds that were broken on purpose, each in one way that would lose, double or alter
mail, or let somebody in. The suite must notice every one; a mutant that survives is a hole in it.

The small sizes try a few that are spread over the programs, and are quick. All of them are read and
applied in every size, so that none goes stale unseen.
"""

import concurrent.futures
import difflib
import os

import pytest

import mutants
from size import pick

LEAST = 20

# For the sizes that cannot try all, in this order.
FEW = ("no-fsync-of-file", "250-before-commit", "lf-begins-a-line", "plaintext-behind-starttls",
       "open-relay", "unlink-before-commit", "received-now", "drop-of-a-live-day",
       "accepted-is-forgotten", "dots-not-stuffed", "sweep-of-live-files")

ALL = mutants.read_all()
BY_NAME = {mutant.name: mutant for mutant in ALL}
TRIED = [BY_NAME[name] for name in FEW[:pick(2, len(FEW), 0)]] or ALL


def catchers_of(some):
    return sorted({catcher for mutant in some for catcher in mutant.catchers})


@pytest.fixture(scope="module")
def workshop():
    shop = mutants.Workshop()
    yield shop
    shop.remove()


@pytest.fixture(scope="module")
def built(workshop):
    """The workshop, with what is not broken built in it."""
    workshop.bring_objects()
    done = workshop.build(workshop.sound, catchers_of(TRIED))
    assert done.code == 0, done.said
    return workshop


def table(results):
    rows = [f"| {mutant.name} | {'<br>'.join(mutant.catchers) if words is None else 'nobody'} |"
            for mutant, words in results]
    return "\n".join(["| mutant | caught by |", "|---|---|", *rows])


def test_each_is_described_and_applies(workshop):
    assert len(ALL) >= LEAST
    for mutant in ALL:
        assert mutant.what and mutant.catchers, f"{mutant.name} does not say what it is"
        assert mutant.files, f"{mutant.name} changes nothing"
        for file in mutant.files:
            assert file.split("/")[0] in mutants.FOLDERS, f"{mutant.name} changes {file}"
        applied = workshop.apply(workshop.sound, mutant, "--check")
        assert applied.code == 0, f"{mutant.name} does not apply:\n{applied.said}"
    unknown = workshop.unknown(catchers_of(ALL))
    assert unknown is None, unknown


def rewritten(path, file, old, new):
    """A mutant by the name of the patch that is written to `path`."""
    before = (mutants.ROOT / file).read_text()
    assert before.count(old) == 1
    diff = difflib.unified_diff(before.splitlines(True), before.replace(old, new).splitlines(True),
                                f"a/{file}", f"b/{file}", n=1)
    path.write_text("Mutant: a trial.\nCaught by: unit/queue_twins\n\n"
                    f"diff --git a/{file} b/{file}\n{''.join(diff)}")
    return mutants.read(path)


@pytest.mark.parametrize("old, new, words", [
    ("Group commit: the", "Group commit: The", "no test of it failed"),
    ("void commit_run(", "void commit_run(!", "does not build"),
], ids=["harmless", "no program"])
def test_what_is_not_caught_is_noticed(built, tmp_path, old, new, words):
    """What breaks nothing must not count as caught, and nor must what was never tried."""
    mutant = rewritten(tmp_path / "trial.patch", "queue/commit.c", old, new)
    assert words in built.survives(mutant)


@pytest.mark.deadline(3000)
def test_each_is_caught(built, tally_of, capfd):
    results = []
    with tally_of("mutants") as tally:
        wrong = built.sound_fails(catchers_of(TRIED))
        assert wrong is None, wrong
        # Most of the tests that catch something wait for it.
        workers = pick(2, 2, (os.cpu_count() or 1) + 1)
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            try:
                for mutant, words in zip(TRIED, pool.map(built.survives, TRIED)):
                    results.append((mutant, words))
                    tally.did(words is None)
            except BaseException:
                # What waits is not begun, and what runs is ended, or the pool would wait for it.
                pool.shutdown(wait=False, cancel_futures=True)
                built.end()
                raise
        with capfd.disabled():
            print("\n" + table(results), flush=True)
        survivors = [f"{mutant.name} survived: {words}" for mutant, words in results if words]
        assert not survivors, "\n\n".join(survivors)
