/* Diffusion heads on the device over the seam a program uses: laws of steps against kernels/ref, draws and couplings
 * bit for bit against the rules' own code, bits of a chain in any company.
 *
 * A head whose table of steps is cut after k of them leaves the state after k and the law of the last, so heads cut at
 * 1, 2, .. show a chain step by step. */
#include "acceptance/chain.h"
#include "model/head_device.h"
#include "model/head_weights.h"
#include "tests/cuda/nearness.h"

extern const sp_device_head_ops sp_cuda_head_ops;

/* With two streams ROWS are more than a block multiplies at once. CHAINS keep the emulator's time short. */
enum { STEPS = 3, ROWS = 33, CHAINS = 5, PASSES = 3, MAX_DIM = 9, CONDITION = 40, TIME = 32, FIRST = 30 };

typedef struct variant {
    const char *sampler;
    size_t dim, width, hidden, blocks, groups, n_streams;
    bool gated, shift_first;
    float terminal_noise, change; /* of conditions from pass to pass */
} variant;

/* Of real heads cut narrow, and odd ones. The third ends with a step that adds no noise. */
static const variant variants[] = {
    {"velocity", 6, 64, 96, 2, 1, 2, true, false, 0.1f, 0.02f},
    {"noise", 9, 40, 72, 2, 2, 2, false, true, 0.2f, 0.00003f},
    {"velocity", 4, 33, 20, 1, 1, 1, true, true, 0, 0.02f},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants };

static checkpoint make(const variant *v)
{
    checkpoint c = {0};
    char name[64];
    add_linear(&c, "head.time.0", v->width, TIME);
    add_linear(&c, "head.time.2", v->width, v->width);
    add_linear(&c, "head.condition", v->width, CONDITION);
    add_linear(&c, "head.input", v->width, v->dim);
    add_linear(&c, "head.final.modulation", 2 * v->width, v->width);
    add_linear(&c, "head.final.output", strcmp(v->sampler, "noise") ? v->dim : 2 * v->dim, v->width);
    for (size_t i = 0; i < v->groups; i++) {
        snprintf(name, sizeof name, "head.modulation.%zu", i);
        add_linear(&c, name, 3 * v->width, v->width);
    }
    for (size_t i = 0; i < v->blocks; i++) {
        snprintf(name, sizeof name, "head.blocks.%zu.up", i);
        add_linear(&c, name, (v->gated ? 2 : 1) * v->hidden, v->width);
        snprintf(name, sizeof name, "head.blocks.%zu.down", i);
        add_linear(&c, name, v->width, v->hidden);
        add_tensor(&c, SP_SHAPE1(v->width), "head.blocks.%zu.norm.weight", i);
        add_tensor(&c, SP_SHAPE1(v->width), "head.blocks.%zu.norm.bias", i);
    }
    open_checkpoint(&c, NULL);
    for (size_t i = 0; i < c.total; i++) c.data[i] = sp_f32_to_bf16(0.25f * sp_test_value(1, i));
    return c;
}

static sp_head_config config_of(const variant *v)
{
    return (sp_head_config){.dim = v->dim, .condition = CONDITION, .width = v->width, .blocks = v->blocks,
                            .groups = v->groups, .hidden = v->hidden, .time_width = TIME, .gated = v->gated,
                            .shift_first = v->shift_first, .sampler = sp_sampler_find(v->sampler),
                            .chain = {.steps = STEPS, .stop = 0.96f, .terminal_noise = v->terminal_noise}};
}

typedef struct reference {
    sp_head *head;
    sp_head_context *context;
    sp_pool *pool;
} reference;

static reference open_reference(const variant *v, const checkpoint *c, bool bf16)
{
    reference r;
    sp_head_config config = config_of(v);
    SP_TEST_OK(sp_pool_open(&r.pool, 1, err));
    SP_TEST_OK(sp_head_open(&r.head, &config, sp_family_find("specular"), c->tensors, sp_ops_find("ref"), bf16, err));
    SP_TEST_OK(sp_head_context_open(&r.context, r.head, r.pool, ROWS, err));
    return r;
}

static void close_reference(reference r)
{
    sp_head_context_close(r.context);
    sp_head_close(r.head);
    sp_pool_close(r.pool);
}

/* Conditions of rows first .. first + n - 1 in a pass. */
typedef struct conditions {
    float features[2 * ROWS * CONDITION], scale[ROWS];
    size_t n;
} conditions;

static conditions conditions_of(const variant *v, size_t first, size_t n, uint32_t pass)
{
    conditions c = {.n = n};
    for (size_t s = 0; s < v->n_streams; s++)
        for (size_t j = 0; j < n; j++)
            for (size_t i = 0; i < CONDITION; i++) {
                size_t at = ((first + j) * 2 + s) * CONDITION + i;
                c.features[(s * n + j) * CONDITION + i] =
                    sp_test_value(2, at) + v->change * (float)pass * sp_test_value(3 + pass, at);
            }
    for (size_t j = 0; j < n; j++) c.scale[j] = 1 + 0.1f * (float)(first + j);
    return c;
}

typedef struct laws {
    float state[ROWS * MAX_DIM], mean[ROWS * MAX_DIM], deviation[ROWS * MAX_DIM];
} laws;

static laws step(const reference *r, const variant *v, const conditions *c, size_t k, const float *state)
{
    laws out;
    int32_t row[ROWS];
    for (size_t j = 0; j < c->n; j++) row[j] = (int32_t)j;
    sp_head_condition(r->context, &(sp_head_conditions){.n = c->n, .n_streams = v->n_streams, .features = c->features,
                                                        .scale = c->scale, .temperature = 0.9f});
    sp_head_step(r->context, &(sp_chain_rows){.n = c->n, .row = row, .k = k, .state = state, .mean = out.mean,
                                              .deviation = out.deviation});
    return out;
}

static sp_device_head *open_device(const reference *r, size_t steps)
{
    sp_head_device_plan plan;
    sp_device_head *head;
    SP_TEST_OK(sp_head_device_plan_make(&plan, r->head, err));
    plan.plan.steps = steps;
    SP_TEST_OK(sp_cuda_head_ops.open(&head, 0, &plan.plan, err));
    sp_head_device_plan_free(&plan);
    assert_true(sp_cuda_head_ops.bytes(head) > 0);
    return head;
}

static sp_device_head_context *open_context(const sp_device_head *head)
{
    sp_device_head_context *context;
    SP_TEST_OK(sp_cuda_head_ops.context_open(&context, head, ROWS, err));
    assert_true(sp_cuda_head_ops.context_bytes(context) > 0);
    return context;
}

/* Chains of all conditions; those of pass 0 run by themselves, later ones coupled but for the last two. */
static laws run(sp_device_head_context *context, const variant *v, const conditions *c, size_t first, uint32_t pass)
{
    laws out;
    int32_t row[ROWS];
    uint32_t position[ROWS];
    size_t coupled = pass == 0 || c->n < 2 ? 0 : c->n - 2;
    memset(&out, 0xFF, sizeof out);
    for (size_t j = 0; j < c->n; j++) {
        row[j] = (int32_t)j;
        position[j] = (uint32_t)(FIRST + first + j);
    }
    SP_TEST_OK(sp_cuda_head_ops.condition(
        context, &(sp_device_head_conditions){c->n, v->n_streams, c->features, c->scale, 0.9f}, err));
    sp_device_chains chains = {.n = c->n, .row = row, .position = position, .seed = 99, .image = 3, .pass = pass,
                               .purpose = SP_DRAW_CHAIN, .remember = true, .n_coupled = coupled, .state = out.state,
                               .mean = out.mean, .deviation = out.deviation};
    SP_TEST_OK(sp_cuda_head_ops.run(context, &chains, err));
    return out;
}

static sp_chain_draw draw_of(size_t row, uint32_t pass)
{
    return (sp_chain_draw){99, 3, (uint32_t)(FIRST + row), pass};
}

static void check_law(const reference *exact, const reference *rounded, const variant *v, const conditions *c,
                      size_t k, const float *state, const laws *found)
{
    laws a = step(exact, v, c, k, state), b = step(rounded, v, c, k, state);
    near_reference("mean", c->n * v->dim, found->mean, a.mean, b.mean);
    near_reference("deviation", c->n * v->dim, found->deviation, a.deviation, b.deviation);
}

/* The paths of the rows as the rules' code keeps them: [STEPS][CHAINS * dim] each. */
typedef struct paths {
    float state[STEPS][CHAINS * MAX_DIM], mean[STEPS][CHAINS * MAX_DIM], deviation[STEPS][CHAINS * MAX_DIM];
    float noise[STEPS][CHAINS * MAX_DIM];
} paths;

/* Moves the paths of step k on under the laws of a pass, and counts those that end where they did. */
static void move(const variant *v, size_t k, uint32_t pass, const laws *law, paths *p, size_t *met)
{
    const sp_chain_ops *mirror = sp_chain_find("mirror");
    for (size_t j = 0; j < CHAINS; j++) {
        size_t at = j * v->dim;
        sp_chain_draw draw = draw_of(j, pass);
        sp_chain_path path = {p->state[k] + at, p->mean[k] + at, p->deviation[k] + at, p->noise[k] + at};
        float before[MAX_DIM];
        memcpy(before, path.state, v->dim * sizeof *before);
        if (pass > 0 && j + 2 < CHAINS) {
            mirror->couple(&draw, k, v->dim, law->mean + at, law->deviation + at, &path);
            *met += memcmp(before, path.state, v->dim * sizeof *before) == 0;
            continue;
        }
        sp_chain_noise(&draw, SP_DRAW_CHAIN, k + 1, v->dim, path.noise);
        memcpy(path.mean, law->mean + at, v->dim * sizeof *path.mean);
        memcpy(path.deviation, law->deviation + at, v->dim * sizeof *path.deviation);
        for (size_t i = 0; i < v->dim; i++)
            path.state[i] = sp_chain_move(path.mean[i], path.deviation[i], path.noise[i]);
    }
}

/* The laws of a pass step by step, from the states that whole chains went through: of all rows, then of some in another
 * order. */
static void check_steps(const reference *r, const variant *v, uint32_t pass, laws found[STEPS][PASSES])
{
    static const int32_t rows[2][CHAINS] = {{0, 1, 2, 3, 4}, {3, 1}};
    sp_device_head *head = open_device(r, STEPS);
    sp_device_head_context *context = open_context(head);
    conditions cond = conditions_of(v, 0, CHAINS, pass);
    SP_TEST_OK(sp_cuda_head_ops.condition(
        context, &(sp_device_head_conditions){CHAINS, v->n_streams, cond.features, cond.scale, 0.9f}, err));
    for (size_t k = 0; k < STEPS; k++)
        for (size_t some = 0; some < 2; some++) {
            size_t n = some ? 2 : CHAINS, dim = v->dim, size = dim * sizeof(float);
            laws of;
            memset(&of, 0xFF, sizeof of);
            for (size_t j = 0; j < n; j++) {
                sp_chain_draw draw = draw_of((size_t)rows[some][j], pass);
                if (k == 0) sp_chain_noise(&draw, SP_DRAW_CHAIN, 0, dim, of.state + j * dim);
                else memcpy(of.state + j * dim, found[k - 1][pass].state + (size_t)rows[some][j] * dim, size);
            }
            sp_device_chain_step step = {n, rows[some], k, of.state, of.mean, of.deviation};
            SP_TEST_OK(sp_cuda_head_ops.step(context, &step, err));
            for (size_t j = 0; j < n; j++) {
                size_t from = (size_t)rows[some][j] * dim;
                assert_memory_equal(of.mean + j * dim, found[k][pass].mean + from, size);
                assert_memory_equal(of.deviation + j * dim, found[k][pass].deviation + from, size);
            }
        }
    sp_cuda_head_ops.context_close(context);
    sp_cuda_head_ops.close(head);
}

static void check_chains(const variant *v)
{
    checkpoint c = make(v);
    reference exact = open_reference(v, &c, false), rounded = open_reference(v, &c, true);
    static laws found[STEPS][PASSES];
    static paths p;
    size_t met = 0;
    for (size_t k = 0; k < STEPS; k++) {
        sp_device_head *head = open_device(&rounded, k + 1);
        sp_device_head_context *context = open_context(head);
        for (uint32_t pass = 0; pass < PASSES; pass++) {
            conditions cond = conditions_of(v, 0, CHAINS, pass);
            found[k][pass] = run(context, v, &cond, 0, pass);
        }
        sp_cuda_head_ops.context_close(context);
        sp_cuda_head_ops.close(head);
    }
    for (uint32_t pass = 0; pass < PASSES; pass++) {
        conditions cond = conditions_of(v, 0, CHAINS, pass);
        float state[CHAINS * MAX_DIM];
        for (size_t j = 0; j < CHAINS; j++) {
            sp_chain_draw draw = draw_of(j, pass);
            sp_chain_noise(&draw, SP_DRAW_CHAIN, 0, v->dim, state + j * v->dim);
        }
        for (size_t k = 0; k < STEPS; k++) {
            check_law(&exact, &rounded, v, &cond, k, state, &found[k][pass]);
            move(v, k, pass, &found[k][pass], &p, &met);
            memcpy(state, found[k][pass].state, sizeof state);
            assert_memory_equal(state, p.state[k], CHAINS * v->dim * sizeof *state);
        }
    }
    check_steps(&rounded, v, PASSES - 1, found);
    /* Otherwise one of the two ways out of a coupling was not looked at. */
    assert_in_range(met, 1, (PASSES - 1) * STEPS * (CHAINS - 2) - 1);
    close_reference(exact);
    close_reference(rounded);
    free_checkpoint(&c);
}

static void laws_draws_and_couplings(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_VARIANTS; i++) check_chains(&variants[i]);
}

/* A chain has the same bits alone as among others, and anywhere among the conditions; contexts of a head share its
 * weights and nothing else. */
static void company_does_not_show(void **state)
{
    (void)state;
    const variant *v = &variants[0];
    checkpoint c = make(v);
    reference r = open_reference(v, &c, true);
    sp_device_head *head = open_device(&r, 1);
    sp_device_head_context *one = open_context(head), *other = open_context(head);
    static const size_t runs[][2] = {{0, 1}, {ROWS - 1, 1}, {3, 4}, {8, 17}};
    conditions all = conditions_of(v, 0, ROWS, 0);
    laws together = run(one, v, &all, 0, 0);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        size_t first = runs[i][0], n = runs[i][1], at = first * v->dim;
        conditions some = conditions_of(v, first, n, 0);
        for (size_t j = 0; j < n; j++) some.scale[j] = all.scale[first + j];
        laws alone = run(other, v, &some, first, 0);
        assert_memory_equal(alone.state, together.state + at, n * v->dim * sizeof *alone.state);
        assert_memory_equal(alone.mean, together.mean + at, n * v->dim * sizeof *alone.mean);
    }
    sp_cuda_head_ops.context_close(one);
    sp_cuda_head_ops.context_close(other);
    sp_cuda_head_ops.close(head);
    close_reference(r);
    free_checkpoint(&c);
}

/* One line for what does not fit. */
static void refuses(void **state)
{
    (void)state;
    checkpoint c = make(&variants[0]);
    reference r = open_reference(&variants[0], &c, true);
    sp_head_device_plan plan;
    sp_device_head *head;
    sp_error error = {0};
    SP_TEST_OK(sp_head_device_plan_make(&plan, r.head, err));
    plan.plan.dim = SP_MAX_LATENT + 1;
    assert_int_equal(sp_cuda_head_ops.open(&head, 0, &plan.plan, &error), SP_EUNSUPPORTED);
    assert_null(head);
    assert_non_null(strstr(error.message, "257"));
    sp_head_device_plan_free(&plan);
    head = open_device(&r, STEPS);
    sp_device_head_context *context = open_context(head);
    static const sp_device_chain_step steps[] = {{.n = 0}, {.n = ROWS + 1}, {.n = 1, .k = STEPS}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        assert_int_equal(sp_cuda_head_ops.step(context, &steps[i], NULL), SP_EBUG);
    sp_cuda_head_ops.context_close(context);
    sp_cuda_head_ops.close(head);
    close_reference(r);
    free_checkpoint(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(laws_draws_and_couplings),
        cmocka_unit_test(company_does_not_show),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
