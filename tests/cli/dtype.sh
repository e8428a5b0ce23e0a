# Arithmetic: a model stored in f32 draws with bf16 what the model that it rounds to draws, on every back end.

golden=$here/../golden

# draw NAME MODEL OPTIONS...
draw() {
    local name=$1
    shift
    specular generate -q -p 3 -s 1 --method ar --force --tokens "$name.json" -m "$@"
}

case_rounded_weights() {
    local model kernels seen=0
    for model in llamagen spherear mar; do
        python3 "$here/widen.py" "$golden/$model-tiny" $model
        for kernels in ref avx2 avx512 amx; do
            specular info --kernels $kernels > info.txt 2>&1 || continue
            draw stored "$golden/$model-tiny" --kernels $kernels --dtype bf16 -o a.png
            draw rounded $model --kernels $kernels --dtype bf16 -o b.png
            same stored.json rounded.json
            seen=$((seen + 1))
        done
        specular info -m $model --dtype bf16 | grep -q "bf16 arithmetic"
        specular info -m $model --kernels auto | grep -q "f32 arithmetic"
    done
    [ $seen -ge 3 ] || fail "drawn $seen times"
    draw exact spherear --dtype f32
    draw stored "$golden/spherear-tiny" --dtype f32
    differ exact.json stored.json
}
