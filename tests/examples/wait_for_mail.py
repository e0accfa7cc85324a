#!/usr/bin/python3
"""wait_for_mail.py ADDRESS [SECONDS]: waits for a mail to ADDRESS and prints its first link; exits
with 75 if none has come within SECONDS (60). The database is that of DATABASE_URL."""
import os
import select
import sys
import time

import psycopg2

LINK = r"""SELECT link FROM emails, LATERAL (
    SELECT link FROM message_parts(message_id) WITH ORDINALITY,
         substring(replace(content_text, '&amp;', '&')
                   FROM 'https?://[^\s<>"]*[^\s<>"''.,;:!?)}\]]') AS link
    WHERE content_type IN ('text/plain', 'text/html') AND link IS NOT NULL
    ORDER BY content_type DESC, ordinality LIMIT 1) AS part
WHERE username = address_username(%s) AND lower(recipient) = lower(%s)
ORDER BY received_at DESC LIMIT 1"""

address, end = sys.argv[1], time.monotonic() + float((sys.argv[2:] or [60])[0])
connection = psycopg2.connect(os.environ["DATABASE_URL"])
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("LISTEN mayfly")  # before the first look: what is stored after it is heard of
while not cursor.execute(LINK, (address, address)) and not (found := cursor.fetchone()):
    if time.monotonic() >= end:
        sys.exit(os.EX_TEMPFAIL)
    select.select([connection], [], [], max(0, min(end - time.monotonic(), 5)))
    connection.poll()
print(found[0])
