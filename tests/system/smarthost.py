"""A smarthost, aiosmtpd's: with STARTTLS or TLS from the beginning, and AUTH. It remembers all that
was said to it, and says what a test wants at any step.

It runs in a thread of the test, on a port of the kernel's choice that it keeps when it is stopped
and started again.
"""

import asyncio
import base64
import collections
import dataclasses
import functools
import itertools
import logging
import re
import ssl
import threading
import time

from aiosmtpd.smtp import SMTP, AuthResult

from deadline import wait_for
from spool import TRACE

HOSTNAME = "smarthost.example"
OFFERS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
PATH = re.compile(r'<((?:[^<>"\\]|"(?:[^"\\]|\\.)*")*)>\s*(.*)')

# Instead of a reply.
DROP = object()   # the connection is gone
HANG = object()   # nothing more is said on it

logging.getLogger("mail.log").setLevel(logging.CRITICAL)


@dataclasses.dataclass
class Connection:
    """What happened on one connection, which has a number from 1 on."""
    number: int
    opened: float                 # by the monotonic clock
    ehlo: str = None
    user: str = None              # who said AUTH with success
    secure: bool = False
    version: str = None           # of TLS
    closed: float = None
    commands: list = dataclasses.field(default_factory=list)   # (verb, argument, secure)
    logins: list = dataclasses.field(default_factory=list)     # (mechanism, user, secret)

    def verbs(self):
        return [verb for verb, _, _ in self.commands]


@dataclasses.dataclass
class Transaction:
    """A message that came in whole, whatever was said to it then."""
    connection: Connection
    mail_from: str
    options: list
    recipients: list
    content: bytes
    ended: float                  # when the end of its data came
    accepted: bool = False        # 250 was said, or is being said

    @property
    def body(self):
        """As it was given to smtpd: without the trace field."""
        match = TRACE["relay"].match(self.content)
        assert match, f"no trace field at the top: {self.content[:300]!r}"
        return self.content[match.end():]


@dataclasses.dataclass
class Rule:
    """What is done at a step instead of, or before, what would be."""
    step: str
    say: object
    like: re.Pattern
    times: int
    wait: float


class Session(SMTP):
    """One connection, as aiosmtpd sees it."""

    line_length_limit = 1 << 26

    def __init__(self, host):
        super().__init__(self, loop=host.loop, hostname=HOSTNAME, enable_SMTPUTF8=True,
                         data_size_limit=1 << 30, tls_context=host.starttls_context,
                         require_starttls=host.required, auth_required=bool(host.users),
                         authenticator=host.authenticate, auth_exclude_mechanism=host.excluded())
        if host.implicit:
            self._tls_protocol = True   # else aiosmtpd would have AUTH behind STARTTLS alone
        self.command_size_limits = collections.defaultdict(lambda: 1 << 20)
        self.command_size_limit = 1 << 20
        self.host = host
        self.connection = None
        self._smtp_methods = {verb: functools.partial(self._step, verb, method)
                              for verb, method in self._smtp_methods.items()}

    # Its life

    def connection_made(self, transport):
        first = self.connection is None
        if first:
            self.connection = self.host.connected(self)
        super().connection_made(transport)
        if secure := transport.get_extra_info("ssl_object"):
            self.connection.secure = True
            self.connection.version = secure.version()

    def connection_lost(self, error):
        self.connection.closed = time.monotonic()
        self.host.sessions.discard(self)
        super().connection_lost(error)

    def _timeout_cb(self):
        """Who is to end a silence is the other side."""

    # What is said

    async def push(self, status):
        """The greeting is the only thing that is said without being asked for."""
        if not self.connection.commands and status[:3] == "220":
            status = await self._verdict("CONNECT", "") or status
        if status is DROP or status is HANG:
            return
        await super().push(status)
        if status[:3] in ("421", b"421"):
            self.transport.close()

    async def _step(self, verb, method, argument):
        self.connection.commands.append((verb, argument or "", self.connection.secure))
        say = await self._verdict(verb, argument or "")
        if say is None:
            await method(argument)
        elif isinstance(say, str):
            await self.push(say)

    async def _verdict(self, step, argument):
        """What a rule has to say; None where there is none."""
        rule = self.host.rule_for(step, argument)
        if rule is None:
            return None
        if rule.wait:
            await asyncio.sleep(rule.wait)
        if rule.say is DROP:
            self.transport.abort()
        if rule.say is HANG:
            await asyncio.Event().wait()
        return rule.say

    # What aiosmtpd asks its handler, which is the session itself

    async def handle_EHLO(self, _server, session, _envelope, name, _responses):
        session.host_name = self.connection.ehlo = name
        offers = list(self.host.offers)
        if self.host.starttls_context and not self.connection.secure:
            offers.append("STARTTLS")
        if self.host.users and self.connection.secure:
            offers.append("AUTH " + " ".join(self.host.mechanisms))
        lines = [HOSTNAME, *offers]
        return [f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines]

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if len(envelope.rcpt_tos) == self.host.most:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, _server, _session, envelope):
        mail_from = "" if envelope.mail_from == "<>" else envelope.mail_from
        transaction = Transaction(self.connection, mail_from, envelope.mail_options,
                                  envelope.rcpt_tos, envelope.content, time.monotonic())
        self.host.received(transaction)
        said = await self._verdict("END", " ".join([mail_from, *envelope.rcpt_tos]))
        if said is None:
            said = f"250 2.0.0 Ok: {len(self.host.transactions)}"
        if isinstance(said, str) and said[0] == "2":
            self.host.accept(transaction)
        return said

    async def auth_XOAUTH2(self, _server, arguments):
        """As Gmail does it: a refusal is a challenge first, which the client answers with an empty
        line."""
        if len(arguments) == 1:
            response = await self.challenge_auth("")
        else:
            response = base64.b64decode(arguments[1])
        match = re.fullmatch(rb"user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01", response or b"")
        if not match:
            return AuthResult(success=False, handled=False)
        result = self.host.authenticate(self, self.session, None, "XOAUTH2", match.groups())
        if not result.success:
            await self.challenge_auth('{"status":"401","schemes":"Bearer","scope":"https://mail"}')
        return result

    def _getaddr(self, argument):
        """The path as it was given, octet for octet; aiosmtpd would write it anew."""
        match = PATH.match(argument)
        return (match.group(1) or "<>", match.group(2)) if match else (None, None)


class SmartHost:
    """`pair`: its certificate (tlsfiles.Pair), None for a host without TLS. `implicit`: TLS from the
    beginning; `required`: nothing goes before STARTTLS. `users`: {name: password or token}; where
    there are any, AUTH is required. What else is to be tried is changed while it runs."""

    def __init__(self, pair=None, implicit=False, required=True, users=None, context=None,
                 mechanisms=("PLAIN", "LOGIN"), offers=OFFERS):
        self.pair = pair
        self.implicit = implicit
        self.required = required and not implicit
        self.users = dict(users or {})
        self.mechanisms = mechanisms
        self.offers = offers
        self.context = context or (server_context(pair) if pair else None)
        self.most = None   # recipients of one transaction
        self.refusal = "535 5.7.8 Username and Password not accepted"
        self.port = 0
        self.rules = []
        self.connections = []
        self.transactions = []
        self.sessions = set()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._thread = None
        self.loop = None

    @property
    def starttls_context(self):
        return None if self.implicit else self.context

    # Its life

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens; on the port that it had before, when it had one."""
        self.loop = asyncio.new_event_loop()
        self._server = self.loop.run_until_complete(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        return self

    async def _listen(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                return await self.loop.create_server(
                    lambda: Session(self), "127.0.0.1", self.port, backlog=1000,
                    ssl=self.context if self.implicit else None)
            except OSError:
                # Somebody has the port for an outgoing connection.
                assert time.monotonic() < deadline, f"port {self.port} is taken"
                await asyncio.sleep(0.1)

    def stop(self):
        """As if the machine were gone: every connection is dropped, and none is taken."""
        if self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()
        self._thread = None

    async def _end(self):
        self._server.close()
        for session in list(self.sessions):
            if session.transport and not session.transport.is_closing():
                session.transport.abort()
        await asyncio.sleep(0)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def restart(self):
        self.stop()
        return self.start()

    def settings(self):
        """What relay must be told of it."""
        tls = "none" if self.context is None else "implicit" if self.implicit else "starttls"
        settings = {"RELAY_HOST": "127.0.0.1", "RELAY_PORT": self.port, "RELAY_TLS": tls}
        if self.pair:
            settings["RELAY_CA"] = self.pair.cert
        for user, password in itertools.islice(self.users.items(), 1):
            settings |= {"RELAY_USER": user, "RELAY_PASSWORD": password}
        return settings

    # What it does

    def at(self, step, say=None, like="", times=None, wait=0):
        """From now on, at CONNECT, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, END, RSET or QUIT: first
        waits, then says this (None: what it would say anyway; DROP; HANG), `times` times. `like`: a
        pattern that is to be found in the argument, for END in sender and recipients. Where several
        rules fit the first counts."""
        rule = Rule(step, say, re.compile(like), times, wait)
        with self._lock:
            self.rules.append(rule)
        return rule

    def behave(self):
        """Forgets every rule."""
        with self._lock:
            self.rules.clear()

    def rule_for(self, step, argument):
        with self._lock:
            for rule in self.rules:
                if rule.step == step and rule.times != 0 and rule.like.search(argument):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None

    def excluded(self):
        return {"PLAIN", "LOGIN", "XOAUTH2"} - set(self.mechanisms)

    def authenticate(self, session, _session, _envelope, mechanism, login):
        user, secret = (octets.decode() for octets in login)
        session.connection.logins.append((mechanism, user, secret))
        if self.users.get(user) != secret:
            return AuthResult(success=False, handled=False, message=self.refusal)
        session.connection.user = user
        return AuthResult(success=True)

    # What it remembers

    def connected(self, session):
        connection = Connection(next(self._numbers), time.monotonic())
        with self._lock:
            self.connections.append(connection)
        self.sessions.add(session)
        return connection

    def received(self, transaction):
        with self._lock:
            self.transactions.append(transaction)

    def accept(self, transaction):
        transaction.accepted = True

    def open(self):
        """How many are connected."""
        return len(self.sessions)

    def accepted(self):
        """The transactions that were answered with 250, in their order."""
        with self._lock:
            return [transaction for transaction in self.transactions if transaction.accepted]

    def deliveries(self):
        """{(sender, recipient): how often it was accepted}"""
        return collections.Counter((transaction.mail_from, recipient)
                                   for transaction in self.accepted()
                                   for recipient in transaction.recipients)

    def wait(self, count=1, seconds=60):
        """Waits until so many transactions were accepted; returns them."""
        wait_for(lambda: len(self.accepted()) >= count, f"{count} messages arrive", seconds)
        return self.accepted()

    def wait_for_command(self, verb, count=1, seconds=60):
        """Waits until a command came so often, on all connections together."""
        wait_for(lambda: self.commands(verb) >= count, f"{verb} comes {count} times", seconds)

    def commands(self, verb):
        with self._lock:
            return sum(connection.verbs().count(verb) for connection in self.connections)


def server_context(pair):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context
