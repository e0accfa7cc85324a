"""Places in the course of a batch where the server is made to wait, so that what befalls it there
does so for sure, and not when chance has it.

A gate is an advisory lock that the server takes on its way, by a trigger of the test's, and that
the test holds: storer sees a database that is slow at that point, and nothing else. The last gate
is PostgreSQL's own: a COMMIT that is on the disk and waits for a standby that is not there.
"""

import contextlib
import time

from deadline import wait_for

LOCKS = {"messages": 101, "deliveries": 102, "commit": 103, "notify": 104}
COMMITTED = "committed"
STAGES = (*LOCKS, COMMITTED)

# How many letters go which way. For COPY storer must have stored some in the same session.
LETTERS = {"insert": 3, "copy": 5}
WAYS = tuple(LETTERS)

OURS = "application_name = 'mayfly-storer'"

SQL = """
CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(TG_ARGV[0]::bigint);
    RETURN NEW;
END $$;
CREATE TRIGGER gate BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION pass_gate(101);
CREATE TRIGGER gate BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION pass_gate(102);
CREATE CONSTRAINT TRIGGER last_gate AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION pass_gate(103);
ALTER FUNCTION notify_mailboxes(text[]) RENAME TO notify_mailboxes_behind_gate;
CREATE FUNCTION notify_mailboxes(recipients text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(104);
    PERFORM notify_mailboxes_behind_gate(recipients);
END $$;
"""


def build(database):
    database.query(SQL)


def waiting(database, stage):
    """storer's session waits at that gate."""
    event = "SyncRep" if stage == COMMITTED else "advisory"
    return database.value(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
                          f" AND datname = current_database() AND wait_event = '{event}'") > 0


def is_copying(database):
    """What storer's session is at, or was last, is a COPY."""
    return database.value(f"SELECT query LIKE '%; COPY messages%' FROM pg_stat_activity"
                          f" WHERE {OURS} AND datname = current_database()")


def warm_up(box):
    """From then on batches that are large enough are copied."""
    box.send()
    box.drained()


def send_to(box, database, stage, way="copy"):
    """Letters that come as one batch to a gate that is shut, that way. Tried again: it takes the
    server's checkpointer a moment to say that a standby is to be waited for."""
    for _ in range(50):
        box.send_batch(LETTERS[way])
        wait_for(lambda: waiting(database, stage) or not box.spool.new(), "the batch gets there")
        if waiting(database, stage):
            assert stage == "notify" or is_copying(database) == (way == "copy")
            return
        time.sleep(0.05)
    raise AssertionError(f"no batch waited at {stage}")


def _ask_for_standby(database, name):
    database.cluster.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    database.cluster.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def shut(database, stage):
    """The gate is shut, until the end of this or of the server; opened again when it runs."""
    if stage != COMMITTED:
        keeper = database.connect()
        keeper.autocommit = True
        keeper.cursor().execute("SELECT pg_advisory_lock(%s)", (LOCKS[stage],))
        try:
            yield
        finally:
            keeper.close()
        return
    _ask_for_standby(database, "nobody")
    try:
        yield
    finally:
        database.cluster.start()
        _ask_for_standby(database, "")

