"""reaper and the spool: what is stale goes, and nothing else is touched, with or without a
database."""

import os
import time

import pytest

from deadline import wait_for
from scale import scaled

HOUR = 3600
DAY = 24 * HOUR


def make(spool):
    """Both queues."""
    spool.make()
    for name in ("tmp", "new", "cur", "failed"):
        (spool.path / "relay" / name).mkdir(parents=True, exist_ok=True)
    return spool


def put(spool, path, age, content=b"x"):
    file = spool.path / path
    file.write_bytes(content)
    stamp = time.time() - age
    os.utime(file, (stamp, stamp))
    return file


def listing(spool):
    """Every file, with all that a touch would change."""
    found = {}
    for file in sorted(spool.path.rglob("*")):
        status = file.lstat()
        found[str(file.relative_to(spool.path))] = (status.st_ino, status.st_mode, status.st_size,
                                                   status.st_mtime_ns, status.st_ctime_ns)
    return {name: value for name, value in found.items() if not (spool.path / name).is_dir()}


def test_what_is_stale_goes(programs, spool, database):
    make(spool)
    stays, goes = [], []
    for queue in ("store", "relay"):
        stays += [put(spool, f"{queue}/tmp/fresh", 0),
                  put(spool, f"{queue}/tmp/a-day-old", 35 * HOUR),
                  put(spool, f"{queue}/failed/young", 6 * DAY),
                  put(spool, f"{queue}/failed/young.reason", 6 * DAY),
                  put(spool, f"{queue}/new/ancient", 1000 * DAY),
                  put(spool, f"{queue}/cur/ancient", 1000 * DAY),
                  put(spool, f"{queue}/cur/ancient.reason", 1000 * DAY)]
        goes += [put(spool, f"{queue}/tmp/stale", 37 * HOUR),
                 put(spool, f"{queue}/failed/old", 8 * DAY),
                 put(spool, f"{queue}/failed/old.reason", 8 * DAY)]
    before = listing(spool)
    reaper = programs.reaper(spool, database)
    assert [file for file in goes if file.exists()] == []
    after = listing(spool)
    assert after == {str(file.relative_to(spool.path)): before[str(file.relative_to(spool.path))]
                     for file in stays}
    assert {entry["directory"]: entry["files"] for entry in reaper.log(event="swept")} == {
        "store/tmp": "1", "store/failed": "2", "relay/tmp": "1", "relay/failed": "2"}


def test_messages_alone_are_forgotten(programs, spool, database):
    """A line each; what lies beside them, or was left behind by one, is no message."""
    make(spool)
    for name in ("both", "both.reason", "both.notification", "left.reason", "left.notification"):
        put(spool, f"relay/failed/{name}", 8 * DAY)
    reaper = programs.reaper(spool, database)
    reaper.wait_log(event="swept", directory="relay/failed", files="5")
    assert [(entry["id"], entry["queue"]) for entry in reaper.log(event="forgotten")] == [
        ("both", "relay")]


def test_the_retention_is_that_of_failed(programs, spool, database):
    make(spool)
    put(spool, "store/failed/old", 100)
    put(spool, "store/failed/young", 10)
    programs.reaper(spool, database, REAPER_RETENTION=60)
    assert spool.failed() == ["young"]


def test_live_mail_is_never_touched(programs, spool, database):
    """smtpd, and a client that is slow, and messages that have waited long: a sweep each second
    leaves each file as it is."""
    smtpd = programs.smtpd(spool)
    ids = [spool.put() for _ in range(5)]
    for id in ids:
        os.utime(spool.store / "new" / id, (0, 0))
    before = listing(spool)
    session = smtpd.session("D")
    session.send(b"x" * 300000)
    wait_for(spool.tmp, "a message on its way")
    reaper = programs.reaper(spool, database, REAPER_INTERVAL=1)
    time.sleep(2.5)
    assert {name: value for name, value in listing(spool).items() if name in before} == before
    assert len(spool.tmp()) == 1
    session.send(b"\r\n.\r\n")
    assert session.reply().code == 250
    assert len(spool.new()) == 6
    assert not reaper.log(event="swept")


def test_the_spool_is_swept_without_a_database(programs, cluster, spool):
    make(spool)
    put(spool, "store/tmp/stale", 37 * HOUR)
    cluster.stop()
    programs.reaper(spool, cluster.url("postgres"), ready=False)
    wait_for(lambda: not spool.tmp(), "the sweep")


def test_only_regular_files(programs, spool, database):
    make(spool)
    live = put(spool, "store/new/live", 0)
    tmp = spool.directory("tmp")
    (tmp / "directory").mkdir()
    (tmp / "link").symlink_to("../new/live")
    (tmp / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp / "fifo")
    for name in ("directory", "link", "dangling", "fifo"):
        os.utime(tmp / name, (0, 0), follow_symlinks=False)
    programs.reaper(spool, database)
    assert spool.tmp() == ["dangling", "directory", "fifo", "link"]
    assert live.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_what_may_not_be_removed_is_said(programs, spool, database):
    make(spool)
    for name in ("a", "b", "c"):
        put(spool, f"store/tmp/{name}", 37 * HOUR)
    spool.path.chmod(0o755)
    spool.store.chmod(0o755)
    spool.directory("tmp").chmod(0o755)
    reaper = programs.reaper(spool, database, owner=("nobody", "nogroup"))
    said = reaper.wait_log(event="not_swept", directory="store/tmp")
    assert said["files"] == "3"
    assert spool.tmp() == ["a", "b", "c"]


@pytest.mark.deadline(300)
def test_a_directory_of_very_many(programs, spool, database):
    """A million, at full scale: in memory that does not grow with them, and SIGTERM is heard in
    their midst."""
    make(spool)
    count = scaled(1_000_000, 20_000)
    tmp = os.open(spool.directory("tmp"), os.O_DIRECTORY)
    for number in range(count):
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, dir_fd=tmp))
        os.utime(f"{number}", (0, 0), dir_fd=tmp)
    reaper = programs.reaper(spool, database, ready=False)
    wait_for(lambda: len(os.listdir(tmp)) < count, "the sweep has begun", interval=0)
    reaper.stop(seconds=10)
    reaper = programs.reaper(spool, database)
    assert os.listdir(tmp) == []
    os.close(tmp)
    assert reaper.memory() < 64 << 20
