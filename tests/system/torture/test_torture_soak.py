"""A soak: SOAK_SECONDS of mail at 70 % of what this machine takes and stores, while everything is
stopped and killed at random, 200 clients say a byte now and then, and days go by within seconds, so
that partitions are made, mail expires and partitions go. Nothing is lost, doubled or altered, what
has expired is gone, and nothing grows.

The clock is moved by clock.c, which says how. All programs stay confined under it.
"""

import os
import random
import shutil
import time

import pytest

import size
from account import Account
from clock import DAY, Clock, QuickCluster, day_of
from cluster import free_port, short_directory
from deadline import wait_for
from samples import Samples
from sink import Sink
from spool import Spool
from traffic import MEASURED, PACED, RELAYED_EACH, SLOW, STORED, Traffic

SECONDS = float(os.environ.get("SOAK_SECONDS") or size.pick(12, 40, 600))
SHARE = 0.7
MEASURE_SECONDS = size.pick(1.5, 4, 15)
# At size `test` other tests run beside it, whose ends are as near as its own.
MOST_A_SECOND = size.pick(200, None, None)

DAY_SECONDS = min(max(SECONDS / 5, 3), 60)
RETENTION = 3 * DAY // 2
DAYS_LEAST = 4
SWEPT_AFTER = 36 * 3600

SLOW_CLIENTS = 200
SLOW_PAUSE = size.pick(0.4, 0.5, 0.75)
RESTART_EACH = min(max(SECONDS / 60, 0.8), 30)
SAMPLE_EACH = min(max(SECONDS / 120, 0.2), 5)

DRAIN_SECONDS = 240

# Of what is seen as many may expire before somebody looks: where days are seconds, it is a matter of
# one busy moment.
UNSEEN = size.pick(0.5, 0.5, 0.05)

pytestmark = pytest.mark.deadline(900 + 4 * SECONDS)


# Two share the port: one that stops waits up to ten seconds for clients that are slow in their
# data, and mail is to flow on.
ROLES = {"reaper": "reaper", "storer": "storer", "relay": "relay", "smtpd": "smtpd",
         "smtpd-2": "smtpd"}


class Soak:
    """The programs and PostgreSQL under the clock, and their restarts."""

    def __init__(self, programs, clock, cluster, spool, sink):
        self.programs = programs
        self.clock = clock
        self.cluster = cluster
        self.database = cluster.create()
        self.spool = spool
        self.sink = sink
        self.port = free_port()
        self.chance = random.Random(time.time_ns())
        self.running = {}
        self.begun = {}
        self.runs = 0
        self.bytes_empty = self.bytes_on_disk()
        self.deck = []
        self.restarts = {}
        for role in ROLES:
            self.start(role)

    def settings(self, name):
        shared = {"SPOOL": self.spool, "LOG_LEVEL": "warn", **self.clock.settings()}
        if name in ("storer", "reaper"):
            shared["DATABASE_URL"] = self.database.url
        if name == "relay":
            self.runs += 1
            shared |= self.sink.settings()
        return shared | {
            "smtpd": {"SMTPD_LISTEN": f"127.0.0.1:{self.port}", "SMTPD_REUSEPORT": 1,
                      "SMTPD_DOMAINS": STORED, "SMTPD_HOSTNAME": "mayfly.example",
                      "SMTPD_RELAY_CLIENTS": "127.0.0.0/8"},
            "storer": {"STORER_RESCAN": 5},
            "reaper": {"REAPER_INTERVAL": 1, "REAPER_RETENTION": RETENTION},
            "relay": {"SMTPD_HOSTNAME": f"run{self.runs}.example", "SMTPD_DOMAINS": STORED,
                      "RELAY_RESCAN": 5},
        }[name]

    def start(self, role):
        name = ROLES[role]
        self.running[role] = self.programs.start(name, **self.settings(name))
        self.begun[role] = time.monotonic()

    def restart_something(self):
        """Each in its way, in an order of chance, before one comes again."""
        if not self.deck:
            self.deck = [(name, how) for name in self.running for how in ("stop", "kill")]
            self.deck += [("postgresql", how) for how in ("stop", "immediate", "kill")]
            self.chance.shuffle(self.deck)
        victim, how = self.deck.pop()
        if victim == "postgresql":
            getattr(self.cluster, how)()
            time.sleep(self.chance.uniform(0, 0.5))
            self.cluster.start()
        else:
            getattr(self.running[victim], how)()
            if (victim, how) == ("relay", "kill"):
                self.sink.killed.add(self.runs)
            self.start(victim)
        self.restarts[victim, how] = self.restarts.get((victim, how), 0) + 1

    def connections(self):
        return self.running["smtpd"].descriptors() + self.running["smtpd-2"].descriptors()

    def days(self):
        """Those that have partitions, attached or not."""
        rows = self.database.query(
            "SELECT DISTINCT right(relname::text, 8) FROM pg_class"
            " WHERE relkind = 'r' AND relname ~ '^(messages|deliveries)_[0-9]{8}$' ORDER BY 1")
        return [day for day, in rows]

    def bytes_on_disk(self):
        return self.database.value("SELECT pg_database_size(current_database())")

    def bytes_a_message(self):
        """What the database takes on the disk for each that it has: how many come depends on the
        machine, which may have other things to do."""
        return ((self.bytes_on_disk() - self.bytes_empty) //
                max(1, self.database.value("SELECT count(*) FROM messages")))

    def first_day(self):
        """The earliest that may have mail which is not expired."""
        return f"{day_of(self.clock.now() - RETENTION):%Y%m%d}"

    def stale(self):
        """Files in tmp/ that are older than reaper leaves them, by two of its passes and a start:
        what smtpd and relay left when they were killed."""
        oldest = self.clock.now() - SWEPT_AFTER - 10 * self.clock.rate
        found = []
        for queue in (self.spool, self.spool.relay):
            for id in queue.tmp():
                try:
                    if self.clock.at((queue.directory("tmp") / id).stat().st_mtime) < oldest:
                        found.append(id)
                except FileNotFoundError:
                    pass
        return found

    def set_aside(self):
        """Reasons in failed/. Where the clock is so quick that two hours pass while a letter is
        written, one that expires before it is stored looks to storer as if the clock were wrong."""
        reasons = [queue.reason(id) for queue in (self.spool, self.spool.relay)
                   for id in queue.ids("failed")]
        if self.clock.true(7200) < 2:
            reasons = [reason for reason in reasons if "but the file is younger" not in reason]
        return reasons

    def is_drained(self):
        return not any(queue.names(name) for queue in (self.spool, self.spool.relay)
                       for name in ("new", "cur"))

    def check(self):
        for role, program in self.running.items():
            assert program.returncode is None, f"{role} ended by itself:\n{program.text()}"


@pytest.fixture
def directory():
    path = short_directory("mayfly-soak-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def clock(directory):
    return Clock(directory, DAY_SECONDS)


@pytest.fixture
def quick_cluster(clock):
    server = QuickCluster(clock)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def traffic():
    """A function that starts senders, none of which outlives the test."""
    started = []

    def start(*what, **plan):
        started.append(Traffic(*what, **plan))
        return started[-1]

    yield start
    for sender in started:
        sender.kill()


def measure(soak, traffic, book):
    """Letters a second that are accepted and stored, from the first byte until the last is in the
    database."""
    began = time.monotonic()
    sender = traffic("paced", book, address=("127.0.0.1", soak.port), clients=16, first=MEASURED)
    time.sleep(MEASURE_SECONDS)
    counts = sender.end()
    wait_for(soak.is_drained, "what was measured is stored", DRAIN_SECONDS)
    return counts["sent"] / (time.monotonic() - began), counts


def run_for(soak, account, samples, senders):
    """SOAK_SECONDS, and days enough: restarts, looks and samples in turn. Returns how many letters
    were looked at behind and before their end."""
    end = time.monotonic() + SECONDS
    restart = sample = 0
    gone = alive = 0
    first_days = soak.days()
    while time.monotonic() < end or soak.clock.passed() < DAYS_LEAST * DAY:
        now = time.monotonic()
        if now >= restart:
            soak.restart_something()
            restart = now + soak.chance.expovariate(1 / RESTART_EACH)
        if now >= sample:
            sample = now + SAMPLE_EACH
            account.look_twice()
            behind, before = account.look_at_the_border()
            gone, alive = gone + behind, alive + before
            samples.look_at_programs({program: now - soak.begun[role]
                                      for role, program in soak.running.items()})
            samples.look_at_spool(soak.spool)
            days = soak.days()
            if first_days[0] not in days:
                samples.add("days with partitions", len(days))
                samples.add("database", soak.bytes_a_message())
            assert not soak.stale(), f"left in tmp/: {soak.stale()}"
        account.look()
        soak.check()
        assert all(sender.is_fine() for sender in senders), "a sender has ended"
        time.sleep(0.05)
    return gone, alive


def test_soak(tally_of, programs, clock, quick_cluster, traffic, directory, capfd):
    spool = Spool(directory / "spool").make()
    spool.relay.make()
    samples = Samples()
    with tally_of("soak/stored") as stored, tally_of("soak/relayed") as relayed, \
            Sink(relayed) as sink:
        soak = Soak(programs, clock, quick_cluster, spool, sink)
        account = Account(soak.database, spool, clock, RETENTION, directory, stored)
        for name in ("measured", "paced", "slow"):
            account.follow(directory / name)
        limit, _ = measure(soak, traffic, directory / "measured")
        rate = min(SHARE * limit, MOST_A_SECOND or limit)
        to = ("127.0.0.1", soak.port)
        turns = clock.true(SWEPT_AFTER / 2) / SLOW_PAUSE
        senders = [traffic("paced", directory / "paced", address=to, clients=16, first=PACED,
                           rate=rate),
                   traffic("slow", directory / "slow", address=to, clients=SLOW_CLIENTS, first=0,
                           pause=SLOW_PAUSE, bytes=max(1, round(60 / turns)))]
        wait_for(lambda: soak.connections() > SLOW_CLIENTS, "they connect")
        gone, alive = run_for(soak, account, samples, senders)
        counts = [sender.end() for sender in senders]
        settle(soak, account)
        still = account.look_at_all()
        account.look_twice()
        sink.look(number for _, number in account.records()
                  if number < SLOW and number % RELAYED_EACH == 0)
    with capfd.disabled():
        print(f"\n{SECONDS:.0f} s, {clock.passed() / DAY:.1f} days; limit {limit:.0f}/s, sent at "
              f"{rate:.0f}/s: {counts[0]}; slow: {counts[1]}; {account.found} seen, "
              f"{account.expired_unseen} expired before they were seen, {still} there at the end, "
              f"looked at {gone} behind and {alive} before their end; {sink.again} relayed again; "
              f"restarts {soak.restarts}\n{samples.summary()}")
    assert gone and alive and still
    assert account.expired_unseen <= account.found * UNSEEN
    assert counts[1]["crowded"] >= counts[1]["turns"] / 2
    assert samples.growth() == []


def settle(soak, account):
    """Until all is stored and relayed, and reaper has been there."""
    soak.check()
    wait_for(soak.is_drained, "everything is stored and relayed", DRAIN_SECONDS, interval=0.1)

    def all_found():
        account.look()
        return account.behind() == 0

    wait_for(all_found, "every letter is accounted for", DRAIN_SECONDS)
    wait_for(lambda: soak.days()[0] >= soak.first_day(), "what is expired is dropped",
             DRAIN_SECONDS)
    assert soak.set_aside() == []
    assert not soak.stale()
