"""How much a part of the torture tries: TORTURE is `full` (the default of `make torture`), `quick`
(every part small), or unset, in `make test`, which is smaller still."""

import os

SIZES = ("test", "quick", "full")
SIZE = os.environ.get("TORTURE") or "test"

if SIZE not in SIZES:
    raise ValueError(f"TORTURE is {SIZE!r}; it may be one of {', '.join(SIZES)}")


def pick(test, quick, full):
    """What stands for the size of this run."""
    return {"test": test, "quick": quick, "full": full}[SIZE]
