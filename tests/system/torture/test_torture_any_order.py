"""Any order: programs, database, smarthost, operator and clients do what they may do at all, in an
order that nobody chose, and a model knows what must be there.

hypothesis (stateful testing) draws the steps, of which a sequence has many of few kinds; with each
comes a letter more, whatever it is. Nothing is made smaller when something is found, for what
happens between the steps is never the same twice: the steps are shown as they were. Each run of
some sequences has a number, which is the seed of them all and is printed; TORTURE_SEED repeats the
steps of one.
"""

import contextlib
import os
import sys
import time

import pytest
from hypothesis import HealthCheck, Phase, reject, seed, settings
from hypothesis import strategies as some
from hypothesis.stateful import (RuleBasedStateMachine, initialize, invariant, precondition, rule,
                                 run_state_machine_as_test)

import size
import verdicts
from letters import ACKNOWLEDGED, LATER, NEVER, POISON, RELAYED, STORED, WAYS
from smarthost import SmartHost
from world import PROGRAMS, REFUSAL, World

SECONDS = size.pick(8, 50, 300)
LEAST_STEPS = 6
STEPS = size.pick(18, 30, 40)
# Of one seed; the first of them is always the simplest that there is.
SEQUENCES = size.pick(2, 4, 4)

pytestmark = pytest.mark.deadline(600 + 3 * SECONDS)

roles = some.sampled_from(list(PROGRAMS))
domains = some.lists(some.sampled_from([STORED, STORED, RELAYED, RELAYED, POISON, LATER, NEVER]),
                     min_size=1, max_size=4)
sizes = some.sampled_from([60, 300, 4_000, 70_000, 400_000])
ways = some.sampled_from(list(WAYS))


class Over(BaseException):
    """Something was found. Not an Exception, which hypothesis would repeat."""


class Order(RuleBasedStateMachine):
    """The steps. `finding` is told what is wrong, and from then on nothing more is done."""

    make_world = None   # set for each run
    finding = None

    def __init__(self):
        super().__init__()
        self.world = None
        self.begun = None
        self.drawn = []
        self.steps = []

    def _did(self, *what):
        self.steps.append(" ".join(map(str, what)))

    def _do(self, name, *arguments):
        """One step, by its name in World."""
        if self.finding.over:
            return
        if self.world is None:
            self.drawn.append((name, *arguments))
            if len(self.drawn) == LEAST_STEPS:
                self._build()
            return
        self._did(name, *arguments)
        try:
            getattr(self.world, name)(*arguments)
        except AssertionError as failure:
            self.finding.failed(self.steps, str(failure))

    def _build(self):
        """The world, and the steps that were drawn before there was one."""
        keep, idle = self.begun
        self._did("begin: STORER_KEEP", keep, "idle", sorted(idle))
        self.world = self.make_world(keep)
        for role in PROGRAMS:
            if role not in idle:
                self._do("start", role)
        for step in self.drawn:
            self._do(*step)
            self.nothing_is_lost()

    @initialize(keep=some.sampled_from([0, 3600]), idle=some.sets(roles, max_size=3))
    def begin(self, keep, idle):
        """In earnest with the last of the least steps, for hypothesis tries first what has none."""
        self.begun = keep, idle

    # Clients: more often than all else, and several at once

    @rule(size=sizes, to=domains, how=ways, wait=some.booleans())
    def post(self, size, to, how, wait):
        self._do("post", size, to, how, wait)

    @rule(size=sizes, to=domains, how=some.lists(ways, min_size=2, max_size=12))
    def post_many(self, size, to, how):
        for one in how:
            self._do("post", size, to, one, False)

    @rule(to=domains)
    def post_small(self, to):
        self._do("post", 60, to, "data", True)

    # Programs

    @rule(role=roles)
    def start(self, role):
        self._do("start", role)

    @rule(role=roles)
    def stop(self, role):
        self._do("stop", role)

    @rule(role=roles)
    def kill(self, role):
        self._do("kill", role)

    @rule(role=roles)
    def restart(self, role):
        self._do("stop", role)
        self._do("start", role)

    @rule(role=roles)
    def kill_and_start(self, role):
        """As under a supervisor."""
        self._do("kill", role)
        self._do("start", role)

    @rule(role=roles)
    def upgrade(self, role):
        self._do("upgrade", role)

    @rule(role=roles)
    def halt(self, role):
        self._do("halt", role)

    @precondition(lambda self: self.world and self.world.halted)
    @rule(data=some.data())
    def go_on(self, data):
        self._do("go_on", data.draw(some.sampled_from(sorted(self.world.halted))))

    # What stands around them

    @rule(how=some.sampled_from(["stop", "immediate", "kill", "start"]))
    def database(self, how):
        self._do("have_database", how)

    @precondition(lambda self: self.world and not self.world.cluster.running())
    @rule()
    def database_returns(self):
        self._do("have_database", "start")

    @rule(held=some.booleans())
    def database_is_slow(self, held):
        self._do("hold_database", held)

    @rule()
    def smarthost_is_slow(self):
        self._do("slow_smarthost")

    @rule()
    def smarthost_restarts(self):
        self._do("restart_smarthost")

    @rule(mended=some.booleans())
    def smarthost_mended(self, mended):
        self._do("mend_smarthost", mended)

    @rule(step=some.sampled_from(["put_back_failed", "replay_kept", "touch_deferred", "move_away",
                                  "move_home"]))
    def operator(self, step):
        self._do(step)

    @rule(tenths=some.integers(1, 5))
    def pause(self, tenths):
        self._do("pause", tenths / 10)

    # What must be so

    @invariant()
    def nothing_is_lost(self):
        if self.world and not self.finding.over:
            self.world.post_in_passing()
            try:
                self.world.check_programs()
            except AssertionError as failure:
                self.finding.failed(self.steps, str(failure))
            self.finding.compare(self.steps, verdicts.after_a_step(self.world))

    def teardown(self):
        if self.world is None:
            # Too short: and so longer ones are drawn. Not over what hypothesis itself has to say.
            if sys.exc_info()[1] is None:
                reject()
            return
        try:
            self._do("everything_runs")
            self._do("drain")
            if not self.finding.over:
                self.finding.compare(self.steps, verdicts.at_the_end(self.world))
                self.finding.count(self.steps, self.world)
        finally:
            bad = self.world.end()
            if bad:
                self.finding.failed(self.steps, "\n".join(bad))
        if self.finding.over:
            raise Over


class Finding:
    """What the machines of this test found: the first is the last, for hypothesis would go on to
    repeat it."""

    def __init__(self, tally):
        self.tally = tally
        self.over = None
        self.sequences = self.steps = 0
        self.fates = {}

    def compare(self, steps, wrong):
        if wrong:
            self.tally.compare(wrong)
            self.failed(steps, "\n".join(wrong))

    def failed(self, steps, text):
        if not self.over:
            self.over = text + "\nafter:\n  " + "\n  ".join(steps)

    def count(self, steps, world):
        self.sequences += 1
        self.steps += len(steps)
        for fate, count in world.counts().items():
            self.fates[fate] = self.fates.get(fate, 0) + count
            self.tally.did(count)


def run(number, finding, make_world):
    class Seeded(Order):
        pass

    Seeded.make_world = staticmethod(make_world)
    Seeded.finding = finding
    run_state_machine_as_test(seed(number)(Seeded), settings=settings(
        max_examples=SEQUENCES, stateful_step_count=STEPS, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=HealthCheck.all()))


def test_in_any_order(tally_of, database, capfd):
    """Until its time is over, and once at the least."""
    first = os.environ.get("TORTURE_SEED")
    number = int(first) if first else time.time_ns() % 1_000_000
    end = time.monotonic() + SECONDS
    database.query(REFUSAL)
    with tally_of("any-order") as tally, SmartHost() as host:
        finding, numbers = Finding(tally), [number]
        while True:
            with contextlib.suppress(Over):
                run(number, finding, lambda keep: World(database, host, keep))
            if finding.over:
                pytest.fail(f"TORTURE_SEED={number}: {finding.over}", pytrace=False)
            if first or time.monotonic() > end:
                break
            number += 1
            numbers.append(number)
        with capfd.disabled():
            print(f"\n{finding.sequences} sequences, {finding.steps} steps, {finding.fates}, "
                  f"TORTURE_SEED={numbers[0]} to {numbers[-1]}")
    assert finding.fates[ACKNOWLEDGED] > 0
