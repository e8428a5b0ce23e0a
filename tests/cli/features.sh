# eval --features: distances in what an ONNX model sees. Cases that run a model need a build with ONNX Runtime.

onnx() { python3 "$(dirname "$check")/onnx.py" "$@"; }
evaluate() { specular eval -q -f p.txt --output-dir out "$@"; }

# Writes the prompts. Whether models can be run: without the library, a file that is missing is not even looked for.
runs_models() {
    local status=0
    printf '%s\n' 'red heart' car > p.txt
    evaluate --features nowhere.onnx 2> /dev/null || status=$?
    [ $status -ne 7 ] || { echo "skipped: no ONNX Runtime in this build"; return 1; }
}

case_without_the_library() {
    if runs_models > /dev/null; then
        echo "skipped: ONNX Runtime in this build"
        return
    fi
    onnx mean mean.onnx
    expect 7 "^specular: error: mean.onnx: this build has no ONNX Runtime" evaluate --features mean.onnx
    absent out
    # Nothing is asked of a network where nothing is measured.
    evaluate --methods ar --limit 1
    evaluate --methods ar --limit 1 --features mean.onnx --layout pytorch-fid --check
}

# The same pictures by two models, one after the other: a finished folder is not drawn again.
case_figures() {
    local width height
    runs_models || return 0
    read -r width height <<< "$(specular info --json | python3 -c "
import json, sys
info = json.load(sys.stdin)
print(info['width'], info['height'])")"
    specular render -q -f p.txt --output-dir ref -b 4 -s 9
    evaluate --methods ar,pathwise,sjd --seeds 3
    python3 -c "
import json
results = json.load(open('out/results.json'))
assert 'features' not in results and results['results'][2]['network_frechet'] is None"
    cp out/journal.jsonl before
    onnx mean mean.onnx "$width" "$height"
    evaluate --methods ar,pathwise,sjd --seeds 3 --reference ref --features mean.onnx
    same before out/journal.jsonl
    python3 "$check" features out ref mean "$width" "$height" 0.5,0.5,0.5 0.5,0.5,0.5
    python3 -c "
import json
for result in json.load(open('out/results.json'))['results'][:2]:
    assert abs(result['network_frechet']['value']) < 1e-6 and result['network_recall']['value'] == 1, result"
    onnx weights weights.onnx 5 3
    specular eval -f p.txt --output-dir out --methods ar,pathwise,sjd --seeds 3 --reference ref \
        --features weights.onnx --feature-mean 0.48,0.46,0.41 --feature-deviation 0.27,0.26,0.28 2> err
    grep -qx 'specular: 4 features of 18 pictures by weights.onnx' err || fail "$(cat err)"
    same before out/journal.jsonl
    python3 "$check" features out ref weights 5 3 0.48,0.46,0.41 0.27,0.26,0.28
}

# A checkpoint without an encoder compares with a folder by a network alone.
case_reference_without_an_encoder() {
    runs_models || return 0
    cp -r "$(dirname "$check")/../golden/mar-tiny" m
    python3 "$check" without_encoder m/kl.safetensors kl.safetensors
    mv kl.safetensors m/kl.safetensors
    onnx mean mean.onnx
    printf '1\n' > p.txt
    evaluate -m m --seeds 4 --methods ar
    expect 7 "--reference: this checkpoint has no encoder .*; give a network with --features" \
        evaluate -m m --seeds 4 --methods ar --reference out/ar
    evaluate -m m --seeds 4 --methods ar --reference out/ar --features mean.onnx
    python3 -c "
import json
result = json.load(open('out/results.json'))['results'][0]
assert result['frechet'] is None and result['reference_frechet'] is None, result
assert result['network_reference_frechet']['value'] < 1e-6 and result['network_reference_recall']['value'] == 1, result"
}

# One line each, before anything is drawn.
case_bad_models() {
    runs_models || return 0
    refused() { # MODEL PATTERN
        onnx "$1" "$1.onnx"
        expect 3 "^specular: error: $1.onnx: $2" evaluate --features "$1.onnx"
        absent out
    }
    refused flat 'its input is \[3, 3, 5\]: expected \[1 or \?, 3, height, width\]'
    refused free 'its input is \[1, 3, \?, \?\]: expected .* fixed height and width'
    refused grey 'its input is \[1, 1, 3, 5\]: expected'
    refused eight 'its input is \[8, 3, 3, 5\]: expected'
    refused deep 'its input is of 9 dimensions: expected'
    refused double 'its input is no tensor of float32'
    refused two 'has 2 inputs and 1 outputs: expected one input'
    refused integers 'its first output is no tensor of float32'
    refused sequence 'its first output is no tensor of float32'
    refused nothing 'gives 0 features: expected 1 to 65536'
    refused reshape 'fails on a picture \(ONNX Runtime [0-9.]*: .*Reshape'
    refused nonsense 'is no ONNX model that loads \(ONNX Runtime [0-9.]*: .*Nonsense'
    onnx mean mean.onnx
    head -c 60 mean.onnx > cut.onnx
    : > empty.onnx
    mkdir folder.onnx
    expect 3 "cut.onnx: is no ONNX model that loads" evaluate --features cut.onnx
    expect 3 "empty.onnx: is no ONNX model that loads" evaluate --features empty.onnx
    expect 3 "p.txt: is no ONNX model that loads" evaluate --features p.txt
    expect 3 "folder.onnx: is a folder" evaluate --features folder.onnx
    expect 3 "nowhere.onnx: cannot be opened" evaluate --features nowhere.onnx
    absent out
    # What only pictures show keeps them, and another network goes on from there.
    onnx logarithm logarithm.onnx
    expect 3 "logarithm.onnx: feature [0-9]* is not a number" \
        evaluate --methods ar --limit 1 --features logarithm.onnx
    [ -f out/ar/000001.png ]
    absent out/results.csv
    evaluate --methods ar --limit 1 --features mean.onnx
}

case_bad_numbers() {
    local value
    printf 'red heart\n' > p.txt
    for value in x 0.5,0.5 0.5,0.5,0.5,0.5 0.5, ,0.5,0.5 0.5,,0.5 nan 1001 0.5,0.5,x; do
        expect 2 "--feature-mean: '$value' is not one number from -1000 to 1000, or three" \
            evaluate --features x.onnx --feature-mean "$value"
    done
    for value in 0 -1 0.5,0,0.5; do
        expect 2 "--feature-deviation: '$value' is not one number from 0.0001 to 1000" \
            evaluate --features x.onnx --feature-deviation "$value"
    done
    expect 2 "--feature-mean: no --features" evaluate --feature-mean 0.5
    expect 2 "--feature-deviation: no --features" evaluate --feature-deviation 0.5
    absent out
}
