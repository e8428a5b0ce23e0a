/* The chain decode loop: the same bits whatever the threads and whatever was decoded before, the invariants of its
 * passes, no allocation, and what it refuses. */
#include "loop_trials.h"

#include "base/arena.h"

/* The target steps in the pool; n_threads of 0 is without one. */
typedef struct bench {
    toy m, q;
    sp_latent_model model, drafter;
    sp_chain_decoder *decoder;
    sp_pool *pool;
} bench;

static void bench_open(bench *b, int n_threads, size_t max_window)
{
    *b = (bench){.m = toy_sequence(false), .q = toy_sequence(false)};
    b->q.offset = 0.03;
    b->model = toy_model(&b->m);
    b->drafter = toy_model(&b->q);
    if (n_threads > 0) SP_TEST_OK(sp_pool_open(&b->pool, n_threads, err));
    SP_TEST_OK(sp_chain_decoder_open(&b->decoder, &b->model, &b->drafter, b->pool, max_window, err));
}

static void bench_close(bench *b)
{
    sp_chain_decoder_close(b->decoder);
    sp_pool_close(b->pool);
}

static void bench_run(bench *b, const trial *t, uint64_t seed, uint32_t image)
{
    sp_chain_plan plan = trial_plan(t, t->rule->needs_drafter ? &b->drafter : NULL, seed);
    plan.image = image;
    SP_TEST_OK(sp_chain_decode(b->decoder, &b->model, &plan, err));
}

static size_t latents_size(const bench *b) { return b->m.n_positions * b->m.dim * sizeof(float); }

/* Threads, whether they share steps, the room for windows and the pictures before do not change a bit; the seed and the
 * picture do. */
static void the_same_bits(void **state)
{
    (void)state;
    const struct {
        int threads;
        size_t max_window, rows_apart;
    } others[] = {{1, TOY_WINDOW, 0}, {2, TOY_WINDOW, 0}, {3, TOY_WINDOW, 0}, {2, 12, 0}, {3, TOY_WINDOW, 100}};
    for (size_t i = 0; i < TRIALS; i++) {
        bench first;
        bench_open(&first, 0, TOY_WINDOW);
        bench_run(&first, &trials[i], 42, 3);
        for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
            bench b;
            bench_open(&b, others[k].threads, others[k].max_window);
            b.model.rows_apart = b.drafter.rows_apart = others[k].rows_apart;
            for (uint32_t before = 0; before < 3; before++) bench_run(&b, &trials[(i + before) % TRIALS], 40, before);
            bench_run(&b, &trials[i], 42, 3);
            assert_memory_equal(b.decoder->latents, first.decoder->latents, latents_size(&b));
            assert_int_equal(b.decoder->passes, first.decoder->passes);
            int busy = 0;
            for (int t = 0; t < 8; t++) busy += b.m.threads[t] > 0;
            if (trials[i].window == 12) assert_int_equal(busy, others[k].rows_apart > 0 ? 1 : others[k].threads);
            bench_run(&b, &trials[i], 43, 3);
            assert_memory_not_equal(b.decoder->latents, first.decoder->latents, latents_size(&b));
            bench_run(&b, &trials[i], 42, 4);
            assert_memory_not_equal(b.decoder->latents, first.decoder->latents, latents_size(&b));
            bench_close(&b);
        }
        assert_true(first.m.most <= TOY_WINDOW);
        bench_close(&first);
    }
}

/* What a model lacks is fed in windows that it can take. */
static void windows_of_what_is_missing(void **state)
{
    (void)state;
    bench wide, narrow;
    bench_open(&wide, 0, TOY_WINDOW);
    bench_open(&narrow, 0, 4);
    for (uint64_t seed = 0; seed < 10; seed++)
        for (size_t i = 4; i < 6; i++) {
            bench_run(&wide, &trials[i], seed, 0);
            bench_run(&narrow, &trials[i], seed, 0);
            assert_memory_equal(wide.decoder->latents, narrow.decoder->latents, latents_size(&wide));
            assert_true(narrow.m.most <= 4 && narrow.q.most <= 4);
        }
    assert_true(wide.q.most > 4);
    bench_close(&wide);
    bench_close(&narrow);
}

/* Tokens of ar by the definition of a chain and of its draws. */
static void plain_chains_have_the_noise_of_their_position(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, 0, TOY_WINDOW);
    bench_run(&b, &trials[0], 19, 5);
    const float *latents = b.decoder->latents;
    for (uint32_t position = 0; position < 12; position++) {
        float y[2], noise[2], mean[2], deviation[2];
        int32_t row = 0;
        SP_TEST_OK(b.model.ops->condition(b.model.state, position, 1, latents + 2 * position - 2, err));
        sp_normals(19, 5, position, SP_DRAW_CHAIN, 0, 2, y);
        for (uint32_t k = 0; k < b.m.n_steps; k++) {
            sp_chain_rows rows = {.n = 1, .row = &row, .k = k, .state = y, .mean = mean, .deviation = deviation};
            SP_TEST_OK(b.model.ops->step(b.model.state, &rows, err));
            sp_normals(19, 5, position, SP_DRAW_CHAIN, 64 * (k + 1), 2, noise);
            for (size_t j = 0; j < 2; j++)
                y[j] = (float)((double)mean[j] + (double)deviation[j] * (double)noise[j]);
        }
        b.model.ops->project(b.model.state, 1, y, y);
        /* The compiler may have put in other bits for the toy's exponentials here. */
        for (size_t j = 0; j < 2; j++) assert_float_equal(y[j], latents[2 * position + j], 1e-5f);
    }
    bench_close(&b);
}

/* Refuses a path in its last step, and puts fifty there. */
static size_t refuses_the_end(const sp_chain_draw *draw, size_t n_steps, size_t dim, const float *means,
                              const sp_chain_path *path)
{
    (void)draw, (void)means;
    for (size_t j = 0; j < dim; j++) path->state[(n_steps - 1) * dim + j] = 50;
    return n_steps - 1;
}

/* Refuses it one step before, and leaves no noise for the last. */
static size_t refuses_before_the_end(const sp_chain_draw *draw, size_t n_steps, size_t dim, const float *means,
                                     const sp_chain_path *path)
{
    (void)draw, (void)means;
    for (size_t j = 0; j < dim; j++) {
        path->state[(n_steps - 2) * dim + j] = 50;
        path->noise[(n_steps - 1) * dim + j] = 0;
    }
    return n_steps - 2;
}

/* What the front test leaves is where the chain goes on. The last step of the toy goes from any state to the token that
 * it takes it for: from a far one, to one on its side. */
static void chains_go_on_from_the_front(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, 0, TOY_WINDOW);
    sp_chain_ops rule = sp_chain_mirror;
    const trial t = {"", &rule, 4, {.path_front = true}};
    rule.front = refuses_the_end;
    bench_run(&b, &t, 3, 0);
    for (size_t i = 1; i < 12; i++) assert_true(b.decoder->latents[2 * i] == 62.5f);
    assert_int_equal(b.decoder->passes, 12);
    rule.front = refuses_before_the_end;
    bench_run(&b, &t, 3, 0);
    toy_condition c = b.m.row[0];
    double mean[TOY_DIM], deviation;
    const float far[2] = {50, 50};
    toy_law(&b.m, &c, b.m.n_steps - 1, far, mean, &deviation);
    assert_float_equal(b.decoder->latents[22], 1.25f * (float)mean[0], 1e-4f);
    assert_float_equal(b.decoder->latents[23], 1.25f * (float)mean[1], 1e-4f);
    bench_close(&b);
}

/* mirror in windows of one is ar; so is cspd when the target draws everything. */
static void windows_of_one_are_plain_decoding(void **state)
{
    (void)state;
    const trial same[] = {{"mirror 1", &sp_chain_mirror, 1},
                          {"mirror 1, path front", &sp_chain_mirror, 1, {.path_front = true}},
                          {"cspd, all prefilled", &sp_chain_cspd, 1, {.gamma = 3, .align = true, .prefill = 1}}};
    bench plain, other;
    bench_open(&plain, 0, TOY_WINDOW);
    bench_open(&other, 0, TOY_WINDOW);
    for (uint64_t seed = 0; seed < 20; seed++) {
        bench_run(&plain, &trials[0], seed, 0);
        for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
            bench_run(&other, &same[i], seed, 0);
            assert_memory_equal(other.decoder->latents, plain.decoder->latents, latents_size(&plain));
            assert_int_equal(other.decoder->passes, 12);
        }
        /* The first chains of the first window have the same noise, and its first condition is right. */
        bench_run(&other, &trials[2], seed, 0);
        assert_memory_equal(other.decoder->latents, plain.decoder->latents, plain.m.dim * sizeof(float));
    }
    bench_close(&plain);
    bench_close(&other);
}

static void passes_add_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRIALS; i++) {
        bench b;
        bench_open(&b, 0, TOY_WINDOW);
        for (uint64_t seed = 0; seed < 50; seed++) {
            bench_run(&b, &trials[i], seed, 1);
            const sp_chain_decoder *d = b.decoder;
            size_t tokens = 0, passes = 0;
            for (size_t n = 0; n <= TOY_WINDOW; n++) {
                tokens += n * d->histogram[n];
                passes += d->histogram[n];
            }
            assert_int_equal(tokens, 12);
            assert_int_equal(passes, d->passes);
            assert_int_equal(d->pass_of_token[0], 1);
            assert_int_equal(d->pass_of_token[11], d->passes);
            for (size_t p = 1; p < 12; p++) assert_true(d->pass_of_token[p] >= d->pass_of_token[p - 1]);
            if (trials[i].rule->exactness != SP_RELAXED) assert_int_equal(d->passes + d->accepted, 12);
            assert_true(d->accepted <= d->drafted);
            assert_int_equal(d->draft_passes, trials[i].rule->needs_drafter ? d->drafted : 0);
            assert_true(d->condition_ms > 0 && d->chain_ms > 0 && d->decode_ms >= d->condition_ms);
        }
        bench_close(&b);
    }
}

/* Conditions that do not move, and a drafter that is the target: every draft stays. */
static void equal_laws_accept_everything(void **state)
{
    (void)state;
    const struct {
        trial t;
        size_t passes;
    } cases[] = {
        /* A window of new positions commits one token, the next, over their drafts, all: 1 4 1 4 1 1 and 1 11. */
        {{"mirror 4", &sp_chain_mirror, 4}, 6},
        {{"mirror 12", &sp_chain_mirror, 12}, 2},
        {{"mirror 12, path front", &sp_chain_mirror, 12, {.path_front = true}}, 2},
        {{"cspd 3", &sp_chain_cspd, 1, {.gamma = 3, .align = true}}, 3},
        {{"cspd-released 3", &sp_chain_cspd_released, 1, {.gamma = 3, .align = true}}, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench b;
        bench_open(&b, 0, TOY_WINDOW);
        b.q = b.m;
        if (!cases[i].t.rule->needs_drafter) b.m.pull = 0;
        for (uint64_t seed = 0; seed < 20; seed++) {
            bench_run(&b, &cases[i].t, seed, 0);
            assert_int_equal(b.decoder->passes, cases[i].passes);
        }
        bench_close(&b);
    }
}

/* Without roll-back tokens change behind rows that were fed: the next pass feeds them again, and models see what is
 * final, as the toy's history shows. */
static void models_have_been_fed_what_is_final(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRIALS; i++) {
        bench b;
        bench_open(&b, 0, TOY_WINDOW);
        for (uint64_t seed = 0; seed < 20; seed++) {
            bench_run(&b, &trials[i], seed, 0);
            size_t last = (size_t)b.decoder->histogram[0], fed = 11;
            for (size_t n = 1; n <= TOY_WINDOW; n++)
                if (b.decoder->pass_of_token[11] == b.decoder->pass_of_token[12 - (n < 12 ? n : 12)]) last = n;
            fed = 12 - (last < 12 ? last : 12);
            for (size_t p = 0; p < fed; p++)
                for (size_t j = 0; j < 2; j++) {
                    float token = b.decoder->latents[2 * p + j], drafters = b.q.history[p][j];
                    assert_true(b.m.history[p][j] == token);
                    if (trials[i].rule->needs_drafter) assert_true(drafters == token || isnan(drafters));
                }
        }
        bench_close(&b);
    }
}

static void *no_memory(size_t bytes)
{
    (void)bytes;
    return NULL;
}

static void no_allocation_in_the_loop(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, 0, TOY_WINDOW);
    sp_alloc_hook(no_memory);
    for (size_t i = 0; i < TRIALS; i++) bench_run(&b, &trials[i], i, 0);
    sp_chain_decoder *none = NULL;
    sp_error err = {0};
    assert_int_equal(sp_chain_decoder_open(&none, &b.model, NULL, NULL, 4, &err), SP_ENOMEM);
    assert_null(none);
    sp_alloc_hook(NULL);
    assert_true(sp_chain_decoder_bytes(b.decoder) > TOY_WINDOW * 12 * 2 * sizeof(float) * 5);
    bench_close(&b);
}

static void refuses(bench *b, const trial *t, sp_status status, const char *what)
{
    sp_error err = {0};
    sp_chain_plan plan = trial_plan(t, t->rule->needs_drafter ? &b->drafter : NULL, 1);
    assert_int_equal(sp_chain_decode(b->decoder, &b->model, &plan, &err), status);
    if (!strstr(err.message, what)) fail_msg("'%s' does not name %s", err.message, what);
    assert_null(strchr(err.message, '\n'));
}

/* A number that is not finite ends the picture with its token's name, in whichever model and row it turns up. */
static void chains_that_are_not_finite(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRIALS; i++) {
        bench b;
        bench_open(&b, 2, TOY_WINDOW);
        b.m.poison = 7 + 1;
        refuses(&b, &trials[i], SP_EFORMAT, "token 7");
        b.m.poison = 0;
        b.q.poison = 8 + 1;
        if (trials[i].rule->needs_drafter) refuses(&b, &trials[i], SP_EFORMAT, "token 8");
        b.q.poison = 0;
        bench_run(&b, &trials[i], 1, 0);
        bench_close(&b);
    }
}

static void settings_out_of_range(void **state)
{
    (void)state;
    const struct {
        trial t;
        const char *what;
    } cases[] = {
        {{"", &sp_chain_cspd, 1, {.gamma = 0}}, "gamma 0"},
        {{"", &sp_chain_cspd, 1, {.gamma = TOY_WINDOW}}, "gamma 24"},
        {{"", &sp_chain_cspd_released, 1, {.gamma = TOY_WINDOW + 1}}, "gamma 25"},
        {{"", &sp_chain_cspd, 1, {.gamma = 2, .prefill = 1.5f}}, "prefill 1.5"},
        {{"", &sp_chain_cspd, 1, {.gamma = 2, .prefill = NAN}}, "prefill nan"},
        {{"", &sp_chain_cspd_released, 1, {.gamma = 2, .tolerance = -1}}, "tolerance -1"},
        {{"", &sp_chain_cspd_released, 1, {.gamma = 2, .tolerance = INFINITY}}, "tolerance inf"},
        {{"", &sp_chain_mirror, 4, .draft_init = "below"}, "draft-init 'below'"},
    };
    bench b;
    bench_open(&b, 0, TOY_WINDOW);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuses(&b, &cases[i].t, SP_EARG, cases[i].what);
    sp_chain_plan plan = trial_plan(&trials[4], NULL, 1);
    assert_int_equal(sp_chain_decode(b.decoder, &b.model, &plan, NULL), SP_EARG);
    plan = trial_plan(&trials[2], NULL, 1);
    plan.guidance.temperature = 0;
    sp_error err = {0};
    assert_int_equal(sp_chain_decode(b.decoder, &b.model, &plan, &err), SP_EARG);
    assert_non_null(strstr(err.message, "temperature 0"));
    /* Rules that compare need a last step with noise; the others do not. */
    b.model.degenerate = true;
    for (size_t i = 0; i < TRIALS; i++)
        if (trials[i].rule->compares) refuses(&b, &trials[i], SP_EARG, "no noise");
        else bench_run(&b, &trials[i], 1, 0);
    b.model.degenerate = false;
    b.drafter.degenerate = true;
    refuses(&b, &trials[4], SP_EARG, "no noise");
    b.drafter.degenerate = false;
    b.model.fixed_deviation = false;
    refuses(&b, &trials[3], SP_EARG, "front path");
    bench_close(&b);
}

static void models_of_other_sizes(void **state)
{
    (void)state;
    toy m = toy_sequence(false), q = m;
    sp_latent_model model = toy_model(&m), other = toy_model(&q), wide = model, slow = model;
    sp_chain_decoder *d = NULL;
    sp_error err = {0};
    other.dim = 3;
    assert_int_equal(sp_chain_decoder_open(&d, &model, &other, NULL, 4, &err), SP_EFORMAT);
    assert_non_null(strstr(err.message, "latents of 3 numbers"));
    other = model;
    other.n_steps++;
    assert_int_equal(sp_chain_decoder_open(&d, &model, &other, NULL, 4, NULL), SP_EFORMAT);
    wide.dim = 257;
    assert_int_equal(sp_chain_decoder_open(&d, &wide, NULL, NULL, 4, NULL), SP_EUNSUPPORTED);
    slow.n_steps = 1024;
    assert_int_equal(sp_chain_decoder_open(&d, &slow, NULL, NULL, 4, NULL), SP_EUNSUPPORTED);
    assert_int_equal(sp_chain_decoder_open(&d, &model, NULL, NULL, 0, NULL), SP_EARG);
    wide.dim = 2;
    wide.rows = SIZE_MAX / 2;
    assert_int_not_equal(sp_chain_decoder_open(&d, &wide, NULL, NULL, 4, NULL), SP_OK);
    assert_null(d);
}

/* Wherever a step fails, in whichever thread, the picture ends with what the step said. */
static void steps_that_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRIALS; i++)
        for (int threads = 0; threads <= 3; threads += 3) {
            bench b;
            bench_open(&b, threads, TOY_WINDOW);
            sp_chain_plan plan = trial_plan(&trials[i], trials[i].rule->needs_drafter ? &b.drafter : NULL, 3);
            sp_status status = SP_EDEVICE;
            long failures = -1;
            for (long calls = 1; status != SP_OK; calls += 1 + threads) {
                sp_error error = {0};
                b.m.lose = calls;
                status = sp_chain_decode(b.decoder, &b.model, &plan, &error);
                assert_true(status == SP_OK || status == SP_EDEVICE);
                assert_true((status == SP_OK) == (strstr(error.message, "is lost") == NULL));
                failures++;
            }
            assert_true(failures * (1 + threads) > (long)b.m.n_steps);
            bench_close(&b);
        }
}

static bool stops(void *user, const sp_progress *progress)
{
    *(size_t *)user = progress->tokens_done;
    return progress->passes < 2;
}

static void progress_can_stop_it(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, 0, TOY_WINDOW);
    size_t done = 0;
    sp_chain_plan plan = trial_plan(&trials[0], NULL, 1);
    plan.progress = stops;
    plan.user = &done;
    assert_int_equal(sp_chain_decode(b.decoder, &b.model, &plan, NULL), SP_ECANCELLED);
    assert_int_equal(done, 2);
    bench_close(&b);
}

static void rules_are_found_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < TRIALS; i++) assert_ptr_equal(sp_chain_find(trials[i].rule->name), trials[i].rule);
    assert_null(sp_chain_find("sjd"));
    size_t n = 0;
    for (const sp_chain_ops *const *rule = sp_chain_all(); *rule; rule++) n++;
    assert_int_equal(n, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_bits),
                                       cmocka_unit_test(windows_of_what_is_missing),
                                       cmocka_unit_test(steps_that_fail),
                                       cmocka_unit_test(plain_chains_have_the_noise_of_their_position),
                                       cmocka_unit_test(chains_go_on_from_the_front),
                                       cmocka_unit_test(windows_of_one_are_plain_decoding),
                                       cmocka_unit_test(passes_add_up),
                                       cmocka_unit_test(equal_laws_accept_everything),
                                       cmocka_unit_test(models_have_been_fed_what_is_final),
                                       cmocka_unit_test(no_allocation_in_the_loop),
                                       cmocka_unit_test(chains_that_are_not_finite),
                                       cmocka_unit_test(settings_out_of_range),
                                       cmocka_unit_test(models_of_other_sizes),
                                       cmocka_unit_test(progress_can_stop_it),
                                       cmocka_unit_test(rules_are_found_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
