"""Everything there is, started, stopped, killed, halted and upgraded one by one, with clients and
an operator. What must be so of the mail whatever was done, verdicts.py knows.
"""

import contextlib
import os
import random
import shutil
import signal
import time

import psycopg2

from cluster import free_port, short_directory
from deadline import wait_for
from letters import (ACKNOWLEDGED, LATER, REFUSED, RELAYED, STORED, STORED_DOMAINS, UNKNOWN, WAYS,
                     Posted)
from programs import BUILD, GRACE_SECONDS, STOP_SECONDS, Programs
from spool import Spool

PROGRAMS = {"smtpd": "smtpd", "smtpd-2": "smtpd", "storer": "storer", "storer-2": "storer",
            "reaper": "reaper", "relay": "relay", "relay-2": "relay"}
DRAIN_SECONDS = 300

# As a message that the database refuses for good, until somebody mends it.
REFUSAL = """
CREATE TABLE refusing (domain text PRIMARY KEY);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM public.refusing WHERE domain = NEW.domain) THEN
        RAISE EXCEPTION 'not with us' USING ERRCODE = 'data_exception';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION refuse();
"""


EMPTY = "DELETE FROM messages; DELETE FROM deliveries; " \
        "INSERT INTO refusing VALUES ('poison.example') ON CONFLICT DO NOTHING"


class Installed(Programs):
    """Programs as they are installed: copies, each of which is replaced by an upgrade."""

    def __init__(self):
        super().__init__()
        self.sbin = self.directory / "sbin"
        self.sbin.mkdir()

    def path(self, name):
        if not (self.sbin / name).exists():
            self.install(name)
        return str(self.sbin / name)

    def install(self, name):
        """As install(1) does it: another file takes the name, and who runs the old one keeps it."""
        shutil.copy(BUILD / name, self.sbin / f"{name}.next")
        os.replace(self.sbin / f"{name}.next", self.sbin / name)


class World:
    """A spool, a database, the programs, a smarthost, another host's spool, and the model."""

    def __init__(self, database, host, keep):
        self.cluster = database.cluster
        self.cluster.start()
        self.database = database
        database.query(EMPTY)
        self.host = host
        host.connections.clear()
        host.transactions.clear()
        self.cut_off = set()      # numbers of connections that ended with the smarthost
        self.directory = short_directory("mayfly-order-")
        self.spool = Spool(self.directory / "spool").make()
        self.spool.relay.make()
        self.elsewhere = Spool(self.directory / "elsewhere").make()
        self.programs = Installed()
        self.port = free_port()
        self.keep = keep
        self.running = {}
        self.halted = set()
        self.runs_of_relay = 0
        self.killed_runs = set()  # what those relays called themselves
        self.posted = []
        self.holder = None        # a connection that keeps a lock
        self.mend_smarthost(False)

    # Programs

    def settings(self, name):
        domains = ",".join(STORED_DOMAINS)
        if name == "smtpd":
            return {"SMTPD_LISTEN": f"127.0.0.1:{self.port}", "SMTPD_REUSEPORT": 1,
                    "SMTPD_HOSTNAME": "mayfly.example", "SMTPD_DOMAINS": domains,
                    "SMTPD_RELAY_CLIENTS": "127.0.0.0/8"}
        if name == "relay":
            self.runs_of_relay += 1
            return {"SMTPD_HOSTNAME": f"run{self.runs_of_relay}.example",
                    "SMTPD_DOMAINS": domains, "RELAY_RESCAN": 1,
                    # A smarthost that goes away may leave a connection that nobody reads.
                    "RELAY_TIMEOUT": 60, **self.host.settings()}
        own = {"storer": {"STORER_RESCAN": 1, "STORER_KEEP": self.keep},
               "reaper": {"REAPER_INTERVAL": 1}}
        return {"DATABASE_URL": self.database.url, **own[name]}

    def start(self, role):
        if role in self.running:
            return
        name = PROGRAMS[role]
        settings = self.settings(name)
        program = self.programs.start(name, ready=name == "smtpd", SPOOL=self.spool, **settings)
        program.called = settings.get("SMTPD_HOSTNAME")
        self.running[role] = program

    def stop(self, *roles):
        """TERM to all of them; one that is halted gets it when it goes on, as from `sv`. One that
        has only just been started may not have come as far as to handle it."""
        stopping = {role: self.running.pop(role) for role in roles if role in self.running}
        young = {role for role, program in stopping.items() if not program.is_ready()}
        for role, program in stopping.items():
            program.send_signal(signal.SIGTERM)
            program.send_signal(signal.SIGCONT)
            self.halted.discard(role)
        for role, program in stopping.items():
            code = program.wait(STOP_SECONDS + GRACE_SECONDS)
            assert code == 0 or (code == -signal.SIGTERM and role in young), \
                f"{role} stopped with {code}:\n{program.text()}"

    def kill(self, role):
        program = self.running.pop(role, None)
        if program:
            program.kill()
            self.halted.discard(role)
            if PROGRAMS[role] == "relay":
                self.killed_runs.add(program.called)

    def halt(self, role):
        if role in self.running:
            self.running[role].send_signal(signal.SIGSTOP)
            self.halted.add(role)

    def go_on(self, role):
        if role in self.halted:
            self.running[role].send_signal(signal.SIGCONT)
            self.halted.discard(role)

    def upgrade(self, role):
        """As README says: the programs, the schema while everything runs, then a restart."""
        self.programs.install(PROGRAMS[role])
        if self.cluster.running():
            loaded = self.cluster.load_schema(self.database.url)
            assert loaded.returncode == 0, loaded.stderr
        self.stop(role)
        self.start(role)

    def check_programs(self):
        for role, program in self.running.items():
            assert program.returncode is None, \
                f"{role} ended by itself with {program.returncode}:\n{program.text()}"

    # The database and the smarthost

    def have_database(self, how):
        getattr(self.cluster, how)()

    def hold_database(self, held):
        """Somebody's transaction makes every insert wait, as a slow disk or a dump would."""
        if self.holder:
            self.holder.close()
            self.holder = None
        if held and self.cluster.running():
            self.holder = self.cluster.connect(self.database.name)
            # A storer that is halted in the midst of a batch is there first.
            with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                self.holder.cursor().execute(
                    "SET lock_timeout = '1s'; LOCK TABLE messages IN SHARE MODE")

    def restart_smarthost(self):
        self.cut_off |= {session.connection.number for session in list(self.host.sessions)}
        self.host.restart()

    def slow_smarthost(self):
        """Its word for what it has taken is long in coming."""
        self.host.at("END", wait=0.5)

    def mend_smarthost(self, mended):
        self.host.behave()
        if not mended:
            self.host.at("RCPT", "550 5.1.1 Never", like="never.example")
            self.host.at("RCPT", "450 4.2.0 Later", like="later.example")

    def mend_database(self):
        self.database.query("DELETE FROM refusing")

    @staticmethod
    def pause(seconds):
        time.sleep(seconds)

    # Clients

    def post(self, size, domains, how, wait):
        """Sends a letter and waits a while for its fate; it may go on for many steps."""
        posted = Posted(len(self.posted) + 1, size, domains, how)
        self.posted.append(posted)
        posted.send(("127.0.0.1", self.port))
        if wait:
            posted.wait(0.5)

    def post_in_passing(self):
        """A small letter with every step, to a queue or to both."""
        chance = random.Random(len(self.posted))
        domains = chance.choice([[STORED], [RELAYED], [STORED, RELAYED], [STORED, STORED, LATER]])
        self.post(60 + chance.randrange(3000), domains, chance.choice(list(WAYS)), False)

    def with_fate(self, fate):
        return [posted for posted in self.posted if posted.fate == fate]

    # An operator's moves (README, "The spool" and "What becomes of it")

    def put_back_failed(self):
        for queue in (self.spool, self.spool.relay):
            for id in queue.ids("failed"):
                # What of it is elsewhere in relay/ counts, and new/ID is about to be removed.
                if queue is self.spool or id not in queue.cur() + queue.new():
                    move(queue.directory("failed") / id, queue.directory("new") / id)

    def replay_kept(self):
        for id in self.spool.cur():
            move(self.spool.directory("cur") / id, self.spool.directory("new") / id)

    def touch_deferred(self):
        for id in self.spool.relay.ids("cur"):
            try:
                os.utime(self.spool.relay.directory("cur") / id)
            except FileNotFoundError:
                pass

    def move_away(self):
        self._move_all(self.spool, self.elsewhere)

    def move_home(self):
        self._move_all(self.elsewhere, self.spool)

    def _move_all(self, source, target):
        for id in source.new():
            move(source.directory("new") / id, target.directory("new") / id)

    # The end

    def everything_runs(self):
        for role in list(self.halted):
            self.go_on(role)
        self.cluster.start()
        self.hold_database(False)
        self.mend_smarthost(True)
        self.mend_database()
        self.move_home()
        self.keep = 0  # what is kept is stored once more, and let go
        self.stop("storer", "storer-2")
        for role in PROGRAMS:
            self.start(role)

    def drain(self):
        """Waits until all that came in has gone where it was to go."""
        for posted in self.posted:
            wait_for(lambda: posted.wait(0.2), f"the client ends: {posted}", DRAIN_SECONDS)
        queues = (self.spool, self.spool.relay)
        end = time.monotonic() + DRAIN_SECONDS
        while any(queue.ids(name) for queue in queues for name in ("new", "cur", "failed")):
            left = [f"{queue.queue.name}/{name}: {queue.names(name)}" for queue in queues
                    for name in ("new", "cur", "failed")]
            assert time.monotonic() < end, f"not drained: {left}\n{self.text()}"
            self.put_back_failed()
            self.touch_deferred()
            for role in ("relay", "relay-2"):
                if self.running[role].is_ready():  # HUP would end one that has just begun
                    self.running[role].hurry()
            self.check_programs()
            time.sleep(0.1)

    def counts(self):
        """How much there was of each fate."""
        return {fate: len(self.with_fate(fate)) for fate in (ACKNOWLEDGED, REFUSED, UNKNOWN)}

    def text(self):
        return "\n".join(f"--- {role}\n{program.text()[-2000:]}"
                         for role, program in self.running.items())

    def end(self):
        """Stops everything, all at once; returns what ended badly."""
        wrong = []
        self.hold_database(False)
        try:
            self.stop(*self.running)
        except AssertionError as failure:
            wrong.append(str(failure))
        wrong += self.programs.end()
        shutil.rmtree(self.directory, ignore_errors=True)
        return wrong


def move(source, target):
    """mv, of something that may have gone meanwhile."""
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass
