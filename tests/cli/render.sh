# render: folders, journals, resume, shards.

prompts() { printf '%s\n' 'red heart' 'blue car' '' 'green apple' 'yellow star' 'a cat' > p.txt; }

case_folder() {
    prompts
    specular render -q -f p.txt --output-dir out --tokens tokens --report r.json -s 5
    [ "$(ls -A out | tr '\n' ' ')" = "000001.png 000002.png 000004.png 000005.png 000006.png journal.jsonl " ] ||
        fail "$(ls -A out)"
    [ "$(ls tokens | tr '\n' ' ')" = "000001.json 000002.json 000004.json 000005.json 000006.json " ]
    # A line's seed is the run's plus the lines above it.
    specular generate -q -p 'green apple' -s 8 -o a.png --tokens t.json
    same a.png out/000004.png
    same t.json tokens/000004.json
    python3 -c "
import json, os
records = [json.loads(line) for line in open('out/journal.jsonl')]
assert [r['seed'] for r in records] == [5, 6, 8, 9, 10], records
assert all(r['bytes'] == os.path.getsize('out/' + r['file']) for r in records)
assert [r['file'] for r in json.load(open('r.json'))] == [r['file'] for r in records]"
}

case_overrides_of_a_line() {
    local sampling='"temperature": 0.5, "top_k": 9, "top_p": 0.9'
    printf '%s\n' '{"prompt": "red heart", "id": "a", "seed": 7, "n": 2, "cfg_scale": 1.5, "method": "ar"}' \
        "{\"prompt\": \"red heart\", $sampling, \"window\": 4, \"seed\": \"18446744073709551615\"}" > p.jsonl
    specular render -f p.jsonl --output-dir out -q --report r.json
    specular generate -q -p 'red heart' -s 7 -b 2 --cfg-scale 1.5 -o a.png
    same a.png out/a-0.png
    same a-2.png out/a-1.png
    specular generate -q -p 'red heart' -s 18446744073709551615 --temperature 0.5 --top-k 9 --top-p 0.9 -o b.png
    same b.png out/000002.png
    python3 -c "
import json
r = json.load(open('r.json'))
assert [x['method'] for x in r] == ['ar', 'ar', 'pathwise'] and r[2]['window'] == 4, r"
}

# Pictures in the same passes are those that each is alone, and each journal record says so.
case_batches() {
    prompts
    local method window
    for method in pathwise sjd gsd; do
        window=5
        [ "$method" != pathwise ] || window=auto
        specular render -q -f p.txt -b 2 --output-dir "$method-1" -s 5 --method $method --window $window
        specular render -q -f p.txt -b 2 --output-dir "$method-4" -s 5 --method $method --window $window --batch-size 4
        [ "$(ls "$method-4"/*.png | wc -l)" -eq 10 ]
        for picture in "$method-1"/*.png; do same "$picture" "$method-4/$(basename "$picture")"; done
        [ "$(wc -l < "$method-4/journal.jsonl")" -eq 10 ]
    done
    # Branches have no form for batches.
    specular render -q -f p.txt --output-dir branches -s 5 --tree 3 --batch-size 4
    specular render -q -f p.txt --output-dir plain -s 5
    for picture in branches/*.png; do same "$picture" "plain/$(basename "$picture")"; done
}

case_resume() {
    prompts
    specular render -q -f p.txt --output-dir out
    specular render -q -f p.txt --output-dir whole
    rm out/000002.png
    touch -d '2001-01-01' out/*.png
    specular render -f p.txt --output-dir out 2> err
    grep -q '5 of 5 pictures done (4 before), 0 failed' err
    same_pictures out whole
    [ "$(find out -name '*.png' -newermt '2002-01-01')" = out/000002.png ] || fail "other pictures were drawn again"
    # Killed between the picture and its record: the picture is taken over as it is.
    sed -i '/000004.png/d' out/journal.jsonl
    touch -d '2001-01-01' out/*.png
    specular render -q -f p.txt --output-dir out
    [ "$(find out -name '*.png' -newermt '2002-01-01')" = "" ] || fail "a picture was drawn again"
    grep -q 000004.png out/journal.jsonl
    # Tokens that are missing are made, and the picture stays what it was.
    specular render -q -f p.txt --output-dir out --tokens tokens
    [ "$(ls tokens | wc -l)" -eq 5 ]
    same_pictures out whole
}

case_other_settings() {
    prompts
    specular render -q -f p.txt --output-dir out --limit 2
    cp -r out before
    expect 2 "out/000001.png was not made with these settings; .*--force" \
        specular render -f p.txt --output-dir out --temperature 0.5
    expect 2 "out/000001.png was not made with these settings" specular render -f p.txt --output-dir out -s 9
    diff -r out before
    # What decides nothing is no other setting.
    specular render -q -f p.txt --output-dir out --limit 2 --method ar --threads 1
    diff -r out before
    specular render -q -f p.txt --output-dir out --limit 2 --temperature 0.5 --force
    specular render -q -f p.txt --output-dir new --limit 2 --temperature 0.5
    same_pictures out new
    specular render -q -f p.txt --output-dir out --limit 2 --temperature 0.5
    mkdir mine
    printf keep > mine/000001.png
    expect 2 "mine/000001.png was not made with these settings" specular render -f p.txt --output-dir mine
    [ "$(cat mine/000001.png)" = keep ]
}

case_only_and_limit() {
    prompts
    specular render -q -f p.txt --output-dir whole
    specular render -q -f p.txt --output-dir out --only 000004
    [ "$(cd out && ls ./*.png)" = ./000004.png ]
    same out/000004.png whole/000004.png
    specular render -q -f p.txt --output-dir out --limit 2
    [ "$(ls out/*.png | wc -l)" -eq 3 ]
    specular render -q -f p.txt --output-dir out
    same_pictures out whole
}

case_shards() {
    prompts
    specular render -q -f p.txt --output-dir whole -b 2
    specular render -q -f p.txt --output-dir out -b 2 --shard 0/2 &
    specular render -q -f p.txt --output-dir out -b 2 --shard 1/2
    wait $!
    same_pictures out whole
    [ -f out/journal-0-of-2.jsonl ] && [ -f out/journal-1-of-2.jsonl ] && absent out/journal.jsonl
    [ "$(cat out/journal-*.jsonl | wc -l)" -eq 10 ]
    # Whatever the next run's shards are, what any shard did is done.
    specular render -f p.txt --output-dir out -b 2 2> err
    grep -q '10 of 10 pictures done (10 before)' err
}

shard_of() { # VARIABLE=VALUE...: which shard a run takes
    env "$@" specular render -f p.txt --output-dir none --dry-run 2>&1 > /dev/null | sed -n 's/.*shard \(.*\) by.*/\1/p'
}

case_shards_of_schedulers() {
    prompts
    [ "$(shard_of SLURM_PROCID=1 SLURM_NTASKS=4)" = "1 of 4" ]
    local array="SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_STEP=2"
    [ "$(shard_of SLURM_ARRAY_TASK_ID=7 $array)" = "1 of 3" ]
    [ "$(shard_of SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_MIN=0 SLURM_PROCID=2 \
        SLURM_NTASKS=3)" = "5 of 6" ]
    [ "$(shard_of OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3)" = "2 of 3" ]
    [ "$(shard_of SLURM_PROCID=0 SLURM_NTASKS=2 OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3)" = "0 of 2" ]
    [ "$(shard_of NOTHING=1)" = "" ]
    specular render -f p.txt --output-dir none --dry-run --shard 0/1 > out
    SLURM_PROCID=1 SLURM_NTASKS=4 specular render -f p.txt --output-dir none --dry-run --shard 0/1 2> /dev/null > both
    same out both
}

case_names_that_clash() {
    printf '%s\n' '{"prompt": "x", "id": "a", "n": 2}' '{"prompt": "y", "id": "a-1"}' > p.jsonl
    local status=0
    specular render -f p.jsonl --output-dir out 2> err || status=$?
    [ "$status" -eq 1 ] && grep -q 'line 2: its file a-1.png is that of another line' err || fail "$(cat err)"
    [ "$(ls out/*.png | wc -l)" -eq 2 ]
}

case_temporaries_of_dead_runs() {
    prompts
    mkdir out tokens
    touch out/.000001.png.99999.part out/.other.png.99999.part out/.000001.png.part tokens/.000002.json.1.part
    specular render -q -f p.txt --output-dir out --tokens tokens
    absent out/.000001.png.99999.part
    absent tokens/.000002.json.1.part
    [ -f out/.other.png.99999.part ] && [ -f out/.000001.png.part ]
}

case_two_processes_in_one_folder() {
    prompts
    specular render -q -f p.txt --output-dir out -b 20 &
    local first=$!
    until [ -f out/000001-0.png ]; do sleep 0.02; done
    expect 4 "out/journal.jsonl" specular render -f p.txt --output-dir out -b 20
    kill -9 $first
    wait $first || true
}

case_torn_journal() {
    prompts
    specular render -q -f p.txt --output-dir whole
    specular render -q -f p.txt --output-dir out --limit 3
    truncate -s -20 out/journal.jsonl
    specular render -q -f p.txt --output-dir out
    same_pictures out whole
    python3 -c "
import json
assert len([json.loads(line) for line in open('out/journal.jsonl')]) == 5"
    printf 'nonsense\n' >> out/journal.jsonl
    expect 3 "out/journal.jsonl" specular render -f p.txt --output-dir out
}
