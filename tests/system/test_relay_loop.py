"""Mail that goes round in a circle comes to an end."""

import pytest

import notices
from deadline import wait_for
from load import Letter
from smarthost import SmartHost

HOPS = 100
RECEIVED = b"Received: from x.example by y.example; Sat, 21 Nov 2026 19:08:11 +0000\r\n"


@pytest.fixture
def host():
    with SmartHost() as started:
        yield started


def test_a_message_that_came_too_far(programs, spool, host):
    """The field of smtpd is one of them; those behind the header are none."""
    programs.relay(spool, host)
    good = RECEIVED * (HOPS - 2) + b"Subject: x\r\n\r\n" + RECEIVED * HOPS
    spool.relay.put(good, mail_from="good@stored.example")
    far = RECEIVED.replace(b"Received", b"rECEIVED") * (HOPS + 10) + b"Subject: x\r\n\r\nx\r\n"
    id = spool.relay.put(far, mail_from="a@stored.example")
    spool.relay.wait_done()
    assert [got.mail_from for got in host.wait()] == ["good@stored.example"]
    assert "goes in circles" in spool.relay.reason(id)
    (fields,) = notices.read(spool.message().body).recipients.values()
    assert fields["status"] == "5.4.6" and "remote-mta" not in fields


class Mirror:
    """A smarthost whose mail comes back to smtpd, which relays it again."""

    def __init__(self, port):
        self.port = port

    def settings(self):
        return {"RELAY_HOST": "127.0.0.1", "RELAY_PORT": self.port, "RELAY_TLS": "none"}


def test_a_smarthost_that_is_ourselves(programs, spool):
    """Each round adds a field, until it is seen; the sender hears of it once."""
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="stored.example", SMTPD_RELAY_CLIENTS="127.0.0.0/8")
    programs.relay(spool, Mirror(smtpd.port))
    with smtpd.session("E") as client:
        client.mail(Letter(1, 300).body(), "a@stored.example", ["b@t.example"])
    wait_for(spool.new, "the sender is told")
    spool.relay.wait_done()
    assert len(spool.new()) == 1
    notice = notices.read(spool.message().body)
    assert list(notice.recipients) == ["b@t.example"]
    assert any(field.get("status") == "5.4.6" for field in notice.recipients.values())


def test_a_notification_that_is_refused_makes_no_other(programs, spool, host):
    """The sender's own host takes nothing: what cannot be told is kept, and that is the end."""
    host.at("RCPT", "550 5.1.1 no such user")
    programs.relay(spool, host)
    spool.relay.put(mail_from="a@away.example")
    wait_for(lambda: len(spool.relay.ids("failed")) == 2, "message and notification are kept")
    spool.relay.wait_done()
    assert host.commands("MAIL") == 2 and spool.new() == []
    senders = sorted(message.mail_from for message in spool.relay.messages("failed"))
    assert senders == ["", "a@away.example"]


def test_a_notification_that_goes_round_ends(programs, spool):
    """A smarthost that is ourselves, for a sender who is not stored here either: the notification
    comes too far itself, and has nobody who could be told."""
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="stored.example", SMTPD_RELAY_CLIENTS="127.0.0.0/8")
    programs.relay(spool, Mirror(smtpd.port))
    with smtpd.session("E") as client:
        client.mail(Letter(1, 300).body(), "a@away.example", ["b@t.example"])
    wait_for(lambda: len(spool.relay.ids("failed")) == 2, "message and notification have failed")
    spool.relay.wait_done()
    assert spool.new() == []
    assert sorted(message.mail_from for message in spool.relay.messages("failed")) == \
        ["", "a@away.example"]
