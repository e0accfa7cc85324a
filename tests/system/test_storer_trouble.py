"""storer when something dies, is away, or is set up wrong: nothing lost, nothing stored twice."""

import contextlib
import random
import socket
import threading
import time

import pytest

from cluster import Cluster, free_port
from deadline import wait_for
from programs import url_of
from scale import scaled
from test_storer import doubled, ids, stored, wait_stored


@pytest.fixture
def role(database):
    """A login that is in group mayfly_storer and nothing else."""
    name = database.name + "_storer"
    database.query(f"CREATE ROLE {name} LOGIN IN ROLE mayfly_storer")
    yield name
    database.query(f"DROP OWNED BY {name}")
    database.query(f"DROP ROLE {name}")


def terminate(database):
    """Ends storer's session; returns how many there were."""
    return database.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                          "datname = current_database() AND application_name = 'mayfly-storer'")


def feed(spool, expected, end):
    """Puts messages, a few at a time, until `end` is set."""
    while not end.is_set():
        expected += spool.put_many(random.randint(1, 40))
        time.sleep(random.random() * 0.05)


@contextlib.contextmanager
def feeding(spool):
    """Messages come all the while; gives the list of their ids."""
    expected, end = [], threading.Event()
    feeder = threading.Thread(target=feed, args=(spool, expected, end))
    feeder.start()
    try:
        yield expected
    finally:
        end.set()
        feeder.join()


def stop_cleanly(storer):
    """In time, with 0, and with every handle of its loop closed."""
    storer.stop()
    assert storer.log(event="stopped") and not storer.log(event="handles_left")
    assert not storer.log(event="stopped_late")


# What dies

@pytest.mark.deadline(600)
def test_killed_at_random_moments(programs, spool, database):
    with feeding(spool) as expected:
        end = time.monotonic() + scaled(60, 4)
        while time.monotonic() < end:
            storer = programs.storer(spool, database, ready=False)
            time.sleep(random.random() * 0.3)
            storer.kill()
    programs.storer(spool, database)
    wait_stored(database, spool, expected)
    assert not spool.failed()


@pytest.mark.deadline(600)
def test_killed_at_random_moments_while_keeping(programs, spool, database):
    with feeding(spool) as expected:
        end = time.monotonic() + scaled(60, 4)
        while time.monotonic() < end:
            storer = programs.storer(spool, database, ready=False, STORER_KEEP=1)
            time.sleep(random.random() * 0.5)
            storer.kill()
    programs.storer(spool, database, STORER_KEEP=1)
    wait_stored(database, spool, expected)
    wait_for(lambda: not spool.cur(), "cur/ is empty")
    assert ids(database) == sorted(expected) and not doubled(database)
    assert not spool.failed()


@pytest.mark.deadline(600)
def test_its_session_is_ended_again_and_again(programs, spool, database):
    storer = programs.storer(spool, database, STORER_RESCAN=1)
    descriptors = storer.descriptors()
    ended = 0
    with feeding(spool) as expected:
        end = time.monotonic() + scaled(60, 4)
        while time.monotonic() < end:
            ended += terminate(database)
            time.sleep(random.random() * 0.2)
    wait_stored(database, spool, expected)
    assert ended > 5
    assert not spool.failed()
    assert storer.descriptors() <= descriptors + 2


def test_the_database_is_not_there_at_start(programs, spool, cluster, database):
    cluster.stop()
    storer = programs.storer(spool, database, ready=False)
    expected = spool.put_many(scaled(1000, 200))
    storer.wait_log(event="database_down")
    time.sleep(2)
    assert not storer.is_ready()
    assert len(storer.log(event="database_down")) == 1
    assert len(spool.new()) == len(expected)
    cluster.start()
    storer.wait_ready()
    storer.wait_log(event="database_up")
    wait_stored(database, spool, expected)


def test_the_database_goes_in_the_middle_of_a_batch(programs, spool, cluster, database):
    database.query("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()""")
    # There before it starts: else the first of them may be a batch of one.
    expected = spool.put_many(60)
    storer = programs.storer(spool, database)
    wait_for(lambda: database.value("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                                    " AND query LIKE 'INSERT INTO messages%%'"), "a batch runs")
    cluster.kill()
    assert len(spool.new()) == 60
    cluster.start()
    wait_stored(database, spool, expected)
    assert len(storer.log(event="stored")) == 60


def test_stopped_with_a_batch_in_hand(programs, spool, database):
    database.query("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()""")
    expected = spool.put_many(20)
    storer = programs.storer(spool, database)
    wait_for(lambda: database.value("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                                    " AND query LIKE 'INSERT INTO messages%%'"), "a batch runs")
    stop_cleanly(storer)
    # What was in hand was finished: nothing is stored whose file is still there.
    assert sorted(ids(database) + spool.new()) == sorted(expected)
    assert stored(database) > 0


def test_stopped_without_a_database(programs, spool, cluster, database):
    cluster.stop()
    expected = spool.put_many(10)
    storer = programs.storer(spool, database, ready=False)
    storer.wait_log(event="database_down")
    stop_cleanly(storer)
    assert spool.new() == sorted(expected)
    cluster.start()


def test_stopped_while_the_server_does_not_answer(programs, spool, database):
    storer = programs.storer(spool, database)
    blocker = database.connect()
    blocker.cursor().execute("LOCK TABLE messages")
    id = spool.put()
    wait_for(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted"), "it waits")
    stop_cleanly(storer)
    assert spool.new() == [id]
    blocker.rollback()


def test_a_host_that_says_nothing_gives_way_to_the_next(programs, spool, database):
    """It takes connections, as a stopped server's kernel does, and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = (f"host=127.0.0.1,{database.cluster.directory},127.0.0.1 "
               f"port={silent.getsockname()[1]},{database.cluster.port},{free_port()} "
               f"user=postgres dbname={database.name} connect_timeout=1")
        storer = programs.storer(spool, url)
        id = spool.put()
        wait_stored(database, spool, [id])
        terminate(database)
        second = spool.put()
        wait_stored(database, spool, [id, second])
        assert storer.log(event="database_down")


def set_read_only(cluster, how):
    """Makes every session of a server read-only from its next transaction on, or no more."""
    with contextlib.closing(cluster.connect(
            "postgres", options="-c default_transaction_read_only=off")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {how}")
        cursor.execute("SELECT pg_reload_conf()")

    def is_known():
        with contextlib.closing(cluster.connect("postgres")) as connection:
            cursor = connection.cursor()
            cursor.execute("SHOW default_transaction_read_only")
            return cursor.fetchone()[0] == how
    wait_for(is_known, "the server has heard it")
    time.sleep(0.5)  # and so have the sessions that are open


@pytest.mark.deadline(300)
def test_a_failover_is_followed(programs, spool, database):
    """The first server stops taking writes: the second one is found."""
    first, second = database.cluster, Cluster()
    try:
        copy = second.create()
        if copy.name != database.name:
            second.execute(f"ALTER DATABASE {copy.name} RENAME TO {database.name}")
            copy.name = database.name
        set_read_only(second, "on")
        storer = programs.storer(spool, f"host={first.directory},{second.directory} "
                                        f"port={first.port},{second.port} user=postgres "
                                        f"dbname={database.name}")
        before = spool.put_many(10)
        wait_stored(database, spool, before)
        set_read_only(first, "on")
        set_read_only(second, "off")
        after = spool.put_many(10)
        wait_for(lambda: not spool.new(), "new/ is empty")
        assert ids(database) == sorted(before)
        assert ids(copy) == sorted(after)
        storer.stop()
    finally:
        set_read_only(first, "off")
        second.remove()


# What is set up wrong

def check_repair(programs, spool, database, url, spoil, repair):
    storer = programs.storer(spool, url)
    before = spool.put_many(5)
    wait_stored(database, spool, before)
    database.query(spoil)
    after = spool.put_many(5)
    error = storer.wait_log(event="setup_error")
    assert error["message"] and error["remedy"] and error["level"] == "error"
    time.sleep(1.5)
    assert len(storer.log(event="setup_error")) == 1
    assert spool.new() == sorted(after) and not spool.failed()
    database.query(repair)
    wait_stored(database, spool, before + after)
    storer.wait_log(event="setup_right")


def test_a_table_is_missing(programs, spool, database):
    check_repair(programs, spool, database, database, "ALTER TABLE messages RENAME TO elsewhere",
                 "ALTER TABLE elsewhere RENAME TO messages")


def test_a_permission_is_missing(programs, spool, database, role):
    check_repair(programs, spool, database, database.url_as(role),
                 f"REVOKE mayfly_storer FROM {role}", f"GRANT mayfly_storer TO {role}")


def test_only_one_column_s_permission_is_missing(programs, spool, database, role):
    check_repair(programs, spool, database, database.url_as(role),
                 "REVOKE INSERT (raw) ON messages FROM mayfly_storer",
                 "GRANT INSERT (raw) ON messages TO mayfly_storer")


def test_the_schema_comes_after_the_program(programs, spool, empty_database):
    expected = spool.put_many(5)
    storer = programs.storer(spool, empty_database, ready=False)
    error = storer.wait_log(event="setup_error")
    assert "schema.sql" in error["remedy"]
    assert not storer.is_ready()
    loaded = empty_database.cluster.load_schema(empty_database.url)
    assert loaded.returncode == 0, loaded.stderr
    storer.wait_ready()
    wait_stored(empty_database, spool, expected)


def test_the_schema_is_too_old(programs, spool, database):
    database.query("CREATE OR REPLACE FUNCTION schema_version() RETURNS integer "
                   "LANGUAGE sql RETURN 0")
    storer = programs.storer(spool, database, ready=False)
    assert "version 0" in storer.wait_log(event="setup_error")["message"]


def test_without_a_retention_nothing_is_removed(programs, spool, database):
    storer = programs.storer(spool, database)
    before = spool.put_many(3)
    wait_stored(database, spool, before)
    database.query("DELETE FROM settings")
    after = spool.put_many(3)
    storer.wait_log(event="setup_error")
    assert spool.new() == sorted(after)
    database.query("INSERT INTO settings (retention) VALUES (interval '7 days')")
    wait_stored(database, spool, before + after)


def test_the_login_and_the_database_come_late(programs, spool, cluster, database):
    name = database.name + "_late"
    expected = spool.put_many(3)
    storer = programs.storer(spool, database.url_as(name), ready=False)
    assert "does not exist" in storer.wait_log(event="database_down")["reason"]
    database.query(f"CREATE ROLE {name} LOGIN IN ROLE mayfly_storer")
    wait_stored(database, spool, expected)
    storer.stop()
    database.query(f"DROP ROLE {name}")


# What the server may do to a session

def test_it_never_commits_asynchronously(programs, spool, database, role):
    database.query(f"ALTER ROLE {role} SET synchronous_commit = off")
    database.query("""
        CREATE TABLE seen (setting text);
        GRANT INSERT ON seen TO public;
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO seen VALUES (current_setting('synchronous_commit'));
            RETURN NEW;
        END $$;
        CREATE TRIGGER see BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION see()""")
    storer = programs.storer(spool, database.url_as(role))
    expected = [spool.put()]
    wait_stored(database, spool, expected)
    # A reload must not change it under the open session either.
    database.cluster.execute("ALTER SYSTEM SET synchronous_commit = off")
    database.cluster.execute("SELECT pg_reload_conf()")
    try:
        time.sleep(0.5)
        expected += [spool.put()]
        wait_stored(database, spool, expected)
        terminate(database)
        storer.wait_log(event="database_up")
        expected += [spool.put()]
        wait_stored(database, spool, expected)
    finally:
        database.cluster.execute("ALTER SYSTEM RESET synchronous_commit")
        database.cluster.execute("SELECT pg_reload_conf()")
    assert database.query("SELECT DISTINCT setting FROM seen") == [("on",)]


def test_a_stricter_commit_is_left_alone(programs, spool, database, role):
    database.query(f"ALTER ROLE {role} SET synchronous_commit = local")
    programs.storer(spool, database.url_as(role))
    wait_stored(database, spool, [spool.put()])


def test_a_statement_timeout_is_no_spin_and_blames_nobody(programs, spool, database, role):
    """One message is more than the timeout allows: the others pass, it stays."""
    database.query(f"ALTER ROLE {role} SET statement_timeout = '300ms'")
    database.query("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.mail_from = 'slow@c.example' THEN PERFORM pg_sleep(60); END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION slow()""")
    good = spool.put_many(3)
    slow = spool.put(mail_from="slow@c.example")
    good += spool.put_many(3)
    storer = programs.storer(spool, database.url_as(role), LOG_LEVEL="debug")
    wait_for(lambda: ids(database) == sorted(good), "the others are stored", 110)
    assert slow in spool.new() and not spool.failed()
    assert len(storer.log(event="database_trouble")) < 60
    database.query("DROP TRIGGER slow ON messages")
    storer.stop()
    programs.storer(spool, database.url_as(role))
    wait_stored(database, spool, good + [slow])


def test_what_is_no_message_s_fault_is_waited_out(programs, spool, database):
    database.query("""
        CREATE TABLE fault (code text);
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            code text := (SELECT code FROM fault);
        BEGIN
            IF code IS NOT NULL THEN RAISE EXCEPTION 'fault %', code USING ERRCODE = code; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail()""")
    storer = programs.storer(spool, database)
    expected = []
    for code in ("P0001", "40001", "40P01", "53100", "55P03", "55006", "58030", "XX000", "08000",
                 "25P02", "72000", "54000"):
        database.query("INSERT INTO fault VALUES (%s)", code)
        waiting = spool.put_many(3)
        storer.wait_log(event="database_trouble", sqlstate=code)
        time.sleep(0.2)
        assert spool.new() == sorted(waiting) and not spool.failed()
        database.query("TRUNCATE fault")
        expected += waiting
        wait_stored(database, spool, expected)
    assert len(storer.log(event="database_recovered")) == 12


def test_an_unforeseen_error_of_one_message_holds_up_no_other(programs, spool, database):
    """It is not known whose fault it is: the message stays, and is tried again."""
    database.query("""
        CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.mail_from = 'odd@c.example' THEN RAISE EXCEPTION 'not today'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER odd BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION odd()""")
    good = spool.put_many(3)
    odd = spool.put(mail_from="odd@c.example")
    good += spool.put_many(3)
    storer = programs.storer(spool, database, STORER_RESCAN=1)
    wait_for(lambda: ids(database) == sorted(good), "the others are stored", 110)
    assert odd in spool.new() and not spool.failed()
    storer.wait_log(event="passed_over", id=odd)
    database.query("DROP TRIGGER odd ON messages")
    wait_stored(database, spool, good + [odd])


def test_idle_sessions_that_are_ended_come_back(programs, spool, database, role):
    database.query(f"ALTER ROLE {role} SET idle_session_timeout = '200ms'")
    storer = programs.storer(spool, database.url_as(role))
    expected = []
    for _ in range(4):
        time.sleep(0.3)
        expected.append(spool.put())
    wait_stored(database, spool, expected)
    assert storer.returncode is None


# Two of them

def test_the_second_waits_and_takes_over(programs, spool, database):
    first = programs.storer(spool, database)
    second = programs.storer(spool, database, ready=False)
    second.wait_log(event="lock_waiting")
    expected = spool.put_many(50)
    wait_stored(database, spool, expected)
    time.sleep(1)
    assert len(second.log(event="lock_waiting")) == 1
    assert not second.is_ready() and not second.log(event="stored")
    first.kill()
    second.wait_ready()
    more = spool.put_many(50)
    wait_stored(database, spool, expected + more)
    assert len(second.log(event="stored")) == 50


def test_the_second_stops_while_it_waits(programs, spool, database):
    programs.storer(spool, database)
    second = programs.storer(spool, database, ready=False)
    second.wait_log(event="lock_waiting")
    stop_cleanly(second)


def test_a_program_without_a_spool_says_so(programs, database):
    ended = programs.run("storer", SPOOL="/proc/nowhere", DATABASE_URL=url_of(database))
    assert ended.returncode == 71
    assert "spool_unusable" in ended.stderr
