"""The queue tool moves and deletes: retry, remove, replay."""

import datetime
import os
import threading

import pytest

from deadline import wait_for
from queuetool import (EX_DATAERR, EX_NOINPUT, EX_NOPERM, EX_OSERR, EX_TEMPFAIL, EX_USAGE, Tool,
                       fail)
from spool import now, uuid7


@pytest.fixture
def tool(spool):
    spool.make()
    spool.relay.make()
    return Tool(spool)


def earlier(number):
    """Moments whose order is that of the numbers."""
    return now() - datetime.timedelta(hours=1) + datetime.timedelta(seconds=number)


# retry

@pytest.mark.parametrize("queue", ["store", "relay"])
def test_a_failed_one_goes_back_without_its_reason(spool, tool, queue):
    queue = getattr(spool, queue, None) if queue == "relay" else spool
    id = fail(queue, body=b"once more\r\n")
    before = (queue.directory("failed") / id).read_bytes()
    assert f"/failed/{id} -> " in tool("retry", id)
    assert queue.failed() == [] and queue.new() == [id] and queue.tmp() == []
    assert (queue.directory("new") / id).read_bytes() == before


def test_under_its_id_whatever_its_name(spool, tool):
    id = uuid7(moment := now())
    numbered = fail(spool.relay, name=f"{id}.3", id=id, received=moment)
    other = uuid7(moment)
    strange = fail(spool, name="from elsewhere", id=other, received=moment)
    assert f"relay/failed/{id}.3 -> relay/new/{id}" in tool("retry", numbered, strange)
    assert spool.relay.new() == [id] and spool.new() == [other]
    assert spool.relay.failed() == spool.failed() == []


def test_all_of_them(spool, tool):
    ids = [fail(queue, received=earlier(number)) for number in range(5)
           for queue in (spool, spool.relay)]
    lines = tool("retry", "--all", "--queue=relay").splitlines()
    assert len(lines) == 5 and len(spool.failed()) == 10 and spool.relay.failed() == []
    tool("retry", "--all")
    assert sorted(spool.new() + spool.relay.new()) == sorted(ids) and spool.failed() == []
    assert tool("retry", "--all") == ""


def test_none_goes_over_another(spool, tool):
    """What is still in the queue counts: of relay also in cur/."""
    moment = now()
    for queue, directory in ((spool, "new"), (spool.relay, "new"), (spool.relay, "cur")):
        id = queue.put(received=moment, body=b"in the queue", into=directory)
        fail(queue, id=id, received=moment, body=b"failed")
        assert "not now" in tool("retry", id, code=EX_TEMPFAIL)
        assert "not now" in tool("retry", "--all", code=EX_TEMPFAIL)
        assert queue.failed() == [id, f"{id}.reason"]
        assert queue.messages(directory)[0].body == b"in the queue"
        (queue.directory(directory) / id).unlink()
        tool("retry", id)
        assert queue.messages()[0].body == b"failed"
        queue.clear()


def test_kept_ones_are_no_obstacle(spool, tool):
    id = spool.put(into="cur", received=(moment := now()))
    fail(spool, id=id, received=moment)
    tool("retry", id)
    assert spool.new() == spool.cur() == [id]


def test_what_is_no_message_stays(spool, tool):
    torn = fail(spool, size=1_000_000, received=earlier(0))
    good = fail(spool, received=earlier(1))
    foreign = fail(spool, name="foreign", content=b"Subject: x\r\n\r\n")
    forged = fail(spool, received=earlier(2))
    other = uuid7(earlier(3))
    (spool.directory("failed") / forged).rename(spool.directory("failed") / other)
    text = tool("retry", "--all", code=EX_DATAERR)
    assert f"{torn}: torn" in text and "foreign: no envelope" in text and f"{other}: forged" in text
    assert spool.new() == [good]
    assert set(spool.ids("failed")) == {torn, "foreign", other}


def test_several_are_all_tried_and_the_first_wrong_one_says_the_code(spool, tool):
    first, second = fail(spool), fail(spool)
    text = tool("retry", uuid7(), first, "nothing", second, code=EX_NOINPUT)
    assert text.count("no such message") == 2
    assert spool.new() == sorted([first, second])


def test_a_new_reason_is_not_removed_with_the_old_one(spool, tool, programs, database):
    """Failing again and again while it is being retried: in the end there is a reason."""
    id = fail(spool, mail_from="x" * 3000 + "@c.example")
    database.query("ALTER TABLE messages ADD CHECK (length(mail_from) < 2000)")
    programs.storer(spool, database, STORER_RESCAN=1)
    for _ in range(20):
        done = tool.run("retry", id)
        assert done.returncode in (0, EX_TEMPFAIL, EX_NOINPUT), done
        spool.wait_tried()
        assert spool.reason(id)
    assert spool.ids("failed") == [id] and spool.tmp() == []


# remove

PLACES = [("store", "new"), ("store", "cur"), ("store", "failed"), ("relay", "new"),
          ("relay", "cur"), ("relay", "failed")]


@pytest.mark.parametrize("queue, directory", PLACES)
def test_any_state(spool, tool, queue, directory):
    queue = spool if queue == "store" else spool.relay
    id, other = queue.put(into=directory), queue.put(into=directory)
    if directory != "new":
        for name in (id, other):
            (queue.directory(directory) / f"{name}.reason").write_text("so\n")
    assert f"{queue.queue.name}/{directory}/{id}: removed" in tool("remove", "--yes", id)
    assert queue.ids(directory) == [other] and f"{id}.reason" not in queue.names(directory)
    assert queue.tmp() == []


def test_both_queues_or_one(spool, tool):
    for arguments, left in ((["--queue=relay"], True), ([], False)):
        id = spool.put(received=(moment := now()))
        spool.relay.put(id=id, received=moment)
        tool("remove", "--yes", id, *arguments)
        assert (spool.new() == [id]) == left and spool.relay.new() == []
        spool.clear()


def test_it_is_asked(spool, tool):
    failed, live = fail(spool), spool.relay.put()
    said = tool.answer("n\n", "remove", failed, code=EX_NOPERM)
    assert failed in said and "[y/N]" in said and "lost" not in said
    said = tool.answer("\n", "remove", live, code=EX_NOPERM)
    assert "Its mail will be lost." in said and "<b@t.example>" in said
    tool.answer("\x04", "remove", live, code=EX_NOPERM)
    assert spool.ids("failed") == [failed] and spool.relay.new() == [live]
    said = tool.answer("y\nno\n", "remove", failed, live, code=EX_NOPERM)
    assert spool.failed() == [] and spool.relay.new() == [live]
    assert "removed" in tool.answer("YES\n", "remove", live, code=0)
    assert spool.relay.new() == []


def test_nobody_there_to_be_asked(spool, tool):
    id = fail(spool)
    assert "--yes" in tool("remove", id, code=EX_USAGE)
    assert spool.ids("failed") == [id]


def test_names_in_failed(spool, tool):
    names = ["from elsewhere", "-rf", "--all", "*", "$(reboot)", "\u00fc"]
    for name in names:
        fail(spool, name=name)
    kept = fail(spool)
    tool("remove", "--yes", "--", *names)
    assert spool.failed() == [kept, f"{kept}.reason"]
    (spool.directory("failed") / "link").symlink_to(spool.directory("failed") / kept)
    os.mkfifo(spool.directory("failed") / "pipe")
    (spool.directory("failed") / "directory").mkdir()
    tool("remove", "--yes", "link", "pipe")
    assert "directory" in tool("remove", "--yes", "directory", code=EX_OSERR)
    assert spool.failed() == [kept, f"{kept}.reason", "directory"]


def test_a_name_that_is_no_id_is_looked_for_in_failed_alone(spool, tool):
    spool.put(id="strange", content=b"")
    spool.put(id="strange", content=b"", into="cur")
    assert tool("remove", "--yes", "strange", code=EX_NOINPUT)
    assert spool.new() == spool.cur() == ["strange"]


# replay

def test_kept_ones_go_back(spool, tool):
    ids = [spool.put(into="cur", received=earlier(number)) for number in range(10)]
    relayed = spool.relay.put(into="cur")
    already = spool.put(id=ids[3], received=earlier(3), content=b"is there")
    assert tool("replay") == "9 messages are in new/ once more\n"
    assert spool.new() == ids and spool.cur() == [already]
    assert (spool.directory("new") / already).read_bytes() == b"is there"
    assert spool.relay.cur() == [relayed]


def test_replayed_ones_are_stored_once(spool, tool, programs, database):
    ids = [spool.put() for _ in range(50)]
    storer = programs.storer(spool, database, STORER_KEEP=3600, STORER_RESCAN=1)
    spool.wait_tried()
    assert sorted(spool.cur()) == sorted(ids)
    lost = "(SELECT id FROM messages ORDER BY id LIMIT 20)"
    database.query(f"DELETE FROM deliveries WHERE message_id IN {lost}")
    database.query(f"DELETE FROM messages WHERE id IN {lost}")
    assert tool("replay").startswith("50 ")
    spool.wait_tried()
    assert {id for id, in database.query("SELECT id::text FROM messages")} == set(ids)
    assert database.value("SELECT count(*) FROM deliveries") == 50
    storer.stop()


def test_one_that_was_stored_this_moment_is_seen_again(spool, tool, programs, database):
    """At once, and not by a full look: its name counts as in hand for a moment longer, and its way
    back is an event like its own removal."""
    storer = programs.storer(spool, database, STORER_KEEP=3600, STORER_RESCAN=3600)
    id = spool.put()
    for _ in range(20):
        wait_for(spool.cur, "it is kept")
        assert tool("replay").startswith("1 ")
    wait_for(lambda: spool.cur() == [id], "it is kept once more")
    assert database.value("SELECT count(*) FROM messages") == 1
    storer.stop()


# Together

def test_two_of_them_at_once(spool, tool):
    """Each message is moved by one of them, and none is lost."""
    ids = sorted(fail(spool, received=earlier(number)) for number in range(300))
    said = []
    workers = [threading.Thread(target=lambda: said.append(tool.run("retry", "--all")))
               for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(done.returncode == 0 for done in said), [done.stderr for done in said]
    assert sum(done.stdout.count(b"\n") for done in said) == len(ids)
    assert spool.new() == ids and spool.failed() == [] and spool.tmp() == []
