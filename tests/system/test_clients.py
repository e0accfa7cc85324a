"""Clients as they are found in the world: smtplib, curl, swaks."""

import email.message
import shutil
import smtplib
import subprocess

import pytest

BODY = "Line one\n.\n..two dots\nGrüße\n"


def body_of(stored):
    """The one message's own header and body."""
    header, _, body = stored.message().body.partition(b"\r\n\r\n")
    return header.decode(), body.decode()


def test_smtplib(smtpd, stored):
    message = email.message.EmailMessage()
    message["From"], message["To"] = "a@c.example", "b@t.example"
    message["Subject"] = "From smtplib"
    message.set_content(BODY, cte="8bit")
    with smtplib.SMTP(*smtpd.address, local_hostname="c.example", timeout=30) as client:
        assert client.send_message(message) == {}
        assert client.has_extn("pipelining") and client.has_extn("size")
    header, body = body_of(stored)
    assert "Subject: From smtplib" in header and body == BODY.replace("\n", "\r\n")
    assert stored.message().recipients == ["b@t.example"]


def test_smtplib_utf8_and_many_recipients(smtpd, stored):
    recipients = [f"b{number}@t.example" for number in range(50)] + ["é@t.example"]
    with smtplib.SMTP(*smtpd.address, local_hostname="c.example", timeout=30) as client:
        client.ehlo()
        client.sendmail("a@c.example", recipients, "Subject: x\r\n\r\nx\r\n",
                        mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        assert client.verify("b@t.example")[0] == 252
        assert client.noop()[0] == 250 and client.rset()[0] == 250
        assert client.help()
    assert stored.message().recipients == recipients
    assert stored.message().protocol == "UTF8SMTP"


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl(smtpd, stored):
    run("curl", "-sS", "--crlf", f"smtp://127.0.0.1:{smtpd.port}/c.example",
        "--mail-from", "a@c.example", "--mail-rcpt", "b@t.example", "--mail-rcpt", "c@t.example",
        "--upload-file", "-",
        text="Subject: From curl\n\n" + BODY)
    header, body = body_of(stored)
    assert "Subject: From curl" in header and body == BODY.replace("\n", "\r\n")
    assert stored.message().recipients == ["b@t.example", "c@t.example"]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
@pytest.mark.parametrize("request_line", ["VRFY bob", "NOOP", "HELP"])
def test_curl_commands(smtpd, request_line):
    verb, _, who = request_line.partition(" ")
    said = run("curl", "-sSv", f"smtp://127.0.0.1:{smtpd.port}/c.example", "--request", verb,
               *(["--mail-rcpt", who] if who else []))
    assert f"> {verb}" in said


@pytest.mark.skipif(not shutil.which("swaks"), reason="no swaks")
@pytest.mark.parametrize("options", [[], ["--pipeline"], ["--protocol", "SMTP"]],
                         ids=["plain", "pipelining", "HELO"])
def test_swaks(smtpd, stored, options):
    said = run("swaks", "--server", "127.0.0.1", "--port", str(smtpd.port), "--helo", "c.example",
               "--from", "a@c.example", "--to", "b@t.example", "--header", "Subject: From swaks",
               "--body", BODY, *options)
    assert stored.message().id in said
    header, body = body_of(stored)
    assert "Subject: From swaks" in header
    assert body.rstrip("\r\n") == BODY.replace("\n", "\r\n").rstrip("\r\n")
