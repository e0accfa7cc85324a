"""Which queue a recipient's mail goes to: stored here, relayed for those who may, or refused. By
default nothing is relayed, and smtpd is an open relay for nobody."""

import signal

import pytest

import smtp
from balancer import LOCAL, PROXY, TCP4, UNSPEC, block, connect, v1, v2
from deadline import wait_for
from routing import INSIDE, OUTSIDE, check, codes, relaying, send

ACCEPTED, REFUSED, PUT_OFF = (250, "2.1.5"), (550, "5.7.1"), (451, "4.3.0")
MALFORMED, UNKNOWN_MAILBOX = (501, "5.1.3"), (550, "5.1.1")


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool):
    return relaying(module_programs, module_spool)


@pytest.fixture
def stored(module_spool):
    module_spool.relay.clear()
    return module_spool


def rcpt(smtpd, source, *paths):
    with smtpd.session("E", source=source) as client:
        return codes(client, *paths)


def test_stored(smtpd, stored):
    for source in (INSIDE, OUTSIDE):
        id = send(smtpd, source, "b@t.example")
        assert check(stored, id, ["b@t.example"]).return_path == "<a@c.example>"
    assert stored.relay.new() == []


def test_relayed(smtpd, stored):
    id = send(smtpd, INSIDE, "b@far.example")
    message = check(stored.relay, id, ["b@far.example"])
    assert stored.new() == []
    assert (message.mail_from, message.client.split()[0]) == ("a@c.example", INSIDE)
    assert " for <b@far.example>;" in message.received_field


def test_both_in_one_transaction(smtpd, stored):
    """The same id and the same bytes, each file with its own recipients; and none is told of the
    others."""
    id = send(smtpd, INSIDE, "b@far.example", "b@t.example", "c@t.example", "c@far.example")
    here, there = (check(stored, id, ["b@t.example", "c@t.example"]),
                   check(stored.relay, id, ["b@far.example", "c@far.example"]))
    assert here.raw == b"Return-Path: <a@c.example>\r\n" + there.raw
    assert (here.received, here.client, here.helo) == (there.received, there.client, there.helo)
    assert " for <" not in here.received_field
    said = smtpd.wait_log(event="accepted", id=id)
    assert (said["rcpt"], said["relayed"]) == ("4", "2")


def test_one_of_each(smtpd, stored):
    """Alone in its file, but not alone."""
    id = send(smtpd, INSIDE, "b@t.example", "b@far.example")
    for queue in (stored, stored.relay):
        assert " for <" not in queue.message(id).received_field


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_both_in_pieces(smtpd, stored, size):
    body = b"Subject: large\r\n\r\n" + bytes(size)
    id = send(smtpd, INSIDE, "b@t.example", "b@far.example", body=body)
    check(stored, id, ["b@t.example"], body + b"\r\n")
    check(stored.relay, id, ["b@far.example"], body + b"\r\n")


def test_given_up_half_way(smtpd, stored):
    with smtpd.session("E", source=INSIDE) as client:
        codes(client, "b@t.example", "b@far.example")
        client.command("DATA", 354)
        client.send(bytes(300_000))
        wait_for(lambda: stored.tmp() and stored.relay.tmp(), "a file in each tmp/")
        client.reset()
    wait_for(lambda: not stored.tmp() and not stored.relay.tmp(), "both are gone")
    assert stored.new() == stored.relay.new() == []


def test_fifty(smtpd, stored):
    """Each once, in the order in which they came."""
    here = [f"b{number}@t.example" for number in range(0, 50, 2)]
    there = [f"b{number}@far{number % 3}.example" for number in range(1, 50, 2)]
    recipients = [mailbox for pair in zip(here, there) for mailbox in pair]
    again = [mailbox.replace(".example", ".EXAMPLE") for mailbox in recipients]
    id = send(smtpd, INSIDE, *recipients, *again)
    check(stored, id, here)
    check(stored.relay, id, there)
    assert smtpd.wait_log(event="accepted", id=id)["relayed"] == "25"


def test_the_limit_counts_all(programs, spool):
    smtpd = relaying(programs, spool, SMTPD_MAX_RECIPIENTS=4)
    assert rcpt(smtpd, INSIDE, "b@t.example", "b@far.example", "c@t.example", "c@far.example",
                "d@far.example", "d@t.example") == [ACCEPTED] * 4 + [(452, "4.5.3")] * 2


def test_by_bdat_and_behind_starttls(programs, spool, pair, client_tls):
    """A relay client is known by its address, which TLS does not change."""
    smtpd = relaying(programs, spool, **pair.settings())
    with smtpd.session("E", source=INSIDE, tls=client_tls) as client:
        codes(client, "b@far.example", "b@t.example")
        client.bdat(b"x\r\n")
        client.reply(250)
        client.bdat(b"y\r\n", last=True)
        id = client.reply(250).id
    check(spool.relay, id, ["b@far.example"], b"x\r\ny\r\n")
    check(spool, id, ["b@t.example"], b"x\r\ny\r\n")
    with smtpd.session("E", source=OUTSIDE, tls=client_tls) as client:
        assert codes(client, "b@far.example") == [REFUSED]


def test_pure_relay(programs, spool):
    smtpd = relaying(programs, spool, SMTPD_DOMAINS="")
    id = send(smtpd, INSIDE, "b@t.example", "b@far.example")
    check(spool.relay, id, ["b@t.example", "b@far.example"])
    assert rcpt(smtpd, OUTSIDE, "b@t.example", "b@far.example") == [REFUSED] * 2
    assert spool.new() == []


@pytest.mark.parametrize("domains", ["t.example", ""])
def test_by_default_nothing_is_relayed(programs, spool, domains):
    smtpd = programs.smtpd(spool, SMTPD_DOMAINS=domains)
    for source in ("127.0.0.1", INSIDE):
        assert rcpt(smtpd, source, "b@far.example") == [REFUSED]
    assert spool.relay.new() == []


# Ways that once led through some server, by what becomes of them for a stranger.
NOWHERE = ["b@far.example", "B@FAR.EXAMPLE", "b@localhost", "b@x.t.example", "b@tt.example",
           "b@t.example.far.example", "postmaster@far.example", "b@\u00e9.example",
           "\u00e9@far.example", "@t.example:b@far.example",
           "@far.example,@t.example:b@far.example", '"b@t.example"@far.example',
           '"b@t.example\\""@far.example', "b%t.example@far.example", "t.example!b@far.example",
           "b@[127.0.0.1]", "b@[IPv6:::1]", "b@[IPv6:::ffff:127.0.0.1]", "b@xn--9ca.example"]
BROKEN = ["b@far.example.", "b@t.example.", "b@far.example@t.example", "b@t.example@far.example",
          "@t.example:@far.example:b@far.example", "b@", "b@t.example,b@far.example",
          "b@[127.0.0.1", "b@t.example>b@far.example"]
# What is stored, by its name in the file: nobody here looks into a local part.
HERE = {"b@T.Example": "b@T.Example", "@far.example:r@t.example": "r@t.example",
        "b%far.example@t.example": "b%far.example@t.example",
        "far.example!b@t.example": "far.example!b@t.example",
        '"b@far.example"@t.example': '"b@far.example"@t.example',
        "\u00e9@t.example": "\u00e9@t.example", "postmaster": "postmaster"}


@pytest.mark.parametrize("hello, sender", [
    ("EHLO c.example", "a@c.example"), ("EHLO localhost", "a@t.example"), ("EHLO [127.0.0.2]", ""),
    ("EHLO mayfly.example", "postmaster@mayfly.example"), ("EHLO t.example", "b@far.example")])
def test_d5_18_no_relay_for_strangers(smtpd, stored, hello, sender):
    """Whoever they say they are."""
    with smtpd.session("G", source=OUTSIDE) as client:
        client.command(hello, 250)
        client.command(f"MAIL FROM:<{sender}> SMTPUTF8", 250)
        for path in NOWHERE:
            client.command(f"RCPT TO:<{path}>", *REFUSED)
        for path in BROKEN:
            client.command(f"RCPT TO:<{path}>", 501)
        for path in HERE:
            client.command(f"RCPT TO:<{path}>", *ACCEPTED)
        client.command("DATA", 354)
        client.content(b"x")
        id = client.reply(250).id
    assert stored.message(id).recipients == list(dict.fromkeys(HERE.values()))
    assert stored.relay.new() == []


def test_d5_19_no_relay_elsewhere_for_clients(programs, spool):
    """Who may relay may do so to where the site does, by no detour."""
    smtpd = relaying(programs, spool, SMTPD_RELAY_DOMAINS="far.example,.far.example,[192.0.2.1]")
    refused = ["b@other.example", "b@xfar.example", "b@far.example.org", "@far.example:b@other.example",
               '"b@far.example"@other.example', "b%far.example@other.example",
               "far.example!b@other.example", "b@[192.0.2.2]", "b@[127.0.0.1]", "b@\u00e9.example",
               "postmaster@other.example", "b@x.t.example"]
    relayed = ["b@far.example", "B@FAR.example", "b@x.far.example", "b@[192.0.2.1]",
               "@other.example:c@far.example", "\u00e9@far.example"]
    assert rcpt(smtpd, INSIDE, *refused) == [REFUSED] * len(refused)
    assert rcpt(smtpd, INSIDE, "b@far.example.", "b@far.example@other.example") == [MALFORMED] * 2
    assert rcpt(smtpd, INSIDE, *relayed) == [ACCEPTED] * len(relayed)
    assert rcpt(smtpd, OUTSIDE, *relayed) == [REFUSED] * len(relayed)


def test_in_capitals_it_is_the_same_domain(smtpd, stored):
    """Stored, not sent out to come back."""
    id = send(smtpd, INSIDE, "b@T.EXAMPLE")
    check(stored, id, ["b@T.EXAMPLE"])
    assert stored.relay.new() == []


def test_refused_and_discarded_addresses(programs, spool):
    """The other lists hold for what is relayed as well, postmasters apart."""
    smtpd = relaying(programs, spool, SMTPD_REJECT_RECIPIENTS="nobody@,denied@far.example,postmaster@",
                     SMTPD_DISCARD_DOMAINS="void.example,.void.example")
    assert rcpt(smtpd, INSIDE, "nobody@far.example", "denied@far.example", '"denied"@far.example',
                "nobody@t.example") == [UNKNOWN_MAILBOX] * 4
    assert rcpt(smtpd, OUTSIDE, "nobody@far.example", "denied@far.example") == [REFUSED] * 2
    assert rcpt(smtpd, INSIDE, "denied@other.example", "postmaster@far.example",
                "postmaster@t.example", "postmaster") == [ACCEPTED] * 4
    id = send(smtpd, INSIDE, "b@void.example", "b@x.void.example", "b@far.example")
    check(spool.relay, id, ["b@far.example"])
    assert " for <b@far.example>;" in spool.relay.message(id).received_field
    send(smtpd, INSIDE, "b@void.example")
    assert spool.new() == [] and spool.relay.new() == [id]


# Load balancers

BALANCER = INSIDE  # which is among the relay clients, if it were no balancer


def balanced(programs, spool):
    return relaying(programs, spool, SMTPD_PROXY_CLIENTS=BALANCER,
                    SMTPD_RELAY_CLIENTS=f"{BALANCER},192.0.2.0/24,2001:db8::/32")


@pytest.mark.parametrize("header", [
    b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 192.0.2.7 192.0.2.8 1 2\r\n", block(LOCAL, UNSPEC),
    block(LOCAL, TCP4, bytes([192, 0, 2, 7, 192, 0, 2, 8, 0, 1, 0, 2])), block(PROXY, UNSPEC)],
    ids=["unknown", "unknown with addresses", "local", "local with addresses", "unspec"])
def test_a_balancer_of_itself_is_no_relay_client(programs, spool, header):
    smtpd = balanced(programs, spool)
    with connect(smtpd, header, "E", source=BALANCER) as client:
        assert codes(client, "b@far.example", "b@t.example") == [REFUSED, ACCEPTED]


@pytest.mark.parametrize("make", [v1, v2])
def test_a_balancers_client_is_judged_by_its_own_address(programs, spool, make):
    smtpd = balanced(programs, spool)
    for source, want in {"192.0.2.7": ACCEPTED, "192.0.3.7": REFUSED, "2001:db8::1": ACCEPTED,
                         "2001:db9::1": REFUSED, "::ffff:192.0.2.7": ACCEPTED,
                         "::ffff:192.0.3.7": REFUSED, "::192.0.2.7": REFUSED,
                         BALANCER: ACCEPTED}.items():
        with connect(smtpd, make(source), "E", source=BALANCER) as client:
            assert codes(client, "b@far.example") == [want], source
    # Who is no balancer may say what he likes.
    with smtp.Client(smtpd.address, source=OUTSIDE) as client:
        client.send(make("192.0.2.7") + b"\r\nEHLO c.example\r\nMAIL FROM:<a@c.example>\r\n"
                    b"RCPT TO:<b@far.example>\r\nQUIT\r\n")
        said = client.rest()
    assert b"\r\n250 2.1.0 " in said and b"\r\n550 5.7.1 " in said and b"250 2.1.5" not in said


@pytest.mark.parametrize("networks", ["127.0.0.2", "::ffff:127.0.0.2", "::ffff:127.0.0.0/126,::1"])
def test_an_ipv4_address_in_an_ipv6_one_is_that_address(programs, spool, networks):
    smtpd = relaying(programs, spool, SMTPD_RELAY_CLIENTS=networks)
    assert rcpt(smtpd, INSIDE, "b@far.example") == [ACCEPTED]
    assert rcpt(smtpd, "127.0.0.5", "b@far.example") == [REFUSED]


def test_over_ipv6(programs, spool):
    """All of IPv6 is not all of IPv4."""
    smtpd = relaying(programs, spool, SMTPD_RELAY_CLIENTS="::/0",
                     SMTPD_LISTEN="[::1]:0,127.0.0.1:0")
    wait_for(lambda: len(smtpd.log(event="listening")) == 2, "both are listened on")
    for entry in smtpd.log(event="listening"):
        host, _, port = entry["address"].rpartition(":")
        want = ACCEPTED if host == "[::1]" else REFUSED
        with smtp.session((host.strip("[]"), int(port)), "E") as client:
            assert codes(client, "b@far.example") == [want]


# Lists

def reread(smtpd):
    before = len(smtpd.log(event="reloaded"))
    smtpd.send_signal(signal.SIGHUP)
    wait_for(lambda: len(smtpd.log(event="reloaded")) > before, "the lists are read again")


def test_relay_clients_are_read_again(programs, spool, tmp_path):
    """Each recipient is judged when he is named, also in a session that was there before."""
    clients = tmp_path / "clients"
    clients.write_text(f"{INSIDE}\n")
    smtpd = relaying(programs, spool, SMTPD_RELAY_CLIENTS=f"@{clients}")
    with smtpd.session("E", source=INSIDE) as inside, smtpd.session("E", source=OUTSIDE) as outside:
        assert codes(inside, "b@far.example", "b@t.example") == [ACCEPTED] * 2
        assert codes(outside, "b@far.example") == [REFUSED]
        clients.write_text(f"{OUTSIDE}/32 # and nobody else\n")
        reread(smtpd)
        inside.command("RCPT TO:<c@far.example>", *REFUSED)
        outside.command("RCPT TO:<c@far.example>", *ACCEPTED)
        inside.command("DATA", 354)
        inside.content(b"x")
        id = inside.reply(250).id
    check(spool.relay, id, ["b@far.example"], b"x\r\n")


@pytest.mark.parametrize("text", [None, "192.0.2.0/33\n", f"{INSIDE}\nlb.example\n", "127.0.0.2/8\n"])
def test_broken_list_of_relay_clients(programs, spool, tmp_path, text):
    """Whom it is about is put off; nobody is refused for good who might not be, and nobody else
    notices."""
    clients = tmp_path / "clients"
    clients.write_text(f"{INSIDE}\n")
    smtpd = relaying(programs, spool, SMTPD_RELAY_CLIENTS=f"@{clients}",
                     SMTPD_RELAY_DOMAINS="far.example")
    clients.unlink() if text is None else clients.write_text(text)
    reread(smtpd)
    for source in (INSIDE, OUTSIDE):
        assert rcpt(smtpd, source, "b@far.example", "b@t.example", "b@other.example",
                    "postmaster") == [PUT_OFF, ACCEPTED, REFUSED, ACCEPTED]
    said, = [entry for event in ("list_unreadable", "list_invalid")
             for entry in smtpd.log(event=event)]
    assert (said["setting"], said["path"]) == ("SMTPD_RELAY_CLIENTS", str(clients))
    clients.write_text(f"{OUTSIDE}\n")
    reread(smtpd)
    assert rcpt(smtpd, INSIDE, "b@far.example") == [REFUSED]
    assert rcpt(smtpd, OUTSIDE, "b@far.example") == [ACCEPTED]


def test_broken_list_of_relay_domains(programs, spool, tmp_path):
    """A stranger is refused whatever it says."""
    domains = tmp_path / "domains"
    domains.write_text("far.example\n")
    smtpd = relaying(programs, spool, SMTPD_RELAY_DOMAINS=f"@{domains}")
    domains.unlink()
    reread(smtpd)
    assert rcpt(smtpd, INSIDE, "b@far.example", "b@other.example", "b@t.example") == \
        [PUT_OFF, PUT_OFF, ACCEPTED]
    assert rcpt(smtpd, OUTSIDE, "b@far.example", "b@other.example", "b@t.example") == \
        [REFUSED, REFUSED, ACCEPTED]
    domains.write_text("other.example\n")
    reread(smtpd)
    assert rcpt(smtpd, INSIDE, "b@far.example", "b@other.example") == [REFUSED, ACCEPTED]


def test_a_queue_that_changes_in_a_transaction(programs, spool, tmp_path):
    """Named twice, with the lists read again in between: he stays where he was."""
    domains = tmp_path / "domains"
    domains.write_text("t.example\n")
    smtpd = relaying(programs, spool, SMTPD_DOMAINS=f"@{domains}")
    with smtpd.session("E", source=INSIDE) as client:
        assert codes(client, "b@t.example", "b@far.example") == [ACCEPTED] * 2
        domains.write_text("far.example\n")
        reread(smtpd)
        for path in ("b@t.example", "b@far.example", "c@t.example"):
            client.command(f"RCPT TO:<{path}>", *ACCEPTED)
        client.command("DATA", 354)
        client.content(b"x")
        id = client.reply(250).id
    check(spool, id, ["b@t.example"], b"x\r\n")
    check(spool.relay, id, ["b@far.example", "c@t.example"], b"x\r\n")


# And the rest of smtpd

def test_confined(programs, spool):
    smtpd = relaying(programs, spool, SMTPD_CONFINE="require")
    smtpd.wait_log(event="confined")
    body = bytes(200_000)
    id = send(smtpd, INSIDE, "b@t.example", "b@far.example", body=body)
    check(spool, id, ["b@t.example"], body + b"\r\n")
    check(spool.relay, id, ["b@far.example"], body + b"\r\n")


def test_metrics(programs, spool, tmp_path):
    path = tmp_path / "metrics"
    smtpd = relaying(programs, spool, METRICS_FILE=path)
    send(smtpd, INSIDE, "b@t.example", "b@far.example", "c@far.example")
    smtpd.stop()
    lines = path.read_text().splitlines()
    for line in ('recipients_total{queue="store"} 1', 'recipients_total{queue="relay"} 2',
                 "messages_total 1"):
        assert f"mayfly_smtpd_{line}" in lines
