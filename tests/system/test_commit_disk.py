"""What 250 rests on: the flush of the right file system, and its journal. Needs to mount."""

import contextlib
import os

from disk import Filler, mounted
from spool import Spool
from deadline import wait_for


def send(client):
    client.command("MAIL FROM:<a@c.example>", 250)
    client.command("RCPT TO:<b@t.example>", 250)
    client.command("DATA", 354)
    client.content(b"x\r\n")


def test_a_queue_on_a_mount_of_its_own_is_what_is_flushed(programs, faults_on, tmp_path):
    """The spool's directory may be on another disk than the queues in it."""
    with mounted(tmp_path, "tmpfs", 16, 1000) as outer:
        spool = Spool(outer / "spool")
        spool.path.mkdir()
        with mounted(tmp_path, "ext4", 24, 1000) as inner:
            (spool.path / "store").symlink_to(inner)
            faults = faults_on(Spool(inner))
            smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=0, **faults.settings())
            with smtpd.session("E") as client:
                send(client)
                client.reply(250)
                assert faults.trace().count("syncfs") == 1
                faults.fail("syncfs", "EIO")
                send(client)
                client.reply(451, "4.3.0")
            smtpd.stop()


def test_room_is_asked_of_the_disk_that_the_queue_is_on(programs, tmp_path):
    with mounted(tmp_path, "tmpfs", 512, 1000) as outer:
        spool = Spool(outer / "spool")
        spool.path.mkdir()
        with mounted(tmp_path, "ext4", 24, 1000) as inner:
            (spool.path / "store").symlink_to(inner)
            smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=128 << 20)
            with smtpd.session("E") as client:
                client.command("MAIL FROM:<a@c.example>", 452, "4.3.1")
            smtpd.stop()


def test_a_journal_that_failed_before_the_flush_is_noticed(programs, faults_on, tmp_path):
    """Somebody else's sync commits the journal first, the disk refuses it, and syncfs then finds
    nothing left to do: it succeeds, and so must not be believed alone."""
    with mounted(tmp_path, "tmpfs", 24, 1000) as memory, \
            mounted(memory, "ext4", 64, 1000) as point:
        spool = Spool(point / "spool")
        faults = faults_on(spool)
        smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=0, **faults.settings())
        with smtpd.session("E") as client:
            send(client)
            client.reply(250)
            faults.delay("syncfs", 6)
            send(client)
            wait_for(lambda: len(spool.new()) == 2, "the second message in new/")
            Filler(memory).bytes()
            directory = os.open(point, os.O_RDONLY)
            with contextlib.suppress(OSError):
                os.fsync(directory)
            os.close(directory)
            client.reply(451, "4.3.0")
        smtpd.stop()


def test_a_journal_that_failed_before_relay_could_see_a_message(programs, faults_on, tmp_path):
    """The same before the first of relay's two flushes, behind which the name is changed: that is
    refused, and relay never sees what would be lost."""
    with mounted(tmp_path, "tmpfs", 24, 1000) as memory, \
            mounted(memory, "ext4", 64, 1000) as point:
        spool = Spool(point / "spool")
        faults = faults_on(spool)
        smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=0, SMTPD_DOMAINS="",
                               SMTPD_RELAY_CLIENTS="127.0.0.0/8", **faults.settings())
        with smtpd.session("E") as client:
            send(client)
            id = client.reply(250).id
            faults.delay("syncfs", 6)
            send(client)
            wait_for(spool.relay.tmp, "the second message in tmp/")
            Filler(memory).bytes()
            directory = os.open(point, os.O_RDONLY)
            with contextlib.suppress(OSError):
                os.fsync(directory)
            os.close(directory)
            client.reply(451, "4.3.0")
            assert spool.relay.new() == [id]
            assert faults.trace()[-2:] == ["syncfs", "reply"]  # which found nothing to report
        smtpd.stop()
