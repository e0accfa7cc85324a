"""A line a message at each hop, under one id: `grep ID` over the logs tells the life of a mail."""

import os
import time

import pytest

from deadline import wait_for
from smarthost import SmartHost
from whole import POISON, REFUSE_POISON, Whole

BODY = b"Subject: hello\r\n\r\nhello"


@pytest.fixture
def host():
    with SmartHost() as started:
        yield started


@pytest.fixture
def whole(programs, spool, database, host):
    database.query(REFUSE_POISON)
    return Whole(programs, spool, database, host)


def send(whole, *recipients, sender="a@stored.example"):
    with whole.smtpd.session("E") as client:
        return client.mail(BODY, sender, recipients)


def lives(whole, id, *want):
    """Waits for the last of these lines; then there are these, each once, and no other."""
    wait_for(lambda: len(whole.life(id)) >= len(want), f"{want}, not {whole.life(id)}")
    assert whole.life(id) == list(want)


def test_the_life_of_a_mail(whole, spool, database, host):
    stored = send(whole, "b@stored.example", "c@stored.example")
    relayed = send(whole, "b@t.example")
    both = send(whole, "b@stored.example", "b@t.example")
    dropped = send(whole, "b@discard.example")
    lives(whole, stored, "smtpd accepted", "storer stored")
    lives(whole, relayed, "smtpd accepted", "relay relayed")
    lives(whole, both, "smtpd accepted", "storer stored", "relay relayed")
    lives(whole, dropped, "smtpd discarded")
    accepted, = whole.smtpd.log(id=both)
    assert (accepted["rcpt"], accepted["relayed"]) == ("2", "1")
    assert accepted["from"] == "a@stored.example"


def test_one_that_is_put_off_has_a_line_a_try(whole, spool, host):
    host.at("RCPT", "450 4.2.1 later", times=2)
    id = send(whole, "b@t.example")
    for tries in (1, 2):
        lives(whole, id, "smtpd accepted", *["relay deferred"] * tries)
        os.utime(spool.relay.directory("cur") / id, (time.time() - 1,) * 2)
        whole.relay.hurry()
    lives(whole, id, "smtpd accepted", "relay deferred", "relay deferred", "relay relayed")
    assert whole.relay.log(id=id, event="deferred")[0]["reply"].startswith("450 4.2.1 later")


def test_one_that_the_smarthost_refuses(whole, spool, host):
    """Its notification is a mail of its own, whose line names it."""
    host.at("RCPT", "550 5.1.1 no", like="never")
    id = send(whole, "never@t.example")
    lives(whole, id, "smtpd accepted", "relay notified", "relay failed")
    notified, = whole.relay.log(event="notified")
    assert notified["of"] == id
    lives(whole, notified["id"], "storer stored", "relay notified")


def test_one_that_is_set_aside_and_tried_again(whole, spool, database):
    id = send(whole, POISON)
    lives(whole, id, "smtpd accepted", "storer set_aside")
    assert "poison" in whole.storer.log(id=id)[0]["reason"]
    database.query("DROP TRIGGER refuse ON deliveries")
    os.rename(spool.directory("failed") / id, spool.directory("new") / id)
    lives(whole, id, "smtpd accepted", "storer set_aside", "storer stored")


def test_one_that_is_given_up_for_good(programs, spool, database):
    """The end of it: in failed/ until the retention has passed."""
    old = time.time() - 8 * 86400
    ids = {"store": spool.put(into="failed"), "relay": spool.relay.put(into="failed")}
    for queue, id in ids.items():
        reason = spool.path / queue / "failed" / f"{id}.reason"
        reason.write_text("why\n")
        for path in (reason, reason.with_suffix("")):
            os.utime(path, (old, old))
    reaper = programs.reaper(spool, database)
    for queue, id in ids.items():
        assert [entry["event"] for entry in reaper.log(id=id)] == ["forgotten"]
        assert reaper.log(id=id, queue=queue)
        assert id not in "".join(line for line in reaper.lines if "event=swept" in line)
    assert len(reaper.log(event="forgotten")) == 2
