"""The newest mail of a mailbox, among as many messages as a week may bring."""

import datetime
import time

from database import UTC, fill
from storing import percentile
from table import Goal

IN_EACH = 500          # messages of an ordinary mailbox
HOT = 2                # of a hundred messages go to one mailbox
LOOKS = 200
DAYS = 6.5             # from then until now: nothing expires while it is read


def look(database, mailboxes, prepared):
    """Milliseconds of a list of each of some mailboxes, on one connection; the first look of it,
    which plans the function, is not counted."""
    connection = database.connect()
    connection.autocommit = True
    taken = []
    with connection.cursor() as cursor:
        if prepared:
            cursor.execute("PREPARE list (text) AS SELECT * FROM inbox($1)")
        statement = "EXECUTE list (%s)" if prepared else "SELECT * FROM inbox(%s)"
        for mailbox in [mailboxes[0], *mailboxes]:
            begin = time.monotonic()
            cursor.execute(statement, (mailbox,))
            rows = cursor.fetchall()
            taken.append(1e3 * (time.monotonic() - begin))
            assert 0 < len(rows) <= 50, f"{len(rows)} rows of {mailbox}"
    connection.close()
    return taken[1:]


def inbox(bench):
    count = bench.size.mailbox_messages
    bench.say(f"fills a week with {count:,} messages")
    database = bench.cluster.create()
    # One more than a multiple of ten: turns of mailboxes and of the hot one do not fall together.
    mailboxes = max(1, count // (10 * IN_EACH)) * 10 + 1
    length = datetime.timedelta(days=DAYS)
    fill(database, datetime.datetime.now(UTC) - length, length, count, mailboxes, hot=HOT)
    ordinary = [f"box{37 * number % mailboxes}" for number in range(LOOKS)]
    for kind, mailboxes in (("an ordinary", ordinary), ("a hot", ["hot"] * LOOKS)):
        for how, prepared in (("not prepared", False), ("prepared", True)):
            look(database, mailboxes, prepared)
            runs = [look(database, mailboxes, prepared) for _ in range(bench.size.runs)]
            middle = [percentile(run, 0.5) for run in runs]
            high = sorted(percentile(run, 0.99) for run in runs)[len(runs) // 2]
            row = bench.table.figure(
                f"newest 50 of {kind} mailbox among {count:,} messages, {how} (p99 {high:.2f} ms)",
                middle, "ms", Goal(most=2, unit="ms"))
            bench.say(row.line())
    database.drop()
