/* attention on the device against kernels/ref: chains, trees, shared heads, streams of different progress; NaN in every
 * slot that no row sees; a row has the same bits alone, in a window, and as a branch of a tree. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/ops.cuh"

struct shape { size_t heads, kv_heads, head_dim; };
enum { CAPACITY = 640, STREAMS = 2 };

struct world {
    shape s;
    size_t padded, cache_count;
    std::vector<float> key, value; /* as bf16 keeps them, [STREAMS, kv_heads, CAPACITY, head_dim] by position */
    explicit world(shape of) : s(of), padded((of.head_dim + 15) / 16 * 16)
    {
        size_t count = STREAMS * s.kv_heads * CAPACITY * s.head_dim;
        cache_count = STREAMS * s.kv_heads * CAPACITY * padded;
        key = sp_test_rounded(sp_test_values(count, 1));
        value = sp_test_rounded(sp_test_values(count, 2));
    }
};

struct window {
    size_t rows_each;
    std::vector<int32_t> position, slot, parent; /* [STREAMS, rows_each]; parent [rows_each], empty for chains */
};

/* What a row's query and key are made for: its place in a chain, its position on a path of a tree. */
static const std::vector<int32_t> &place_of(const window &win) { return win.parent.empty() ? win.slot : win.position; }

static std::vector<float> queries(const world &w, const window &win)
{
    std::vector<float> q(STREAMS * win.rows_each * w.s.heads * w.s.head_dim);
    size_t width = w.s.heads * w.s.head_dim;
    /* A function of stream and position, the same in every window. */
    for (size_t r = 0; r < STREAMS * win.rows_each; r++)
        for (size_t i = 0; i < width; i++)
            q[r * width + i] = 3 * sp_test_value(static_cast<uint32_t>(30 + r / win.rows_each),
                                                 static_cast<size_t>(place_of(win)[r]) * width + i);
    return sp_test_rounded(q);
}

/* Keys lie at their positions up to the window and at the slots of its rows, NaN elsewhere; padding is zero. */
static void lay_out(const world &w, const window &win, std::vector<uint16_t> &keys, std::vector<uint16_t> &values)
{
    keys.assign(w.cache_count, 0x7FC0);
    values.assign(w.cache_count, 0x7FC0);
    for (size_t s = 0; s < STREAMS; s++) {
        std::vector<int32_t> of_slot(CAPACITY, -1);
        size_t base = static_cast<size_t>(win.slot[s * win.rows_each]);
        for (size_t p = 0; p < base; p++) of_slot[p] = static_cast<int32_t>(p);
        for (size_t r = 0; r < win.rows_each; r++)
            of_slot[static_cast<size_t>(win.slot[s * win.rows_each + r])] = place_of(win)[s * win.rows_each + r];
        for (size_t h = s * w.s.kv_heads; h < (s + 1) * w.s.kv_heads; h++)
            for (size_t slot = 0; slot < CAPACITY; slot++)
                for (size_t d = 0; d < w.padded; d++) {
                    if (of_slot[slot] < 0) continue;
                    size_t from = (h * CAPACITY + static_cast<size_t>(of_slot[slot])) * w.s.head_dim + d;
                    bool pad = d >= w.s.head_dim;
                    keys[(h * CAPACITY + slot) * w.padded + d] = pad ? 0 : sp_f32_to_bf16(w.key[from]);
                    values[(h * w.padded + d) * CAPACITY + slot] = pad ? 0 : sp_f32_to_bf16(w.value[from]);
                }
    }
}

static std::vector<float> attend(const world &w, const window &win)
{
    size_t n_rows = STREAMS * win.rows_each, width = w.s.head_dim;
    std::vector<uint16_t> key, value, padded_q(n_rows * w.s.heads * w.padded, 0), half = sp_test_bf16(queries(w, win));
    lay_out(w, win, key, value);
    for (size_t i = 0; i < half.size(); i++) padded_q[i / width * w.padded + i % width] = half[i];
    std::vector<int32_t> stream(n_rows);
    for (size_t r = 0; r < n_rows; r++) stream[r] = static_cast<int32_t>(r / win.rows_each);
    sp_buffer<uint16_t> keys(key), values(value), q(padded_q), out(n_rows * w.s.heads * width);
    sp_buffer<int32_t> streams(stream), positions(win.position), slots(win.slot), parents(win.parent);
    sp_buffer<unsigned char> scratch(sp_cuda_attention_scratch(n_rows, w.s.heads, width, CAPACITY));
    sp_heads h = {};
    h.heads = w.s.heads;
    h.kv_heads = w.s.kv_heads;
    h.head_dim = width;
    sp_rows rows = {nullptr, streams.at(), positions.at(), slots.at(), win.parent.empty() ? nullptr : parents.at(),
                    nullptr};
    sp_cache cache = {keys.at(), values.at(), CAPACITY, w.padded};
    SP_TEST_CUDA(
        sp_cuda_attention(nullptr, q.at(), h, rows, cache, STREAMS, win.rows_each, scratch.at(), out.at()));
    return sp_test_floats(out.read());
}

/* The reference sees keys at their positions, which is what the paths of a tree lead to here. */
static std::vector<float> expected(const world &w, const window &win)
{
    size_t n_rows = STREAMS * win.rows_each, width = w.s.head_dim;
    std::vector<float> q = queries(w, win), out(q.size()), keys(w.key.size());
    for (size_t h = 0; h < STREAMS * w.s.kv_heads; h++)
        for (size_t p = 0; p < CAPACITY; p++)
            for (size_t d = 0; d < width; d++)
                keys[(h * width + d) * CAPACITY + p] = w.key[(h * CAPACITY + p) * width + d];
    std::vector<float> values = w.value, scratch(4 * CAPACITY * 2);
    std::vector<int32_t> stream(n_rows), first(n_rows, 0);
    for (size_t r = 0; r < n_rows; r++) stream[r] = static_cast<int32_t>(r / win.rows_each);
    size_t each = w.s.kv_heads * width * CAPACITY;
    sp_kv_view views[STREAMS] = {};
    for (size_t s = 0; s < STREAMS; s++) {
        views[s].keys = &keys[s * each];
        views[s].values = &values[s * each];
        views[s].capacity = CAPACITY;
        views[s].round = true;
    }
    sp_attention_rows rows = {};
    rows.n_rows = n_rows;
    rows.stream = stream.data();
    rows.position = win.position.data();
    rows.first_key = first.data();
    rows.heads = w.s.heads;
    rows.kv_heads = w.s.kv_heads;
    rows.head_dim = width;
    rows.scale = 1.0f / sqrtf(static_cast<float>(width));
    sp_ops_find("ref")->attention(nullptr, &rows, q.data(), w.s.heads * width, views, out.data(), scratch.data());
    return out;
}

static window chain(size_t first_0, size_t first_1, size_t rows)
{
    window win = {rows, {}, {}, {}};
    for (size_t first : {first_0, first_1})
        for (size_t r = 0; r < rows; r++) win.position.push_back(static_cast<int32_t>(first + r));
    win.slot = win.position;
    return win;
}

/* Every row sees all of its stream, as in a masked model. */
static window whole(size_t rows)
{
    window win = chain(0, 0, rows);
    win.position.assign(STREAMS * rows, static_cast<int32_t>(rows - 1));
    return win;
}

/* Weights and the result are rounded to bf16, 2^-9 of them each, values are below 1. A score, up to 3 sqrt(head_dim) in
 * size, is off by 2 head_dim eps of the sum of sizes before the scale, 3 head_dim; the weights follow. */
static float attention_bound(size_t head_dim, float y)
{
    float d = static_cast<float>(head_dim);
    return (1 + fabsf(y)) / 512 + 2 * d * 3 * sqrtf(d) / 16777216.0f + 600 / 16777216.0f;
}

static void compare(const world &w, const window &win)
{
    std::vector<float> want = expected(w, win);
    sp_test_close("attention", attend(w, win), want,
                  [&](size_t i) { return attention_bound(w.s.head_dim, want[i]); });
}

static void chains(void **)
{
    static const shape shapes[] = {{2, 2, 64}, {4, 1, 32}, {3, 1, 100}, {2, 1, 128}, {1, 1, 6}};
    for (const shape &s : shapes) {
        world w(s);
        compare(w, chain(0, 0, 1));
        compare(w, chain(7, 300, 5));
        compare(w, chain(250, 61, 18));
    }
    world w({1, 1, 256});
    compare(w, chain(600, 511, 2));
}

static void wholes(void **)
{
    compare(world({2, 2, 12}), whole(41));
    compare(world({1, 1, 16}), whole(270));
}

/* A root, two branches of two rows and a long one, which crosses from a part of 256 keys into the next. */
static window tree(size_t first)
{
    static const int32_t parent[] = {0, 0, 0, 1, 2, 3, 5, 6, 7};
    window win = {9, {}, {}, {}};
    win.parent.assign(parent, parent + 9);
    for (size_t s = 0; s < STREAMS; s++) {
        size_t base = first + 3 * s;
        for (size_t r = 0; r < 9; r++) {
            int32_t at = r ? win.position[s * 9 + static_cast<size_t>(parent[r])] + 1 : static_cast<int32_t>(base);
            win.position.push_back(at);
            win.slot.push_back(static_cast<int32_t>(base + r));
        }
    }
    return win;
}

/* Rows at one position hold the same key here, so that the reference needs no paths; every branch is right only if it
 * reads its own slots, since the slot that is a position holds another row's key. */
static void trees(void **)
{
    static const shape shapes[] = {{2, 2, 64}, {4, 2, 20}};
    for (const shape &s : shapes) {
        world w(s);
        compare(w, tree(10));
        compare(w, tree(252));
    }
}

static void row_invariant(void **)
{
    static const shape shapes[] = {{2, 1, 64}, {1, 1, 40}};
    for (const shape &s : shapes) {
        world w(s);
        const size_t width = s.heads * s.head_dim, most = 33;
        std::vector<float> all = attend(w, chain(240, 240, most));
        for (size_t rows : {1, 2, 9, 17})
            for (size_t first = 0; first + rows <= most; first += 8) {
                std::vector<float> some = attend(w, chain(240 + first, 240 + first, rows));
                sp_test_equal("rows of attention", some.data(), &all[first * width], rows * width);
                sp_test_equal("rows of attention, second stream", &some[rows * width], &all[(most + first) * width],
                              rows * width);
            }
        window branches = tree(245);
        std::vector<float> grown = attend(w, branches);
        for (size_t r = 0; r < 9; r++)
            sp_test_equal("rows of a tree", &grown[r * width],
                          &all[(static_cast<size_t>(branches.position[r]) - 240) * width], width);
    }
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chains), cmocka_unit_test(wholes), cmocka_unit_test(trees),
                                       cmocka_unit_test(row_invariant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
