"""The queue tool among what strangers wrote: names, envelopes, messages, replies."""

import os
import subprocess

import pytest

from programs import environment
from queuetool import EX_DATAERR, EX_NOINPUT, EX_USAGE, PROGRAM, Tool, fail
from spool import now, uuid7

# What must never reach a terminal: controls of C0 but line ends and tabs, DEL, C1, what turns text.
HARMFUL = [chr(code) for code in (*range(0x20), *range(0x7f, 0xa0)) if chr(code) not in "\n\t"]
HARMFUL += ["\u202e", "\u2028", "\u200b", "\ufeff", "\u2066"]
ATTACKS = ["\x1b[31m", "\x1b]0;owned\x07", "\x1b[2J\x1b[H", "\u009b31m", "\u202efdp.exe",
           "\x08" * 20, "a\x7f", "\u2028forged: line", "\u200b", "\ufeff"]


@pytest.fixture
def tool(spool):
    spool.make()
    spool.relay.make()
    return Tool(spool)


@pytest.mark.parametrize("command", [["show"], ["retry"], ["remove", "--yes"], ["trace"],
                                     ["show", "--raw"], ["show", "--queue=store"]])
@pytest.mark.parametrize("name", [
    "../../etc/passwd", "/etc/passwd", "..", ".", "", ".hidden", "new/x", "x/", "./x",
    "../new/{id}", "{id}/../{id}", "x" * 256, "{id}\n/", "..\\x/"])
def test_v_19_only_names_of_the_spool(spool, tool, command, name):
    id = spool.put()
    (spool.queue / "x").write_text("outside")
    (spool.directory("failed") / ".hidden").write_text("hidden")
    (spool.directory("failed") / "link").symlink_to("/etc")
    before = sorted(spool.path.rglob("*"))
    done = tool.run(*command, "--", name.format(id=id))
    assert done.returncode == EX_USAGE and done.stdout == b""
    assert b"neither an id nor a plain name" in done.stderr
    assert sorted(spool.path.rglob("*")) == before


def hostile(spool):
    """Messages with every attack in every place that has room for it; their names."""
    names = []
    for attack in ATTACKS:
        # An envelope cannot have controls, but all the rest of UTF-8.
        text = "".join(letter for letter in attack if letter.isprintable() or ord(letter) > 0x9f)
        names.append(fail(spool, f"ERROR: {attack}", body=attack.encode() + b"\r\n",
                          mail_from=f"{text}@c.example", recipients=[f"{text}x@{text}.example"],
                          helo=f"h{text}"))
        names.append(fail(spool.relay, f"550 {attack}\r\n551 {attack}", name=f"{attack}-name"))
    names.append(fail(spool, name="escaped\\x1b[31m"))
    (spool.relay.directory("new") / f"{ATTACKS[0]}-new").write_text(ATTACKS[0])
    (spool.path / f"{ATTACKS[1]}").write_text("beside")
    return names


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_v_19_nothing_steers_a_terminal(spool, tool, locale):
    names = hostile(spool)
    commands = [["list"], ["failed"], ["stats"], ["check"], ["list", "--json"],
                ["failed", "--json"], ["stats", "--json"], ["check", "--json"],
                ["retry", "no\x1b[31msuch"],
                ["show", "no\u202esuch"], ["frob\x1b[31m"], ["trace", "x\x1b[31m"]]
    commands += [["show", name] for name in names] + [["retry", name] for name in names]
    commands += [["check", "--repair"], ["remove", "--yes", *names], ["list"]]
    for command in commands:
        done = tool.run(*command, LANG=locale)
        text = (done.stdout + done.stderr).decode()
        assert not [letter for letter in HARMFUL if letter in text], (command, text)
        assert locale == "C.UTF-8" or text.isascii(), (command, text)
        # Nor is a line forged: each of the table is one message's.
        if command == ["list"] and spool.failed():
            assert len(text.splitlines()) == len(names) + 2


def test_a_name_is_given_as_it_is_printed(spool, tool):
    """Within $'...', which undoes the escapes."""
    names = [f"{attack}-name" for attack in ATTACKS] + ["back\\slash", "gr\u00fc\u00df", "\\x1b"]
    for name in names:
        fail(spool, name=name)
    printed = [line[:line.index("  ")] for line in tool("list").splitlines()[1:]]
    assert len(printed) == len(names)
    for name in printed:
        subprocess.run(["bash", "-c", f"'{PROGRAM}' remove --yes $'{name}'"], check=True,
                       timeout=60, env=environment(tool.settings), stdout=subprocess.DEVNULL)
    assert spool.failed() == []


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\xc3\x28", b"\x80" * 40, b"gr\xfc\xdf"])
def test_names_that_are_no_text(spool, tool, name):
    path = os.fsencode(spool.directory("failed")) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"X-Envelope-Id: \xff\xfe\r\n")
    shown, = tool.names("list")
    assert shown.isascii() and "\\x" in shown
    entry, = tool.json("list")
    assert "\ufffd" in entry["name"]
    tool("check", code=EX_DATAERR)
    tool("remove", "--yes", name)
    assert not os.path.exists(path)


def test_bytes_that_are_no_text_in_an_envelope(spool, tool):
    moment = now()
    id = uuid7(moment)
    head = (f"X-Envelope-Id: {id}\r\nX-Envelope-Received: {moment:%Y-%m-%dT%H:%M:%S.%fZ}\r\n"
            "X-Envelope-Client: 192.0.2.1 1\r\nX-Envelope-Helo: \xff\r\n"
            "X-Envelope-Protocol: SMTP\r\n"
            "X-Envelope-From: <\xe9@c.example>\r\nX-Envelope-To: <\x80@\xff>\r\n"
            "X-Envelope-Size: 0000000000000001\r\nx").encode("latin-1")
    spool.put(id=id, content=head)
    assert "<\\xe9@c.example>" in tool("list") and "Helo:      \\xff" in tool("show", id)
    entry, = tool.json("list")
    assert entry["from"] == "\ufffd@c.example" and entry["to"] == ["\ufffd@\ufffd"]
    assert list(tool.json("stats")[0]["waiting"]["domains"]) == ["\ufffd"]


def test_files_of_every_kind(spool, tool):
    failed, new = spool.directory("failed"), spool.directory("new")
    ids = [uuid7() for _ in range(4)]
    os.mkfifo(new / ids[0])
    (new / ids[1]).symlink_to("/etc/passwd")
    (new / ids[2]).mkdir()
    os.mknod(failed / "null", 0o600 | 0o020000, os.makedev(1, 3)) if os.geteuid() == 0 else None
    (spool.directory("cur") / ids[3]).symlink_to(ids[3])
    for command in (["list"], ["stats"], ["failed"], ["list", "--json"]):
        assert "root:" not in tool(*command)
    assert "not a regular file" in tool("list")
    for id in ids:
        shown = tool.run("show", id)
        assert shown.returncode != EX_NOINPUT and b"root:" not in shown.stdout
        tool("trace", id)
    tool("check", code=EX_DATAERR)


def test_times_of_every_kind(spool, tool):
    """Clocks that were wrong, and files from other ends of time."""
    late = spool.put(id="ffffffff-ffff-7fff-bfff-ffffffffffff", content=b"no message")
    early = spool.put(id="00000000-0000-7000-8000-000000000000", content=b"no message")
    for name, moment in (("before", -10**9), ("after", 2**33)):
        fail(spool, name=name, content=b"no message")
        os.utime(spool.directory("failed") / name, (moment, moment))
    deferred = spool.relay.put(into="cur")
    os.utime(spool.relay.directory("cur") / deferred, (2**33, 2**33))
    assert tool.names("list")[:3] == [early, deferred, late]
    for command in (["list", "--json"], ["stats", "--json"]):
        assert tool(*command)
    assert "next try in" in tool("trace", deferred)
    tool("show", deferred)


def test_an_envelope_as_long_as_can_be(spool, tool):
    recipients = [f"r{number}@{'d' * 60}{number % 50}.example" for number in range(50_000)]
    id = spool.put(recipients=recipients)
    assert " +49999" in tool("list") and tool.json("list")[0]["to"] == recipients
    assert tool("show", "--envelope", id).count("\nTo: ") == 50_000
    assert tool.json("stats")[0]["waiting"]["all"]["total"] == 50_000
