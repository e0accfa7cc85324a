"""A standby of a running PostgreSQL: a copy of its data and a stream of its log, which can be held
back, and ended by promotion.

The servers of cluster.py run without fsync. That is no matter here, where servers are killed and no
power is cut: what a killed server had written is still in the kernel.
"""

import contextlib

from cluster import Cluster, Database
from deadline import wait_for


def ask(cluster, sql, name="postgres"):
    """The first column of the first row, or None where there is none."""
    with contextlib.closing(cluster.connect(name, connect_timeout=10)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


def configure(cluster, **settings):
    """Sets parameters of a running server, and waits until it has heard."""
    for name, value in settings.items():
        cluster.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    cluster.execute("SELECT pg_reload_conf()")
    for name, value in settings.items():
        wait_for(lambda: ask(cluster, f"SHOW {name}") == value, f"{name} is {value!r}")


class Primary(Cluster):
    """A server that is quickly copied: its log is in small pieces."""

    def _run(self, program, *args):
        super()._run(program, *args, *(("--wal-segsize", 1) if program == "initdb" else ()))


class Standby(Cluster):
    """A copy of `primary`, made while that runs and takes writes; at a port that it is to have, or
    at a free one."""

    conninfo = None  # where it gets the log from, while that is held back

    def __init__(self, primary, port=None):
        self.primary = primary
        super().__init__()
        self.port = port or self.port
        self.port_is_ours = port is not None

    def _make_data(self):
        self._run("pg_basebackup", "-D", self.data, "-R", "-c", "fast", "-X", "stream", "--no-sync",
                  "-d", f"host={self.primary.directory} port={self.primary.port} user=postgres"
                        " application_name=standby")

    # The stream

    def streams(self):
        """Whether the primary sends its log to it."""
        return ask(self.primary, "SELECT count(*) FROM pg_stat_replication"
                                 " WHERE state = 'streaming'") == 1

    def hold_back(self):
        """What the primary commits from now on does not get here, until `catch_up`."""
        self.conninfo = self.conninfo or ask(self, "SHOW primary_conninfo")
        configure(self, primary_conninfo="")
        wait_for(lambda: ask(self, "SELECT count(*) FROM pg_stat_wal_receiver") == 0,
                 "the stream has ended")

    def catch_up(self):
        """Has all that was committed on the primary when this was called."""
        if self.conninfo:
            quoted = self.conninfo.replace("'", "''")
            self.execute(f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
            self.execute("SELECT pg_reload_conf()")
            self.conninfo = None
        place = ask(self.primary, "SELECT pg_current_wal_flush_lsn()")
        wait_for(lambda: ask(self, f"SELECT pg_last_wal_replay_lsn() >= '{place}'"),
                 "the standby has caught up")

    def promote(self):
        """Makes it a primary of its own."""
        assert ask(self, "SELECT pg_promote(true, 60)"), self.log_text()
        wait_for(lambda: not ask(self, "SELECT pg_is_in_recovery()"), "it is promoted")


class Pair:
    """A primary and its standby. `url` names both, by ports that stay what they are: whoever comes
    back, or takes the place of a server that is gone, is found where that one was."""

    def __init__(self, **settings):
        self.primary = Primary()
        self.made = [self.primary]
        self.primary.start()
        database = self.primary.create(empty=True)
        loaded = self.primary.load_schema(database.url)
        assert loaded.returncode == 0, loaded.stderr
        self.name = database.name
        # Before the copy is made, so that it goes by them too once it is the primary.
        configure(self.primary, **settings)
        self.standby = None
        self.add_standby()
        self.url = (f"host=127.0.0.1,127.0.0.1 port={self.primary.port},{self.standby.port}"
                    f" user=postgres dbname={self.name}")

    def add_standby(self, port=None):
        self.standby = Standby(self.primary, port)
        self.made.append(self.standby)
        self.standby.start()
        wait_for(self.standby.streams, "the standby streams")

    def database(self, cluster=None):
        """The database on one of them: on what is the primary now."""
        return Database(cluster or self.primary, self.name)

    def clear(self):
        """Forgets the mail of an earlier test."""
        self.database().query("TRUNCATE messages, deliveries")

    def fail_over(self, promote=True):
        """Kills the primary, and has the standby be it, which it may be already; returns the one
        that was."""
        former = self.primary
        former.kill()
        if promote:
            self.standby.promote()
        self.primary, self.standby = self.standby, None
        return former

    def return_as_standby(self, former):
        """What was the primary comes back as a copy of what is, and all that it alone had is
        gone."""
        former.remove()
        self.add_standby(former.port)

    def remove(self):
        for cluster in self.made:
            cluster.kill()
            cluster.remove()


@contextlib.contextmanager
def pair(**settings):
    """Two servers, for as long as this lasts."""
    both = Pair(**settings)
    try:
        yield both
    finally:
        both.remove()
