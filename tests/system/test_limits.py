"""What smtpd allows one client, one connection and one message: past it, the codes of the RFC,
and nobody else notices."""

import signal
import time

import smtp
from deadline import wait_for


def test_error_limit(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_ERRORS=5, SMTPD_ERROR_DELAY=0)
    with smtpd.session("E") as client:
        for _ in range(4):
            client.command("FOO", 500, "5.5.1")
        client.send("FOO\r\n" * 3)
        reply = client.reply((500, 421))
        if reply.code == 500:
            reply = client.reply(421)
        assert reply.enhanced == "4.7.0"
        client.expect_close()


def test_error_delay_is_felt_by_nobody_else(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_ERRORS=4, SMTPD_ERROR_DELAY=2)
    with smtpd.session("E") as bad, smtpd.session("E") as good:
        for _ in range(3):
            bad.send("FOO\r\n")
            start = time.monotonic()
            good.alive()
            good.mail()
            bad.reply(500, "5.5.1")
            waited = time.monotonic() - start
        assert waited >= 1.5
        assert len(spool.messages()) == 3


def test_junk_limit(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_JUNK=10)
    with smtpd.session("E") as client:
        for _ in range(5):
            for _ in range(8):
                client.alive()
            client.mail()
        client.send("NOOP\r\n" * 20)
        codes = []
        while not codes or codes[-1] != 421:
            codes.append(client.reply((250, 421)).code)
        assert 9 <= len(codes) <= 12
        client.expect_close()


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
    assert len(smtpd.log(event="refused")) == 3


def test_message_limit(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_MESSAGES=3)
    with smtpd.session("E") as client:
        for _ in range(3):
            client.mail()
        client.command("MAIL FROM:<a@c.example>", 421, "4.7.0")
        client.expect_close()
    assert len(spool.messages()) == 3


def test_connections_of_one_client(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=3)
    inside = [smtpd.session("E", source="127.0.0.2") for _ in range(3)]
    with smtp.Client(smtpd.address, source="127.0.0.2") as late:
        late.reply(421, "4.7.0")
        late.expect_close()
    smtpd.session("E", source="127.0.0.3").quit()
    inside.pop().quit()

    def served():
        with smtp.Client(smtpd.address, source="127.0.0.2") as client:
            return client.reply(bare=True).code == 220

    wait_for(served, "the client may come back")


def test_no_connection_is_counted_for_ever(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=20, SMTPD_MAX_CONNECTIONS_PER_CLIENT=20)
    base = smtpd.descriptors()
    leave = [smtp.Client.quit, smtp.Client.close, smtp.Client.reset, smtp.Client.half_close]
    for turn in range(10):
        for state in "GEMR":
            for end in leave:
                client = smtpd.session(state)
                end(client)
                client.close()
        # READY_FD may still have been open when the base was taken.
        wait_for(lambda: smtpd.descriptors() <= base, "every descriptor is back")
    assert [smtpd.session("G").close() for _ in range(20)]


def test_slow_sender(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=2, SMTPD_MIN_RATE=1000)
    with smtpd.session("D") as client:
        try:
            for _ in range(300):
                client.send(b"x")
                time.sleep(0.1)
                if client.readable():
                    break
        except ConnectionError:
            pass
        client.reply(421, "4.4.2")
        client.expect_close()
    assert spool.new() == []


def test_slow_but_steady_sender_is_served(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=1, SMTPD_MIN_RATE=100)
    with smtpd.session("D") as client:
        for _ in range(30):
            client.send(b"x" * 200)
            time.sleep(0.1)
        client.content(b"")
        client.reply(250, "2.0.0")


def test_data_takes_too_long(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_TIME=2, SMTPD_MIN_RATE=0)
    with smtpd.session("D") as client:
        end = time.monotonic() + 60
        try:
            while not client.readable():
                assert time.monotonic() < end, "no end of it"
                client.send(b"x" * 1000)
                time.sleep(0.05)
        except ConnectionError:
            pass
        client.reply(421, "4.4.2")
        client.expect_close()
    assert spool.new() == []


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
