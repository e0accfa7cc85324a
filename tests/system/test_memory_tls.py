"""What a client can make smtpd hold under TLS. Nearly all of it is OpenSSL's; all of it is bounded.

The ceilings have room for how the heap happens to lie; the figures themselves are printed.
"""

import contextlib
import resource
import ssl

import pytest

import smtp
import tls
from deadline import wait_for
from programs import memory_slack
from scale import scaled

KIB = 1024
COUNT = scaled(2000, 200)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

pytestmark = pytest.mark.deadline(600)


@pytest.fixture
def smtpd(programs, spool, pair):
    """An smtpd that has spoken TLS before: what is set up once is no matter of a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=COUNT, **pair.settings())
    for version in VERSIONS:
        smtpd.session("E", tls=pair.client(version)).close()
    yield smtpd
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def each_holds(smtpd, connect, ceiling):
    """So many connections, of which connect() makes one: each costs less than the ceiling."""
    before = smtpd.memory()
    clients = [connect() for _ in range(COUNT)]
    held = smtpd.memory() - before
    print(f"{COUNT} connections: {held / COUNT / KIB:.1f} KiB each")
    assert held < memory_slack(COUNT * ceiling)
    for client in clients:
        client.close()
    wait_for(lambda: smtpd.descriptors() < COUNT, "the connections are over")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_silent_hold_what_openssl_keeps(smtpd, pair, version):
    def connect():
        return smtp.session(address, "E", tls=context)

    address, context = smtpd.address, pair.client(version)
    each_holds(smtpd, connect, 20 * KIB)
    each_holds(smtpd, connect, 4 * KIB)   # what the first held is used again: nothing is lost


def test_a_part_of_a_record_holds_one_buffer(smtpd, pair):
    def connect():
        client = smtp.session(address, "E", tls=context)
        client.send_raw(b"\x17\x03\x03\x40")
        return client

    address, context = smtpd.address, pair.client()
    each_holds(smtpd, connect, 40 * KIB)


def test_a_handshake_holds_what_openssl_needs_for_it(smtpd):
    """Most of all for a ClientHello that is not yet whole. One that says it will be very long is refused,
    as soon as OpenSSL asks for room for it: at once, or when so much has come."""
    def connect(first):
        client = smtp.session(address, "E")
        client.command("STARTTLS", 220, "2.0.0")
        client.send_raw(first)
        return client

    address, hello = smtpd.address, tls.client_hello()
    each_holds(smtpd, lambda: connect(hello[:-1]), 88 * KIB)
    before = len(smtpd.log(event="tls_failed"))
    with connect(b"\x16\x03\x01\x00\x06\x01\x01\xff\xff\x03\x03") as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(3):
                client.send_raw(b"\x16\x03\x01\x40\x00" + bytes(1 << 14))
        wait_for(lambda: len(smtpd.log(event="tls_failed")) > before, "too long a ClientHello")
