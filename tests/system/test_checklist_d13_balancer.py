"""Checklist D13: who really sends headers of the PROXY protocol."""

import contextlib
import shutil
import subprocess

import pytest

import smtp
from balancer import Haproxy, program
from deadline import wait_for

PEER = "127.0.0.1"


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool):
    """One that hears a balancer on the loopback."""
    return module_programs.smtpd(module_spool, SMTPD_PROXY_CLIENTS=PEER)


def no_header_was_refused(smtpd, id):
    """`id` is a message that was accepted behind all of them."""
    smtpd.wait_log(event="accepted", id=id)
    assert smtpd.log(event="proxy_refused") == []


def delivered_with(stored, *command, text=""):
    subprocess.run([str(word) for word in command], check=True, timeout=60, input=text, text=True,
                   capture_output=True)
    return stored.message()


@pytest.mark.parametrize("options, client", [
    (["--proxy-version", 1, "--proxy-family", "TCP4", "--proxy-source", "192.0.2.1",
      "--proxy-dest", "198.51.100.25"], "192.0.2.1"),
    (["--proxy-version", 1, "--proxy-family", "TCP6", "--proxy-source", "2001:db8::1",
      "--proxy-dest", "2001:db8::25"], "2001:db8::1"),
    (["--proxy-version", 2, "--proxy-family", "AF_INET", "--proxy-source", "192.0.2.1",
      "--proxy-dest", "198.51.100.25"], "192.0.2.1"),
], ids=["v1 TCP4", "v1 TCP6", "v2 TCP4"])
@pytest.mark.skipif(not shutil.which("swaks"), reason="no swaks")
def test_d13_06_swaks(smtpd, stored, options, client):
    message = delivered_with(
        stored, "swaks", "--server", f"{PEER}:{smtpd.port}", "--from", "a@c.example",
        "--to", "b@t.example", *options, "--proxy-source-port", 56324, "--proxy-dest-port", 25)
    assert message.client == f"{client} 56324"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_d13_06_curl(smtpd, stored):
    """It names itself."""
    message = delivered_with(
        stored, "curl", "-sS", "--haproxy-protocol", "--crlf",
        f"smtp://{PEER}:{smtpd.port}/c.example", "--mail-from", "a@c.example", "--mail-rcpt",
        "b@t.example", "--upload-file", "-", text="Subject: x\n\nhello\n")
    assert message.client.split()[0] == PEER


@pytest.fixture
def haproxy():
    """A function that starts haproxy before an smtpd."""
    if not program():
        pytest.skip("no haproxy")
    with contextlib.ExitStack() as started:
        yield lambda *args, **options: started.enter_context(Haproxy(*args, **options))


HAPROXY = {
    "v1": ("send-proxy", {}),
    "v2": ("send-proxy-v2", {}),
    "v2, TLVs": ("send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
                 {"frontend": ["unique-id-format %ci:%cp-%[uuid]"]}),
    "v1, dual stack": ("send-proxy", {"host": "::"}),
    "v2, dual stack": ("send-proxy-v2", {"host": "::"}),
}


@pytest.mark.parametrize("server, options", HAPROXY.values(), ids=HAPROXY)
def test_d13_06_haproxy(smtpd, stored, haproxy, server, options):
    balancer = haproxy(smtpd, server, **options)
    with smtp.session((PEER, balancer.port), "E", source="127.0.0.9") as client:
        name = "{} {}".format(*client.socket.getsockname())
        id = client.mail()
        client.quit()
    assert stored.message(id).client == name
    assert "([127.0.0.9])" in stored.message(id).received_field
    no_header_was_refused(smtpd, id)


def test_d13_06_haproxy_ipv6(smtpd, stored, haproxy):
    balancer = haproxy(smtpd, "send-proxy-v2 proxy-v2-options crc32c", host="::1")
    with smtp.session(("::1", balancer.port), "E") as client:
        id = client.mail()
    assert stored.message(id).client.split()[0] == "::1"


def test_d13_06_haproxy_tls(programs, spool, pair, haproxy):
    smtpd = programs.smtpd(spool, SMTPD_PROXY_CLIENTS=PEER, **pair.settings())
    balancer = haproxy(smtpd, "send-proxy-v2")
    with smtp.session((PEER, balancer.port), "E", tls=pair.client(), source="127.0.0.9") as client:
        id = client.mail()
    message = spool.message(id)
    assert (message.client.split()[0], message.protocol) == ("127.0.0.9", "ESMTPS")


@pytest.mark.parametrize("server", ["send-proxy", "send-proxy-v2",
                                    "send-proxy-v2 proxy-v2-options crc32c"])
def test_d13_06_haproxy_checks(smtpd, haproxy, server):
    """Its health check comes for itself, through the same door."""
    balancer = haproxy(smtpd, f"check inter 100ms check-send-proxy {server}",
                       frontend=["option smtpchk EHLO lb.example"])
    wait_for(lambda: balancer.check_status() == "L7OK", "haproxy's check finds smtpd up")
    with smtp.session((PEER, balancer.port), "E") as client:
        no_header_was_refused(smtpd, client.mail())
