"""Checklist D10: 8BITMIME and SMTPUTF8."""

import pytest

INVALID = [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82",
           b"\x80"]


def command(client, line, code, enhanced):
    """A line of UTF-8."""
    return client.command(line.encode() if isinstance(line, str) else line, code, enhanced)


@pytest.mark.parametrize("body", ["7BIT", "8BITMIME", "8bitmime", "7bit"])
def test_d10_01_body(smtpd, stored, body):
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<a@c.example> BODY={body}", 250, "2.1.0")
        client.command("RCPT TO:<b@t.example>", 250)
        client.command("DATA", 354)
        client.content("Grüße".encode())
        id = client.reply(250, "2.0.0").id
    assert stored.message(id).body == "Grüße\r\n".encode()


@pytest.mark.parametrize("parameter", ["BODY=FOO", "BODY=BINARYMIME", "BODY=", "BODY", "BODY=8BIT"])
def test_d10_02_bad_body(smtpd, parameter):
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<a@c.example> {parameter}", (501, 555), "5.5.4")
        client.alive()


def test_d10_02_code_of_a_bad_body(smtpd):
    with smtpd.session("E") as client:
        client.command("MAIL FROM:<a@c.example> BODY=FOO", 501, "5.5.4")
        client.command("MAIL FROM:<a@c.example> BODY=BINARYMIME", 501, "5.5.4")


def test_d10_03_keywords(smtpd):
    with smtpd.session("G") as client:
        offers = client.ehlo()
    assert offers["SMTPUTF8"] == "" and offers["8BITMIME"] == ""


@pytest.mark.parametrize("path", ["é@c.example", "a@é.example", '"é"@c.example'])
def test_d10_04_sender_without_the_parameter(smtpd, path):
    with smtpd.session("E") as client:
        command(client, f"MAIL FROM:<{path}>", (550, 553), "5.6.7")
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")


def test_d10_04_code_of_the_sender(smtpd):
    with smtpd.session("E") as client:
        command(client, "MAIL FROM:<é@c.example>", 550, "5.6.7")


@pytest.mark.parametrize("path", ["é@t.example", "b@é.example", '"é"@t.example'])
def test_d10_05_recipient_without_the_parameter(smtpd, path):
    with smtpd.session("M") as client:
        command(client, f"RCPT TO:<{path}>", 553, "5.6.7")
        client.command("DATA", 554, "5.5.1")


@pytest.mark.parametrize("sender, recipient", [
    ("é@c.example", "用户@例え.example"), ("a@ü.example", '"é ü"@t.example'),
    ("🦋@c.example", "b@t.example"),
])
def test_d10_06_with_the_parameter(smtpd, stored, sender, recipient):
    with smtpd.session("E") as client:
        command(client, f"MAIL FROM:<{sender}> SMTPUTF8", 250, "2.1.0")
        command(client, f"RCPT TO:<{recipient}>", 250, "2.1.5")
        client.command("DATA", 354)
        client.content("Subject: Grüße\r\n\r\nx".encode())
        id = client.reply(250, "2.0.0").id
    message = stored.message(id)
    assert (message.mail_from, message.recipients) == (sender, [recipient])
    assert message.raw.startswith(f"Return-Path: <{sender}>\r\n".encode())


@pytest.mark.parametrize("parameter", ["SMTPUTF8=1", "SMTPUTF8="])
def test_d10_07_parameter_takes_no_value(smtpd, parameter):
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<a@c.example> {parameter}", 501, "5.5.4")


@pytest.mark.parametrize("octets", INVALID, ids=repr)
def test_d10_08_invalid_utf8(smtpd, octets):
    with smtpd.session("E") as client:
        command(client, b"MAIL FROM:<" + octets + b"@c.example> SMTPUTF8", 501, "5.1.7")
        command(client, b"MAIL FROM:<a@" + octets + b".example> SMTPUTF8", 501, "5.1.7")
        client.command("MAIL FROM:<a@c.example> SMTPUTF8", 250, "2.1.0")
        command(client, b"RCPT TO:<" + octets + b"@t.example>", 501, "5.1.3")


def test_d10_09_vrfy(smtpd):
    with smtpd.session("E") as client:
        client.command("VRFY x SMTPUTF8", 252, "2.0.0")
        command(client, "VRFY é SMTPUTF8", 252, "2.0.0")


@pytest.mark.parametrize("parameter, protocol", [(" SMTPUTF8", "UTF8SMTP"), ("", "ESMTP")])
def test_d10_10_protocol(smtpd, stored, transport, parameter, protocol):
    secure = "S" if transport == "tls" else ""
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:<a@c.example>{parameter}", 250)
        client.command("RCPT TO:<b@t.example>", 250)
        client.command("DATA", 354)
        client.content(b"x")
        first = stored.message(client.reply(250).id)
        second = stored.message(client.mail())
    for message, want in ((first, protocol + secure), (second, "ESMTP" + secure)):
        assert message.protocol == want and f" with {want} " in message.received_field


@pytest.mark.parametrize("line", ["é", "HELO é", "EHLO é.example", "VRFY é", "EXPN é", "HELP é",
                                  "NOOP é", "MAIL FROM:<é@c.example>", "MAIL FROM:é", "MAIL é",
                                  "MAIL FROM:<a@c.example> É=é", "RCPT TO:<é@t.example>"])
def test_d10_11_replies_are_ascii(smtpd, line):
    # The client refuses any reply that is not.
    with smtpd.session("M" if line.startswith("RCPT") else "E") as client:
        client.command(line)
        client.alive()
