#!/bin/bash
# The programs that measure run to their end at the size of a toy, and every line they write is a row of a table whose
# measurement is a number. Usage: measure.sh PROGRAM...
set -euo pipefail
for program in "$@"; do
    lines=$("$program" --toy)
    grep -q '^| .*[0-9]' <<< "$lines" || {
        echo "measure: $program: no row with a number: $lines" >&2
        exit 1
    }
    strange=$(grep -vE '^(\|.*\|)?$' <<< "$lines" || true)
    missing=$(grep -E '\| -?nan |not measured' <<< "$lines" | grep -v cuBLASLt || true)
    if [ -n "$strange$missing" ]; then
        echo "measure: $program: not rows of a table, or not numbers" >&2
        exit 1
    fi
done
