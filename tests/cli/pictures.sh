# What a picture is and carries: seeds, metadata, report, tokens, map, terminal.

case_same_seed_same_bytes() {
    specular generate -q -p 'red heart' -s 7 -o a.png
    specular generate -q -p 'red heart' -s 7 -o b.png --threads 1
    specular generate -q -p 'red heart' -s 7 -o c.png --method ar
    specular generate -q -p 'red heart' -s 7 -o d.png --window 5 --draft-init uniform -t 2
    same a.png b.png
    same a.png c.png
    same a.png d.png
    specular generate -q -p 'red heart' -s 7 -o f.png --window 5 --tree 3 --report r.json
    same a.png f.png
    python3 -c "import json; assert json.load(open('r.json'))['tree'] == 3"
    specular generate -q -p 'red heart' -s 8 -o e.png
    differ a.png e.png
}

case_images_of_a_batch() {
    specular generate -q -p x -s 7 -b 3 -o a.png
    specular generate -q -p x -s 7 -b 2 --image-index 1 -o b.png
    same a-2.png b.png
    same a-3.png b-2.png
    python3 "$check" other_pixels a.png a-2.png
}

case_random_seed_is_told() {
    specular generate -p x -o a.png 2> one
    specular generate -p x -o b.png 2> two
    local seed
    seed=$(sed -n 's/.*: seed \([0-9]*\),.*/\1/p' one)
    [ -n "$seed" ] && [ "$seed" != "$(sed -n 's/.*: seed \([0-9]*\),.*/\1/p' two)" ]
    specular generate -q -p x -o c.png -s "$seed"
    same a.png c.png
}

case_quiet_and_verbose() {
    specular generate -p x -s 1 -o a.png -q > out 2> err
    [ ! -s out ] && [ ! -s err ]
    specular generate -p x -s 1 -o b.png -v 2> err
    grep -q 'prefix .* ms, decode .* ms, pixels .* ms' err
    specular generate -p x -s 1 -o c.png -vv 2> err
    grep -q 'layers of' err
}

case_settings_come_back() {
    local prompt
    specular generate -q -p "it's \"red\" \$HOME; *" -s 18446744073709551615 --cfg-scale 2.25 --temperature 0.7 \
        --top-k 50 --top-p 0.95 -b 2 -o a.png
    mkdir again
    local name
    for name in a.png a-2.png; do
        specular inspect -q "$name" --as-command > command
        [ "$(wc -l < command)" -eq 1 ]
        (cd again && eval "$(cat ../command) -q")
        same "$name" "again/$name"
    done
    prompt=$'two\nlines \\ and\ta \033[31mcolour'
    specular generate -q -p "$prompt" -s 1 -o b.png
    ! specular inspect -q b.png --as-command | grep -q $'\033' || fail "a control character came through"
    (cd again && eval "$(specular inspect -q ../b.png --as-command) -q")
    same b.png again/b.png
    specular inspect --as-command -m "$SPECULAR_MODEL" a.png | grep -q -- "--model="
    specular inspect a.png > a.json
    python3 -c "
import json
s = json.load(open('a.json'))
assert s['seed'] == '18446744073709551615' and s['image'] == 0 and s['cfg_scale'] == 2.25 and s['top_k'] == 50, s
assert s['temperature'] == 0.7 and s['top_p'] == 0.95 and s['exactness'] == 'identical' and s['method'] == 'ar', s
assert s['prompt'] == 'it\'s \"red\" \$HOME; *' and len(s['model_fingerprint']) == 16, s"
    python3 "$check" parameters a.png "it's \"red\" \$HOME; *"
}

case_report() {
    specular generate -q -p 'red heart' -s 3 -o a.png --window 16 --report r.json --tokens t.json
    python3 "$check" report r.json t.json
    specular generate -q -p 'red heart' -s 3 -o a.png --window 16 --force --report - > s.json
    python3 "$check" report s.json t.json
    specular generate -q -p 'red heart' -s 3 -b 2 -o b.png --report r.json
    python3 -c "
import json
r = json.load(open('r.json'))
assert [x['image'] for x in r] == [0, 1] and [x['file'] for x in r] == ['b.png', 'b-2.png'], r"
    specular generate -q -p 'red heart' -s 3 -o c.png --method ar --report r.json --tokens u.json
    same t.json u.json
    python3 -c "
import json
r = json.load(open('r.json'))
assert r['method'] == 'ar' and r['nfe'] == r['num_tokens'] and r['step_compression'] == 1, r"
}

# Every method draws, says what it is, and draws the same again from what its picture carries.
case_methods_come_back() {
    local settings
    mkdir again
    for settings in '--method sjd' '--method coupled --draft-init uniform' '--method coupled --tree 3' \
        '--method gsd --group-size 25' '--method gsd --groups static --group-delta 0.25 --group-distance 1.5' \
        '--method eagle --tree 1' '--method lantern --lantern-delta 0.3' \
        '--method lantern --lantern-k 8 --lantern-lambda 2 --tree 3'; do
        # shellcheck disable=SC2086
        specular generate -q -p 'red heart' -s 3 -o a.png --force --window 12 --report r.json $settings
        (cd again && eval "$(specular inspect -q ../a.png --as-command) -q --force")
        same a.png again/a.png
        python3 - "$settings" << 'END'
import json, sys
r, words = json.load(open("r.json")), sys.argv[1].split()
relaxed = words[1] in ("gsd", "lantern")
assert r["method"] == words[1] and r["exactness"] == ("relaxed" if relaxed else "exact"), r
assert ("total_variation_bound" in r) == relaxed and r.get("total_variation_bound", 0.5) > 0, r
assert ("tree" in r) == (words[1] in ("coupled", "eagle", "lantern")), r
assert ("lantern_lambda" in r) == (words[1] == "lantern"), r
assert ("group_size" in r) == (words[1] == "gsd"), r
assert "static" not in words or (r["groups"], r["group_delta"], r["group_distance"]) == ("static", 0.25, 1.5), r
END
    done
}

# A drafter that was given is part of what made a picture; that of the model goes without saying.
case_drafter_comes_back() {
    cp -r "$SPECULAR_MODEL/drafter" own
    specular generate -q -p 'red heart' -s 3 -o a.png --method eagle --drafter own
    specular generate -q -p 'red heart' -s 3 -o b.png --method eagle
    specular inspect -q a.png > a.json
    specular inspect -q b.png > b.json
    python3 -c "
import json
a, b = json.load(open('a.json')), json.load(open('b.json'))
assert a.pop('drafter') == 'own' and a == b, (a, b)"
    specular inspect -q a.png --as-command | grep -q -- ' --drafter=own '
    mv a.png before.png
    eval "$(specular inspect -q before.png --as-command) -q --force -o a.png"
    same before.png a.png
    # Methods without drafting do not name it.
    specular generate -q -p 'red heart' -s 3 -o c.png --method sjd --drafter own
    specular inspect -q c.png > c.json
    ! grep -q drafter c.json || fail "sjd names a drafter"
}

# Groups of one are sjd; at temperature 0 there is one picture, whatever the method.
case_methods_that_agree() {
    specular generate -q -p 'red heart' -s 3 -o a.png --window 9 --method sjd --tokens a.json
    specular generate -q -p 'red heart' -s 3 -o b.png --window 9 --method gsd --group-size 1 --tokens b.json
    same a.json b.json
    specular generate -q -p 'red heart' -s 3 -o c.png --window 9 --method gsd --tokens c.json
    differ a.json c.json
    # Without neighbours lantern is eagle.
    specular generate -q -p 'red heart' -s 3 -o exact.png --method eagle --tokens exact.json
    specular generate -q -p 'red heart' -s 3 -o none.png --method lantern --lantern-k 0 --tokens none.json
    same exact.json none.json
    specular generate -q -p 'red heart' -s 3 -o near.png --method lantern --lantern-delta 0.5 --tokens near.json
    differ exact.json near.json
    local method
    specular generate -q -p 'red heart' -s 3 -o ar.png --method ar --temperature 0 --tokens ar.json
    for method in sjd coupled gsd pathwise eagle; do
        specular generate -q -p 'red heart' -s 4 -o $method.png --method $method --temperature 0 --tokens $method.json
        same ar.json $method.json
    done
    specular generate -p 'red heart' -s 3 -o d.png --method gsd 2> err
    grep -q 'gsd (relaxed)' err
    grep -q 'total variation from ar: about 0[.][0-9]* a token at most' err
}

case_map() {
    specular generate -q -p 'red heart' -s 3 -o a.png --window 16 --map m.png --report r.json
    python3 "$check" map m.png r.json
}

case_show() {
    local name
    for name in kitty iterm sixel blocks; do
        specular generate -q -p x -s 1 --temperature 2 -o a.png --force --show $name > $name
        python3 "$check" $name $name a.png
    done
    NO_COLOR=1 specular generate -q -p x -s 1 -o a.png --force --show=blocks > plain
    ! grep -q $'\033' plain || fail "an escape under NO_COLOR"
    [ "$(wc -l < plain)" -ge 10 ]
}

# On a terminal auto asks the environment; elsewhere it draws nothing.
case_show_auto() {
    [ "$(specular generate -q -p x -s 1 -o a.png --force --show | wc -c)" -eq 0 ]
    python3 "$check" terminal kitty KITTY_WINDOW_ID=1
    python3 "$check" terminal kitty TERM=xterm-kitty
    python3 "$check" terminal iterm TERM_PROGRAM=iTerm.app
    python3 "$check" terminal sixel TERM=foot
    python3 "$check" terminal blocks TERM=xterm-256color
    python3 "$check" terminal blocks TERM=xterm-kitty TMUX=x
}

case_progress() {
    specular generate -p x -s 1 -b 2 -o a.png -q --progress json 2> err
    python3 -c "
import json
events = [json.loads(line) for line in open('err')]
pictures = [e for e in events if e['event'] == 'picture']
assert [e['picture'] for e in pictures] == [1, 2] and pictures[1]['seconds_left'] == 0, events
assert all(0 < e['tokens_done'] <= e['tokens_total'] for e in events if e['event'] == 'pass'), events"
    specular generate -p x -s 1 -b 2 -o a.png --force --progress plain 2>&1 | grep -q '^2/2 a-2.png, 0 s left$'
    specular generate -p x -s 1 -b 2 -o a.png --force 2> err
    [ "$(wc -l < err)" -eq 2 ] && ! grep -q $'\033' err
    python3 "$check" bar
}

case_info() {
    specular info > text
    grep -q '^memory  *[0-9.]* MiB' text
    specular info --json > info.json
    python3 -c "
import json
i = json.load(open('info.json'))
assert i['rows'] * i['columns'] > 0 and i['weight_bytes'] > 0 and len(i['model_fingerprint']) == 16, i
assert i['session_bytes'] > i['kv_bytes'] > 0, i"
}
