"""schema.sql: one command, at any time, by whoever may; and what each role may do, and nothing
else."""

import concurrent.futures
import contextlib
import json
import subprocess
import threading

import psycopg2
import pytest

from cluster import SCHEMA
from deadline import wait_for
from rows import add_mail, clock

ROLES = ["mayfly_storer", "mayfly_reaper", "mayfly_reader"]

# Everything there is, with what it looks like: two loads that agree here made the same.
SHAPE = """
    SELECT 'relation', c.oid::regclass::text, relkind::text, relacl::text, reloptions::text,
           relowner::regrole::text, CASE WHEN relkind = 'v' THEN pg_get_viewdef(c.oid) END
    FROM pg_class c WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'column', attrelid::regclass::text, attname, format_type(atttypid, atttypmod),
           attacl::text, concat(attstorage, attnotnull, attgenerated), attnum::text
    FROM pg_attribute WHERE attnum > 0
         AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    UNION ALL
    SELECT 'function', oid::regprocedure::text, prosrc, proacl::text, proconfig::text,
           proowner::regrole::text, concat(provolatile, prosecdef)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3"""


def load(cluster, database, user="postgres"):
    """Runs the one command; what it says, when it says anything."""
    done = cluster.load_schema(cluster.url(database.name, user))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_loading_says_nothing_and_again_changes_nothing(cluster, empty_database):
    assert load(cluster, empty_database) == ""
    first = empty_database.query(SHAPE)
    assert len(first) > 100
    assert load(cluster, empty_database) == ""
    assert empty_database.query(SHAPE) == first
    assert empty_database.value("SELECT schema_version()") == 2


def test_loading_keeps_mail_and_settings(cluster, database):
    connection = database.connect()
    add_mail(connection, clock(connection))
    connection.commit()
    database.query("SELECT set_retention('3 days')")
    load(cluster, database)
    assert database.value("SELECT count(*) FROM emails") == 1
    assert database.value("SELECT retention() = interval '72 hours'")


def test_functions_that_an_older_schema_lacks_are_made(cluster, database):
    """With the rights that they have in a new one."""
    whole = database.query(SHAPE)
    gone = set()
    for name, in database.query("SELECT oid::regprocedure::text FROM pg_proc"
                                " WHERE pronamespace = 'public'::regnamespace"):
        with contextlib.suppress(psycopg2.errors.DependentObjectsStillExist):
            database.query(f"DROP FUNCTION {name}")
            gone.add(name)
    assert {"message_headers(uuid)", "message_parts(uuid)", "schema_version()"} < gone
    assert load(cluster, database) == ""
    assert database.query(SHAPE) == whole


def test_from_any_directory(cluster, empty_database):
    done = subprocess.run([f"{cluster.bin}/psql", "-X", "-q", cluster.url(empty_database.name),
                           "-v", "ON_ERROR_STOP=1", "-f", SCHEMA], cwd="/", capture_output=True,
                          text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_many_at_once(cluster, empty_database):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        said = [pool.submit(load, cluster, empty_database) for _ in range(6)]
        assert {each.result() for each in said} == {""}
    assert empty_database.value("SELECT schema_version()") == 2


def test_two_databases_at_once(cluster):
    """Roles belong to the cluster."""
    databases = [cluster.create(empty=True) for _ in range(3)]
    try:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for each in [pool.submit(load, cluster, database) for database in databases]:
                assert each.result() == ""
    finally:
        for database in databases:
            database.drop()


def test_again_while_mail_is_stored_and_read(cluster, database):
    """An open transaction that has inserted, and one that has read, do not keep it waiting; nor do
    inserts fail or wait meanwhile."""
    writer, reader = database.connect(), database.connect()
    add_mail(writer, clock(writer))
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM emails")
    stop, stored = threading.Event(), []

    def store():
        with contextlib.closing(cluster.connect(database.name)) as connection:
            while not stop.is_set():
                add_mail(connection, clock(connection))
                connection.commit()
                stored.append(1)
    thread = threading.Thread(target=store)
    thread.start()
    try:
        for _ in range(3):
            before = len(stored)
            assert load(cluster, database) == ""
            wait_for(lambda: len(stored) > before, "inserts go on")
    finally:
        stop.set()
        thread.join()
    writer.commit()
    assert database.value("SELECT count(*) FROM emails") == len(stored) + 1


@pytest.mark.parametrize("harm", ["DROP TRIGGER deliveries_parse ON deliveries",
                                  "ALTER TABLE deliveries DISABLE TRIGGER ALL",
                                  "ALTER TABLE ONLY deliveries DISABLE TRIGGER deliveries_parse",
                                  "ALTER TABLE {partition} DISABLE TRIGGER ALL"])
def test_a_trigger_that_is_lost_or_disabled_comes_back(cluster, database, harm):
    """For the days there are and for those to come."""
    database.query(harm.format(partition=database.value(
        "SELECT 'deliveries_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")))
    assert load(cluster, database) == ""
    database.query("SELECT make_partitions(current_date + 20)")
    # On the table and each of its days, which are one more where midnight has come meanwhile.
    tables = 1 + database.value("SELECT count(*) FROM pg_inherits"
                                " WHERE inhparent = 'deliveries'::regclass")
    states = database.query("SELECT tgenabled, count(*) FROM pg_trigger"
                            " WHERE tgname = 'deliveries_parse' GROUP BY 1")
    assert states == [("O", tables)] and tables >= 17
    connection = database.connect()
    add_mail(connection, clock(connection), ["Bob@X.example"])
    connection.commit()
    assert database.query("SELECT username, domain FROM emails") == [("bob", "x.example")]


def test_a_schema_of_its_own(cluster, empty_database):
    """The tables are made in the first schema of the search path, and the functions stay with them
    whatever path a caller has."""
    name = empty_database.name
    empty_database.query('CREATE SCHEMA "My Mail"')
    empty_database.query(f'ALTER DATABASE {name} SET search_path = "My Mail"')
    load(cluster, empty_database)
    load(cluster, empty_database)
    connection = empty_database.connect()
    add_mail(connection, clock(connection))
    connection.commit()
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = ''")
        cursor.execute("""SELECT subject FROM "My Mail".inbox('bob')""")
        assert cursor.fetchall() == [("x",)]
        cursor.execute("""SELECT "My Mail".make_partitions(current_date + 20)""")
        assert cursor.fetchall() == [(True,)]
        cursor.execute("""SELECT "My Mail".set_retention('1 hour')""")
        cursor.execute("""SELECT count(*) FROM "My Mail".expired_partitions()""")
        cursor.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert cursor.fetchall() == [(0,)]


def test_a_database_that_is_not_utf8(cluster):
    cluster.execute("CREATE DATABASE mayfly_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        done = cluster.load_schema(cluster.url("mayfly_latin1"))
        assert done.returncode != 0
        assert "encoding UTF8" in done.stderr
    finally:
        cluster.execute("DROP DATABASE mayfly_latin1")


def test_everything_has_a_comment(database):
    missing = database.query("""
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT c.oid::regclass::text || '.' || coalesce(attname, '') FROM pg_class c
        LEFT JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND relkind IN ('p', 'v')
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('p', 'v', 'S')
          AND (col_description(c.oid, attnum) IS NULL AND attnum IS NOT NULL
               OR obj_description(c.oid, 'pg_class') IS NULL)""")
    assert missing == []


# Roles

@pytest.fixture
def logins(cluster, database):
    """One login a role, and one without any."""
    names = {role: f"login_{role}" for role in [*ROLES, "nobody"]}
    for role, login in names.items():
        cluster.execute(f"CREATE ROLE {login} LOGIN"
                        + (f" IN ROLE {role}" if role in ROLES else ""))
    yield names
    for login in names.values():
        cluster.execute(f"DROP ROLE {login}")


ID = "'00000000-0000-7000-8000-000000000001'"
INSERT_MESSAGE = ("INSERT INTO messages (id, received_at, mail_from, client, helo, protocol, size,"
                  f" raw) VALUES ({ID}, now(), '', '::1', 'h', 'SMTP', 1, 'x')"
                  " ON CONFLICT DO NOTHING")
INSERT_DELIVERY = ("INSERT INTO deliveries (message_id, received_at, position, recipient)"
                   f" SELECT {ID}, now(), n, 'bob@x' FROM generate_series(1, 2) AS n"
                   " ON CONFLICT DO NOTHING")
INSERT_PARSED = ("INSERT INTO deliveries (message_id, received_at, position, recipient, username,"
                 f" domain) SELECT {ID}, now(), 1, a, address_username(a), address_domain(a)"
                 " FROM unnest(ARRAY['bob@x']) AS a ON CONFLICT DO NOTHING")

# What may be done, and by whom. Everybody else is refused.
ACTS = {
    INSERT_MESSAGE: {"mayfly_storer", "mayfly_reaper"},
    INSERT_DELIVERY: {"mayfly_storer", "mayfly_reaper"},
    INSERT_PARSED: {"mayfly_storer", "mayfly_reaper"},
    "SELECT make_partitions(current_date + 1)": {"mayfly_storer", "mayfly_reaper"},
    "SELECT notify_mailboxes(ARRAY['bob@x'])": {"mayfly_storer", "mayfly_reaper"},
    "SELECT schema_version(), retention()": set(ROLES),
    "SELECT address_username('a@b'), address_domain('a@b')": set(ROLES),
    "SELECT * FROM emails": {"mayfly_reader", "mayfly_reaper"},
    "SELECT * FROM inbox('bob')": {"mayfly_reader", "mayfly_reaper"},
    "SELECT * FROM inbox_search('bob', in_subject => 'x')": {"mayfly_reader", "mayfly_reaper"},
    "SELECT words_occur('x', 'y')": {"mayfly_reaper"},
    f"SELECT * FROM message_headers({ID})": {"mayfly_reader", "mayfly_reaper"},
    f"SELECT * FROM message_parts({ID})": {"mayfly_reader", "mayfly_reaper"},
    "SELECT * FROM mime_parts('x')": {"mayfly_reaper"},
    "SELECT header_extent('a: b', 1, 5), header_fields('a: b'), escaped_text('a')":
        {"mayfly_reaper"},
    "SELECT bytes_position('abc', 'b', 1, 4)": {"mayfly_reaper"},
    "SELECT message_text('x'), header_field('x', 'y'), header_decode('=?utf-8?Q?x?=')":
        {"mayfly_reader", "mayfly_reaper"},
    "SELECT * FROM messages": {"mayfly_reaper"},
    "SELECT * FROM deliveries": {"mayfly_reaper"},
    "SELECT id FROM deliveries": {"mayfly_reaper"},
    "SELECT * FROM {partition}": {"mayfly_reaper"},
    "INSERT INTO {partition} SELECT * FROM {partition}": {"mayfly_reaper"},
    "SELECT * FROM settings": {"mayfly_reaper"},
    "SELECT last_value FROM deliveries_id_seq": {"mayfly_reaper"},
    "SELECT setval('deliveries_id_seq', 10000)": {"mayfly_reaper"},
    "INSERT INTO deliveries (id, message_id, received_at, position, recipient)"
    f" VALUES (1, {ID}, now(), 9, 'x')": {"mayfly_reaper"},
    "UPDATE messages SET size = 0": {"mayfly_reaper"},
    "DELETE FROM deliveries": {"mayfly_reaper"},
    "TRUNCATE messages": {"mayfly_reaper"},
    "DROP TABLE {partition}": {"mayfly_reaper"},
    "ALTER TABLE messages DETACH PARTITION {partition}": {"mayfly_reaper"},
    "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE": {"mayfly_reaper"},
    "SELECT make_partitions_ahead()": {"mayfly_reaper"},
    "SELECT * FROM expired_partitions()": {"mayfly_reaper"},
    "SELECT set_retention('1 day')": {"mayfly_reaper"},
    "UPDATE settings SET retention = '1 day'": {"mayfly_reaper"},
    "CREATE TABLE other (x int)": {"mayfly_reaper"},
    "CREATE OR REPLACE FUNCTION retention() RETURNS interval LANGUAGE sql"
    " AS 'SELECT NULL::interval'": {"mayfly_reaper"},
    "CREATE ROLE another": set(),
    "SELECT * FROM pg_authid": set(),
}


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_what_a_role_may_do(database, logins, role):
    partition = database.value(
        "SELECT 'messages_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    connection = database.connect(logins[role])
    for act, allowed in ACTS.items():
        with connection.cursor() as cursor:
            try:
                cursor.execute(act.format(partition=partition))
                done = True
            except psycopg2.errors.InsufficientPrivilege:
                done = False
            connection.rollback()
        assert done == (role in allowed), f"{role}: {act}"


def test_the_storer_stores_and_finds_its_own_replay(database, logins):
    connection = database.connect(logins["mayfly_storer"])
    with connection.cursor() as cursor:
        for want in (1, 2), (0, 0):
            for insert, count in zip((INSERT_MESSAGE, INSERT_DELIVERY), want):
                cursor.execute(insert)
                assert cursor.rowcount == count
    connection.commit()
    assert database.value("SELECT count(*) FROM emails") == 2


def test_partitions_made_for_a_storer_belong_to_the_reaper(database, logins):
    """And go to the right tables, whatever tables of its own the session has."""
    connection = database.connect(logins["mayfly_storer"])
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL search_path = pg_temp, public")
        cursor.execute("CREATE TEMP TABLE messages (x int)")
        cursor.execute("SELECT public.make_partitions(current_date + 20)")
        cursor.execute("SELECT relowner::regrole::text, count(*) FROM pg_inherits"
                       " JOIN pg_class ON oid = inhrelid WHERE inhparent IN"
                       " ('public.messages'::regclass, 'public.deliveries'::regclass) GROUP BY 1")
        assert cursor.fetchall() == [("mayfly_reaper", 32)]
    connection.rollback()


def test_public_has_nothing(database):
    granted = database.query("""
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
          AND has_function_privilege('public', oid, 'EXECUTE')
        UNION ALL
        SELECT oid::regclass::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
          AND has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')""")
    assert granted == []
    assert not database.value("SELECT has_schema_privilege('public', 'public', 'CREATE')")


@pytest.fixture
def owner(cluster):
    """A login that owns a database and may make roles, but is no superuser."""
    cluster.execute("CREATE ROLE plain_owner LOGIN CREATEROLE")
    cluster.execute("CREATE DATABASE mayfly_owned OWNER plain_owner")
    yield "plain_owner"
    cluster.execute("DROP DATABASE mayfly_owned WITH (FORCE)")
    cluster.execute("REVOKE mayfly_reaper FROM plain_owner")
    cluster.execute("DROP ROLE plain_owner")


def test_by_the_owner_of_the_database(cluster, owner):
    url = cluster.url("mayfly_owned", owner)
    for _ in range(2):
        done = cluster.load_schema(url)
        assert (done.returncode, done.stderr) == (0, "")
    with contextlib.closing(cluster.connect("mayfly_owned", owner)) as connection:
        add_mail(connection, clock(connection))
        connection.commit()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM emails")
            assert cursor.fetchone() == (1,)
            cursor.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'messages'")
            assert cursor.fetchone() == ("mayfly_reaper",)


def test_by_an_owner_of_the_database_who_does_not_own_the_schema(cluster, owner):
    """As PostgreSQL 14's public is: everybody may make objects in it, and he cannot forbid it."""
    def as_superuser(sql):
        with contextlib.closing(cluster.connect("mayfly_owned")) as connection:
            connection.autocommit = True
            connection.cursor().execute(sql)
    as_superuser("ALTER SCHEMA public OWNER TO postgres; GRANT CREATE ON SCHEMA public TO PUBLIC")
    done = cluster.load_schema(cluster.url("mayfly_owned", owner))
    assert done.returncode != 0
    assert "owner of the schema" in done.stderr
    as_superuser("REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
                 " GRANT CREATE ON SCHEMA public TO mayfly_reaper")
    done = cluster.load_schema(cluster.url("mayfly_owned", owner))
    assert (done.returncode, done.stderr) == (0, "")


DECOYS = ["to_char(date, text)", "format(text, name, text)", "format(text, text, text)",
          "format(text, text, text, text, text)", "format(text, regnamespace, name)",
          "convert_from(bytea, text)", "convert_to(text, text)", "cardinality(text[])",
          "unnest(text[])", "array_append(integer[], integer)",
          "array_to_string(integer[], text)", "cardinality(integer[])", '"right"(name, integer)',
          "make_interval(double precision)"]
DECOY_OPERATORS = [("=", "oid", "regclass"), ("<", "double precision", "integer"),
                   ("||", "text", "name"), ("||", "name", "text"),
                   ("=", "integer[]", "integer[]")]


def test_functions_call_those_of_the_system(database):
    """Whatever the schema holds that fits a call better: what stood there before it was ours."""
    body = "LANGUAGE plpgsql AS $$BEGIN RAISE 'decoy'; END$$"
    for decoy in DECOYS:
        database.query(f"CREATE FUNCTION public.{decoy} RETURNS text {body}")
    for operator, left, right in DECOY_OPERATORS:
        result = "text" if operator == "||" else "boolean"
        database.query(f"CREATE FUNCTION public.decoy({left}, {right}) RETURNS {result} {body};"
                       f" CREATE OPERATOR public.{operator} (FUNCTION = public.decoy,"
                       f" LEFTARG = {left}, RIGHTARG = {right})")
    connection = database.connect()
    received = clock(connection)
    id = add_mail(connection, received, raw=b"Subject: =?utf-8?Q?=C3=BC?= =?l1?B?AA?=\r\n"
                  b"Content-Type: multipart/digest; boundary*0=b\r\n\r\n--b\r\n\r\n"
                  b"Content-Transfer-Encoding: base64\r\n\r\n!\r\n--b--\r\n\0\xff")
    connection.commit()
    for call in ("make_partitions(current_date + 20)", "make_partitions_ahead()",
                 "set_retention('2 days')", "inbox('bob')", "inbox_search('bob', 'x', 'y')",
                 "expired_partitions()",
                 "message_text((SELECT raw FROM messages))", f"message_headers('{id}')",
                 f"message_parts('{id}')"):
        database.query(f"SELECT * FROM {call}")


def test_without_the_right_it_fails_and_leaves_nothing(cluster, empty_database):
    cluster.execute("CREATE ROLE nobody_special LOGIN")
    try:
        done = cluster.load_schema(empty_database.url_as("nobody_special"))
        assert done.returncode != 0
        assert "permission denied" in done.stderr or "mayfly_reaper" in done.stderr
        assert empty_database.value("SELECT count(*) FROM pg_class"
                                    " WHERE relnamespace = 'public'::regnamespace") == 0
    finally:
        cluster.execute("DROP ROLE nobody_special")


# Telling readers

def heard(connection):
    connection.poll()
    names = []
    for notify in connection.notifies:
        assert notify.channel == "mayfly" and len(notify.payload.encode()) <= 7999
        names += json.loads(notify.payload)
    connection.notifies.clear()
    return names


NOTIFIED = [
    (None, []),
    ([], []),
    ([None], []),
    (["Bob@x.example"], ["bob"]),
    (["bob@x.example", "BOB@y.example", "alice@x.example"], ["alice", "bob"]),
    (['"\\"quoted\\" \\\\"@x', "a\x01b@x", "日本@x", "@x"], ["", 'a\x01b', '"quoted" \\', "日本"]),
    ([f"user{n:05}@x.example" for n in range(5000)], [f"user{n:05}" for n in range(5000)]),
    (["\x01" * 3000 + f"{n}@x" for n in range(3)], ["\x01" * 512]),
    ([f"{n}" + "🪰" * 3000 + "@x" for n in range(9)], [f"{n}" + "🪰" * 511 for n in range(9)]),
]


def test_notify(database):
    listener = database.connect()
    listener.autocommit = True
    with listener.cursor() as cursor:
        cursor.execute("LISTEN mayfly")
        for recipients, names in NOTIFIED:
            database.query("SELECT notify_mailboxes(%s::text[])", recipients)
            cursor.execute("SELECT 1")
            assert sorted(heard(listener)) == sorted(names)
