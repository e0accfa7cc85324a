"""Checklist D8: PIPELINING."""

import socket
import time

import pytest

import smtp
from programs import memory_slack
from scale import scaled

MIB = 1 << 20


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool):
    return module_programs.smtpd(module_spool, SMTPD_REJECT_RECIPIENTS="bad@")


def test_d8_01_keyword(smtpd):
    with smtpd.session("G") as client:
        assert client.ehlo()["PIPELINING"] == ""


@pytest.mark.parametrize("sizes", [None, 1, 7])
def test_d8_02_replies_in_order(smtpd, stored, sizes):
    with smtpd.session("E") as client:
        client.send("MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nRCPT TO:<c@t.example>\r\n"
                    "DATA\r\n", sizes=sizes)
        for code, enhanced in [(250, "2.1.0"), (250, "2.1.5"), (250, "2.1.5"), (354, None)]:
            client.reply(code, enhanced)
        client.content(b"x")
        id = client.reply(250, "2.0.0").id
    assert stored.message(id).recipients == ["b@t.example", "c@t.example"]


def test_d8_03_data_refused_without_recipient(smtpd):
    with smtpd.session("E") as client:
        client.send("MAIL FROM:<a@c.example>\r\nRCPT TO:<bad@t.example>\r\nDATA\r\n")
        for code, enhanced in [(250, "2.1.0"), (550, "5.1.1"), (554, "5.5.1")]:
            client.reply(code, enhanced)
        client.alive()


def test_d8_04_no_354_without_recipient(smtpd, stored):
    with smtpd.session("E") as client:
        client.send("MAIL FROM:<a@c.example>\r\n" + "RCPT TO:<bad@t.example>\r\n" * 3
                    + "DATA\r\nRSET\r\nNOOP\r\n")
        codes = [client.reply().code for _ in range(7)]
        client.alive()
    assert codes == [250, 550, 550, 550, 554, 250, 250]
    assert stored.new() == [] and stored.tmp() == []


def test_d8_05_input_is_never_flushed(smtpd):
    with smtpd.session("E") as client:
        client.send("FOO\r\nMAIL bad\r\nNOOP\r\n")
        client.reply(500, "5.5.1")
        client.reply(501, "5.5.4")
        client.reply(250, "2.0.0")


def test_d8_06_one_octet_at_a_time(smtpd):
    with smtpd.session("G") as client:
        for line, code in [("EHLO c.example", 250), ("NOOP", 250), ("VRFY bob", 252),
                           ("EXPN x", 502), ("FOO", 500), ("MAIL FROM:<a@c.example>", 250),
                           ("RCPT TO:<b@t.example>", 250), ("DATA", 354)]:
            client.send(line + "\r\n", sizes=1, pause=0.001)
            client.reply(code, bare=line.startswith("EHLO"))
        client.send(b"x\r\n.\r\n", sizes=1, pause=0.001)
        client.reply(250, "2.0.0")
        client.send("QUIT\r\n", sizes=1, pause=0.001)
        client.reply(221, "2.0.0")
        client.expect_close()


SESSION = (b"EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\n"
           b"RCPT TO:<bad@t.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nNOOP\r\nQUIT\r\n")


@pytest.mark.parametrize("how", [{}, {"sizes": 1}, {"sizes": 13}])
def test_d8_07_whole_session_in_one_segment(smtpd, stored, how):
    with smtpd.session("G") as client:
        client.send(SESSION, **how)
        client.reply(250, bare=True)
        codes = [client.reply(code).code for code in (250, 250, 550, 354, 250, 250, 221)]
        client.expect_close()
    assert len(codes) == 7
    assert stored.message().body == b"Subject: x\r\n\r\n.\r\n"


def test_d8_07_before_the_greeting_is_read(smtpd, stored):
    with smtp.Client(smtpd.address) as client:
        client.send(SESSION)
        client.half_close()
        client.greeting()
        client.reply(250, bare=True)
        for code in (250, 250, 550, 354, 250, 250, 221):
            client.reply(code)
        client.expect_close()
    assert len(stored.messages()) == 1


def test_d8_07_many_messages_in_one_segment(smtpd, stored):
    count = scaled(1000, 100)
    with smtpd.session("E") as client:
        one = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nDATA\r\n%d\r\n.\r\n"
        client.send(b"".join(one % number for number in range(count)))
        ids = []
        for _ in range(count):
            for code in (250, 250, 354):
                client.reply(code)
            ids.append(client.reply(250, "2.0.0").id)
        client.alive()
    assert [stored.message(id).body for id in ids] == [b"%d\r\n" % n for n in range(count)]
    assert ids == sorted(ids)


def test_d8_08_client_that_never_reads(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=4, SMTPD_MAX_JUNK=1_000_000)
    before, descriptors = smtpd.memory(), smtpd.descriptors()
    client = smtpd.session("E", receive_buffer=4096, timeout=1)
    most, taken = before, 0
    try:
        while taken < 64 * MIB:
            client.send(b"EHLO c.example\r\n" * 1000)
            taken += 16_000
            most = max(most, smtpd.memory())
    except (socket.timeout, ConnectionError):
        pass
    # The kernel's buffers on the way hold a few megabytes.
    assert taken < 64 * MIB, "everything was read although nobody read the replies"
    end = time.monotonic() + 60
    while smtpd.descriptors() > descriptors:
        assert time.monotonic() < end, "the connection is still there"
        most = max(most, smtpd.memory())
        time.sleep(0.1)
    assert most - before < memory_slack(2 * MIB)
    smtpd.wait_log(event="replies_not_taken", client="127.0.0.1", helo="c.example")
    client.close()
    smtpd.session("E").alive()


def test_d8_08_slow_reader_gets_every_reply(smtpd):
    with smtpd.session("E", receive_buffer=4096) as client:
        client.send(b"NOOP %s\r\n" % (b"x" * 400) * 200)
        time.sleep(0.2)
        for _ in range(200):
            client.reply(250, "2.0.0")
        client.expect_silence(0.1)


def test_d8_06_no_reply_is_held_back(smtpd):
    """Each command goes out only when the reply to the one before is there, as old clients do."""
    with smtpd.session("E") as client:
        for _ in range(3):
            client.mail()
        client.command("NOOP", 250)
