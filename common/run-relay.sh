# shellcheck shell=bash disable=SC2154
# The relay of `make run`, which there is when RELAY_HOST names a smarthost. Part of common/run.sh, whose
# names it uses: area, clone, owner, as_owner, programs, stored, clients.
#
# smtpd and relay find their settings as ever: in the environment, which has what make's command line set,
# and in .env. What is settled here goes into the environment, and comes before .env.

# Exports a setting that stands in .env and not in the environment, read as the programs read it.
relay_take_from_dotenv() {
    local name=$1 value
    if [ -v "$name" ] || ! [ -r .env ]; then return 0; fi
    value=$(sed -nE "/^[[:space:]]*(export )?[[:space:]]*${name}[[:space:]]*=/ { s/[^=]*=[[:space:]]*/=/p; q }" .env)
    [ -n "$value" ] || return 0
    value=$(sed -E "s/[[:space:]]*$//; s/^=(['\"])(.*)\1$/=\2/" <<<"$value")
    export "$name=${value#=}"
}

# Adds relay to the programs, and settles who may relay and what is stored: with all domains stored, as
# by default, nothing would be left to be relayed.
relay_settle() {
    local name
    for name in RELAY_HOST RELAY_USER RELAY_PASSWORD_FILE RELAY_TOKEN_FILE RELAY_CA SMTPD_DOMAINS SMTPD_RELAY_CLIENTS; do
        relay_take_from_dotenv $name
    done
    # It is for relay alone, and comes back as a file of its service directory.
    relay_password=${RELAY_PASSWORD-}
    unset RELAY_PASSWORD
    if [ -n "${RELAY_HOST-}" ]; then
        programs+=(relay)
        export SMTPD_RELAY_CLIENTS=${SMTPD_RELAY_CLIENTS-127.0.0.0/8,::1}
        export SMTPD_DOMAINS=${SMTPD_DOMAINS-mayfly.example}
    elif [ -n "${RELAY_USER-}" ]; then
        say "RELAY_USER is set and RELAY_HOST is not: relay is not started."
    fi
}

# Sees that a file which relay is going to read, as its user, can be read. What root alone can read is
# copied for that user; but a token is replaced as it expires, and a copy would not be.
relay_file() {
    local name=$1 service=$2 file=${!1-}
    [ -n "$file" ] || return 0
    # shellcheck disable=SC2088 # not every shell expands it behind the = of an argument to make
    case $file in
    '~/'*) file=${HOME-}/${file#'~/'} ;;
    /*) ;;
    *) file=$clone/$file ;;
    esac
    if (cd / && "${as_owner[@]}" test -f "$file" -a -r "$file"); then
        :
    elif [ "$name" = RELAY_TOKEN_FILE ] || ! [ -f "$file" ] || ! [ -r "$file" ]; then
        fail "$name=$file is not a file that $owner can read, as whom relay runs."
    else
        install -o "$owner" -m 400 "$file" "$service/$name"
        file=$service/$name
    fi
    export "$name=$file"
}

relay_prepare() {
    local service=$area/service/mayfly-relay
    relay_file RELAY_PASSWORD_FILE "$service"
    relay_file RELAY_TOKEN_FILE "$service"
    relay_file RELAY_CA "$service"
    if [ -n "$relay_password" ]; then
        (umask 077 && printf '%s\n' "$relay_password" >"$service/env/RELAY_PASSWORD")
    fi
}

# Passwords do not outlive the run.
relay_forget() {
    rm -f "$area"/service/mayfly-relay/{RELAY_PASSWORD_FILE,env/RELAY_PASSWORD}
}

# What goes where, and the line to try it with: to the user's own mailbox where we know it.
relay_print_use() {
    local smtp=$1 from=alice@mayfly.example to=bob@example.net whom='with addresses of your own'
    if [ "$stored" = '*' ]; then
        printf '%s\n\n' "SMTPD_DOMAINS is *: all mail is stored, and none goes to $RELAY_HOST."
        return
    fi
    if [[ ${RELAY_USER-} =~ ^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$ ]]; then
        from=$RELAY_USER to=$RELAY_USER whom='to yourself'
    fi
    cat <<TXT
Mail to ${stored:-no domain} is stored (SMTPD_DOMAINS); mail from ${clients:-nobody} (SMTPD_RELAY_CLIENTS)
to other domains goes to $RELAY_HOST. Send one through it, $whom:
  printf 'From: $from\r\nTo: $to\r\nSubject: Hello\r\n\r\nIt went out.\r\n' | curl -sS smtp://$smtp --mail-from $from --mail-rcpt $to -T -

TXT
}
