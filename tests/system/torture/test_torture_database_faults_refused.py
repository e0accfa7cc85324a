"""A database that is there and does not do what it is asked: read-only, out of time, deadlocked,
not serializable. Each is a real one, made by what makes it in life, and for none is a message to
blame.

The letters are acknowledged by a real smtpd while the fault lasts.
"""

import contextlib
import time

import pytest

import gates
from cluster import Cluster
from deadline import wait_for
from letterbox import Letterbox, not_in_make_test, without_spin
from proxy import Proxy
from size import pick
from standby import configure

pytestmark = pytest.mark.deadline(pick(180, 600, 900))

TABLES = ("messages", "deliveries")
BLOCKED = (f"SELECT count(*) FROM pg_stat_activity WHERE {gates.OURS} AND wait_event_type = 'Lock'"
           " AND datname = current_database()")


@pytest.fixture
def box(programs, spool):
    return Letterbox(programs, spool)


@pytest.fixture
def own_database():
    """In a server of its own, whose settings are the test's."""
    server = Cluster()
    server.start()
    yield server.create()
    server.kill()
    server.remove()


def blocked(database):
    return database.value(BLOCKED) > 0


def url_with(database, **options):
    words = " ".join(f"-c {name}={value}" for name, value in options.items())
    return (f"host={database.cluster.directory} port={database.cluster.port} user=postgres"
            f" dbname={database.name} options='{words}'")


def troubles(box, sqlstate):
    return len(box.storer.log(event="database_trouble", sqlstate=sqlstate))


def test_read_only(tally_of, box, own_database):
    """Every session from its next transaction on, as before a planned move: with a batch in hand,
    and with none."""
    server = own_database.cluster
    gates.build(own_database)
    box.start_storer(own_database)
    with tally_of("database-faults/read-only") as tally:
        for number in range(pick(2, 4, 20)):
            if number % 2:
                gates.warm_up(box)
                with gates.shut(own_database, "messages"):
                    gates.send_to(box, own_database, "messages", gates.WAYS[number % 4 // 2])
                    configure(server, default_transaction_read_only="on")
            else:
                configure(server, default_transaction_read_only="on")
            wait_for(lambda: not box.spool.new() or number % 2 == 0, "what was begun is done")
            sent = box.send(5)
            with without_spin(box.storer):
                time.sleep(1)
            assert set(box.spool.new()) >= set(sent)
            with contextlib.closing(own_database.connect(
                    options="-c default_transaction_read_only=off")) as connection:
                connection.autocommit = True
                cursor = connection.cursor()
                cursor.execute("ALTER SYSTEM RESET default_transaction_read_only")
                cursor.execute("SELECT pg_reload_conf()")
            box.drained()
            tally.did()
        box.compare(tally, own_database)
    assert box.storer.log(event="database_down")


@not_in_make_test
def test_statement_timeout_of_what_waits_for_a_lock(tally_of, box, database):
    """Nobody gets through while it lasts; each of the messages is passed over in its turn."""
    box.start_storer(url_with(database, statement_timeout=200))
    with tally_of("database-faults/statement-timeout") as tally:
        for _ in range(pick(1, 2, 6)):
            with contextlib.closing(database.connect()) as blocker:
                blocker.cursor().execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
                box.send_batch(5)
                with without_spin(box.storer):
                    time.sleep(pick(3, 3, 6))
                assert len(box.spool.new()) == 5
            box.drained()
            tally.did()
        box.compare(tally, database)
    assert troubles(box, "57014")


def test_statement_timeout_of_a_batch_that_is_too_large(tally_of, box, database):
    """The whole is too slow, and its parts are not: all of it gets through."""
    database.query("""
        CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION be_slow()""")
    box.start_storer(url_with(database, statement_timeout=700))
    with tally_of("database-faults/statement-timeout-large") as tally:
        for _ in range(pick(1, 3, 10)):
            with without_spin(box.storer):
                box.send_batch(60)
                box.drained()
            tally.did()
        box.compare(tally, database)
    assert troubles(box, "57014")


@not_in_make_test
@pytest.mark.parametrize("setting", ["lock_timeout", "idle_in_transaction_session_timeout"])
def test_other_timeouts(tally_of, box, database, setting):
    box.start_storer(url_with(database, **{setting: 200}))
    with tally_of(f"database-faults/{setting.replace('_', '-')}") as tally:
        for _ in range(pick(1, 2, 6)):
            with contextlib.closing(database.connect()) as blocker:
                blocker.cursor().execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
                box.send_batch(5)
                with without_spin(box.storer):
                    time.sleep(1)
            box.drained()
            tally.did()
        box.compare(tally, database)
    assert setting != "lock_timeout" or troubles(box, "55P03")


def test_deadlock(tally_of, box, database):
    """With a session that locks the tables in the other order, as DDL of an operator's might. Of
    the two, storer is the one that the server ends: it looks for a deadlock first."""
    box.start_storer(database)
    with tally_of("database-faults/deadlock") as tally:
        for number in range(pick(2, 4, 25)):
            before = troubles(box, "40P01")
            with contextlib.closing(database.connect(options="-c deadlock_timeout=60s")) as other:
                cursor = other.cursor()
                cursor.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
                box.send_batch(5)
                wait_for(lambda: blocked(database), "storer waits for deliveries")
                # Until something is stored in its session, it copies nothing.
                assert gates.is_copying(database) == (number > 0)
                # Granted once storer has let go of it.
                cursor.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            box.drained()
            wait_for(lambda: troubles(box, "40P01") > before, "storer says so")
            tally.did()
        box.compare(tally, database)


def test_the_day_s_partitions_cannot_be_made(tally_of, box, database):
    """They are missing while somebody has a table: until the time for that is over, or in a
    deadlock with whoever wants the other table next."""
    box.start_storer(database)
    day = "to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"
    with tally_of("database-faults/partitions") as tally:
        for number in range(pick(2, 4, 20)):
            code = ("40P01", "55P03")[number % 2]
            before = troubles(box, code)
            for table in TABLES:
                database.query(f"DO $$ BEGIN EXECUTE 'DROP TABLE {table}_' || {day}; END $$")
            box.acknowledged.clear()
            with contextlib.closing(database.connect(options="-c deadlock_timeout=60s")) as other:
                cursor = other.cursor()
                cursor.execute("LOCK TABLE deliveries IN SHARE UPDATE EXCLUSIVE MODE")
                box.send_batch(5)
                wait_for(lambda: blocked(database), "storer makes them, and waits")
                if code == "40P01":
                    cursor.execute("LOCK TABLE messages IN SHARE UPDATE EXCLUSIVE MODE")
                wait_for(lambda: troubles(box, code) > before, f"{code} is said")
            box.drained()
            tally.compare(box.look(database))
            tally.did()
        box.compare(tally, database)


def test_serialization(tally_of, box, database):
    """The ghost of a lost session: it waits to commit, while storer, in a new one, inserts the same
    messages and waits for it. When it has committed, they are there, and in no snapshot of
    storer's."""
    gates.build(database)
    path = f"{database.cluster.directory}/.s.PGSQL.{database.cluster.port}"
    with Proxy(path) as proxy, tally_of("database-faults/serialization") as tally:
        box.start_storer(f"host=127.0.0.1 port={proxy.port} user=postgres dbname={database.name}"
                         " sslmode=disable gssencmode=disable")
        for number in range(pick(2, 8, 60)):
            gates.warm_up(box)
            with gates.shut(database, "commit"):
                gates.send_to(box, database, "commit", gates.WAYS[number % 2])
                proxy.drop()
                wait_for(lambda: database.value(BLOCKED + " AND wait_event = 'transactionid'"),
                         "the new session waits for the old one")
            box.drained()
            assert troubles(box, "40001") > number
            tally.did()
        box.compare(tally, database)


@pytest.mark.parametrize("code", pick(["40001"], *[["40001", "40P01", "40003"]] * 2))
def test_said_by_a_trigger(tally_of, box, database, code):
    """Every other time, whatever is inserted: a sequence is not rolled back."""
    database.query(f"""
        CREATE SEQUENCE tries;
        CREATE FUNCTION be_moody() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') % 2 = 1 THEN
                RAISE EXCEPTION 'not this time' USING ERRCODE = '{code}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER moody BEFORE INSERT ON messages FOR EACH STATEMENT
            EXECUTE FUNCTION be_moody()""")
    box.start_storer(database)
    with tally_of(f"database-faults/sqlstate-{code}") as tally:
        for _ in range(pick(2, 8, 60)):
            box.send_batch(5)
            box.drained()
            tally.did()
        assert database.value("SELECT last_value FROM tries") >= 2 * tally.tried
        box.compare(tally, database)
