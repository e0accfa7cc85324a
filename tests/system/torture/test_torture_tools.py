"""Clean under tools: AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer on the whole
suite, valgrind on mail's whole way, cppcheck and clang-tidy on the code, and what of queue, smtpd and
storer the tests run.

What is tried is counted in programs, modules of tests, files and messages that were clean; a finding
fails the part. At size `test` nothing is built; `quick` runs the unit tests in each build, and `full`
all.
"""

import collections
import re

import pytest

import size
import tools
from cluster import ROOT
from smarthost import SmartHost

pytestmark = pytest.mark.deadline(tools.SECONDS)

FULL = size.SIZE == "full"
FOLDERS = ("common", "queue", "queue/tool", "smtpd", "storer", "reaper", "relay")

built = pytest.mark.least("quick")   # takes a build of its own
whole = pytest.mark.least("full")    # takes all tests once more

# ThreadSanitizer has a thread of its own from the start, so what belongs to a thread cannot be set
# for all of them, and a filter would end it: smtpd is not confined there, and these try just that.
CONFINED = ("smtpd_confine", "smtpd_kernels", "smtpd_landlock")
CONFINED_MODULES = ("test_confine.py",)


# Sanitizers

@built
def test_address_and_undefined_behaviour(tally_of, tmp_path):
    tools.make("SANITIZE=1", "all", "unit-tests", "bench-tools")
    with tally_of("tools/asan-ubsan unit") as tally:
        tools.run_units("build/sanitize", tally)
    if FULL:
        with tally_of("tools/asan-ubsan system") as tally:
            tools.run_system("build/sanitize", tmp_path, tools.modules(), tally)


@built
def test_threads(tally_of, tmp_path):
    tools.make("SANITIZE=thread", "all", "unit-tests", "bench-tools")
    with tally_of("tools/tsan unit") as tally:
        tools.run_units("build/thread", tally, CONFINED)
    if FULL:
        with tally_of("tools/tsan system") as tally:
            tools.run_system("build/thread", tmp_path, tools.modules(CONFINED_MODULES), tally)


# Valgrind

VALGRIND = ("valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
            "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite")


def body_of(number):
    return b"Subject: %d\r\n\r\n" % number + b".0123456789\r\n" * (number * 700 % 30_000)


def converse(smtpd, tally, tls=None):
    """Sessions of many kinds; returns the bodies of what was acknowledged, by id."""
    sent = {}
    for number in range(size.pick(3, 6, 60)):
        with smtpd.session("E", tls=tls) as client:
            recipients = ["b@t.example", "c@t.example", "d@elsewhere.example"][number % 2:]
            sent[client.mail(body_of(number), recipients=recipients)] = body_of(number)
        tally.did()
    with smtpd.session("E", tls=tls) as client:
        client.command("MAIL FROM:<a@c.example> SIZE=99999999999", 552)
        client.command("NONSENSE", 500)
        client.send(b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nRSET\r\nNOOP\r\n")
        for _ in range(4):
            client.reply(250)
    with smtpd.session("D", tls=tls) as client:
        client.send(b"Subject: cut off\r\n\r\n" + b"x" * 100_000)
        client.reset()
    return sent


def compare(tally, sent, there):
    """What was acknowledged is there, once and as it was sent: `there` is [(id, body)]."""
    for id, body in there:
        if id not in sent:
            tally.doubled(f"{id} was acknowledged to nobody")
        elif body != sent[id] + b"\r\n":
            tally.altered(id)
    count = collections.Counter(id for id, _ in there)
    for id in sent:
        if count[id] == 0:
            tally.lost(id)
        elif count[id] > 1:
            tally.doubled(id)


ROUTES = {"SMTPD_DOMAINS": "t.example", "SMTPD_RELAY_CLIENTS": "127.0.0.0/8"}


def test_valgrind_on_sessions(tally_of, programs, spool, pair):
    tools.need("valgrind")
    with tally_of("tools/valgrind smtpd") as tally:
        smtpd = programs.smtpd(spool, wrapper=VALGRIND, SMTPD_CONFINE="off", **ROUTES,
                               **pair.settings())
        sent = converse(smtpd, tally)
        smtpd.send_signal(1)
        smtpd.wait_log(event="reloaded")
        sent |= converse(smtpd, tally, pair.client())
        smtpd.stop()
        for queue in (spool, spool.relay):
            compare(tally, sent, [(message.id, message.body) for message in queue.messages()])


@built
def test_valgrind_on_the_whole_way(tally_of, programs, spool, database, pair):
    tools.need("valgrind")
    with tally_of("tools/valgrind pipeline") as tally, SmartHost(pair) as smarthost:
        under = {"wrapper": VALGRIND}
        smtpd = programs.smtpd(spool, SMTPD_CONFINE="off", **ROUTES, **under)
        storer = programs.storer(spool, database, **under)
        relay = programs.relay(spool, smarthost, SMTPD_DOMAINS="t.example", **under)
        reaper = programs.reaper(spool, database, **under)
        sent = converse(smtpd, tally)
        spool.wait_done(300)
        spool.relay.wait_done(300)
        for program in (relay, storer, reaper, smtpd):
            program.stop(seconds=120)
        rows = database.query("SELECT id::text, raw FROM messages")
        compare(tally, sent, [(id, bytes(raw)[bytes(raw).index(b"Subject: "):]) for id, raw in rows])
        relayed = collections.Counter(body[body.index(b"Subject: "):] for body in
                                      (delivery.body for delivery in smarthost.accepted()))
        for body in sent.values():
            if relayed[body + b"\r\n"] < 1:
                tally.lost(body[:20])


# Reading the code

def sources(folders=FOLDERS, pattern="*.[ch]"):
    return [path for folder in folders for path in sorted((ROOT / folder).glob(pattern))]


# A finding that is answered in place, and why.
ANSWERS = (re.compile(r"NOLINT(?:NEXTLINE)?\([^)]+\): \S+"),
           re.compile(r"cppcheck-suppress \w+ ; \S+"))


CHOSEN = (ROOT / ".clang-tidy").read_text()


def test_every_finding_that_is_let_be_has_its_reason(tally_of):
    """In place; and in .clang-tidy, where a check is left out for all of the code."""
    checks = re.search(r"^Checks: >-\n((?:  .*\n)+)", CHOSEN, re.M).group(1)
    left_out = [check.strip()[1:] for check in checks.split(",") if re.match(r"\s*-[a-z]", check)]
    assert left_out
    with tally_of("tools/justified") as tally:
        for path in sources():
            text = path.read_text()
            marks = len(re.findall(r"NOLINT|cppcheck-suppress", text))
            reasons = sum(len(answer.findall(text)) for answer in ANSWERS)
            assert marks == reasons, f"{path}: {marks} findings are let be, {reasons} with a reason"
            tally.did()
        for check in left_out:
            assert re.search(rf"^# {re.escape(check)}: \w+", CHOSEN, re.M), f"why not {check}?"
            tally.did()


def test_cppcheck(tally_of):
    tools.need("cppcheck")
    folders = size.pick(("common",), FOLDERS, FOLDERS)
    with tally_of("tools/cppcheck") as tally:
        tools.make("cppcheck", f"FOLDERS={' '.join(folders)}")
        tally.did(len(sources(folders, "*.c")))


@built
def test_clang_tidy(tally_of):
    tools.need("clang-tidy")
    folders = FOLDERS if FULL else ("queue",)
    with tally_of("tools/clang-tidy") as tally:
        files = [path.relative_to(ROOT) for path in sources(folders, "*.c")]
        tools.make(*(f"build/tidy/{path.with_suffix('.ok')}" for path in files))
        tally.did(len(files))


# Coverage

@whole
def test_coverage(tally_of):
    tools.need("gcovr")
    with tally_of("tools/coverage") as tally:
        table = tools.make("coverage").split("\n")
        begin = next(at for at, line in enumerate(table) if "lines run" in line)
        print("\n".join(table[begin:]))
        tally.did(sum("/" in line.split()[0] for line in table[begin:] if line.startswith("  ")))
