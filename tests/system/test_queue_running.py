"""The queue tool beside the programs at work: nothing is lost or doubled by it, no fault is found
with what is as it should be, and its memory is bounded."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import threading
import time

import pytest

from deadline import wait_for
from load import Rain, Letter, send_all
from programs import environment, sanitized
from queuetool import EX_DATAERR, EX_NOINPUT, EX_TEMPFAIL, PROGRAM, Tool, fail
from scale import scaled
from smarthost import SmartHost

MIB = 1 << 20
LOOKS = (["list"], ["list", "--json"], ["failed"], ["stats"], ["stats", "--json"], ["check"])


class Looking:
    """Looks at the spool in every way, again and again, until it is over."""

    def __init__(self, tool):
        self.tool = tool
        self.over = threading.Event()
        self.failures = []
        self.looks = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.over.is_set():
                for command in LOOKS:
                    self.tool(*command)
                    self.looks += 1
        except BaseException as failure:
            self.failures.append(failure)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(100)
        assert self.failures == [] and self.looks >= len(LOOKS)


def test_looking_while_mail_is_stored(programs, spool, database):
    smtpd = programs.smtpd(spool)
    tool = Tool(spool)
    programs.storer(spool, database, STORER_KEEP=1, STORER_RESCAN=1)
    with Looking(tool):
        letters = [Letter(number, 2000) for number in range(scaled(20_000, 1000))]
        acknowledged = send_all(smtpd.address, letters, clients=10)
        # Kept ones go round and round meanwhile.
        for _ in range(5):
            tool("replay")
    wait_for(lambda: database.value("SELECT count(*) FROM messages") == len(letters),
             "all is stored")
    assert {id for id, in database.query("SELECT id::text FROM messages")} == set(acknowledged)
    assert database.value("SELECT count(*) FROM deliveries") == len(letters)
    assert spool.failed() == []


def test_every_message_is_somewhere(programs, spool, database):
    """From its 250 on a message is found by its id, whatever storer does meanwhile."""
    smtpd = programs.smtpd(spool)
    tool = Tool(spool, DATABASE_URL=database.url)
    programs.storer(spool, database, STORER_KEEP=1, STORER_RESCAN=1)
    with Rain(smtpd.address, clients=3) as rain:
        traced = set()
        end = time.monotonic() + scaled(60, 4)
        while time.monotonic() < end:
            for id in list(rain.acknowledged)[-2:]:
                assert tool.json("trace", id)[0]["where"] in ("spool", "database")
                traced.add(id)
    assert len(traced) > 5


def test_retrying_and_removing_while_relay_works(programs, spool):
    """A smarthost that refuses and defers; who failed is retried and asked for again, and whoever
    was not removed is accepted, once."""
    tool = Tool(spool)
    count = scaled(2000, 100)
    with SmartHost() as host:
        host.at("RCPT", "550 5.1.1 Never", like=r"[0-4]@", times=count)
        host.at("RCPT", "450 4.2.0 Later", like=r"[3-8]@", times=count)
        relay = programs.relay(spool, host, RELAY_RESCAN=1)
        recipients = {spool.relay.put(mail_from="", recipients=[f"a{number}@t.example",
                                                                f"b{number}@t.example"]):
                      [f"a{number}@t.example", f"b{number}@t.example"] for number in range(count)}
        removed = set(random.Random(1).sample(sorted(recipients), count // 10))

        def settled():
            for id in spool.relay.ids("cur"):
                with contextlib.suppress(OSError):
                    os.utime(spool.relay.directory("cur") / id)
            done = tool.run("retry", "--all")
            assert done.returncode in (0, EX_TEMPFAIL), done
            relay.hurry()
            return not any(spool.relay.ids(name) for name in ("new", "cur", "failed"))
        with Looking(tool):
            for id in removed:
                done = tool.run("remove", "--yes", id)
                assert done.returncode in (0, EX_NOINPUT, EX_TEMPFAIL), done
            wait_for(settled, "all is relayed", 110, interval=0.3)
        relay.stop()
        delivered = {recipient: times for (_, recipient), times in host.deliveries().items()}
    assert set(delivered.values()) == {1}, "nobody has it twice"
    want = {name for id, names in recipients.items() for name in names if id not in removed}
    assert want <= set(delivered), sorted(want - set(delivered))[:5]
    assert spool.relay.failed() == [] and spool.relay.cur() == [] and spool.relay.tmp() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
def test_as_another_user_of_the_group(programs, spool, database, tmp_path):
    program = tmp_path / "queue"
    shutil.copy(PROGRAM, program)
    for path in (tmp_path, *tmp_path.parents[:2], spool.path.parent):
        path.chmod(0o755)
    spool.path.mkdir()
    os.chown(spool.path, 0, 61000)
    spool.path.chmod(0o2770)
    counts = tmp_path / "counts"   # where a build with --coverage may write as that user, too
    counts.mkdir()
    counts.chmod(0o777)
    tool = Tool(spool, ["setpriv", "--reuid=61007", "--regid=61000", "--clear-groups"], program,
                GCOV_PREFIX=counts)
    smtpd = programs.smtpd(spool, owner=(61001, 61000))
    with smtpd.session("E") as client:
        ids = [client.mail(b"x" * size) for size in (10, 100_000)]
    assert tool.names("list") == ids and tool("check") == ""
    assert tool.run("show", "--raw", ids[1]).stdout == spool.message(ids[1]).raw
    torn = spool.put(content=b"X-Envelope-Id: torn")
    os.chown(spool.directory("new") / torn, 61001, 61000)
    programs.storer(spool, database, owner=(61002, 61000), STORER_KEEP=3600, STORER_RESCAN=1)
    wait_for(lambda: spool.cur() == sorted(ids) and spool.failed(), "storer is done")
    assert "torn" in tool("retry", torn, code=EX_DATAERR)
    assert tool("replay").startswith("2 ")
    tool("remove", "--yes", torn)
    assert spool.failed() == [] and spool.tmp() == []
    wait_for(lambda: spool.cur() == sorted(ids), "storer is done once more")
    refused = fail(spool)
    os.chown(spool.directory("failed") / refused, 61002, 61000)
    os.chown(spool.directory("failed") / f"{refused}.reason", 61002, 61000)
    tool("retry", refused)
    spool.wait_tried()
    assert database.value("SELECT count(*) FROM messages") == 3
    assert tool("check") == ""


# Size

def fill(spool, count):
    """So many messages, spread over queues and states; their ids."""
    places = [(spool, "new"), (spool.relay, "new"), (spool.relay, "cur"), (spool, "failed")]
    ids = []
    for number, (queue, directory) in enumerate(places):
        ids += queue.put_many(count // len(places), recipient=f"b{{}}@d{number}.example",
                              into=directory)
    for name in spool.ids("failed"):
        (spool.directory("failed") / f"{name}.reason").write_text("so\n")
    return ids


def most_memory(pid):
    """What a process has had at most, or 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            most = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
            return most[0] * 1024 if most else 0
    except OSError:
        return 0


def measured(tool, command, heap):
    """Runs it to its end, where it may have so many bytes of heap, and few descriptors; returns its
    lines of output."""
    limits = [] if sanitized() else ["prlimit", f"--data={heap}", "--nofile=40"]
    begun, memory, output = time.monotonic(), 0, []
    with subprocess.Popen([*limits, *tool.command, *command], env=environment(tool.settings),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        while chunk := process.stdout.read1(1 << 16):
            memory = max(memory, most_memory(process.pid))
            output.append(chunk)
    assert process.returncode == 0, command
    print(f"{' '.join(command)}: {time.monotonic() - begun:.1f} s, {memory / MIB:.1f} MiB")
    lines = b"".join(output).splitlines()
    # Where a limit is met, a message that could not be read says so in its line.
    assert not [line for line in lines if b"Cannot allocate" in line or b"Too many" in line]
    return lines


@pytest.mark.deadline(600)
def test_a_hundred_thousand_files_in_bounded_memory(spool):
    """Names are 19 bytes each, in an array that is doubled; nothing else grows with their
    number."""
    spool.make()
    spool.relay.make()
    tool = Tool(spool)
    count = scaled(100_000, 4000)
    ids = fill(spool, count)
    heap = 2 * MIB
    names = heap + 2 * 19 * count
    assert len(measured(tool, ["list"], names)) == count + 1
    assert len(measured(tool, ["list", "--json"], names)) == count
    assert len(measured(tool, ["failed"], names)) == count // 4 * 2 + 1
    assert measured(tool, ["check"], heap) == []
    stats, = measured(tool, ["stats", "--json"], heap + 2 * MIB)
    assert json.loads(stats)["waiting"]["all"]["total"] == count // 4 * 3
    assert tool.names("list", seconds=300) == sorted(ids)
    assert len(measured(tool, ["retry", "--all"], names)) == count // 4
    assert len(spool.new()) == count // 2 and spool.failed() == []
