"""Days: made when missing and ahead of time, let go when expired, and nobody waits for either."""

import contextlib
import datetime
import threading
import time

import psycopg2
import pytest

from deadline import wait_for
from rows import add_mail, clock, make_day

DAY = datetime.timedelta(days=1)
PARENTS = ("messages", "deliveries")


def today(database):
    return database.value("SELECT (now() AT TIME ZONE 'UTC')::date")


def partitions(database, parent="messages"):
    """The attached partitions' days, as their names have them."""
    return [name.rsplit("_", 1)[1] for name, in database.query(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = %s::regclass AND NOT inhdetachpending ORDER BY 1", parent)]


def states(database, day):
    return [database.value("SELECT partition_state(%s, %s)", parent, day) for parent in PARENTS]


def run_expired(database):
    """What expired_partitions() says, until it says nothing; returns the steps that were taken."""
    taken = []
    with contextlib.closing(database.cluster.connect(database.name)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT name, step, command FROM expired_partitions()")
                rows = cursor.fetchall()
                if not rows:
                    return taken
                name, step, command = rows[0]
                cursor.execute(command)
                taken.append((name, step))


# Making

def test_two_weeks_ahead_from_the_start(database):
    want = [f"{today(database) + ahead * DAY:%Y%m%d}" for ahead in range(15)]
    for parent in PARENTS:
        assert partitions(database, parent) == want
    assert database.value("SELECT make_partitions_ahead()") == 15
    for parent in PARENTS:
        assert partitions(database, parent) == want


def test_a_missing_partition_is_an_error_of_its_own_and_is_mended(database):
    connection = database.connect()
    received = clock(connection) - 2 * DAY
    with pytest.raises(psycopg2.errors.CheckViolation) as failure:
        add_mail(connection, received)
    assert failure.value.pgcode == "23514" and failure.value.diag.constraint_name is None
    connection.rollback()
    day = received.astimezone(datetime.timezone.utc).date()
    assert database.value("SELECT make_partitions(%s)", day) is True
    assert database.value("SELECT make_partitions(%s)", day) is True
    add_mail(connection, received)
    connection.commit()
    assert database.value("SELECT count(*) FROM emails") == 1


def test_only_days_that_make_sense(database):
    for offset, made in [(-8, False), (-7, True), (-6, True), (0, True), (14, True), (31, True),
                         (32, False), (-100000, False), (1000000, False)]:
        day = today(database) + datetime.timedelta(days=offset)
        before = partitions(database)
        assert database.value("SELECT make_partitions(%s)", day) is made, offset
        assert made or partitions(database) == before, offset
    for day in (None, "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"):
        assert database.value("SELECT make_partitions(%s::date)", day) is False, day


def test_a_day_is_utc_whatever_the_session_thinks(database):
    connection = database.connect()
    connection.autocommit = True
    for ahead, zone, style in [(20, "Pacific/Kiritimati", "German"),
                               (21, "Pacific/Pago_Pago", "SQL, DMY"),
                               (22, "America/New_York", "Postgres, MDY")]:
        day = today(database) + ahead * DAY
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('timezone', %s, false),"
                           " set_config('datestyle', %s, false)", (zone, style))
            cursor.execute("SELECT make_partitions(%s::date)", (f"{day:%Y%m%d}",))
        bound = database.value("SELECT pg_get_expr(relpartbound, oid) FROM pg_class"
                               " WHERE relname = %s", f"messages_{day:%Y%m%d}")
        assert bound == f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{day + DAY} 00:00:00+00')"


def test_a_partition_is_like_its_parent(database):
    name = f"{today(database):%Y%m%d}"
    for parent in PARENTS:
        columns = ("SELECT attname, atttypid, attnotnull, attgenerated, attstorage, attcollation,"
                   " pg_get_expr(adbin, adrelid) FROM pg_attribute"
                   " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
                   " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum")
        assert (database.query(columns, f"{parent}_{name}") == database.query(columns, parent))
        indexes = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass AND indisvalid"
        assert (database.value(indexes, f"{parent}_{name}") == database.value(indexes, parent))
        triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass"
        assert (database.value(triggers, f"{parent}_{name}") == database.value(triggers, parent))
    assert database.value("SELECT attstorage FROM pg_attribute WHERE attrelid = %s::regclass"
                          " AND attname = 'raw'", f"messages_{name}") == "e"


def test_many_at_once(database):
    """Twenty storers that miss the same day."""
    day = today(database) + 20 * DAY
    results = []

    def make():
        results.append(database.value("SELECT make_partitions(%s)", day))
    threads = [threading.Thread(target=make) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20
    assert states(database, day) == ["attached"] * 2


def test_half_a_day(database):
    """One half lost, by whatever hand: the other is made again, and nothing is lost."""
    day = today(database)
    connection = database.connect()
    add_mail(connection, clock(connection))
    connection.commit()
    database.query(f"DROP TABLE deliveries_{day + DAY:%Y%m%d}")
    database.query(f"ALTER TABLE messages DETACH PARTITION messages_{day:%Y%m%d}")
    assert states(database, day) == ["detached", "attached"]
    assert database.value("SELECT count(*) FROM emails") == 0
    assert database.value("SELECT make_partitions_ahead()") == 15
    assert states(database, day) == states(database, day + DAY) == ["attached"] * 2
    assert database.value("SELECT count(*) FROM emails") == 1


def test_a_stranger_of_that_name(database):
    """A table in the way that is none of ours is neither attached nor harmed."""
    day = today(database) + 20 * DAY
    database.query(f"CREATE TABLE deliveries_{day:%Y%m%d} (x int)")
    with pytest.raises(psycopg2.Error):
        database.query("SELECT make_partitions(%s)", day)
    assert states(database, day) == ["missing", "detached"], "all or nothing"


# Waiting for nobody, and making nobody wait

class SlowReader:
    """A transaction that has read the tables and does not end."""

    def __init__(self, database):
        self.connection = database.connect()
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM emails")
            cursor.execute("SELECT count(*) FROM messages")

    def end(self):
        self.connection.rollback()


def test_making_does_not_wait_for_a_slow_reader(database):
    reader = SlowReader(database)
    writer = database.connect()
    add_mail(writer, clock(writer))
    began = time.monotonic()
    assert database.value("SELECT make_partitions(%s)", today(database) + 20 * DAY)
    assert time.monotonic() - began < 1.5, "less than any lock_timeout"
    reader.end()
    writer.commit()


def test_making_gives_up_soon_when_it_must_wait(database):
    holder = database.connect()
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE messages IN SHARE UPDATE EXCLUSIVE MODE")
    with pytest.raises(psycopg2.errors.LockNotAvailable):
        database.query("SELECT make_partitions(%s)", today(database) + 20 * DAY)
    holder.rollback()
    assert database.value("SELECT make_partitions(%s)", today(database) + 20 * DAY)


def test_a_login_that_may_do_nothing_keeps_nobody_from_making(cluster, database):
    """By any advisory lock: everybody can take those."""
    cluster.execute("CREATE ROLE idle_hand LOGIN")
    holder = database.connect("idle_hand")
    try:
        with holder.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(1296128326, number)"
                           " FROM generate_series(1, 9) AS number")
        assert database.value("SELECT make_partitions(%s)", today(database) + 20 * DAY)
    finally:
        holder.close()
        cluster.execute("DROP ROLE idle_hand")


# Letting go

def with_old_mail(database, ages):
    connection = database.connect()
    now = clock(connection)
    for age in ages:
        make_day(connection, now - age * DAY)
        add_mail(connection, now - age * DAY)
    connection.commit()
    return now


def test_nothing_is_expired_at_first(database):
    assert database.query("SELECT * FROM expired_partitions()") == []


def test_only_whole_days_expire(database):
    """Of eight and nine days ago every moment is older than seven days; the day seven days ago
    still has moments that are not."""
    now = with_old_mail(database, [6, 7, 8, 9])
    day = now.astimezone(datetime.timezone.utc).date()
    expired = {f"public.{parent}_{day - age * DAY:%Y%m%d}" for parent in PARENTS for age in (8, 9)}
    assert {row[0] for row in database.query("SELECT name FROM expired_partitions()")} == expired
    taken = run_expired(database)
    assert {name for name, step in taken if step == "drop"} == expired
    assert {name for name, step in taken if step == "detach"} == expired
    assert database.value("SELECT count(*) FROM messages") == 2
    assert database.query("SELECT relname FROM pg_class WHERE relname = ANY(%s)",
                          [name.split(".")[1] for name in expired]) == []


def test_names_that_only_look_like_days(database):
    """What is not ours, or no day, is left, and fails nothing."""
    database.query("CREATE TABLE messages_20000101 (x int)")
    database.query("CREATE TABLE messages_1 (x int); CREATE TABLE messages_2000010x (x int)")
    database.query("CREATE VIEW deliveries_20000102 AS SELECT 1 AS one")
    assert database.query("SELECT * FROM expired_partitions()") == []


def test_a_drop_is_not_offered_before_the_detach(database):
    with_old_mail(database, [9])
    assert {row[0] for row in database.query("SELECT step FROM expired_partitions()")} == {"detach"}


def test_an_interrupted_detach_is_finished_first(database):
    now = with_old_mail(database, [9, 10])
    day = now.astimezone(datetime.timezone.utc).date() - 9 * DAY
    reader = SlowReader(database)
    with contextlib.closing(database.cluster.connect(database.name)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.LockNotAvailable):
            cursor.execute("SET lock_timeout = '200ms'")
            cursor.execute("ALTER TABLE messages DETACH PARTITION"
                           f" messages_{day:%Y%m%d} CONCURRENTLY")
    assert states(database, day)[0] == "detaching"
    first = database.query("SELECT name, step FROM expired_partitions()")[0]
    assert first == (f"public.messages_{day:%Y%m%d}", "finalize")
    reader.end()
    run_expired(database)
    assert states(database, day) == ["missing"] * 2
    assert database.query("SELECT * FROM expired_partitions()") == []


def test_a_longer_retention_brings_back_what_was_only_detached(database):
    now = with_old_mail(database, [9])
    day = now.astimezone(datetime.timezone.utc).date() - 9 * DAY
    for parent in PARENTS:
        database.query(f"ALTER TABLE {parent} DETACH PARTITION {parent}_{day:%Y%m%d} CONCURRENTLY")
    database.query("SELECT set_retention('30 days')")
    assert database.query("SELECT * FROM expired_partitions()") == []
    assert database.value("SELECT make_partitions_ahead()") == 16
    assert database.value("SELECT count(*) FROM emails") == 1
    assert database.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass",
                          f"deliveries_{day:%Y%m%d}") == 1


def test_a_day_that_is_being_detached_is_not_made(database):
    """It fails as something in use does, so that it is tried again; and other days are made all the
    same."""
    now = with_old_mail(database, [9])
    day = now.astimezone(datetime.timezone.utc).date() - 9 * DAY
    reader = SlowReader(database)
    with contextlib.closing(database.cluster.connect(database.name)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.LockNotAvailable):
            cursor.execute("SET lock_timeout = '200ms'")
            cursor.execute("ALTER TABLE messages DETACH PARTITION"
                           f" messages_{day:%Y%m%d} CONCURRENTLY")
    database.query("SELECT set_retention('30 days')")
    with pytest.raises(psycopg2.errors.ObjectInUse):
        database.query("SELECT make_partitions(%s)", day)
    assert database.value("SELECT make_partitions_ahead()") == 15
    reader.end()
    run_expired(database)
    assert database.value("SELECT make_partitions_ahead()") == 16
    assert database.value("SELECT count(*) FROM emails") == 1


def test_inserts_do_not_wait_while_a_detach_does(database):
    now = with_old_mail(database, [9])
    day = now.astimezone(datetime.timezone.utc).date() - 9 * DAY
    reader = SlowReader(database)
    detach = threading.Thread(target=run_expired, args=(database,))
    detach.start()
    wait_for(lambda: "detaching" in states(database, day), "the detach waits")
    slowest = 0
    writer = database.connect()
    for _ in range(50):
        began = time.monotonic()
        add_mail(writer, clock(writer))
        writer.commit()
        slowest = max(slowest, time.monotonic() - began)
    assert detach.is_alive(), "still waits for the reader"
    assert slowest < 1
    reader.end()
    detach.join(60)
    assert not detach.is_alive()
    assert states(database, day) == ["missing"] * 2
    assert database.value("SELECT count(*) FROM emails") == 50
