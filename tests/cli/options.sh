# Options: each range, each choice, each way to write them; configuration.

refuse() { # COMMAND OPTION VALUE
    expect 2 "^specular: error: $2: '.*' is not " specular "$1" "$2" "$3"
    expect 2 "^specular: error: $2: '.*' is not " specular "$1" "$2=$3"
}

case_numbers_out_of_range() {
    local option value
    for option in --seed --batch-count --image-index --cfg-scale --temperature --top-k --top-p --window --threads; do
        for value in '' -1 nan inf -inf word 1x ' 1' '1 ' 0x10 99999999999999999999999 1e999 + - .; do
            refuse generate $option "$value"
        done
    done
    for option in --group-size --group-delta --group-distance --tree --lantern-delta; do
        for value in '' -1 nan inf word 1x 0x10 1e999 257; do refuse generate $option "$value"; done
    done
    for option in --limit --batch-count; do
        for value in '' -1 0 nan word 1.5 99999999999999999999999; do refuse render $option "$value"; done
    done
    for option in --repetitions --warmup --limit; do
        for value in '' -1 nan word 1.5 99999999999999999999999; do refuse bench $option "$value"; done
    done
}

case_numbers_at_the_ends() {
    local pair
    for pair in seed=0 seed=18446744073709551615 batch-count=1 batch-count=65536 cfg-scale=0 cfg-scale=100 \
        temperature=0 top-k=0 top-k=1048576 top-p=1 window=1 window=128 threads=1 threads=1024 \
        group-size=1 group-size=256 group-delta=0 group-delta=1 group-distance=0 group-distance=4 \
        tree=1 tree=16 lantern-k=0 lantern-k=1048575 lantern-delta=0 lantern-delta=1 lantern-lambda=0 \
        lantern-lambda=1000 batch-size=1 batch-size=256; do
        succeed specular generate -p x --print-config "--$pair"
    done
    for pair in seed=18446744073709551616 batch-count=0 batch-count=65537 cfg-scale=100.01 temperature=-0.01 \
        top-k=1048577 top-p=1.01 window=0 window=129 threads=0 threads=1025 \
        group-size=0 group-size=257 group-delta=1.01 group-distance=4.01 \
        tree=0 tree=17 lantern-k=1048576 lantern-delta=1.01 lantern-lambda=1000.5 batch-size=0 batch-size=257; do
        expect 2 "^specular: error: --${pair%=*}: '${pair#*=}' is not " specular generate -p x --print-config "--$pair"
    done
}

case_choices() {
    local option
    for option in --method --draft-init --groups --kernels --dtype --progress --show=; do
        expect 2 "^specular: error: ${option%=}: 'nonsense' is not one of " \
            specular generate ${option%=}=nonsense
    done
    expect 2 "--output-format: 'xml' is not one of md, csv, json, jsonl" specular bench --output-format xml
    expect 2 "--methods: 'nonsense' is not a method" specular bench --methods ar,nonsense
    expect 2 "--window: '0' is not auto or" specular bench --window 16,0
    expect 2 "--window: '' is not auto or" specular bench --window 16,
    expect 2 "completions: 'tcsh' is not one of bash, zsh, fish" specular completions tcsh
}

case_shards_out_of_range() {
    local value
    printf 'x\n' > p.txt
    for value in 1 1/ /1 1/1 -1/2 2/2 a/b 0/0 0/-1 0/99999999999 1/2/3; do
        expect 2 "--shard: '.*' is not auto or I/N" specular render -f p.txt --output-dir out "--shard=$value"
    done
    expect 2 "SLURM_PROCID: 'x' is not" env SLURM_PROCID=x SLURM_NTASKS=2 specular render -f p.txt --output-dir out
    expect 2 "Slurm: shard 5 of 2" env SLURM_PROCID=5 SLURM_NTASKS=2 specular render -f p.txt --output-dir out
    absent out
}

case_unknown_names() {
    expect 2 "unknown option --widnow of generate; did you mean --window" specular generate --widnow 3
    expect 2 "unknown option --no-seed of generate" specular generate --no-seed
    expect 2 "unknown option -z of generate" specular generate -z
    expect 2 "unknown command 'genrate'; did you mean generate" specular genrate
    expect 2 "--limit is not an option of generate" specular generate --limit 3
    expect 2 "--map is not an option of render" specular render --map x
    expect 2 "no command" specular
    expect 2 "-p before a command" specular -p x
    expect 2 "unexpected 'heart' after generate; several words need quotes" specular generate -p red heart
    expect 2 "inspect needs a FILE" specular inspect
    expect 2 "unexpected 'b.png'" specular inspect a.png b.png
}

case_missing_values() {
    local option
    for option in --model --prompt --output --tokens --map --report --config --device --seed --method; do
        expect 2 "^specular: error: $option needs a value" specular generate $option
    done
    expect 2 "^specular: error: -p needs a value" specular generate -p
    for option in --model --prompt --output --tokens --map --report --config --device; do
        expect 2 "^specular: error: $option: empty" specular generate $option ''
    done
    for option in --prompt-file --output-dir --only --shard; do
        expect 2 "^specular: error: $option: empty" specular render $option ''
    done
    expect 2 "--force takes no value" specular generate --force=yes
    expect 2 "generate needs --prompt" specular generate
    expect 2 "render needs --prompt-file FILE and --output-dir DIR" specular render -f p.txt
    expect 2 "render needs --prompt-file FILE and --output-dir DIR" specular render --output-dir out
}

# Every way to write an option means the same.
case_ways_to_write() {
    specular generate --print-config --prompt 'a b' --seed 7 --batch-count 2 -v -v > a.json
    specular generate --print-config --prompt='a b' --seed=7 --batch-count=2 -vv > b.json
    specular generate --print-config -p 'a b' -s7 -b 2 --verbose --verbose > c.json
    specular generate --print-config -p other -p 'a b' -s 9 -s 7 -b2 -vv > d.json
    same a.json b.json
    same a.json c.json
    same a.json d.json
    python3 -c "
import json
c = json.load(open('a.json'))
assert (c['prompt'], c['seed'], c['batch_count'], c['verbose']) == ('a b', 7, 2, 2), c"
}

case_configuration_comes_back() {
    specular generate -p "it's" -s 18446744073709551615 --cfg-scale 2.5 --top-k 40 --window auto --method ar --force \
        --show --progress none -q --print-config > a.json
    specular generate --config a.json --print-config > b.json
    same a.json b.json
    specular generate --config a.json --print-config --no-force --cfg-scale 4 --show=none > c.json
    python3 -c "
import json
a, c = json.load(open('a.json')), json.load(open('c.json'))
assert a['force'] is True and a['show'] == 'auto' and a['seed'] == '18446744073709551615', a
assert c['force'] is False and c['cfg_scale'] == 4 and c['show'] == 'none', c
del a['force'], c['force'], a['cfg_scale'], c['cfg_scale'], a['show'], c['show']
assert a == c"
    specular render -f p --output-dir o --limit 3 --only x --shard 0/2 --print-config > r.json
    specular render --config r.json --print-config > s.json
    same r.json s.json
    specular bench --methods ar --window 4 -r 2 --warmup 0 --output-format csv --print-config > t.json
    specular bench --config t.json --print-config > u.json
    same t.json u.json
}

case_bad_configuration() {
    expect 3 "nothing.json: cannot be opened" specular generate --config nothing.json
    printf '[]' > a.json
    expect 3 "a.json: not a JSON object of options" specular generate --config a.json
    printf '{"sede": 3}' > a.json
    expect 3 "a.json: 'sede' is not an option of generate" specular generate --config a.json
    printf '{"seed": true}' > a.json
    expect 3 "a.json: seed has a value of the wrong type" specular generate --config a.json
    printf '{"force": "yes"}' > a.json
    expect 3 "a.json: force has a value of the wrong type" specular generate --config a.json
    printf '{"window": 129}' > a.json
    expect 2 "--window: '129' is not" specular generate --config a.json
    printf '{"config": "b.json"}' > a.json
    expect 3 "'config' is not an option" specular generate --config a.json
    printf '{"seed": 1,' > a.json
    expect 3 "a.json" specular generate --config a.json
}
