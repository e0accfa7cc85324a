"""The queue tool looks: list, failed, show, stats."""

import datetime
import os
import subprocess

import pytest

from programs import environment
from queuetool import (EX_CONFIG, EX_DATAERR, EX_IOERR, EX_NOINPUT, EX_NOPERM, EX_USAGE, PROGRAM,
                       Tool, fail)
from spool import now, uuid7

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def tool(spool):
    spool.make()
    spool.relay.make()
    return Tool(spool)


def ago(**time):
    return now() - datetime.timedelta(**time)


# list

def test_the_oldest_comes_first(spool, tool):
    ids = [spool.put(received=ago(hours=3)),
           fail(spool.relay, received=ago(hours=2)),
           spool.relay.put(received=ago(minutes=90), into="cur"),
           spool.put(received=ago(minutes=30), into="cur"),
           spool.relay.put()]
    assert tool.names("list") == ids
    assert [entry["name"] for entry in tool.json("list")] == ids
    assert tool.names("list", "--queue=store") == [ids[0], ids[3]]
    assert [entry["name"] for entry in tool.json("list", "--queue", "relay")] == [
        ids[1], ids[2], ids[4]]


def test_a_line_of_the_table(spool, tool):
    id = spool.put(received=ago(hours=3, minutes=7), mail_from="alice@c.example",
                   recipients=["bob@t.example", "carol@t.example", "dave@t.example"],
                   body=b"x" * 10_000)
    line = tool("list").splitlines()[1].split()
    assert line == [id, "store", "new", "3h07m", "9.9K", "<alice@c.example>", "<bob@t.example>",
                    "+2"]
    bounce = spool.put(mail_from="")
    assert tool("list").splitlines()[2].split()[-2:] == ["<>", "<b@t.example>"], bounce


def test_an_object_of_json(spool, tool):
    received = ago(seconds=90)
    id = spool.relay.put(received=received, into="cur", mail_from="\u00fc@c.example",
                         recipients=["a@t.example", "b@t.example"])
    spool.relay.due_in(id, 600)
    entry, = tool.json("list")
    next_try = datetime.datetime.fromisoformat(entry.pop("next").replace("Z", "+00:00"))
    assert 500 < (next_try - now()).total_seconds() < 700
    assert 90 <= entry.pop("age") < 150
    assert entry == {"name": id, "id": id, "queue": "relay", "state": "deferred",
                     "received": received.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                     "size": spool.relay.messages("cur")[0].size, "from": "\u00fc@c.example",
                     "to": ["a@t.example", "b@t.example"]}


def test_states_and_what_is_beside_a_message(spool, tool):
    kept, deferred = spool.put(into="cur"), spool.relay.put(into="cur")
    (spool.relay.directory("cur") / f"{deferred}.reason").write_text("<b@t.example>: 450 Later\n")
    failed = fail(spool.relay)
    (spool.relay.directory("failed") / f"{failed}.notification").write_text("on its way")
    spool.put(into="tmp")
    (spool.directory("new") / ".hidden").write_text("of a file manager")
    states = {entry["name"]: entry["state"] for entry in tool.json("list")}
    assert states == {kept: "kept", deferred: "deferred", failed: "failed"}


def test_names_in_failed_that_are_no_ids_come_last(spool, tool):
    first = fail(spool, received=ago(days=2))
    id = spool.relay.put(into="failed")
    numbered = [f"{id}.1", f"{id}.2", f"{id}.10"]
    for name in numbered:
        (spool.relay.directory("failed") / name).write_bytes(
            (spool.relay.directory("failed") / id).read_bytes())
    strange = {fail(spool, name="from elsewhere"), fail(spool.relay, name="0")}
    listed = [entry["name"] for entry in tool.json("list")]
    assert listed[:5] == [first, id, *numbered] and set(listed[5:]) == strange


def test_what_is_no_message_is_listed_with_what_is_wrong(spool, tool):
    torn = spool.put(size=100_000)
    foreign = spool.put(content=b"Subject: from elsewhere\r\n\r\n")
    forged = spool.put()
    other = uuid7()
    (spool.directory("new") / forged).rename(spool.directory("new") / other)
    (spool.directory("failed") / "pipe").mkdir()
    problems = {entry["name"]: entry["problem"] for entry in tool.json("list")}
    assert set(problems) == {torn, foreign, other, "pipe"}
    assert problems[torn].startswith("torn") and problems[foreign] == "no envelope"
    assert problems[other].startswith("forged") and problems["pipe"] == "not a regular file"
    text = tool("list")
    assert all(problem in text for problem in problems.values())


def test_an_empty_spool(tool):
    assert tool.names("list") == [] and tool.json("list") == [] and tool.names("failed") == []


# failed

def test_failed_ones_with_their_reasons(spool, tool):
    spool.put()
    first = fail(spool, "ERROR:  value too long", received=ago(hours=1))
    second = fail(spool.relay, "<a@t.example>: 550 Never\n<b@t.example>: 550 Nor this",
                  received=ago(minutes=30))
    third = fail(spool, None)
    assert tool.names("failed") == [first, second, third]
    lines = tool("failed").splitlines()
    assert lines[2] == "    ERROR:  value too long"
    assert lines[4:6] == ["    <a@t.example>: 550 Never", "    <b@t.example>: 550 Nor this"]
    reasons = [entry.get("reason") for entry in tool.json("failed")]
    assert reasons == ["ERROR:  value too long",
                       "<a@t.example>: 550 Never\n<b@t.example>: 550 Nor this", None]
    assert tool.names("failed", "--queue=relay") == [second]


def test_a_reason_that_cannot_be_read_is_said(spool, tool):
    id = fail(spool, None)
    (spool.directory("failed") / f"{id}.reason").symlink_to("/etc/passwd")
    other = fail(spool, None)
    (spool.directory("failed") / f"{other}.reason").mkdir()
    text = tool("failed")
    assert "root:" not in text and f"({id}.reason: " in text and f"({other}.reason: " in text


def test_a_long_reason_is_cut(spool, tool):
    fail(spool, "x" * 200_000)
    assert len(tool.json("failed")[0]["reason"]) == 65536


# show

def test_show_tells_all_of_a_message(spool, tool):
    id = spool.relay.put(into="cur", recipients=["a@t.example", "b@t.example"],
                         body=b"Subject: hi\r\n\r\n.dot\r\nback\\slash\r\n")
    spool.relay.due_in(id, 600)
    (spool.relay.directory("cur") / f"{id}.reason").write_text(
        "<a@t.example>: 450 Later\n<b@t.example>: 451 Later\n")
    lines = tool("show", id).splitlines()
    for line in (f"File:      relay/cur/{id}", "State:     deferred", f"Id:        {id}",
                 "Reason:    <a@t.example>: 450 Later", "Reason:    <b@t.example>: 451 Later",
                 "Client:    192.0.2.1 43210", "Helo:      c.example", "Protocol:  ESMTP",
                 "From:      <a@c.example>", "To:        <a@t.example>", "To:        <b@t.example>",
                 "Subject: hi", ".dot", "back\\slash"):
        assert line in lines, line
    assert any(line.startswith("Next try:") and "(in " in line for line in lines)
    assert any(line.startswith("Received:  2") and line.endswith(" ago)") for line in lines)


def test_show_envelope_and_show_raw(spool, tool):
    body = bytes(range(256)) * 1000
    id = spool.put(body=body)
    shown = tool("show", "--envelope", id)
    assert "From:      <a@c.example>" in shown and "Subject" not in shown and "\\x00" not in shown
    assert tool.run("show", "--raw", id).stdout == spool.message(id).raw


def test_show_finds_it_in_both_queues(spool, tool):
    moment = now()
    id = spool.put(recipients=["here@t.example"], body=b"one\r\n", received=moment)
    spool.relay.put(id=id, received=moment, recipients=["there@t.example"], body=b"one\r\n")
    text = tool("show", id)
    assert f"store/new/{id}" in text and f"relay/new/{id}" in text
    assert f"store/new/{id}" not in tool("show", "--queue=relay", id)
    assert tool.run("show", "--raw", id).stdout == spool.message(id).raw
    assert tool.run("show", "--raw", "--queue=relay", id).stdout == spool.relay.message(id).raw


def test_show_what_is_no_message(spool, tool):
    name = fail(spool, "no envelope", name="strange", content=b"what\x1b[2J\r\nis this")
    text = tool("show", name)
    assert "Problem:   no envelope" in text and "what\\x1b[2J\nis this" in text
    assert tool.run("show", "--raw", name).stdout == b"what\x1b[2J\r\nis this"
    os.mkfifo(spool.directory("failed") / "pipe")
    (spool.directory("failed") / "link").symlink_to("/etc/passwd")
    for name in ("pipe", "link"):
        done = tool.run("show", name)
        assert done.returncode != 0 and b"root:" not in done.stdout


def test_show_text_cut_anywhere(spool, tool):
    """Pieces end in the middle of characters and line ends."""
    for shift in range(4):
        line = "\u20ac" * 11 + "\r\n"
        id = spool.put(body=b"x" * shift + line.encode() * 9000)
        assert tool("show", id).endswith("x" * shift + line.replace("\r", "") * 9000)


# stats

def test_counts_by_queue_and_state(spool, tool):
    spool.put(received=ago(hours=2), body=b"x" * 100)
    spool.put(body=b"x" * 200)
    spool.put(into="cur")
    spool.put(into="tmp")
    fail(spool.relay)
    fail(spool.relay, name="strange")
    stats, = tool.json("stats")
    new = stats["store"]["new"]
    assert new["messages"] == 2 and 7200 <= new["oldest"] < 7300
    assert new["bytes"] == sum(path.stat().st_size for path in spool.directory("new").iterdir())
    assert {state: count["messages"] for state, count in stats["relay"].items()} == {
        "receiving": 0, "new": 0, "deferred": 0, "failed": 2}
    assert stats["store"]["kept"]["messages"] == stats["store"]["receiving"]["messages"] == 1
    assert "oldest" not in stats["store"]["failed"]
    rows = [line.split() for line in tool("stats").splitlines()[1:9]]
    assert rows[1] == ["store", "new", "2", str(new["bytes"]), "2h00m"]
    assert rows[4] == ["relay", "receiving", "0", "0", "-"]
    assert list(tool.json("stats", "--queue=relay")[0]) == ["relay", "waiting"]
    assert "store" not in tool("stats", "--queue=relay")


def test_age_by_domain(spool, tool):
    spool.put(recipients=["a@one.example", "b@ONE.example", "c@two.example"])
    spool.put(recipients=["a@one.example"], received=ago(minutes=12))
    spool.relay.put(recipients=["a@three.example"], received=ago(days=3), into="cur")
    spool.put(recipients=["a@stored.example"], into="cur")
    fail(spool, recipients=["a@failed.example"])
    spool.put(recipients=["postmaster"])
    spool.put(content=b"nothing")
    waiting = tool.json("stats")[0]["waiting"]
    assert waiting["all"]["total"] == 6 and waiting["others"]["total"] == 0
    ages = {domain: row["ages"] for domain, row in waiting["domains"].items()}
    assert ages == {"one.example": [2, 0, 1, 0, 0, 0, 0, 0, 0, 0],
                    "two.example": [1] + [0] * 9, "": [1] + [0] * 9,
                    "three.example": [0] * 9 + [1]}
    lines = [line.split() for line in tool("stats").splitlines()]
    assert ["one.example", "3", "2", "0", "1", *["0"] * 7] in lines
    assert ["(no", "domain)", "1", "1", *["0"] * 9] in lines
    assert ["all", "6", "4", "0", "1", *["0"] * 6, "1"] in lines


def test_many_domains_are_summed(spool, tool):
    for number in range(30):
        spool.put(recipients=[f"a@d{number}.example", "a@most.example"])
    text = tool("stats")
    assert text.index("most.example") < text.index("d0.example")
    assert ["(others)", "11", "11", *["0"] * 9] in [line.split() for line in text.splitlines()]
    assert len(tool.json("stats")[0]["waiting"]["domains"]) == 31


# How it ends

def test_no_such_message(spool, tool):
    spool.put(into="tmp", id=(id := uuid7()))
    for arguments in (["show", id], ["show", uuid7()], ["show", "strange"],
                      ["remove", "--yes", uuid7()], ["retry", uuid7()], ["trace", uuid7()]):
        assert tool(*arguments, code=EX_NOINPUT)


def test_no_spool(tmp_path):
    for place in (tmp_path / "nowhere", tmp_path, "/etc/passwd"):
        tool = Tool(place)
        for arguments in (["list"], ["stats"], ["replay"]):
            assert "spool" in tool(*arguments, code=EX_CONFIG)
    assert "no spool" in Tool(tmp_path / "nowhere")("check", code=EX_CONFIG)
    assert "missing" in Tool(tmp_path)("check", code=EX_DATAERR)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [
    [], ["lst"], ["list", "x"], ["show"], ["retry"], ["remove"], ["list", "--all"],
    ["show", "--raw", "--envelope", "x"], ["list", "--queue=none"]])
def test_usage(tool, arguments):
    assert "usage: queue" in tool(*arguments, code=EX_USAGE)


def test_output_that_does_not_arrive(spool, tool):
    spool.put()
    for arguments in (["list"], ["list", "--json"], ["--help"], ["stats"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, *arguments], env=environment(tool.settings),
                                  stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == EX_IOERR, done
    done = subprocess.run(f"{PROGRAM} list | true", shell=True, env=environment(tool.settings),
                          stderr=subprocess.PIPE, timeout=60)
    assert done.stderr == b""


def test_help_fits_a_screen(tool):
    lines = tool("--help").splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80


def test_a_database_that_is_not_asked_is_not_looked_at(tool):
    assert tool("list", DATABASE_URL="mysql://elsewhere")
    assert "DATABASE_URL" in tool("trace", uuid7(), DATABASE_URL="nonsense=1 x", code=EX_CONFIG)


@pytest.mark.skipif(not AS_ROOT, reason="only root can become others")
def test_who_may_not_is_told(spool, tmp_path):
    spool.make()
    spool.relay.make()
    program = tmp_path / "queue"
    program.write_bytes(PROGRAM.read_bytes())
    program.chmod(0o755)
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    spool.path.parent.chmod(0o755)
    stranger = Tool(spool, ["setpriv", "--reuid=61009", "--regid=61009", "--clear-groups"], program)
    assert "Permission denied" in stranger("list", code=EX_NOPERM)
    assert "Permission denied" in stranger("check", code=EX_NOPERM)
