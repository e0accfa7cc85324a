"""Checklist D4: MAIL."""

import pytest

from deadline import wait_for
from paths import domain


def sender(smtpd, stored, path, parameters=""):
    """Sends a message from that path; returns the reverse-path that was stored."""
    with smtpd.session("E") as client:
        client.command(f"MAIL FROM:{path}{parameters}", 250, "2.1.0")
        client.command("RCPT TO:<b@t.example>", 250)
        client.command("DATA", 354)
        client.content(b"x")
        return stored.message(client.reply(250).id).mail_from


def refused(smtpd, argument, code, enhanced):
    """The argument is refused and leaves the session as it was."""
    with smtpd.session("E") as client:
        client.command(f"MAIL {argument}", code, enhanced)
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")
        client.command("MAIL FROM:<a@c.example>", 250, "2.1.0")


def test_d4_01_normal(smtpd, stored):
    assert sender(smtpd, stored, "<a@c.example>") == "a@c.example"


def test_d4_01_in_the_case_it_came_in(smtpd, stored):
    """Only its own host may say that two spellings of a local part are one (RFC 5321, section 2.4):
    a notification in another could go to somebody else."""
    assert sender(smtpd, stored, "<Alice.B@C.Example>") == "Alice.B@C.Example"


def test_d4_02_null_sender(smtpd, stored):
    assert sender(smtpd, stored, "<>") == ""


def test_d4_03_nested_mail(smtpd, stored):
    with smtpd.session("M") as client:
        client.command("MAIL FROM:<second@c.example>", 503, "5.5.1")
        client.command("RCPT TO:<b@t.example>", 250)
        client.command("MAIL FROM:<third@c.example>", 503, "5.5.1")
        client.command("DATA", 354)
        client.content(b"x")
        message = stored.message(client.reply(250).id)
    assert (message.mail_from, message.recipients) == ("a@c.example", ["b@t.example"])


def test_d4_04_space_after_the_colon(smtpd, stored):
    assert sender(smtpd, stored, " <a@c.example>") == "a@c.example"


@pytest.mark.parametrize("argument", ["FROM:a@c.example", "FROM:<a@c.example", "FROM:a@c.example>",
                                      "FROM:", "FROM:<<a@c.example>>", "FROM:<a@c.example>>"])
def test_d4_05_no_angle_brackets(smtpd, argument):
    refused(smtpd, argument, 501, None)


def test_d4_05_code_of_a_bare_address(smtpd):
    refused(smtpd, "FROM:a@c.example", 501, "5.1.7")


@pytest.mark.parametrize("parameters", ["FOO=1", "FOO", "SIZE=1 FOO=1", "X-Y=z"])
def test_d4_06_unknown_parameter(smtpd, parameters):
    refused(smtpd, f"FROM:<a@c.example> {parameters}", 555, "5.5.4")


@pytest.mark.parametrize("parameters", ["SIZE=1 SIZE=2", "SIZE=1 size=1", "SMTPUTF8 SMTPUTF8",
                                        "BODY=7BIT BODY=8BITMIME", "BODY=7BIT SIZE=1 BODY=7BIT"])
def test_d4_07_duplicate_parameter(smtpd, parameters):
    refused(smtpd, f"FROM:<a@c.example> {parameters}", 501, "5.5.4")


@pytest.mark.parametrize("local, host", [(64, 189), (1, 252), (1, 255), (64, 255)])
def test_d4_08_longest_paths(smtpd, stored, local, host):
    # 64 and 189 make the longest path of the RFC, 256 octets with its brackets.
    path = "l" * local + "@" + domain(host)
    assert sender(smtpd, stored, f"<{path}>") == path


def test_d4_09_beyond_the_local_part(smtpd):
    refused(smtpd, f"FROM:<{'l' * 1000}@c.example>", 501, "5.1.7")


def test_d4_09_nothing_is_ever_cut(smtpd, stored):
    # Where the cap lies is ours to choose; on either side of it the address is whole or refused.
    for local in (64, 65, 100, 128, 255, 256, 257, 300):
        path = "l" * local + "@c.example"
        with smtpd.session("E") as client:
            reply = client.command(f"MAIL FROM:<{path}>", (250, 501))
            if reply.code == 501:
                assert local > 64 and reply.enhanced == "5.1.7"
                continue
            client.command("RCPT TO:<b@t.example>", 250)
            client.command("DATA", 354)
            client.content(b"x")
            assert stored.message(client.reply(250).id).mail_from == path


@pytest.mark.parametrize("path", [
    r'"a b\"c"@c.example',
    r'"a\\b"@c.example',
    '"<>"@c.example',
    '"a@b"@c.example',
    '"x\'/**/;--"@a.example',
    '""@c.example',
])
def test_d4_10_quoted_local_part(smtpd, stored, path):
    assert sender(smtpd, stored, f"<{path}>") == path


@pytest.mark.parametrize("path", [
    ";id;", "a;b@c.example", "a b@c.example", "a(b)@c.example", "a,b@c.example", "a@c.example;ls",
    "a@c.example,d", "a@@c.example", "a@", "@c.example", '"a@c.example', 'a"b"@c.example',
    "a\\b@c.example", "a@c;x.example", "a@c.example)", "a@[c.example", "a<b@c.example",
])
def test_d4_11_characters_the_grammar_forbids(smtpd, path):
    refused(smtpd, f"FROM:<{path}>", 501, None)


def test_d4_11_shell_in_a_path(smtpd):
    refused(smtpd, "FROM:<;id;>", 501, "5.1.7")


@pytest.mark.parametrize("path", ["o'neil@c.example", "!#$%&'*+-/=?^_`{|}~@c.example",
                                  "'--/**/@c.example"])
def test_d4_12_quote_is_legal(smtpd, stored, path):
    assert sender(smtpd, stored, f"<{path}>") == path


@pytest.mark.parametrize("route", ["@x.example,@y.example:", "@x.example:"])
def test_d4_13_source_route(smtpd, stored, route):
    assert sender(smtpd, stored, f"<{route}a@c.example>") == "a@c.example"


@pytest.mark.parametrize("route", ["@:", "@x.example", "@x.example,:", "x.example:", ":"])
def test_d4_13_broken_source_route(smtpd, route):
    refused(smtpd, f"FROM:<{route}a@c.example>", 501, "5.1.7")


def test_d4_14_empty_auth(smtpd, stored):
    assert sender(smtpd, stored, "<a@c.example>", " AUTH=<>") == "a@c.example"


@pytest.mark.parametrize("parameters", ["RET=HDRS ENVID=x", "RET=FULL", "ENVID=x"])
def test_d4_15_delivery_status_parameters(smtpd, parameters):
    refused(smtpd, f"FROM:<a@c.example> {parameters}", 555, "5.5.4")


def mail_code(client):
    """How MAIL is answered; the transaction it began is given up."""
    code = client.command("MAIL FROM:<a@c.example>").code
    client.command("RSET", 250)
    return code


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
@pytest.mark.parametrize("lacking", ["bytes", "inodes"])
def test_d4_16_no_room(small_disk, programs, kind, lacking):
    spool, filler = small_disk(kind)
    smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=1 << 20)
    with smtpd.session("E") as client:
        client.mail()
        getattr(filler, lacking)()
        wait_for(lambda: mail_code(client) == 452, "there is no room")
        client.command("MAIL FROM:<a@c.example>", 452, "4.3.1")
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")
        client.alive()
        filler.empty()
        wait_for(lambda: mail_code(client) == 250, "there is room again")
        client.mail()
    assert len(spool.messages()) == 2


def test_d4_16_less_room_than_is_kept_free(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_MIN_FREE=1 << 62)
    with smtpd.session("E") as client:
        client.command("MAIL FROM:<a@c.example>", 452, "4.3.1")
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")
        client.alive()


def test_d4_16_spool_taken_away(programs, spool):
    smtpd = programs.smtpd(spool)
    with smtpd.session("E") as client:
        spool.directory("tmp").rmdir()
        reply = client.command("MAIL FROM:<a@c.example>", (250, 451, 452))
        if reply.code == 250:
            client.command("RCPT TO:<b@t.example>", 250)
            client.command("DATA", 354)
            client.content(b"x")
            client.reply((451, 452), ("4.3.0", "4.3.1"))
        client.alive()
    assert spool.new() == []
