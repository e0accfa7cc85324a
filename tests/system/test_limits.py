"""What smtpd takes of whom: its limits that are no rows of the checklist, and its lists."""

import signal

import smtp
import tlsfiles
from deadline import wait_for


def test_recipients_over_the_limit(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_RECIPIENTS=2, SMTPD_MAX_JUNK=50)
    with smtpd.session("R") as client:
        client.command("RCPT TO:<c@t.example>", 250)
        for number in range(30):
            client.command(f"RCPT TO:<d{number}@t.example>", 452, "4.5.3")
        client.command("DATA", 354)
        client.content(b"x")
        id = client.reply(250).id
    assert smtpd.wait_log(event="accepted", id=id)["refused"] == "30"
    assert len(smtpd.log(event="refused", code=452)) == 1

    with smtpd.session("M") as client:
        client.send("RCPT TO:<b@t.example>\r\n" * 100)
        codes = []
        while not codes or codes[-1] != 421:
            codes.append(client.reply((250, 452, 421)).code)
        client.expect_close()
    assert 48 <= len(codes) <= 52
    wait_for(lambda: len(smtpd.log(event="refused")) >= 3, "the log says so")
    assert len(smtpd.log(event="refused")) == 3


def test_message_limit(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_MESSAGES=3)
    with smtpd.session("E") as client:
        for _ in range(3):
            client.mail()
        client.command("MAIL FROM:<a@c.example>", 421, "4.7.0")
        client.expect_close()
    assert len(spool.messages()) == 3



def test_discarded_domain(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_DISCARD_DOMAINS="void.example")
    with smtpd.session("E") as client:
        client.mail(recipients=["b@void.example"])
        assert spool.new() == []
        id = client.mail(recipients=["b@void.example", "b@t.example"])
    assert spool.message(id).recipients == ["b@t.example"]


def test_rejected_sender(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_REJECT_SENDERS="spam.example,.spam.example")
    with smtpd.session("E") as client:
        for sender in ("a@spam.example", "a@SPAM.example", "a@x.spam.example"):
            client.command(f"MAIL FROM:<{sender}>", 550, "5.7.1")
        client.mail(sender="a@notspam.example")
        client.mail(sender="")


def test_lists_are_read_again(programs, spool, tmp_path):
    rejected = tmp_path / "rejected"
    rejected.write_text("one@t.example\n")
    smtpd = programs.smtpd(spool, SMTPD_REJECT_RECIPIENTS=f"@{rejected}")

    def code(path):
        with smtpd.session("M") as client:
            return client.command(f"RCPT TO:<{path}>").code

    with smtpd.session("M") as during:
        assert (code("one@t.example"), code("two@t.example")) == (550, 250)
        rejected.write_text("two@t.example\n")
        smtpd.send_signal(signal.SIGHUP)
        wait_for(lambda: code("two@t.example") == 550, "the list is read again")
        assert code("one@t.example") == 250
        during.command("RCPT TO:<b@t.example>", 250)


def test_typing_error_in_a_list_lifts_no_block(programs, spool, tmp_path):
    rejected = tmp_path / "rejected"
    rejected.write_text("spam.example\n")
    smtpd = programs.smtpd(spool, SMTPD_REJECT_SENDERS=f"@{rejected}")

    def code(sender):
        with smtpd.session("E") as client:
            return client.command(f"MAIL FROM:<{sender}>").code

    assert (code("a@spam.example"), code("a@c.example")) == (550, 250)
    rejected.write_text("junk.example\nspam example\n")
    smtpd.send_signal(signal.SIGHUP)
    assert smtpd.wait_log(event="list_invalid")["entry"] == "spam example"
    wait_for(lambda: code("a@c.example") == 451, "451 while the list is broken")
    assert code("a@spam.example") in (451, 550)
    rejected.write_text("spam.example\njunk.example\n")
    smtpd.send_signal(signal.SIGHUP)
    wait_for(lambda: code("a@junk.example") == 550, "the list is read again")
    assert (code("a@spam.example"), code("a@c.example")) == (550, 250)
