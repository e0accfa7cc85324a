"""Checklist D13: LIMITS, AUTH, XCLIENT. PROXY has a file of its own."""

import re
import signal

import pytest


def limits(client):
    """What LIMITS offers, as {name: number}."""
    offered = client.ehlo()["LIMITS"]
    assert re.fullmatch(r"[A-Z0-9]+=[1-9][0-9]{0,5}( [A-Z0-9]+=[1-9][0-9]{0,5})*", offered), offered
    return {name: int(value) for name, value in (one.split("=") for one in offered.split(" "))}


def test_d13_01_keyword(smtpd):
    with smtpd.session("G") as client:
        offered = limits(client)
    assert set(offered) == {"RCPTMAX", "MAILMAX"} and offered["RCPTMAX"] >= 100


@pytest.mark.parametrize("recipients, messages", [(1, 1), (100, 10_000), (10_000, 999_999)])
def test_d13_01_values(programs, spool, recipients, messages):
    smtpd = programs.smtpd(spool, SMTPD_MAX_RECIPIENTS=recipients, SMTPD_MAX_MESSAGES=messages)
    with smtpd.session("G") as client:
        assert limits(client) == {"RCPTMAX": recipients, "MAILMAX": messages}


def test_d13_02_every_recipient_counts(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_RECIPIENTS=5, SMTPD_REJECT_RECIPIENTS="bad@")
    with smtpd.session("G") as client:
        limit = limits(client)["RCPTMAX"]
        client.command("MAIL FROM:<a@c.example>", 250)
        # Refused, malformed, accepted, and accepted again: each is one.
        for path, code in [("bad@t.example", 550), ("b@", 501), ("b@t.example", 250),
                           ("b@t.example", 250), ("c@t.example", 250)]:
            client.command(f"RCPT TO:<{path}>", code)
            limit -= 1
        assert limit == 0
        client.command("RCPT TO:<d@t.example>", 452, "4.5.3")
        client.command("RCPT TO:<bad@t.example>", 452, "4.5.3")
        client.command("DATA", 354)
        client.content(b"x")
        id = client.reply(250, "2.0.0").id
        # The next transaction has a count of its own.
        client.command("MAIL FROM:<a@c.example>", 250)
        for number in range(5):
            client.command(f"RCPT TO:<b{number}@t.example>", 250)
        client.command("RCPT TO:<d@t.example>", 452, "4.5.3")
        client.command("RSET", 250)
        client.command("MAIL FROM:<a@c.example>", 250)
        client.command("RCPT TO:<d@t.example>", 250)
    assert spool.message(id).recipients == ["b@t.example", "c@t.example"]


def test_d13_02_only_refused_recipients(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_RECIPIENTS=3, SMTPD_REJECT_RECIPIENTS="bad@")
    with smtpd.session("M") as client:
        for _ in range(3):
            client.command("RCPT TO:<bad@t.example>", 550, "5.1.1")
        client.command("RCPT TO:<b@t.example>", 452, "4.5.3")
        client.command("DATA", 554, "5.5.1")


def test_d13_03_every_mail_counts(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_MESSAGES=5, SMTPD_REJECT_SENDERS="spam.example")
    with smtpd.session("G") as client:
        assert limits(client)["MAILMAX"] == 5
        client.mail()
        client.command("MAIL FROM:<a@spam.example>", 550, "5.7.1")
        client.command("MAIL FROM:<a@c.example> FOO=1", 555, "5.5.4")
        client.command("MAIL FROM:<a@c.example>", 250)
        client.command("MAIL FROM:<nested@c.example>", 503, "5.5.1")
        client.command("RSET", 250)
        client.command("MAIL FROM:<a@c.example>", 421, "4.7.0")
        client.expect_close()
    assert len(spool.messages()) == 1


def test_d13_03_as_many_as_were_offered(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_MESSAGES=7)
    with smtpd.session("E") as client:
        for _ in range(7):
            client.mail()
        client.command("MAIL FROM:<a@c.example>", 421, "4.7.0")
        client.expect_close()
    assert len(spool.messages()) == 7


def test_d13_04_limits_stay_during_a_session(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_RECIPIENTS=3, SMTPD_MAX_MESSAGES=2)
    with smtpd.session("G") as client:
        before = limits(client)
        client.command("MAIL FROM:<a@c.example>", 250)
        smtpd.send_signal(signal.SIGHUP)
        for number in range(before["RCPTMAX"]):
            client.command(f"RCPT TO:<b{number}@t.example>", 250)
        client.command("RCPT TO:<over@t.example>", 452, "4.5.3")
        client.command("RSET", 250)
        assert limits(client) == before


@pytest.mark.parametrize("line", ["AUTH PLAIN AAAA", "AUTH", "AUTH LOGIN", "AUTH CRAM-MD5"])
def test_d13_05_auth_is_not_offered(smtpd, line):
    with smtpd.session("G") as client:
        assert "AUTH" not in client.ehlo()
        client.command(line, 502, "5.5.1")
        client.alive()
        client.command("MAIL FROM:<a@c.example> AUTH=<>", 250)


@pytest.mark.parametrize("line",
                         ["XCLIENT ADDR=1.2.3.4", "XCLIENT NAME=x PORT=1", "XFORWARD ADDR=1.2.3.4",
                                  "XCLIENT"])
def test_d13_09_xclient(smtpd, stored, line):
    with smtpd.session("G") as client:
        assert not {"XCLIENT", "XFORWARD"} & set(client.ehlo())
        client.command(line, 500, "5.5.1")
        client.alive()
        id = client.mail()
    assert stored.message(id).client.split()[0] == "127.0.0.1"
