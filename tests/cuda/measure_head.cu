/* Denoising chains of a diffusion head of SphereAR-B's shape with random weights: all steps of a window's chains, with
 * guidance, in one launch. Rows of a table. */
#include "tests/cuda/measure.cuh"

#include "kernels/cuda/table.cuh"

struct head_shape {
    size_t dim, width, hidden, blocks, steps;
};

/* A plan and what it points to: pieces of one buffer. */
struct random_head {
    std::vector<float> numbers, ones;
    std::vector<sp_device_head_block> blocks;
    std::vector<sp_device_head_step> steps;
    sp_device_head_plan plan = {};

    sp_device_linear linear(size_t n, size_t k) { return {numbers.data(), numbers.data() + 1, n, k}; }
    explicit random_head(const head_shape &s)
    {
        size_t modulations = (3 * s.blocks + 2) * s.width;
        numbers = sp_quick_floats(std::max({modulations, 2 * s.hidden, s.steps}) * s.width + 1,
                                  0.5f / sqrtf(static_cast<float>(s.width)));
        ones.assign(s.width, 1.0f);
        for (size_t i = 0; i < s.blocks; i++)
            blocks.push_back({ones.data(), numbers.data(), linear(2 * s.hidden, s.width), linear(s.width, s.hidden)});
        float step = 1.0f / static_cast<float>(s.steps);
        for (size_t i = 0; i < s.steps; i++) steps.push_back({1.0f, step, 0.1f * step, 0.0f, 0.0f});
        plan.dim = plan.outputs = s.dim;
        plan.width = s.width;
        plan.hidden = s.hidden;
        plan.blocks = plan.groups = s.blocks;
        plan.steps = s.steps;
        plan.gated = true;
        plan.condition = linear(s.width, s.width);
        plan.modulation = linear(modulations, s.width);
        plan.input = linear(s.width, s.dim);
        plan.output = linear(s.dim, s.width);
        plan.block = blocks.data();
        plan.step = steps.data();
        plan.time = numbers.data();
    }
};

static sp_status measure(const sp_measure &m, const head_shape &s, size_t n, sp_error *err)
{
    random_head model(s);
    std::vector<float> features = sp_quick_floats(2 * n * s.width, 1), scale(n, 4.5f);
    std::vector<float> state(n * s.dim), mean(n * s.dim), deviation(n * s.dim);
    std::vector<int32_t> row;
    std::vector<uint32_t> position;
    for (uint32_t i = 0; i < n; i++) {
        row.push_back(static_cast<int32_t>(i));
        position.push_back(i);
    }
    sp_device_head_conditions conditions = {n, 2, features.data(), scale.data(), 1.0f};
    sp_device_chains chains = {};
    chains.n = n;
    chains.row = row.data();
    chains.position = position.data();
    chains.seed = 1;
    chains.purpose = SP_DRAW_CHAIN;
    chains.remember = true;
    chains.state = state.data();
    chains.mean = mean.data();
    chains.deviation = deviation.data();
    sp_device_head *head;
    sp_device_head_context *context = NULL;
    SP_TRY(sp_cuda_head_ops.open(&head, 0, &model.plan, err));
    sp_status status = sp_cuda_head_ops.context_open(&context, head, n, err);
    double us = sp_median_us(m, [&] {
        if (status == SP_OK) status = sp_cuda_head_ops.condition(context, &conditions, err);
        if (status == SP_OK) status = sp_cuda_head_ops.run(context, &chains, err);
    });
    if (context) sp_cuda_head_ops.context_close(context);
    sp_cuda_head_ops.close(head);
    SP_TRY(status);
    for (float x : state)
        if (!isfinite(x)) return SP_FAIL(err, SP_EBUG, "a chain ends in what is not a number");
    char what[120];
    snprintf(what, sizeof what, "chains of %zu tokens, %zu steps of SphereAR-B's head with guidance", n, s.steps);
    sp_row(m, what, sp_no_goal, 1e-3 * us, "ms");
    return SP_OK;
}

int main(int argc, char **argv)
{
    sp_measure m = sp_measure_open("measure_head", argc, argv);
    static const head_shape sphere = {16, 768, 1024, 6, 101}, toy = {4, 32, 48, 2, 3};
    static const size_t counts[] = {1, 16, 32, 64};
    for (size_t n : counts) {
        sp_error err = {};
        if (measure(m, m.toy ? toy : sphere, m.toy ? 3 : n, &err) != SP_OK) {
            sp_row_without("chains of SphereAR-B's head", err.message);
            return 1;
        }
        if (m.toy) break;
    }
    return 0;
}
