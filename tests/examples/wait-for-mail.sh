#!/bin/sh
# wait-for-mail.sh ADDRESS [SECONDS]: waits for a mail to ADDRESS and prints its first link; exits
# with 75 if none has come within SECONDS (60). The database is that of DATABASE_URL. psql tells of
# a notification only when it is given another command: this one looks every second instead.
end=$(($(date +%s) + ${2:-60}))
while :; do
    link=$(psql -X -q -A -t -v ON_ERROR_STOP=1 -v address="${1:?}" "${DATABASE_URL:?}" <<'SQL'
SELECT link FROM emails, LATERAL (
    SELECT link FROM message_parts(message_id) WITH ORDINALITY,
         substring(replace(content_text, '&amp;', '&')
                   FROM 'https?://[^\s<>"]*[^\s<>"''.,;:!?)}\]]') AS link
    WHERE content_type IN ('text/plain', 'text/html') AND link IS NOT NULL
    ORDER BY content_type DESC, ordinality LIMIT 1) AS part
WHERE username = address_username(:'address') AND lower(recipient) = lower(:'address')
ORDER BY received_at DESC LIMIT 1
SQL
    ) || exit 1
    if [ -n "$link" ]; then
        printf '%s\n' "$link"
        exit 0
    fi
    [ "$(date +%s)" -lt "$end" ] || exit 75
    sleep 1
done
