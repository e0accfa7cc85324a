# shellcheck shell=bash
# Completion of mayfly-queue: commands, their options, and ids, of which the spool is asked for those
# that the command can take. A spool of a million is not listed for it: two seconds must do.

_mayfly_queue_ids() {
    # The first column; reasons are indented, and the heading is left out. A name may be anybody's, and
    # what is put on a command line is run: nothing in it may mean anything to the shell.
    timeout 2 "$1" "${@:2}" 2>/dev/null | sed -n '2,$s/^\([0-9A-Za-z][0-9A-Za-z._-]*\)  .*/\1/p'
}

_mayfly_queue() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local program=${COMP_WORDS[0]} command=${COMP_WORDS[1]:-} options='' ids=()

    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "list failed show stats retry remove replay check trace \
            --help --version --check" -- "$word")
        return
    fi
    # Bash takes --queue=store apart at the `=`.
    if [ "$previous" = --queue ] || [ "$previous" = = ]; then
        mapfile -t COMPREPLY < <(compgen -W "store relay" -- "${word#=}")
        return
    fi
    case $command in
    list | failed | stats) options='--json --queue' ;;
    show) options='--envelope --raw --queue' ids=(list) ;;
    retry) options='--all --queue' ids=(failed) ;;
    remove) options='--yes --queue' ids=(list) ;;
    check) options='--repair --json' ;;
    trace) options='--json' ids=(list) ;;
    esac
    if [ "${word#-}" != "$word" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    elif [ ${#ids[@]} -gt 0 ]; then
        mapfile -t COMPREPLY < <(_mayfly_queue_ids "$program" "${ids[@]}" |
            while read -r id; do [[ $id != "$word"* ]] || echo "$id"; done)
    fi
}

complete -F _mayfly_queue mayfly-queue
