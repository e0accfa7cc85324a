"""sql/citus.sql where there is no Citus, which Debian does not have: it says so and changes
nothing. And what it counts on in the schema, for with Citus it is only run by hand."""

from cluster import SCHEMA

CITUS = SCHEMA.parent / "citus.sql"
KEYS = ("SELECT conname, array_agg(attname::text ORDER BY attname) FROM pg_constraint"
        " JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)"
        " WHERE conrelid IN ('messages'::regclass, 'deliveries'::regclass) GROUP BY conname")
EXPIRY = "SELECT pg_get_functiondef('expired_partitions()'::regprocedure)"


def test_without_citus_nothing_is_changed(cluster, database):
    before = database.query(KEYS), database.query(EXPIRY)
    done = cluster.load_schema(database.url, CITUS)
    assert done.returncode != 0 and "no extension citus" in done.stderr
    assert (database.query(KEYS), database.query(EXPIRY)) == before
    assert database.query("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'mayfly_reaper'") == [
        (False,)]


def test_every_key_but_the_one_that_goes_leads_to_a_node(database):
    dropped = "deliveries_id_received_at_key"
    assert f"DROP CONSTRAINT IF EXISTS {dropped};" in CITUS.read_text()
    keys = dict(database.query(KEYS))
    assert keys.pop(dropped) == ["id", "received_at"]
    assert keys == {"messages_pkey": ["id", "received_at"],
                    "deliveries_pkey": ["message_id", "position", "received_at"]}


def test_the_step_that_citus_cannot_do_is_found_and_replaced(database):
    definition = database.value(EXPIRY)
    replaced = "replace(pg_get_functiondef('expired_partitions()'::regprocedure), ' CONCURRENTLY',"
    assert replaced in CITUS.read_text()
    assert definition.count(" CONCURRENTLY'") == 1
    database.query(definition.replace(" CONCURRENTLY", ""))
    database.query("CREATE TABLE messages_20200101 (LIKE messages INCLUDING ALL);"
                   " ALTER TABLE messages_20200101 OWNER TO mayfly_reaper;"
                   " ALTER TABLE messages ATTACH PARTITION messages_20200101"
                   " FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2020-01-02 00:00Z')")
    for expected in ("ALTER TABLE public.messages DETACH PARTITION public.messages_20200101",
                     "DROP TABLE public.messages_20200101"):
        (command,), = database.query("SELECT command FROM expired_partitions()")
        assert command == expected
        database.query(command)
    assert database.query("SELECT * FROM expired_partitions()") == []
