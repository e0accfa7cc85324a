"""What clients can make smtpd hold: idle ones, and as many as may come, each doing its worst."""

import contextlib
import resource
import socket
import time

import pytest

import smtp
from programs import memory_slack, sanitized
from scale import scaled

KIB, MIB = 1 << 10, 1 << 20
IDLE = 2000

# What README states for 10,000 connections, in proportion and with the same part for all.
CEILING_EACH, CEILING_SHARED = 48 * KIB, 256 * MIB


def worst_recipients():
    domain = ".".join(["d" * 62] * 4)[:188]
    return "".join(f"RCPT TO:<{'l' * 61}{number:03}@{domain}>\r\n" for number in range(100))


# Each is what a connection sends behind EHLO, and never takes an answer to.
WORST = {
    "content held": "MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nDATA\r\n" + "x" * 130_000,
    "chunks held": "MAIL FROM:<a@c.example>\r\nRCPT TO:<b@t.example>\r\nBDAT 140000\r\n"
                   + "x" * 130_000,
    "recipients": "MAIL FROM:<a@c.example>\r\n" + worst_recipients(),
    "half a line": "NOOP " + "x" * 2000,
    "replies not taken": "NOOP\r\n" * 8000,
    "input behind a chunk": "FOO\r\n" * 11 + "BDAT 4000\r\n" + "x" * 4000 + "NOOP\r\n" * 20000,
    "input behind a delay": "FOO\r\n" * 12 + "NOOP\r\n" * 8000,
}


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def connections(address, count):
    """So many sockets, from as many addresses as it takes that no client has too many; their
    receive buffers are small, so that a server that is not listened to feels it."""
    opened = []
    try:
        for number in range(count):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.bind((f"127.0.1.{1 + number // 90}", 0))
            one.connect(address)
            one.setblocking(False)
            opened.append(one)
        yield opened
    finally:
        for one in opened:
            one.close()


def send_all(sockets, payload, smtpd):
    """Sends to all at once, until smtpd takes no more and rests; the most memory that was seen."""
    left = {one: memoryview(payload) for one in sockets}
    most, still = smtpd.memory(), 0
    end = time.monotonic() + 120
    while still < 10:
        worked, progress = smtpd.cpu_seconds(), False
        for one in list(left):
            with contextlib.suppress(BlockingIOError):
                left[one] = left[one][one.send(left[one][:65536]):]
                progress = True
            if not left[one]:
                del left[one]
        most = max(most, smtpd.memory())
        if not progress:
            time.sleep(0.1)
        still = 0 if progress or smtpd.cpu_seconds() - worked > 0.02 else still + 1
        assert time.monotonic() < end, "clients that do not come to an end"
    return most


def greet(sockets):
    for one in sockets:
        one.setblocking(True)
        one.settimeout(smtp.TIMEOUT)
        one.sendall(b"EHLO c.example\r\n")
        said = b""
        while b"\r\n250 " not in said:
            said += one.recv(4096)
        one.setblocking(False)


def test_idle_connection(programs, spool, many_descriptors):
    smtpd = programs.smtpd(spool, SMTPD_MAX_CONNECTIONS=2 * IDLE)
    with connections(smtpd.address, 50) as sockets:
        greet(sockets)
    before = smtpd.memory()
    with connections(smtpd.address, IDLE) as sockets:
        greet(sockets)
        each = (smtpd.memory() - before) / IDLE
    assert each < (2 * KIB if not sanitized() else 16 * KIB), f"{each} bytes a connection"


@pytest.mark.parametrize("worst", WORST.values(), ids=WORST.keys())
def test_many_at_their_worst(programs, spool, many_descriptors, worst):
    # As many as may come before the limits tighten, which ends most of this.
    count = min(scaled(8600, 500), (many_descriptors - 100) // 2 * 7 // 8)
    smtpd = programs.smtpd(spool, SMTPD_MAX_JUNK=1000000, SMTPD_ERROR_DELAY=60)
    before = smtpd.memory()
    with connections(smtpd.address, count) as sockets:
        greet(sockets)
        most = send_all(sockets, worst.encode(), smtpd)
        grown = most - before
        print(f"{count} connections: {grown / MIB:.0f} MiB, {grown / count / KIB:.1f} KiB each")
        assert grown < memory_slack(CEILING_SHARED + count * CEILING_EACH)
        # And there is room for mail.
        with smtpd.session("E", source="127.0.0.2") as client:
            client.mail()
