# shellcheck shell=bash disable=SC2154
# The database of `make run`: a PostgreSQL cluster of its own in the area, kept running by a runsv of
# its own, reached only from this machine and only with the password that lies beside it. Part of
# common/run.sh, whose names it uses: area, owner, as_owner.

database_url() {
    echo "postgresql://$1:$(cat "$area/password")@127.0.0.1:$(cat "$area/port")/mayfly"
}

database_psql() {
    PGPASSWORD=$(cat "$area/password") "$database_bin/psql" -X -q -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "$(cat "$area/port")" -U mayfly "$@"
}

# Sets `database_bin`: where the programs are that fit the cluster, or the newest for a new one.
database_find() {
    local version='*'
    if [ -e "$area/data" ]; then version=$(grep -xE '[0-9]+' "$area/data/PG_VERSION"); fi
    database_bin=$(compgen -G "/usr/lib/postgresql/$version/bin" | sort -V | tail -n 1)
    [ -n "$database_bin" ] || fail "The mail in run/ is in a cluster of PostgreSQL $version, which is not installed any more." \
        "Install it, or forget the mail with \`make clean-run\`."
}

# A cluster is made under another name, so that one whose making was interrupted is not taken for it.
database_make() {
    local new=$area/data.new
    say "Making a PostgreSQL cluster in $area/data."
    rm -rf "$new"
    install -d -o "$owner" -m 700 "$new"
    install -o "$owner" -m 600 /dev/null "$area/password"
    head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$area/password"
    (cd "$area" && "${as_owner[@]}" "$database_bin/initdb" -D "$new" -U mayfly -E UTF8 --locale=C.UTF-8 \
        --auth=scram-sha-256 --pwfile="$area/password") >"$area/log/initdb" 2>&1 ||
        fail "initdb failed:" "$(tail "$area/log/initdb")"
    mv "$new" "$area/data"
}

# A port that nobody listens on: last time's, or else from one that is another in each clone.
database_choose_port() {
    local port
    port=$(cat "$area/port" 2>/dev/null || echo $((20000 + $(printf %s "$area" | cksum | cut -d ' ' -f 1) % 10000)))
    while port_taken 127.0.0.1 "$port"; do port=$((port + 1)); done
    echo "$port" >"$area/port"
}

database_prepare() {
    local service=$area/database
    install -d -m 755 "$area/log"
    database_find
    [ -e "$area/data" ] || database_make
    database_choose_port

    rm -rf "$service"
    mkdir -p "$service/control" "$service/log"
    cp "$area/share/mayfly/service/mayfly-storer/log/run" "$service/log/run"
    log_place postgresql "$service"
    if [ "$owner" = postgres ]; then echo postgres >"$service/user"; fi
    install -d -o "$owner" -m 700 "$area/socket"
    cat >"$service/run" <<TXT
#!/bin/sh
exec 2>&1
cd $area
exec ${as_owner[*]} $database_bin/postgres -D data -p $(cat "$area/port") -c listen_addresses=127.0.0.1 \\
    -c unix_socket_directories=$area/socket -c log_destination=stderr -c logging_collector=off
TXT
    cat >"$service/check" <<TXT
#!/bin/sh
exec $database_bin/pg_isready -q -h 127.0.0.1 -p $(cat "$area/port")
TXT
    # TERM would wait for every client.
    cat >"$service/control/t" <<'TXT'
#!/bin/sh
kill -INT "$(cat supervise/pid)"
TXT
    chmod 755 "$service/run" "$service/check" "$service/control/t"
}

# Starts the cluster, and makes or upgrades what is in it. The programs get roles that may do no more
# than theirs; `mayfly` is for whoever sits in front of this.
database_start() {
    supervise database runsv "$area/database"
    disown "$supervisor" # nobody waits for it; group_end finds it
    service_wait "$area/database" "$area/log/postgresql" 120
    database_psql -d postgres <<'SQL'
SELECT 'CREATE DATABASE mayfly' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'mayfly') \gexec
SQL
    database_psql -d mayfly -f "$area/share/mayfly/sql/schema.sql" >"$area/log/schema" 2>&1 ||
        fail "sql/schema.sql failed:" "$(tail "$area/log/schema")"
    database_psql -d mayfly -v password="$(cat "$area/password")" <<'SQL'
SET client_min_messages = warning;
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['storer', 'reaper']) name WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE storer PASSWORD :'password';
ALTER ROLE reaper PASSWORD :'password';
GRANT mayfly_storer TO storer;
GRANT mayfly_reaper TO reaper;
SQL
}
