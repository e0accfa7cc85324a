"""Checklist D7: RSET, NOOP, HELP, VRFY, EXPN, QUIT."""

import pytest

from deadline import wait_for


@pytest.mark.parametrize("state", "GEMR")
def test_d7_01_rset(smtpd, state):
    with smtpd.session(state) as client:
        client.command("RSET", 250, "2.0.0")
        client.command("DATA", 503, "5.5.1")
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")
        if state == "G":
            client.command("MAIL FROM:<a@c.example>", 503, "5.5.1")
        else:
            client.command("MAIL FROM:<a@c.example>", 250, "2.1.0")


def test_d7_01_rset_forgets_recipients(smtpd, stored):
    with smtpd.session("R") as client:
        client.command("RSET", 250, "2.0.0")
        id = client.mail(sender="a2@c.example", recipients=["b2@t.example"])
    message = stored.message(id)
    assert (message.mail_from, message.recipients) == ("a2@c.example", ["b2@t.example"])


@pytest.mark.parametrize("line", ["NOOP", "NOOP hi there", "NOOP \xc3\xa9".encode("latin-1")])
def test_d7_02_noop(smtpd, line):
    with smtpd.session("R") as client:
        client.command(line, 250, "2.0.0")
        client.command("DATA", 354)


@pytest.mark.parametrize("line", ["HELP", "HELP MAIL", "HELP nonsense"])
def test_d7_03_help(smtpd, line):
    with smtpd.session("R") as client:
        client.command(line, (214, 211), "2.0.0")
        client.command("DATA", 354)


@pytest.mark.parametrize("line", ["VRFY bob", "VRFY <b@t.example>", "VRFY postmaster"])
def test_d7_04_vrfy(smtpd, line):
    with smtpd.session("R") as client:
        client.command(line, 252, "2.0.0")
        client.command("DATA", 354)


def test_d7_05_vrfy_without_argument(smtpd):
    with smtpd.session("E") as client:
        client.command("VRFY", 501, "5.5.4")
        client.alive()


def test_d7_06_expn(smtpd):
    with smtpd.session("G") as client:
        assert "EXPN" not in client.ehlo()
        client.command("EXPN list", 502, "5.5.1")
        client.alive()


@pytest.mark.parametrize("state", "GEMR")
def test_d7_07_quit(smtpd, stored, state):
    with smtpd.session(state) as client:
        client.quit()
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert stored.new() == []


def test_d7_08_input_after_quit(smtpd, stored):
    with smtpd.session("R") as client:
        client.send("QUIT\r\nNOOP\r\nDATA\r\nx\r\n.\r\n")
        client.reply(221, "2.0.0")
        client.expect_close()
    assert stored.new() == []
