/* Chains of a model that runs them whole, as a device does: the loop draws the same bits with it as step by step, with
 * every rule, and goes by step where a device knows no form of the rule. The device here is the rules' own code. */
#include "loop_trials.h"

#include "base/arena.h"

typedef struct device_toy {
    toy m; /* first: the toy's functions take it for theirs */
    float path[4][TOY_WINDOW][16 * TOY_DIM];
    size_t calls;
} device_toy;

/* One chain from its start to its end. */
static void run_chain(device_toy *t, const sp_device_chains *c, size_t j)
{
    const toy *m = &t->m;
    size_t dim = m->dim, slot = c->position[j] % TOY_WINDOW;
    sp_chain_draw draw = {c->seed, c->image, c->position[j], c->pass};
    float *state = c->state + j * dim, *mean = c->mean + j * dim, *deviation = c->deviation + j * dim;
    sp_chain_noise(&draw, c->purpose, 0, dim, state);
    for (size_t k = 0; k < m->n_steps; k++) {
        sp_chain_path path = {t->path[0][slot] + k * dim, t->path[1][slot] + k * dim, t->path[2][slot] + k * dim,
                              t->path[3][slot] + k * dim};
        float noise[TOY_DIM];
        sp_chain_rows row = {.n = 1, .row = c->row + j, .k = k, .state = state, .mean = mean, .deviation = deviation};
        SP_TEST_OK(toy_run_step(&t->m, &row, err));
        if (j < c->n_coupled) {
            sp_chain_mirror.couple(&draw, k, dim, mean, deviation, &path);
            memcpy(state, path.state, dim * sizeof *state);
            continue;
        }
        sp_chain_noise(&draw, c->purpose, k + 1, dim, noise);
        for (size_t i = 0; i < dim; i++) state[i] = sp_chain_move(mean[i], deviation[i], noise[i]);
        if (!c->remember) continue;
        memcpy(path.state, state, dim * sizeof *state);
        memcpy(path.mean, mean, dim * sizeof *mean);
        memcpy(path.deviation, deviation, dim * sizeof *deviation);
        memcpy(path.noise, noise, dim * sizeof *noise);
    }
}

static sp_status run_chains(void *state, const sp_device_chains *c, sp_error *err)
{
    device_toy *t = state;
    (void)err;
    t->calls++;
    for (size_t j = 0; j < c->n; j++) run_chain(t, c, j);
    return SP_OK;
}

static sp_status lost(void *state, const sp_device_chains *c, sp_error *err)
{
    (void)state, (void)c;
    return SP_FAIL(err, SP_EDEVICE, "device: gone");
}

static sp_latent_model model_of(device_toy *t, sp_status (*chains)(void *, const sp_device_chains *, sp_error *))
{
    static sp_latent_model_ops ops;
    sp_latent_model model = toy_model(&t->m);
    ops = *model.ops;
    ops.chains = chains;
    model.ops = &ops;
    return model;
}

typedef struct drawn {
    float latents[TOY_POSITIONS * TOY_DIM];
    size_t passes, accepted, calls;
} drawn;

static drawn draw(const trial *t, bool learned, uint64_t seed, bool device)
{
    device_toy *m = calloc(2, sizeof *m);
    assert_non_null(m);
    m[0].m = m[1].m = toy_sequence(learned);
    m[1].m.offset = 0.03;
    sp_latent_model model = device ? model_of(&m[0], run_chains) : toy_model(&m[0].m);
    sp_latent_model drafter = device ? model_of(&m[1], run_chains) : toy_model(&m[1].m);
    sp_chain_decoder *d;
    SP_TEST_OK(sp_chain_decoder_open(&d, &model, &drafter, NULL, TOY_WINDOW, err));
    sp_chain_plan plan = trial_plan(t, t->rule->needs_drafter ? &drafter : NULL, seed);
    /* Twice: what the first picture leaves is not taken for drafts of the second. */
    SP_TEST_OK(sp_chain_decode(d, &model, &plan, err));
    m[0].calls = 0;
    SP_TEST_OK(sp_chain_decode(d, &model, &plan, err));
    drawn out = {.passes = d->passes, .accepted = d->accepted, .calls = m[0].calls};
    memcpy(out.latents, d->latents, m->m.n_positions * m->m.dim * sizeof(float));
    sp_chain_decoder_close(d);
    free(m);
    return out;
}

static void the_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRIALS; i++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            bool learned = seed % 2 && !trials[i].settings.path_front;
            drawn expected = draw(&trials[i], learned, seed, false), found = draw(&trials[i], learned, seed, true);
            assert_memory_equal(found.latents, expected.latents, sizeof found.latents);
            assert_int_equal(found.passes, expected.passes);
            assert_int_equal(found.accepted, expected.accepted);
            if (trials[i].settings.path_front) assert_int_equal(found.calls, 0);
            else assert_int_equal(found.calls, found.passes);
        }
}

/* A device is not asked to couple in a way that it does not know. */
static void other_couplings_go_by_step(void **state)
{
    (void)state;
    sp_chain_ops rule = sp_chain_mirror;
    const trial t = {"", &rule, 4};
    assert_true(draw(&t, false, 5, true).calls > 0);
    rule.reflects = false;
    assert_int_equal(draw(&t, false, 5, true).calls, 0);
}

static void a_lost_device_ends_the_picture(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        device_toy t = {.m = toy_sequence(false)};
        sp_latent_model model = model_of(&t, lost);
        sp_chain_decoder *d;
        sp_error error = {0};
        sp_chain_plan plan = trial_plan(&trials[i ? 4 : 1], &model, 1);
        SP_TEST_OK(sp_chain_decoder_open(&d, &model, &model, NULL, TOY_WINDOW, err));
        assert_int_equal(sp_chain_decode(d, &model, &plan, &error), SP_EDEVICE);
        sp_chain_decoder_close(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_bits),
                                       cmocka_unit_test(other_couplings_go_by_step),
                                       cmocka_unit_test(a_lost_device_ends_the_picture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
