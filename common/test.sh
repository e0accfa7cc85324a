#!/bin/bash
# Runs unit tests (programs) and system tests (a directory), all of them whatever fails, and ends
# with the count of both; fails if any test did.
#
#   test.sh [program…] [directory]
set -uo pipefail

passed=0 failed=0 skipped=0

count() { # what, passed, failed
    passed=$((passed + $2)) failed=$((failed + $3))
    if [ "$3" = 0 ]; then printf 'ok      %-40s %s\n' "$1" "$2"; else printf 'FAILED  %-40s %s of %s\n' "$1" "$3" $(($2 + $3)); fi
}

sum() { # of the numbers in what a unit test said, after a word
    sed -n "s/^\[  $1  \] \([0-9]*\) test(s).*/\1/p" <<<"$2" | awk '{ sum += $1 } END { print sum + 0 }'
}

# One that ends badly without a failed test of its own, by a signal or a sanitizer, counts as one.
unit_run() {
    local said code good bad
    said=$("$1" 2>&1)
    code=$?
    good=$(sum PASSED "$said") bad=$(sum FAILED "$said")
    if [ $code != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    if [ "$bad" != 0 ]; then printf '%s\n%s ended with %s\n' "$said" "$1" $code; fi
    count "${1##*/}" "$good" "$bad"
}

system_count() { # a word of pytest's last line
    sed -n "s/.*[^0-9]\([0-9][0-9]*\) $1.*/\1/p" <<<" $2" | grep . || echo 0
}

# The interpreter is Debian's, for which the packages are: the first in PATH may be another. A test
# mostly waits, for a disk or a clock, so there is a file of them at a time for every core and two more;
# each has its own PostgreSQL, and more than four would only wait for one disk.
system_run() {
    local said code last bad workers
    workers=$(($(nproc) + 2))
    if [ "$workers" -gt 4 ]; then workers=4; fi
    said=$(mktemp)
    /usr/bin/python3 -m pytest -rfEs -p no:cacheprovider -n "$workers" --dist loadfile "$1" | tee "$said"
    code=${PIPESTATUS[0]}
    last=$(tail -n 1 "$said")
    rm -f "$said"
    bad=$(($(system_count failed "$last") + $(system_count 'error' "$last")))
    if [ "$code" != 0 ] && [ $bad = 0 ]; then bad=1; fi
    skipped=$(system_count skipped "$last")
    count "$1" "$(system_count passed "$last")" $bad
}

for test in "$@"; do
    if [ -d "$test" ]; then system_run "$test"; else unit_run "$test"; fi
done
printf '\n%s passed, %s failed, %s skipped\n' $passed $failed "$skipped"
[ $failed = 0 ]
