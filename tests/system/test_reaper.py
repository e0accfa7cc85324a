"""reaper and the database: expired days go, days to come are made, nobody waits, and nothing that
happens to reaper or to the database in between is more than a delay."""

import contextlib
import datetime
import os
import signal
import threading
import time

import psycopg2
import pytest

from deadline import wait_for
from rows import add_mail, clock, make_day

DAY = datetime.timedelta(days=1)
WEEK = 7 * 86400


def with_old_mail(database, ages, raw=b"Subject: x\r\n\r\n"):
    """Mail of these days ago, each in a partition of its day; returns the days."""
    connection = database.connect()
    now = clock(connection)
    for age in ages:
        make_day(connection, now - age * DAY)
        add_mail(connection, now - age * DAY, raw=raw)
    connection.commit()
    return [now.astimezone(datetime.timezone.utc).date() - age * DAY for age in ages]


def tables(database):
    """Every partition there is, attached or not."""
    return {name for name, in database.query(
        "SELECT relname FROM pg_class WHERE relname ~ '^(messages|deliveries)_[0-9]{8}$'"
        " AND relkind = 'r'")}


def names(*days):
    return {f"{parent}_{day:%Y%m%d}" for parent in ("messages", "deliveries") for day in days}


def pending(database):
    return database.value("SELECT count(*) FROM pg_inherits WHERE inhdetachpending")


def sessions(database):
    """What the reapers' sessions do."""
    return [state for state, in database.query(
        "SELECT state FROM pg_stat_activity WHERE application_name = 'mayfly-reaper'"
        " AND datname = %s", database.name)]


@contextlib.contextmanager
def slow_reader(database):
    """A transaction that has read everything, expired days too, and does not end by itself."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM messages")
        cursor.execute("SELECT count(*) FROM deliveries")
    yield connection
    connection.rollback()


@pytest.fixture
def nowhere(tmp_path):
    """The path of a spool that is not there."""
    return tmp_path / "no" / "spool"


@pytest.fixture
def login(cluster):
    """A login that is no superuser, in no role yet."""
    cluster.execute("CREATE ROLE reaper_login LOGIN")
    yield "reaper_login"
    cluster.execute("REVOKE mayfly_reaper FROM reaper_login")
    cluster.execute("DROP ROLE reaper_login")


# A pass

def test_a_pass(programs, cluster, database, nowhere, login):
    """With the rights of its role alone: what is expired goes, all the rest stays, the next two
    weeks are made, and no spool is missed or made."""
    young, edge, old, older = with_old_mail(database, [6, 7, 8, 12])
    day = database.value("SELECT (now() AT TIME ZONE 'UTC')::date")
    database.query(f"DROP TABLE messages_{day + 10 * DAY:%Y%m%d}")
    database.query("SELECT set_retention('1 hour')")
    cluster.execute(f"GRANT mayfly_reaper TO {login}")
    reaper = programs.reaper(nowhere, database.url_as(login))
    assert tables(database) == names(young, edge, *(day + n * DAY for n in range(15)))
    assert database.value("SELECT retention() = make_interval(secs => %s)", WEEK)
    assert database.value("SELECT count(*) FROM messages") == 2
    dropped = {entry["name"] for entry in reaper.log(event="partition_dropped")}
    assert dropped == {f"public.{name}" for name in names(old, older)}
    assert not nowhere.exists()
    reaper.stop()
    assert sessions(database) == []


def test_the_space_comes_back(programs, database, nowhere):
    """To the file system, not to a free list."""
    size = 4 << 20
    files = ("SELECT sum(pg_relation_size(oid))::bigint FROM pg_class WHERE relkind IN ('r', 't')"
             " AND relnamespace IN ('public'::regnamespace, 'pg_toast'::regnamespace)")
    before = database.value(files)
    with_old_mail(database, [9], raw=os.urandom(size))
    assert database.value(files) >= before + size
    programs.reaper(nowhere, database)
    # Other days were made meanwhile; empty, they take a page or none.
    assert database.value(files) < before + size / 8


def test_again_after_the_interval(programs, database, nowhere):
    reaper = programs.reaper(nowhere, database, REAPER_INTERVAL=1)
    old, = with_old_mail(database, [9])
    wait_for(lambda: not tables(database) & names(old), "the next pass")
    assert len(reaper.log(event="ready")) == 1


def test_a_new_retention_counts_at_once(programs, database, nowhere):
    connection = database.connect()
    add_mail(connection, clock(connection) - datetime.timedelta(seconds=90))
    connection.commit()
    programs.reaper(nowhere, database).stop()
    assert database.value("SELECT count(*) FROM emails") == 1
    programs.reaper(nowhere, database, REAPER_RETENTION=60).stop()
    assert database.value("SELECT count(*) FROM emails") == 0
    programs.reaper(nowhere, database).stop()
    assert database.value("SELECT count(*) FROM emails") == 1, "its day is not over"


@pytest.mark.parametrize("setting, value", [
    ("REAPER_RETENTION", "0"), ("REAPER_RETENTION", "-1"), ("REAPER_RETENTION", "3155760000"),
    ("REAPER_RETENTION", "31622401"), ("REAPER_RETENTION", "7 days"), ("REAPER_RETENTION", "1e6"),
    ("REAPER_INTERVAL", "0"), ("REAPER_INTERVAL", "86401"), ("REAPER_INTERVAL", "hourly")])
def test_settings_that_make_no_sense(programs, nowhere, setting, value):
    done = programs.run("reaper", SPOOL=nowhere, **{setting: value})
    assert done.returncode == 78
    assert setting in done.stderr and value in done.stderr


def test_metrics(programs, database, nowhere, tmp_path):
    with_old_mail(database, [9])
    file = tmp_path / "metrics"
    programs.reaper(nowhere, database, METRICS_FILE=file).stop()
    text = file.read_text()
    assert 'mayfly_reaper_passes_total{result="done"} 1\n' in text
    assert "mayfly_reaper_partitions_dropped_total 2\n" in text
    assert 'mayfly_reaper_swept_files_total{directory="store/tmp"} 0\n' in text


# Others at the tables

def test_a_slow_reader(programs, database, nowhere):
    """The pass gives up, says so once, and does the rest; no insert waits; and when the reader has
    ended, the next pass ends what was begun."""
    old, older = with_old_mail(database, [8, 9])
    patience = database.url + "?options=-c%20lock_timeout%3D2s"
    with slow_reader(database):
        reaper = programs.reaper(nowhere, patience, ready=False)
        wait_for(lambda: pending(database), "the detach waits")
        slowest, began_all = 0, time.monotonic()
        writer = database.connect()
        while not reaper.is_ready():
            began = time.monotonic()
            add_mail(writer, clock(writer))
            writer.commit()
            slowest = max(slowest, time.monotonic() - began)
            assert time.monotonic() - began_all < 60, reaper.text()
            time.sleep(0.01)
        reaper.wait_ready()
        assert slowest < 1.5, "less than any lock_timeout"
        assert tables(database) >= names(old, older)
        said = [entry["name"] for entry in reaper.log(event="partition_not_detached")]
        assert len(said) == 2 and len(set(said)) == 2
    wait_for(lambda: not tables(database) & names(old, older), "the pass after it")
    assert pending(database) == 0
    assert reaper.log(event="partition_not_detached") == reaper.log(
        event="partition_not_detached")[:2], "said once"


def test_a_detach_that_others_left_half_done(programs, database, nowhere):
    old, = with_old_mail(database, [9])
    connection = database.connect()
    connection.autocommit = True
    with slow_reader(database), connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            cursor.execute(f"ALTER TABLE messages DETACH PARTITION messages_{old:%Y%m%d}"
                           " CONCURRENTLY")
    assert pending(database) == 1
    programs.reaper(nowhere, database)
    assert pending(database) == 0
    assert not tables(database) & names(old)


def test_a_partition_that_cannot_be_dropped_stops_no_other(programs, database, nowhere):
    old, older = with_old_mail(database, [8, 9])
    database.query(f"CREATE VIEW leftover AS SELECT * FROM messages_{older:%Y%m%d}")
    reaper = programs.reaper(nowhere, database)
    assert tables(database) & names(old, older) == {f"messages_{older:%Y%m%d}"}
    assert reaper.log(event="partition_not_dropped")
    assert database.value("SELECT count(*) FROM emails") == 0
    database.query("DROP VIEW leftover")
    wait_for(lambda: not tables(database) & names(older), "the pass after it")


def test_two_reapers(programs, database, nowhere):
    """The second one waits, says for whom, once, and takes over when the first is killed."""
    first = programs.reaper(nowhere, database)
    second = programs.reaper(nowhere, database, ready=False, REAPER_INTERVAL=1)
    said = second.wait_log(event="lock_waiting")
    assert said["application"] == "mayfly-reaper" and said["user"] == "postgres"
    old, = with_old_mail(database, [9])
    time.sleep(2)
    assert tables(database) >= names(old)
    assert len(second.log(event="lock_waiting")) == 1 and not second.is_ready()
    first.kill()
    second.wait_ready()
    wait_for(lambda: not tables(database) & names(old), "the second reaper's pass")


def test_a_stranger_with_the_lock(programs, cluster, database, nowhere, login):
    """Any login can take an advisory lock: a reaper in its role alone says who stops retention."""
    cluster.execute(f"GRANT mayfly_reaper TO {login}; CREATE ROLE idle_hand LOGIN")
    holder = database.connect("idle_hand", application_name="left open")
    with holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(1296128326, 3), pg_backend_pid()")
        pid = cursor.fetchone()[1]
    reaper = programs.reaper(nowhere, database.url_as(login), ready=False, REAPER_INTERVAL=1)
    said = reaper.wait_log(event="lock_waiting")
    assert (said["pid"], said["user"], said["application"]) == (str(pid), "idle_hand", "left open")
    holder.close()
    reaper.wait_ready()
    cluster.execute("DROP ROLE idle_hand")


# Being stopped and killed

def test_stopped_in_the_middle_of_a_detach(programs, database, nowhere):
    """Within its ten seconds, and nothing goes on in the server."""
    old, = with_old_mail(database, [9])
    with slow_reader(database):
        reaper = programs.reaper(nowhere, database, ready=False)
        wait_for(lambda: pending(database), "the detach waits")
        began = time.monotonic()
        reaper.stop(seconds=10)
        assert time.monotonic() - began < 5
        wait_for(lambda: not sessions(database), "the session ends")
    programs.reaper(nowhere, database)
    assert not tables(database) & names(old)


def test_stopped_while_its_backend_does_not_answer(programs, database, nowhere):
    """Its connection is given up in time for an orderly end."""
    with_old_mail(database, [9])
    with slow_reader(database):
        reaper = programs.reaper(nowhere, database, ready=False)
        wait_for(lambda: pending(database), "the detach waits")
        backend = database.value("SELECT pid FROM pg_stat_activity"
                                 " WHERE application_name = 'mayfly-reaper' AND datname = %s",
                                 database.name)
        os.kill(backend, signal.SIGSTOP)
        try:
            reaper.stop(seconds=30)
        finally:
            os.kill(backend, signal.SIGCONT)
    assert reaper.log(event="pass_abandoned") and reaper.log(event="stopped")
    assert not reaper.log(event="stopped_late")


def test_stopped_while_it_waits_for_a_database(programs, cluster, nowhere):
    reaper = programs.reaper(nowhere, f"postgresql://127.0.0.1:{cluster.port}/none", ready=False)
    reaper.wait_log(event="database_down")
    reaper.stop(signal.SIGINT)


def test_killed_in_the_middle_of_a_pass(programs, database, nowhere):
    """Again and again, at any moment: the next one ends what was begun."""
    days = with_old_mail(database, range(8, 12))
    with slow_reader(database):
        reaper = programs.reaper(nowhere, database, ready=False)
        wait_for(lambda: pending(database), "the detach waits")
        reaper.kill()
    for delay in (0.02, 0.05, 0.1):
        reaper = programs.reaper(nowhere, database, ready=False)
        time.sleep(delay)
        reaper.kill()
    programs.reaper(nowhere, database)
    assert not tables(database) & names(*days)
    assert pending(database) == 0
    assert database.query("SELECT * FROM expired_partitions()") == []


# The database away, or not as it should be

def test_the_database_is_down_at_start(programs, cluster, database, nowhere):
    cluster.stop()
    reaper = programs.reaper(nowhere, database, ready=False)
    reaper.wait_log(event="database_down")
    time.sleep(1)
    assert not reaper.is_ready()
    cluster.start()
    reaper.wait_ready()
    reaper.wait_log(event="database_up")
    assert len(reaper.log(event="database_down")) == 1


def test_the_database_goes_away_and_comes_back(programs, cluster, database, nowhere):
    reaper = programs.reaper(nowhere, database)
    for times, end in enumerate((cluster.stop, cluster.kill), start=1):
        old, = with_old_mail(database, [9])
        end()
        wait_for(lambda: len(reaper.log(event="database_down")) == times, "it notices")
        cluster.start()
        wait_for(lambda: not tables(database) & names(old), "a pass at once, long before its time")
        # Until the pass has ended, the next loss would be the same absence to it.
        wait_for(lambda: len(reaper.log(event="database_up")) == times, "it says so")
    assert reaper.returncode is None


def test_a_database_without_the_schema(programs, cluster, empty_database, nowhere):
    reaper = programs.reaper(nowhere, empty_database, ready=False, REAPER_INTERVAL=1)
    said = reaper.wait_log(event="database_not_set_up")
    assert "schema.sql" in said["advice"]
    time.sleep(2)
    assert len(reaper.log(event="database_not_set_up")) == 1 and not reaper.is_ready()
    loaded = cluster.load_schema(empty_database.url)
    assert loaded.returncode == 0, loaded.stderr
    reaper.wait_ready()


def test_a_login_without_the_role(programs, cluster, database, nowhere, login):
    reaper = programs.reaper(nowhere, database.url_as(login), ready=False, REAPER_INTERVAL=1)
    said = reaper.wait_log(event="database_not_set_up")
    assert "mayfly_reaper" in said["advice"] and said["sqlstate"] == "42501"
    time.sleep(2)
    assert len(reaper.log(event="database_not_set_up")) == 1 and not reaper.is_ready()
    cluster.execute(f"GRANT mayfly_reaper TO {login}")
    reaper.wait_ready()


def test_timeouts_of_the_login_do_not_end_its_session(programs, cluster, database, nowhere, login):
    cluster.execute(f"GRANT mayfly_reaper TO {login}")
    for timeout in ("idle_session_timeout", "statement_timeout"):
        cluster.execute(f"ALTER ROLE {login} SET {timeout} = '300ms'")
    reaper = programs.reaper(nowhere, database.url_as(login))
    time.sleep(1.5)
    assert sessions(database) == ["idle"]
    assert not reaper.log(event="database_down")


def test_storing_goes_on_through_passes(programs, database, nowhere):
    """Inserts of now and of days whose partitions come and go, while a pass is made each second."""
    with_old_mail(database, range(8, 30))
    stop, slowest, failures = threading.Event(), [0], []

    def store():
        with contextlib.closing(database.cluster.connect(database.name)) as connection:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    add_mail(connection, clock(connection))
                    connection.commit()
                except psycopg2.Error as failure:
                    failures.append(failure)
                    connection.rollback()
                slowest[0] = max(slowest[0], time.monotonic() - began)
    threads = [threading.Thread(target=store) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        programs.reaper(nowhere, database, REAPER_INTERVAL=1)
        time.sleep(3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert slowest[0] < 2
    assert database.value("SELECT count(*) FROM messages") == database.value(
        "SELECT count(*) FROM emails") > 0
