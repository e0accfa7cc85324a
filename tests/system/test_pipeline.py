"""The pipeline: what went in by SMTP is a row, byte for byte, once."""

import mailbox
import os
import pty
import random
import shutil
import sys
import time

import pytest

from deadline import wait_for
from load import Letter, differences, log_uniform, send_all
from scale import scaled

MIB = 1 << 20


@pytest.fixture
def pipeline(programs, spool, database):
    """smtpd and storer on one spool, into one database."""
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=1000)
    storer = programs.storer(spool, database)
    return smtpd, storer


def drained(spool, seconds=120):
    wait_for(lambda: not spool.new(), "new/ is empty", seconds, interval=0.1)


def test_a_mail_becomes_a_row(pipeline, spool, database):
    smtpd, _ = pipeline
    with smtpd.session("E") as client:
        id = client.mail(recipients=["Bob@T.example", "c@t.example"])
    drained(spool)
    (sender, helo, protocol, client, size, raw), = database.query(
        "SELECT mail_from, helo, protocol, host(client), size, raw FROM messages WHERE id = %s", id)
    assert (sender, helo, protocol, client) == ("a@c.example", "c.example", "ESMTP", "127.0.0.1")
    raw = bytes(raw)
    assert len(raw) == size
    assert raw.startswith(b"Return-Path: <a@c.example>\r\nReceived: from c.example ")
    assert raw.endswith(b"\r\nSubject: hello\r\n\r\nhello\r\n") and b"X-Envelope" not in raw
    assert database.query("SELECT username, domain, recipient FROM deliveries WHERE message_id = %s"
                          " ORDER BY position", id) == [("bob", "t.example", "Bob@T.example"),
                                                        ("c", "t.example", "c@t.example")]
    (username, raw_data, mail_from), = database.query(
        "SELECT username, raw_data, mail_from FROM emails WHERE recipient = 'c@t.example'")
    assert (username, mail_from) == ("c", "a@c.example") and raw_data == raw.decode()
    assert database.value("SELECT subject FROM inbox('bob')") == "hello"
    assert spool.tmp() == spool.cur() == spool.failed() == []


def test_times_of_the_row_and_of_the_id_are_one(pipeline, spool, database):
    smtpd, _ = pipeline
    with smtpd.session("E") as client:
        for _ in range(20):
            client.mail()
    drained(spool)
    assert database.value(
        "SELECT count(*) FROM messages WHERE ('x' || left(replace(id::text, '-', ''), 12))::bit(48)"
        "::bigint = floor(extract(epoch FROM received_at) * 1000)") == 20
    assert database.value("SELECT max(extract(epoch FROM now() - received_at)) FROM messages") < 120


def test_d5_17_same_recipient_is_one_row(pipeline, spool, database):
    smtpd, _ = pipeline
    with smtpd.session("E") as client:
        client.mail(recipients=["b@t.example", "b@T.EXAMPLE", "b@t.example", "B@t.example"])
    drained(spool)
    assert database.query("SELECT recipient FROM deliveries ORDER BY position") == [
        ("b@t.example",), ("B@t.example",)]


def test_d4_12_odd_addresses_are_exact_in_the_row(pipeline, spool, database):
    senders = ["o'neil@c.example", "\"x'/**/;--\"@a.example", '"a b\\"c"@c.example', "",
               "!#$%&'*+-/=?^_`{|}~@c.example"]
    smtpd, _ = pipeline
    with smtpd.session("E") as client:
        for sender in senders:
            client.mail(sender=sender, recipients=[sender or "Postmaster"])
    drained(spool)
    assert database.query("SELECT mail_from FROM messages ORDER BY id") == [(s,) for s in senders]
    assert {row[0] for row in database.query("SELECT recipient FROM deliveries")} == {
        sender or "Postmaster" for sender in senders}


def test_every_octet_arrives(pipeline, spool, database):
    everything = bytes(range(256))
    bodies = [everything * 3, b"\0" * 1000, b"\xff\xfe\0", b"", b"\r\n" * 50, b"\\x00\\000'\"",
              everything[::-1] * 10_000, "Grüße 🦋".encode(), b"\n.\r.\n\r"]
    smtpd, _ = pipeline
    with smtpd.session("E") as client:
        ids = [client.mail(body) for body in bodies]
    drained(spool)
    for id, body in zip(ids, bodies):
        raw = bytes(database.value("SELECT raw FROM messages WHERE id = %s", id))
        assert raw.split(b"+0000\r\n", 1)[1] == body + b"\r\n"
    # Whatever the octets, the readers' relation shows them without an error.
    assert database.value("SELECT count(length(raw_data)) FROM emails") == len(bodies)


def test_a_lone_message_is_soon_a_row(pipeline, spool, database):
    # The promise is 20 ms; what is asked for here leaves room for a busy machine, not for polling.
    smtpd, _ = pipeline
    with smtpd.session("E") as client:
        waited = []
        for _ in range(20):
            id = client.mail()
            start = time.monotonic()
            wait_for(lambda: id not in spool.new(), "it is stored", interval=0.001)
            waited.append(time.monotonic() - start)
    assert min(waited) < 0.1
    assert database.value("SELECT count(*) FROM messages") == 20


@pytest.mark.deadline(900)
def test_load_is_stored_byte_for_byte(pipeline, spool, database):
    """5,000 messages by 50 clients, sizes log-uniform, 500 MB in all, ten of them over 10 MB."""
    large = scaled(10, 1)
    sizes = log_uniform(scaled(5000, 250) - large, 200, 640_000)
    sizes += [10 * MIB + 1000 * number for number in range(large)]
    random.Random(2).shuffle(sizes)
    letters = [Letter(number, size, tuple(f"b{n}@t{number}.example" for n in range(number % 4 + 1)))
               for number, size in enumerate(sizes)]
    smtpd, storer = pipeline
    acknowledged = send_all(smtpd.address, letters, clients=50)
    assert len(acknowledged) == len(letters)
    drained(spool, 600)
    assert differences(database, acknowledged) == []
    assert database.value("SELECT count(*) FROM messages") == len(letters)
    assert spool.failed() == [] and storer.returncode is None


# Each program as its own user

USERS = {"smtpd": 61001, "storer": 61002, "reaper": 61003}
GROUP = 61000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
def test_each_program_as_its_own_user(programs, spool, database):
    owner = {name: (uid, GROUP) for name, uid in USERS.items()}
    spool.path.mkdir()
    os.chown(spool.path, 0, GROUP)
    spool.path.chmod(0o2770)
    roles = {name: f"{database.name}_{name}" for name in ("storer", "reaper")}
    for name, role in roles.items():
        database.query(f"CREATE ROLE {role} LOGIN IN ROLE mayfly_{name}")
    try:
        smtpd = programs.smtpd(spool, owner=owner["smtpd"])
        storer = programs.storer(spool, database.url_as(roles["storer"]), owner=owner["storer"])
        reaper = programs.reaper(spool, database.url_as(roles["reaper"]), owner=owner["reaper"])
        with smtpd.session("E") as client:
            ids = [client.mail(b"x" * size) for size in (10, 3_000_000)]
        drained(spool)
        assert {id for id, in database.query("SELECT id::text FROM messages")} == set(ids)
        # One that cannot be stored is set aside by another user than its writer.
        bad = spool.put(content=b"not an envelope")
        wait_for(lambda: bad in spool.failed(), "it is set aside")
        assert spool.reason(bad)
        for program in (smtpd, storer, reaper):
            program.stop()
    finally:
        programs.end()
        for role in roles.values():
            database.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


# A mail reader

@pytest.fixture
def queue(programs, spool):
    """A spool with three messages that nobody stores."""
    smtpd = programs.smtpd(spool)
    with smtpd.session("E") as client:
        for number in range(3):
            client.mail(f"From: a@c.example\r\nSubject: number {number}\r\n\r\n"
                        f"text {number}".encode())
    return spool


def test_queue_is_a_maildir(queue):
    before = queue.new()
    found = mailbox.Maildir(queue.store, create=False)
    assert sorted(message["Subject"] for message in found) == [f"number {n}" for n in range(3)]
    message = next(iter(found))
    assert message["X-Envelope-To"] == "<b@t.example>" and message.get_payload().startswith("text")
    assert queue.new() == before and queue.cur() == []


@pytest.mark.skipif(not shutil.which("mutt"), reason="no mutt")
def test_mutt_opens_the_queue_read_only(queue, tmp_path):
    before = queue.new()
    shown = tmp_path / "shown"
    show = "".join(f"<jump>{n}<enter><pipe-message>cat >>{shown}<enter>" for n in (1, 2, 3))
    keys = f'push "{show}<quit>"'
    settings = ["set pipe_decode=no", "set quit=yes", "set wait_key=no", keys]
    command = ["mutt", "-n", "-F", "/dev/null", "-R", "-f", str(queue.store)]
    for setting in settings:
        command += ["-e", setting]
    status = run_in_terminal(command, tmp_path)
    assert status == 0
    text = shown.read_text()
    assert all(f"Subject: number {n}" in text and f"text {n}" in text for n in range(3)), text
    assert queue.new() == before and queue.cur() == [] and queue.tmp() == []


def run_in_terminal(command, home):
    """Runs a program that wants a terminal; returns its exit status."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", HOME=str(home), LINES="40", COLUMNS="120")
        os.execvp(command[0], command)
        sys.exit(127)
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        # So a terminal says that nobody is at its other end any more.
        pass
    finally:
        # Hangs up on it, if it still runs.
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
