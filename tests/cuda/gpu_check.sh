#!/bin/bash
# tools/gpu-check without a GPU: compiler, program, sanitizer and Python are stand-ins that say what real ones would,
# and one of each kind fails. It goes on, counts, and its tables have every figure. Usage: gpu_check.sh SOURCE
set -uo pipefail
source=$(realpath "$1")
check=$source/tools/gpu-check
. "$source/tests/cli/support.bash"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
set -e
cd "$folder"
mkdir "$folder/bin"
export PATH=$folder/bin:$PATH CC=cc-stand-in

stand_in() {
    { echo '#!/bin/bash' && cat; } > "$folder/bin/$1"
    chmod +x "$folder/bin/$1"
}
has() { grep -qF -e "$1" "$2" || fail "no '$1' in $(cat "$2")"; }

listed=$("$check" --list) || fail "--list: $?"
for part in build-kernels test_cuda_gemm test_cuda_trees measure_pass measure_codec gpu-reference picture batches \
    pathwise-is-ar test_ranks render-cpu test_cuda_whole-racecheck test_cuda_head-synccheck; do
    grep -q "^$part (at most [0-9]* s)" <<< "$listed" || fail "--list has no $part"
done
expect 2 "unknown option '--lost'" "$check" --lost
expect 2 "seconds 'x'" "$check" --seconds x
expect 2 "unknown part 'pass'" "$check" --parts rates,pass
stand_in nvidia-smi < /dev/null
stand_in nvcc < /dev/null
expect 5 "no GPU" "$check" --work "$folder/work"

stand_in nvidia-smi <<< 'echo "NVIDIA H100, 580.1"'
expect 5 "nothing that was built" "$check" --built --work "$folder/work"
stand_in cc-stand-in <<< 'while [ "$1" != -o ]; do shift; done; touch "$2" && chmod +x "$2"'
stand_in ar <<< 'touch "$2"'
stand_in compute-sanitizer <<< 'exec "${@: -1}"'
stand_in python3 <<< '[[ "$*" = *"Janus-Pro-7B=4.9"* ]] && echo "| Python | >= 4 times | 5.00 times | reached |"'
# A program is a script of its name; one of the tests fails, one does not compile.
stand_in nvcc <<'S'
[ "$1" != --version ] || { echo "Cuda, release 13.0, V13"; exit; }
while [ "$1" != -o ]; do shift; done
name=$(basename "$2")
case $name in
    test_cuda_rows) exit 1 ;;
    test_cuda_conv) body='echo wrong; exit 1' ;;
    measure_rates) body='printf "| device memory read | | 3000 GB/s | |\n| bf16 products | | 700 Tflop/s | |\n"' ;;
    measure_pass) body='[ "$1" = 3000 ] && echo "| Janus-Pro-7B: plain decoding | | 4.9 ms a token: n | |"' ;;
    measure_codec) body='echo "| VQ at $1 | >= 40 % | 50 % | reached |"; exit 3' ;;
    *) body=true ;;
esac
printf '#!/bin/bash\n%s\n' "$body" > "$2"
chmod +x "$2"
S
stand_in cmake <<'S'
[ "$1" = --build ] || exit 0
mkdir -p "$2/src/cli" && touch "$2/libspecular.a" && cp "$(dirname "$0")/specular-stand-in" "$2/src/cli/specular"
S
stand_in specular-stand-in <<'S'
value() { while [ $# -gt 1 ] && [ "$1" != "$name" ]; do shift; done; echo "${2:-}"; }
case "$*" in
    *--help) echo "  --batch-size N" ;;
    render*--tokens*)
        to=$(name=--tokens value "$@")
        mkdir -p "$to"
        echo '[1, 2, 3, 4]' > "$to/000001.json"
        last=4
        [[ "$*" != *cpu* ]] || last=5
        echo "[1, 2, 3, $last]" > "$to/000002.json"
        ;;
    render*--batch-size*)
        to=$(name=--output-dir value "$@")
        mkdir -p "$to"
        for ((i = $(name=--limit value "$@"); i > 0; i--)); do : > "$to/$i.png"; done
        ;;
    bench*jsonl*)
        echo '{"method":"pathwise","window":"auto","image_ms":30.5,"tokens_identical":25600,"tokens":25600}'
        ;;
    bench*) echo "| pathwise |" ;;
esac
S

said=$("$check" --work "$folder/work" 2>&1) && fail "it passed"
tables=$folder/work/tables.md
# Built: 16 tests or more but one; failed: what does not compile, a test plain and under four tools, the codec.
[[ $(tail -n 1 <<< "$said") =~ ^[0-9]+\ passed,\ 7\ failed$ ]] || fail "$said"
for line in "not ok build-test_cuda_rows" "not ok test_cuda_conv" "not ok measure_codec" "ok test_cuda_gemm-synccheck" \
    "ok test_cuda_whole" "ok batch-64-pathwise" "ok test_ranks"; do
    grep -q "^$line " <<< "$said" || fail "no '$line' in $said"
done
for line in "| device memory read | | 3000 GB/s | |" "| Janus-Pro-7B: plain decoding |" "| VQ at 700 |" \
    "| measure_codec |  | ended with status 3 after " "| Python | >= 4 times | 5.00 times | reached |" \
    "whole picture | <= 25 ms | 30.5 ms | not reached |" "256000 of 256000 tokens | reached |" \
    "2 pictures |  | 7 of 8 tokens, 1 pictures whole |" "at batch 64, \`pathwise\` over \`ar\` | >= 1.0 times |" \
    "# On NVIDIA H100, 580.1" "nvcc 13.0: " "## emoji on cpu" "nothing"; do
    has "$line" "$tables"
done

# Built before, elsewhere: some of the parts, without building; a part that needs the rates measures them.
stand_in nvidia-smi < /dev/null
"$check" --work "$folder/work" --build > built 2>&1 && fail "test_cuda_rows was built"
rm -r "$folder/work"
grep -q "^ok build-measure_pass" built || fail "$(cat built)"
stand_in nvidia-smi <<< 'echo "NVIDIA H100, 580.1"'
said=$("$check" --work "$folder/work" --built --parts passes,head 2>&1) || fail "$said"
[[ $(tail -n 1 <<< "$said") = "3 passed, 0 failed" ]] || fail "$said"
has "| Janus-Pro-7B: plain decoding |" "$tables"

# No time: what is left out is named, and nothing hangs.
[ -n "${SP_TEST_ALL:-}" ] || exit 0
stand_in compute-sanitizer <<< 'sleep 1000'
said=$("$check" --work "$folder/work" --seconds 30 2>&1) && fail "it passed"
grep -q "left out test_cuda_whole-synccheck: no time" <<< "$said" || fail "$said"
has test_cuda_gemm-initcheck "$tables"
