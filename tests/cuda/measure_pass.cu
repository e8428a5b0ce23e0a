/* Passes of real models' shapes with random weights, through the decode loop that the program uses: what a plain pass
 * takes of the time in which memory could give its bytes, a pass over many positions against one, and the rule's own
 * part. Rows of a table.
 *
 *     measure_pass GB/S [MODEL ...]
 *
 * Matrices are pieces of one buffer of random numbers, so a model of 7 B is made in seconds. The gain of the last norm
 * makes laws narrow enough that few drafts pass, as with trained weights under guidance. */
#include <stdarg.h>

#include "tests/cuda/measure.cuh"

#include "kernels/cuda/table.cuh"

enum { WINDOW = 64, FIRST_ID = 3, WARM_UP = 2, WIDE_PASSES = 6 };

struct shape {
    const char *name;
    size_t dim, ffn, blocks, heads, head_dim, codes, head_hidden, prefix, positions;
    bool norm_of_heads, adjacent;
    sp_goal share, wide;
};

#define SHARE(percent) {">= " #percent " % of the floor", percent, true}
static const shape shapes[] = {
    {"Janus-Pro-7B", 4096, 11008, 30, 32, 128, 16384, 4096, 64, 576, false, false, SHARE(85), {"<= 1.20", 1.2, false}},
    {"Lumina-mGPT-7B", 4096, 11008, 32, 32, 128, 8192, 0, 64, 2352, true, false, SHARE(85), {"<= 1.20", 1.2, false}},
    {"LlamaGen-XL", 1280, 3584, 36, 20, 64, 16384, 0, 120, 576, false, true, SHARE(65), {NULL, 0, false}},
    {"Janus-Pro-1B", 2048, 5632, 24, 16, 128, 16384, 2048, 64, 576, false, false, SHARE(65), {NULL, 0, false}},
};
static const shape toy = {"a toy", 64, 96, 2, 2, 32, 80, 64, 5, 40, true, false, SHARE(85), {"<= 1.20", 1.2, false}};

/* A plan and what it points to. */
struct random_model {
    std::vector<uint16_t> pool;
    size_t taken = 0;
    std::vector<float> ones, gains, zeros, angles[2];
    std::vector<sp_device_block> blocks;
    sp_device_plan plan = {};
    double matrix_bytes = 0;

    /* Another piece each time, as far as the pool allows. */
    const uint16_t *piece(size_t count)
    {
        taken = (taken + 8191) % (pool.size() - count + 1);
        return pool.data() + taken;
    }
    sp_device_matrix matrix(size_t n, size_t k)
    {
        matrix_bytes += 2.0 * static_cast<double>(n) * static_cast<double>(k);
        return {piece(n * k), n, k};
    }
    explicit random_model(const shape &s);
};

random_model::random_model(const shape &s)
{
    size_t width = s.heads * s.head_dim, inputs = s.head_hidden ? s.head_hidden : s.dim;
    size_t largest = std::max({2 * s.ffn * s.dim, s.codes * std::max(s.dim, inputs), 3 * width * s.dim});
    size_t angles_of = (s.prefix + s.positions) * s.head_dim / 2;
    pool = sp_quick_bf16(largest + 65536, 1.7f / sqrtf(static_cast<float>(s.dim)));
    ones.assign(std::max({s.dim, width}), 1.0f);
    gains.assign(s.dim, 6.0f);
    zeros.assign(std::max({s.dim, width, s.codes, s.head_hidden}), 0.0f);
    for (size_t i = 0; i < angles_of; i++) {
        size_t pair = i % (s.head_dim / 2);
        double angle = static_cast<double>(i / (s.head_dim / 2)) *
                       pow(1e4, -2.0 * static_cast<double>(pair) / static_cast<double>(s.head_dim));
        angles[0].push_back(static_cast<float>(cos(angle)));
        angles[1].push_back(static_cast<float>(sin(angle)));
    }
    for (size_t i = 0; i < s.blocks; i++) {
        sp_device_block b = {};
        b.attention_norm = b.ffn_norm = ones.data();
        if (s.norm_of_heads) b.q_norm = b.k_norm = ones.data();
        if (s.norm_of_heads) b.q_norm_bias = b.k_norm_bias = zeros.data();
        b.qkv = matrix(3 * width, s.dim);
        b.o = matrix(s.dim, width);
        b.gate_up = matrix(2 * s.ffn, s.dim);
        b.down = matrix(s.dim, s.ffn);
        blocks.push_back(b);
    }
    plan.dim = s.dim;
    plan.n_blocks = s.blocks;
    plan.heads = plan.kv_heads = s.heads;
    plan.head_dim = s.head_dim;
    plan.ffn_dim = s.ffn;
    plan.n_codes = s.codes;
    plan.n_prefix = s.prefix;
    plan.n_positions = s.positions;
    plan.eps = 1e-5f;
    plan.layer_norm = s.norm_of_heads;
    plan.rope_adjacent = s.adjacent;
    plan.prefix_lines = 1;
    plan.codes = {piece(s.codes * s.dim), SP_BF16, s.codes};
    plan.prefix = {piece(16 * s.dim), SP_BF16, 16};
    plan.cosine = angles[0].data();
    plan.sine = angles[1].data();
    plan.blocks = blocks.data();
    plan.norm = gains.data();
    plan.head = matrix(s.codes, inputs);
    if (s.head_hidden) {
        plan.head_hidden = matrix(s.head_hidden, s.dim);
        plan.head_bias = plan.head_hidden_bias = zeros.data();
    }
}

/* ---- passes ---- */

struct timing {
    double us;       /* a pass, from one to the next */
    double model_us; /* of it the model's part, by the device's clock */
    double first;    /* position of the middle pass */
};

static sp_status wait_for(sp_device_loop loop, size_t pass, const sp_device_record **record, sp_error *err)
{
    *record = NULL;
    while (!*record) SP_TRY(loop.ops->poll(loop.state, 0, pass, record, err));
    if ((*record)->broken) return SP_FAIL(err, SP_EBUG, "pass %zu has scores that are not numbers", pass);
    return SP_OK;
}

/* count passes over so many rows, after a few that are not counted, at the start of a picture. */
static sp_status time_passes(sp_device_loop loop, const sp_device_picture *picture, size_t rows, size_t count,
                             timing *out, sp_error *err)
{
    const sp_device_record *record;
    double model_us = 0;
    SP_TRY(loop.ops->gather(loop.state, 1, err));
    SP_TRY(loop.ops->begin(loop.state, 0, picture, err));
    for (size_t i = 0; i < WARM_UP; i++) SP_TRY(loop.ops->pass(loop.state, rows, err));
    SP_TRY(wait_for(loop, WARM_UP - 1, &record, err));
    double start = sp_now_us();
    for (size_t i = 0; i < count; i++) SP_TRY(loop.ops->pass(loop.state, rows, err));
    SP_TRY(wait_for(loop, WARM_UP + count - 1, &record, err));
    out->us = (sp_now_us() - start) / static_cast<double>(count);
    for (size_t i = 0; i < count; i++) {
        SP_TRY(wait_for(loop, WARM_UP + i, &record, err));
        if (record->n_rows != static_cast<int32_t>(rows))
            return SP_FAIL(err, SP_EBUG, "pass %zu has %d rows of %zu: the picture was too short", i, record->n_rows,
                           rows);
        model_us += static_cast<double>(record->model_ns) * 1e-3;
        if (i == count / 2) out->first = record->first;
    }
    out->model_us = model_us / static_cast<double>(count);
    return loop.ops->finish(loop.state, 0, NULL, err);
}

static sp_status median_passes(const sp_measure &m, sp_device_loop loop, const sp_device_picture *picture, size_t rows,
                               size_t count, int repeats, timing *out, sp_error *err)
{
    std::vector<double> us, model_us;
    for (int i = 0; i < (m.toy ? 1 : repeats); i++) {
        SP_TRY(time_passes(loop, picture, rows, count, out, err));
        us.push_back(out->us);
        model_us.push_back(out->model_us);
    }
    out->us = sp_median(us);
    out->model_us = sp_median(model_us);
    return SP_OK;
}

static std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static std::string text(const char *format, ...)
{
    char out[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out, sizeof out, format, arguments);
    va_end(arguments);
    return out;
}

/* The share of a pass that is not the model's. */
static void rule_row(const sp_measure &m, const std::string &name, const char *which, timing t)
{
    sp_row(m, name + ": the rule's own part of " + which, {"<= 3 %", 3, false}, 100 * (1 - t.model_us / t.us), "%",
           text("%.1f of %.1f us", t.us - t.model_us, t.us));
}

/* A picture by ar with guidance; starts is kept. */
static sp_device_picture picture_of(const std::vector<int32_t> &starts)
{
    sp_device_picture picture = {};
    picture.rule = "ar";
    picture.seed = 1;
    picture.cfg_scale = 4.0f;
    picture.temperature = 1.0f;
    picture.top_p = 1.0f;
    picture.starts = starts.data();
    return picture;
}

static sp_status open_loop(const sp_device_model *model, sp_device_context **context, sp_device_loop *loop,
                           sp_error *err)
{
    const int32_t last[SP_DEVICE_STREAMS] = {FIRST_ID, FIRST_ID + 1};
    SP_TRY(sp_cuda_models.context_open(context, model, WINDOW, 0, 1, err));
    SP_TRY(sp_cuda_models.follow(*context, last, SP_DEVICE_STREAMS, err));
    *loop = sp_cuda_models.loop(*context);
    return SP_OK;
}

static size_t plain_passes(const sp_measure &m, const shape &s)
{
    return std::min(s.positions - WARM_UP, static_cast<size_t>(m.toy ? 8 : 512));
}

static sp_status measure(const sp_measure &m, const shape &s, double rate, const sp_device_model *on_device,
                         sp_device_context **context, const random_model &model, timing *plain, sp_error *err)
{
    std::vector<int32_t> starts(s.positions, -1);
    sp_device_picture picture = picture_of(starts);
    sp_device_loop loop;
    timing early, wide;
    size_t window = m.toy ? 4 : WINDOW, count = plain_passes(m, s);
    SP_TRY(open_loop(on_device, context, &loop, err));
    SP_TRY(median_passes(m, loop, &picture, 1, count, 3, plain, err));
    SP_TRY(median_passes(m, loop, &picture, 1, WIDE_PASSES, 15, &early, err));
    picture.rule = "pathwise";
    SP_TRY(median_passes(m, loop, &picture, window, WIDE_PASSES, 15, &wide, err));
    double keys = 4.0 * static_cast<double>(SP_DEVICE_STREAMS * s.heads * s.head_dim * s.blocks) *
                  (static_cast<double>(s.prefix) + plain->first);
    double bytes = model.matrix_bytes + keys, floor_us = 1e-3 * bytes / rate;
    std::string name = s.name;
    sp_row(m, name + ": plain pass with guidance, its bytes over the memory's rate", s.share,
           100 * floor_us / plain->us, "%", text("%.2f GB, %.2f ms at %.0f GB/s", 1e-9 * bytes, 1e-3 * floor_us, rate));
    sp_row(m, name + ": plain decoding", sp_no_goal, 1e-3 * plain->us, "ms a token",
           text("%zu tokens of a picture, median of 3", count));
    sp_row(m, name + text(": pass over %zu positions against one", window), s.wide, wide.us / early.us, "times",
           text("%.3f and %.3f ms", 1e-3 * wide.us, 1e-3 * early.us));
    rule_row(m, name, "a plain pass", *plain);
    rule_row(m, name, "a pass over many", wide);
    return SP_OK;
}

/* What it brings that a launch overlaps the one before. */
static sp_status measure_apart(const sp_measure &m, const shape &s, const sp_device_model *on_device,
                               sp_device_context **context, timing plain, sp_error *err)
{
    std::vector<int32_t> starts(s.positions, -1);
    sp_device_picture picture = picture_of(starts);
    sp_device_loop loop;
    timing apart;
    SP_TRY(open_loop(on_device, context, &loop, err));
    SP_TRY(median_passes(m, loop, &picture, 1, plain_passes(m, s), 1, &apart, err));
    sp_row(m, std::string(s.name) + ": plain decoding, launches that do not overlap", sp_no_goal,
           apart.us / plain.us, "times", text("%.3f and %.3f ms a token", 1e-3 * apart.us, 1e-3 * plain.us));
    return SP_OK;
}

static sp_status measure_model(const sp_measure &m, const shape &s, double rate, sp_error *err)
{
    random_model model(s);
    sp_device_model *on_device;
    sp_device_context *contexts[2] = {NULL, NULL};
    timing plain;
    SP_TRY(sp_cuda_models.open(&on_device, 0, &model.plan, err));
    sp_status status = measure(m, s, rate, on_device, &contexts[0], model, &plain, err);
    if (status == SP_OK) {
        sp_cuda_let_overlap(false); /* graphs are captured as they are to run */
        status = measure_apart(m, s, on_device, &contexts[1], plain, err);
        sp_cuda_let_overlap(true);
    }
    for (sp_device_context *context : contexts) sp_cuda_models.context_close(context);
    sp_cuda_models.close(on_device);
    return status;
}

int main(int argc, char **argv)
{
    sp_measure m = sp_measure_open("measure_pass", argc, argv);
    double rate = sp_rate_argument(m, 0, "GB/s of the device's memory");
    int failed = 0;
    std::vector<shape> wanted = {toy};
    if (!m.toy) wanted.assign(shapes, shapes + sizeof shapes / sizeof *shapes);
    for (const shape &s : wanted) {
        bool asked = m.toy || m.arguments.size() < 2;
        for (size_t i = 1; i < m.arguments.size(); i++) asked |= strcmp(m.arguments[i], s.name) == 0;
        sp_error err = {};
        if (!asked || measure_model(m, s, rate, &err) == SP_OK) continue;
        sp_row_without(s.name, err.message);
        failed = 1;
    }
    return failed;
}
