"""Checklist D8-09: who speaks before the greeting, or goes on before a reply that decides what may
come next. Counted and logged, and refused only where SMTPD_PREGREET asks for it."""

import re
import signal
import time

import pytest

import smtp
from deadline import wait_for

REFUSING = {"SMTPD_PREGREET": 1, "SMTPD_ERROR_DELAY": 0}

# What is out of turn, behind a greeting that was read.
OUT_OF_TURN = {
    "EHLO": "EHLO c.example\r\nMAIL FROM:<a@c.example>\r\n",
    "HELO": "HELO c.example\r\nNOOP\r\n",
    "VRFY": "VRFY b\r\nNOOP\r\n",
    "no EHLO": "NOOP\r\nNOOP\r\n",
}


def counted(metrics, name):
    found = re.search(rf"^mayfly_smtpd_{name}_total (\d+)$", metrics.read_text(), re.M)
    return int(found.group(1)) if found else None


def test_d8_09_talk_before_the_greeting(programs, spool, tmp_path):
    metrics = tmp_path / "metrics"
    smtpd = programs.smtpd(spool, METRICS_FILE=metrics)
    smtpd.session("E").quit()
    # Stopped, it cannot greet before the client has spoken.
    smtpd.send_signal(signal.SIGSTOP)
    with smtp.Client(smtpd.address, source="127.0.0.9") as client:
        client.send("EHLO c.example\r\nNOOP\r\n")
        smtpd.send_signal(signal.SIGCONT)
        client.greeting(220)
        client.reply(250, bare=True)
        client.reply(250, "2.0.0")
        client.command("NOOP", 250)
    smtpd.stop()
    assert [entry["client"] for entry in smtpd.log(event="early_talker")] == ["127.0.0.9"]
    assert counted(metrics, "early_talkers") == 1


@pytest.mark.parametrize("spoken",
                         [b"E", b"EHLO c.example\r\n", b"\r\n", b"\x16\x03\x01", b"x" * 100_000])
def test_d8_09_talk_before_the_greeting_is_refused(programs, spool, tmp_path, spoken):
    metrics = tmp_path / "metrics"
    smtpd = programs.smtpd(spool, METRICS_FILE=metrics, **REFUSING)
    here = smtpd.address
    with smtp.Client(here, source="127.0.0.9") as early, smtp.Client(here) as patient:
        start = time.monotonic()
        early.send(spoken)
        early.reply(554, "5.5.1")
        patient.greeting(220)
        assert time.monotonic() - start >= 0.9
        patient.to("E").mail()
        patient.quit()
    smtpd.stop()
    assert {entry["client"] for entry in smtpd.log(event="early_talker")} == {"127.0.0.9"}
    assert counted(metrics, "early_talkers") == 1
    assert len(spool.messages()) == 1


def test_d8_09_gone_before_the_greeting(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_PREGREET=2)
    base = smtpd.descriptors()
    for end in (smtp.Client.close, smtp.Client.reset, smtp.Client.half_close):
        client = smtp.Client(smtpd.address)
        end(client)
    wait_for(lambda: smtpd.descriptors() <= base, "the connections are over")
    smtpd.session("E").alive()


def test_d8_09_stopped_before_the_greeting(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_PREGREET=30)
    client = smtp.Client(smtpd.address)
    wait_for(lambda: smtpd.descriptors() > 0, "it is accepted")
    time.sleep(0.2)
    smtpd.stop(seconds=25)
    client.reply(421, "4.3.2")
    client.expect_close()
    client.close()


@pytest.mark.parametrize("line", OUT_OF_TURN.values(), ids=OUT_OF_TURN.keys())
def test_d8_09_pipelining_out_of_turn_is_counted_once(programs, spool, tmp_path, line):
    metrics = tmp_path / "metrics"
    smtpd = programs.smtpd(spool, METRICS_FILE=metrics)
    with smtpd.session("G") as client:
        for _ in range(3):
            client.send(line)
            first = client.reply((250, 252), bare=line[1:].startswith(("HLO", "ELO")))
            client.reply((250, 503))
            assert first.code // 100 == 2
        # Nobody is refused for it.
        client.command("RSET", 250)
        client.to("E").mail()
    smtpd.stop()
    entry, = smtpd.log(event="early_pipelining")
    assert entry["client"] == "127.0.0.1" and entry["level"] == "info"
    assert counted(metrics, "early_pipelining") == 1


def test_d8_09_input_behind_data_and_starttls(programs, spool, pair):
    smtpd = programs.smtpd(spool, **pair.settings())
    with smtpd.session("R", tls=None) as client:
        client.send("DATA\r\nx\r\n.\r\n")
        client.reply(354)
        client.reply(250, "2.0.0")
    with smtpd.session("E", tls=None) as client:
        client.send("STARTTLS\r\nNOOP\r\n")
        client.reply(220, "2.0.0")
        client.handshake(pair.client()).to("E").alive()
    smtpd.stop()
    assert len(smtpd.log(event="early_pipelining")) == 2


@pytest.mark.parametrize("line", OUT_OF_TURN.values(), ids=OUT_OF_TURN.keys())
def test_d8_09_pipelining_out_of_turn_is_refused(programs, spool, line):
    smtpd = programs.smtpd(spool, **REFUSING)
    with smtpd.session("G") as client:
        client.send(line)
        client.reply(554, "5.5.1")
        client.reply(503, "5.5.1")
        client.command("EHLO c.example", 503, "5.5.1")
        client.command("QUIT", 221, "2.0.0")
        client.expect_close()
    smtpd.wait_log(event="early_pipelining")
    assert len(smtpd.log(event="early_pipelining")) == 1


def test_d8_09_content_out_of_turn_is_refused(programs, spool):
    smtpd = programs.smtpd(spool, **REFUSING)
    with smtpd.session("R") as client:
        client.send("DATA\r\nNOOP\r\n.\r\nQUIT\r\n")
        client.reply(554, "5.5.1")
        client.reply(503, "5.5.1")
        client.reply(503, "5.5.1")
        client.reply(221, "2.0.0")
        client.expect_close()
    assert spool.new() == []


def test_d8_09_starttls_out_of_turn_is_refused(programs, spool, pair):
    smtpd = programs.smtpd(spool, **pair.settings(), **REFUSING)
    with smtpd.session("E") as client:
        client.send("STARTTLS\r\nNOOP\r\n")
        client.reply(554, "5.5.1")
        client.reply(503, "5.5.1")
        client.quit()


def test_d8_09_pipelining_in_turn_is_welcome(programs, spool):
    """What RFC 2920 allows after EHLO, with chunks too."""
    smtpd = programs.smtpd(spool, **REFUSING)
    group = "MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\n"
    with smtpd.session("E") as client:
        client.send("RSET\r\nNOOP\r\n" + group + "DATA\r\n")
        for code in (250, 250, 250, 250, 354):
            client.reply(code)
        client.send("x\r\n.\r\n" + group + "DATA\r\n")
        for code in (250, 250, 250, 354):
            client.reply(code)
        client.send(b"y\r\n.\r\n" + group.encode() + smtp.bdat(b"a") + smtp.bdat(b"b", last=True)
                    + b"QUIT\r\n")
        for code in (250, 250, 250, 250, 250, 221):
            client.reply(code)
        client.expect_close()
    assert [message.body for message in spool.messages()] == [b"x\r\n", b"y\r\n", b"ab"]
    assert not smtpd.log(event="early_pipelining")


def test_d8_09_each_in_a_segment_of_its_own_is_no_fault(programs, spool):
    smtpd = programs.smtpd(spool, **REFUSING)
    with smtpd.session("G") as client:
        for line in ("HELO c.example", "NOOP", "VRFY b", "MAIL FROM:<a@c.example>",
                     "RCPT TO:<b@t.example>",
                     "DATA"):
            client.send(line + "\r\n", sizes=3, pause=0.002)
            client.reply(bare=line.startswith("HELO"))
        client.content(b"x")
        client.reply(250, "2.0.0")
    assert not smtpd.log(event="early_pipelining")
