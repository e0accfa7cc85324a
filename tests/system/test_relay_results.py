"""What becomes of each recipient: accepted, deferred, failed; what is on the disk behind each try, and
what the sender is told."""

import collections
import datetime
import os
import random
import threading
import time

import pytest

import notices
import spool as spool_format
from deadline import wait_for
from scale import scaled
from smarthost import HANG, SmartHost

BODY = b"Subject: the subject\r\nX-Mark: kept\r\n\r\nthe secret body\r\n"
A = "a@stored.example"


@pytest.fixture
def host():
    with SmartHost() as started:
        yield started


@pytest.fixture
def relay(programs, spool, host):
    return programs.relay(spool, host)


def ago(seconds):
    return spool_format.now() - datetime.timedelta(seconds=seconds)


def left(queue, directory="cur"):
    """{id: recipients} of a directory."""
    return {message.id: message.recipients for message in queue.messages(directory)}


def next_try(spool, id):
    """In how many seconds."""
    return os.stat(spool.relay.directory("cur") / id).st_mtime - time.time()


# A reply for each

def test_each_recipient_has_his_own_result(spool, host, relay):
    host.at("RCPT", "450 4.2.1 mailbox busy", like="later")
    host.at("RCPT", "550 5.1.1 no such user here", like="never")
    id = spool.relay.put(BODY, ["x@t.example", "later@t.example", "y@t.example", "never@t.example",
                                "later2@t.example"], mail_from=A)
    before = spool.relay.message(id)
    spool.relay.wait_tried()
    wait_for(lambda: left(spool.relay) == {id: ["later@t.example", "later2@t.example"]},
             "those who failed are taken out")
    assert host.deliveries() == {(A, "x@t.example"): 1, (A, "y@t.example"): 1}
    assert 55 < next_try(spool, id) <= 72
    assert "450 4.2.1 mailbox busy" in spool.relay.reason(id, "cur")
    after = spool.relay.messages("cur")[0]
    assert after.raw == before.raw
    assert (after.received, after.client, after.helo, after.protocol, after.mail_from) == \
        (before.received, before.client, before.helo, before.protocol, before.mail_from)
    assert left(spool.relay, "failed") == {id: ["never@t.example"]}
    assert spool.relay.messages("failed")[0].raw == before.raw
    assert "550 5.1.1 no such user here" in spool.relay.reason(id)
    notice = notices.read(spool.message().body)
    assert list(notice.recipients) == ["never@t.example"]
    assert spool.relay.tmp() == []
    # And again: who was accepted is not asked again.
    host.behave()
    spool.relay.due_in(id, -1)
    relay.hurry()
    spool.relay.wait_done()
    assert set(host.deliveries().values()) == {1} and len(host.deliveries()) == 4
    assert host.accepted()[-1].recipients == ["later@t.example", "later2@t.example"]
    assert len(spool.new()) == 1


STEPS = ["MAIL", "DATA", "END"]


@pytest.mark.parametrize("step", STEPS)
def test_deferred_at_every_step(spool, host, relay, step):
    host.at(step, "451 4.3.0 not now", times=1)
    id = spool.relay.put(BODY, ["x@t.example", "y@t.example"])
    spool.relay.wait_tried()
    assert left(spool.relay) == {id: ["x@t.example", "y@t.example"]}
    assert "451 4.3.0 not now" in spool.relay.reason(id, "cur")
    assert spool.relay.failed() == [] and host.deliveries() == {}
    # The connection is good for the next message.
    spool.relay.put(mail_from="next@c.example")
    host.wait()
    assert len(host.connections) == 1


@pytest.mark.parametrize("step", STEPS)
def test_refused_at_every_step(spool, host, relay, step):
    host.at(step, "554 5.7.1 never", times=1)
    id = spool.relay.put(BODY, ["x@t.example", "y@t.example"], mail_from=A)
    spool.relay.wait_done()
    assert left(spool.relay, "failed") == {id: ["x@t.example", "y@t.example"]}
    assert "554 5.7.1 never" in spool.relay.reason(id)
    notice = notices.read(spool.message().body)
    assert set(notice.recipients) == {"x@t.example", "y@t.example"}
    spool.relay.put(mail_from="next@c.example")
    host.wait()
    assert len(host.connections) == 1


def test_all_recipients_refused_one_by_one(spool, host, relay):
    """No DATA, or nothing behind it; and the next message is not drawn into it."""
    host.at("RCPT", "550 5.1.1 no", like="never")
    spool.relay.put(BODY, [f"never{number}@t.example" for number in range(20)], mail_from=A)
    spool.relay.put(mail_from="next@c.example")
    host.wait()
    spool.relay.wait_done()
    assert host.deliveries() == {("next@c.example", "b@t.example"): 1}
    assert len(notices.read(spool.message().body).recipients) == 20


def test_too_many_recipients_for_one_transaction(spool, host, relay):
    """452 4.5.3: the rest goes at once, not in a minute."""
    host.most = 4
    recipients = [f"b{number}@t.example" for number in range(10)]
    spool.relay.put(BODY, recipients)
    host.wait(3)
    spool.relay.wait_done()
    assert [got.recipients for got in host.accepted()] == [recipients[:4], recipients[4:8],
                                                           recipients[8:]]
    assert spool.relay.failed() == [] and len(host.connections) == 1


# When it is tried again

@pytest.mark.parametrize("age, least, most", [(0, 60, 72), (1000, 800, 1240), (7200, 2880, 3600),
                                              (86400, 2880, 3600)])
def test_the_next_try_depends_on_its_age(spool, host, relay, age, least, most):
    host.at("RCPT", "450 4.2.1 busy")
    ids = [spool.relay.put(received=ago(age)) for _ in range(12)]
    begin = time.time()
    spool.relay.wait_tried()
    waits = [os.stat(spool.relay.directory("cur") / id).st_mtime for id in ids]
    assert begin + least - 1 < min(waits) and max(waits) <= time.time() + most
    assert len(set(map(round, waits))) > 1, "they all come back together"


def test_what_is_due_is_sent_and_what_is_not_waits(programs, spool, host):
    due = spool.relay.put(recipients=["due@t.example"], into="cur", received=ago(100))
    waiting = spool.relay.put(recipients=["waiting@t.example"], into="cur", received=ago(100))
    soon = spool.relay.put(recipients=["soon@t.example"], into="cur", received=ago(100))
    for id, seconds in ((due, -5), (waiting, 500), (soon, 3)):
        spool.relay.due_in(id, seconds)
    begin = time.time()
    programs.relay(spool, host, RELAY_RESCAN=3600)
    host.wait(2)
    assert time.time() >= begin + 2
    assert [got.recipients for got in host.accepted()] == [["due@t.example"], ["soon@t.example"]]
    wait_for(lambda: spool.relay.cur() == [waiting], "the other two are gone")


def test_given_up_when_it_is_too_old(programs, spool, host):
    programs.relay(spool, host, RELAY_MAX_AGE=3600)
    host.at("RCPT", "450 4.2.2 mailbox is full")
    young = spool.relay.put(BODY, mail_from=A, received=ago(3000))
    old = spool.relay.put(BODY, mail_from=A, received=ago(3700))
    spool.relay.wait_tried()
    assert list(left(spool.relay)) == [young]
    assert list(left(spool.relay, "failed")) == [old]
    assert "450 4.2.2 mailbox is full" in spool.relay.reason(old)
    fields, = notices.read(spool.message().body).recipients.values()
    assert fields["action"] == "failed" and fields["status"] in ("4.2.2", "5.2.2", "4.4.7", "5.4.7")
    assert "450 4.2.2 mailbox is full" in fields["diagnostic-code"]


def test_an_old_message_that_is_accepted_is_accepted(programs, spool, host):
    programs.relay(spool, host, RELAY_MAX_AGE=3600)
    spool.relay.put(received=ago(86400))
    host.wait()
    spool.relay.wait_done()
    assert spool.relay.failed() == []


# What the sender is told

def test_a_notification(spool, host, relay):
    host.at("RCPT", "550-5.1.1 The account does not exist.\r\n550 5.1.1 Learn more", like="never")
    received = ago(90)
    spool.relay.put(BODY, ["never@t.example", "x@t.example"], mail_from=A, received=received)
    spool.relay.wait_done()
    stored = wait_for(spool.messages, "a notification")[0]
    assert (stored.mail_from, stored.recipients) == ("", [A])
    notice = notices.read(stored.body)
    assert notice.message["To"] == A and "mayfly.example" in notice.message["From"]
    assert notice.kind == "message/delivery-status"
    assert notice.fields["reporting-mta"].replace(" ", "") == "dns;mayfly.example"
    arrival = notice.fields["arrival-date"]
    assert abs(notices.email.utils.parsedate_to_datetime(arrival) - received).total_seconds() < 2
    (recipient, fields), = notice.recipients.items()
    assert (recipient, fields["action"], fields["status"]) == ("never@t.example", "failed", "5.1.1")
    assert fields["remote-mta"].replace(" ", "") == "dns;127.0.0.1"
    assert fields["diagnostic-code"].startswith("smtp;")
    for words in ("The account does not exist.", "Learn more"):
        assert words in fields["diagnostic-code"] and words in notice.text.replace("\n", " ")
    assert "never@t.example" in notice.text and "x@t.example" not in notice.text
    assert notice.returned["X-Mark"] == "kept" and notice.returned["Subject"] == "the subject"
    assert b"the secret body" not in stored.raw


def test_none_for_the_null_sender(spool, host, relay):
    host.at("RCPT", "550 5.1.1 no")
    id = spool.relay.put(BODY, mail_from="")
    spool.relay.wait_done()
    wait_for(lambda: spool.relay.ids("failed") == [id], "it is kept")
    assert spool.new() == [] and spool.relay.new() == []
    assert host.commands("MAIL") == 1


def test_relayed_to_a_sender_who_is_not_stored_here(spool, host, relay):
    host.at("RCPT", "550 5.1.1 no", like="never")
    spool.relay.put(BODY, ["never@t.example"], mail_from="a@away.example")
    got, = host.wait()
    spool.relay.wait_done()
    assert (got.mail_from, got.recipients) == ("", ["a@away.example"])
    assert list(notices.read(got.content).recipients) == ["never@t.example"]
    assert spool.new() == []


def test_a_sender_who_may_not_be_relayed_to_is_told_nothing(programs, spool, host):
    programs.relay(spool, host, SMTPD_RELAY_DOMAINS="t.example")
    host.at("RCPT", "550 5.1.1 no", like="never")
    id = spool.relay.put(BODY, ["never@t.example"], mail_from="a@away.example")
    spool.relay.wait_done()
    wait_for(lambda: spool.relay.ids("failed") == [id], "it is kept")
    assert spool.new() == [] and host.commands("MAIL") == 1
    assert "notification: none" in spool.relay.reason(id)


def test_a_notification_in_utf8(spool, host, relay):
    host.at("RCPT", "550 5.1.1 kein Nutzer ‘é’", like="é")
    spool.relay.put(BODY, ["é@t.example"], mail_from="ü@stored.example")
    spool.relay.wait_done()
    stored = wait_for(spool.messages, "a notification")[0]
    assert stored.recipients == ["ü@stored.example"]
    notice = notices.read(stored.body)
    assert notice.kind == "message/global-delivery-status" and "é@t.example" in notice.recipients


def test_a_notification_to_an_ascii_sender_is_ascii(spool, host, relay):
    host.at("RCPT", "550 5.1.1 no", like="é")
    header = "Subject: Grüße\r\n\r\nx\r\n".encode()
    spool.relay.put(header, ["é@t.example"], mail_from=A)
    spool.relay.wait_done()
    stored = wait_for(spool.messages, "a notification")[0]
    assert stored.raw.isascii()
    notices.read(stored.body)


@pytest.mark.parametrize("words", [
    "550 5.1.1 " + "x" * 400, "550 \x1b[31mred\x07", "550 5.1.1 =?utf-8?q?x?= <b>&amp;</b>",
    "550-5.1.1 a\r\n550-5.1.1 .\r\n550 5.1.1 --b", "550", "550 9.9.9 odd", "550 4.1.1 of another class",
])
def test_the_smarthost_s_words_harm_no_notification(spool, host, relay, words):
    host.at("RCPT", words)
    spool.relay.put(BODY, mail_from=A)
    spool.relay.wait_done()
    stored = wait_for(spool.messages, "a notification")[0]
    (fields,) = notices.read(stored.body).recipients.values()
    assert fields["status"].startswith("5.") and "\x1b" not in stored.raw.decode()


# Killed

def test_killed_while_nobody_knows(programs, spool, host, relay):
    """The data is sent and its reply is not there: it is sent again, and nothing else could be done."""
    host.at("END", HANG, times=1)
    spool.relay.put()
    wait_for(lambda: host.transactions, "the data has come")
    relay.kill()
    assert len(spool.relay.new()) == 1
    programs.relay(spool, host)
    host.wait()
    spool.relay.wait_done()
    assert set(host.deliveries().values()) == {1}


def test_killed_behind_the_record(programs, spool, host, relay):
    """What is recorded is never sent again."""
    host.at("RCPT", "450 4.2.1 busy", like="later")
    id = spool.relay.put(recipients=["x@t.example", "later@t.example"])
    wait_for(lambda: spool.relay.ids("cur") == [id] and not spool.relay.new(), "it is recorded")
    relay.kill()
    host.behave()
    spool.relay.due_in(id, -1)
    programs.relay(spool, host)
    host.wait(2)
    spool.relay.wait_done()
    assert set(host.deliveries().values()) == {1}


def refuse_some(host):
    host.at("RCPT", "550 5.1.1 no", like="never")
    host.at("RCPT", "450 4.2.1 busy", like="later")


@pytest.mark.deadline(600)
def test_killed_at_random_moments(programs, spool, host):
    """Nobody is lost; nobody is sent to twice in one run, but only in the one behind a kill; and of
    each failure the sender is told once."""
    refuse_some(host)
    runs, end, over = 0, time.monotonic() + scaled(60, 5), threading.Event()
    people = ["x@t.example", "later@t.example", "y@t.example", "never@t.example"]
    expected = []

    def feed():
        while not over.is_set():
            expected.append(spool.relay.put(BODY, people, mail_from=f"a{len(expected)}@stored.example"))
            time.sleep(random.random() * 0.02)

    spool.relay.make()
    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        while time.monotonic() < end:
            # Its name says to the host which run it is.
            relay = programs.relay(spool, host, ready=False, SMTPD_HOSTNAME=f"run{runs}.example")
            time.sleep(random.random() * 0.4)
            relay.kill()
            runs += 1
    finally:
        over.set()
        feeder.join()
    host.behave()
    last = programs.relay(spool, host)
    spool.relay.wait_tried()
    for id in spool.relay.ids("cur"):
        spool.relay.due_in(id, -1)
    last.hurry()
    spool.relay.wait_done()
    told = collections.Counter(recipient for message in spool.messages()
                               for recipient in message.recipients)
    check_deliveries(host, len(expected), runs)
    failed = {message.mail_from for message in spool.relay.messages("failed")}
    assert told == dict.fromkeys(failed, 1)
    assert runs > 5 and spool.relay.failed()


def check_deliveries(host, count, runs):
    accepted = collections.defaultdict(list)
    for got in host.accepted():
        for recipient in got.recipients:
            accepted[got.mail_from, recipient].append(got.connection.ehlo)
    for number in range(count):
        for name in ("x", "y", "later"):
            assert (f"a{number}@stored.example", f"{name}@t.example") in accepted
    twice = {who: names for who, names in accepted.items() if len(names) > 1}
    for who, names in twice.items():
        assert len(set(names)) == len(names), f"{who}: twice in one run, of {names}"
    # Per kill no more than were in hand: on a connection, or waiting to be recorded.
    assert len(twice) <= runs * 2 * (4 + 128)
