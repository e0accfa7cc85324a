"""The queue tool checks the spool, and repairs what it can without losing a message."""

import os
import pathlib
import shutil
import threading
import time

import pytest

from queuetool import EX_DATAERR, PROGRAM, Tool, fail
from spool import encode, now, raw_of, uuid7

AS_ROOT = os.geteuid() == 0
HOUR, DAY = 3600, 86400


@pytest.fixture
def tool(spool):
    spool.make()
    spool.relay.make()
    return Tool(spool)


def found(tool, *arguments):
    """{path: problem} of what is found; that the exit code says so."""
    done = tool.run("check", *arguments)
    lines = dict(line.split(": ", 1) for line in done.stdout.decode().splitlines())
    if "--repair" not in arguments:
        assert done.returncode == (EX_DATAERR if lines else 0), done
    return lines


def aged(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)


def contents(spool):
    """Every message that is whole, wherever it is."""
    return {path.read_bytes() for path in spool.path.rglob("*")
            if path.is_file() and not path.is_symlink() and path.suffix != ".reason"
            and b"X-Envelope-Size" in path.read_bytes()}


def test_nothing_is_found_in_a_spool_that_is_in_use(spool, tool):
    for queue in (spool, spool.relay):
        for directory in ("new", "cur", "tmp"):
            queue.put(into=directory)
        id = fail(queue)
        shutil.copy(queue.directory("failed") / id, queue.directory("failed") / f"{id}.1")
        (queue.directory("failed") / f"{id}.1.reason").write_text("again\n")
        fail(queue, name="from elsewhere", content=b"no message")
        (queue.directory("failed") / f"{uuid7()}.notification").write_text("on its way")
        (queue.directory("failed") / f"{uuid7()}.reason").write_text("its message is to come")
    deferred = spool.relay.put(into="cur")
    (spool.relay.directory("cur") / f"{deferred}.reason").write_text("later")
    (spool.path / "lost+found").mkdir()
    (spool.directory("new") / ".nfs0001").write_text("")
    assert found(tool) == {} and tool.json("check") == [] and tool("check", "--repair") == ""


def test_missing_directories(spool, tool):
    id = spool.put()
    spool.directory("cur").rmdir()
    shutil.rmtree(spool.relay.queue)
    missing = ["store/cur", *(f"relay/{name}" for name in ("tmp", "new", "cur", "failed"))]
    assert found(tool) == {path: "the directory is missing" for path in missing}
    repaired = found(tool, "--repair")
    assert repaired["store/cur"] == "the directory is missing: made"
    assert found(tool) == {} and spool.new() == [id]
    assert spool.directory("cur").stat().st_mode & 0o7777 == 0o2770


def test_modes_of_directories(spool, tool):
    paths = [spool.path, spool.relay.queue, spool.directory("new")]
    for path in paths:
        path.chmod(0o755)
    problem = f"mode 0755, group {spool.path.stat().st_gid}; should be mode 2770"
    lines = found(tool)
    assert set(lines) == {".", "relay", "store/new"}
    assert all(line.startswith(problem) for line in lines.values())
    assert all(line.endswith(": set") for line in found(tool, "--repair").values())
    assert found(tool) == {}
    assert all(path.stat().st_mode & 0o7777 == 0o2770 for path in paths)


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a file to others")
def test_groups(spool, tool):
    id = spool.put()
    for path in (spool.directory("new"), spool.directory("new") / id):
        os.chown(path, 61001, 61009)
        path.chmod(0o2770 if path.is_dir() else 0o640)
    assert set(found(tool)) == {"store/new", f"store/new/{id}"}
    tool("check", "--repair")
    assert found(tool) == {}
    for path in (spool.directory("new"), spool.directory("new") / id):
        assert (path.stat().st_uid, path.stat().st_gid) == (61001, spool.path.stat().st_gid)


def test_files_that_only_their_owner_may_read(spool, tool):
    id, kept, failed = spool.put(), spool.relay.put(into="cur"), fail(spool)
    for path in (spool.directory("new") / id, spool.relay.directory("cur") / kept,
                 spool.directory("failed") / failed):
        path.chmod(0o600)
    lines = found(tool)
    assert set(lines) == {f"store/new/{id}", f"relay/cur/{kept}", f"store/failed/{failed}"}
    assert all("not for the group to read: mode 0600" in line for line in lines.values())
    tool("check", "--repair", code=EX_DATAERR)
    assert set(found(tool)) == {f"store/failed/{failed}"}
    assert (spool.directory("new") / id).stat().st_mode & 0o7777 == 0o640


def test_a_second_name_of_a_file_elsewhere_is_not_opened_up(spool, tool):
    elsewhere = spool.path.parent / "private"
    elsewhere.write_bytes((spool.directory("new") / spool.put()).read_bytes())
    elsewhere.chmod(0o600)
    id = spool.new()[0]
    (spool.directory("new") / id).unlink()
    os.link(elsewhere, spool.directory("new") / id)
    assert ": not set: " in found(tool, "--repair")[f"store/new/{id}"] + ": "
    assert elsewhere.stat().st_mode & 0o777 == 0o600
    elsewhere.unlink()


def test_what_is_no_message_is_set_aside(spool, tool):
    torn = spool.put(size=100_000)
    empty = spool.relay.put(content=b"", into="cur")
    foreign = spool.put(content=b"Subject: x\r\n\r\n", into="cur")
    forged, good = spool.put(), spool.put()
    other = uuid7()
    (spool.directory("new") / forged).rename(spool.directory("new") / other)
    (spool.relay.directory("new") / "README").write_text("read me")
    (spool.directory("new") / f"{good}.reason").write_text("in the wrong place")
    (spool.directory("new") / "link").symlink_to("/etc/passwd")
    problems = {f"store/new/{torn}": "torn: the file's length is not what X-Envelope-Size says",
                f"relay/cur/{empty}": "torn: the file is empty",
                f"store/cur/{foreign}": "no envelope",
                f"store/new/{other}": "forged: the envelope names another id",
                "relay/new/README": "the name is not a message id",
                f"store/new/{good}.reason": "the name is not a message id",
                "store/new/link": "the name is not a message id"}
    assert found(tool) == problems
    before = contents(spool)
    assert found(tool, "--repair") == {path: f"{problem}: set aside"
                                       for path, problem in problems.items()}
    assert found(tool) == {} and spool.new() == [good]
    assert contents(spool) == before
    assert spool.reason(torn) == problems[f"store/new/{torn}"] + "\n"
    assert (spool.relay.directory("failed") / "README").read_text() == "read me"


def test_leftovers_in_tmp(spool, tool):
    tmp = spool.directory("tmp")
    for name, age in (("young", DAY), ("old", 2 * DAY), ("older.reason", 30 * DAY)):
        (tmp / name).write_bytes(b"X-Envelope-Id: ")
        aged(tmp / name, age)
    (tmp / "directory").mkdir()
    aged(tmp / "directory", 2 * DAY)
    whole = spool.put(into="tmp")
    aged(tmp / whole, 2 * DAY)
    lines = found(tool)
    assert set(lines) == {f"store/tmp/{name}"
                          for name in ("old", "older.reason", "directory", whole)}
    assert "never moved to new/" in lines[f"store/tmp/{whole}"]
    assert found(tool, "--repair")["store/tmp/old"].endswith(": removed")
    assert spool.tmp() == sorted(["young", "directory", whole])


def test_reasons_and_messages_belong_together(spool, tool):
    alone, old = uuid7(), uuid7()
    for id, age in ((alone, 60), (old, 2 * HOUR)):
        for queue, directory in ((spool, "failed"), (spool.relay, "cur")):
            path = queue.directory(directory) / f"{id}.reason"
            path.write_text("so\n")
            aged(path, age)
    without = fail(spool, None)
    longest = fail(spool, None, name="x" * 255)
    unsent = spool.directory("failed") / f"{uuid7()}.notification"
    unsent.write_text("never sent")
    aged(unsent, 2 * HOUR)
    sent = fail(spool.relay)
    for queue in (spool, spool.relay):
        waiting = queue.directory("failed") / f"{sent}.notification"
        waiting.write_text("will be sent")
        aged(waiting, 2 * HOUR)
    lines = found(tool)
    assert lines == {f"store/failed/{old}.reason": "a reason without its message",
                     f"relay/cur/{old}.reason": "a reason without its message",
                     f"store/failed/{without}": "there is no reason beside it",
                     f"store/failed/{longest}": "there is no reason beside it",
                     f"store/failed/{unsent.name}":
                         "a notification of a failure that never came about"}
    tool("check", "--repair", code=EX_DATAERR)
    assert set(found(tool)) == {path for path in lines if not path.endswith(".reason")}
    assert f"{alone}.reason" in spool.failed() and f"{alone}.reason" in spool.relay.cur()


def test_a_message_that_is_named_like_a_reason_is_not_removed(spool, tool):
    moment = now()
    id = uuid7(moment)
    whole = encode(id, moment, "a@c.example", ["b@t.example"], raw_of(b"mail", "a@c.example"))
    path = spool.directory("failed") / "mail.reason"
    path.write_bytes(whole)
    aged(path, 2 * HOUR)
    assert "not removed" in found(tool, "--repair")["store/failed/mail.reason"]
    assert path.read_bytes() == whole
    # With a reason of its own it is a message like any other.
    (spool.directory("failed") / "mail.reason.reason").write_text("so\n")
    assert found(tool) == {} and tool.names("failed") == ["mail.reason"]


def test_in_new_and_in_cur_of_relay(spool, tool):
    """A state that lasts as long as a flush is none; one that lasts is said, and left to relay."""
    ids = []
    for _ in range(2):
        ids.append(spool.relay.put(received=(moment := now())))
        for queue, directory in ((spool.relay, "cur"), (spool, "new"), (spool, "cur")):
            queue.put(id=ids[-1], received=moment, into=directory)
    done = []
    worker = threading.Thread(target=lambda: done.append(found(tool)))
    worker.start()
    time.sleep(1)
    (spool.relay.directory("new") / ids[1]).unlink()
    worker.join()
    said = {f"relay/new/{ids[0]}":
            "also in relay/cur, which counts: relay removes this one when it runs"}
    assert done == [said]
    # By now it is old enough to be said at once.
    begun = time.monotonic()
    assert found(tool, "--repair") == said and time.monotonic() - begun < 5
    assert spool.relay.new() == ids[:1] and spool.relay.cur() == sorted(ids)


def test_whatever_lies_beside(spool, tool):
    id = spool.put()
    (spool.directory("new") / id).rename(spool.queue / id)
    (spool.path / "core").write_text("")
    (spool.path / "old").mkdir()
    assert found(tool) == {path: "does not belong here" for path in (f"store/{id}", "core", "old")}
    assert found(tool, "--repair") == found(tool)
    assert (spool.queue / id).exists()


def test_findings_as_objects(spool, tool):
    torn = spool.put(content=b"")
    (spool.path / "core").write_text("")
    assert tool.json("check", code=EX_DATAERR) == [
        {"path": "core", "problem": "does not belong here"},
        {"path": f"store/new/{torn}", "problem": "torn: the file is empty"}]
    assert tool.json("check", "--repair", code=EX_DATAERR)[1] == {
        "path": f"store/new/{torn}", "problem": "torn: the file is empty", "repaired": "set aside"}


def reachable(tmp_path):
    """The tool where another user can run it."""
    program = tmp_path / "queue"
    shutil.copy(PROGRAM, program)
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    return program


@pytest.mark.skipif(not AS_ROOT, reason="only root can become others")
def test_what_may_not_be_repaired_is_said(spool, tool, tmp_path):
    """As one of the group: what is somebody else's cannot be opened up by him."""
    spool.path.parent.chmod(0o755)
    for path in [spool.path, *spool.path.rglob("*")]:
        os.chown(path, 61001, 61000)
        path.chmod(0o2770)
    id, hidden = spool.put(), spool.put(content=b"")
    for name in (id, hidden):
        os.chown(spool.directory("new") / name, 61001, 61000)
        (spool.directory("new") / name).chmod(0o600)
    spool.directory("cur").chmod(0o2775)
    other = Tool(spool, ["setpriv", "--reuid=61002", "--regid=61000", "--clear-groups"],
                 reachable(tmp_path))
    lines = found(other, "--repair")
    assert lines["store/cur"].endswith(": not set: Operation not permitted")
    assert lines[f"store/new/{id}"] == "Permission denied"
    errors = [entry.get("error") for entry in other.json("check", "--repair", code=EX_DATAERR)]
    assert "Operation not permitted" in errors
    spool.directory("cur").chmod(0)
    assert "Permission denied" in other("check", code=77)


def test_a_directory_that_cannot_be_made(spool, tool):
    spool.relay.directory("cur").rmdir()
    spool.relay.directory("cur").symlink_to("nowhere")
    assert "not made" in found(tool, "--repair")["relay/cur"]
    assert pathlib.Path(spool.relay.directory("cur")).is_symlink()
