/* What is between the products of a masked model, on the device against kernels/ref and the definitions: layer norm
 * with the residual; rows that come in, are spread and collected, with NaN in all that is not to be read. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/masked.cuh"

static const float eps = 1.0f / 16777216.0f;
enum { ROWS = 4 };

/* Of x, with what is added to it, y and features against the reference; slices 0: nothing is added. */
static void layer_norm_of(size_t w, int slices)
{
    const size_t n = ROWS * w;
    std::vector<float> x = sp_test_values(n, 1), gain = sp_test_values(w, 2), bias = sp_test_values(w, 3), expected(n);
    std::vector<float> add_bias = sp_test_values(w, 4), parts(3 * n, NAN);
    for (size_t i = 0; i < n; i++) x[i] += 3; /* a mean that counts */
    for (size_t i = 0; i < static_cast<size_t>(slices) * n; i++) parts[i] = sp_test_value(5, i);
    sp_buffer<float> in(x), scale(gain), shift(bias), add(parts), plus(add_bias), features(n), in_place(x), single(n);
    sp_buffer<uint16_t> out(n);
    sp_partial partial = {slices ? add.at() : nullptr, slices, n};
    sp_layer_norm norm = {scale.at(), shift.at(), 1e-2f};
    const float *with = slices ? plus.at() : nullptr;
    SP_TEST_CUDA(sp_cuda_layer_norm(nullptr, in.at(), partial, with, norm, ROWS, w, out.at(), features.at()));
    for (size_t i = 0; i < n && slices; i++) {
        float sum = parts[i];
        for (int s = 1; s < slices; s++) sum += parts[static_cast<size_t>(s) * n + i];
        x[i] += sum + add_bias[i % w];
    }
    sp_test_equal("residual", in.read().data(), x.data(), n);
    sp_ops_find("ref")->layer_norm(nullptr, x.data(), gain.data(), bias.data(), 1e-2f, ROWS, w, 1, expected.data());
    /* A sum takes w / 256 roundings a thread, five in a warp and eight across: the mean is off by so many eps of 8, and
     * counts ten times where the deviation is 0.1, the root of what is added to its square; the square's own sum moves
     * a result, of 8 at most, by half as many. */
    float bound = static_cast<float>(w / 256 + 16) * 84 * eps;
    sp_test_close("layer norm", features.read(), expected, [&](size_t) { return bound; });
    std::vector<uint16_t> halves = sp_test_bf16(features.read());
    sp_test_equal("layer norm in bf16", out.read().data(), halves.data(), n);
    /* Rows alone and in place. */
    SP_TEST_CUDA(cudaMemcpy(in_place.at(), x.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    sp_partial none = {nullptr, 0, 0};
    for (size_t r = 0; r < ROWS; r++)
        SP_TEST_CUDA(sp_cuda_layer_norm(nullptr, in_place.at(r * w), none, nullptr, norm, 1, w, nullptr,
                                        in_place.at(r * w)));
    sp_test_equal("rows of layer norm, in place", in_place.read().data(), features.read().data(), n);
}

static void layer_norm(void **)
{
    for (size_t w : {2, 30, 64, 510, 768})
        for (int slices = 0; slices <= 3; slices++) layer_norm_of(w, slices);
}

static void rows_see_all(void **)
{
    for (size_t n : {1, 7, 130}) {
        sp_buffer<int32_t> stream(2 * n), position(2 * n), slot(2 * n);
        SP_TEST_CUDA(sp_cuda_masked_rows(nullptr, 2, n, stream.at(), position.at(), slot.at()));
        std::vector<int32_t> s = stream.read(), p = position.read(), at = slot.read();
        for (size_t r = 0; r < 2 * n; r++) {
            assert_int_equal(s[r], r / n);
            assert_int_equal(p[r], n - 1);
            assert_int_equal(at[r], r % n);
        }
    }
}

/* A picture of POSITIONS behind a buffer; those known have the rows after it. */
enum { BUFFER = 3, POSITIONS = 6, PLACES = BUFFER + POSITIONS };
static const bool known[POSITIONS] = {false, true, true, false, false, true};

struct picture {
    std::vector<int32_t> row;
    size_t n_known;
    sp_buffer<int32_t> on_device;
    picture() : row(PLACES, -1), n_known(0), on_device(PLACES)
    {
        for (size_t i = 0; i < PLACES; i++)
            if (i < BUFFER || known[i - BUFFER]) row[i] = static_cast<int32_t>(n_known++);
        on_device.fill(row);
    }
    sp_masked_places places(size_t n_streams, size_t dim) const
    {
        return {on_device.at(), PLACES, BUFFER, n_known, n_streams, dim};
    }
};

static void embed_of(size_t n_streams, size_t dim, size_t latent_dim)
{
    picture p;
    std::vector<float> with = sp_test_values(dim, 10), without = sp_test_values(dim, 11);
    std::vector<float> w = sp_test_values(latent_dim * dim, 12), bias = sp_test_values(dim, 13);
    std::vector<float> position = sp_test_values(PLACES * dim, 14), z = sp_test_values(POSITIONS * latent_dim, 15);
    for (size_t i = 0; i < z.size(); i++)
        if (!known[i / latent_dim]) z[i] = NAN;
    sp_buffer<float> a(with), b(without), weights(w), offset(bias), table(position), in(z);
    sp_buffer<float> x(n_streams * p.n_known * dim);
    SP_TEST_CUDA(sp_cuda_masked_embed(nullptr, p.places(n_streams, dim), a.at(), b.at(),
                                      {weights.at(), offset.at(), latent_dim}, in.at(), table.at(), x.at()));
    std::vector<float> got = x.read();
    /* One rounding a product, one for the bias, one for the position, of sums below latent_dim + 2. */
    double bound = static_cast<double>(latent_dim + 2) * static_cast<double>(latent_dim + 2) * eps;
    for (size_t s = 0; s < n_streams; s++)
        for (size_t place = 0; place < PLACES; place++) {
            if (p.row[place] < 0) continue;
            for (size_t i = 0; i < dim; i++) {
                double sum = static_cast<double>(s ? without[i] : with[i]);
                if (place >= BUFFER) sum = static_cast<double>(bias[i]);
                for (size_t d = 0; d < latent_dim && place >= BUFFER; d++)
                    sum += static_cast<double>(w[d * dim + i]) *
                           static_cast<double>(z[(place - BUFFER) * latent_dim + d]);
                sum += static_cast<double>(position[place * dim + i]);
                float found = got[(s * p.n_known + static_cast<size_t>(p.row[place])) * dim + i];
                if (!(fabs(static_cast<double>(found) - sum) <= bound))
                    fail_msg("stream %zu, place %zu, %zu is %g, expected %g", s, place, i, static_cast<double>(found),
                             sum);
            }
        }
}

static void embed(void **)
{
    embed_of(1, 34, 1);
    embed_of(2, 130, 16);
}

static void spread_of(size_t n_streams, size_t dim, int slices)
{
    picture p;
    const size_t n = n_streams * p.n_known * dim;
    std::vector<float> parts(3 * n, NAN), bias = sp_test_values(dim, 20), mask = sp_test_values(dim, 21);
    std::vector<float> position = sp_test_values(PLACES * dim, 22), expected(n_streams * PLACES * dim);
    for (size_t i = 0; i < static_cast<size_t>(slices) * n; i++) parts[i] = sp_test_value(23, i);
    sp_buffer<float> from(parts), offset(bias), token(mask), table(position), x(expected.size());
    SP_TEST_CUDA(sp_cuda_masked_spread(nullptr, p.places(n_streams, dim), {from.at(), slices, n}, offset.at(),
                                       token.at(), table.at(), x.at()));
    for (size_t i = 0; i < expected.size(); i++) {
        size_t stream = i / dim / PLACES, place = i / dim % PLACES, d = i % dim;
        float v = mask[d];
        if (p.row[place] >= 0) {
            size_t at = (stream * p.n_known + static_cast<size_t>(p.row[place])) * dim + d;
            v = parts[at];
            for (int s = 1; s < slices; s++) v += parts[static_cast<size_t>(s) * n + at];
            v += bias[d];
        }
        expected[i] = v + position[place * dim + d];
    }
    sp_test_equal("rows of the decoder", x.read().data(), expected.data(), expected.size());
}

static void spread(void **)
{
    spread_of(1, 258, 3);
    spread_of(2, 34, 1);
}

static void collect(void **)
{
    const size_t dim = 130, n_streams = 2;
    const std::vector<int32_t> wanted = {4, 0, 3};
    picture p;
    std::vector<float> x(n_streams * PLACES * dim, NAN), position = sp_test_values(POSITIONS * dim, 30), expected;
    for (size_t s = 0; s < n_streams; s++)
        for (int32_t at : wanted)
            for (size_t i = 0; i < dim; i++) {
                size_t of = (s * PLACES + BUFFER + static_cast<size_t>(at)) * dim + i;
                x[of] = sp_test_value(31, of);
                expected.push_back(x[of] + position[static_cast<size_t>(at) * dim + i]);
            }
    sp_buffer<float> from(x), table(position), features(expected.size());
    sp_buffer<int32_t> list(wanted);
    SP_TEST_CUDA(sp_cuda_masked_collect(nullptr, p.places(n_streams, dim), from.at(), list.at(), wanted.size(),
                                        table.at(), features.at()));
    sp_test_equal("features", features.read().data(), expected.data(), expected.size());
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layer_norm), cmocka_unit_test(rows_see_all),
                                       cmocka_unit_test(embed), cmocka_unit_test(spread), cmocka_unit_test(collect)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
