"""Checklist D14-05: whatever way a session ends, nothing of it stays."""

import collections
import contextlib
import itertools
import re
import socket
import time

import pytest

import smtp
from deadline import wait_for
from scale import scaled
from tls import client_hello

TURN = 40   # sessions at once, of one way
BALANCER = "127.0.0.77"


def quit(client):
    client.quit()


def fin(client):
    client.half_close()
    client.rest()


def closed(client):
    client.close()


def rst(client):
    client.reset()


def left_waiting(client):
    """Says nothing until the server ends it."""
    client.rest()


def errors(client):
    client.send(b"FOO\r\n" * 10)
    assert b"421" in client.rest()


def junk(client):
    client.send(b"NOOP\r\n" * 30)
    assert b"421" in client.rest()


def http(client):
    client.send(b"GET / HTTP/1.1\r\n")
    assert b"421" in client.rest()


def too_many_messages(client):
    client.send(b"MAIL FROM:<a@c.example>\r\nRSET\r\n" * 5)
    assert b"421" in client.rest()


def unread(client):
    """Leaves replies unread, so that its close is a reset."""
    client.send(b"HELP\r\n" * 5)
    time.sleep(0.01)
    client.close()


def bad_chunk(client):
    client.send(b"BDAT x\r\n")
    assert b"501" in client.rest()


def garbage(client):
    with contextlib.suppress(ConnectionError):
        client.send_raw(b"garbage\r\n" * 100)
        client.rest()
    client.close()


def close_notify(client):
    client.send_raw(client.tls.close_notify())
    client.rest()


# What a session does last before it ends.

def nothing(client):
    pass


def content(client):
    client.send(b"half a message\r\n" * 10)


def large_content(client):
    client.send(b"x" * 400_000)


def message(client):
    client.send(b"x\r\n.\r\n")


def chunk(client):
    client.send(b"BDAT 1000 LAST\r\nabc")


def whole_chunk(client):
    client.send(b"BDAT 3\r\nabc")
    client.reply(250)


def starttls(client):
    client.command("STARTTLS", 220)


def hello(client):
    client.command("STARTTLS", 220)
    client.send_raw(client_hello())


GONE = (fin, closed, rst)

# (states, under TLS, what it does last, ends)
WAYS = [
    ("GEMR", False, nothing, (quit, *GONE)),
    ("GD", False, nothing, (left_waiting,)),
    ("E", False, nothing, (errors, junk, http, too_many_messages, unread, bad_chunk)),
    ("D", False, content, (*GONE, left_waiting)),
    ("D", False, large_content, GONE),
    ("D", False, message, GONE),
    ("R", False, chunk, (*GONE, left_waiting)),
    ("R", False, whole_chunk, (quit, *GONE, left_waiting)),
    ("E", False, starttls, (*GONE, left_waiting, garbage)),
    ("E", False, hello, (*GONE, left_waiting, garbage)),
    ("GERD", True, nothing, (*GONE, close_notify)),
    ("E", True, nothing, (quit, errors, junk, http, unread, left_waiting)),
    ("D", True, content, (*GONE, close_notify, left_waiting)),
    ("R", True, chunk, (*GONE, close_notify)),
    ("R", True, whole_chunk, (*GONE, close_notify)),
]


def ways():
    for states, secure, last, ends in WAYS:
        yield from itertools.product(states, [secure], [last], ends)


def counted(metrics, name="mayfly_smtpd_connections"):
    found = re.search(rf"^{name} (\S+)$", metrics.read_text() if metrics.exists() else "", re.M)
    return float(found.group(1)) if found else None


@pytest.mark.deadline(1800)
def test_d14_05_counter_leak(programs, spool, tmp_path, pair):
    # One that waits for nobody for long, and one that nobody is too late for.
    hasty, patient = tmp_path / "hasty", tmp_path / "patient"
    settings = dict(
        SMTPD_ERROR_DELAY=0, SMTPD_MAX_ERRORS=5, SMTPD_MAX_JUNK=20, SMTPD_MAX_MESSAGES=3,
        SMTPD_MAX_CONNECTIONS_PER_CLIENT=TURN, SMTPD_MAX_CONNECTIONS=4 * TURN,
        SMTPD_PROXY_CLIENTS=BALANCER, **pair.settings())
    servers = {True: programs.smtpd(spool, METRICS_FILE=hasty, SMTPD_TIMEOUT=2, **settings),
               False: programs.smtpd(spool, METRICS_FILE=patient, **settings)}
    tls = pair.client()
    for server in servers.values():
        server.session("E", tls=tls).quit()
    bases = {waits: server.descriptors() for waits, server in servers.items()}
    # So many of each that all ways together are 10,000.
    each = scaled(10_000 // len(list(ways())), 6)
    for state, secure, last, end in ways():
        smtpd, base = servers[end is left_waiting], bases[end is left_waiting]
        for start in range(0, each, TURN):
            clients = []
            for _ in range(min(TURN, each - start)):
                clients.append(
                    smtpd.session(state, tls=tls if secure else None, source="127.0.0.5"))
                last(clients[-1])
            for client in clients:
                end(client)
                client.close()
            wait_for(lambda: smtpd.descriptors() <= base,
                     f"every descriptor is back after {last.__name__}, {end.__name__} in {state}")
    turned_away(servers[False], each)
    behind_balancer(servers[False], each)
    for waits, server in servers.items():
        wait_for(lambda: server.descriptors() <= bases[waits], "every descriptor is back")
        metrics = hasty if waits else patient
        wait_for(lambda: counted(metrics) == 0, "no connection is counted as open")
    wait_for(lambda: spool.tmp() == [], "tmp/ is clean")
    # As many of this client may come as ever.
    clients = [servers[False].session("E", source="127.0.0.5") for _ in range(TURN)]
    for client in clients:
        client.quit()


def turned_away(smtpd, count):
    """Those of a client who has too many, and those for whom there is no room at all."""
    base, full = smtpd.descriptors(), []
    for last, source, enhanced in ((1, "127.0.0.1", "4.7.0"), (4, "127.0.0.9", "4.3.2")):
        turned = 0
        while turned < count:
            fill(smtpd, base, full, last * TURN)
            late = smtp.Client(smtpd.address, source=source)
            reply = late.greeting((220, 421))
            late.reset() if turned % 2 else late.close()
            if reply.code == 421:
                assert reply.enhanced == enhanced
                turned += 1
            else:
                drop_gone(full)
    for client in full:
        client.close()


def fill(smtpd, base, full, want):
    """Has so many there, TURN of each address."""
    if len(full) < want:
        # Those who were turned away still take a place until smtpd sees them gone.
        wait_for(lambda: smtpd.descriptors() <= base + len(full), "they are gone")
    while len(full) < want:
        held = collections.Counter(client.socket.getsockname()[0] for client in full)
        free = next(one for one in map("127.0.0.{}".format, range(1, 5)) if held[one] < TURN)
        full.append(smtpd.session("G", source=free))


def drop_gone(full):
    """A server that is full has little patience: on a slow machine some had to go meanwhile, and
    were told. Nobody was let in but for them."""
    gone = [client for client in full if client.readable()]
    assert gone, "let in although it was full"
    for client in gone:
        client.reply(421)
        client.close()
        full.remove(client)


def behind_balancer(smtpd, count):
    """Headers of the PROXY protocol that are none, that are cut, and that are good."""
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\r\n"
    for wire, end in itertools.product(
            (b"EHLO c.example\r\n", b"\0" * 100, header[:20], b"", header, header + header),
            (smtp.Client.half_close, smtp.Client.close, smtp.Client.reset)):
        for _ in range(max(1, count // 18)):
            client = smtp.Client(smtpd.address, source=BALANCER)
            with contextlib.suppress(ConnectionError):
                client.send(wire)
                end(client)
                if end is smtp.Client.half_close:
                    client.rest()
            client.close()


def test_d14_05_refused_for_speaking_first(programs, spool, tmp_path):
    metrics = tmp_path / "metrics"
    smtpd = programs.smtpd(spool, METRICS_FILE=metrics, SMTPD_PREGREET=1, SMTPD_TIMEOUT=2)
    smtpd.session("E").quit()
    base = smtpd.descriptors()
    ends = (fin, closed, rst, left_waiting, lambda client: client.socket.shutdown(socket.SHUT_RDWR))
    for spoken, end in itertools.product((b"", b"EHLO c.example\r\n"), ends):
        early = []
        for _ in range(scaled(100, 5)):
            early.append(smtp.Client(smtpd.address))
            early[-1].send(spoken)
        for number, client in enumerate(early):
            if number % 2:
                client.reset()
            else:
                client.reply(554 if spoken else 220, bare=not spoken)
                end(client)
                client.close()
    wait_for(lambda: smtpd.descriptors() <= base, "every descriptor is back")
    wait_for(lambda: counted(metrics) == 0, "no connection is counted as open")
