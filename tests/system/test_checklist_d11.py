"""Checklist D11: CHUNKING."""

import re

import pytest

from deadline import wait_for
from programs import memory_slack
from scale import scaled
from smtp import bdat

MIB = 1 << 20
GIB = 1 << 30


def begin(client):
    """A transaction, up to its content."""
    client.command("MAIL FROM:<a@c.example>", 250)
    client.command("RCPT TO:<b@t.example>", 250)


def sent(client, stored, *chunks):
    """Sends a message in these chunks, waiting for each reply; returns what was stored."""
    for number, chunk in enumerate(chunks, 1):
        client.bdat(chunk, last=number == len(chunks))
        reply = client.reply(250, "2.0.0")
    return stored.message(reply.id)


def test_d11_01_one_chunk(smtpd, stored):
    with smtpd.session("R") as client:
        client.bdat(b"abc", last=True)
        reply = client.reply(250, "2.0.0")
        client.expect_silence(0.1)
        client.alive()
    assert stored.new() == [reply.id]
    message = stored.message()
    assert (message.body, message.mail_from) == (b"abc", "a@c.example")
    assert message.recipients == ["b@t.example"]
    assert message.raw.endswith(b"\r\nabc")


@pytest.mark.parametrize("size", [3, 3_000_000], ids=["held in memory", "written in pieces"])
def test_d11_01_durable_before_the_reply(programs, spool, faults, size):
    smtpd = programs.smtpd(spool, **faults.settings())
    with smtpd.session("R") as client:
        faults.forget()
        client.bdat(b"x" * size, last=True)
        client.reply(250, "2.0.0")
        calls = faults.trace()
    before = calls[:calls.index("reply")]
    assert calls.count("reply") == 1 and before.count("rename") == 1
    renamed = before.index("rename")
    assert "fsync" in before[renamed:] or "syncfs" in before[renamed:], calls


def test_d11_02_several_chunks(smtpd, stored):
    with smtpd.session("R") as client:
        client.bdat(b"abc")
        client.reply(250, "2.0.0")
        assert stored.new() == []
        client.alive()
        client.bdat(b"def\r\n")
        client.reply(250, "2.0.0")
        client.bdat(b"", last=True)
        id = client.reply(250, "2.0.0").id
    assert stored.message(id).body == b"abcdef\r\n"


@pytest.mark.parametrize("chunks", [[b""], [b"", b""], [b"", b"abc"], [b"abc", b"", b"", b""]],
                         ids=repr)
def test_d11_02_empty_chunks(smtpd, stored, chunks):
    with smtpd.session("R") as client:
        assert sent(client, stored, *chunks).body == b"".join(chunks)


def test_d11_02_words_in_any_case(smtpd, stored):
    with smtpd.session("R") as client:
        client.send(b"bDaT 3\r\nabcBDAT 0 lAsT\r\n")
        client.reply(250, "2.0.0")
        assert stored.message(client.reply(250, "2.0.0").id).body == b"abc"


@pytest.mark.parametrize("body", [
    b"x\r\n.\r\n..y", b".\r\n", b"..", b"\r\n.\r\n", b".", b"\r\n", bytes(range(256)), b"\n.\n",
    b"\r.\r",
    b"no line end", b"BDAT 3 LAST\r\nQUIT\r\n",
], ids=repr)
@pytest.mark.parametrize("sizes", [None, 1], ids=["whole", "bytewise"])
def test_d11_03_no_dot_handling(smtpd, stored, body, sizes):
    with smtpd.session("R") as client:
        client.bdat(body, last=True, sizes=sizes)
        assert stored.message(client.reply(250, "2.0.0").id).body == body
        client.alive()


PIECES = "Subject: é\r\n\r\n.\r\n..\r\nü\r\n".encode()


def test_d11_04_every_boundary(smtpd, stored):
    with smtpd.session("E") as client:
        for cut in range(len(PIECES) + 1):
            begin(client)
            assert sent(client, stored, PIECES[:cut], PIECES[cut:]).body == PIECES


def test_d11_04_chunks_of_one_octet(smtpd, stored):
    with smtpd.session("R") as client:
        assert sent(client, stored, *(bytes([octet]) for octet in PIECES)).body == PIECES


@pytest.mark.parametrize("sizes", [None, 1, 7, 64])
def test_d11_04_pipelined(smtpd, stored, sizes):
    # RFC 3030, section 4.2: the commands, the chunks and all may go out at once.
    wire = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\n"
    wire += b"".join(bdat(PIECES[at:at + 5]) for at in range(0, len(PIECES), 5))
    wire += bdat(b"", last=True) + b"NOOP\r\n"
    with smtpd.session("E") as client:
        client.send(wire, sizes=sizes)
        client.reply(250, "2.1.0")
        client.reply(250, "2.1.5")
        for _ in range(0, len(PIECES), 5):
            client.reply(250, "2.0.0")
        assert stored.message(client.reply(250, "2.0.0").id).body == PIECES
        client.reply(250, "2.0.0")
        client.expect_silence(0.1)


def test_d11_04_hops_are_counted_across_chunks(smtpd, stored):
    header = b"".join(b"Received: from h%d.example\r\n\tby x.example; date\r\n" % number
                      for number in range(101)) + b"\r\nx"
    with smtpd.session("R") as client:
        for at in range(0, len(header), 11):
            client.bdat(header[at:at + 11])
        client.bdat(b"", last=True)
        codes = {client.reply().code for _ in range(0, len(header), 11)}
        client.reply((503, 554))
        assert codes <= {250, 503, 554}
        client.alive()
    assert stored.new() == []


@pytest.mark.parametrize("size", [scaled(64, 8) * MIB])
def test_d11_04_large_chunks_in_small_memory(programs, spool, size):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=256 * MIB)
    piece = bytes(range(256)) * (MIB // 256)
    with smtpd.session("R") as client:
        before = most = smtpd.memory()
        client.send(b"BDAT %d\r\n" % (size // 2))
        for number in range(size // MIB):
            if number == size // MIB // 2:
                client.reply(250, "2.0.0")
                client.send(b"BDAT %d LAST\r\n" % (size // 2))
            client.send(piece)
            most = max(most, smtpd.memory())
        id = client.reply(250, "2.0.0").id
    assert most - before < memory_slack(8 * MIB)
    assert spool.message(id).body == piece * (size // MIB)


@pytest.mark.parametrize("at, code", [("G", 503), ("E", 503), ("M", 503)])
@pytest.mark.parametrize("last", [False, True])
def test_d11_05_octets_of_an_unwanted_chunk_are_no_commands(smtpd, stored, at, code, last):
    with smtpd.session(at) as client:
        client.send(bdat(b"NOOP\n", last) + b"NOOP\r\n" + bdat(b"QUIT\r\nRSET\r\n", last)
                    + bdat(b"", last)
                    + b"NOOP\r\n")
        client.reply(code, "5.5.1")
        client.reply(250, "2.0.0")
        client.reply(code, "5.5.1")
        client.reply(code, "5.5.1")
        client.reply(250, "2.0.0")
        client.expect_silence(0.1)
        # The state is what it was.
        client.command("MAIL FROM:<a@c.example>", 250 if at == "E" else 503)
    assert stored.new() == []


def test_d11_05_after_refused_recipients(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_REJECT_RECIPIENTS="bad@")
    with smtpd.session("M") as client:
        client.send(b"RCPT TO:<bad@t.example>\r\n" + bdat(b"NOOP\r\n")
                    + bdat(b"RSET\r\n", last=True)
                    + b"NOOP\r\n")
        client.reply(550, "5.1.1")
        client.reply((503, 554), "5.5.1")
        client.reply((503, 554), "5.5.1")
        client.reply(250, "2.0.0")
        client.command("RCPT TO:<b@t.example>", 250)
        assert sent(client, spool, b"x").body == b"x"


@pytest.mark.parametrize("line", ["DATA", "MAIL FROM:<a@c.example>", "RCPT TO:<c@t.example>"])
def test_d11_06_other_commands_between_chunks(smtpd, stored, line):
    with smtpd.session("R") as client:
        client.bdat(b"abc")
        client.reply(250, "2.0.0")
        client.command(line, 503, "5.5.1")
        client.alive()
        client.command("RSET", 250, "2.0.0")
        begin(client)
        client.command("DATA", 354)
        client.content(b"x")
        assert stored.message(client.reply(250, "2.0.0").id).body == b"x\r\n"
    assert len(stored.new()) == 1


def test_d11_07_chunk_after_the_last(smtpd, stored):
    with smtpd.session("R") as client:
        client.send(bdat(b"abc", last=True) + bdat(b"abc") + bdat(b"NOOP\r\n", last=True)
                    + b"NOOP\r\n")
        id = client.reply(250, "2.0.0").id
        client.reply(503, "5.5.1")
        client.reply(503, "5.5.1")
        client.reply(250, "2.0.0")
        client.expect_silence(0.1)
    assert stored.new() == [id] and stored.message().body == b"abc"


@pytest.mark.parametrize("first, size", [(1001, 1000), (5000, 1000), (3 * MIB, 2 * MIB)])
def test_d11_08_too_big_chunk(programs, spool, first, size):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=size)
    with smtpd.session("R") as client:
        client.send(bdat(b"x" * first) + bdat(b"NOOP\r\n") + bdat(b"RSET\r\n", last=True)
                    + b"NOOP\r\n")
        client.reply(552, "5.3.4")
        client.reply(503, "5.5.1")
        client.reply(503, "5.5.1")
        client.reply(250, "2.0.0")
        client.expect_silence(0.1)
        wait_for(lambda: spool.tmp() == [], "tmp/ is clean")
        begin(client)
        assert sent(client, spool, b"x" * size).body == b"x" * size
    assert len(spool.new()) == 1


def test_d11_08_nothing_is_written_of_a_chunk_that_is_too_big(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=20 * MIB)
    with smtpd.session("R") as client:
        client.send(b"BDAT %d LAST\r\n" % (20 * MIB + 1))
        for _ in range(20):
            client.send(b"x" * MIB)
            assert spool.tmp() == []
        client.send(b"x")
        client.reply(552, "5.3.4")
    assert spool.new() == [] and spool.tmp() == []


def test_d11_08_too_big_by_the_second_chunk(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=1000)
    with smtpd.session("R") as client:
        client.send(bdat(b"x" * 600) + bdat(b"y" * 401) + bdat(b"z" * 10, last=True) + b"NOOP\r\n")
        client.reply(250, "2.0.0")
        client.reply(552, "5.3.4")
        client.reply(503, "5.5.1")
        client.reply(250, "2.0.0")
    wait_for(lambda: spool.tmp() == [], "tmp/ is clean")
    assert spool.new() == []


def test_d11_08_exactly_the_limit(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=1000)
    with smtpd.session("R") as client:
        message = sent(client, spool, b"." * 600, b"\r\n" * 200, b"")
    assert message.body == b"." * 600 + b"\r\n" * 200


@pytest.mark.parametrize("call, error, code, enhanced", [
    ("write", "EIO", 451, "4.3.0"), ("write", "ENOSPC", 452, "4.3.1"),
    ("rename", "EIO", 451, "4.3.0"),
])
@pytest.mark.parametrize("size", [100, 3_000_000], ids=["small", "large"])
def test_d11_08_disk_that_fails(programs, spool, faults, call, error, code, enhanced, size):
    smtpd = programs.smtpd(spool, **faults.settings())
    with smtpd.session("R") as client:
        faults.fail(call, error)
        client.bdat(b"x" * size, last=True)
        client.reply(code, enhanced)
        client.alive()
        assert spool.new() == [] and spool.tmp() == []
        faults.clear()
        begin(client)
        sent(client, spool, b"after")
    assert spool.message().body == b"after"


def test_d11_09_rset_between_chunks(smtpd, stored):
    with smtpd.session("R") as client:
        client.bdat(b"first")
        client.reply(250, "2.0.0")
        client.command("RSET", 250, "2.0.0")
        client.bdat(b"NOOP\r\n", last=True)
        client.reply(503, "5.5.1")
        client.command("MAIL FROM:<a2@c.example>", 250)
        client.command("RCPT TO:<b2@t.example>", 250)
        message = sent(client, stored, b"second")
    assert stored.new() == [message.id] and stored.tmp() == []
    assert (message.mail_from, message.recipients) == ("a2@c.example", ["b2@t.example"])
    assert message.body == b"second"


@pytest.mark.parametrize("hello", ["EHLO", "HELO"])
def test_d11_09_hello_between_chunks(smtpd, stored, hello):
    with smtpd.session("R") as client:
        client.bdat(b"first")
        client.reply(250, "2.0.0")
        client.command(f"{hello} c2.example", 250)
        assert stored.tmp() == []
        begin(client)
        assert sent(client, stored, b"second").body == b"second"
    assert len(stored.new()) == 1


MALFORMED = ["BDAT", "BDAT ", "BDAT x", "BDAT -1", "BDAT +1", "BDAT 1 LASTX", "BDAT 1 LAS",
             "BDAT LAST",
             "BDAT 1 LAST x", "BDAT 1LAST", "BDAT 0x10", "BDAT 1.0", "BDAT 18446744073709551616",
             "BDAT 99999999999999999999999 LAST", "BDAT 1 2", "BDAT ,1"]


@pytest.mark.parametrize("at", "GEMR")
def test_d11_10_malformed(smtpd, stored, at):
    for line in MALFORMED:
        with smtpd.session(at) as client:
            client.send(f"{line}\r\nMAIL FROM:<evil@c.example>\r\nNOOP\r\n")
            client.reply(501, "5.5.4")
            client.expect_close()
    assert stored.new() == [] and stored.tmp() == []


def test_d11_10_malformed_between_chunks(smtpd, stored):
    with smtpd.session("R") as client:
        client.bdat(b"abc")
        client.reply(250, "2.0.0")
        client.command("BDAT 3 FIRST", 501, "5.5.4")
        client.expect_close()
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert stored.new() == []


@pytest.mark.parametrize("at, code, enhanced", [("R", 552, "5.3.4"), ("E", 503, "5.5.1")])
def test_d11_11_huge_chunk(programs, spool, at, code, enhanced):
    size = scaled(10_240, 128) * MIB
    smtpd = programs.smtpd(spool, SMTPD_MAX_SIZE=MIB)
    with smtpd.session(at) as client:
        before = most = smtpd.memory()
        client.send(b"BDAT %d LAST\r\n" % size)
        for _ in range(size // MIB):
            client.send(b"x" * MIB)
            most = max(most, smtpd.memory())
        assert spool.tmp() == []
        client.reply(code, enhanced)
        client.alive()
    assert most - before < memory_slack(4 * MIB)
    assert spool.new() == []


@pytest.mark.parametrize("size", [10 * GIB, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_d11_11_size_is_believed(smtpd, stored, size, last):
    """Nothing is refused before the octets have come, and nothing of them is a command."""
    with smtpd.session("R") as client:
        client.send(b"BDAT %d%s\r\n" % (size, last) + b"QUIT\r\nNOOP\r\n" * 10_000)
        client.expect_silence(0.2)
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert stored.new() == []


@pytest.mark.parametrize("chunks", [b"BDAT 10 LAST\r\nabc", b"BDAT 3\r\nabc", b"BDAT 10 LAST\r\n",
                                    b"BDAT 3\r\nabcBDAT 10 LAST\r\nabc",
                                    b"BDAT 3\r\nabcBDAT 0 LAST\r",
                                    b"BDAT 3000000 LAST\r\n" + b"x" * 2_999_999], ids=range(6))
@pytest.mark.parametrize("end", ["half_close", "reset", "close"])
def test_d11_12_lost_connection(smtpd, stored, chunks, end):
    with smtpd.session("R") as client:
        client.send(chunks)
        getattr(client, end)()
        if end == "half_close":
            client.rest()
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    smtpd.session("E").quit()
    assert stored.new() == []


@pytest.mark.parametrize("sizes", [None, 1, [14], [17], [16], [18]])
def test_d11_13_octets_after_the_chunk(smtpd, stored, sizes):
    with smtpd.session("R") as client:
        client.send(b"BDAT 3 LAST\r\nabcNOOP\r\nMAIL FROM:<a2@c.example>\r\n", sizes=sizes)
        id = client.reply(250, "2.0.0").id
        client.reply(250, "2.0.0")
        client.reply(250, "2.1.0")
        client.expect_silence(0.05)
    assert stored.message(id).body == b"abc"


def test_d11_13_end_of_data_in_a_chunk_is_none(smtpd, stored):
    """What one protocol's end is may not become the other's."""
    with smtpd.session("R") as client:
        client.bdat(b"x\r\n.")
        client.reply(250, "2.0.0")
        client.command("RSET", 250)
        begin(client)
        client.command("DATA", 354)
        client.send(b"\r\ny\r\n.\r\n")
        assert stored.message(client.reply(250, "2.0.0").id).body == b"\r\ny\r\n"


def test_d11_14_close_notify_inside_a_chunk(programs, spool, pair):
    """After CVE-2026-45185: an end of TLS inside a chunk, and octets in the clear behind it."""
    smtpd = programs.smtpd(spool, **pair.settings())
    descriptors = smtpd.descriptors()
    for state, wire in [("R", b"BDAT 100 LAST\r\n" + b"x" * 50), ("E", b"BDAT 100\r\n" + b"x" * 50),
                        ("R", b"BDAT 50\r\n" + b"x" * 50), ("D", b"half a line"), ("E", b"NO")]:
        for raw in (b"x", b"\r\n.\r\n", b"NOOP\r\n" * 1000):
            client = smtpd.session(state, tls=pair.client())
            client.send_raw(client.tls.encrypt(wire) + client.tls.close_notify() + raw)
            assert b"queued as" not in client.rest()
            client.close()
    wait_for(lambda: smtpd.descriptors() <= descriptors, "every connection is over")
    assert spool.new() == [] and spool.tmp() == []
    smtpd.session("E", tls=pair.client()).alive()


def test_d11_15_data_still_works(smtpd, stored):
    with smtpd.session("G") as client:
        assert client.ehlo()["CHUNKING"] == ""
        ids = []
        for number in range(6):
            if number % 2:
                begin(client)
                ids.append(sent(client, stored, b"%d\r\n" % number).id)
            else:
                ids.append(client.mail(b"%d" % number))
    assert [stored.message(id).body for id in ids] == [b"%d\r\n" % number for number in range(6)]


def test_d11_15_received_field_is_the_same(smtpd, stored):
    with smtpd.session("E") as client:
        one = stored.message(client.mail())
        begin(client)
        other = sent(client, stored, b"x")
    fields = [re.sub(r"id \S+|;.*", "", message.received_field) for message in (one, other)]
    assert fields[0] == fields[1] and one.protocol == other.protocol
