# eval: methods side by side, in a folder that resumes.

prompts() { printf '%s\n' 'red heart' '<script>alert("x")</script> & car' > p.txt; }
evaluate() { specular eval -q -f p.txt --output-dir out --window 8 "$@"; }

case_results() {
    prompts
    evaluate --seeds 2 --methods pathwise,ar --sweep draft-init=left --sweep temperature=1 -s 3
    evaluate --seeds 2 --methods pathwise,ar --sweep draft-init=left --sweep temperature=1 -s 3 \
        --reference out/ar
    python3 "$check" evaluation out
    # Pictures are those of render, by the folder's settings.
    specular render -q -f p.txt --output-dir drawn -b 2 -s 3
    same_pictures out/ar drawn
    same_pictures out/pathwise-draft-init-left drawn
    specular render -q -f p.txt --output-dir warm -b 2 -s 3 --temperature 1
    same_pictures out/pathwise-temperature-1 warm
}

case_resume() {
    prompts
    mkdir out
    touch out/.settings.json.99.part
    evaluate --seeds 2
    absent out/.settings.json.99.part
    cp out/journal.jsonl before
    touch -d '2001-01-01' out/*/*.png
    evaluate --seeds 2
    same before out/journal.jsonl
    # A picture that is gone, a record that is torn: their groups are drawn again, and no other.
    rm out/ar/000001-1.png
    truncate -s -20 out/journal.jsonl
    touch out/ar/.000001-1.png.99.part
    specular eval -f p.txt --output-dir out --window 8 --seeds 2 2> err
    grep -q '2 of 4 groups are done' err || fail "$(cat err)"
    [ "$(cd out && find . -name '*.png' -newermt '2002-01-01' | sort | tr '\n' ' ')" = \
        "./ar/000001-1.png ./ar/000002-1.png ./pathwise/000001-1.png ./pathwise/000002-1.png " ]
    absent out/ar/.000001-1.png.99.part
    python3 "$check" evaluation out
    printf '{"prompt": 0, "image": 7, "settings": []}\n' >> out/journal.jsonl
    expect 3 "journal.jsonl: record 6 is of prompt 0, picture 7" evaluate --seeds 2
}

case_interrupt() {
    local process status=0
    prompts
    (exec specular eval -f p.txt --output-dir out --methods ar --seeds 30 2> err) &
    process=$!
    until [ -f out/ar/000001-1.png ]; do sleep 0.02; done
    kill -TERM $process
    wait $process || status=$?
    [ $status -eq 143 ] || fail "ended with $status: $(cat err)"
    grep -q 'of 60 groups are done; the same command resumes' err
    absent out/results.csv
    python3 "$check" groups out
}

case_other_settings() {
    prompts
    evaluate --limit 1
    cp -r out before
    expect 2 "out holds an evaluation of other settings \('settings' differs" evaluate --limit 1 --temperature 0.5
    expect 2 "out holds an evaluation of other settings \('settings' differs" evaluate --limit 1 --methods ar
    expect 2 "'prompts_fingerprint' differs" evaluate
    expect 2 "'seed' differs" evaluate --limit 1 -s 4
    expect 2 "'images' differs" evaluate --limit 1 --seeds 2
    cp -r "$SPECULAR_MODEL/drafter" own
    expect 2 "'settings' differs" evaluate --limit 1 --drafter own
    diff -r out before
    printf '{"version"' > out/settings.json
    expect 3 "out/settings.json" evaluate --limit 1
    mkdir mine
    printf keep > mine/results.csv
    expect 2 "mine is not empty \(it has results.csv\) and holds no evaluation" \
        specular eval -f p.txt --output-dir mine
    [ "$(cat mine/results.csv)" = keep ] && [ "$(ls -A mine)" = results.csv ]
}

case_bad_lines() {
    printf '{"prompt": "red heart"}\n{"prompt": 3}\n' > p.jsonl
    expect 3 "p.jsonl: line 2: .*; nothing was drawn" specular eval -f p.jsonl --output-dir out
    absent out
    printf '{"prompt": "red heart"}\n{"prompt": "x", "temperature": 2}\n' > p.jsonl
    expect 3 "p.jsonl: line 2: expected id, prompt and seed only" specular eval -f p.jsonl --output-dir out
    prompts
    evaluate --limit 1
    cp -r out before
    printf '\377\n' >> p.txt
    expect 3 "p.txt: line 3: byte 1 is not UTF-8" evaluate
    diff -r out before
    : > p.txt
    expect 3 "p.txt: no prompts" evaluate
    diff -r out before
}

case_bad_options() {
    local value
    prompts
    expect 2 "eval needs --prompt-file FILE and --output-dir DIR" specular eval -f p.txt
    expect 2 "--methods: 'nonsense' is not a method" evaluate --methods ar,nonsense
    for value in window window= =3 nothing=1 prompt=x method=ar force=true batch-size=2; do
        expect 2 "--sweep: '" evaluate "--sweep=$value"
    done
    expect 2 "--sweep: 'jacobi' is not one of --methods" evaluate --sweep jacobi:window=4
    expect 2 "--sweep: none of the methods reads --group-size" evaluate --sweep group-size=2
    expect 2 "--window: '0' is not" evaluate --sweep window=4,0
    expect 2 "--window: '' is not" evaluate --sweep window=4,
    expect 2 "--draft-init: 'sideways' is not one of" evaluate --sweep draft-init=sideways
    expect 2 "--sweep: window 4 is given twice for pathwise" evaluate --sweep window=4,4
    expect 2 "make more than 64 settings" evaluate --sweep "window=$(seq -s, 1 70)"
    expect 2 "--sweep: empty" evaluate --sweep ''
    expect 2 "--layout: 'zip' is not one of" evaluate --layout adm,zip
    expect 2 "--check: no --layout" evaluate --check
    expect 2 "--layout geneval: no --metadata FILE" evaluate --layout geneval
    expect 2 "--layout dpg-bench: 1 pictures a prompt: expected four" evaluate --layout dpg-bench
    expect 2 "--layout hpsv2: id '000001': expected anime-" evaluate --layout hpsv2
    expect 3 "out: no settings.json" evaluate --layout adm --check
    expect 3 "nothing.jsonl: cannot be opened" evaluate --metadata nothing.jsonl
    for value in 0 65537 x; do expect 2 "--seeds: '$value' is not" evaluate --seeds $value; done
    absent out
}

case_sweeps_in_a_configuration() {
    specular eval --sweep window=1,2 --sweep pathwise:top-k=3 --print-config > a.json
    specular eval --config a.json --print-config > b.json
    same a.json b.json
    python3 -c "
import json
assert json.load(open('a.json'))['sweep'] == ['window=1,2', 'pathwise:top-k=3']"
    printf '{"sweep": ["window=1", 3]}' > c.json
    expect 3 "c.json: sweep has a value of the wrong type" specular eval --config c.json
}

case_layouts() {
    local layouts=pytorch-fid,clean-fid,adm,geneval,dpg-bench
    printf '{"prompt": "red heart", "id": "heart"}\n' > p.jsonl
    printf '{"tag":  "single_object", "prompt": "red heart", "include": [{"class": "heart"}]}\nmore\n' > m.jsonl
    whole() {
        specular eval -q -f p.jsonl --output-dir out --methods ar --seeds 4 --layout $layouts --metadata m.jsonl "$@"
    }
    broken() { # PATTERN LAYOUT
        expect 3 "$1" specular eval -q -f p.jsonl --output-dir out --methods ar --seeds 4 --layout "$2" \
            --metadata m.jsonl --check
    }
    whole
    whole --check
    python3 "$check" layouts out m.jsonl
    printf '{"prompt": "blue heart"}\n' > other.jsonl
    expect 3 "--metadata line 1: its prompt is not 'red heart'" whole --metadata other.jsonl
    cp out/ar/heart-0.png out/ar/copy.png
    broken "out/ar: holds 5 pictures: expected 4" pytorch-fid
    rm out/ar/copy.png
    mkdir out/ar/more
    broken "out/ar/more: a folder" clean-fid
    rmdir out/ar/more
    truncate -s -1 out/layouts/adm/ar/samples.npz
    broken "samples.npz: no end record" adm
    mv out/layouts/geneval/ar/00000/samples/0003.png out/layouts/geneval/ar/00000/samples/last.png
    broken "00000/samples: 3 pictures: expected 4" geneval
    truncate -s 900 out/layouts/dpg-bench/ar/heart.png
    broken "dpg-bench/ar/heart.png" dpg-bench
    whole
    whole --check
}

case_layout_of_hpsv2() {
    printf '{"prompt": "%s", "id": "%s"}\n' star anime-00000 tree anime-00001 house photo-00000 > p.jsonl
    specular eval -q -f p.jsonl --output-dir out --methods ar --layout hpsv2
    [ "$(cd out/layouts/hpsv2/ar && find . -type f | sort | tr '\n' ' ')" = \
        "./anime/00000.jpg ./anime/00001.jpg ./photo/00000.jpg " ]
    truncate -s -2 out/layouts/hpsv2/ar/anime/00001.jpg
    expect 3 "anime/00001.jpg: not a whole JPEG of" \
        specular eval -q -f p.jsonl --output-dir out --methods ar --layout hpsv2 --check
    rm out/layouts/hpsv2/ar/photo/00000.jpg
    sed -i 's/anime-00001/anime-00002/' p.jsonl
    expect 2 "id 'anime-00002' but no 'anime-00001'" specular eval -f p.jsonl --output-dir new --layout hpsv2
    absent new
}

case_bad_reference() {
    prompts
    mkdir empty small
    python3 -c "
import struct, zlib
chunk = lambda kind, body: struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
open('small/x.png', 'wb').write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 2, 0, 0, 0))
                                + chunk(b'IDAT', zlib.compress(bytes(4))) + chunk(b'IEND', b''))"
    expect 3 "empty: no .png files" evaluate --limit 1 --methods ar --reference empty
    expect 3 "small/x.png: is 1 x 1: expected" evaluate --limit 1 --methods ar --reference small
    expect 3 "nowhere: " evaluate --limit 1 --methods ar --reference nowhere
}
