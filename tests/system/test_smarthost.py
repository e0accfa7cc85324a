"""The smarthosts of relay's tests, tried with a client of known behaviour."""

import base64
import smtplib
import socket
import ssl

import pytest

from hostile import Hostile
from postfix import Postfix, Sink
from smarthost import DROP, SmartHost

BODY = b"Subject: x\r\n\r\n..dots\n.\rbare\r\n"
RECEIVED = b"Received: by t.example; Sun, 22 Nov 2026 04:00:00 +0000\r\n"
LOGIN = {"me": "secret"}


def xoauth2(token):
    return base64.b64encode(f"user=me\1auth=Bearer {token}\1\1".encode()).decode()


@pytest.fixture(params=["starttls", "implicit"])
def host(request, pair):
    with SmartHost(pair, implicit=request.param == "implicit", users=LOGIN,
                   mechanisms=("PLAIN", "LOGIN", "XOAUTH2")) as started:
        yield started


def connect(host):
    """A client behind TLS."""
    context = host.pair.client()
    if host.implicit:
        return smtplib.SMTP_SSL("127.0.0.1", host.port, context=context, timeout=30)
    client = smtplib.SMTP("127.0.0.1", host.port, timeout=30)
    client.starttls(context=context)
    return client


def test_nothing_goes_without_tls_and_auth(pair):
    with SmartHost(pair, users=LOGIN) as host, smtplib.SMTP("127.0.0.1", host.port) as client:
        client.ehlo("c.example")
        assert not client.has_extn("auth") and client.docmd("MAIL FROM:<a@c.example>")[0] == 530
        assert client.docmd("AUTH PLAIN AG1lAHNlY3JldA==")[0] == 530
        client.starttls(context=pair.client())
        client.ehlo("c.example")
        assert client.has_extn("auth") and client.docmd("MAIL FROM:<a@c.example>")[0] == 530
    assert host.transactions == [] and host.connections[0].logins == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
def test_auth(host, mechanism):
    with connect(host) as client:
        client.user, client.password = "me", "secret"
        client.ehlo()
        if mechanism == "XOAUTH2":
            assert client.docmd("AUTH XOAUTH2", xoauth2("wrong"))[0] == 334
            assert client.docmd("")[0] == 535
            assert client.docmd("AUTH XOAUTH2", xoauth2("secret"))[0] == 235
        else:
            client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
    assert host.connections[0].logins[-1] == (mechanism, "me", "secret")
    assert host.connections[0].user == "me" and host.connections[0].version.startswith("TLSv1.")


def test_it_remembers_octet_for_octet(host):
    with connect(host) as client:
        client.login("me", "secret")
        client.mail("", ["BODY=8BITMIME"])
        for recipient in ('"x> y"@t.example', "b@t.example"):
            assert client.rcpt(recipient)[0] == 250
        client.putcmd("data")
        assert client.getreply()[0] == 354
        client.send(RECEIVED + BODY.replace(b"..dots", b"...dots") + b".\r\n")
        assert client.getreply()[0] == 250
    got, = host.wait()
    assert (got.mail_from, got.options) == ("", ["BODY=8BITMIME"])
    assert got.content == RECEIVED + BODY and got.body == BODY
    assert host.deliveries() == {("", '"x> y"@t.example'): 1, ("", "b@t.example"): 1}


def test_rules(host):
    host.at("RCPT", "450 4.2.1 later", like="bad", times=1)
    host.at("END", "451 4.3.0 no", times=1)
    with connect(host) as client:
        client.login("me", "secret")
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("a@c.example", ["bad@t.example", "b@t.example"], BODY)
        assert client.sendmail("a@c.example", ["bad@t.example"], BODY) == {}
        host.at("NOOP", DROP)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()
        host.at("CONNECT", "421 4.3.2 no", times=1)
        with pytest.raises((smtplib.SMTPException, OSError)):
            smtplib.SMTP_SSL("127.0.0.1", host.port, context=host.pair.client()) if host.implicit \
                else smtplib.SMTP("127.0.0.1", host.port)
    host.behave()
    connect(host).close()
    assert [each.recipients for each in host.accepted()] == [["bad@t.example"]]
    assert len(host.transactions) == 2


def test_away_and_back(host):
    client, port = connect(host), host.port
    host.stop()
    with pytest.raises((smtplib.SMTPServerDisconnected, ssl.SSLError, OSError)):
        client.noop()
    client.close()
    with pytest.raises(ConnectionRefusedError):
        connect(host)
    host.start()
    connect(host).close()
    assert host.port == port and len(host.connections) == 2


# The others

def test_a_hostile_one_is_right_but_for_one_step(pair):
    with Hostile({"RCPT": b"550 5.1.1 no\r\n"}, pair, pieces=1, ill=1, user="me") as host:
        for refused in (True, False):
            with smtplib.SMTP("127.0.0.1", host.port, timeout=30) as client:
                client.starttls(context=pair.client())
                client.login("me", "secret")
                client.mail("a@c.example")
                assert client.rcpt("b@t.example")[0] == (550 if refused else 250)
                assert client.data(BODY)[0] == 250
    assert len(host.messages) == 2
    assert sum(line.upper().startswith(b"RCPT TO:<B@T.") for line in host.heard()) == 2


@pytest.mark.parametrize("cut", [1, 26])
def test_a_hostile_one_closes_behind_so_many_bytes(cut):
    with Hostile(cut=cut) as host, socket.create_connection(("127.0.0.1", host.port), 30) as client:
        assert len(b"".join(iter(lambda: client.recv(100), b""))) == cut


def test_smtp_sink_counts():
    with Sink() as sink:
        for _ in range(2):
            with smtplib.SMTP("127.0.0.1", sink.port, timeout=30) as client:
                client.sendmail("a@c.example", ["b@t.example"], BODY)
        sink.wait(2)


def test_postfix_delivers(pair):
    with Postfix(pair) as host:
        with smtplib.SMTP("127.0.0.1", host.port, timeout=30) as client:
            client.starttls(context=pair.client())
            client.sendmail("a@c.example", ["b@t.example", "c@t.example"], b"Subject: x\r\n\r\n.x\r\n")
        for file in host.wait(2):
            assert file.endswith(b"\n\n.x\n")
        assert "status=sent" in host.log()
