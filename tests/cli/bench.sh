# bench: ar beside every method, in one run.

case_table() {
    printf 'red heart\nblue car\n' > p.txt
    specular bench --quiet -f p.txt --methods pathwise --window 8,auto -r 2 --warmup 1 --output-format json > t.json
    python3 -c "
import json
rows = json.load(open('t.json'))
assert [(r['method'], r['window']) for r in rows] == [('ar', '1'), ('pathwise', '8'), ('pathwise', 'auto')], rows
for r in rows:
    assert r['n'] == 4 and r['tokens'] == 4 * rows[0]['nfe'] and r['tokens_identical'] == r['tokens'], r
    assert r['exactness'] == 'identical' and 0 < r['image_ms'] <= r['image_p95_ms'], r
    assert abs(r['speedup'] - rows[0]['image_ms'] / r['image_ms']) < 1e-4 * r['speedup'], r
assert rows[0]['speedup'] == 1 and rows[0]['step_compression'] == 1 and rows[1]['step_compression'] > 1, rows"
}

case_forms() {
    local form
    for form in md csv jsonl; do
        specular bench --limit 1 --window 4 -r 1 --warmup 0 --batch-size 2 --output-format $form > $form
    done
    [ "$(grep -c '^| \(ar\|pathwise\) ' md)" -eq 2 ]
    python3 -c "
import csv, json
rows = list(csv.DictReader(open('csv')))
lines = [json.loads(line) for line in open('jsonl')]
assert len(rows) == len(lines) == 2
for row, line in zip(rows, lines):
    assert set(row) == set(line) and row['method'] == line['method'], (row, line)
    assert row['tokens_identical'] == row['tokens'] == str(line['tokens']), row
    assert line['n'] == line['batch_size'] == 2, line
    assert abs(line['images_per_second'] * line['image_ms'] - 1000) < 0.1, line"
}

case_bad_prompts() {
    printf '{"prompt": 3}\n' > p.jsonl
    expect 3 "p.jsonl: line 1" specular bench -f p.jsonl
    : > p.txt
    expect 3 "p.txt: no prompts" specular bench -f p.txt
}
