#!/bin/bash
# The program over the emulated device: what it says of it, and how it ends when the device fails. Usage: device.sh
# PROGRAM LIBRARY
set -uo pipefail
program=$1
SPECULAR_DEVICE_LIBRARY=$(realpath "$2")
export SPECULAR_DEVICE_LIBRARY
. "$(dirname "${BASH_SOURCE[0]}")/../cli/support.bash"
set -e
export SPECULAR_MODEL=${SP_TEST_MODEL:-$(dirname "${BASH_SOURCE[0]}")/../../samples/emoji}
SPECULAR_MODEL=$(realpath "$SPECULAR_MODEL")
program=$(realpath "$program")
tiny=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../golden/llamagen-tiny")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"$program" info --device cuda | grep -q "a GPU.*bf16 arithmetic, cuda kernels"
"$program" info --device auto | grep -q "runs on      cpu"
"$program" info --device cpu | grep -q "runs on      cpu"
"$program" generate -p star -s 1 --device cuda:0 --dry-run | grep -q "bytes: weights [1-9]"
expect 5 "cuda:9.*--device cuda:0" "$program" generate -p star --device cuda:9
expect 2 "cuda:x" "$program" generate -p star --device cuda:x
expect 7 "arithmetic there is bf16" "$program" generate -p star --device cuda --dtype f32
expect 5 "nowhere.so.*--device cpu" env SPECULAR_DEVICE_LIBRARY=nowhere.so "$program" generate -p star --device cuda
expect 5 "out of memory.*--device cpu" env SP_EMULATE_MEMORY=1000000 "$program" generate -p star --device cuda
# The head is that of the model, not a second one of 256 x 1024.
"$program" info --device cuda --json > info.json
python3 -c "
import json
info = json.load(open('info.json'))
beside = info['drafter_bytes'] - 2 * info['drafter_parameters']
assert 0 < beside < 2 * 256 * 1024, beside"
expect 5 "device: .*--device cpu" env SP_EMULATE_LOSE=400 "$program" generate -p star -s 1 --device cuda \
    --method eagle -o eagle.png
absent eagle.png

# Branches and the drafting model: at temperature 0 the picture of eagle, and of lantern with no neighbours, is ar's.
if [ -n "${SP_TEST_ALL:-}" ]; then
    greedy=(generate -q -p star -s 1 --device cuda --cfg-scale 1 --temperature 0)
    "$program" "${greedy[@]}" --method ar -o ar.png --tokens ar.json
    "$program" "${greedy[@]}" --method eagle --window 6 -o eagle.png --tokens eagle.json --report report.json
    "$program" "${greedy[@]}" --method lantern --lantern-k 0 --window 6 -o lantern.png --tokens lantern.json
    same eagle.json ar.json
    same lantern.json ar.json
    python3 -c "
import json
report = json.load(open('report.json'))
assert report['nfe'] < 0.75 * report['num_tokens'], report['nfe']"
fi

# Pictures that share their passes are those drawn alone, whichever takes the place of which, and so is one that can
# share none. With this seed the second is done first, so that the third is drawn beside the first.
printf '{"prompt": "%s"}\n' 3 1 2 > four.jsonl
printf '{"prompt": "5", "cfg_scale": 1}\n' >> four.jsonl
many=(render -q -m "$tiny" -f four.jsonl -s 4 --device cuda --window 2 --batch-size 2)
succeed "$program" "${many[@]}" --output-dir many --tokens many-tokens --report many.json
alone=(generate -q -m "$tiny" --window 1 --device cuda)
"$program" "${alone[@]}" -p 1 -s 5 -o alone-2.png --tokens alone-2.json
"$program" "${alone[@]}" -p 5 -s 7 --cfg-scale 1 -o alone-4.png --tokens alone-4.json
for k in 2 4; do
    same many/00000$k.png alone-$k.png
    same many-tokens/00000$k.json alone-$k.json
done
python3 -c "
import json
assert [(r['line'], r['num_tokens']) for r in json.load(open('many.json'))] == [(k, 64) for k in (1, 2, 3, 4)]"

# The same model with pictures of 16 tokens. Weights stored as f32 are rounded.
cp -r "$tiny" short
python3 - <<'END'
import json
c = json.load(open("short/config.json"))
c["codes"]["grid"], c["vq"]["image_size"] = [4, 4], [16, 16]
json.dump(c, open("short/config.json", "w"))
END
python3 "$tiny/../../cli/widen.py" short wide
short=(-f three.txt -s 4 --device cuda --window 2)
printf '%s\n' 3 1 2 > three.txt
"$program" render -q -m short "${short[@]}" --output-dir plain --tokens plain-tokens
"$program" generate -q -m wide -p 3 -s 4 --device cuda --window 1 -o wide.png --tokens wide.json
same wide.json plain-tokens/000001.json
expect 7 "arithmetic there is bf16" "$program" generate -m wide -p 3 -s 4 --device cuda --dtype f32

# An evaluation in batches has the pictures of render; those drawn together share their time, and one that is gone is
# drawn again.
study() {
    "$program" eval -q -m short "${short[@]}" --methods ar,pathwise --batch-size 2 --output-dir study
    same_pictures study/pathwise plain
}
study
rm study/pathwise/000002.png
[ -z "${SP_TEST_ALL:-}" ] || study
python3 - <<'END'
import json
records = [json.loads(line) for line in open("study/journal.jsonl")]
ms = [[setting["latency_ms"]["total"] for setting in record["settings"]] for record in records]
assert [record["prompt"] for record in records] in ([0, 1, 2], [0, 1, 2, 1]) and ms[0] == ms[1], records
assert len({tuple(each) for each in ms}) == len(ms) - 1 and ms[0][0] != ms[0][1], ms
assert all(setting["identical"] == 16 for record in records for setting in record["settings"])
END

# Lost in the middle of a batch: what the journal names is there, and another run draws the rest.
if [ -n "${SP_TEST_ALL:-}" ]; then
    expect 5 "device: .*--device cpu" env SP_EMULATE_LOSE=255 "$program" "${many[@]}" --output-dir lost
    done_before=$(find lost -name '*.png' | wc -l)
    [ "$done_before" -ge 1 ] && [ "$done_before" -le 3 ] || fail "$done_before pictures before the device was lost"
    [ "$(wc -l < lost/journal.jsonl)" -eq "$done_before" ] || fail "journal: $(cat lost/journal.jsonl)"
    "$program" "${many[@]}" --output-dir lost
    same_pictures lost many
fi
"$program" generate -q -m "$tiny" -p 3 -b 3 --device cuda --batch-size 2 --dry-run > small
"$program" generate -q -m "$tiny" -p 3 -b 3 --device cuda --batch-size 9 --dry-run > large
python3 -c "
small, large = (int(open(name).read().split()[0]) for name in ('small', 'large'))
assert small < large, (small, large)"

# A device lost in the first passes of a picture: nothing half done is left, and another run goes on in the folder.
printf 'star\n' > one.txt
expect 5 "device: .*--device cpu" env SP_EMULATE_LOSE=250 "$program" render -q -f one.txt -s 1 --device cuda \
    --output-dir out
[ -z "$(find out -name '*.png*' -o -name '*.part')" ] || fail "left behind: $(ls -A out)"
"$program" render -q -f one.txt -s 1 --device cpu --output-dir out
[ -f out/000001.png ] || fail "no picture: $(ls out)"
