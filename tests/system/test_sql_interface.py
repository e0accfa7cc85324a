"""What readers and their tools find in the database: each thing that the reader's role may use says
what it is, can do no harm, and has a name that needs no quotes; and the examples of the README."""

import re

import pytest

from cluster import ROOT
from rows import add_mail, clock

# Everything that mayfly_reader may use, and nothing else.
FOR_READERS = {
    "emails", "schema_version()", "retention()", "inbox(text,integer,timestamp with time zone)",
    "inbox_search(text,text,text,integer,timestamp with time zone)", "message_headers(uuid)",
    "message_parts(uuid)", "mailbox_name(text)", "address_username(text)", "address_domain(text)",
    "message_text(bytea)", "header_field(bytea,text)", "header_decode(text)",
    "encoded_word_bytes(text,text)", "charset_text(bytea,text)"}

RELATIONS = """
    SELECT c.oid::regclass::text AS name, c.relname, c.relkind,
           obj_description(c.oid, 'pg_class') AS comment,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum) AS columns,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0
                   AND col_description(c.oid, a.attnum) IS NULL) AS without_comment
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('mayfly_reader', c.oid, 'USAGE')
               ELSE has_any_column_privilege('mayfly_reader', c.oid, 'SELECT, INSERT, UPDATE')
                    OR has_table_privilege('mayfly_reader', c.oid, 'DELETE, TRUNCATE, TRIGGER')
          END"""

# A function whose body was parsed when it was made looks up no names when it is called.
FUNCTIONS = """
    SELECT p.oid::regprocedure::text AS name, p.proname, obj_description(p.oid, 'pg_proc') AS comment,
           p.provolatile IN ('s', 'i') AS safe,
           p.prosqlbody IS NOT NULL OR 'search_path=public, pg_temp' = ANY(p.proconfig) AS fixed,
           array_remove(p.proargnames, '')::text[] AS arguments,
           cardinality(coalesce(p.proallargtypes, p.proargtypes)) AS count
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace
      AND has_function_privilege('mayfly_reader', p.oid, 'EXECUTE')"""


def dicts(database, sql):
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute(sql)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


@pytest.fixture
def keywords(database):
    """Words that PostgreSQL reserves, wholly or for functions and types, or against being either."""
    rows = database.query("SELECT word, catcode::text FROM pg_get_keywords()")
    return {word: code for word, code in rows if code != "U"}


def test_what_readers_may_use(database, keywords):
    relations, functions = dicts(database, RELATIONS), dicts(database, FUNCTIONS)
    assert {each["name"] for each in relations + functions} == FOR_READERS
    for relation in relations:
        assert relation["comment"] and relation["without_comment"] == [], relation
        assert relation["relkind"] == "v" and relation["relname"] not in keywords, relation
        # Words of class C need quotes as names of functions and types only.
        assert not [column for column in relation["columns"]
                    if keywords.get(column, "C") != "C"], relation
    for function in functions:
        assert function["comment"] and function["safe"] and function["fixed"], function
        assert function["proname"] not in keywords, function
        # Every argument and column has a name, so that a call can name it and a tool show it.
        assert len(function["arguments"] or []) == function["count"], function
        assert not [name for name in function["arguments"] or []
                    if keywords.get(name, "C") != "C"], function


def test_a_reader_in_a_read_only_transaction(cluster, database):
    """As such tools call what is stable: everything works where nothing can be written."""
    connection = database.connect()
    id = add_mail(connection, clock(connection))
    connection.commit()
    cluster.execute("CREATE ROLE alice LOGIN IN ROLE mayfly_reader")
    try:
        reader = database.connect("alice", options="-c default_transaction_read_only=on")
        with reader.cursor() as cursor:
            for call in ("emails", "inbox(username => 'bob')",
                         "inbox_search(username => 'bob', in_subject => 'x')",
                         f"message_headers(id => '{id}')", f"message_parts(id => '{id}')"):
                cursor.execute(f"SELECT * FROM {call}")
                assert cursor.rowcount == 1, call
        reader.close()
    finally:
        cluster.execute("DROP ROLE alice")


# The README

def section():
    text = (ROOT / "README.md").read_text()
    return re.search(r"^## Reading mail\n(.*?)^## ", text, re.M | re.S).group(1)


def examples():
    """The blocks of SQL, without their comments."""
    blocks = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", section(), re.M)
    text = "\n".join(block for block in blocks if re.match(r"    (SELECT|LISTEN|CREATE) ", block))
    text = re.sub(r"--.*", "", text)
    return [statement.strip() for statement in text.split(";") if statement.strip()]


# The last row of an example's page, to which the mail here comes earlier.
MOMENT = "2026-11-21 19:08:11.123456+00"

ID = "0193a5b2-7c4e-7b1a-9f53-0c1f6a2e9d10"

# What its examples look for.
MAIL = (b"Received: from x by y\r\nFrom: GitHub <noreply@github.example>\r\n"
        b"Subject: Confirm your account\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhttps://github.example/c\r\n"
        b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nx\r\n--b--\r\n")


def test_the_examples_of_the_readme(cluster, database):
    """Each is run as a reader and shows something."""
    statements = examples()
    assert len(statements) >= 10
    for name in ("emails", "inbox(", "inbox_search(", "message_headers(", "message_parts("):
        assert any(name in statement for statement in statements), name
    connection = database.connect()
    add_mail(connection, clock(connection), ["bob@mayfly.example"], MAIL, id=ID)
    connection.commit()
    reader = None
    try:
        for statement in statements:
            if statement.startswith(("CREATE ROLE alice ", "ALTER ROLE alice ")):
                cluster.execute(statement)
                continue
            if not reader:
                reader = database.connect("alice")
                reader.autocommit = True
            with reader.cursor() as cursor:
                cursor.execute(statement.replace(f"'{MOMENT}'", "'tomorrow'"))
                assert statement == "LISTEN mayfly" or cursor.rowcount > 0, statement
            assert statement.count("before =>") == statement.count(MOMENT), statement
        with reader.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("30s",)
        database.query("SELECT notify_mailboxes(ARRAY['bob@mayfly.example'])")
        reader.cursor().execute("SELECT 1")
        assert [(each.channel, each.payload) for each in reader.notifies] == [("mayfly", '["bob"]')]
    finally:
        if reader:
            reader.close()
        cluster.execute("DROP ROLE IF EXISTS alice")


def test_the_columns_of_the_readme(database):
    """The table of what there is names the columns there are."""
    rows = dict(re.findall(r"^\| `(\w+)(?:\(.*?\))?` \| (.*?) \|$", section(), re.M))
    assert set(rows) == {"emails", "inbox", "inbox_search", "message_headers", "message_parts"}
    for name, columns in rows.items():
        call = {"emails": "emails", "inbox": "inbox('x')", "inbox_search": "inbox_search('x')"}.get(
            name, f"{name}('{ID}')")
        connection = database.connect()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {call}")
            assert [column.name for column in cursor.description] \
                == re.findall(r"`(\w+)`", columns), name
