"""Checklist D1: the connection and its replies."""

import signal

import pytest

import smtp
from deadline import wait_for


def test_d1_01_server_speaks_first(smtpd):
    with smtp.Client(smtpd.address) as client:
        reply = client.greeting(220)
    assert reply.text.split()[0] == "mayfly.example"


@pytest.mark.parametrize("line", [
    "VRFY " + "v" * 500,
    "EHLO " + "e" * 480,
    "HELP " + "h" * 480,
    "EXPN " + "x" * 480,
    "MAIL FROM:<" + "m" * 480,
    "MAIL FROM:<m@c.example> " + "P" * 470,
    "RCPT TO:<" + "r" * 480,
], ids=lambda line: line[:4])
def test_d1_02_reply_lines_are_short(smtpd, line):
    with smtpd.session("M" if line.startswith("RCPT") else "E") as client:
        client.command(line)
        client.alive()


def test_d1_02_long_addresses_echoed(smtpd):
    path = "r" * 64 + "@" + ".".join(["d" * 63] * 2) + ".example"
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<{path}>", 250, "2.1.0")
        client.command(f"RCPT TO:<{path}>", 250, "2.1.5")
        client.command(f"RCPT TO:<{path}> FOO=1", 555, "5.5.4")


def test_d1_03_multi_line_replies(smtpd):
    with smtpd.session("G") as client:
        assert len(client.command("EHLO c.example", 250).lines) > 1
        client.command("HELP", (211, 214))


@pytest.mark.parametrize("hello", ["HELO", "EHLO"])
def test_d1_04_enhanced_codes(smtpd, hello):
    with smtpd.session("G") as client:
        for line, code, enhanced in [
                (f"{hello} c.example", 250, None), ("NOOP", 250, "2.0.0"), ("RSET", 250, "2.0.0"),
                ("VRFY bob", 252, "2.0.0"), ("FOO", 500, "5.5.1"), ("EXPN list", 502, "5.5.1"),
                ("DATA", 503, "5.5.1"), ("MAIL FROM:<a@c.example>", 250, "2.1.0"),
                ("RCPT TO:<b@t.example>", 250, "2.1.5"), ("DATA", 354, None)]:
            client.command(line, code, enhanced)
        client.content(b"x")
        client.reply(250, "2.0.0")
        client.command("QUIT", 221, "2.0.0")


def test_d1_05_refused_when_full(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=4)
    inside = [smtpd.session("E") for _ in range(4)]
    for _ in range(3):
        with smtp.Client(smtpd.address) as late:
            late.reply(421, "4.3.2")
            late.expect_close()
    for client in inside:
        client.alive()
    inside.pop().quit()

    def served():
        with smtp.Client(smtpd.address) as client:
            return client.reply(bare=True).code == 220

    wait_for(served, "a place becomes free")


def test_d1_06_nobody_is_greeted_with_a_refusal_by_default(smtpd):
    with smtp.Client(smtpd.address) as client:
        client.send("NOOP\r\n")
        client.greeting(220)
        client.reply(250, "2.0.0")


def test_d1_06_only_quit_works(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_PREGREET=1, SMTPD_ERROR_DELAY=0, SMTPD_MAX_ERRORS=100)
    with smtp.Client(smtpd.address) as client:
        client.send("EHLO c.example\r\n")
        client.reply(554, "5.5.1")
        # What was said before the greeting was said to nobody, or to one who refuses.
        client.send("NOOP again\r\n")
        for line in ("NOOP", "EHLO c.example", "HELO c.example", "MAIL FROM:<a@c.example>",
                     "RCPT TO:<b@t.example>", "DATA", "RSET", "HELP", "VRFY b", "STARTTLS", "FOO"):
            client.send(line + "\r\n")
        client.send(smtp.bdat(b"QUIT\r\n", last=True) + b"QUIT\r\n")
        codes = [client.reply((503, 221)) for _ in range(12)]
        last = client.reply((503, 221))
        while last.code == 503:
            codes.append(last)
            last = client.reply((503, 221))
        assert {(reply.code, reply.enhanced) for reply in codes} == {(503, "5.5.1")}
        assert len(codes) in (13, 14) and last.enhanced == "2.0.0"
        client.expect_close()
    assert spool.new() == []


def test_d1_07_shutdown_while_idle(programs, spool):
    smtpd = programs.smtpd(spool)
    clients = [smtpd.session(state) for state in "GEMR"]
    smtpd.send_signal(signal.SIGTERM)
    for client in clients:
        client.reply(421, "4.3.2")
        client.expect_close()
        client.close()
    assert smtpd.wait() == 0


@pytest.mark.parametrize("call, error, code, count", [
    ("delay", None, 250, 1),
    ("fail", "EIO", 451, 0),
], ids=["it is answered 250", "it is answered 451"])
def test_d1_07_shutdown_waits_for_the_pending_message(programs, spool, faults, call, error, code,
                                                      count):
    smtpd = programs.smtpd(spool, **faults.settings())
    waiting, idle = smtpd.session("D"), smtpd.session("E")
    if call == "delay":
        faults.delay("rename", 2)
    else:
        faults.fail("rename", error)
    waiting.content(b"x")
    if call == "delay":
        # In the commit: the file is whole in tmp/ and not yet in new/.
        wait_for(spool.tmp, "the message is being committed")
    smtpd.send_signal(signal.SIGTERM)
    idle.reply(421, "4.3.2")
    idle.close()
    waiting.reply(code)
    waiting.close()
    assert smtpd.wait() == 0
    assert len(spool.messages()) == count
    assert spool.tmp() == []


def test_d1_07_shutdown_drops_the_unfinished(programs, spool):
    smtpd = programs.smtpd(spool)
    client = smtpd.session("D")
    client.send(b"half a message\r\n" * 10_000)
    smtpd.send_signal(signal.SIGTERM)
    client.reply(421, "4.3.2")
    client.close()
    assert smtpd.wait() == 0
    assert spool.new() == [] and spool.tmp() == []


def test_d1_08_idle_timeout(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=2)
    clients = [smtpd.session(state) for state in "GERD"]
    for client in clients:
        client.reply(421, "4.4.2")
        client.expect_close()
    assert spool.new() == []


def test_d1_08_default_is_at_least_five_minutes(programs):
    checked = programs.run("smtpd", "--check")
    values = dict(line.partition("=")[::2] for line in checked.stdout.splitlines() if "=" in line)
    assert int(values["SMTPD_TIMEOUT"]) >= 300


def test_d1_09_disconnect_before_the_end(smtpd, stored):
    for leave in (smtp.Client.half_close, smtp.Client.close, smtp.Client.reset):
        client = smtpd.session("D")
        client.send(b"x\r\n")
        leave(client)
    with smtpd.session("D") as client:
        client.send(b"x" * 1_000_000)
        client.half_close()
        client.expect_close()
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert stored.new() == []


def test_d1_10_disconnect_before_the_reply(smtpd, stored):
    attempts = 20
    for number in range(attempts):
        client = smtpd.session("D")
        client.content(b"Subject: %d\r\n\r\n" % number + b"x" * number * 1000)
        client.reset()
    with smtpd.session("E") as client:
        last = client.mail(b"the last one")
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    bodies = [message.body for message in stored.messages() if message.id != last]
    assert len(bodies) == len(set(bodies)) <= attempts
    whole = {b"Subject: %d\r\n\r\n" % number + b"x" * number * 1000 + b"\r\n"
             for number in range(attempts)}
    assert set(bodies) <= whole


def test_d1_11_unknown_command_does_not_close(smtpd):
    with smtpd.session("E") as client:
        client.command("FOO", 500, "5.5.1")
        client.alive()


def test_d1_12_concurrent_sessions(smtpd, stored):
    # From several addresses: how many one client may have is another matter.
    clients = [smtpd.session("G", source=f"127.0.0.{2 + number % 4}") for number in range(200)]
    for state in ("EHLO c{0}.example", "MAIL FROM:<a{0}@c.example>", "RCPT TO:<b{0}@t.example>"):
        for number, client in enumerate(clients):
            client.send(state.format(number) + "\r\n")
        for client in clients:
            client.reply(250, bare=state.startswith("EHLO"))
    for client in clients:
        client.send("DATA\r\n")
    for client in clients:
        client.reply(354)
    for number, client in enumerate(clients):
        client.content(b"message %d" % number)
    ids = [client.reply(250, "2.0.0").id for client in clients]
    assert len(set(ids)) == 200
    for number, (id, client) in enumerate(zip(ids, clients)):
        message = stored.message(id)
        assert message.mail_from == f"a{number}@c.example"
        assert message.recipients == [f"b{number}@t.example"]
        assert message.helo == f"c{number}.example"
        assert message.body == b"message %d\r\n" % number
        client.close()
