"""Waiting with an end: polls for a condition, and a limit on every test.

No test depends on time being short, so every deadline here is generous; it only turns a hang into a
failure that shows where it hung.
"""

import contextlib
import faulthandler
import signal
import time

TEST_SECONDS = 120
POLL_SECONDS = 60


class Overdue(AssertionError):
    """A condition did not come true, or a test did not end, in time."""


def wait_for(condition, what, seconds=POLL_SECONDS, interval=0.02):
    """Polls until condition() is true and returns what it returned; `what` names it in the
    failure."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Overdue(f"not within {seconds} s: {what} (last seen: {value!r})")
        time.sleep(interval)


@contextlib.contextmanager
def limit(seconds):
    """Raises Overdue in the main thread after `seconds`; dumps every thread's stack if even that
    does not help."""

    def on_alarm(_signal, _frame):
        raise Overdue(f"the test did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + 30, exit=False)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
