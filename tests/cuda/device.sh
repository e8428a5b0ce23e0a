#!/bin/bash
# The program over the emulated device: what it says of it, and how it ends when the device fails. Usage: device.sh
# PROGRAM LIBRARY
set -uo pipefail
program=$1
export SPECULAR_DEVICE_LIBRARY=$2
. "$(dirname "${BASH_SOURCE[0]}")/../cli/support.bash"
set -e
export SPECULAR_MODEL=${SP_TEST_MODEL:-$(dirname "${BASH_SOURCE[0]}")/../../samples/emoji}
SPECULAR_MODEL=$(realpath "$SPECULAR_MODEL")
program=$(realpath "$program")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"$program" info --device cuda | grep -q "a GPU.*bf16 arithmetic, cuda kernels"
"$program" info --device auto | grep -q "cuda kernels"
"$program" info --device cpu | grep -q "runs on      cpu"
"$program" generate -p star -s 1 --device cuda:0 --dry-run | grep -q "bytes: weights [1-9]"
expect 5 "cuda:9.*--device cpu" "$program" generate -p star --device cuda:9
expect 2 "cuda:x" "$program" generate -p star --device cuda:x
expect 7 "arithmetic there is bf16" "$program" generate -p star --device cuda --dtype f32
expect 5 "nowhere.so.*--device cpu" env SPECULAR_DEVICE_LIBRARY=nowhere.so "$program" generate -p star --device cuda
expect 5 "out of memory.*--device cpu" env SP_EMULATE_MEMORY=1000000 "$program" generate -p star --device cuda
expect 7 "drafting model" "$program" generate -p star -s 1 --device cuda --method eagle -o eagle.png
absent eagle.png

# A device lost in the first passes of a picture: the one that is done stays, and the rest is drawn by the next run.
printf 'star\n' > one.txt
printf 'star\nheart\n' > two.txt
"$program" render -q -f one.txt -s 1 --device cpu --dtype bf16 --output-dir out
cp out/journal.jsonl before
status=0
SP_EMULATE_LOSE=400 "$program" render -q -f two.txt -s 1 --device cuda --output-dir out 2> lost || status=$?
[ "$status" -eq 5 ] || fail "exit $status of a lost device, expected 5: $(cat lost)"
grep -q "device: .*--device cpu" lost || fail "no remedy in: $(cat lost)"
head -n "$(wc -l < before)" out/journal.jsonl | cmp - before || fail "the journal has lost a line"
"$program" render -q -f two.txt -s 1 --device cpu --dtype bf16 --output-dir out
[ "$(find out -name '*.png' | wc -l)" -eq 2 ] || fail "expected 2 pictures: $(ls out)"
