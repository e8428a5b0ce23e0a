/* The decoder of LlamaGen's VQ-16 with random weights: its products a second as a share of the rate of bf16 matrices,
 * by the device's clock; and what it takes from tokens to bytes on the host. Rows of a table.
 *
 *     measure_codec TFLOP/S */
#include "tests/cuda/measure.cuh"

#include "kernels/cuda/table.cuh"

enum { N_BUFFERS = 3, NONE = -1 };

/* The list of layers, as vq/device.c makes it of a checkpoint. Every weight, bias and gain is a piece of one buffer. */
struct decoder {
    std::vector<float> numbers, ones;
    std::vector<uint16_t> weights;
    std::vector<sp_device_layer> layers;
    int at = 0;
    double flop = 0;

    int other(int which) const { return (at + which) % N_BUFFERS; }
    sp_device_map map(size_t n, size_t k, size_t size, double pixels)
    {
        flop += 2 * pixels * static_cast<double>(n * k * size * size);
        return {weights.data(), SP_BF16, n, k, numbers.data()};
    }
    sp_device_layer &add(sp_device_layer_kind kind, sp_plane in, bool norm, bool swish)
    {
        sp_device_layer layer = {};
        layer.kind = kind;
        layer.in = in;
        layer.swish = swish;
        layer.gain = norm ? ones.data() : NULL;
        layer.bias = norm ? numbers.data() : NULL;
        layer.from = at;
        layer.to = other(1);
        layer.residual = NONE;
        layers.push_back(layer);
        return layers.back();
    }
    void convolution(sp_plane *plane, size_t n, size_t size, bool norm, bool upsample)
    {
        sp_device_layer &layer = add(size == 3 ? SP_DEVICE_CONV3 : SP_DEVICE_CONV1, *plane, norm, norm);
        layer.upsample = upsample;
        size_t k = plane->channels, scale = upsample ? 2 : 1;
        *plane = {plane->height * scale, plane->width * scale, n};
        layer.map[0] = map(n, k, size, static_cast<double>(plane->height * plane->width));
        at = layer.to;
    }
    void residual(sp_plane *plane, size_t n)
    {
        int x = at, skip = other(1), middle = other(2);
        double pixels = static_cast<double>(plane->height * plane->width);
        size_t k = plane->channels;
        if (k != n) add(SP_DEVICE_CONV1, *plane, false, false).map[0] = map(n, k, 1, pixels);
        sp_device_layer &first = add(SP_DEVICE_CONV3, *plane, true, true);
        first.map[0] = map(n, k, 3, pixels);
        first.to = middle;
        plane->channels = n;
        sp_device_layer &second = add(SP_DEVICE_CONV3, *plane, true, true);
        second.map[0] = map(n, n, 3, pixels);
        second.from = middle;
        second.to = second.residual = at = k != n ? skip : x;
    }
    void attention(sp_plane plane)
    {
        double pixels = static_cast<double>(plane.height * plane.width);
        sp_device_layer &layer = add(SP_DEVICE_ATTENTION, plane, true, false);
        layer.to = layer.residual = at;
        for (sp_device_map &m : layer.map) m = map(plane.channels, plane.channels, 1, pixels);
        flop += 4 * pixels * pixels * static_cast<double>(plane.channels);
    }
    decoder(size_t side, size_t base, size_t z, size_t code_dim);
};

/* Three residual blocks a level, attention at the lowest. */
decoder::decoder(size_t side, size_t base, size_t z, size_t code_dim)
{
    static const size_t multipliers[] = {4, 2, 2, 1, 1};
    size_t widest = 4 * base;
    numbers = sp_quick_floats(std::max(widest, z), 0.1f);
    ones.assign(widest, 1.0f);
    weights = sp_quick_bf16(std::max(9 * widest * widest, 9 * widest * z),
                            1.7f / sqrtf(9 * static_cast<float>(widest)));
    sp_plane plane = {side, side, code_dim};
    convolution(&plane, z, 1, false, false);
    convolution(&plane, widest, 3, false, false);
    residual(&plane, widest);
    attention(plane);
    residual(&plane, widest);
    for (size_t level = 0; level < 5; level++) {
        for (int block = 0; block < 3; block++) {
            residual(&plane, multipliers[level] * base);
            if (level == 0) attention(plane);
        }
        if (level < 4) convolution(&plane, plane.channels, 3, false, true);
    }
    convolution(&plane, 3, 3, true, false);
}

struct times {
    double device_us, host_us;
};

static sp_status time_decoder(const sp_measure &m, const sp_device_codec_plan *plan, times *out, sp_error *err)
{
    std::vector<int32_t> tokens(plan->rows * plan->columns);
    std::vector<uint8_t> rgb(3 * 256 * tokens.size());
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = static_cast<int32_t>(i * 2654435761u % plan->n_codes);
    sp_device_codec *codec;
    sp_device_colour wrong = {-1, 0};
    cudaStream_t stream;
    SP_TRY(sp_cuda_codec.open(&codec, 0, plan, err));
    sp_status status = SP_OK;
    out->host_us = sp_median_us(m, [&] {
        if (status == SP_OK) status = sp_cuda_codec.decode(codec, tokens.data(), rgb.data(), &wrong, err);
    });
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    out->device_us = sp_median_queued_us(
        m, stream, [&](int) { CHECK(cudaGraphLaunch(sp_cuda_codec_graph(codec), stream)); });
    CHECK(cudaStreamDestroy(stream));
    sp_cuda_codec.close(codec);
    SP_TRY(status);
    return wrong.index < 0 ? SP_OK : SP_FAIL(err, SP_EBUG, "a colour is not a number");
}

static sp_status measure(const sp_measure &m, size_t side, double rate, sp_error *err)
{
    const size_t codes = m.toy ? 16 : 16384, code_dim = m.toy ? 4 : 8;
    decoder d(side, m.toy ? 8 : 128, m.toy ? 8 : 256, code_dim);
    std::vector<float> table = sp_quick_floats(codes * code_dim, 1);
    sp_device_codec_plan plan = {};
    plan.layers = d.layers.data();
    plan.n_layers = d.layers.size();
    plan.groups = m.toy ? 4 : 32;
    plan.eps = 1e-6f;
    plan.rows = plan.columns = side;
    plan.code_dim = code_dim;
    plan.codes = table.data();
    plan.n_codes = codes;
    plan.latent_scale = 1;
    times t;
    SP_TRY(time_decoder(m, &plan, &t, err));
    char what[80], note[120];
    snprintf(what, sizeof what, "VQ-16 decode of %zu x %zu pixels, of the bf16 matrix rate", 16 * side, 16 * side);
    snprintf(note, sizeof note, "%.3f ms, %.3f Tflop", 1e-3 * t.device_us, 1e-12 * d.flop);
    sp_row(m, what, {">= 40 %", 40, true}, 100e-6 * d.flop / t.device_us / rate, "%", note);
    snprintf(what, sizeof what, "VQ-16 decode of %zu x %zu pixels, tokens to bytes on the host", 16 * side, 16 * side);
    sp_row(m, what, sp_no_goal, 1e-3 * t.host_us, "ms");
    return SP_OK;
}

int main(int argc, char **argv)
{
    sp_measure m = sp_measure_open("measure_codec", argc, argv);
    double rate = sp_rate_argument(m, 0, "Tflop/s of bf16 matrices");
    static const size_t sides[] = {16, 24, 48};
    for (size_t side : sides) {
        sp_error err = {};
        if (measure(m, m.toy ? 2 : side, rate, &err) != SP_OK) {
            sp_row_without("VQ-16 decode", err.message);
            return 1;
        }
        if (m.toy) break;
    }
    return 0;
}
