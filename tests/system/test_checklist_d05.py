"""Checklist D5: RCPT."""

import signal

import pytest

from deadline import wait_for


def recipients(smtpd, stored, *paths, code=250):
    """Sends a message to those paths; returns the recipients that were stored."""
    with smtpd.session("M") as client:
        for path in paths:
            client.command(f"RCPT TO:{path}", 250, "2.1.5")
        client.command("DATA", 354)
        client.content(b"x")
        return stored.message(client.reply(250).id).recipients


def answers(smtpd, path, code, enhanced):
    with smtpd.session("M") as client:
        client.command(f"RCPT TO:{path}", code, enhanced)
        client.alive()


def test_d5_01_normal(smtpd, stored):
    assert recipients(smtpd, stored, "<b@t.example>") == ["b@t.example"]


def test_d5_02_before_mail(smtpd):
    with smtpd.session("E") as client:
        client.command("RCPT TO:<b@t.example>", 503, "5.5.1")


def test_d5_03_hundred_recipients(smtpd, stored):
    paths = [f"b{number}@t{number}.example" for number in range(100)]
    assert recipients(smtpd, stored, *(f"<{path}>" for path in paths)) == paths


@pytest.mark.parametrize("limit", [100, 3])
def test_d5_04_over_the_limit(programs, spool, limit):
    smtpd = programs.smtpd(spool, SMTPD_MAX_RECIPIENTS=limit)
    with smtpd.session("M") as client:
        for number in range(limit):
            client.command(f"RCPT TO:<b{number}@t.example>", 250, "2.1.5")
        client.command("RCPT TO:<over1@t.example>", 452, "4.5.3")
        client.command("RCPT TO:<over2@t.example>", 452, "4.5.3")
        client.command("DATA", 354)
        client.content(b"x")
        client.reply(250)
    assert spool.message().recipients == [f"b{number}@t.example" for number in range(limit)]


def test_d5_05_domain_refused(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="t.example,.sub.example")
    for path, code, enhanced in [
            ("<b@t.example>", 250, "2.1.5"), ("<b@T.EXAMPLE>", 250, "2.1.5"),
            ("<b@x.sub.example>", 250, "2.1.5"), ("<b@y.x.sub.example>", 250, "2.1.5"),
            ("<b@other.example>", 550, "5.7.1"), ("<b@xt.example>", 550, "5.7.1"),
            ("<b@x.t.example>", 550, "5.7.1"), ("<b@t.example.org>", 550, "5.7.1"),
            ("<b@xsub.example>", 550, "5.7.1"), ('<"b@t.example"@other.example>', 550, "5.7.1")]:
        answers(smtpd, path, code, enhanced)


def test_d5_05_no_domain_at_all(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="")
    answers(smtpd, "<b@t.example>", 550, "5.7.1")


def test_d5_06_recipient_refused(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_REJECT_RECIPIENTS="bad@t.example,nobody@")
    for path, code, enhanced in [
            ("<bad@t.example>", 550, "5.1.1"), ("<BAD@T.Example>", 550, "5.1.1"),
            ("<nobody@t.example>", 550, "5.1.1"), ("<nobody@other.example>", 550, "5.1.1"),
            ("<bad@other.example>", 250, "2.1.5"), ("<good@t.example>", 250, "2.1.5")]:
        answers(smtpd, path, code, enhanced)


def test_d5_07_policy_unreadable(programs, spool, tmp_path):
    domains = tmp_path / "domains"
    domains.write_text("t.example\n")
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=f"@{domains}")

    def reply(path):
        with smtpd.session("M") as client:
            answer = client.command(f"RCPT TO:<{path}>")
            return answer.code, answer.enhanced

    assert reply("b@t.example") == (250, "2.1.5")
    assert reply("b@other.example") == (550, "5.7.1")
    domains.unlink()
    smtpd.send_signal(signal.SIGHUP)
    wait_for(lambda: reply("b@other.example") == (451, "4.3.0"), "451 while the list is broken")
    assert reply("b@t.example") in ((250, "2.1.5"), (451, "4.3.0"))
    domains.write_text("other.example\n")
    smtpd.send_signal(signal.SIGHUP)
    wait_for(lambda: reply("b@other.example") == (250, "2.1.5"), "the list is read again")
    assert reply("b@t.example") == (550, "5.7.1")


@pytest.mark.parametrize("name", ["Postmaster", "pOstmaster", "POSTMASTER"])
@pytest.mark.parametrize("policy", [{}, {"SMTPD_DOMAINS": "t.example"},
                                    {"SMTPD_REJECT_RECIPIENTS": "postmaster@"}],
                         ids=["open", "narrow", "denied"])
def test_d5_08_postmaster_without_domain(programs, spool, name, policy):
    smtpd = programs.smtpd(spool, **policy)
    assert recipients(smtpd, spool, f"<{name}>") == [name]


def test_d5_09_postmaster_overrides_lists(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="t.example",
                           SMTPD_REJECT_RECIPIENTS="postmaster@t.example,postmaster@")
    assert recipients(smtpd, spool, "<PostMaster@T.example>") == ["PostMaster@T.example"]


def test_d5_10_null_recipient(smtpd):
    answers(smtpd, "<>", 501, "5.1.3")


@pytest.mark.parametrize("path", ["<b>", "<root>", "<postmasters>", "<b@>", "<@t.example>"])
def test_d5_11_no_domain(smtpd, path):
    answers(smtpd, path, 501, "5.1.3")


@pytest.mark.parametrize("path", ["b@[192.0.2.1]", "b@[IPv6:2001:db8::1]", "b@[IPv6:::1]"])
def test_d5_12_address_literal(smtpd, stored, path):
    assert recipients(smtpd, stored, f"<{path}>") == [path]


def test_d5_12_address_literal_by_policy(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="t.example")
    answers(smtpd, "<b@[192.0.2.1]>", 550, "5.7.1")
    answers(smtpd, "<b@[IPv6:2001:db8::1]>", 550, "5.7.1")


@pytest.mark.parametrize("literal", ["300.1.1.1", "1.2.3", "1.2.3.4.5", "", "192.0.2.1 ",
                                     "IPv6:x", "IPv6:1::2::3", "IPv6:192.0.2.1"])
def test_d5_13_bad_literal(smtpd, literal):
    answers(smtpd, f"<b@[{literal}]>", 501, "5.1.3")


@pytest.mark.parametrize("parameters", ["NOTIFY=NEVER", "ORCPT=rfc822;b@t.example", "FOO",
                                        "SIZE=1"])
def test_d5_14_unknown_parameter(smtpd, parameters):
    answers(smtpd, f"<b@t.example> {parameters}", 555, "5.5.4")


def test_d5_15_case(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS="T.eXample")
    got, = recipients(smtpd, spool, "<BoB@T.Example>")
    local, _, host = got.partition("@")
    assert local == "BoB" and host.lower() == "t.example"


def test_d5_16_a_failed_recipient_leaves_the_others(programs, spool):
    smtpd = programs.smtpd(spool, SMTPD_REJECT_RECIPIENTS="bad@")
    with smtpd.session("M") as client:
        client.command("RCPT TO:<bad@t.example>", 550, "5.1.1")
        client.command("RCPT TO:<good@t.example>", 250, "2.1.5")
        client.command("RCPT TO:<>", 501, "5.1.3")
        client.command("DATA", 354)
        client.content(b"x")
        client.reply(250)
    assert spool.message().recipients == ["good@t.example"]


def test_d5_17_same_recipient_twice(smtpd, stored):
    # The local part is compared exactly, the domain without case.
    got = recipients(smtpd, stored, "<b@t.example>", "<b@t.example>", "<b@T.EXAMPLE>",
                     "<B@t.example>")
    assert got == ["b@t.example", "B@t.example"]
