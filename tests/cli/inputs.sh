# Bad input: one line, the right exit code.

case_no_model() {
    expect 3 "nowhere" specular generate -p x -m nowhere
    expect 3 "nowhere" env SPECULAR_MODEL=nowhere specular info
    mkdir empty
    expect 3 "config.json" specular info --model empty
    expect 3 "config.json" specular render -f p.txt --output-dir out -m empty
    absent out
}

# A program that stands alone finds no samples and says what to do; SPECULAR_MODEL empty is unset.
case_model_beside_the_program() {
    mkdir -p usr/bin usr/share/specular/samples
    cp "$(realpath "$(command -v specular)")" usr/bin/specular
    ln -s "$(realpath "$SPECULAR_MODEL")" usr/share/specular/samples/emoji
    SPECULAR_MODEL='' succeed usr/bin/specular info
    grep -qF usr/bin/../share/specular/samples/emoji succeed.out
}

case_bad_device_and_kernels() {
    expect 2 "device" specular generate -p x --device nonsense
    expect 5 "cuda" specular generate -p x --device cuda:99
    absent x.png
}

case_unknown_method() {
    local value
    expect 2 "^specular: error: --method: 'sdj' is not one of ar, pathwise, sjd, coupled, gsd, eagle, lantern" \
        specular generate -p x -o x.png --method sdj
    expect 2 "--group-size: '0' is not" specular generate -p x -o x.png --method gsd --group-size 0
    expect 2 "--group-delta: '2' is not" specular generate -p x -o x.png --method gsd --group-delta 2
    expect 2 "--group-distance: '5' is not" specular generate -p x -o x.png --method gsd --group-distance 5
    expect 2 "--groups: 'random' is not one of dynamic, static" specular generate -p x -o x.png --groups random
    for value in 0 17 -1 x; do
        expect 2 "--tree: '$value' is not auto or" specular generate -p x -o x.png --tree $value
    done
    absent x.png
}

case_lantern_out_of_range() {
    expect 2 "--tree 9: expected 0 to 8" specular generate -p x -o x.png --method eagle --tree 9
    expect 2 "^specular: error: --lantern-k 1024: expected 0 to 1023" \
        specular generate -p x -o x.png --method lantern --lantern-k 1024
    expect 2 "--lantern-delta: '1.5' is not" specular generate -p x -o x.png --method lantern --lantern-delta 1.5
    expect 2 "--lantern-lambda 0.5: expected 1 to 1000, or 0" \
        specular generate -p x -o x.png --method lantern --lantern-lambda 0.5
    absent x.png
}

# A drafter that is missing, broken or another model's is refused in one line.
case_bad_drafter() {
    expect 3 "nowhere/config.json" specular generate -p x -o x.png --method eagle --drafter nowhere
    cp -r "$SPECULAR_MODEL/drafter" other
    sed -i 's/"hidden_size": 256/"hidden_size": 512/' other/config.json
    expect 3 "hidden_size is 512 and the model's is 256: this is the drafter of another model" \
        specular generate -p x -o x.png --method eagle --drafter other
    cp "$SPECULAR_MODEL/drafter/config.json" other/config.json
    sed -i 's/"target_fingerprint": "[0-9a-f]*"/"target_fingerprint": "0123456789abcdef"/' other/config.json
    expect 3 "target_fingerprint is 0123456789abcdef and the model's is [0-9a-f]*: this is the drafter of another" \
        specular generate -p x -o x.png --method eagle --drafter other
    cp "$SPECULAR_MODEL/drafter/config.json" other/config.json
    cp "$SPECULAR_MODEL/vq.safetensors" other/model.safetensors
    expect 3 "embed_tokens.weight" specular generate -p x -o x.png --method eagle --drafter other
    head -c 1000 "$SPECULAR_MODEL/drafter/model.safetensors" > other/model.safetensors
    expect 3 "other/model.safetensors" specular generate -p x -o x.png --method lantern --drafter other
    absent x.png
    mkdir bare
    ln -s "$SPECULAR_MODEL"/*.* bare
    expect 2 "bare has no drafting model beside it; give its folder with --drafter" \
        specular generate -m bare -p x -o x.png --method eagle
    specular generate -q -m bare -p x -o a.png -s 1 --method eagle --drafter "$SPECULAR_MODEL/drafter" --tokens a.json
    specular generate -q -p x -o b.png -s 1 --method eagle --tokens b.json
    same a.json b.json
}

# A broken drafter beside the model stops the methods that need it and no other.
case_broken_drafter_beside_the_model() {
    mkdir bare
    ln -s "$SPECULAR_MODEL"/*.* bare
    cp -r "$SPECULAR_MODEL/drafter" bare
    head -c 1000 "$SPECULAR_MODEL/drafter/model.safetensors" > bare/drafter/model.safetensors
    specular generate -q -m bare -p x -o a.png -s 1 --window 8 --tokens a.json
    specular generate -q -p x -o b.png -s 1 --window 8 --tokens b.json
    same a.json b.json
    expect 3 "bare/drafter/model.safetensors" specular generate -m bare -p x -o x.png --method eagle
    expect 3 "bare/drafter/model.safetensors" specular generate -p x -o x.png --drafter bare/drafter
    printf 'x\n' > p.txt
    expect 3 "bare/drafter/model.safetensors" specular render -q -m bare -f p.txt --output-dir out --method eagle
    expect 3 "bare/drafter/model.safetensors" \
        specular eval -q -m bare -f p.txt --output-dir out --methods pathwise,eagle
    absent x.png
    [ "$(find . -path './out/*' -name '*.png')" = "" ] || fail "a picture was made before the drafter was read"
    specular info -m bare | grep -q '^drafter      none: .*bare/drafter/model.safetensors'
    specular info -m bare --json | grep -q '"drafter_parameters": 0'
    specular info --json | grep -q '"drafter_parameters": [1-9]'
}

case_empty_prompt() {
    expect 2 "--prompt: empty" specular generate -p ''
}

case_prompt_that_is_not_utf8() {
    expect 2 "byte 4|offset 4" specular generate -p $'red \xff heart'
    expect 2 "UTF-8" specular generate -p $'red \xff heart' --print-config
    [ "$(find . -name '*.png')" = "" ]
}

case_huge_prompt() {
    specular generate -p "$(head -c 100000 /dev/zero | tr '\0' a)" -o a.png --seed 1 2> err
    grep -q 'warning: the prompt has [0-9]* tokens and the model reads [0-9]*; the rest is cut' err
    [ -s a.png ]
    head -c 2000000 /dev/zero | tr '\0' a > p.txt
    local status=0
    specular render -f p.txt --output-dir out > stdout 2> err || status=$?
    [ "$status" -eq 1 ] && [ ! -s stdout ] || fail "exit $status: $(cat err)"
    grep -q "p.txt: line 1: " err
}

case_bad_line_in_the_middle() {
    printf '%s\n' '{"prompt": "red heart", "id": "a"}' '{"prompt": 3}' '{"prompt": "x", "cfg_scale": 1e9, "id": "b"}' \
        'not json' '{"prompt": "blue car", "id": "c", "n": 2}' \
        '{"prompt": "y", "method": "nonsense", "id": "d"}' > p.jsonl
    local status=0
    specular render -f p.jsonl --output-dir out --report r.json > stdout 2> err || status=$?
    [ "$status" -eq 1 ] && [ ! -s stdout ] || fail "exit $status: $(cat err)"
    [ "$(cd out && ls ./*.png | tr '\n' ' ')" = "./a.png ./c-0.png ./c-1.png " ]
    local line
    for line in 2 3 4 6; do grep -q "p.jsonl: line $line: " err || fail "line $line is not named: $(cat err)"; done
    python3 -c "
import json
records = [json.loads(line) for line in open('out/journal.jsonl')]
assert sorted(r['line'] for r in records if 'error' in r) == [2, 3, 4, 6], records
assert sorted(r['file'] for r in records if 'error' not in r) == ['a.png', 'c-0.png', 'c-1.png']
report = json.load(open('r.json'))
assert [r['line'] for r in report] == [1, 2, 3, 4, 5, 5, 6], report
assert all(('error' in r) != ('nfe' in r) for r in report)"
    cp out/journal.jsonl before
    specular render -f p.jsonl --output-dir out 2> err && fail "failures were forgotten"
    same before out/journal.jsonl
}

case_prompt_files() {
    expect 3 "nothing.txt: cannot be opened" specular render -f nothing.txt --output-dir out
    absent out
    printf 'red heart\r\n\r\nblue car' | specular render -f - --output-dir out -q
    [ "$(cd out && ls ./*.png | wc -l)" -eq 2 ]
    printf 'x\n' > p.txt
    expect 2 "--only: no line of p.txt has the id 'y'" specular render -f p.txt --output-dir out --only y
}

case_bad_pictures() {
    expect 3 "nothing.png" specular inspect nothing.png
    printf 'no picture' > a.png
    expect 3 "a.png" specular inspect a.png
    specular generate -p x -o b.png -q
    python3 "$check" strip b.png c.png
    expect 3 "c.png: no text under the key 'specular'" specular inspect c.png
    head -c 1000 b.png > d.png
    expect 3 "d.png" specular inspect d.png
    python3 "$check" retext b.png e.png '{"prompt": 3}'
    expect 3 "e.png: its settings have no text 'prompt'" specular inspect --as-command e.png
    python3 "$check" retext b.png e.png '{"prompt": "x", "seed": -1}'
    expect 3 "e.png: its settings have no seed" specular inspect --as-command e.png
    python3 "$check" retext b.png e.png '[1]'
    expect 3 "e.png: the text under 'specular' is not a JSON object" specular inspect e.png
}
