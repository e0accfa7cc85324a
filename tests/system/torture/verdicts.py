"""What must be so of the mail, whatever was done to a World: after every step, and at the end, when
everything runs and is done.

What is found is a text that begins with lost, twice or changed, as in load.differences.
"""

import collections
import time

import psycopg2

from letters import ACKNOWLEDGED, REFUSED, as_relayed
from load import differences
from spool import ID

# Of the table in queue/spool.h, those of store/ in which no message is at the same time. (Of relay/
# cur/ID is written before new/ID is unlinked, and failed/ID before either, so that after a kill
# those may be seen together for long.)
STATES = (("tmp", "new"), ("new", "cur"), ("new", "failed"), ("cur", "failed"), ("tmp", "cur"),
          ("tmp", "failed"))


def after_a_step(world):
    """What is wrong with what was acknowledged, and with the states that the spool shows."""
    known = world.with_fate(ACKNOWLEDGED)
    return (wrong_words(world) + missing_stored(world, known) + missing_relayed(world, known) +
            two_states(world))


def at_the_end(world):
    known = {posted.id: posted.as_stored() for posted in world.with_fate(ACKNOWLEDGED)
             if posted.for_store}
    wrong = wrong_words(world) + differences(world.database, known) + strangers(world)
    wrong += wrong_deliveries(world)
    for queue in (world.spool, world.spool.relay):
        for name in ("new", "cur", "failed"):
            wrong += [f"changed: left: {queue.queue.name}/{name}/{id}" for id in queue.ids(name)
                      if ID.fullmatch(id)]
    return wrong


def wrong_words(world):
    """What clients heard that they must not hear whoever is killed."""
    return [f"changed: {posted}: {posted.wrong}" for posted in world.posted if posted.wrong]


def missing_stored(world, known):
    """A message moves from new/ on, and is in the database before it is out of the spool: what is
    looked for in this order is seen wherever it goes meanwhile."""
    missing = {posted.id: posted for posted in known if posted.for_store}
    for queue, name in ((world.spool, "new"), (world.elsewhere, "new"), (world.spool, "cur"),
                        (world.spool, "failed")):
        for id in queue.names(name):
            missing.pop(id, None)
    if not missing or not world.cluster.running():
        return []
    try:
        rows = world.database.query("SELECT id::text FROM messages WHERE id = ANY (%s::uuid[])",
                                    list(missing))
    except psycopg2.OperationalError:
        return []
    for id, in rows:
        missing.pop(id)
    return [f"lost: {posted} is nowhere" for posted in missing.values()]


def missing_relayed(world, known):
    """Of each recipient: a file of its message waits, or the smarthost has it."""
    there = {id for name in ("new", "cur", "failed") for id in world.spool.relay.names(name)}
    accepted = world.host.deliveries()
    return [f"lost: {posted} is nowhere for {recipient}" for posted in known
            for recipient in posted.for_relay
            if posted.id not in there and not accepted[posted.letter.sender, recipient]]


def two_states(world):
    queue, wrong = world.spool, []
    for one, other in STATES:
        both = set(queue.ids(one)) & set(queue.ids(other))
        wrong += [f"twice: {one}/{id} and {other}/{id}" for id in both
                  if stay(queue.directory(one) / id, queue.directory(other) / id)]
    return wrong


def stay(*paths):
    """Whether all are there, and do not only pass from one to the other while we look."""
    for _ in range(5):
        if not all(path.exists() for path in paths):
            return False
        time.sleep(0.02)
    return True


def strangers(world):
    """What nobody was told 250 for: of unknown fate it may be there, once (`twice` of
    load.differences sees to that) and whole; what was never sent to its end may not."""
    wrong = []
    of = {posted.letter.sender: posted for posted in world.posted}
    known = {posted.id for posted in world.with_fate(ACKNOWLEDGED)}
    for id, sender, raw in world.database.query("SELECT id::text, mail_from, raw FROM messages"):
        posted = of.get(sender)
        if id in known:
            continue
        if posted is None or posted.fate == REFUSED:
            wrong.append(f"changed: {id} of {sender!r}, which was never sent: {posted}")
        elif not bytes(raw).endswith(posted.letter.body() + b"\r\n"):
            wrong.append(f"changed: {id}, {posted}")
    return wrong


def wrong_deliveries(world):
    wrong, accepted = [], collections.defaultdict(list)
    of = {posted.letter.sender: posted for posted in world.posted}
    for got in world.host.accepted():
        posted = of.get(got.mail_from)
        if got.mail_from == "":
            continue  # a notification, to the sender of what failed
        if posted is None or posted.fate == REFUSED:
            wrong.append(f"changed: relayed, and never sent: {got.mail_from}, {posted}")
            continue
        if got.body != as_relayed(posted.letter.body()):
            wrong.append(f"changed: relayed {posted}")
        for recipient in got.recipients:
            if recipient not in posted.for_relay:
                wrong.append(f"changed: {posted} relayed to {recipient}")
            accepted[got.mail_from, recipient].append(got.connection)
    for posted in world.with_fate(ACKNOWLEDGED):
        wrong += [f"lost: {posted} was not relayed to {recipient}"
                  for recipient in posted.for_relay
                  if (posted.letter.sender, recipient) not in accepted]
    for who, connections in accepted.items():
        # Promise 8: whoever was sent to again must have been in the window of a relay that was
        # killed, or of a smarthost that went away with its 250.
        for before in connections[:-1]:
            if before.ehlo not in world.killed_runs and before.number not in world.cut_off:
                wrong.append(f"twice: {who} on {[(one.number, one.ehlo) for one in connections]}, "
                             f"killed: {sorted(world.killed_runs)}")
    return wrong
