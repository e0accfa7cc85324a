"""The queue tool says where a message is: spool, database, gone."""

import datetime

import pytest

from queuetool import EX_NOINPUT, EX_UNAVAILABLE, EX_USAGE, Tool, fail
from smarthost import SmartHost
from spool import now, uuid7


@pytest.fixture
def tool(spool):
    spool.make()
    spool.relay.make()
    return Tool(spool)


@pytest.fixture
def reader(database):
    """A connection string of somebody who may only read mail."""
    name = f"{database.name}_reader"
    database.query(f"CREATE ROLE {name} LOGIN IN ROLE mayfly_reader")
    yield database.url_as(name)
    database.query(f"DROP ROLE {name}")


def test_in_every_state(spool, tool):
    moment = now()
    places = [(spool, "new", "new"), (spool, "cur", "kept"), (spool, "failed", "failed"),
              (spool.relay, "new", "new"), (spool.relay, "cur", "deferred"),
              (spool.relay, "failed", "failed")]
    for queue, directory, state in places:
        id = queue.put(into=directory, recipients=["a@t.example", "b@t.example"])
        text = tool("trace", id)
        assert text.startswith(f"spool     {queue.queue.name}/{directory}: {state}, "), text
        assert "<a@t.example>\n" in text and "<b@t.example>\n" in text
        answer, = tool.json("trace", id)
        assert answer["where"] == "spool" and answer["database"] is None
        assert [(entry["queue"], entry["state"]) for entry in answer["spool"]] == [
            (queue.queue.name, state)]
    assert "next try in" in tool("trace", spool.relay.cur()[0])
    receiving = spool.put(into="tmp", content=b"X-Envelope-Id: ", id=uuid7(moment))
    assert "receiving" in tool("trace", receiving) and "not yet whole" in tool("trace", receiving)
    torn = spool.put(content=b"")
    assert "torn" in tool("trace", torn)
    assert tool.json("trace", torn)[0]["spool"][0]["problem"].startswith("torn")


def test_in_the_database(spool, tool, programs, database, reader):
    id = spool.put(recipients=["a@t.example", "b\u00fc@t.example"])
    both = spool.put(received=(moment := now()))
    spool.relay.put(id=both, received=moment, recipients=["far@r.example"])
    programs.storer(spool, database)
    spool.wait_tried()
    assert tool("trace", id, DATABASE_URL=reader) == (
        "database  stored\n          <a@t.example>\n          <b\u00fc@t.example>\n")
    answer, = tool.json("trace", id, DATABASE_URL=reader)
    assert answer == {"id": id, "where": "database", "spool": [],
                      "database": {"stored": True, "to": ["a@t.example", "b\u00fc@t.example"]}}
    text = tool("trace", both, DATABASE_URL=reader)
    assert text.startswith("spool     relay/new") and "database  stored\n" in text


def test_relayed(spool, tool, programs, database, reader):
    with SmartHost() as host:
        relay = programs.relay(spool, host)
        id = spool.relay.put()
        relay.wait_log(event="relayed", id=id)
        spool.relay.wait_done()
        text = tool("trace", id, DATABASE_URL=reader, code=EX_NOINPUT)
        assert "database  not there\n" in text and "gone      relayed; or" in text
        answer, = tool.json("trace", id, DATABASE_URL=reader, code=EX_NOINPUT)
        assert answer["where"] == "gone" and answer["database"] == {"stored": False, "to": []}
        relay.stop()


def test_expired(spool, tool, programs, database, reader):
    id = spool.put(received=now() - datetime.timedelta(hours=2))
    programs.storer(spool, database)
    spool.wait_tried()
    tool("trace", id, DATABASE_URL=reader)
    database.query("SELECT set_retention('1 hour')")
    assert "its time has passed" in tool("trace", id, DATABASE_URL=reader, code=EX_NOINPUT)


def test_without_a_database(tool):
    text = tool("trace", uuid7(), code=EX_NOINPUT)
    assert text.startswith("unknown ") and "DATABASE_URL" in text
    assert tool.json("trace", uuid7(), code=EX_NOINPUT)[0]["where"] == "unknown"


def test_a_database_that_does_not_answer(spool, tool, cluster, database, empty_database, reader):
    url = "postgresql://nobody:hunter2secret@127.0.0.1:1/mayfly"
    id, deferred = uuid7(), spool.relay.put(into="cur")
    text = tool("trace", id, DATABASE_URL=url, code=EX_UNAVAILABLE)
    assert "mayfly-queue: database: " in text and "hunter2secret" not in text
    assert tool.json("trace", id, DATABASE_URL=url, code=EX_UNAVAILABLE)[0]["database"]["error"]
    # What is known is known all the same.
    text = tool("trace", deferred, DATABASE_URL=url)
    assert text.startswith("spool     relay/cur") and "mayfly-queue: database: " in text
    assert "emails" in tool("trace", id, DATABASE_URL=empty_database.url, code=EX_UNAVAILABLE)
    # One that lost a function, as in the middle of an upgrade that is none.
    database.query("REVOKE EXECUTE ON FUNCTION retention() FROM mayfly_reader")
    assert "permission denied" in tool("trace", id, DATABASE_URL=reader, code=EX_UNAVAILABLE)


def test_variables_of_libpq(spool, tool, database, programs):
    id = spool.put()
    programs.storer(spool, database)
    spool.wait_tried()
    where = {"PGHOST": database.cluster.directory, "PGPORT": database.cluster.port,
             "PGUSER": "postgres", "PGDATABASE": database.name, "PGCONNECT_TIMEOUT": 5}
    assert tool("trace", id, **where).startswith("database  stored")


def test_ids_alone(spool, tool):
    fail(spool, name="strange")
    assert "not an id" in tool("trace", "strange", code=EX_USAGE)
