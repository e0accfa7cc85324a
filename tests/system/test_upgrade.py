"""Upgrades in place, while mail flows: the real programs of former versions and the present ones
work on the same spool and the same tables, in every mixture that an upgrade one by one, and its
undoing, comes by. Nobody is refused, and nothing is lost or there twice.
"""

import socket

import pytest

import former
import smtp
from deadline import wait_for
from load import Post, differences
from smarthost import SmartHost
from test_restart import by_shell
from test_supervisors import Mail, logins_of

# Rows that the former schema has taken, the last moment before the upgrade.
EARLIER = """
INSERT INTO messages (id, received_at, mail_from, client, helo, protocol, size, raw)
VALUES ('0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10', now() - interval '1 hour', 'earlier@c.example',
        '192.0.2.1', 'c.example', 'ESMTP', 24, E'Subject: earlier\\r\\n\\r\\nhi\\r\\n');
INSERT INTO deliveries (message_id, received_at, position, recipient)
SELECT id, received_at, 1, 'Early+Bird@T.example' FROM messages
"""


class Site:
    """A spool and a database, and the programs at work on them, which are replaced one by one."""

    def __init__(self, programs, spool, database, logins, smarthost, listener, roles):
        self.programs = programs
        self.spool = spool
        self.database = database
        self.logins = logins
        self.smarthost = smarthost
        self.listener = listener
        self.roles = roles
        self.running = {}

    def start(self, role):
        inherits = by_shell("export LISTEN_PID=$$ LISTEN_FDS=1",
                            f"3<&{self.listener.fileno()}")
        starts = {
            "smtpd": lambda: self.programs.smtpd(
                self.spool, **inherits, pass_fds=(self.listener.fileno(),),
                SMTPD_DOMAINS="t.example", SMTPD_RELAY_CLIENTS="127.0.0.0/8"),
            "storer": lambda: self.programs.storer(self.spool, self.logins["storer"]),
            "reaper": lambda: self.programs.reaper(self.spool, self.logins["reaper"]),
            "relay": lambda: self.programs.relay(self.spool, self.smarthost,
                                                 SMTPD_DOMAINS="t.example"),
        }
        self.running[role] = starts[role]()

    def replace(self, role, is_former):
        """Stops the one and starts the other; ready is what it must become."""
        (self.programs.former.add if is_former else self.programs.former.discard)(role)
        self.running[role].stop()
        self.start(role)

    def counts(self, post):
        counts = [len(post.acknowledged), self.database.value("SELECT count(*) FROM messages")]
        return counts + ([len(self.smarthost.accepted())] if "relay" in self.roles else [])

    def flows(self, post):
        """Waits until more has come in, been stored, and been sent."""
        before = self.counts(post)
        wait_for(lambda: all(now >= then + 10 for now, then in zip(self.counts(post), before)),
                 "mail flows")


@pytest.fixture
def site(request, spool, empty_database):
    """A site of a former version: its schema, with rows in it, and its programs."""
    version = request.param
    if reason := former.lacking(version):
        pytest.skip(reason)
    _, roles = former.VERSIONS[version]
    programs = former.Versions(version)
    programs.former = set(roles)
    loaded = empty_database.cluster.load_schema(empty_database.url,
                                                programs.tree / "sql/schema.sql")
    assert loaded.returncode == 0, loaded.stderr
    empty_database.query(EARLIER)
    with (logins_of(empty_database) as logins, SmartHost() as smarthost,
          socket.create_server(("127.0.0.1", 0), backlog=1024) as listener):
        started = Site(programs, spool, empty_database, logins, smarthost, listener, roles)
        for role in roles:
            started.start(role)
        yield started
        wrong = programs.end()
        assert not wrong, "\n".join(wrong)


def left_behind(site):
    """Has the former relay defer a message and give up another, and be in need of nothing more."""
    site.smarthost.at("RCPT", "450 4.2.0 Later", like="later.example")
    site.smarthost.at("RCPT", "550 5.1.1 Never", like="never.example")
    relay = site.spool.relay
    with smtp.session(site.listener.getsockname(), "E") as client:
        for domain in ("later", "never"):
            client.mail(b"Subject: early\r\n\r\n", "", [f"early@{domain}.example"])
    wait_for(lambda: len(relay.ids("cur")) == len(relay.ids("failed")) == 1, "both are put aside")


def taken_up(site):
    """Has the present relay send them."""
    relay = site.spool.relay
    site.smarthost.behave()
    deferred, = relay.ids("cur")
    failed, = relay.ids("failed")
    relay.due_in(deferred, 0)
    (relay.directory("failed") / failed).rename(relay.directory("new") / failed)
    site.running["relay"].hurry()
    site.spool.relay.wait_done()
    sent = site.smarthost.deliveries()
    assert [sent["", f"early@{domain}.example"] for domain in ("later", "never")] == [1, 1]


def check_all(site, post):
    site.spool.wait_done()
    site.spool.relay.wait_done()
    if isinstance(post, Mail):
        post.check_stored(site.database)
        sent = site.smarthost.deliveries()
        post.check_relayed({pair: count for pair, count in sent.items() if pair[0]})
    else:
        assert differences(site.database, post.acknowledged) == []
    assert site.spool.failed() == []


@pytest.mark.deadline(300)
@pytest.mark.parametrize("site", former.VERSIONS, indirect=True)
def test_one_by_one_and_back(site):
    relays = "relay" in site.roles
    if relays:
        left_behind(site)
    with (Mail if relays else Post)(site.listener.getsockname(), clients=3) as post:
        site.flows(post)
        loaded = site.database.cluster.load_schema(site.database.url)
        assert loaded.returncode == 0, loaded.stderr
        site.flows(post)
        # There, back since something was wrong, and there for good. What one writes is the other's
        # to read, both ways, at some moment.
        for is_former in (False, True, False):
            for role in ("storer", "smtpd", "relay", "reaper"):
                if role in site.roles:
                    site.replace(role, is_former)
                    site.flows(post)
    if relays:
        taken_up(site)
    check_all(site, post)
    assert site.database.query("SELECT username, domain, recipient, raw_data FROM emails"
                               " WHERE mail_from = 'earlier@c.example'") == \
        [("early+bird", "t.example", "Early+Bird@T.example", "Subject: earlier\r\n\r\nhi\r\n")]
