# Models with continuous tokens: a tiny one of class-conditional SphereAR without a codec, which makes tokens only.

tiny=$here/../golden/spherear-tiny

# edit FOLDER EXPRESSION: changes config.json; c is the object.
edit() {
    python3 - "$1" "$2" <<'END'
import json, sys
path = sys.argv[1] + "/config.json"
c = json.load(open(path))
exec(sys.argv[2])
json.dump(c, open(path, "w"))
END
}

# A copy in m whose last step adds noise, so that every method has something to compare, and itself as its drafter.
noisy_copy() {
    mkdir -p m/draft
    cp "$tiny"/config.json "$tiny"/model.safetensors m
    edit m 'c["head"]["terminal_noise"] = 0.1'
    cp m/config.json m/model.safetensors m/draft
}

# tokens NAME OPTIONS...: NAME.json and NAME.report of one picture.
tokens() {
    local name=$1
    shift
    specular generate -q -m m -p 3 -s 1 --tokens "$name.json" --report "$name.report" "$@"
}

# holds NAME EXPRESSION: of r, the report, and t, the tokens.
holds() {
    python3 - "$1" "$2" <<'END'
import json, sys
r, t = json.load(open(sys.argv[1] + ".report")), json.load(open(sys.argv[1] + ".json"))
assert len(t) == 16 and all(len(x) == 4 for x in t), t
assert all(abs(sum(v * v for v in x) - 4) < 1e-4 for x in t), "not on the sphere"
assert eval(sys.argv[2]), (sys.argv[2], r)
END
}

case_methods() {
    noisy_copy
    tokens ar --method ar
    holds ar 'r["exactness"] == "identical" and r["nfe"] == 16 and "condition" in r["latency_ms"]'
    tokens mirror --window 4
    holds mirror 'r["method"] == "mirror" and r["exactness"] == "exact" and r["front"] == "mirror" and r["nfe"] < 16'
    tokens path --window 4 --front path
    holds path 'r["front"] == "path" and r["exactness"] == "exact"'
    tokens cspd --method cspd --gamma 3 --prefill 0.25
    # The drafter is the model itself: every draft passes, and a check settles one token more.
    holds cspd 'r["gamma"] == 3 and r["prefill"] == 0.25 and r["align"] == "yes" and r["draft_acceptance_rate"] == 1'
    holds cspd 'r["nfe"] == 4 + 3 and r["nfe_draft"] > 0 and r["exactness"] == "exact"'
    tokens apart --method cspd-released --gamma 4 --prefill 0 --align no --tolerance 0.1
    holds apart 'r["exactness"] == "relaxed" and r["align"] == "no" and r["tolerance"] == 0.1 and r["nfe"] == 4'
    holds apart 'r["draft_acceptance_rate"] < 0.5 and "total_variation_bound" not in r'
    tokens loose --method cspd-released --gamma 4 --prefill 0 --align no --tolerance 1000
    holds loose 'r["draft_acceptance_rate"] == 1'
    tokens again --method ar -t 1
    same ar.json again.json
    differ ar.json mirror.json
}

case_no_codec() {
    expect 7 "no codec.*--tokens FILE" specular generate -m "$tiny" -p 3 -s 1 --method ar
    absent 3.png
    # Times need no pictures.
    succeed specular bench -m "$tiny" -r 1 --warmup 0 --limit 1 --methods ar
    grep -q '^| ar | 1 | identical |' succeed.out
    succeed specular generate -m "$tiny" -p 3 -s 1 --method ar --tokens t.json
    grep -q "t.json: seed 1" succeed.err
    absent 3.png
    succeed specular info -m "$tiny" --json
    python3 -c "
import json
i = json.load(open('succeed.out'))
assert i['continuous'] is True and i['latent_dim'] == 4 and i['chain_steps'] == 9 and i['codec'] == '', i
assert 0 < i['head_parameters'] < i['parameters'] and i['n_codes'] == 0, i"
    succeed specular info -m "$tiny"
    grep -q "4 x 4 tokens of 4 numbers" succeed.out
}

case_refused() {
    noisy_copy
    local draw="specular generate -m m -p 3 -s 1 --tokens t.json"
    expect 2 "discrete tokens, and this model's are continuous" $draw --method pathwise
    expect 2 "continuous tokens, and this model's are discrete" specular generate -p x -s 1 --method mirror
    expect 2 "nothing to rank" $draw --top-k 5
    expect 2 "cfg-scale" $draw --cfg-scale nan
    expect 2 "cfg-scale" $draw --cfg-scale -1
    expect 2 "temperature" $draw --temperature 101
    expect 2 "no noise" $draw --temperature 0
    expect 2 "gamma 16: expected 1 to 15" $draw --method cspd --gamma 16
    expect 2 "prefill" $draw --method cspd --prefill 1.5
    expect 2 "tolerance" $draw --method cspd-released --tolerance -1
    expect 2 "align" $draw --method cspd --align maybe
    expect 2 "front" $draw --front back
    expect 2 "adds no noise" specular generate -m "$tiny" -p 3 -s 1 --tokens t.json
    expect 2 "continuous tokens" specular eval -m m -f /dev/null --methods sjd --output-dir study
    absent t.json
    absent study
}

case_bad_checkpoints() {
    noisy_copy
    local draw="specular generate -m m -p 3 -s 1 --tokens t.json --method ar"
    local cspd="specular generate -m m -p 3 -s 1 --tokens t.json --method cspd"
    edit m/draft 'c["latents"]["dim"] = 5'
    expect 3 "latents of 5 numbers, and the model has 4 x 4 of 4" $cspd
    cp m/config.json m/draft
    edit m/draft 'c["head"]["steps"] = 8'
    expect 3 "chains of 8 steps" $cspd
    expect 3 "chains of 8 steps" $draw --drafter m/draft
    rm -r m/draft
    expect 3 "nowhere/config.json" $draw --drafter nowhere
    expect 2 "no drafting model" $cspd
    edit m 'c["head"]["width"] = 64'
    expect 3 "head.net.*32.*expected.*64" $draw
    noisy_copy
    rm -r m/draft
    edit m 'c["head"]["blocks"] = c["head"]["groups"] = 5'
    expect 3 "ada_ln_blocks.2|res_blocks.4" $draw
    for change in 'c["head"]["sampler"] = "heun"' 'c["head"]["steps"] = 0' 'c["head"]["stop"] = 1.0' \
                  'c["head"]["terminal_noise"] = -0.1' 'c["latents"]["dim"] = 0' 'c["head"]["groups"] = 3' \
                  'c["sampling"]["guidance"] = "sine"' 'c["head"]["time_width"] = 255' 'del c["head"]["blocks"]'; do
        cp "$tiny"/config.json m
        edit m "$change"
        expect 3 "config.json: " $draw
    done
    # One bit of one weight makes it infinite.
    cp "$tiny"/config.json m
    python3 - <<'END'
import json, struct
data = bytearray(open("m/model.safetensors", "rb").read())
size, = struct.unpack("<Q", data[:8])
first = json.loads(data[8:8 + size])["head.net.final_layer.linear.weight"]["data_offsets"][0]
data[8 + size + first:8 + size + first + 2] = b"\x80\x7f"
open("m/model.safetensors", "wb").write(data)
END
    expect 3 "linear.weight.*(NaN|infinit|finite)" $draw
    absent t.json
}

# The sample model with continuous tokens, whose pictures are compared byte for byte.
sample=$here/../../samples/emoji-latent

has_sample() {
    [ -f "$sample/config.json" ] && return
    echo "skipped: no samples/emoji-latent"
    return 1
}

case_sample_pictures() {
    has_sample || return 0
    local method
    for method in ar mirror cspd; do
        specular generate -q -m "$sample" -p "red heart" -s 1 --method $method --window 8 -o $method.png \
            --map $method-map.png --report $method.report --tokens $method.json
        [ -s $method-map.png ]
        # The command in the picture makes it again, also on one thread.
        specular inspect $method.png --as-command -m "$sample" > again
        grep -q -- "--method=$method" again
        mkdir again-$method
        (cd again-$method && bash -c "$(cat ../again) -q -t 1")
        same $method.png again-$method/$method.png
    done
    differ ar.png mirror.png
    # Batches are of codes, and that is said.
    specular generate -m "$sample" -p "red heart" -s 1 --method ar -o alone.png --batch-size 2 2> said
    [ "$(grep -c -e '--batch-size 2: pictures are drawn one after another here' said)" -eq 1 ]
    python3 -c "
import json
ar, mirror = json.load(open('ar.report')), json.load(open('mirror.report'))
assert ar['nfe'] == 64 and mirror['nfe'] < 48, (ar['nfe'], mirror['nfe'])
assert mirror['latency_ms']['condition'] + mirror['latency_ms']['chain'] <= mirror['latency_ms']['decode'] + 0.01
t = json.load(open('mirror.json'))
assert len(t) == 64 and all(len(x) == 16 for x in t)"
}

case_sample_commands() {
    has_sample || return 0
    printf 'red heart\ncat face\n' > p.txt
    specular bench -q -m "$sample" -f p.txt --methods mirror,cspd-released --window 8 -r 1 --warmup 0 \
        --output-format json > t.json
    python3 -c "
import json
rows = json.load(open('t.json'))
assert [(r['method'], r['window'], r['exactness']) for r in rows] == [
    ('ar', '1', 'identical'), ('mirror', '8', 'exact'), ('cspd-released', 'auto', 'relaxed')], rows
assert rows[0]['tokens_identical'] == rows[0]['tokens'] == 128 and rows[1]['tokens_identical'] < 128, rows"
    specular render -q -m "$sample" -f p.txt --output-dir out --tokens tokens --window 8
    specular generate -q -m "$sample" -p "red heart" -s 0 --window 8 --tokens one.json -o one.png
    same out/000001.png one.png
    same tokens/000001.json one.json
    specular eval -q -m "$sample" -f p.txt --methods mirror,cspd-released --window 8 --output-dir study
    python3 -c "
import json
rows = {r['setting'] if 'setting' in r else r['name']: r for r in json.load(open('study/results.json'))['results']}
for name in ('ar', 'mirror', 'cspd-released'):
    r = rows[name]
    for key in ('nll', 'nll_excess', 'code_divergence', 'total_variation_at_least'):
        assert r[key] is None, (name, key, r[key])
    assert r['nfe']['value'] > 0 and r['token_identity'] is not None, r
assert rows['cspd-released']['total_variation_at_most'] is None
assert rows['mirror']['total_variation_at_most']['value'] == 0 and rows['ar']['token_identity']['value'] == 1"
    specular info -m "$sample" > info
    grep -q "pictures by kl" info
    grep -q "^drafter *[0-9]" info
}
