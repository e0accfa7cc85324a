#!/bin/bash
# Runs fuzz targets for a while each, as many at a time as there are cores, and says what they did.
# What is new in the working corpus build/fuzz/corpus/<target> stays there for the next time; what
# breaks a target is left in build/fuzz/findings. Fails if anything did.
#
#   run.sh seconds target…
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

seconds=${1:?usage: run.sh seconds target…}
shift
findings=build/fuzz/findings

# Where the targets have their spools: what one that ended badly left there is gone, too.
TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" mayfly-fuzz-XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM

last() { # of the numbers behind a word in what a target said
    sed -n "s/.*$1 \([0-9]*\).*/\1/p" "$2" | tail -n 1
}

run() { # target
    local log=build/fuzz/log/$1 finding
    mkdir -p "build/fuzz/corpus/$1"
    "build/fuzz/tests/fuzz/$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -max_len=8192 \
        -print_final_stats=1 -dict="tests/fuzz/$1.dict" -artifact_prefix="$findings/$1-" \
        "build/fuzz/corpus/$1" "tests/fuzz/corpus/$1" >"$log" 2>&1
    local code=$?
    if [ $code = 0 ]; then
        printf 'ok      %-10s %9s runs, %s a second, cov %s, ft %s\n' "$1" \
            "$(last 'number_of_executed_units:' "$log")" "$(last 'average_exec_per_sec: *' "$log")" \
            "$(last 'cov:' "$log")" "$(last 'ft:' "$log")"
        return 0
    fi
    finding=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    printf 'FOUND   %-10s %s\n' "$1" "$(grep -m 1 -E ': broken: |runtime error: |ERROR: ' "$log" || echo "ended with $code")"
    printf '        again: build/fuzz/tests/fuzz/%s %s\n        log:   %s\n' "$1" "${finding:-…}" "$log"
    return 1
}

mkdir -p "$findings" build/fuzz/log
failed=0 running=0 cores=$(nproc)
for target in "$@"; do
    if [ $running -ge "$cores" ]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    run "$target" &
    running=$((running + 1))
done
while [ $running -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed
