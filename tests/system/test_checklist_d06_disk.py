"""Checklist D6-14: the disk fails. The message is refused for now, nothing is in new/, and mail
goes on after."""

import pytest

SMALL = 100
LARGE = 3_000_000
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])


def begin(client):
    """A transaction, up to its data."""
    client.command("MAIL FROM:<a@c.example>", 250)
    client.command("RCPT TO:<b@t.example>", 250)
    client.command("DATA", 354)


@SIZES
@pytest.mark.parametrize("error, code", [("ENOSPC", 452), ("EDQUOT", 452), ("EIO", 451)])
@pytest.mark.parametrize("call", ["create", "write", "fsync", "syncfs", "rename"])
def test_d6_14_call_fails(programs, spool, faults, size, call, error, code):
    smtpd = programs.smtpd(spool, **faults.settings())
    with smtpd.session("E") as client:
        faults.forget()
        client.mail(b"x" * size)
        used = faults.trace()
        faults.fail(call, error)
        begin(client)
        client.content(b"x" * size)
        reply = client.reply()
        if reply.code == 250:
            # Which of the two is used depends on the file system and on the size.
            assert call in ("fsync", "syncfs") and call not in used, used
            assert len(spool.messages()) == 2
            return
        assert (reply.code, reply.enhanced) == (code, "4.3.1" if code == 452 else "4.3.0")
        client.alive()
        client.command("DATA", 503, "5.5.1")
        assert len(spool.new()) == 1 and spool.tmp() == []
        faults.clear()
        client.mail(b"after")
    assert [len(message.body) for message in spool.messages()] == [size + 2, len(b"after\r\n")]


@SIZES
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_d6_14_sync_fails_on_either_kind_of_disk(small_disk, programs, faults_on, kind, size):
    """syncfs is relied upon where it is known to report errors, fsync everywhere else."""
    spool, _ = small_disk(kind)
    faults = faults_on(spool)
    smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=0, **faults.settings())
    call = sync_call(smtpd, faults)
    assert call == "fsync" or kind == "ext4"
    with smtpd.session("E") as client:
        faults.fail(call, "EIO")
        begin(client)
        client.content(b"x" * size)
        client.reply(451, "4.3.0")
        assert spool.new() == [] and spool.tmp() == []
        faults.clear()
        client.mail(b"x" * size)
    assert len(spool.messages()) == 1


@SIZES
def test_d6_14_every_commit_of_a_failing_group_is_refused(programs, spool, faults, size):
    smtpd = programs.smtpd(spool, **faults.settings())
    clients = [smtpd.session("D") for _ in range(10)]
    call = sync_call(smtpd, faults)
    faults.fail(call, "EIO")
    for client in clients:
        client.content(b"x" * size)
    for client in clients:
        client.reply(451, "4.3.0")
    assert spool.new() == [] and spool.tmp() == []
    faults.clear()
    for client in clients:
        client.mail()
        client.close()
    assert len(spool.messages()) == 10


def sync_call(smtpd, faults):
    """The call by which this smtpd makes a small message durable."""
    with smtpd.session("E") as client:
        faults.forget()
        id = client.mail()
    used = faults.trace()
    (faults.spool.directory("new") / id).unlink()
    return "syncfs" if "syncfs" in used else "fsync"


@SIZES
def test_d6_14_size_of_a_large_message_cannot_be_written(programs, spool, faults, size):
    smtpd = programs.smtpd(spool, **faults.settings())
    with smtpd.session("E") as client:
        faults.fail("pwrite", "EIO")
        begin(client)
        client.content(b"x" * size)
        reply = client.reply()
        if reply.code == 250:
            # The size was known when the envelope was written.
            assert size == SMALL
            return
        assert (reply.code, reply.enhanced) == (451, "4.3.0")
        assert spool.new() == [] and spool.tmp() == []
        faults.clear()
        client.mail()
    assert len(spool.messages()) == 1


@SIZES
def test_d6_14_short_writes_are_continued(programs, spool, faults, size):
    smtpd = programs.smtpd(spool, **faults.settings())
    faults.shorten("write")
    with smtpd.session("E") as client:
        id = client.mail(b"0123456789" * (size // 10))
    assert spool.message(id).body == b"0123456789" * (size // 10) + b"\r\n"


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_d6_14_full_disk(small_disk, programs, kind):
    spool, filler = small_disk(kind)
    # No room is kept free, so that it is the write that finds the disk full.
    smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=0)
    with smtpd.session("E") as client:
        client.mail(b"before")
        filler.bytes(leave=1 << 20)
        for _ in range(3):
            begin(client)
            client.content(b"x" * LARGE)
            client.reply(452, "4.3.1")
            assert spool.tmp() == [] and len(spool.new()) == 1
        filler.empty()
        client.mail(b"x" * LARGE)
    assert len(spool.messages()) == 2


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_d6_14_no_inodes(small_disk, programs, kind):
    spool, filler = small_disk(kind, inodes=200)
    smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=0)
    with smtpd.session("D") as client:
        filler.inodes()
        client.content(b"x")
        client.reply(452, "4.3.1")
        assert spool.tmp() == [] and spool.new() == []
        filler.empty()
        client.mail()
    assert len(spool.messages()) == 1


def test_d6_14_full_disk_while_the_message_comes(small_disk, programs):
    spool, filler = small_disk()
    smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=0)
    with smtpd.session("D") as client:
        client.send(b"x" * 1_000_000)
        filler.bytes()
        client.content(b"x" * 10_000_000)
        client.reply(452, "4.3.1")
        assert spool.tmp() == [] and spool.new() == []
        filler.empty()
        client.alive()
        client.mail()
    assert len(spool.messages()) == 1
