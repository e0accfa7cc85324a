"""Clients as they are found in the world, in the clear and with STARTTLS: what they were given
arrives, octet for octet."""

import email.message
import hashlib
import smtplib
import ssl
import subprocess

import pytest

from deadline import wait_for
from postfix import smtp_source
from scale import scaled

BODY = "Line one\n.\n..two dots\nGrüße\n" + "x" * 900 + "\n" + ".\n" * 50 + "the end\n"
# With all that a client might add.
MESSAGE = ("From: <a@c.example>\nTo: <b@t.example>\nSubject: hello\nMIME-Version: 1.0\n"
           "Date: Sat, 21 Nov 2026 19:08:11 +0000\nMessage-ID: <1@c.example>\n\n" + BODY)


def wire(text):
    """As it is on the way: lines end in CRLF."""
    return text.replace("\n", "\r\n").encode()


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool, pair):
    return module_programs.smtpd(module_spool, SMTPD_MAX_CONNECTIONS_PER_CLIENT=1000,
                                 **pair.settings())


@pytest.fixture(params=["plain", "tls"])
def secure(request):
    """Whether the client is to use TLS."""
    return request.param == "tls"


def arrived(stored, secure, message=MESSAGE, recipients=("b@t.example",)):
    """The one message, which is what the client was given."""
    got = stored.message()
    assert got.body == wire(message)
    assert (got.mail_from, got.recipients) == ("a@c.example", list(recipients))
    protocol = "ESMTPS" if secure else "ESMTP"
    assert got.protocol == protocol and f" with {protocol} " in got.received_field
    return got


def run(*command, text=None, env=None):
    done = subprocess.run([str(word) for word in command], input=text, capture_output=True,
                          text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# smtplib

def smtplib_client(smtpd, pair, secure):
    client = smtplib.SMTP(*smtpd.address, local_hostname="c.example", timeout=30)
    if secure:
        client.starttls(context=pair.client())
    return client


def test_smtplib(smtpd, stored, pair, secure):
    with smtplib_client(smtpd, pair, secure) as client:
        assert client.sendmail("a@c.example", ["b@t.example"], wire(MESSAGE)) == {}
        assert client.has_extn("pipelining") and client.has_extn("size")
        assert client.has_extn("starttls") == (not secure)
    arrived(stored, secure)


def test_smtplib_message(smtpd, stored, pair, secure):
    message = email.message.EmailMessage()
    message["From"], message["To"] = "a@c.example", "b@t.example"
    message["Subject"] = "From smtplib"
    message.set_content(BODY, cte="8bit")
    with smtplib_client(smtpd, pair, secure) as client:
        assert client.send_message(message) == {}
    header, _, body = stored.message().body.partition(b"\r\n\r\n")
    assert b"Subject: From smtplib" in header and body == wire(BODY)


def test_smtplib_utf8_and_many_recipients(smtpd, stored, pair, secure):
    recipients = [f"b{number}@t.example" for number in range(50)] + ["é@t.example"]
    with smtplib_client(smtpd, pair, secure) as client:
        client.ehlo()
        client.sendmail("a@c.example", recipients, "Subject: x\r\n\r\nx\r\n",
                        mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        assert client.verify("b@t.example")[0] == 252
        assert client.noop()[0] == 250 and client.rset()[0] == 250
        assert client.help()
    assert stored.message().recipients == recipients
    assert stored.message().protocol == ("UTF8SMTPS" if secure else "UTF8SMTP")


# curl

def curl(smtpd, pair, secure, *options, text=None):
    tls = ["--ssl-reqd", "--cacert", pair.cert] if secure else []
    return run("curl", "-sSv", *tls, f"smtp://127.0.0.1:{smtpd.port}/c.example", *options,
               text=text)


def test_curl(smtpd, stored, pair, secure):
    curl(smtpd, pair, secure, "--crlf", "--mail-from", "a@c.example", "--mail-rcpt", "b@t.example",
         "--mail-rcpt", "c@t.example", "--upload-file", "-", text=MESSAGE)
    arrived(stored, secure, recipients=["b@t.example", "c@t.example"])


@pytest.mark.parametrize("request_line", ["VRFY bob", "NOOP", "HELP"])
def test_curl_commands(smtpd, pair, secure, request_line):
    verb, _, who = request_line.partition(" ")
    said = curl(smtpd, pair, secure, "--request", verb, *(["--mail-rcpt", who] if who else []))
    assert f"> {verb}" in said


# swaks

@pytest.mark.parametrize("options", [[], ["--pipeline"], ["--protocol", "SMTP"]],
                         ids=["plain", "pipelining", "HELO"])
def test_swaks(smtpd, stored, tmp_path, options):
    said = swaks(smtpd, tmp_path, *options)
    got = stored.message()
    assert got.id in said and got.body == wire(MESSAGE)


@pytest.mark.parametrize("options", [[], ["--pipeline"]], ids=["plain", "pipelining"])
def test_swaks_tls(smtpd, stored, tmp_path, pair, options):
    said = swaks(smtpd, tmp_path, "--tls", "--tls-verify", "--tls-ca-path", pair.cert, *options)
    assert arrived(stored, True).id in said


def swaks(smtpd, tmp_path, *options):
    message = tmp_path / "message"
    # It ends the last line itself.
    message.write_text(MESSAGE.removesuffix("\n"))
    return run("swaks", "--server", "127.0.0.1", "--port", smtpd.port, "--helo", "c.example",
               "--from", "a@c.example", "--to", "b@t.example", "--data", f"@{message}", *options)


# OpenSSL's s_client

class Typist:
    """Somebody who types SMTP into `openssl s_client`, and reads what comes."""

    def __init__(self, smtpd, pair, *options):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{smtpd.port}",
             "-name", "c.example", "-CAfile", pair.cert, "-verify_return_error", "-crlf", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def read(self, code):
        """Reads up to the last line of a reply with that code."""
        for line in self.process.stdout:
            if line.startswith(b"%d " % code):
                return line.decode()
        raise AssertionError(f"no {code}")

    def new_key(self, letter):
        self.type(letter)
        for line in self.process.stdout:
            if b"KEYUPDATE" in line:
                return
        raise AssertionError("s_client knows no such command")

    def send_message(self):
        for line, code in [("EHLO c.example", 250), ("MAIL FROM:<a@c.example>", 250),
                           ("rCPT TO:<b@t.example>", 250), ("DATA", 354)]:
            self.type(line)
            self.read(code)
        for line in MESSAGE.splitlines():
            self.type("." + line if line.startswith(".") else line)
        self.type(".")
        assert "queued as" in self.read(250)
        self.type("QUIT" if "-quiet" in self.process.args else "quit")
        self.read(221)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_s_client(smtpd, stored, pair, version):
    with Typist(smtpd, pair, "-quiet", version) as typist:
        typist.read(250)
        typist.send_message()
    arrived(stored, True)


@pytest.mark.parametrize("letter", ["k", "K"], ids=["one key", "both keys"])
def test_s_client_with_new_keys(smtpd, stored, pair, letter):
    """Keys may be changed at any time in TLS 1.3. Without -quiet a line with that letter asks
    for it."""
    with Typist(smtpd, pair, "-tls1_3") as typist:
        typist.read(250)
        for line, code in [("EHLO c.example", 250), ("MAIL FROM:<a@c.example>", 250),
                           ("rcpt to:<b@t.example>", 250), ("DATA", 354)]:
            typist.new_key(letter)
            typist.type(line)
            typist.read(code)
        typist.type("x\n.")
        typist.read(250)
    assert stored.message().body == b"x\r\n"


# msmtp

def test_msmtp(smtpd, stored, pair, secure):
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.cert.read_text())).digest().hex(":")
    tls = ["--tls=off"]
    if secure:
        tls = ["--tls=on", "--tls-starttls=on", f"--tls-fingerprint={digest}"]
    run("msmtp", "--host=127.0.0.1", f"--port={smtpd.port}", "--domain=c.example",
        "--from=a@c.example", "--auth=off", "--set-from-header=off", "--set-date-header=off", *tls,
        "b@t.example", text=MESSAGE)
    arrived(stored, secure)


def test_msmtp_takes_no_other_certificate(smtpd, stored):
    done = subprocess.run(
        ["msmtp", "--host=127.0.0.1", f"--port={smtpd.port}", "--from=a@c.example", "--auth=off",
         "--tls=on", "--tls-starttls=on", f"--tls-fingerprint={bytes(32).hex(':')}", "b@t.example"],
        input=MESSAGE, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "fingerprint" in done.stderr
    assert stored.new() == []


# Postfix's smtp-source, which has no TLS, and sends an empty line behind the file it was given.

FROM_SOURCE = MESSAGE + "\n"


def source(smtpd, *options):
    program, environment = smtp_source()
    run(program, "-M", "c.example", "-f", "a@c.example", "-t", "b@t.example", *options,
        f"inet:127.0.0.1:{smtpd.port}", env=environment)


def test_smtp_source(smtpd, stored, tmp_path):
    message = tmp_path / "message"
    message.write_text(MESSAGE)
    source(smtpd, "-F", message)
    assert stored.message().body == wire(FROM_SOURCE)
    assert stored.message().protocol == "SMTP"


@pytest.mark.parametrize("options", [[], ["-d"]], ids=["one a session", "many a session"])
def test_smtp_source_many(smtpd, stored, tmp_path, options):
    count = scaled(5000, 500)
    message = tmp_path / "message"
    message.write_text(MESSAGE)
    source(smtpd, "-F", message, "-m", count, "-s", 50, *options)
    wait_for(lambda: stored.tmp() == [], "tmp/ is clean")
    messages = stored.messages()
    assert len(messages) == count
    assert {message.body for message in messages} == {wire(FROM_SOURCE)}
    assert {message.mail_from for message in messages} == {"a@c.example"}


def test_smtp_source_many_recipients(smtpd, stored):
    source(smtpd, "-r", 100, "-m", 20, "-s", 5, "-l", 50_000)
    messages = stored.messages()
    assert len(messages) == 20
    assert {len(message.recipients) for message in messages} == {100}
    assert {len(message.body) // 10_000 for message in messages} == {5}
