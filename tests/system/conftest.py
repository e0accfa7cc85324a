"""What every system test stands on: a private PostgreSQL, a fresh spool, the real programs, and
a limit on time."""

import contextlib
import shutil
import signal

import pytest

import deadline
import disk
import tlsfiles
import transport as transports
from cluster import Cluster, short_directory
from faults import Faults, build
from programs import BUILD, Programs
from scale import SCALE
from spool import Spool, fresh_spool


def pytest_configure(config):
    config.addinivalue_line(
        "markers", f"deadline(seconds): how long it may take (default {deadline.TEST_SECONDS})")
    # As Ctrl-C does: what was started is ended, and no program outlives the tests.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_report_header():
    return [f"TEST_SCALE={'full' if SCALE == 1 else SCALE}", f"programs: {BUILD}"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    marker = item.get_closest_marker("deadline")
    with deadline.limit(marker.args[0] if marker else deadline.TEST_SECONDS):
        yield


def ended(programs):
    """Ends what was started and fails when any of it ended badly."""
    wrong = programs.end()
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@pytest.fixture(scope="session")
def pair():
    """A certificate and its key."""
    directory = short_directory("mayfly-tls-")
    yield tlsfiles.make(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def client_tls(pair):
    """What a client needs to trust it."""
    return pair.client()


def pytest_generate_tests(metafunc):
    if "transport" in metafunc.fixturenames and transports.both(metafunc.function.__name__):
        metafunc.parametrize("transport", ("plain", "tls"), indirect=True, scope="module")


@pytest.fixture(scope="module")
def transport(request):
    """How sessions are held: "plain", or "tls", behind STARTTLS. The checklist is tried both
    ways."""
    return getattr(request, "param", "plain")


@pytest.fixture
def programs(transport, pair):
    started = Programs(pair if transport == "tls" else None)
    yield started
    ended(started)


@pytest.fixture(scope="module")
def module_programs(transport, pair):
    """Programs that the tests of one module share."""
    started = Programs(pair if transport == "tls" else None)
    yield started
    ended(started)


@pytest.fixture
def spool():
    fresh = fresh_spool()
    yield fresh
    shutil.rmtree(fresh.path.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def module_spool():
    fresh = fresh_spool()
    yield fresh
    shutil.rmtree(fresh.path.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def module_smtpd(module_programs, module_spool):
    """One smtpd with default settings for a whole module."""
    return module_programs.smtpd(module_spool)


@pytest.fixture
def smtpd(module_smtpd, module_spool):
    """The module's smtpd, with nothing of an earlier test in new/."""
    module_spool.clear()
    return module_smtpd


@pytest.fixture
def stored(module_spool):
    """The spool of `smtpd`."""
    return module_spool


@pytest.fixture(scope="session")
def fault_library():
    directory = short_directory("mayfly-fault-")
    yield build(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def faults_on(fault_library, tmp_path):
    """System calls that fail on a spool, for a program started with faults.settings()."""
    return lambda spool: Faults(fault_library, tmp_path, spool)


@pytest.fixture
def faults(faults_on, spool):
    """System calls that fail on `spool`."""
    return faults_on(spool)


@pytest.fixture
def small_disk():
    """A function that mounts a small file system and returns a spool on it and what fills it."""
    directory = short_directory("mayfly-disk-")
    with contextlib.ExitStack() as mounts:
        def mount(kind="ext4", mebibytes=24, inodes=1000):
            point = mounts.enter_context(disk.mounted(directory, kind, mebibytes, inodes))
            return Spool(point / "spool"), disk.Filler(point)

        yield mount
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def session_cluster():
    server = Cluster()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def cluster(session_cluster):
    """The private PostgreSQL, running; whatever a test did to it, the next one finds it running."""
    session_cluster.start()
    yield session_cluster
    session_cluster.start()


@pytest.fixture
def database(cluster):
    """A fresh database with the schema in it."""
    fresh = cluster.create()
    yield fresh
    fresh.drop()


@pytest.fixture
def empty_database(cluster):
    """A fresh database with nothing in it."""
    fresh = cluster.create(empty=True)
    yield fresh
    fresh.drop()
