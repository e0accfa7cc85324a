"""Crashes at every point: what a program passes in a scenario is seen once, then the scenario is
run again for each of those points, with the program struck there; killed in any case, started
again, and the mail compared with what was promised.

A bench is where scenarios of one program are run, one at a time; several benches run side by side.
"""

import concurrent.futures
import dataclasses
import queue
import random
import signal
import time

from cluster import short_directory
from points import FaultyPrograms, Hits, Strike, points_of

SETTLE_SECONDS = 60
LATE_SECONDS = 5      # for a point that is passed behind all that can be seen from outside


class NotStruck(AssertionError):
    """The program did not come by."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What a program is made to do. `base`: what goes wrong in it besides, so that it comes by
    points that it passes only then. `only`: how points begin that are struck in it, where others
    are better tried elsewhere; None: all that are passed."""
    name: str
    base: tuple = ()
    only: tuple = None

    def tries(self, point):
        return self.only is None or point.startswith(self.only)


class Bench:
    """What all benches have. `name` is that of the program, `scenarios` are its own. `manifold`:
    how points begin that are of many steps, and so are struck at more of their passes."""

    name = None
    scenarios = ()
    manifold = ("pgconn.", "steps.flush", "pass.")

    def __init__(self, build):
        self.build = build
        self.directory = short_directory(f"mayfly-{self.name}-crash-")
        self.count = 0
        self.wrong = []

    def attempt(self, scenario, strike=None):
        """Runs a scenario; returns what was passed. What is wrong with the mail is in `wrong`: a
        list of (what, text)."""
        self.count += 1
        self.wrong = []
        self.strike = strike
        self.hits = Hits(self.directory / f"hits-{self.count}")
        programs = FaultyPrograms(self.build)
        try:
            self.run(scenario, programs)
            ended = programs.end()
        finally:
            programs.end()
        assert ended == [], "\n".join(ended)
        return self.hits

    def run(self, scenario, programs):
        """Prepares, starts the program that is struck, feeds, settles, starts a clean one,
        compares."""
        raise NotImplementedError

    def struck(self, scenario):
        """The settings of the program that is struck."""
        rules = [*scenario.base, *(self.strike.rules() if self.strike else [])]
        return {"FAULT_HITS": self.hits.path, "FAULT_POINTS": ",".join(rules) or None}

    def settle(self, program, done):
        """Waits until the program has died of the strike, or all is done; returns whether it has
        died."""
        end = time.monotonic() + SETTLE_SECONDS
        while program.returncode is None and not done():
            assert time.monotonic() < end, f"it hangs:\n{program.text()}"
            time.sleep(0.01)
        return self.is_dead(program)

    def is_dead(self, program):
        if program.returncode is None:
            return False
        code = program.wait()
        assert self.strike and self.strike.kills and code == -signal.SIGKILL, \
            f"ended by itself with {code}:\n{program.text()}"
        return True

    def finish(self, program):
        """The end of what was struck, if it still lives: killed, behind all that it did."""
        if self.strike:
            end = time.monotonic() + LATE_SECONDS
            while program.returncode is None and time.monotonic() < end and \
                    (self.strike.kills or not self.hits.struck(self.strike.point)):
                time.sleep(0.01)
            self.is_dead(program)
        if program.returncode is None:
            program.kill()
        if self.strike and not self.hits.struck(self.strike.point):
            raise NotStruck(f"never came by {self.strike.point}:\n{program.text()}")

    def close(self):
        pass


@dataclasses.dataclass(frozen=True)
class Case:
    scenario: Scenario
    strike: Strike

    def __str__(self):
        return f"{self.scenario.name}: {self.strike or 'unharmed'}"


def spread(count, most):
    """So many of the numbers below `count`, the first and the last among them, evenly."""
    if count <= most:
        return list(range(count))
    return sorted({round(number * (count - 1) / max(1, most - 1)) for number in range(most)})


def survey(benches, tally):
    """Runs every scenario unharmed; returns {scenario: {point: how often it is passed}}."""
    seen = {}
    for case, wrong, passed in run_all(benches, [Case(one, None) for one in benches[0].scenarios]):
        tell(tally, case, wrong)
        seen[case.scenario] = passed
    return {scenario: seen[scenario] for scenario in benches[0].scenarios}


def cases_of(bench, seen, most, repeat):
    """Every point × action, at up to `most` of its passes; unless `repeat` in the first scenario
    alone that comes by."""
    actions = points_of(bench.build / bench.name)
    cases, tried = [], set()
    for scenario, passed in seen.items():
        for point in sorted(passed):
            if not scenario.tries(point) or (point in tried and not repeat):
                continue
            tried.add(point)
            passes = spread(passed[point], 6 * most if point.startswith(bench.manifold) else most)
            cases += [Case(scenario, Strike(point, action, number))
                      for action in actions[point] for number in passes]
    return cases


def sample(cases, count):
    """So many of them (None: all), by chance: of different points, as far as there are."""
    if count is None:
        return cases
    first, rest = {}, []
    for case in random.Random(len(cases)).sample(cases, len(cases)):
        if first.setdefault(case.strike.point, case) is not case:
            rest.append(case)
    return [*first.values(), *rest][:count]


def tell(tally, case, wrong):
    tally.did()
    for what, text in wrong:
        getattr(tally, what)(f"{case}: {text}")


def attempt(bench, case):
    """One case; where the pass that was counted on does not come this time, the first is taken.
    Returns what is wrong with the mail, and what was passed."""
    try:
        hits = bench.attempt(case.scenario, case.strike)
    except NotStruck:
        if case.strike.passes == 0:
            raise
        hits = bench.attempt(case.scenario, dataclasses.replace(case.strike, passes=0))
    return bench.wrong, hits.passed()


def run_all(benches, cases):
    """Tries all cases, as many at a time as there are benches; yields (case, what is wrong, what
    was passed) of each, as they come."""
    free = queue.Queue()
    for bench in benches:
        free.put(bench)

    def work(case):
        bench = free.get()
        try:
            return case, *attempt(bench, case)
        except AssertionError as failure:
            raise AssertionError(f"{case}: {failure}") from failure
        finally:
            free.put(bench)

    with concurrent.futures.ThreadPoolExecutor(len(benches)) as pool:
        running = [pool.submit(work, case) for case in cases]
        try:
            for done in concurrent.futures.as_completed(running):
                yield done.result()
        finally:
            for waiting in running:
                waiting.cancel()


def strike_all(benches, cases, tally):
    for case, wrong, _ in run_all(benches, cases):
        tell(tally, case, wrong)
