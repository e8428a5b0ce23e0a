#!/bin/bash
# The program over the emulated device, with continuous tokens: pictures of a tiny SphereAR with the codec of another
# tiny model, what is refused, and how it ends when the device fails. Usage: device_latent.sh PROGRAM LIBRARY
# With SP_TEST_ALL=1 one of samples/emoji-latent too, in some minutes.
set -uo pipefail
program=$(realpath "$1")
SPECULAR_DEVICE_LIBRARY=$(realpath "$2")
export SPECULAR_DEVICE_LIBRARY
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
. "$here/../cli/support.bash"
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# A copy in m with the codec of mar-tiny, chains of one step that adds noise, and itself as its drafter.
golden=$here/../golden
mkdir -p m/draft
cp "$golden"/spherear-tiny/model.safetensors "$golden"/mar-tiny/kl.safetensors m
python3 - "$golden" <<'END'
import json, sys
c, mar = (json.load(open(f"{sys.argv[1]}/{name}-tiny/config.json")) for name in ("spherear", "mar"))
c["kl"], c["latents"]["scale"] = mar["kl"], mar["latents"]["scale"]
c["head"].update(steps=1, blocks=1, groups=1, terminal_noise=0.1)
json.dump(c, open("m/config.json", "w"))
del c["kl"]
json.dump(c, open("m/draft/config.json", "w"))
END
cp m/model.safetensors m/draft
export SPECULAR_MODEL=$folder/m

draw() {
    local name=$1
    shift
    "$program" generate -q -p 3 -s 1 --device cuda -o "$name.png" --tokens "$name.json" --report "$name.report" "$@"
}

"$program" info --device cuda | grep -q "a GPU.*bf16 arithmetic, cuda kernels"
"$program" generate -p 3 -s 1 --device cuda --dry-run | grep -q "bytes: weights [1-9].*session [1-9]"
draw ar --method ar -t 2
draw again --method mirror --window 1 -t 1
draw cspd --method cspd --gamma 3 --prefill 0.75 --cfg-scale 1
python3 "$here/../cli/widen.py" m wide
draw wide --method ar -m wide
same ar.json wide.json
draw front --method mirror --front path --window 1 -t 2
draw path --method mirror --front path --window 5 -t 3
same ar.json again.json
same ar.json front.json
python3 - <<'END'
import json
ar, cspd, path = (json.load(open(name + ".report")) for name in ("ar", "cspd", "path"))
assert ar["nfe"] == 16 and cspd["nfe"] == 12 + 1 and cspd["draft_acceptance_rate"] == 1, (ar, cspd)
assert path["nfe"] < 16 and path["front"] == "path", path
tokens = json.load(open("ar.json"))
assert all(abs(sum(x * x for x in token) - 4) < 1e-4 for token in tokens), tokens
END

# A masked model, with itself as its drafter.
mkdir -p mar/draft
cp "$golden"/mar-tiny/*.safetensors mar
cp mar/model.safetensors mar/draft
python3 - "$golden" <<'END'
import json, sys
c = json.load(open(f"{sys.argv[1]}/mar-tiny/config.json"))
c["head"]["steps"], c["sampling"]["passes"] = 1, 3
json.dump(c, open("mar/config.json", "w"))
del c["kl"]
json.dump(c, open("mar/draft/config.json", "w"))
END
"$program" generate -m mar -p 3 -s 1 --device cuda --dry-run | grep -q "bytes: weights [1-9].*session [1-9]"
draw masked -m mar -t 2
draw released -m mar --method cspd-released --gamma 1 --prefill 0
same masked.json released.json
python3 - <<'END'
import json
masked, released = (json.load(open(name + ".report")) for name in ("masked", "released"))
assert masked["nfe"] == released["nfe"] == released["nfe_draft"] == 3, (masked, released)
assert released["draft_acceptance_rate"] == 1, released
END
expect 5 "out of memory.*--device cpu" env SP_EMULATE_MEMORY=200000 "$program" generate -m mar -p 3 -s 1 \
    --device cuda -o small.png

expect 7 "arithmetic there is bf16" draw f32 --dtype f32
# Too little for the model; enough for it, but not for the one that drafts.
expect 5 "out of memory.*--device cpu" env SP_EMULATE_MEMORY=300000 "$program" generate -p 3 -s 1 --device cuda
expect 5 "out of memory.*--device cpu" env SP_EMULATE_MEMORY=1000000 "$program" generate -p 3 -s 1 --device cuda \
    --method cspd -o small.png
absent small.png
absent f32.png

# A device lost in the second of two pictures: the first is there, nothing is half done, and another run makes the rest.
printf '3\n1\n' > two.txt
for calls in 850 700 1000 550 1200; do
    rm -rf out
    status=0
    SP_EMULATE_LOSE=$calls "$program" render -q -f two.txt -s 1 --device cuda --window 5 --output-dir out 2> lost ||
        status=$?
    [ ! -f out/000001.png ] || [ $status -eq 0 ] || break
done
[ $status -eq 5 ] && [ -f out/000001.png ] || fail "exit $status: $(ls out)"
grep -q "device: .*--device cpu" lost
[ "$(wc -l < lost)" -eq 1 ]
[ -z "$(find out -name '000002*' -o -name '*.part')" ] || fail "left behind: $(ls -A out)"
cp out/000001.png first.png
"$program" render -q -f two.txt -s 1 --device cuda --window 5 --output-dir out
[ -f out/000002.png ] || fail "no picture: $(ls out)"
same out/000001.png first.png

# The device rounds what the processor rounds in bf16 and sums in another order: over the first tokens of four pictures
# it is no further from float arithmetic than twice what the processor is. One picture would be one draw of roundings,
# which differ by more than that.
[ "${SP_TEST_ALL:-0}" = 1 ] || exit 0
sample() {
    "$program" generate -q -m "$here/../../samples/emoji-latent" -p "$2" -s "$3" --window 16 -o "$1-$3.png" \
        --tokens "$1-$3.json" --device "$4" --dtype "$5"
}
seed=0
for prompt in "red heart" rocket "cat on blue background" penguin; do
    seed=$((seed + 1))
    sample exact "$prompt" $seed cpu f32
    sample near "$prompt" $seed cpu bf16
    sample device "$prompt" $seed cuda bf16
done
python3 - <<'END'
import json, math
def tokens(name):
    return [x for seed in (1, 2, 3, 4) for token in json.load(open(f"{name}-{seed}.json"))[:4] for x in token]
exact, near, device = tokens("exact"), tokens("near"), tokens("device")
print("from float: device", math.dist(device, exact), "processor", math.dist(near, exact))
assert math.dist(device, exact) <= 2 * math.dist(near, exact) < 0.1 * math.hypot(*exact)
END
