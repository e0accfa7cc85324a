#!/bin/bash
# `make run`: the whole of Mayfly on one machine for whoever wants to see it work, with the service
# directories, the supervisor and the schema that a production host has, and a PostgreSQL of its own.
#
#   run.sh area      print the directory where everything lies, making it, unless Mayfly runs there
#   run.sh start     run in the foreground until INT, TERM or HUP; the programs are installed there
#   run.sh forget    remove it all
#
# The area is run/ in the clone, or run/ is a link to it:
#
#   sbin/ share/     what `make install PREFIX=<area>` put there
#   service/         the service directories that runsvdir watches
#   data/ database/  PostgreSQL's cluster, and the service directory that keeps it running
#   spool/ log/      the mail on its way, and what was said
#   password port    of the database
#   lock             held by the run.sh that runs; what it prints when all is ready is in `ready`
#
# It starts two supervisors: runsv for PostgreSQL, then runsvdir for the programs, and ends them in
# the opposite order. Both are in sessions of their own, so that Ctrl-C reaches this script alone.
# All that they start has MAYFLY_RUN=<area>/<group> in its environment, by which the processes of a
# run are found, and no others: when it ends, and when an earlier run was killed before it could.
set -euo pipefail
cd "$(dirname "$0")/.."
clone=$(pwd -P)
programs=(smtpd storer reaper) # and relay, when there is a smarthost
log_reader=''

# PostgreSQL refuses to run as root, and nothing else here needs to.
owner=$(id -un)
as_owner=()
if [ "$(id -u)" = 0 ]; then
    owner=postgres
    as_owner=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi

say() {
    printf '%s\n' "$1" >&2
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# The area

# Whether a cluster and a spool can live in this directory: its owner must get there, a socket's path
# ends at 107 bytes, and neither make nor PostgreSQL's settings are at home with spaces in names.
area_fits() {
    [ ${#1} -le 80 ] && [[ $1 =~ ^[A-Za-z0-9/._+-]+$ ]] && (cd / && "${as_owner[@]}" test -x "${1%/*}")
}

# Makes the area where there is none, and sets `area`.
area_make() {
    local mode=700
    if [ "$owner" = postgres ]; then mode=755; fi
    if [ -L run ] && [ -e run ]; then
        area=$(readlink -f run) # which a clone keeps that was moved
    elif area_fits "$clone/run"; then
        area=$clone/run
        if [ -L run ]; then rm run; fi
        [ -e run ] || mkdir -m $mode run
    else
        [ ! -e run ] || fail "run/ cannot be used by $owner, who lacks the way to it: \`make clean-run\` as its owner."
        area=/var/tmp/mayfly-$(id -u)-$(printf %s "$clone" | sha256sum | head -c 12)
        # Anybody may make names in /var/tmp: what is there is used only if it is a directory, and ours.
        [ -d "$area" ] || mkdir -m $mode "$area"
        [ ! -L "$area" ] || fail "$area is a symbolic link."
        ln -sfn "$area" run
    fi
    [ -O "$area" ] || fail "$area belongs to $(stat -c %U "$area"): \`make clean-run\` as that user."
}

# Descriptor 9 holds the lock as long as this script lives; its children are started without it.
area_lock() {
    exec 9>>"$area/lock"
    if ! flock -n 9; then
        fail "Mayfly runs from here already." "$(cat "$area/ready" 2>/dev/null || echo 'It is not ready yet.')"
    fi
}

# Processes

now() { # in milliseconds
    echo $((${EPOCHREALTIME/[.,]/} / 1000))
}

# The pids of a group, `programs` or `database`.
group_pids() {
    { grep -slzxF "MAYFLY_RUN=$area/$1" /proc/[0-9]*/environ || true; } | cut -d/ -f3
}

group_pids_named() {
    local pid
    for pid in $(group_pids "$1"); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then echo "$pid"; fi
    done
}

# Ends a group by telling the topmost that lives: runsvdir ends its runsv at HUP (TERM would orphan
# them), runsv its program and logger at TERM, and a program that lost them is told itself.
group_end() {
    local group=$1 seconds=$2 signal=$3 last_signal=$4 pids end
    pids=$(group_pids_named "$group" runsvdir)
    if [ -n "$pids" ]; then
        signal=HUP
    else
        pids=$(group_pids_named "$group" runsv)
        if [ -n "$pids" ]; then signal=TERM; else pids=$(group_pids "$group"); fi
    fi
    # shellcheck disable=SC2086 # a list of numbers, here and below
    if [ -n "$pids" ]; then kill "-$signal" $pids 2>/dev/null || true; fi

    end=$(($(now) + seconds * 1000))
    while pids=$(group_pids "$group"); [ -n "$pids" ]; do
        if [ "$(now)" -ge $end ]; then
            # shellcheck disable=SC2086
            kill "-$last_signal" $pids 2>/dev/null || true
            last_signal=KILL end=$(($(now) + 500))
        fi
        sleep 0.1
    done
}

# Of the ten seconds the programs get six and PostgreSQL two, which waits for its clients at TERM,
# ends them at INT, and at QUIT leaves the rest to its recovery. Nothing acknowledged is lost either way.
end_all() {
    group_end programs 6 TERM KILL
    group_end database 2 INT QUIT
}

end_leftovers() {
    if [ -n "$(group_pids programs)$(group_pids database)" ]; then
        say "The last run was killed; ending what it left behind."
        end_all
    fi
}

# Called however this script ends, once it has begun to start something.
stop() {
    trap '' INT TERM HUP PIPE
    set +e
    rm -f "$area/ready"
    say "Stopping."
    end_all
    relay_forget
    if [ -n "$log_reader" ]; then kill "$log_reader" && wait "$log_reader"; fi 2>/dev/null
    say "Stopped; \`make run\` goes on from here, \`make clean-run\` forgets it."
}

# Waits until a service says that it is ready. One that was started four times will not be.
service_wait() {
    local service=$1 log=$2 seconds=$3 end pid last='' starts=0
    end=$((SECONDS + seconds))
    until (cd "$service" && ./check) >/dev/null 2>&1; do
        pid=$(cat "$service/supervise/pid" 2>/dev/null || true)
        if [ -n "$pid" ] && [ "$pid" != "$last" ]; then
            last=$pid starts=$((starts + 1))
        fi
        if [ $starts -ge 4 ] || [ $SECONDS -ge $end ]; then
            say "${service##*/} does not get ready. The end of $log/current:"
            tail -n 12 "$log/current" >&2 || true
            exit 1
        fi
        sleep 0.1
    done
}

# The programs

# Service directories are made anew at each start, and the logs outlive them.
log_place() {
    install -d -o "$owner" -m 755 "$area/log/$1"
    ln -s "$area/log/$1" "$2/log/main"
}

programs_prepare() {
    local program service
    rm -rf "$area/service"
    install -d -m 755 "$area/service" "$area/log"
    install -d -o "$owner" -m 2770 "$area/spool"
    for program in "${programs[@]}"; do
        service=$area/service/mayfly-$program
        cp -r "$area/share/mayfly/service/mayfly-$program" "$service"
        log_place "$program" "$service"
        echo "$area/spool" >"$service/env/SPOOL"
        if [ -e "$service/env/DATABASE_URL" ]; then
            (umask 077 && rm "$service/env/DATABASE_URL" && database_url "$program" >"$service/env/DATABASE_URL")
        fi
        if [ "$owner" = postgres ]; then echo postgres >"$service/user"; else rm "$service/user"; fi
        if [ -e .env ]; then install -o "$owner" -m 600 .env "$service/.env"; fi
    done
    if [ "${programs[-1]}" = relay ]; then relay_prepare; fi
}

# Prints what --check says, which is where a wrong setting comes to light, and ends this with its code.
program_check() {
    (cd "$area/service/mayfly-$1" && chpst -e ./env "$area/sbin/mayfly-$1" --check)
}

# An address as a client on this machine can use it.
address_for_client() {
    case $1 in
    '[::]:'*) echo "[::1]:${1##*:}" ;;
    0.0.0.0:* | '*:'*) echo "127.0.0.1:${1##*:}" ;;
    *) echo "$1" ;;
    esac
}

# Sets `listen` to the addresses that smtpd is going to listen on, `stored` to the domains that it stores,
# `domain` to one of them, if there is any, and `clients` to those who may relay.
smtpd_settings() {
    local settings port
    settings=$(program_check smtpd)
    port=$(sed -n 's/^PORT=//p' <<<"$settings")
    listen=$(sed -n 's/^SMTPD_LISTEN=//p' <<<"$settings")
    if [ -n "$port" ]; then listen="*:$port"; fi
    stored=$(sed -n 's/^SMTPD_DOMAINS=//p' <<<"$settings")
    clients=$(sed -n 's/^SMTPD_RELAY_CLIENTS=//p' <<<"$settings")
    domain=$(sed -n 's/^\.\{0,1\}\([a-z0-9][^,]*\).*/\1/p' <<<"$stored")
    if [ -n "$stored" ]; then domain=${domain:-mayfly.example}; fi
}

port_taken() {
    (exec 8<>"/dev/tcp/$1/$2") 2>/dev/null
}

listen_check() {
    local address host
    for address in ${listen//,/ }; do
        address=$(address_for_client "$address")
        host=${address%:*} host=${host#[} host=${host%]}
        if port_taken "$host" "${address##*:}"; then
            fail "Another program listens on $address: stop it, or choose another port, as in \`make run PORT=2526\`."
        fi
    done
}

# Sets `supervisor` to the pid of what runs from now on in a session of its own.
supervise() {
    local group=$1
    shift
    # bash has background jobs ignore INT, and what is ignored stays so in all that they start; and by
    # descriptor 3 the service directories know s6.
    setsid env --default-signal MAYFLY_RUN="$area/$group" "$@" 3>&- 9>&- </dev/null >>"$area/log/$group.supervisor" 2>&1 &
    supervisor=$!
}

# What is where, and the lines to try it with, as they can be pasted.
print_use() {
    local smtp url
    smtp=$(address_for_client "${listen%%,*}")
    url=$(database_url mayfly)
    cat <<TXT

  SMTP       $listen
  database   $url
  spool      $area/spool
  logs       $area/log

TXT
    if [ -n "$domain" ]; then
        cat <<TXT
Send a mail:
  printf 'From: alice@example.org\r\nTo: bob@$domain\r\nSubject: Hello\r\n\r\nIt works.\r\n' | curl -sS smtp://$smtp --mail-from alice@example.org --mail-rcpt bob@$domain -T -

Show the newest:
  psql '$url' -x -c 'SELECT * FROM emails ORDER BY received_at DESC LIMIT 1'

TXT
    fi
    if [ "${programs[-1]}" = relay ]; then relay_print_use "$smtp"; fi
}

start() {
    local name program
    area_make
    area_lock
    end_leftovers
    # What concerns another database or the make that started this is not for the programs.
    for name in $(compgen -e | grep -E '^(PG|MAKE|MFLAGS)'); do unset "$name"; done

    relay_settle
    database_prepare
    trap relay_forget EXIT
    programs_prepare
    smtpd_settings
    listen_check
    for program in "${programs[@]:1}"; do program_check "$program" >/dev/null; done

    trap stop EXIT
    trap 'exit 0' INT TERM HUP PIPE
    database_start
    supervise programs runsvdir "$area/service"
    for program in "${programs[@]}"; do
        service_wait "$area/service/mayfly-$program" "$area/log/$program" 60
    done
    echo "Mayfly is ready."
    print_use | (umask 077 && tee "$area/ready")
    echo "Ctrl-C stops everything. What follows are the programs' logs."
    (cd "$area/log" && exec tail -q -n 0 -F --pid=$$ "${programs[@]/%//current}") 9>&- 2>/dev/null &
    log_reader=$!
    wait "$supervisor" || true
    fail "The supervisor, process $supervisor, was ended by somebody else."
}

forget() {
    [ -e run ] || [ -L run ] || return 0
    area_make
    area_lock
    end_leftovers
    rm -rf "$area"
    rm -f run
}

# shellcheck source=common/run-database.sh
. common/run-database.sh
# shellcheck source=common/run-relay.sh
. common/run-relay.sh
case ${1:-} in
area)
    area_make
    area_lock
    echo "$area"
    ;;
start) start ;;
forget) forget ;;
*) fail "usage: run.sh area|start|forget" ;;
esac
