"""Checklist D12-10 and D12-13: handshakes that fail, and those that must."""

import contextlib
import ssl
import subprocess
import time

import pytest

import smtp
import tlsfiles
from deadline import wait_for
from tls import client_hello

EOD = b"\r\n.\r\n"


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool, pair):
    return module_programs.smtpd(module_spool, **pair.settings())


def open_connections(metrics):
    """What the metrics say of connections, or None while they say nothing."""
    for line in metrics.read_text().splitlines() if metrics.exists() else ():
        name, _, value = line.partition(" ")
        if name == "mayfly_smtpd_connections":
            return float(value)


GARBAGE = [b"EHLO c.example\r\nNOOP\r\n", b"\x00" * 100, b"\xff" * 20_000,
           b"GET / HTTP/1.1\r\n\r\n",
           b"\x16\x03\x01\xff\xff" + b"x" * 100_000, b"\x16\x03\x01\x00\x00",
           b"\x15\x03\x01\x00\x02\x02\x28",
           b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + b"\0" * 16_380, b"\x80\x2e\x01\x03\x01"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda octets: repr(octets[:12]))
@pytest.mark.parametrize("hello", [b"", client_hello()[:100], client_hello()],
                         ids=["", "half", "hello"])
def test_d12_10_garbage(programs, spool, pair, garbage, hello):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=2, SMTPD_TIMEOUT=2, **pair.settings())
    clients = [smtpd.session("E") for _ in range(2)]
    for client in clients:
        client.command("STARTTLS", 220, "2.0.0")
        with contextlib.suppress(ConnectionError):
            client.send_raw(hello + garbage)
    for client in clients:
        assert b"250-mayfly" not in client.rest()
        client.close()
    served(smtpd, 2, pair)


def served(smtpd, count, pair):
    """Waits until so many places are free, fills them, and sends mail from one."""
    def mail():
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(smtp.Client(smtpd.address)) for _ in range(count)]
            if {client.reply(bare=True).code for client in clients} != {220}:
                return None
            clients[0].ehlo()
            return clients[0].starttls(pair.client()).to("E").mail()

    wait_for(mail, "the places are free")


@pytest.mark.parametrize("octets, pause", [(b"", 0), (client_hello()[:50], 0), (client_hello(), 0),
                                           (client_hello()[:-1], 0.3)],
                         ids=["nothing", "a part", "no second flight", "drop by drop"])
def test_d12_10_handshake_that_never_ends(programs, spool, pair, octets, pause):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=1, SMTPD_TIMEOUT=2, **pair.settings())
    with smtpd.session("E") as client:
        client.command("STARTTLS", 220, "2.0.0")
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for piece in smtp.pieces(octets, 1 if pause else None):
                assert time.monotonic() < start + 20, "octet by octet it may take for ever"
                client.send_raw(piece)
                time.sleep(pause)
        client.rest()
        assert time.monotonic() - start > 1
    served(smtpd, 1, pair)


@pytest.mark.parametrize("end", ["half_close", "reset", "close"])
def test_d12_10_disconnected_in_the_handshake(programs, spool, pair, tmp_path, end):
    metrics = tmp_path / "metrics"
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=4, METRICS_FILE=metrics, **pair.settings())
    hello = client_hello()
    for length in range(0, len(hello) + 1, 16):
        client = smtpd.session("E")
        client.command("STARTTLS", 220, "2.0.0")
        client.send_raw(hello[:length])
        getattr(client, end)()
        if end == "half_close":
            client.rest()
            client.close()
        wait_for(lambda: refused_or_greeted(smtpd), "the place is free")
    wait_for(lambda: open_connections(metrics) == 0, "no connection is counted")


def refused_or_greeted(smtpd):
    with smtp.Client(smtpd.address) as client:
        return client.reply(bare=True).code == 220


def test_d12_10_garbage_behind_the_handshake(smtpd, stored, client_tls):
    for wire in (b"NOOP\r\n", b"\x17\x03\x03\x00\x20" + b"x" * 32, b"\x15\x03\x03\x00\x02\x02\x00",
                 b"\x17\x03\x03\xff\xff" + b"x" * 70_000):
        with smtpd.session("R", tls=client_tls) as client:
            with contextlib.suppress(ConnectionError):
                client.send_raw(wire)
            with contextlib.suppress(ssl.SSLError):
                client.rest()
    smtpd.session("E", tls=client_tls).alive()
    assert stored.new() == []


def test_d12_10_record_that_was_changed_on_the_way(smtpd, stored, client_tls):
    with smtpd.session("D", tls=client_tls) as client:
        record = bytearray(client.tls.encrypt(b"x" * 100 + EOD))
        record[-1] ^= 1
        client.send_raw(bytes(record))
        with contextlib.suppress(ssl.SSLError):
            assert b"queued" not in client.rest()
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert stored.new() == []


def test_d12_10_end_without_close_notify_ends_no_message(smtpd, stored, client_tls):
    """An end that anybody on the way could have made is no end of data."""
    for end in ("half_close", "close_notify"):
        with smtpd.session("D", tls=client_tls) as client:
            client.send(b"half of it\r\n.\r")
            if end == "close_notify":
                client.send_raw(client.tls.close_notify())
            client.half_close()
            assert b"queued" not in client.rest()
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    assert stored.new() == []


def old_client(version):
    """A client that would speak an old version with anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version",
                         [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2],
                         ids=lambda version: version.name)
def test_d12_13_old_versions(programs, spool, tmp_path, version):
    pair = tlsfiles.make(tmp_path, "rsa")
    smtpd = programs.smtpd(spool, **pair.settings())
    context = old_client(version)
    with smtpd.session("E") as client:
        if version == ssl.TLSVersion.TLSv1_2:
            # So it is the version that is refused, and not this client.
            client.starttls(context).to("E").alive()
            return
        with pytest.raises((smtp.Closed, ssl.SSLError, ConnectionError)):
            client.starttls(context)
    smtpd.session("E", tls=pair.client()).alive()


def test_d12_13_no_renegotiation(smtpd):
    """OpenSSL's own client begins one when it reads a line with an R."""
    client = subprocess.Popen(
        ["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{smtpd.port}",
         "-tls1_2"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        client.stdin.write("R\n")
        client.stdin.flush()
        said, _ = client.communicate(timeout=60)
    finally:
        client.kill()
        client.wait()
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said or "handshake failure" in said
    smtpd.session("E").alive()


def test_d12_13_truths_of_a_handshake(smtpd, pair):
    """No compression, and no old cipher, from one who would take any."""
    def sentence(*options):
        return subprocess.run(
            ["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{smtpd.port}",
             "-CAfile", pair.cert, *options],
            input="QUIT\r\n", capture_output=True, text=True, timeout=60).stdout

    assert "Verify return code: 0 (ok)" in sentence()
    assert "Compression: NONE" in sentence("-tls1_2")
    for cipher in ("RC4", "3DES", "aNULL", "eNULL", "EXPORT"):
        said = sentence("-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
        assert "Cipher is (NONE)" in said or not said, cipher
