#!/bin/bash
# Finds and installs the Debian packages that common/packages.txt lists for a need.
#
#   packages.sh check need…      name what is missing, and fail if anything is
#   packages.sh install need…    install what is missing; not a word and not a packet when nothing is
set -euo pipefail
cd "$(dirname "$0")"

missing=()
reasons=()

find_missing() {
    local need package witness reason pattern found
    while read -r need package witness reason; do
        case " $* " in *" $need "*) ;; *) continue ;; esac
        found=
        while read -r pattern; do
            if compgen -G "$pattern" >/dev/null; then found=1; fi
        done <<<"${witness//|/$'\n'}"
        if [ -z "$found" ]; then
            missing+=("$package")
            reasons+=("$(printf '    %-18s %s' "$package" "$reason")")
        fi
    done < <(grep -v '^#' packages.txt)
}

# Debian's postgresql package makes and starts a cluster of its own when it is first installed, and
# haproxy's a service. Mayfly brings its own cluster, tests start what they need, and nothing shall run
# that nobody asked for: the settings that prevent it last as long as the installation, and haproxy
# does not come up with the machine. Clusters, and a haproxy, that exist are not touched by it.
install_missing() {
    # shellcheck disable=SC2016 # the inner shell expands it
    "$@" sh -eu -c '
        export DEBIAN_FRONTEND=noninteractive
        conf=/etc/postgresql-common/createcluster.d/mayfly.conf
        policy=/usr/sbin/policy-rc.d
        mkdir -p "${conf%/*}"
        if [ -e "$policy" ]; then policy=; fi
        trap "rm -f $conf $policy" EXIT
        echo "create_main_cluster = false" >"$conf"
        if [ -n "$policy" ]; then
            printf "#!/bin/sh\nexit 101\n" >"$policy"
            chmod 755 "$policy"
        fi
        apt-get -o DPkg::Lock::Timeout=300 -qq update ||
            echo "apt-get update failed; going on with the package lists at hand." >&2
        apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -qq -y install --no-install-recommends "$@"
        case " $* " in *" haproxy "*) update-rc.d haproxy disable ;; esac
    ' sh "${missing[@]}"
}

action=${1:?usage: packages.sh check|install need…}
shift
find_missing "$@"
if [ ${#missing[@]} = 0 ]; then
    exit 0
fi

if [ "$action" = check ]; then
    echo "These are missing; \`make deps\` installs them (the names are those of Debian 12):" >&2
    printf '%s\n' "${reasons[@]}" >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    as_root=(sudo)
fi
echo 'Installing what is missing:'
printf '%s\n' "${reasons[@]}"
echo "    by: ${as_root[*]:+sudo }apt-get install --no-install-recommends ${missing[*]}"
for tool in apt-get "${as_root[@]}"; do
    if ! command -v "$tool" >/dev/null; then
        echo "There is no $tool here: please install these packages as root, or their like." >&2
        exit 1
    fi
done
install_missing "${as_root[@]}"
