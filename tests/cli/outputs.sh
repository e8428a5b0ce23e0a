# Where files go, and what happens when they cannot.

case_names_from_prompts() {
    specular generate -q -p 'Red heart!' -s 1 -b 3
    [ "$(ls | tr '\n' ' ')" = "red-heart-2.png red-heart-3.png red-heart.png " ] || fail "$(ls)"
    specular generate -q -p '../../a/b' -s 1
    [ -f a-b.png ]
    specular generate -q -p '心 ¿' -s 1
    [ -f 心-¿.png ]
    specular generate -q -p '?!' -s 1
    [ -f picture.png ]
    specular generate -q -p x -s 1 -b 2 -o sub.d.png --tokens t.json --map m.png
    [ -f sub.d.png ] && [ -f sub.d-2.png ] && [ -f t-2.json ] && [ -f m-2.png ]
}

case_existing_files() {
    printf keep > a.png
    expect 2 "a.png is there already; name another file or give --force" specular generate -p x -o a.png
    expect 2 "a.png is there already" specular generate -p x -o b.png --tokens a.png
    expect 2 "a.png is there already" specular generate -p x -o b.png --map a.png
    mv a.png a-2.png
    expect 2 "a-2.png is there already" specular generate -p x -o a.png -b 2
    [ "$(cat a-2.png)" = keep ] && absent a.png && absent b.png
    specular generate -q -p x -o a.png -b 2 --force
    [ "$(wc -c < a-2.png)" -gt 100 ]
}

case_unwritable() {
    expect 4 "cannot write in folder nowhere" specular generate -p x -o nowhere/a.png
    expect 4 "cannot write in folder nowhere" specular generate -p x -o a.png --report nowhere/r.json
    mkdir folder
    expect 4 "folder is a folder, expected a file" specular generate -p x -o folder
    printf 'x\n' > p.txt
    expect 4 "cannot make the folder p.txt" specular render -f p.txt --output-dir p.txt
    expect 4 "cannot make the folder a/b" specular render -f p.txt --output-dir a/b
    absent a.png
}

case_full_device() {
    [ -c /dev/full ] || {
        echo "skipped: no /dev/full here"
        return 0
    }
    expect 4 "/dev/full: .*No space left" specular generate -q -p x -o /dev/full
    expect 4 "/dev/full: .*No space left" specular generate -q -p x -o a.png --tokens /dev/full
    absent a.png
    expect 4 "/dev/full: .*No space left" specular generate -q -p x -o b.png --report /dev/full
    local command
    for command in info 'info --json' man 'completions bash' --help --version 'generate -p x --print-config' \
        'generate -p x --dry-run' 'generate -q -p x -o c.png --force --show=kitty' 'inspect b.png -q' \
        'bench -q -r 1 --warmup 0 --limit 1 --window 16'; do
        local status=0
        specular $command > /dev/full 2> err || status=$?
        [ "$status" -eq 4 ] || fail "specular $command to a full device: exit $status"
        grep -q '^specular: error: standard output: No space left' err
    done
}

case_full_disk() {
    mkdir disk
    [ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=1m none disk 2> /dev/null || {
        echo "skipped: only root can mount a tmpfs"
        return 0
    }
    trap 'umount disk' EXIT
    head -c 1000000 /dev/zero > disk/ballast
    printf '%s\n' one two three four five six seven eight nine ten eleven twelve > p.txt
    local status=0
    specular render -q -f p.txt --output-dir disk/out -b 2 2> err || status=$?
    [ "$status" -eq 4 ] || fail "exit $status: $(cat err)"
    [ "$(wc -l < err)" -eq 1 ] && grep -q 'No space left' err || fail "$(cat err)"
    local file
    for file in disk/out/*.png; do specular inspect "$file" > /dev/null; done
    [ "$(find disk/out -name '*.part')" = "" ] || fail "a temporary was left"
    [ "$(ls disk/out/*.png | wc -l)" -lt 24 ] || fail "the disk was not full"
    rm disk/ballast
    specular render -q -f p.txt --output-dir disk/out -b 2
    specular render -q -f p.txt --output-dir whole -b 2
    same_pictures disk/out whole
}

case_jpeg() {
    specular generate -q -p x -o a.jpg
    [ "$(head -c 2 a.jpg | od -An -tx1 | tr -d ' ')" = ffd8 ]
}

case_dry_run() {
    specular generate -p 'red heart' -b 2 --dry-run > out
    head -1 out | grep -qE '^[0-9]+ bytes: weights [0-9]+, session [0-9]+ \(keys and values [0-9]+\)$'
    [ "$(tail -n +2 out | tr '\n' ' ')" = "red-heart.png red-heart-2.png " ]
    specular generate -p x --method eagle --dry-run > out
    python3 -c "
import re
total, *parts = map(int, re.fullmatch(r'(\d+) bytes: weights (\d+), session (\d+) .* \d+\), drafter (\d+)',
                                      open('out').readline().strip()).groups())
assert total == sum(parts) and min(parts) > 0, (total, parts)"
    printf 'x\ny\n' > p.txt
    specular render -f p.txt --output-dir pictures --dry-run |
        grep -q '^2 pictures: 2 to draw, 0 done, 0 cannot be drawn$'
    [ "$(ls | tr '\n' ' ')" = "out p.txt " ]
}
