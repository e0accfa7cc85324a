"""A private PostgreSQL: a real server in a directory of its own, that tests may stop, kill and
start again.

The server never runs as root: as root it is started as user postgres. Only this machine reaches it,
by a Unix socket whose path is kept short (the limit is 107 bytes) and by 127.0.0.1 on a port of its
own.
"""

import contextlib
import glob
import itertools
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

import psycopg2

from deadline import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "sql" / "schema.sql"
TEMPLATE = "mayfly_template"

# Without fsync: what a killed server had written is still in the kernel, and nobody cuts the power
# here; a fresh database costs a tenth of the time.
SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 100
shared_buffers = 64MB
fsync = off
full_page_writes = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
lc_messages = 'C'
"""


def binaries():
    """The directory of initdb and postgres: the newest that Debian has, else what PATH knows."""
    found = glob.glob("/usr/lib/postgresql/*/bin")
    if found:
        return max(found, key=lambda path: float(path.split("/")[4]))
    return os.path.dirname(shutil.which("initdb") or "/usr/bin/initdb")


def free_port():
    """A port nobody listens on just now, and none of those that the kernel gives to connections by
    itself, of which there may be thousands; who uses it must be ready to try another."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as numbers:
        end = max(int(numbers.read().split()[0]), 20_000)
    while True:
        port = random.SystemRandom().randrange(10_000, end)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("0.0.0.0", port))
            return port


def short_directory(prefix):
    """A fresh directory, open to other users, whose path leaves room for a socket's name."""
    for parent in (tempfile.gettempdir(), "/var/tmp", "/dev/shm"):
        if len(parent) <= 60 and os.stat(parent).st_mode & 0o001:
            path = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            path.chmod(0o755)
            return path
    raise RuntimeError("no directory with a short path for a socket")


class Cluster:
    """One PostgreSQL server. After `kill` or `stop`, `start` brings the same data back on the
    same port."""

    def __init__(self):
        self.bin = binaries()
        self.directory = short_directory("mayfly-pg-")
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.port = free_port()
        self.port_is_ours = False
        self.process = None
        self.as_owner = {}
        self.names = itertools.count(1)
        self.template_ready = False
        if os.geteuid() == 0:
            self.as_owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.directory, "postgres", "postgres")
        self._make_data()
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"unix_socket_directories = '{self.directory}'\n")

    def _make_data(self):
        """Fills the data directory, up to the settings that name this server's own places."""
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C.UTF-8", "-N")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(SETTINGS)

    def _run(self, program, *args):
        done = subprocess.run([f"{self.bin}/{program}", *map(str, args)], cwd=self.directory,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, **self.as_owner)
        assert done.returncode == 0, f"{program}: {done.stdout}"

    # Starting and ending

    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self, wait=True):
        """Starts the server unless it runs. Tried again: shared memory that a killed server's
        children have not let go yet; and, before the first success, a port taken meanwhile."""
        attempts = 0
        while not self.running():
            attempts += 1
            assert attempts <= 40, "PostgreSQL does not start: " + self.log_text()[-2000:]
            self._spawn()
            if not wait:
                return
            wait_for(lambda: not self.running() or self.accepts(), "PostgreSQL starts")
            if not self.running():
                time.sleep(0.25)
                self.port = self.port if self.port_is_ours else free_port()
        if wait:
            wait_for(self.accepts, "PostgreSQL accepts connections")
            self.port_is_ours = True

    def _spawn(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [f"{self.bin}/postgres", "-D", str(self.data), "-p", str(self.port)],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self.as_owner)

    def accepts(self):
        try:
            self.connect("postgres", connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _end(self, how):
        if self.running():
            self.process.send_signal(how)
            self.process.wait(60)

    def stop(self):
        """Fast shutdown: INT ends the sessions and does not wait for them, as TERM would."""
        self._end(signal.SIGINT)

    def immediate(self):
        """Ends without a checkpoint, so that the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def kill(self):
        """kill -9 of the postmaster and of every process it had: nothing gets to say goodbye."""
        if not self.running():
            return
        children = self.children()
        self.process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def children(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(path) as file:
            return [int(pid) for pid in file.read().split()]

    def restart(self):
        self.stop()
        self.start()

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # Databases

    def url(self, name, user="postgres"):
        host = urllib.parse.quote(str(self.directory), safe="")
        return f"postgresql://{user}@{host}:{self.port}/{name}"

    def connect(self, name, user="postgres", **options):
        return psycopg2.connect(host=str(self.directory), port=self.port, user=user, dbname=name,
                                **options)

    def execute(self, sql):
        with contextlib.closing(self.connect("postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute(sql)

    def load_schema(self, url, schema=SCHEMA):
        """Runs the one command that sets a database up; returns what psql said."""
        return subprocess.run([f"{self.bin}/psql", "-X", "-q", url, "-v", "ON_ERROR_STOP=1",
                               "-f", str(schema)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def create(self, empty=False):
        """A fresh database, with the schema in it unless it is to be empty."""
        self.start()
        name = f"mayfly_{next(self.names)}"
        if empty:
            self.execute(f"CREATE DATABASE {name}")
            return Database(self, name)
        if not self.template_ready:
            self.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
            self.execute(f"CREATE DATABASE {TEMPLATE}")
            loaded = self.load_schema(self.url(TEMPLATE))
            assert loaded.returncode == 0, loaded.stderr
            self.template_ready = True
        self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return Database(self, name)


class Database:
    """One test's database."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.url = cluster.url(name)
        self.open = []

    def url_as(self, user):
        return self.cluster.url(self.name, user)

    def connect(self, user="postgres", **options):
        """A psycopg2 connection, closed at the end of the test at the latest."""
        connection = self.cluster.connect(self.name, user, **options)
        self.open.append(connection)
        return connection

    def query(self, sql, *args):
        """Runs one statement on a connection of its own, committed at once; returns its rows, []
        where there are none."""
        with contextlib.closing(self.cluster.connect(self.name)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, args or None)
                return cursor.fetchall() if cursor.description else []

    def value(self, sql, *args):
        """The first column of the first row."""
        return self.query(sql, *args)[0][0]

    def drop(self):
        for connection in self.open:
            connection.close()
        self.cluster.start()
        self.cluster.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
