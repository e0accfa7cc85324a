"""Checklist D3: HELO and EHLO."""

import re

import pytest

KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*")

# Every keyword that may be offered, and the rows that hold it to its word.
OFFERED = {
    "PIPELINING": "D8",
    "SIZE": "D9",
    "8BITMIME": "D10",
    "SMTPUTF8": "D10",
    "ENHANCEDSTATUSCODES": "D1-04",
    "CHUNKING": "D11",
    "LIMITS": "D13",
    "HELP": "D7-03",
}


def test_d3_01_reply_to_ehlo(smtpd):
    with smtpd.session("G") as client:
        reply = client.command("EHLO c.example", 250)
        assert reply.lines[0].split()[0] == "mayfly.example"
        for line in reply.lines[1:]:
            keyword = line.split(" ")[0]
            assert KEYWORD.fullmatch(keyword), line
        assert len(reply.lines) > 1


@pytest.mark.parametrize("hello", ["EHLO", "HELO"])
@pytest.mark.parametrize("literal", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "[IPv6:::1]"])
def test_d3_02_address_literals(smtpd, stored, hello, literal):
    with smtpd.session("G") as client:
        client.command(f"{hello} {literal}", 250)
        id = client.mail()
    assert stored.message(id).helo == literal


@pytest.mark.parametrize("line", ["EHLO", "HELO", "EHLO ", "HELO  "])
def test_d3_03_missing_argument(smtpd, line):
    with smtpd.session("G") as client:
        client.command(line, 501, "5.5.4")
        client.command("MAIL FROM:<a@c.example>", 503, "5.5.1")


@pytest.mark.parametrize("name", ["my_host", "localhost", "nonexistent.invalid", "-x-", "a..b", "1",
                                  "192.0.2.1", "[no.address]", "d" * 255])
def test_d3_04_odd_names_are_served(smtpd, stored, name):
    with smtpd.session("G") as client:
        client.command(f"EHLO {name}", 250)
        id = client.mail()
    assert stored.message(id).helo == name


@pytest.mark.parametrize("name", ["a\tb c", "a\1b", "a\x7fb", "a\0b"])
def test_d3_05_control_octets(smtpd, name):
    with smtpd.session("G") as client:
        client.command(f"EHLO {name}", (501, 500), "5.5.2")
        client.command("MAIL FROM:<a@c.example>", 503, "5.5.1")
        client.alive()


def test_d3_05_control_octet_in_the_name_is_501(smtpd):
    with smtpd.session("G") as client:
        client.command("EHLO a\tb c", 501, "5.5.2")
        client.command("EHLO a b", 501)


def test_d3_06_helo_offers_nothing(smtpd):
    with smtpd.session("G") as client:
        reply = client.command("HELO c.example", 250)
        assert len(reply.lines) == 1 and reply.lines[0].split()[0] == "mayfly.example"


@pytest.mark.parametrize("hello", ["EHLO", "HELO"])
def test_d3_07_second_hello_resets(smtpd, hello):
    with smtpd.session("R") as client:
        client.command(f"{hello} c.example", 250)
        client.command("DATA", 503, "5.5.1")
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")
        client.command("MAIL FROM:<a@c.example>", 250, "2.1.0")


@pytest.mark.parametrize("line", ["EHLO", "HELO", "EHLO a\tb"])
def test_d3_08_failed_hello_keeps_the_state(smtpd, stored, line):
    with smtpd.session("R") as client:
        client.command(line, 501)
        client.command("DATA", 354)
        client.content(b"x")
        message = stored.message(client.reply(250, "2.0.0").id)
    assert (message.helo, message.mail_from) == ("c.example", "a@c.example")


def test_d3_09_mail_before_hello(smtpd):
    with smtpd.session("G") as client:
        client.command("MAIL FROM:<a@c.example>", 503, "5.5.1")
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")
        client.command("DATA", 503, "5.5.1")
        client.to("M")


def test_d3_10_commands_before_hello(smtpd):
    with smtpd.session("G") as client:
        client.command("NOOP", 250, "2.0.0")
        client.command("RSET", 250, "2.0.0")
        client.command("HELP", (211, 214))
        client.command("VRFY bob", 252, "2.0.0")


def test_d3_11_keywords_are_truthful(smtpd, transport):
    # STARTTLS is offered in neither: there is no certificate, or it is in use already.
    with smtpd.session("G") as client:
        offers = client.ehlo()
        assert set(offers) - {"HELP"} == set(OFFERED) - {"HELP"}
        client.command("STARTTLS", 503 if transport == "tls" else 502, "5.5.1")
        for verb in ("AUTH PLAIN AAAA", "EXPN list", "ETRN x"):
            client.command(verb, (500, 502), "5.5.1")
