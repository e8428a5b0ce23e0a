/* What a row of a transformer goes through between its products, on the device against kernels/ref: norms with the
 * residual, embedding, latents in and positions on features, norm and rotation of heads with the write into the
 * cache. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/ops.cuh"

static const float eps = 1.0f / 16777216.0f;
enum { ROWS = 5 };

static void norm(void **)
{
    static const size_t widths[] = {2, 30, 64, 510, 768};
    for (size_t w : widths)
        for (int slices = 0; slices <= 3; slices++) {
            size_t n = ROWS * w;
            std::vector<float> x = sp_test_values(n, 1), gain = sp_test_values(w, 2), expected(n);
            std::vector<float> parts(3 * n, NAN);
            for (size_t i = 0; i < static_cast<size_t>(slices) * n; i++) parts[i] = sp_test_value(3, i);
            sp_buffer<float> in(x), scale(gain), add(parts), features(n);
            sp_buffer<uint16_t> out(n);
            sp_partial partial = {slices ? add.at() : nullptr, slices, n};
            SP_TEST_CUDA(sp_cuda_norm(nullptr, in.at(), partial, scale.at(), 1e-2f, ROWS, w, out.at(), features.at()));
            for (size_t i = 0; i < n && slices; i++) {
                float sum = parts[i];
                for (int s = 1; s < slices; s++) sum += parts[static_cast<size_t>(s) * n + i];
                x[i] += sum;
            }
            sp_test_equal("residual", in.read().data(), x.data(), n);
            sp_ops_find("ref")->rms_norm(nullptr, x.data(), gain.data(), 1e-2f, ROWS, w, expected.data());
            /* A mean of w squares is off by w eps, its root by half; three roundings follow, of values below 10. */
            float bound = static_cast<float>(w + 8) * 10 * eps;
            sp_test_close("norm", features.read(), expected, [&](size_t) { return bound; });
            std::vector<uint16_t> halves = sp_test_bf16(features.read());
            sp_test_equal("norm in bf16", out.read().data(), halves.data(), n);
        }
}

static void norm_rows(void **)
{
    const size_t w = 200, n = ROWS * w;
    std::vector<float> x = sp_test_values(n, 4), gain = sp_test_values(w, 5);
    sp_buffer<float> all(x), single(x), scale(gain);
    sp_partial none = {nullptr, 0, 0};
    SP_TEST_CUDA(sp_cuda_norm(nullptr, all.at(), none, scale.at(), 1e-5f, ROWS, w, nullptr, all.at()));
    for (size_t r = 0; r < ROWS; r++)
        SP_TEST_CUDA(sp_cuda_norm(nullptr, single.at(r * w), none, scale.at(), 1e-5f, 1, w, nullptr, single.at(r * w)));
    sp_test_equal("rows of norm, in place", all.read().data(), single.read().data(), n);
}

static void embed(void **)
{
    const size_t dim = 34, prefix = 4;
    std::vector<float> codes = sp_test_values(9 * dim, 6), classes = sp_test_values(3 * prefix * dim, 7);
    std::vector<float> learned = sp_test_values(prefix * dim, 8);
    sp_buffer<uint16_t> code_table(sp_test_bf16(codes));
    sp_buffer<float> class_table(classes), learned_table(learned), x(ROWS * dim);
    std::vector<int32_t> token = {5, ~2, SP_TOKEN_GIVEN, 0, 3}, position = {9, 3, 0, 4, -1};
    sp_buffer<int32_t> token_buffer(token), position_buffer(position);
    sp_rows rows = {token_buffer.at(), nullptr, position_buffer.at(), nullptr, nullptr, nullptr};
    sp_embedding e = {{code_table.at(), SP_BF16}, {class_table.at(), SP_F32}, {learned_table.at(), SP_F32}, 2, prefix};
    SP_TEST_CUDA(sp_cuda_embed(nullptr, e, rows, ROWS, dim, x.at()));
    std::vector<float> got = x.read(), stored = sp_test_rounded(codes);
    for (size_t i = 0; i < dim; i++) {
        assert_true(got[i] == stored[7 * dim + i]);
        assert_true(got[dim + i] == classes[(2 * prefix + 3) * dim + i] + learned[3 * dim + i]);
        assert_true(isnan(got[2 * dim + i]) && isnan(got[4 * dim + i]));
        assert_true(got[3 * dim + i] == stored[2 * dim + i]);
    }
    /* Rows of continuous tokens are not of a table. */
    sp_buffer<float> of_prefix(ROWS * dim);
    e.codes.data = nullptr;
    SP_TEST_CUDA(sp_cuda_embed(nullptr, e, rows, ROWS, dim, of_prefix.at()));
    std::vector<float> alone = of_prefix.read();
    sp_test_equal("a row of the prefix", &alone[dim], &got[dim], dim);
    for (size_t i = 0; i < ROWS * dim; i++) assert_true(i / dim == 1 || isnan(alone[i]));
}

/* Rows of latents into rows of two streams; row 0 of the first is of the prefix, which has its row already. */
static void latents_of(size_t dim, size_t latent_dim)
{
    const size_t streams = 2;
    std::vector<float> z = sp_test_values(ROWS * latent_dim, 20), w = sp_test_values(latent_dim * dim, 21);
    std::vector<float> bias = sp_test_values(dim, 22);
    std::vector<int32_t> token = {~3, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    sp_buffer<float> weights(w), offset(bias), in(z), x(streams * ROWS * dim), single(ROWS * dim);
    sp_buffer<int32_t> tokens(token);
    sp_rows rows = {tokens.at(), nullptr, nullptr, nullptr, nullptr, nullptr};
    sp_latent_map map = {weights.at(), offset.at(), latent_dim};
    SP_TEST_CUDA(sp_cuda_latents(nullptr, map, rows, in.at(), streams, ROWS, dim, x.at()));
    std::vector<float> got = x.read();
    for (size_t r = 0; r < streams * ROWS; r++)
        for (size_t i = 0; i < dim; i++) {
            double sum = static_cast<double>(bias[i]);
            for (size_t d = 0; d < latent_dim; d++)
                sum += static_cast<double>(w[d * dim + i]) * static_cast<double>(z[r % ROWS * latent_dim + d]);
            /* One rounding a product and one for the bias, of sums below latent_dim + 1. */
            double bound = static_cast<double>(latent_dim + 1) * static_cast<double>(latent_dim + 1) * eps;
            if (r == 0) assert_true(isnan(got[i]));
            else if (!(fabs(static_cast<double>(got[r * dim + i]) - sum) <= bound))
                fail_msg("latents of %zu: row %zu, %zu is %g, expected %g", latent_dim, r, i,
                         static_cast<double>(got[r * dim + i]), sum);
        }
    sp_rows own = {tokens.at(1), nullptr, nullptr, nullptr, nullptr, nullptr};
    for (size_t r = 0; r < ROWS; r++)
        SP_TEST_CUDA(sp_cuda_latents(nullptr, map, own, in.at(r * latent_dim), 1, 1, dim, single.at(r * dim)));
    sp_test_equal("rows of latents", &got[ROWS * dim], single.read().data(), ROWS * dim);
}

static void latents(void **)
{
    latents_of(34, 1);
    latents_of(128, 16);
    latents_of(130, 150);
}

static void feature_positions(void **)
{
    const size_t dim = 150, prefix = 4, places = 9;
    std::vector<float> table = sp_test_values(places * dim, 23), features = sp_test_values(ROWS * dim, 24);
    std::vector<int32_t> position = {2, 3, 4, 11, -1};
    sp_buffer<uint16_t> stored(sp_test_bf16(table));
    sp_buffer<float> x(features);
    sp_buffer<int32_t> positions(position);
    sp_rows rows = {nullptr, nullptr, positions.at(), nullptr, nullptr, nullptr};
    SP_TEST_CUDA(sp_cuda_add_position(nullptr, {stored.at(), SP_BF16}, rows, prefix, ROWS, dim, x.at()));
    std::vector<float> rounded = sp_test_rounded(table);
    for (size_t r = 1; r < 4; r++)
        for (size_t i = 0; i < dim; i++)
            features[r * dim + i] += rounded[(static_cast<size_t>(position[r]) - (prefix - 1)) * dim + i];
    sp_test_equal("positions of features", x.read().data(), features.data(), ROWS * dim);
}

struct heads_case {
    size_t heads, kv_heads, head_dim;
    bool adjacent;
    int norm; /* 0 none, 1 RMS, 2 layer, 3 layer with bias */
    bool unrotated; /* but with a bias of its own */
};

enum { POSITIONS = 20, CAPACITY = 64, STREAMS = 2 };

/* Queries and keys of rows [heads + kv_heads, head_dim] as the reference has them. */
static void expected_heads(const heads_case &c, std::vector<float> &x, const std::vector<float> *norms,
                           const std::vector<float> &cosine, const std::vector<float> &sine, const int32_t *position)
{
    const sp_ops *ref = sp_ops_find("ref");
    size_t all = c.heads + 2 * c.kv_heads, d = c.head_dim;
    for (size_t r = 0; r < ROWS && c.norm; r++)
        for (size_t h = 0; h < c.heads + c.kv_heads; h++) {
            bool key = h >= c.heads;
            size_t own = (key ? h - c.heads : h) * d;
            const float *gain = &norms[key][own], *bias = c.norm == 3 ? &norms[2 + key][own] : nullptr;
            float *at = &x[(r * all + h) * d];
            if (c.norm == 1) ref->rms_norm(nullptr, at, gain, 1e-3f, 1, d, at);
            else ref->layer_norm(nullptr, at, gain, bias, 1e-3f, 1, d, 1, at);
        }
    if (c.unrotated) return;
    ref->rope(nullptr, x.data(), all * d, cosine.data(), sine.data(), position, ROWS, c.heads + c.kv_heads, d,
              c.adjacent);
}

static void heads_of(const heads_case &c)
{
    size_t all = c.heads + 2 * c.kv_heads, d = c.head_dim, padded = (d + 15) / 16 * 16, n = ROWS * all * d;
    size_t cache_count = STREAMS * c.kv_heads * CAPACITY * padded;
    std::vector<float> x = sp_test_values(n, 10), shift = sp_test_values(all * d, 18), norms[4];
    std::vector<float> cosine = sp_test_values(POSITIONS * d / 2, 11), sine = sp_test_values(POSITIONS * d / 2, 12);
    for (uint32_t i = 0; i < 4; i++) norms[i] = sp_test_values((i % 2 ? c.kv_heads : c.heads) * d, 13 + i);
    std::vector<int32_t> stream = {0, 0, 1, 1, 1}, position = {3, 19, 0, 4, -1}, slot = {3, 40, 0, 63, 0};
    sp_buffer<float> in(x), bias(shift), cos_table(cosine), sin_table(sine), q_norm(norms[0]), k_norm(norms[1]);
    sp_buffer<float> q_bias(norms[2]), k_bias(norms[3]);
    sp_buffer<int32_t> streams(stream), positions(position), slots(slot);
    sp_buffer<uint16_t> keys(cache_count), values(cache_count), q(ROWS * c.heads * padded);
    sp_heads h = {c.heads, c.kv_heads, d, c.norm ? q_norm.at() : nullptr, c.norm ? k_norm.at() : nullptr,
                  c.norm == 3 ? q_bias.at() : nullptr, c.norm == 3 ? k_bias.at() : nullptr, c.norm >= 2, 1e-3f,
                  c.unrotated ? nullptr : cos_table.at(), c.unrotated ? nullptr : sin_table.at(), c.adjacent,
                  c.unrotated ? bias.at() : nullptr};
    sp_rows rows = {nullptr, streams.at(), positions.at(), slots.at(), nullptr, nullptr};
    sp_cache cache = {keys.at(), values.at(), CAPACITY, padded};
    SP_TEST_CUDA(sp_cuda_heads(nullptr, sp_partial{in.at(), 1, n}, h, rows, cache, ROWS, q.at()));
    for (size_t i = 0; i < n && c.unrotated; i++) x[i] += shift[i % (all * d)];
    position[4] = 0; /* the reference has no row that is not fed */
    expected_heads(c, x, norms, cosine, sine, position.data());
    std::vector<uint16_t> got_q = q.read(), got_k = keys.read(), got_v = values.read();
    /* A norm of d values below 20 in size, rotated, then bf16. */
    float bound = static_cast<float>(d + 16) * 20 * eps;
    size_t written = 0, row_width = all * d;
    for (size_t r = 0; r + 1 < ROWS; r++)
        for (size_t i = 0; i < row_width; i++) {
            size_t head = i / d, e = i % d, own = head < c.heads ? head : (head - c.heads) % c.kv_heads;
            size_t stored = static_cast<size_t>(stream[r]) * c.kv_heads + own, at = static_cast<size_t>(slot[r]);
            uint16_t got = head < c.heads                ? got_q[(r * c.heads + head) * padded + e]
                           : head < c.heads + c.kv_heads ? got_k[(stored * CAPACITY + at) * padded + e]
                                                         : got_v[(stored * padded + e) * CAPACITY + at];
            float want = x[r * row_width + i];
            assert_true(fabsf(sp_bf16_to_f32(got) - want) <= bound + fabsf(want) / 256);
            written += head >= c.heads;
        }
    for (const std::vector<uint16_t> *cached : {&got_k, &got_v})
        for (uint16_t half : *cached) written -= half != 0xFFFF;
    assert_int_equal(written, 0); /* nothing else was touched */
    for (size_t i = 0; i < c.heads * padded; i++) assert_int_equal(got_q[4 * c.heads * padded + i], 0xFFFF);
}

static void heads(void **)
{
    static const heads_case cases[] = {{3, 1, 64, true, 0, false},  {4, 2, 128, false, 1, false},
                                       {2, 2, 100, true, 3, false}, {2, 1, 256, false, 2, false},
                                       {1, 1, 2, true, 1, false},   {5, 5, 34, false, 3, false},
                                       {3, 3, 18, false, 0, true},  {4, 2, 66, true, 3, true}};
    for (const heads_case &c : cases) heads_of(c);
}

static void kv_move(void **)
{
    const size_t kv_heads = 2, padded = 16, count = STREAMS * kv_heads * CAPACITY * padded;
    std::vector<uint16_t> key(count), value(count);
    for (size_t i = 0; i < count; i++) {
        key[i] = static_cast<uint16_t>(i);
        value[i] = static_cast<uint16_t>(3 * i + 1);
    }
    std::vector<int32_t> slots = {11, 12, 17};
    sp_buffer<uint16_t> keys(key), values(value);
    sp_buffer<int32_t> from(slots);
    sp_cache cache = {keys.at(), values.at(), CAPACITY, padded};
    SP_TEST_CUDA(sp_cuda_kv_move(nullptr, cache, kv_heads, 1, from.at(), 10, 3));
    for (size_t h = kv_heads; h < 2 * kv_heads; h++)
        for (size_t i = 0; i < 3; i++)
            for (size_t d = 0; d < padded; d++) {
                size_t slot = static_cast<size_t>(slots[i]);
                key[(h * CAPACITY + 10 + i) * padded + d] = key[(h * CAPACITY + slot) * padded + d];
                value[(h * padded + d) * CAPACITY + 10 + i] = value[(h * padded + d) * CAPACITY + slot];
            }
    sp_test_equal("moved keys", keys.read().data(), key.data(), count);
    sp_test_equal("moved values", values.read().data(), value.data(), count);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm), cmocka_unit_test(norm_rows), cmocka_unit_test(embed), cmocka_unit_test(latents),
        cmocka_unit_test(feature_positions), cmocka_unit_test(heads), cmocka_unit_test(kv_move)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
