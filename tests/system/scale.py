"""How large the suite is: TEST_SCALE is a factor on every count, `full` (1) being what is promised.

The default keeps the whole of `make test` under eight minutes on two cores.
"""

import os

DEFAULT = 0.05


def parse(text):
    if text == "full":
        return 1.0
    factor = float(text)
    if not 0 < factor <= 1:
        raise ValueError(f"TEST_SCALE is {text!r}; it may be a number above 0 up to 1, or 'full'")
    return factor


SCALE = parse(os.environ.get("TEST_SCALE") or str(DEFAULT))


def scaled(count, minimum):
    """The full count times the scale, never below the minimum at which the test still means
    something."""
    return max(minimum, round(count * SCALE))
