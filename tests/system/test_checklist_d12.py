"""Checklist D12: STARTTLS. The handshake has a file of its own, and so has the certificate."""

import contextlib
import signal
import ssl

import pytest

import smtp
import tlsfiles
from deadline import wait_for

EOD = b"\r\n.\r\n"


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool, pair):
    return module_programs.smtpd(module_spool, **pair.settings())


def test_d12_01_offered_only_where_it_can_be_had(smtpd, client_tls, programs, spool):
    with smtpd.session("G") as client:
        assert client.ehlo()["STARTTLS"] == ""
        client.starttls(client_tls)
        offers = client.ehlo()
        assert "STARTTLS" not in offers and "SIZE" in offers
    with programs.smtpd(spool).session("G") as client:
        assert "STARTTLS" not in client.ehlo()


@pytest.mark.parametrize("state", "EMR")
def test_d12_02_start(smtpd, client_tls, state):
    with smtpd.session(state) as client:
        client.command("STARTTLS", 220, "2.0.0")
        client.handshake(client_tls).to("E").alive()
    with smtpd.session("E") as client:
        client.command("starttls ", 220, "2.0.0")
        client.handshake(client_tls).to("E").alive()


def test_d12_02_whole_session(smtpd, stored, client_tls):
    with smtpd.session("E", tls=client_tls) as client:
        id = client.mail(b"Subject: x\r\n\r\n.dots\r\n" + b"x" * 1_000_000)
        client.quit()
        assert client.tls.ended, "no close_notify before the end"
    message = stored.message(id)
    assert message.protocol == "ESMTPS" and " with ESMTPS " in message.received_field
    assert message.body == b"Subject: x\r\n\r\n.dots\r\n" + b"x" * 1_000_000 + b"\r\n"


def test_d12_02_utf8_session(smtpd, stored, client_tls):
    with smtpd.session("E", tls=client_tls) as client:
        client.command("MAIL FROM:<é@c.example> SMTPUTF8", 250)
        client.command("RCPT TO:<b@t.example>", 250)
        client.command("DATA", 354)
        client.content(b"x")
        message = stored.message(client.reply(250).id)
    assert message.protocol == "UTF8SMTPS" and " with UTF8SMTPS " in message.received_field


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=lambda version: version.name)
def test_d12_02_versions_and_keys(programs, spool, tmp_path, kind, version):
    pair = tlsfiles.make(tmp_path, kind)
    smtpd = programs.smtpd(spool, **pair.settings())
    with smtpd.session("E", tls=pair.client(version)) as client:
        assert client.tls.version == version.name.replace("_", ".")
        client.mail(b"x" * 100_000)
        client.quit()
    assert spool.message().body == b"x" * 100_000 + b"\r\n"


@pytest.mark.parametrize("sizes, pause", [(1, 0), (1, 0.0005), (5, 0), (1000, 0.01)])
def test_d12_02_records_in_pieces(smtpd, stored, client_tls, sizes, pause):
    with smtpd.session("E") as client:
        client.starttls(client_tls, sizes=sizes, pause=pause)
        for line in ("EHLO c.example", "MAIL FROM:<a@c.example>", "RCPT TO:<b@t.example>", "DATA"):
            client.send_raw(client.tls.encrypt(line.encode() + b"\r\n"), sizes=sizes, pause=pause)
            client.reply((250, 354), bare=line.startswith("EHLO"))
        client.send_raw(client.tls.encrypt(b"x" + EOD), sizes=sizes, pause=pause)
        id = client.reply(250, "2.0.0").id
    assert stored.message(id).body == b"x\r\n"


def test_d12_02_records_of_many_connections_in_pieces(smtpd, stored, client_tls):
    """Half a record of each waits while those of others come."""
    clients = [smtpd.session("D", tls=client_tls) for _ in range(40)]
    bodies = [b"%d: " % number + bytes([65 + number % 26]) * (300 * number) for number in range(40)]
    wires = [client.tls.encrypt(body + EOD) for client, body in zip(clients, bodies)]
    cuts = [len(wire) * (number + 1) // 45 for number, wire in enumerate(wires)]
    for client, wire, cut in zip(clients, wires, cuts):
        client.send_raw(wire[:cut])
    for client in clients[::7]:
        client.expect_silence(0.02)
    for client, wire, cut in zip(clients, wires, cuts):
        client.send_raw(wire[cut:])
    for client, body in zip(clients, bodies):
        assert stored.message(client.reply(250, "2.0.0").id).body == body + b"\r\n"
        client.alive()
        client.close()


def test_d12_02_many_commands_in_one_record(smtpd, stored, client_tls):
    """What was decrypted and could not be used at once is not lost."""
    one = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nDATA\r\n%d\r\n.\r\n"
    with smtpd.session("E", tls=client_tls) as client:
        client.send(b"".join(one % number for number in range(150)) + b"QUIT\r\n")
        ids = []
        for _ in range(150):
            for code in (250, 250, 354):
                client.reply(code)
            ids.append(client.reply(250, "2.0.0").id)
        client.reply(221)
        client.expect_close()
    assert [stored.message(id).body for id in ids] == [b"%d\r\n" % n for n in range(150)]


@pytest.mark.parametrize("line", ["STARTTLS now", "STARTTLS  x", "STARTTLS <>"])
def test_d12_03_argument(smtpd, client_tls, line):
    with smtpd.session("R") as client:
        client.command(line, 501, "5.5.4")
        client.alive()
        client.command("DATA", 354)


def test_d12_04_no_memory_for_it(programs, spool, faults, pair, client_tls):
    smtpd = programs.smtpd(spool, **pair.settings(), **faults.settings())
    with smtpd.session("R") as client:
        faults.fail("SSL_new", "ENOMEM")
        client.command("STARTTLS", 454, "4.7.0")
        client.alive()
        faults.clear()
        client.command("DATA", 354)
        client.content(b"x")
        client.reply(250, "2.0.0")
        client.starttls(client_tls).to("E").alive()


def test_d12_05_not_configured(programs, spool):
    with programs.smtpd(spool).session("R") as client:
        client.command("STARTTLS", (502, 500), "5.5.1")
        client.alive()
        client.command("DATA", 354)


def test_d12_06_knowledge_is_discarded(smtpd, stored, client_tls):
    for line in ("DATA", "RCPT TO:<b@t.example>", "MAIL FROM:<a@c.example>"):
        with smtpd.session("R") as client:
            client.starttls(client_tls)
            client.command(line, 503, "5.5.1")
    with smtpd.session("R") as client:
        client.starttls(client_tls)
        client.command("EHLO other.example", 250)
        id = client.mail(sender="a2@c.example", recipients=["b2@t.example"])
    message = stored.message(id)
    assert (message.helo, message.mail_from) == ("other.example", "a2@c.example")
    assert message.recipients == ["b2@t.example"]


def test_d12_06_also_between_chunks(smtpd, stored, client_tls):
    with smtpd.session("R") as client:
        client.bdat(b"in the clear")
        client.reply(250, "2.0.0")
        reply = client.command("STARTTLS", (220, 503))
        if reply.code == 220:
            client.handshake(client_tls)
            client.bdat(b"x", last=True)
            client.reply(503, "5.5.1")
        client.quit()
    assert stored.new() == [] and stored.tmp() == []


@pytest.mark.parametrize("line", ["MAIL FROM:<a@c.example>", "DATA", "RCPT TO:<b@t.example>"])
def test_d12_07_hello_needed_again(smtpd, client_tls, line):
    with smtpd.session("E") as client:
        client.starttls(client_tls)
        client.command(line, 503, "5.5.1")
        client.to("E").mail()


@pytest.mark.parametrize("hello, protocol",
                         [("EHLO c.example", "ESMTPS"), ("HELO c.example", "SMTP")])
def test_d12_07_either_hello(smtpd, stored, client_tls, hello, protocol):
    # RFC 3848 has no word for HELO behind STARTTLS.
    with smtpd.session("E") as client:
        client.starttls(client_tls)
        client.command(hello, 250)
        assert stored.message(client.mail()).protocol == protocol


INJECTED = [b"NOOP\r\n", b"MAIL FROM:<x@y>\r\n",
            b"EHLO evil.example\r\nMAIL FROM:<evil@c.example>\r\n"
            b"RCPT TO:<victim@t.example>\r\nDATA\r\nx\r\n.\r\n", b"NO", b"\r\n", b"\0", b"QUIT\r\n",
            b"BDAT 1000\r\n", b"x" * 3000, b"STARTTLS\r\n", b"AUTH PLAIN AAAA\r\nRSET\r\n"]


@pytest.mark.parametrize("injected", INJECTED, ids=lambda octets: repr(octets[:20]))
@pytest.mark.parametrize("state", "ER")
def test_d12_08_plaintext_behind_starttls(smtpd, stored, client_tls, injected, state):
    """CVE-2011-0411: what somebody put behind STARTTLS in the clear is not done inside TLS."""
    with smtpd.session(state) as client:
        client.send(b"STARTTLS\r\n" + injected)
        client.reply(220, "2.0.0")
        client.expect_silence(0.05)
        client.handshake(client_tls)
        client.expect_silence(0.05)
        # The first thing that is answered is the first that was said inside.
        client.command("MAIL FROM:<a@c.example>", 503, "5.5.1")
        client.command("EHLO c.example", 250)
        id = client.mail()
        client.alive()
    assert stored.new() == [id]


def test_d12_08_plaintext_in_a_segment_of_its_own(smtpd, stored, client_tls):
    with smtpd.session("E") as client:
        client.command("STARTTLS", 220, "2.0.0")
        client.send(b"NOOP\r\n")
        with pytest.raises((smtp.Closed, ConnectionError, ssl.SSLError)):
            client.handshake(client_tls)
    smtpd.session("E").alive()
    assert stored.new() == []


def test_d12_08_nothing_of_a_pipelined_group_before_it_is_answered_inside(smtpd, client_tls):
    with smtpd.session("E") as client:
        client.send(b"NOOP\r\nMAIL FROM:<a@c.example>\r\nSTARTTLS\r\nRSET\r\nHELP\r\n")
        client.reply(250, "2.0.0")
        client.reply(250, "2.1.0")
        client.reply(220, "2.0.0")
        client.handshake(client_tls)
        client.expect_silence(0.1)
        client.to("E").alive()


def test_d12_09_twice(smtpd, stored, client_tls):
    with smtpd.session("R", tls=client_tls) as client:
        client.command("STARTTLS", 503, "5.5.1")
        client.alive()
        client.command("DATA", 354)
        client.content(b"x")
        assert stored.message(client.reply(250).id).protocol == "ESMTPS"


def test_d12_11_not_required_by_default(smtpd, stored):
    with smtpd.session("E", tls=None) as client:
        assert stored.message(client.mail()).protocol == "ESMTP"


def test_d12_12_required(programs, spool, pair, client_tls):
    smtpd = programs.smtpd(spool, SMTPD_REQUIRE_TLS=1, SMTPD_ERROR_DELAY=0, **pair.settings())
    with smtpd.session("G") as client:
        client.command("NOOP", 250, "2.0.0")
        assert "STARTTLS" in client.ehlo()
        for line in ("MAIL FROM:<a@c.example>", "RCPT TO:<b@t.example>", "DATA", "RSET", "VRFY b",
                     "HELP",
                     "HELO c.example", "EXPN x"):
            client.command(line, 530, "5.7.0")
        client.alive()
        client.starttls(client_tls)
        client.to("E").mail()
        client.command("RSET", 250)
        client.command("VRFY b", 252)
        client.quit()
    with smtpd.session("E") as client:
        client.quit()
    assert spool.message().protocol == "ESMTPS"


@pytest.mark.parametrize("chunk", [b"", b"NOOP\r\n", b"QUIT\r\n" * 1000])
def test_d12_12_required_and_a_chunk(programs, spool, pair, chunk):
    smtpd = programs.smtpd(spool, SMTPD_REQUIRE_TLS=1, **pair.settings())
    with smtpd.session("E") as client:
        client.bdat(chunk, last=True)
        client.reply(530, "5.7.0")
        client.expect_silence(0.1)
        client.alive()
    assert spool.new() == []


def test_d12_12_required_without_a_certificate(programs, spool):
    done = programs.run("smtpd", SPOOL=spool, SMTPD_LISTEN="127.0.0.1:0", SMTPD_REQUIRE_TLS=1)
    assert done.returncode == 78 and "SMTPD_REQUIRE_TLS" in done.stderr


def test_d12_02_shutdown(programs, spool, pair, client_tls):
    smtpd = programs.smtpd(spool, **pair.settings())
    clients = [smtpd.session(state, tls=client_tls) for state in "GEMR"]
    half = smtpd.session("E")
    half.command("STARTTLS", 220)
    smtpd.send_signal(signal.SIGTERM)
    for client in clients:
        client.reply(421, "4.3.2")
        client.expect_close()
        assert client.tls.ended
        client.close()
    assert b"421" not in half.rest(), "a reply in the clear inside the handshake"
    half.close()
    assert smtpd.wait() == 0


def test_d12_02_reply_that_is_not_read(programs, spool, pair, client_tls):
    smtpd = programs.smtpd(spool, SMTPD_TIMEOUT=2, SMTPD_MAX_JUNK=1_000_000, **pair.settings())
    descriptors = smtpd.descriptors()
    client = smtpd.session("E", tls=client_tls, receive_buffer=4096, timeout=1)
    with contextlib.suppress(TimeoutError, ConnectionError):
        for _ in range(4000):
            client.send(b"HELP\r\n" * 1000)
        raise AssertionError("everything was read although nobody read the replies")
    wait_for(lambda: smtpd.descriptors() <= descriptors, "the connection is over")
    client.close()
