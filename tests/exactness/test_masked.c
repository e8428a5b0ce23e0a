/* The masked decode loop on a toy whose conditions follow from every known token: its schedule, its order, and its
 * tokens bit for bit against the same law written down once more, for plain decoding and for drafts by a second
 * model. */
#include "acceptance/accept.h"
#include "base/arena.h"
#include "decode/chain_rows.h"
#include "decode/masked.h"
#include "support.h"

enum { ROWS = 3, COLUMNS = 4, POSITIONS = 12, DIM = 5, STEPS = 3 };

typedef struct toy {
    float pull; /* of a token towards the known ones: drafters differ */
    float temperature, cfg;
    float condition[POSITIONS][DIM];
    size_t passes;
    size_t poison; /* position + 1 whose means are NaN */
    bool lost;     /* steps fail */
    int32_t of_row[POSITIONS];
    bool whole;  /* chains are run whole, as a device does */
    size_t runs; /* of whole chains */
} toy;

/* Every known token counts, by its distance in raster order; guidance by its share. */
static void toy_condition(const toy *t, const bool *known, const float *latents, size_t position, float share,
                          float out[DIM])
{
    for (size_t d = 0; d < DIM; d++) {
        out[d] = 0.1f * (float)position + (t->cfg - 1) * share;
        for (size_t i = 0; i < POSITIONS; i++)
            if (known[i]) out[d] += t->pull * latents[i * DIM + d] / (1.0f + fabsf((float)i - (float)position));
    }
}

static void toy_step(const toy *t, size_t k, const float *state, const float *condition, float *mean, float *deviation)
{
    for (size_t d = 0; d < DIM; d++) {
        mean[d] = 0.5f * state[d] + 0.25f * condition[d] - 0.125f * (float)k;
        deviation[d] = k + 1 < STEPS ? 0.5f * t->temperature : 0;
    }
}

static sp_status begin(void *state, const sp_model_prompt *prompt, const sp_latent_guidance *guidance, sp_error *err)
{
    (void)prompt;
    (void)err;
    toy *t = state;
    t->cfg = guidance->cfg_scale;
    t->temperature = guidance->temperature;
    t->passes = 0;
    return SP_OK;
}

static sp_status condition(void *state, const sp_masked_pass *pass, sp_error *err)
{
    (void)err;
    toy *t = state;
    t->passes++;
    for (size_t j = 0; j < pass->n; j++) {
        assert_false(pass->known[pass->positions[j]]);
        t->of_row[j] = pass->positions[j];
        toy_condition(t, pass->known, pass->latents, (size_t)pass->positions[j], pass->share[j], t->condition[j]);
    }
    return SP_OK;
}

static sp_status step(void *state, const sp_chain_rows *rows, sp_error *err)
{
    const toy *t = state;
    if (t->lost) return SP_FAIL(err, SP_EDEVICE, "toy: lost");
    for (size_t i = 0; i < rows->n; i++) {
        float *mean = rows->mean + i * DIM;
        toy_step(t, rows->k, rows->state + i * DIM, t->condition[rows->row[i]], mean, rows->deviation + i * DIM);
        if (t->poison == (size_t)t->of_row[rows->row[i]] + 1) mean[DIM - 1] = NAN;
    }
    return SP_OK;
}

/* Chains from start to end by the rules' own code. */
static sp_status chains(void *state, const sp_device_chains *c, sp_error *err)
{
    toy *t = state;
    t->runs++;
    assert_true(!c->remember && c->n_coupled == 0);
    for (size_t j = 0; j < c->n; j++) {
        sp_chain_draw draw = {c->seed, c->image, c->position[j], c->pass};
        float *y = c->state + j * DIM, *mean = c->mean + j * DIM, *deviation = c->deviation + j * DIM;
        assert_int_equal(c->position[j], t->of_row[c->row[j]]);
        sp_chain_noise(&draw, c->purpose, 0, DIM, y);
        for (size_t k = 0; k < STEPS; k++) {
            sp_chain_rows row = {.n = 1, .row = c->row + j, .k = k, .state = y, .mean = mean, .deviation = deviation};
            SP_TRY(step(t, &row, err));
            sp_chain_own_step(&(sp_chain_own){&draw, c->purpose, DIM}, 0, k, mean, deviation, y);
        }
    }
    return SP_OK;
}

static sp_masked_model model_of(toy *t)
{
    static const sp_masked_model_ops steps = {begin, condition, step, NULL}, whole = {begin, condition, step, chains};
    return (sp_masked_model){.ops = t->whole ? &whole : &steps, .state = t, .dim = DIM, .n_steps = STEPS, .rows = ROWS,
                             .columns = COLUMNS};
}

/* What one decoding gave. */
typedef struct outcome {
    float latents[POSITIONS][DIM];
    int32_t pass_of_token[POSITIONS];
    size_t passes, draft_passes, drafted, accepted;
    sp_status status;
    sp_error error;
} outcome;

static sp_masked_plan plan_for(const char *method, size_t passes, uint32_t image)
{
    return (sp_masked_plan){.chain = {.rule = sp_chain_find(method), .guidance = {2.5f, 0.75f}, .seed = 7,
                                      .image = image, .settings = {.gamma = 2, .align = true, .tolerance = 0.5f}},
                            .passes = passes};
}

static outcome decode(sp_masked_plan plan, toy *target, toy *drafter, int threads)
{
    outcome out = {0};
    sp_pool *pool;
    sp_masked_decoder *decoder;
    sp_masked_model model = model_of(target), draft = {0};
    if (drafter) draft = model_of(drafter);
    plan.model = &model;
    plan.drafter = drafter ? &draft : NULL;
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    SP_TEST_OK(sp_masked_decoder_open(&decoder, &model, plan.drafter, pool, err));
    /* Chains run in parts of this many; with three threads passes of more than five take several. */
    if (threads == 3) decoder->chains->max_window = 5;
    out.status = sp_masked_decode(decoder, &plan, &out.error);
    const sp_chain_decoder *c = decoder->chains;
    memcpy(out.latents, c->latents, sizeof out.latents);
    memcpy(out.pass_of_token, c->pass_of_token, sizeof out.pass_of_token);
    out.passes = c->passes;
    out.draft_passes = c->draft_passes;
    out.drafted = c->drafted;
    out.accepted = c->accepted;
    sp_masked_decoder_close(decoder);
    sp_pool_close(pool);
    return out;
}

/* The token of a position drawn after `known`, as the toy's law has it. */
static void draw(const toy *t, const sp_masked_plan *p, const bool *known, const float *latents, int32_t position,
                 float share, float out[DIM])
{
    float c[DIM], mean[DIM], deviation[DIM], e[DIM];
    toy with = *t;
    with.cfg = p->chain.guidance.cfg_scale;
    with.temperature = p->chain.guidance.temperature;
    toy_condition(&with, known, latents, (size_t)position, share, c);
    sp_normals(p->chain.seed, p->chain.image, (uint32_t)position, SP_DRAW_CHAIN, 0, DIM, out);
    for (size_t k = 0; k < STEPS; k++) {
        toy_step(&with, k, out, c, mean, deviation);
        sp_normals(p->chain.seed, p->chain.image, (uint32_t)position, SP_DRAW_CHAIN, (uint32_t)(64 * (k + 1)), DIM, e);
        for (size_t d = 0; d < DIM; d++) out[d] = (float)((double)mean[d] + (double)deviation[d] * (double)e[d]);
    }
}

/* Bounds of the passes in the order: pass k draws order[bound[k + 1]] .. order[bound[k] - 1]. */
static void bounds_of(size_t passes, size_t bound[POSITIONS + 1], float share[POSITIONS])
{
    bound[0] = POSITIONS;
    for (size_t k = 0; k < passes; k++) {
        double left = floor(POSITIONS * cos(M_PI / 2 * (double)(k + 1) / (double)passes));
        bound[k + 1] = (size_t)fmax(1, fmin((double)bound[k] - 1, left));
        share[k] = (float)(POSITIONS - bound[k + 1]) / POSITIONS;
    }
    bound[passes] = 0;
}

static void simulate(const sp_masked_plan *p, const toy *t, float latents[POSITIONS][DIM])
{
    int32_t order[POSITIONS];
    size_t bound[POSITIONS + 1];
    float share[POSITIONS];
    bool known[POSITIONS] = {false};
    bounds_of(p->passes, bound, share);
    sp_masked_order(p->chain.seed, p->chain.image, POSITIONS, order);
    for (size_t k = 0; k < p->passes; k++) {
        for (size_t i = bound[k + 1]; i < bound[k]; i++)
            draw(t, p, known, latents[0], order[i], share[k], latents[order[i]]);
        for (size_t i = bound[k + 1]; i < bound[k]; i++) known[order[i]] = true;
    }
}

static void ar_draws_the_law(void **state)
{
    (void)state;
    for (size_t passes = 1; passes <= POSITIONS; passes++)
        for (uint32_t image = 0; image < 3; image++)
            for (int threads = 1; threads <= 3; threads++) {
                toy t = {.pull = 0.5f};
                float expected[POSITIONS][DIM];
                sp_masked_plan plan = plan_for("ar", passes, image);
                outcome found = decode(plan, &t, NULL, threads);
                simulate(&plan, &t, expected);
                assert_int_equal(found.status, SP_OK);
                assert_memory_equal(found.latents, expected, sizeof expected);
                assert_int_equal(found.passes, passes);
                assert_int_equal(t.passes, passes);
            }
}

static void passes_of_tokens_follow_the_order(void **state)
{
    (void)state;
    toy t = {.pull = 0.5f};
    int32_t order[POSITIONS];
    outcome found = decode(plan_for("ar", POSITIONS, 0), &t, NULL, 1);
    sp_masked_order(7, 0, POSITIONS, order);
    for (int32_t i = 0; i < POSITIONS; i++) assert_int_equal(found.pass_of_token[order[i]], POSITIONS - i);
}

/* What the published program does in effect: all drafts of a window against one pass of the target that sees none. */
static void simulate_released(const sp_masked_plan *p, const toy *target, const toy *drafter,
                              float latents[POSITIONS][DIM], size_t *accepted)
{
    int32_t order[POSITIONS];
    size_t bound[POSITIONS + 1], alone = (size_t)((double)p->chain.settings.prefill * (double)p->passes);
    float share[POSITIONS], own[POSITIONS][DIM];
    bool known[POSITIONS] = {false}, seen[POSITIONS];
    double rho = (double)p->chain.settings.tolerance;
    uint32_t pass = 0;
    *accepted = 0;
    bounds_of(p->passes, bound, share);
    sp_masked_order(p->chain.seed, p->chain.image, POSITIONS, order);
    for (size_t k = 0, until; k < p->passes; k = until, pass++) {
        size_t gamma = k < alone ? 1 : p->chain.settings.gamma;
        until = k + gamma < p->passes ? k + gamma : p->passes;
        memcpy(seen, known, sizeof seen);
        for (size_t s = k; s < until; s++)
            for (size_t i = bound[s + 1]; i < bound[s]; i++)
                draw(target, p, known, latents[0], order[i], share[s], own[order[i]]);
        for (size_t s = k; s < until && k >= alone; s++) {
            for (size_t i = bound[s + 1]; i < bound[s]; i++)
                draw(drafter, p, seen, latents[0], order[i], share[s], latents[order[i]]);
            for (size_t i = bound[s + 1]; i < bound[s]; i++) seen[order[i]] = true;
        }
        for (size_t i = bound[until]; i < bound[k]; i++) {
            double square = 0, u = sp_uniform(p->chain.seed, p->chain.image, SP_DRAW_ACCEPT, (uint32_t)order[i], 0);
            for (size_t d = 0; d < DIM; d++) {
                double x = (double)latents[order[i]][d] - (double)own[order[i]][d];
                square += x * x;
            }
            bool stays = k >= alone && u < exp(-square / (2 * rho * rho));
            *accepted += stays;
            if (!stays) memcpy(latents[order[i]], own[order[i]], sizeof own[0]);
            known[order[i]] = true;
        }
    }
}

static void released_draws_its_law(void **state)
{
    (void)state;
    size_t stayed = 0, drafted = 0;
    for (uint32_t image = 0; image < 40; image++)
        for (size_t gamma = 1; gamma <= 5; gamma++)
            for (int prefill = 0; prefill <= 4; prefill++) {
                toy target = {.pull = 0.5f}, drafter = {.pull = 0.35f};
                float expected[POSITIONS][DIM];
                size_t accepted, passes = image % 2 ? POSITIONS : 7;
                sp_masked_plan plan = plan_for("cspd-released", passes, image);
                plan.chain.settings.gamma = gamma;
                plan.chain.settings.tolerance = 0.05f;
                plan.chain.settings.prefill = (float)prefill / 4;
                outcome found = decode(plan, &target, &drafter, 1 + (int)(image % 3));
                simulate_released(&plan, &target, &drafter, expected, &accepted);
                assert_int_equal(found.status, SP_OK);
                assert_memory_equal(found.latents, expected, sizeof expected);
                assert_int_equal(found.accepted, accepted);
                size_t alone = passes * (size_t)prefill / 4;
                assert_int_equal(found.passes, alone + (passes - alone + gamma - 1) / gamma);
                assert_int_equal(found.draft_passes, passes - alone);
                stayed += accepted;
                drafted += found.drafted;
                assert_true(prefill == 4 ? found.drafted == 0 : found.drafted > 0);
            }
    assert_in_range(stayed, drafted / 5, drafted - drafted / 5); /* else one branch is hardly tried */
}

static void a_drafter_that_is_the_target_changes_nothing(void **state)
{
    (void)state;
    for (size_t passes = 1; passes <= POSITIONS; passes++) {
        toy target = {.pull = 0.5f}, drafter = {.pull = 0.5f};
        sp_masked_plan plan = plan_for("cspd-released", passes, 3);
        plan.chain.settings.gamma = 1;
        plan.chain.settings.tolerance = 0;
        outcome plain = decode(plan_for("ar", passes, 3), &target, NULL, 1);
        outcome found = decode(plan, &target, &drafter, 1);
        assert_memory_equal(found.latents, plain.latents, sizeof plain.latents);
        assert_int_equal(found.accepted, POSITIONS);
    }
}

static void steps_that_fail(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        bool drafting = kind % 2, whole = kind / 2;
        toy target = {.pull = 0.5f, .lost = !drafting, .whole = whole};
        toy drafter = {.pull = 0.5f, .lost = drafting, .whole = whole};
        outcome found = decode(plan_for(drafting ? "cspd-released" : "ar", 4, 3), &target, &drafter, 3);
        assert_int_equal(found.status, SP_EDEVICE);
        assert_non_null(strstr(found.error.message, "lost"));
    }
}

/* Chains that a device runs whole give the same bits. */
static void whole_chains_draw_the_same(void **state)
{
    (void)state;
    for (uint32_t image = 0; image < 12; image++)
        for (int rule = 0; rule < 3; rule++) {
            toy a = {.pull = 0.5f}, b = {.pull = 0.35f}, c = {.pull = 0.5f, .whole = true};
            toy d = {.pull = 0.35f, .whole = true};
            sp_masked_plan plan = plan_for(rule ? "cspd-released" : "ar", 7, image);
            plan.chain.settings.align = rule < 2;
            plan.chain.settings.prefill = 0.3f;
            int threads = 1 + (int)(image % 3);
            outcome expected = decode(plan, &a, rule ? &b : NULL, threads);
            outcome found = decode(plan, &c, rule ? &d : NULL, threads);
            assert_int_equal(found.status, SP_OK);
            assert_memory_equal(found.latents, expected.latents, sizeof found.latents);
            assert_int_equal(found.accepted, expected.accepted);
            assert_int_equal(found.passes, expected.passes);
            assert_true(c.runs >= found.passes && d.runs >= found.draft_passes);
        }
}

static void noise_apart_is_other_noise(void **state)
{
    (void)state;
    toy target = {.pull = 0.5f}, drafter = {.pull = 0.5f};
    sp_masked_plan plan = plan_for("cspd-released", POSITIONS, 3);
    plan.chain.settings.gamma = 1;
    plan.chain.settings.align = false;
    plan.chain.settings.tolerance = 0.01f;
    outcome found = decode(plan, &target, &drafter, 1);
    assert_in_range(found.accepted, 0, 1);
}

static void the_schedule_is_that_of_maskgit(void **state)
{
    (void)state;
    for (size_t passes = 1; passes <= 256; passes++) {
        size_t left = 256, largest = 0, ones = 0;
        for (size_t k = 0; k < passes; k++) {
            size_t next = k + 1 == passes ? 0 : sp_masked_left(256, passes, k, left);
            assert_true(next < left);
            if (left - next == 1 && ones == k) ones++;
            largest = left - next > largest ? left - next : largest;
            left = next;
        }
        assert_int_equal(left, 0);
        if (passes == 64) assert_true(ones == 13 && largest == 7);
        if (passes == 32) assert_true(ones == 3 && largest == 13);
        if (passes == 256) assert_true(ones == 256);
    }
}

/* 24 orders of four positions, 48000 pictures: chi square of 23 degrees of freedom, |z| < 4. */
static void every_order_is_as_likely(void **state)
{
    (void)state;
    enum { PICTURES = 48000, CELLS = 256 };
    size_t seen[CELLS] = {0}, cells = 0;
    double square = 0, expected = PICTURES / 24.0;
    for (uint32_t image = 0; image < PICTURES; image++) {
        int32_t order[4];
        sp_masked_order(11, image, 4, order);
        size_t present = 0;
        for (int i = 0; i < 4; i++) present |= (size_t)1 << order[i];
        assert_int_equal(present, 15);
        seen[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
    }
    for (size_t i = 0; i < CELLS; i++) {
        if (!seen[i]) continue;
        cells++;
        square += ((double)seen[i] - expected) * ((double)seen[i] - expected) / expected;
    }
    assert_int_equal(cells, 24);
    if (fabs((square - 23) / sqrt(46)) > 4) fail_msg("chi square of 23 degrees of freedom: %.1f", square);
}

static void refused(sp_masked_plan plan, bool with_drafter, sp_status status, const char *part)
{
    toy target = {.pull = 0.5f}, drafter = {.pull = 0.5f};
    outcome found = decode(plan, &target, with_drafter ? &drafter : NULL, 1);
    assert_int_equal(found.status, status);
    if (!strstr(found.error.message, part)) fail_msg("'%s' does not say '%s'", found.error.message, part);
    assert_null(strchr(found.error.message, '\n'));
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    sp_masked_plan plan = plan_for("cspd-released", 4, 0);
    refused(plan_for("mirror", 4, 0), true, SP_EARG, "--method mirror");
    refused(plan_for("cspd", 4, 0), true, SP_EARG, "--method cspd");
    refused(plan_for("ar", 0, 0), false, SP_EARG, "--passes 0");
    refused(plan_for("ar", POSITIONS + 1, 0), false, SP_EARG, "--passes 13");
    refused(plan, false, SP_EARG, "second model");
    plan.chain.settings.gamma = 0;
    refused(plan, true, SP_EARG, "gamma 0");
    const float shares[] = {-0.1f, 1.1f, NAN};
    for (size_t i = 0; i < 3; i++) {
        plan = plan_for("cspd-released", 4, 0);
        plan.chain.settings.prefill = shares[i];
        refused(plan, true, SP_EARG, "prefill");
    }
    const float tolerances[] = {-0.1f, INFINITY, NAN};
    for (size_t i = 0; i < 3; i++) {
        plan = plan_for("cspd-released", 4, 0);
        plan.chain.settings.tolerance = tolerances[i];
        refused(plan, true, SP_EARG, "tolerance");
    }
}

static void nan_in_a_chain_is_named(void **state)
{
    (void)state;
    for (size_t position = 0; position < POSITIONS; position++) {
        toy target = {.pull = 0.5f, .poison = position + 1}, drafter = {.pull = 0.5f, .poison = position + 1};
        char part[32];
        snprintf(part, sizeof part, "token %zu:", position);
        outcome found = decode(plan_for("ar", 5, 0), &target, NULL, 1);
        assert_int_equal(found.status, SP_EFORMAT);
        assert_non_null(strstr(found.error.message, part));
        target.poison = 0;
        found = decode(plan_for("cspd-released", 5, 0), &target, &drafter, 1);
        assert_int_equal(found.status, SP_EFORMAT);
        assert_non_null(strstr(found.error.message, part));
    }
}

static bool stop_after_two(void *user, const sp_progress *progress)
{
    size_t *calls = user;
    assert_int_equal(progress->passes, ++*calls);
    assert_int_equal(progress->tokens_total, POSITIONS);
    return *calls < 2;
}

static void it_can_be_stopped(void **state)
{
    (void)state;
    toy t = {.pull = 0.5f};
    size_t calls = 0;
    sp_masked_plan plan = plan_for("ar", POSITIONS, 0);
    plan.chain.progress = stop_after_two;
    plan.chain.user = &calls;
    outcome found = decode(plan, &t, NULL, 1);
    assert_int_equal(found.status, SP_ECANCELLED);
    assert_int_equal(calls, 2);
}

static size_t n_allocations, fail_at;

static void *counting_allocate(size_t bytes)
{
    return ++n_allocations == fail_at ? NULL : aligned_alloc(64, bytes);
}

static void memory_is_taken_at_opening_and_its_want_reported(void **state)
{
    (void)state;
    toy t = {.pull = 0.5f}, guess = {.pull = 0.4f};
    sp_masked_model model = model_of(&t), drafter = model_of(&guess);
    sp_masked_decoder *decoder;
    sp_masked_plan plan = plan_for("cspd-released", 5, 0);
    plan.model = &model;
    plan.drafter = &drafter;
    sp_alloc_hook(counting_allocate);
    n_allocations = fail_at = 0;
    SP_TEST_OK(sp_masked_decoder_open(&decoder, &model, &drafter, NULL, err));
    size_t needed = n_allocations;
    SP_TEST_OK(sp_masked_decode(decoder, &plan, err));
    assert_int_equal(n_allocations, needed);
    sp_masked_decoder_close(decoder);
    for (size_t i = 1; i <= needed; i++) {
        sp_error err = {0};
        n_allocations = 0;
        fail_at = i;
        assert_int_equal(sp_masked_decoder_open(&decoder, &model, &drafter, NULL, &err), SP_ENOMEM);
        assert_null(decoder);
    }
    sp_alloc_hook(NULL);
    sp_error err = {0};
    drafter.dim = DIM - 1;
    assert_int_equal(sp_masked_decoder_open(&decoder, &model, &drafter, NULL, &err), SP_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ar_draws_the_law),
        cmocka_unit_test(passes_of_tokens_follow_the_order),
        cmocka_unit_test(released_draws_its_law),
        cmocka_unit_test(a_drafter_that_is_the_target_changes_nothing),
        cmocka_unit_test(whole_chains_draw_the_same),
        cmocka_unit_test(noise_apart_is_other_noise),
        cmocka_unit_test(steps_that_fail),
        cmocka_unit_test(the_schedule_is_that_of_maskgit),
        cmocka_unit_test(every_order_is_as_likely),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(nan_in_a_chain_is_named),
        cmocka_unit_test(it_can_be_stopped),
        cmocka_unit_test(memory_is_taken_at_opening_and_its_want_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
