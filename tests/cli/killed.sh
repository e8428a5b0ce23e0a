# Runs that are killed and resumed give the bytes of a run that nobody disturbed.

prompts() { printf '%s\n' 'red heart' 'blue car' 'green apple' 'yellow star' > p.txt; }
render() { exec specular render -q -f p.txt --output-dir "$1" --tokens "$1/tokens" -b 2 --report "$1.json"; }

# Whatever is under a final name is whole.
check_folder() {
    local file
    [ -d "$1" ] || return 0
    for file in "$1"/*.png; do [ ! -f "$file" ] || specular inspect -q "$file" > inspected; done
    for file in "$1"/tokens/*.json; do [ ! -f "$file" ] || python3 -m json.tool "$file" > inspected; done
    python3 "$check" journal "$1/journal.jsonl"
}

# 5 kills, or 100 under SP_TEST_ALL=1, spread over the time of a whole run.
case_kill() {
    local kills=0 wanted=${SP_TEST_KILLS:-5} runs=0 started took process status
    [ "${SP_TEST_ALL:-0}" = 1 ] && wanted=100
    RANDOM=${SP_TEST_SEED:-$$}
    echo "SP_TEST_SEED=${SP_TEST_SEED:-$$}"
    prompts
    mkdir whole
    started=$(date +%s%N)
    (render whole)
    took=$((($(date +%s%N) - started) / 1000000))
    while [ $kills -lt "$wanted" ] || [ -d out ]; do
        mkdir -p out
        (render out) &
        process=$!
        if [ $kills -lt "$wanted" ]; then
            sleep "$(printf '%d.%03d' $((RANDOM % took / 1000)) $((RANDOM % took % 1000)))"
            kill -9 $process 2> /dev/null || true
        fi
        status=0
        wait $process || status=$?
        case $status in
            137)
                kills=$((kills + 1))
                check_folder out
                ;;
            0)
                same_pictures out whole
                diff -r out/tokens whole/tokens
                [ "$(find out -name '*.part')" = "" ] || fail "a temporary was left"
                python3 -c "
import json
a, b = (json.load(open(name)) for name in ('out.json', 'whole.json'))
key = lambda r: (r['id'], r['k'], r['seed'], r['settings'], r['bytes'])
assert [key(r) for r in a] == [key(r) for r in b]"
                runs=$((runs + 1))
                rm -r out
                ;;
            *) fail "ended with $status" ;;
        esac
    done
    echo "$kills kills, $runs whole runs"
    [ $kills -ge "$wanted" ] && [ $runs -ge 1 ]
}

# SIGINT and SIGTERM end a run within a pass; pictures that are done stay.
stop_by() { # SIGNAL STATUS
    local process status=0 started
    set -m
    specular render -f p.txt --output-dir "out$1" -b 20 2> err &
    process=$!
    set +m
    until [ -f "out$1/000001-0.png" ]; do sleep 0.02; done
    started=$(date +%s%N)
    kill -"$1" $process
    wait $process || status=$?
    [ $status -eq "$2" ] || fail "exit $status after SIG$1: $(cat err)"
    [ $((($(date +%s%N) - started) / 1000000)) -lt 2000 ] || fail "took more than 2 s to end"
    tail -n 1 err | grep -q '^specular: interrupted$'
    grep -q 'the same command resumes' err
    [ "$(find "out$1" -name '*.part')" = "" ] || fail "a temporary was left"
    [ "$(ls "out$1"/*.png | wc -l)" -eq "$(wc -l < "out$1/journal.jsonl")" ]
}

case_interrupt() {
    prompts
    stop_by INT 130
    stop_by TERM 143
}

case_interrupt_of_generate() {
    local process status=0
    set -m
    specular generate -p x -s 1 -b 500 -o a.png --report r.json 2> err &
    process=$!
    set +m
    until [ -f a-2.png ]; do sleep 0.02; done
    kill -TERM $process
    wait $process || status=$?
    [ $status -eq 143 ] || fail "exit $status: $(cat err)"
    grep -qE ' of 500 pictures are done; their seed is 1$' err
    python3 -c "
import json, os
r = json.load(open('r.json'))
assert len(r) >= 2 and all(os.path.exists(x['file']) for x in r), r
assert len(r) == len([f for f in os.listdir('.') if f.endswith('.png')])"
}

# Whoever starts it with SIGINT ignored, as a shell does in the background, is not interrupted.
case_ignored_interrupt() {
    specular generate -q -p x -s 1 -b 3 -o a.png &
    local process=$!
    until [ -f a.png ]; do sleep 0.02; done
    kill -INT $process
    wait $process
    [ -f a-3.png ]
}
