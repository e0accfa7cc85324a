"""relay proves who it is, and who the smarthost is: every kind of login, and every reason not to
trust, which is said once in plain words while the mail waits. Nothing secret goes where it can be read.
"""

import base64
import shutil
import ssl
import time

import pytest

import tlsfiles
from deadline import wait_for
from hostile import Hostile
from smarthost import SmartHost, server_context

SECRET = "Geheim-3Kx"
LOGIN = {"me@c.example": SECRET}


@pytest.fixture
def host(pair):
    with SmartHost(pair, users=LOGIN) as started:
        yield started


@pytest.fixture
def other_pair(tmp_path):
    """A certificate that nobody was told to trust."""
    return tlsfiles.make(tmp_path, name="other")


def arrives(spool, host):
    """The message that was put before comes to the host once."""
    host.wait()
    wait_for(lambda: not spool.relay.new() and not spool.relay.cur(), "nothing is left")
    assert len(host.transactions) == 1


def waits(spool, relay, why, *names):
    """All mail stays where it is, nobody is told but the operator: once, what to set."""
    said = relay.wait_log(level="error", event="smarthost_trouble", why=why)
    for name in names:
        assert name in said["advice"], said
    relay.hurry()
    wait_for(lambda: relay.log(event="reloaded"), "it has tried again")
    time.sleep(0.5)
    assert len(relay.log(event="smarthost_trouble")) == 1
    assert len(spool.relay.new()) == 1 and spool.relay.cur() == [] and spool.relay.failed() == []
    assert spool.new() == []


# Logins

@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_password(programs, spool, pair, mechanism):
    with SmartHost(pair, users=LOGIN, mechanisms=(mechanism,)) as host:
        programs.relay(spool, host)
        spool.relay.put()
        arrives(spool, host)
        assert host.connections[0].logins == [(mechanism, "me@c.example", SECRET)]


@pytest.mark.parametrize("text", [SECRET, SECRET + "\n", SECRET + "\nand a second line\n"],
                         ids=["bare", "a line", "two lines"])
def test_a_password_from_a_file(programs, spool, host, tmp_path, text):
    file = tmp_path / "password"
    file.write_text(text)
    programs.relay(spool, host, RELAY_PASSWORD=None, RELAY_PASSWORD_FILE=file)
    spool.relay.put()
    arrives(spool, host)


def test_a_password_with_every_printable_octet(programs, spool, pair, tmp_path):
    password = "".join(map(chr, range(32, 127))) + "é"
    file = tmp_path / "password"
    file.write_text(password)
    with SmartHost(pair, users={"me": password}) as host:
        programs.relay(spool, host, RELAY_PASSWORD=None, RELAY_PASSWORD_FILE=file)
        spool.relay.put()
        arrives(spool, host)


def test_a_token_is_read_for_each_connection(programs, spool, pair, tmp_path):
    file = tmp_path / "token"
    file.write_text("first\n")
    with SmartHost(pair, users={"me": "first"}, mechanisms=("XOAUTH2",)) as host:
        relay = programs.relay(spool, host, RELAY_PASSWORD=None, RELAY_TOKEN_FILE=file)
        spool.relay.put()
        host.wait(1)
        host.users["me"] = "second"
        file.write_text("second\n")
        host.restart()
        spool.relay.put()
        host.wait(2)
    logins = [login for connection in host.connections for login in connection.logins]
    assert logins == [("XOAUTH2", "me", "first"), ("XOAUTH2", "me", "second")]
    assert "second" not in relay.text()


def test_the_user_and_the_host_s_own_words(programs, spool, host):
    """What the host says about a login is repeated; what was said to it is not."""
    host.users["me@c.example"] = "another"
    relay = programs.relay(spool, host, RELAY_USER="me@c.example", RELAY_PASSWORD=SECRET,
                           LOG_LEVEL="debug")
    spool.relay.put()
    waits(spool, relay, "credentials", "RELAY_PASSWORD", "RELAY_PASSWORD_FILE", "RELAY_USER")
    assert SECRET not in relay.text()
    assert host.commands("MAIL") == 0
    # Mended at the host: all goes, and it is said.
    host.users["me@c.example"] = SECRET
    relay.hurry()
    relay.wait_log(event="smarthost_back")
    arrives(spool, host)


@pytest.mark.parametrize("setting, mechanism", [("RELAY_PASSWORD_FILE", "PLAIN"),
                                                ("RELAY_TOKEN_FILE", "XOAUTH2")])
def test_a_file_is_mended(programs, spool, pair, tmp_path, setting, mechanism):
    file = tmp_path / "secret"
    file.write_text("wrong\n")
    with SmartHost(pair, users=LOGIN, mechanisms=(mechanism,)) as host:
        relay = programs.relay(spool, host, RELAY_PASSWORD=None, **{setting: file})
        spool.relay.put()
        waits(spool, relay, "credentials", setting)
        file.unlink()
        relay.hurry()
        wait_for(lambda: len(relay.log(event="reloaded")) == 2, "it has tried again")
        time.sleep(0.5)
        assert len(spool.relay.new()) == 1 and relay.returncode is None
        file.write_text(SECRET)
        relay.hurry()
        arrives(spool, host)


def test_a_login_refused_for_now_is_no_wrong_password(programs, spool, host):
    host.at("AUTH", "454 4.7.0 Temporary authentication failure", times=1)
    relay = programs.relay(spool, host)
    spool.relay.put()
    assert relay.wait_log(event="smarthost_trouble")["why"] in ("throttled", "unreachable")
    arrives(spool, host)


# Who the host is

def test_implicit_tls(programs, spool, pair):
    with SmartHost(pair, implicit=True, users=LOGIN) as host:
        programs.relay(spool, host)
        spool.relay.put()
        arrives(spool, host)
        assert host.connections[0].secure and host.connections[0].user


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_a_certificate_of_nobody_we_know(programs, spool, pair, other_pair, implicit):
    with SmartHost(other_pair, implicit=implicit, users=LOGIN) as host:
        relay = programs.relay(spool, host, RELAY_CA=pair.cert)
        spool.relay.put()
        waits(spool, relay, "certificate", "RELAY_CA")
        assert said(host) == set()


def test_the_system_s_authorities_count_when_no_others_are_named(programs, spool, host):
    relay = programs.relay(spool, host, RELAY_CA=None)
    spool.relay.put()
    waits(spool, relay, "certificate", "RELAY_CA", "RELAY_HOST")
    assert said(host) == set()


def test_a_certificate_for_another_name(programs, spool, host):
    relay = programs.relay(spool, host, RELAY_HOST="localhost")
    spool.relay.put()
    waits(spool, relay, "certificate", "RELAY_HOST")
    assert said(host) == set()


def test_a_certificate_that_has_expired(programs, spool, tmp_path):
    pair = tlsfiles.make(tmp_path)
    tlsfiles.expire(pair)
    with SmartHost(pair, users=LOGIN) as host:
        relay = programs.relay(spool, host)
        spool.relay.put()
        waits(spool, relay, "certificate")
        assert said(host) == set()


def said(host):
    """What came behind TLS, which must not be set up with somebody who is not trusted."""
    return {verb for connection in host.connections
            for verb, _, secure in connection.commands if secure}


def test_a_certificate_is_mended(programs, spool, tmp_path, pair, other_pair):
    """The file of authorities is read again with SIGHUP, or by itself."""
    authority = tmp_path / "ca"
    shutil.copy(pair.cert, authority)
    with SmartHost(other_pair, users=LOGIN) as host:
        relay = programs.relay(spool, host, RELAY_CA=authority)
        spool.relay.put()
        waits(spool, relay, "certificate")
        shutil.copy(other_pair.cert, authority)
        relay.hurry()
        arrives(spool, host)


@pytest.mark.parametrize("offers", [("PIPELINING",), ("PIPELINING", "AUTH PLAIN LOGIN")],
                         ids=["nothing", "AUTH in the clear"])
def test_no_starttls_is_offered(programs, spool, pair, offers):
    with SmartHost(None, users=LOGIN, offers=offers) as host:
        relay = programs.relay(spool, host, RELAY_TLS="starttls", RELAY_CA=pair.cert)
        spool.relay.put()
        waits(spool, relay, "no_tls", "RELAY_TLS")
        assert set(sum((connection.verbs() for connection in host.connections), [])) <= \
            {"EHLO", "QUIT"}


def test_starttls_that_is_offered_and_refused(programs, spool, host):
    host.at("STARTTLS", "454 4.7.0 TLS not available")
    relay = programs.relay(spool, host)
    spool.relay.put()
    relay.wait_log(event="smarthost_trouble")
    assert host.commands("AUTH") == host.commands("MAIL") == 0
    host.behave()
    relay.hurry()
    arrives(spool, host)


def old_tls(pair):
    context = server_context(pair)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


# Where the machine's own settings would refuse nothing.
LAX = """
openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = lax
[lax]
MinProtocol = TLSv1
CipherString = DEFAULT@SECLEVEL=0
"""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_nothing_older_than_tls_1_2(programs, spool, pair, tmp_path):
    lax = tmp_path / "openssl.cnf"
    lax.write_text(LAX)
    with Hostile(pair=pair, user="me", context=old_tls(pair)) as host:
        relay = programs.relay(spool, host, OPENSSL_CONF=lax)
        spool.relay.put()
        waits(spool, relay, "no_tls", "RELAY_TLS")
        assert {line.split()[0] for line in host.heard()} == {b"EHLO", b"STARTTLS"}


def test_tls_1_2(programs, spool, pair):
    context = server_context(pair)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with SmartHost(pair, users=LOGIN, context=context) as host:
        programs.relay(spool, host)
        spool.relay.put()
        arrives(spool, host)
        assert host.connections[0].version == "TLSv1.2"


def test_a_host_that_is_not_known(programs, spool, host):
    relay = programs.relay(spool, host, RELAY_HOST="smarthost.invalid")
    spool.relay.put()
    waits(spool, relay, "unknown_host", "RELAY_HOST")
    assert host.connections == []


def test_what_is_put_behind_starttls_in_the_clear_is_not_believed(programs, spool, pair):
    """A login offered before TLS, as somebody in between may write it, is not taken up."""
    offer = b"220 2.0.0 go\r\n250-evil.example\r\n250 AUTH PLAIN\r\n"
    with Hostile({"STARTTLS": offer, "EHLO-CLEAR": b"250-x.example\r\n250-AUTH PLAIN\r\n"
                              b"250 STARTTLS\r\n"}, pair, user="me", ill=1) as host:
        relay = programs.relay(spool, host)
        spool.relay.put()
        assert relay.wait_log(event="smarthost_trouble")["why"] == "protocol"
        assert host.talks[0].heard == [b"EHLO mayfly.example", b"STARTTLS"]
        relay.hurry()
        host.wait_message(b"hello")


# Secrets

def test_check_and_help_show_no_secret(programs, spool, host, tmp_path):
    file = tmp_path / "password"
    file.write_text(SECRET)
    for settings in ({"RELAY_PASSWORD": SECRET}, {"RELAY_PASSWORD": None, "RELAY_PASSWORD_FILE": file}):
        for argument in ("--check", "--help", "--settings"):
            done = programs.run("relay", argument, SPOOL=spool, **(host.settings() | settings))
            assert done.returncode == 0 and SECRET not in done.stdout + done.stderr, done


PLAIN = base64.b64encode(b"\0me@c.example\0" + SECRET.encode()).decode()


@pytest.mark.parametrize("mechanism, sent", [
    ("PLAIN", PLAIN), ("LOGIN", base64.b64encode(SECRET.encode()).decode())])
def test_no_secret_in_the_log_whatever_happens(programs, spool, pair, mechanism, sent):
    """Not even when the host repeats what it was told."""
    with SmartHost(pair, users=LOGIN, mechanisms=(mechanism,)) as host:
        host.at("AUTH", "454 4.7.0 later", times=1)
        relay = programs.relay(spool, host, LOG_LEVEL="debug")
        spool.relay.put()
        relay.wait_log(event="smarthost_trouble")
        relay.hurry()
        host.wait(1)
        host.users["me@c.example"] = "another"
        host.restart()
        for number, secret in enumerate((SECRET, sent), 2):
            host.refusal = f"535 5.7.8 what is {secret} to me"
            before = len(host.connections)
            spool.relay.put()
            relay.hurry()
            wait_for(lambda: len(relay.log(event="reloaded")) == number, "it tries again")
            wait_for(lambda: len(host.connections) > before and host.connections[-1].logins
                     and host.open() == 0, "it is refused")
        relay.wait_log(event="smarthost_trouble", why="credentials")
        relay.stop()
    for secret in (SECRET, PLAIN, sent):
        assert secret not in relay.text()


@pytest.mark.parametrize("settings, name", [
    ({"RELAY_TLS": "none"}, "RELAY_TLS"),
    ({"RELAY_PASSWORD": None}, "RELAY_USER"),
    ({"RELAY_USER": None}, "RELAY_PASSWORD"),
    ({"RELAY_TOKEN_FILE": "/dev/null"}, "RELAY_USER"),
    ({"RELAY_PASSWORD": None, "RELAY_PASSWORD_FILE": "/nonexistent/password"}, "RELAY_PASSWORD_FILE"),
    ({"RELAY_PASSWORD": None, "RELAY_TOKEN_FILE": "/nonexistent/token"}, "RELAY_TOKEN_FILE"),
    ({"RELAY_CA": "/nonexistent/ca"}, "RELAY_CA"),
    ({"RELAY_TLS": "maybe"}, "RELAY_TLS"),
    ({"RELAY_HOST": "two words"}, "RELAY_HOST"),
    ({"RELAY_PORT": "0"}, "RELAY_PORT"),
    ({"RELAY_CONNECTIONS": "0"}, "RELAY_CONNECTIONS"),
    ({"RELAY_MAX_AGE": "soon"}, "RELAY_MAX_AGE"),
    ({"RELAY_TIMEOUT": "0"}, "RELAY_TIMEOUT"),
    ({"SMTPD_RELAY_DOMAINS": "not a domain"}, "SMTPD_RELAY_DOMAINS"),
], ids=lambda value: value if isinstance(value, str) else None)
def test_settings_that_cannot_be(programs, spool, host, settings, name):
    done = programs.run("relay", SPOOL=spool, **(host.settings() | settings))
    assert done.returncode == 78 and name in done.stderr, done
    assert SECRET not in done.stderr
