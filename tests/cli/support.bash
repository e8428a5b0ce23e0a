# Helpers of the cases. A case that cannot run here says "skipped: why" and returns 0.

fail() {
    echo "failed: $*"
    return 1
}

# expect STATUS PATTERN COMMAND...: the exit status, nothing on standard output, and on standard error exactly one line,
# which matches the extended regular expression.
expect() {
    local wanted=$1 pattern=$2 status=0
    shift 2
    "$@" > expect.out 2> expect.err || status=$?
    [ "$status" -eq "$wanted" ] || fail "exit $status, expected $wanted: $*: $(cat expect.err)"
    [ ! -s expect.out ] || fail "something on standard output: $*: $(head -c 200 expect.out)"
    [ "$(wc -l < expect.err)" -eq 1 ] || fail "not one line on standard error: $*: $(cat expect.err)"
    grep -qE -- "$pattern" expect.err || fail "no '$pattern' in: $(cat expect.err)"
    rm expect.out expect.err
}

# succeed COMMAND...: exit 0; output is left in succeed.out and succeed.err.
succeed() {
    local status=0
    "$@" > succeed.out 2> succeed.err || status=$?
    [ "$status" -eq 0 ] || fail "exit $status: $*: $(cat succeed.err)"
}

same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }
differ() { ! cmp -s "$1" "$2" || fail "$1 and $2 are the same"; }
absent() { [ ! -e "$1" ] || fail "$1 is there"; }

# same_pictures A B: the same PNG names with the same bytes, and at least one.
same_pictures() {
    local name
    [ "$(cd "$1" && ls ./*.png)" = "$(cd "$2" && ls ./*.png)" ] || fail "$1 and $2 hold other pictures"
    for name in "$1"/*.png; do same "$name" "$2/${name##*/}"; done
}
