"""Smarthosts that are broken or mean harm, each at one step: relay neither dies nor grows nor spins
nor loses the mail, and when the host is well again all of it goes.

The trials of one test run side by side, each with its own smarthost, spool and relay: what takes
time is the waiting.
"""

import contextlib
import itertools
import shutil
import time

import pytest

import tlsfiles
from deadline import wait_for
from hostile import RIGHT, Hostile
from programs import hurries, memory_slack
from scale import scaled
from spool import fresh_spool

MIB = 1 << 20
STEPS = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "END"]
TIMEOUT = 2

pytestmark = pytest.mark.deadline(300)


class Trial:
    """A message for a host that is ill until it is healed. `first` is what the message is known by,
    `second` that of one which comes later."""

    def __init__(self, name, programs, host, stack, **settings):
        self.name = name
        self.host = stack.enter_context(host)
        self.spool = fresh_spool()
        stack.callback(shutil.rmtree, self.spool.path.parent, ignore_errors=True)
        self.id = self.spool.relay.put(b"Subject: x\r\n\r\nfirst\r\n", mail_from="")
        settings = {"RELAY_TIMEOUT": TIMEOUT, "RELAY_CONNECTIONS": 1} | settings
        self.relay = programs.relay(self.spool, host, ready=False, **settings)
        stack.callback(self.relay.stop)

    def begin(self):
        self.relay.wait_ready()
        self.memory = self.relay.memory()
        self.cpu = self.relay.cpu_seconds()
        self.began = time.monotonic()

    def check(self, seen):
        """While the host is ill, once it has shown it."""
        wait_for(lambda: seen(self), f"{self.name}: the host has done its worst")
        assert self.relay.returncode is None, f"{self.name}: {self.relay.text()}"
        grown = self.relay.memory() - self.memory
        assert grown < memory_slack(4 * MIB), f"{self.name} grew by {grown} bytes"

    def end(self, arrives=True):
        """The host is well again: the mail is where it was, or has arrived, and the next one goes."""
        self.host.heal()
        self.spool.relay.put(b"Subject: x\r\n\r\nsecond\r\n", mail_from="")
        self.relay.hurry()
        self.host.wait_message(b"second")
        wait_for(lambda: not self.spool.relay.new(), f"{self.name}: new/ is empty")
        if arrives:
            assert self.host.wait_message(b"first") >= 1, self.name
            wait_for(lambda: not self.spool.relay.cur(), f"{self.name}: nothing is deferred")
            assert self.spool.relay.failed() == [], self.name
        used = self.relay.cpu_seconds() - self.cpu
        waited = time.monotonic() - self.began
        assert used < (0.5 + waited / 20) * (1 if hurries() else 10), \
            f"{self.name} used {used} of {waited} s"


@contextlib.contextmanager
def trials(programs, hosts, **settings):
    """Starts them all, given {name: host}."""
    with contextlib.ExitStack() as stack:
        started = [Trial(name, programs, host, stack, **settings) for name, host in hosts.items()]
        for trial in started:
            trial.begin()
        yield started


def troubled(trial):
    """relay has said that something is wrong with the host."""
    return trial.relay.log(event="smarthost_trouble") or tried(trial)


def tried(trial):
    """The message itself was blamed."""
    return not trial.spool.relay.new()


# What is sent instead of a reply

def endless(talk):
    """Lines of one reply, until the other side has had enough."""
    line = b"250-" + b"x" * 500 + b"\r\n"
    while True:
        talk.send(line * 100)


def endless_line(talk):
    while True:
        talk.send(b"x" * 65536)


def endless_drip(talk):
    """Never silent for long, and never done."""
    while True:
        talk.send(b"250-x\r\n")
        time.sleep(0.2)


def reply(step, text):
    """A reply with that text, of the code that is right at a step."""
    return RIGHT[step][:3] + text


NO_REPLIES = {
    "endless lines": lambda step: endless,
    "an endless line": lambda step: endless_line,
    "changing codes": lambda step: reply(step, b"-one\r\n550 two\r\n"),
    "a megabyte": lambda step: reply(step, b" " + b"x" * MIB + b"\r\n"),
    "zeros": lambda step: bytes(2000) + b"\r\n",
    "a zero in it": lambda step: reply(step, b" a\0b\r\n") + b"\0\0\r\n",
    "no code": lambda step: b"hello there\r\n",
    "half a code": lambda step: b"25\r\n",
    "code 100": lambda step: b"100 what\r\n",
    "code 600": lambda step: b"600 what\r\n",
    "code 999": lambda step: b"999 what\r\n",
    "letters behind": lambda step: RIGHT[step][:3] + b"x\r\n",
    "an empty line": lambda step: b"\r\n",
    "octets above 127": lambda step: bytes(range(128, 256)) * 20 + b"\r\n",
}


@pytest.mark.parametrize("step", STEPS)
def test_what_is_no_reply(programs, step):
    hosts = {f"{name} at {step}": Hostile({step: what(step)}) for name, what in NO_REPLIES.items()}
    with trials(programs, hosts) as started:
        for trial in started:
            trial.check(troubled)
        for trial in started:
            trial.end()


ODD_REPLIES = {
    "bare LF": lambda step: RIGHT[step].replace(b"\r\n", b"\n"),
    "an octet at a time": lambda step: lambda talk: talk.send(RIGHT[step], 1),
    "no text": lambda step: RIGHT[step][:3] + b"\r\n",
    "escapes": lambda step: reply(step, b"-\x1b[31m\x07\x7f\r\n") + reply(step, b" \xff\xfe%s%n\r\n"),
    "a long line": lambda step: reply(step, b" " + b"x" * 5000 + b"\r\n"),
    "many lines": lambda step: reply(step, b"-x\r\n") * 100 + reply(step, b" x\r\n"),
}


@pytest.mark.parametrize("step", [step for step in STEPS if step not in ("CONNECT", "EHLO")])
def test_odd_replies_that_are_replies(programs, step):
    """The mail goes; none of it is taken for more than it is."""
    hosts = {f"{name} at {step}": Hostile({step: what(step)}) for name, what in ODD_REPLIES.items()}
    with trials(programs, hosts) as started:
        for trial in started:
            trial.check(tried)
            assert trial.host.messages, trial.name
        for trial in started:
            trial.end()
            assert not any("\x1b" in line or "\x07" in line for line in trial.relay.lines)


# Silence, and the end of the connection

def test_silence_at_every_step(programs, pair):
    hosts = {f"silent at {step}": Hostile({step: lambda talk: talk.silence()}) for step in STEPS}
    hosts |= {f"silent at {step} before TLS": Hostile({step: lambda talk: talk.silence()}, pair)
              for step in ("EHLO-CLEAR", "STARTTLS")}
    hosts["silent at AUTH"] = Hostile({"AUTH": lambda talk: talk.silence()}, pair, user="me")
    hosts["a drip at EHLO"] = Hostile({"EHLO": endless_drip})
    hosts["a drip at MAIL"] = Hostile({"MAIL": endless_drip})
    hosts["silent in the handshake"] = Hostile(
        {"STARTTLS": lambda talk: (talk.send(RIGHT["STARTTLS"]), talk.silence())}, pair)
    with trials(programs, hosts) as started:
        for trial in started:
            trial.check(troubled)
        for trial in started:
            trial.end()


def test_it_takes_no_content(programs):
    """354, and then nothing is read: neither memory nor patience is without end."""
    stuck = {"DATA": lambda talk: (talk.send(RIGHT["DATA"]), time.sleep(30))}
    with contextlib.ExitStack() as stack:
        trial = Trial("no content taken", programs, Hostile(stuck), stack)
        trial.spool.relay.put(b"Subject: x\r\n\r\n" + b"much\r\n" * (2 * MIB))
        trial.begin()
        trial.check(troubled)
        trial.end()


def conversation():
    """What a host says in all, for one message."""
    return sum(len(RIGHT[step]) for step in STEPS)


def test_the_end_at_every_octet(programs):
    """The connection closes behind each octet that is said; what was accepted whole is not sent
    again."""
    whole = conversation()
    step = max(1, whole // scaled(whole, 24))
    cuts = [*range(1, whole, step), whole - 1, whole - len(RIGHT["END"]), whole]
    hosts = {f"cut behind {cut}": Hostile(cut=cut, ill=1) for cut in sorted(set(cuts))}
    with trials(programs, hosts) as started:
        for trial, cut in zip(started, sorted(set(cuts))):
            trial.check(lambda trial: trial.host.talks and trial.host.talks[0].said >= cut
                        or trial.host.messages)
        for trial, cut in zip(started, sorted(set(cuts))):
            trial.end()
            count = sum(b"first" in content for content in trial.host.messages)
            ended = trial.host.talks[0].ended
            assert count == (2 if ended and cut < whole else 1), f"{trial.name}: {count} times"


# What a conversation must not be

def test_data_where_nobody_was_accepted(programs):
    """354 all the same: nothing but the end of data is said, and nobody was sent to."""
    refused = {"RCPT": b"550 5.1.1 no\r\n"}
    hosts = {"250 behind it": Hostile(refused),
             "554 behind it": Hostile(refused | {"END": b"554 5.5.1 no\r\n"}),
             "503 instead": Hostile(refused | {"DATA": b"503 5.5.1 no recipients\r\n"})}
    with trials(programs, hosts) as started:
        for trial in started:
            trial.check(tried)
            assert not any(b"first" in content for content in trial.host.messages), trial.name
            wait_for(lambda: trial.spool.relay.ids("failed") == [trial.id], "it has failed")
        for trial in started:
            trial.end(arrives=False)


@pytest.mark.parametrize("step", STEPS)
def test_replies_that_nobody_asked_for(programs, step):
    """Whether they come with the one that is due, or behind it: nothing is taken for accepted that
    was not."""
    extra = RIGHT[step] + b"250 2.0.0 and this\r\n" * 3
    hosts = {f"three more at {step}": Hostile({step: extra}),
             f"an end of all at {step}": Hostile({step: RIGHT[step] + b"421 4.3.2 bye\r\n"})}
    with trials(programs, hosts) as started:
        for trial in started:
            trial.check(lambda trial: troubled(trial) or trial.host.messages)
            assert trial.spool.relay.failed() == [], trial.name
        for trial in started:
            trial.end()


def test_early_replies_are_no_acceptance(programs):
    """250 for an end of data that was not sent yet."""
    early = {"DATA": RIGHT["DATA"] + b"250 2.0.0 ok\r\n", "END": lambda talk: talk.close()}
    with trials(programs, {"250 before the end": Hostile(early)}) as (trial,):
        trial.check(lambda trial: troubled(trial) or trial.host.messages)
        trial.end()


def test_421_at_every_step(programs):
    hosts = {f"421 at {step}": Hostile({step: b"421 4.3.2 going down\r\n"}) for step in STEPS}
    hosts |= {f"421 and the end at {step}": Hostile(
        {step: lambda talk: (talk.send(b"421 4.3.2 going down\r\n"), talk.close())}) for step in STEPS}
    with trials(programs, hosts) as started:
        for trial in started:
            trial.check(troubled)
            assert trial.spool.relay.ids("failed") == [], trial.name
            assert not any(line.startswith(b"HELO") for line in trial.host.heard()), trial.name
        for trial in started:
            trial.end(arrives=False)


# TLS

def garbage(talk):
    talk.send(RIGHT["STARTTLS"] + bytes(range(256)) * 10)
    talk.silence()


def test_tls_that_is_none(programs, pair, tmp_path):
    """No trust, no mail; and nothing that was said in the clear counts."""
    other = tlsfiles.make(tmp_path, name="other")
    expired = tlsfiles.make(tmp_path, name="expired")
    tlsfiles.expire(expired)
    inject = RIGHT["STARTTLS"] + b"250-hostile.example\r\n250 AUTH PLAIN\r\n235 2.7.0 in\r\n250 ok\r\n"
    cases = {
        "nobody's certificate": (Hostile(pair=other, user="me"), {"RELAY_CA": pair.cert}),
        "an expired one": (Hostile(pair=expired, user="me"), {}),
        "another name": (Hostile(pair=pair, user="me"), {"RELAY_HOST": "localhost"}),
        "garbage": (Hostile({"STARTTLS": garbage}, pair, user="me", ill=None), {}),
        "injected": (Hostile({"STARTTLS": inject}, pair, user="me", ill=None), {}),
        "refused": (Hostile({"STARTTLS": b"501 5.5.4 no\r\n"}, pair, user="me", ill=None), {}),
        "not offered": (Hostile({"EHLO-CLEAR": b"250-x.example\r\n250 AUTH PLAIN LOGIN\r\n"}, pair,
                                ill=None, user="me"), {}),
    }
    with contextlib.ExitStack() as stack:
        started = [Trial(name, programs, host, stack, **settings)
                   for name, (host, settings) in cases.items()]
        for trial in started:
            trial.begin()
        for trial in started:
            trial.check(troubled)
            for talk in trial.host.talks:
                assert talk.secure or not any(line[:4] in (b"AUTH", b"MAIL") for line in talk.heard)
            if trial.name != "injected":
                assert trial.host.messages == [], trial.name
                assert trial.spool.relay.new() == [trial.id]
                assert trial.relay.log(event="smarthost_trouble")


def test_many_who_do_their_worst_at_once(programs):
    """Over several connections, with many messages, and again after every pause."""
    kinds = itertools.cycle(NO_REPLIES)
    steps = itertools.cycle(STEPS)

    def something(talk):
        say = NO_REPLIES[next(kinds)](next(steps))
        say(talk) if callable(say) else talk.send(say)

    worst = dict.fromkeys(("MAIL", "RCPT", "DATA", "END"), something)
    with trials(programs, {"all": Hostile(worst, ill=None)},
                RELAY_CONNECTIONS=10) as (trial,):
        trial.spool.relay.put_many(200)
        for count in range(5):
            before = len(trial.host.talks)
            trial.relay.hurry()
            trial.host.wait_connections(before + 1)
        trial.check(troubled)
        queue = trial.spool.relay
        assert len(set(queue.ids("new")) | set(queue.ids("cur")) | set(queue.ids("failed"))) == 201
