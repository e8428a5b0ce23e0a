# A tiny MAR: a masked model with continuous tokens and an autoencoder, which draws a class in a number of passes.

tiny=$here/../golden/mar-tiny

# with_drafter: m, a copy that has a model like itself as its drafter.
with_drafter() {
    mkdir -p m/draft
    cp "$tiny"/config.json "$tiny"/*.safetensors m
    cp "$tiny"/model.safetensors m/draft
    python3 -c '
import json, sys
c = json.load(open("m/config.json"))
del c["kl"]
json.dump(c, open("m/draft/config.json", "w"))'
}

# holds REPORT EXPRESSION of r.
holds() {
    python3 -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert eval(sys.argv[2]), (sys.argv[2], r)' "$1" "$2"
}

case_pictures() {
    specular generate -q -m "$tiny" -p 3 -s 1 -o a.png --report a.report --tokens a.json --map map.png
    holds a.report 'r["method"] == "ar" and r["exactness"] == "identical" and r["nfe"] == r["passes"] == 6'
    holds a.report 'sum(n * k for n, k in enumerate(r["acceptance_histogram"])) == 16'
    holds a.json 'len(r) == 16 and all(len(token) == 4 for token in r)'
    python3 -c 'assert open("map.png", "rb").read(4) == b"\x89PNG"'
    # The default of these models is ar, and neither threads nor a resumed run change a picture.
    specular generate -q -m "$tiny" -p 3 -s 1 --method ar -t 1 -o b.png
    same a.png b.png
    specular generate -q -m "$tiny" -p 3 -s 1 -b 2 -o c.png
    same a.png c.png
    differ a.png c-2.png
    printf '%s\n' 3 4 > classes.txt
    specular render -q -m "$tiny" -f classes.txt -s 1 --output-dir out
    specular render -q -m "$tiny" -f classes.txt -s 1 --output-dir out
    same a.png "$(ls out/*.png | head -1)"
}

case_passes() {
    for passes in 1 3 16; do
        specular generate -q -m "$tiny" -p 3 -s 1 --passes $passes -o p$passes.png --report p.report
        holds p.report "r['nfe'] == r['passes'] == $passes"
    done
    differ p1.png p16.png
    succeed specular inspect p3.png --as-command
    grep -q -- '--passes=3' succeed.out
    cp p3.png first.png
    eval "$(specular inspect p3.png --as-command -m "$tiny" 2> inspect.err) -q --force"
    same p3.png first.png
    expect 2 "passes 17: expected 1 to 16" specular generate -m "$tiny" -p 3 -s 1 --passes 17 -o x.png
    expect 2 "passes: .0." specular generate -m "$tiny" -p 3 -s 1 --passes 0 -o x.png
    expect 2 "passes 4: this model draws its tokens in a fixed order" specular generate -p x -s 1 --passes 4 -o x.png
    absent x.png
}

case_drafter() {
    with_drafter
    # One draft a check by the model itself: each is the model's own token.
    specular generate -q -m m -p 3 -s 1 --method cspd-released --gamma 1 --prefill 0 -o d.png --report d.report
    holds d.report 'r["exactness"] == "relaxed" and r["draft_acceptance_rate"] == 1 and r["nfe"] == r["nfe_draft"] == 6'
    specular generate -q -m m -p 3 -s 1 --tokens ar.json -o a.png
    specular generate -q -m m -p 3 -s 1 --method cspd-released --gamma 1 --tokens d.json --force -o d.png
    same ar.json d.json
    specular generate -q -m m -p 3 -s 1 --method cspd-released --gamma 3 --prefill 0.5 -o e.png --report e.report
    holds e.report 'r["nfe"] == 3 + 1 and r["nfe_draft"] == 3 and r["tolerance"] == 0.26'
    printf '%s\n' 1 2 > classes.txt
    succeed specular eval -m m -f classes.txt --methods ar,cspd-released --output-dir study
    succeed specular bench -m m -r 1 --limit 1 --methods ar,cspd-released --gamma 2
}

case_refused() {
    with_drafter
    local draw="specular generate -m m -p 3 -s 1 -o x.png"
    expect 2 "sees both sides" $draw --method mirror
    expect 2 "sees both sides" $draw --method cspd
    expect 2 "this model's are continuous; use ar" $draw --method pathwise
    expect 2 "draws classes" specular generate -m m -p 5 -s 1 -o x.png
    expect 2 "no drafting model" specular generate -m "$tiny" -p 3 -s 1 -o x.png --method cspd-released
    expect 3 "from left to right" $draw --method cspd-released --drafter "$here/../golden/spherear-tiny"
    absent x.png
}

case_bad_checkpoints() {
    with_drafter
    local draw="specular generate -m m -p 3 -s 1 -o x.png"
    for change in 'c["transformer"]["buffer"] = 7' 'c["transformer"]["decoder_layers"] = 4' \
                  'c["transformer"]["norm_eps"] = -1' 'c["transformer"]["norm"] = "rms"' 'c["classes"]["count"] = 6' \
                  'c["sampling"]["passes"] = 17' 'del c["sampling"]["passes"]' 'c["latents"]["dim"] = 5' \
                  'c["head"]["sampler"] = "velocity"' 'c["kl"]["names"] = "order"' 'c["kl"]["attention"] = "lowest"' \
                  'del c["transformer"]["ffn_dim"]' 'c["transformer"]["heads"] = 3' 'del c["latents"]'; do
        cp "$tiny"/config.json m
        python3 -c '
import json, sys
c = json.load(open("m/config.json"))
exec(sys.argv[1])
json.dump(c, open("m/config.json", "w"))' "$change"
        expect 3 "m/|kl.safetensors" $draw
    done
    cp "$tiny"/config.json m
    sed -i 's/"bias": true/"bias": false/' m/config.json
    expect 7 "biases" $draw
    cp "$tiny"/config.json m
    head -c 100000 "$tiny"/model.safetensors > m/model.safetensors
    expect 3 "model.safetensors" $draw
    absent x.png
}
