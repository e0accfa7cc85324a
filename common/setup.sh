#!/bin/sh
# mayfly-setup: makes what belongs to no file of the programs: the group, a user for each, the spool.
# What is there already stays as it is; what is there and cannot serve is named.
#
#   mayfly-setup                  as root; SPOOL= for another place than /var/spool/mayfly
#   mayfly-setup --root=DIRECTORY in a tree that is another machine's, as packagers and images want it
set -eu
umask 022
CDPATH=''

group=mayfly
spool=${SPOOL:-/var/spool/mayfly}
root=''

usage="usage: mayfly-setup [--help | --root=DIRECTORY]
Makes the group mayfly, the users of smtpd, storer, reaper and relay, and the
spool (SPOOL, or /var/spool/mayfly). May be run again at any time."

fail() {
    printf 'mayfly-setup: %s\n' "$2" >&2
    exit "$1"
}

case $#${1:-} in
0) ;;
1--help) printf '%s\n' "$usage" && exit 0 ;;
1--root=/*) root=${1#--root=} root=${root%/} ;;
*) printf '%s\n' "$usage" >&2 && exit 64 ;;
esac
while [ "$spool" != "${spool%/}" ]; do spool=${spool%/}; done
case $spool in
/*) ;;
*) fail 78 "SPOOL is ${SPOOL:-}, which is no absolute path of a directory" ;;
esac
[ "$(id -u)" = 0 ] || fail 77 "only root can make users"
[ -d "$root/" ] || fail 66 "$root is no directory"

# One field of an entry in a tree's passwd or group; nothing where there is none. On this machine the
# name service is asked, which knows more than the files.
entry() {
    if [ -n "$root" ]; then
        { grep "^$2:" "$root/etc/$1" 2>/dev/null || true; } | cut -d: -f"$3"
    else
        { getent "$1" "$2" || true; } | cut -d: -f"$3"
    fi
}

member() {
    [ "$(entry passwd "$1" 4)" = "$gid" ] || case ",$(entry group $group 4)," in
    *",$1,"*) ;;
    *) return 1 ;;
    esac
}

[ -n "$(entry group $group 3)" ] || groupadd ${root:+--prefix "$root"} --system $group
gid=$(entry group $group 3)

for program in smtpd storer reaper relay; do
    user=mayfly-$program
    [ -n "$(entry passwd $user 3)" ] || useradd ${root:+--prefix "$root"} --system --gid $group \
        --no-create-home --home-dir / --shell /usr/sbin/nologin --comment "Mayfly's $program" $user
    member $user || fail 73 "the user $user is there already, and is not in the group $group"
done

# Goes into a directory of the spool, once that is there and can serve. The group, by its number, since
# a tree's has another, or none, on this machine, and the bit that hands it on are what a new directory
# has from the one that it is made in: it is complete at once, whenever this is interrupted, and nothing
# is changed by a name, which members of the group might have turned into a link to elsewhere.
enter() {
    [ -e "$1" ] || [ -L "$1" ] || mkdir "$1"
    path=${path:+$path/}$1
    { cd -P "$1" 2>/dev/null && [ "$(stat -c '%a %g' .)" = "2770 $gid" ]; } ||
        fail 73 "$path is there already, and is no directory of mode 2770, group $group"
}

# The first of them has all of that from nobody: it is made beside its place, where only root writes.
path=
spool=$root$spool
if ! [ -e "$spool" ] && ! [ -L "$spool" ]; then
    mkdir -p "${spool%/*}/"
    [ -d "$spool.setup" ] || mkdir -m 700 "$spool.setup"
    chgrp "$gid" "$spool.setup"
    chmod 2770 "$spool.setup"
    mv -T "$spool.setup" "$spool"
fi

# The programs make what is missing of the rest; made here, they never need a right to set the bit.
umask 007
enter "$spool"
for queue in store relay; do
    (
        enter $queue
        for directory in tmp new cur failed; do
            (enter $directory)
        done
    )
done
