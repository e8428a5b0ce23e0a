/* Rules ar and pathwise through the production loop: counts against the exact law of every sequence (|z| < 4), token
 * identity with ar, invariants of the loop; and wrong variants that these tests must catch. */
#include "settings.h"

#include "base/arena.h"

static void law_of_every_sequence(void **state)
{
    (void)state;
    for (size_t i = 0; i < RACE_SETTINGS; i++) {
        outcome o = measure(&race_settings[i], NULL, runs());
        print_message("%-20s z %+.2f over %zu runs\n", race_settings[i].name, o.z, runs());
        assert_true(fabs(o.z) < 4);
        assert_int_equal(o.outside, 0);
        assert_int_equal(o.other_tokens, 0);
        assert_int_equal(o.idle, 0);
    }
}

/* Wrong: noise belongs to the row of the window instead of the absolute position. */
static sp_status noise_by_slot(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    float noise[SP_ENUM_POSITIONS][SP_ENUM_CODES];
    sp_accept_row rows[SP_ENUM_POSITIONS];
    for (size_t j = 0; j < w->n_rows; j++) {
        w->ops->gumbel(w->sampling->seed, w->sampling->image, (uint32_t)j, SP_ENUM_CODES, noise[j]);
        rows[j] = (sp_accept_row){w->rows[j].scores, noise[j]};
    }
    sp_accept_window other = *w;
    other.rows = rows;
    return sp_accept_find("pathwise")->accept(&other, n_final, err);
}

/* Wrong: the draft at the first mismatch is committed, not the sample that differs from it. */
static sp_status commits_the_mismatch(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    SP_TRY(sp_accept_find("pathwise")->accept(w, n_final, err));
    if (*n_final <= w->n_drafts) w->tokens[*n_final - 1] = w->drafts[*n_final - 1];
    return SP_OK;
}

/* Wrong: the sample at the first mismatch waits for the next pass, although it is final. */
static sp_status withholds_the_mismatch(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    SP_TRY(sp_accept_find("pathwise")->accept(w, n_final, err));
    if (*n_final > 1) --*n_final;
    return SP_OK;
}

/* Wrong: one row too many is taken as final. */
static sp_status commits_one_more(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    SP_TRY(sp_accept_find("pathwise")->accept(w, n_final, err));
    if (*n_final < w->n_rows) ++*n_final;
    return SP_OK;
}

/* Wrong: fresh noise every pass, as if a draft could be checked by drawing again. */
static sp_status fresh_noise(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    float noise[SP_ENUM_POSITIONS][SP_ENUM_CODES];
    sp_accept_row rows[SP_ENUM_POSITIONS];
    for (size_t j = 0; j < w->n_rows; j++) {
        w->ops->gumbel(w->sampling->seed, 1 + (uint32_t)w->position, (uint32_t)(w->position + j), SP_ENUM_CODES,
                       noise[j]);
        rows[j] = (sp_accept_row){w->rows[j].scores, noise[j]};
    }
    sp_accept_window other = *w;
    other.rows = rows;
    return sp_accept_find("pathwise")->accept(&other, n_final, err);
}

static void wrong_variants_are_caught(void **state)
{
    (void)state;
    static const setting s = {"mutant", "pathwise", "left", 4, 1, 1, 0, 1};
    const struct {
        const char *name;
        sp_status (*accept)(const sp_accept_window *, size_t *, sp_error *);
    } mutants[] = {{"noise by window slot", noise_by_slot},
                   {"mismatch token not committed", commits_the_mismatch},
                   {"mismatch token withheld", withholds_the_mismatch},
                   {"one row too many", commits_one_more},
                   {"fresh noise a pass", fresh_noise}};
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        sp_accept_ops rule = *sp_accept_find("pathwise");
        rule.accept = mutants[i].accept;
        outcome o = measure(&s, &rule, runs());
        print_message("%-30s z %+.1f, other tokens %zu, idle %zu\n", mutants[i].name, o.z, o.other_tokens, o.idle);
        assert_true(fabs(o.z) >= 4 || o.other_tokens || o.idle);
    }
}

/* Relaxed rules need something to go by. */
static sp_decode_plan plan_of_any(const sp_accept_ops *rule, const setting *s, uint64_t seed)
{
    static const float codes[SP_ENUM_CODES] = {1, 1, 1, 1};
    sp_decode_plan plan = plan_of(s, rule, seed);
    plan.relaxation = (sp_relaxation){.codes = codes, .code_dim = 1, .group_size = 3, .group_delta = 1,
                                      .group_distance = 4};
    return plan;
}

/* Rules over trees have a test of their own. */
static bool is_here(const sp_accept_ops *rule) { return rule->walk == NULL; }

/* Temperature 0: every rule, start and window gives the greedy tokens. */
static void greedy(void **state)
{
    (void)state;
    int32_t expected[SP_ENUM_POSITIONS];
    for (size_t i = 0; i < SP_ENUM_POSITIONS; i++) {
        expected[i] = 0;
        for (int32_t v = 1; v < SP_ENUM_CODES; v++)
            if (sp_enum_logit(expected, i, v, 0) > sp_enum_logit(expected, i, expected[i], 0)) expected[i] = v;
    }
    for (const sp_accept_ops *const *rule = sp_accept_all(); *rule; rule++)
        for (const char *const *start = sp_drafter_names(); *start && is_here(*rule); start++)
            for (size_t window = 0; window <= SP_ENUM_POSITIONS; window++) {
                setting s = {"greedy", (*rule)->name, *start, window, 1, 0, 0, 1};
                sp_enumerable model_state = {0};
                sp_model model = sp_enum_model(&model_state);
                sp_decoder *decoder = NULL;
                SP_TEST_OK(sp_decoder_open(&decoder, SP_ENUM_CODES, 1, SP_ENUM_POSITIONS, sp_ops_find("ref"), 8, err));
                sp_decode_plan plan = plan_of_any(*rule, &s, window);
                SP_TEST_OK(sp_decode(decoder, &model, &plan, err));
                assert_memory_equal(decoder->tokens, expected, sizeof expected);
                sp_decoder_close(decoder);
            }
}

static sp_status chain_stays(void *state, size_t first, const int32_t *path, size_t n, sp_error *err)
{
    int32_t chain[SP_ENUM_POSITIONS];
    (void)path;
    for (size_t i = 0; i < n; i++) chain[i] = (int32_t)i;
    return sp_enum_keep(state, first, chain, n, err);
}

/* Runs of pathwise with branches whose tokens are not those of ar; *passes in all. */
static size_t branched(const sp_model *model, size_t branches, size_t *passes)
{
    size_t different = 0;
    sp_decoder *decoder = NULL, *plain = NULL;
    *passes = 0;
    SP_TEST_OK(sp_decoder_open(&decoder, SP_ENUM_CODES, 1, SP_ENUM_POSITIONS, sp_ops_find("auto"), ROOM, err));
    SP_TEST_OK(sp_decoder_open(&plain, SP_ENUM_CODES, 1, SP_ENUM_POSITIONS, sp_ops_find("auto"), ROOM, err));
    for (size_t i = 0; i < RACE_SETTINGS; i++)
        for (uint64_t seed = 0; seed < 1000; seed++) {
            sp_decode_plan plan = plan_of(&race_settings[i], sp_accept_find("pathwise"), seed);
            if (plan.window == 0) plan.window = 3;
            plan.branches = branches;
            if (seed % 10 == 0) plan.sampling.temperature = 0;
            SP_TEST_OK(sp_decode(decoder, model, &plan, err));
            *passes += decoder->passes;
            assert_int_equal(decoder->passes + decoder->accepted, SP_ENUM_POSITIONS);
            sp_enumerable state = {0};
            sp_model whole = sp_enum_model(&state);
            plan.rule = sp_accept_find("ar");
            SP_TEST_OK(sp_decode(plain, &whole, &plan, err));
            different += memcmp(plain->tokens, decoder->tokens, SP_ENUM_POSITIONS * sizeof(int32_t)) != 0;
        }
    sp_decoder_close(decoder);
    sp_decoder_close(plain);
    return different;
}

/* Branches at the front change no token and save passes; a branch that the model does not keep is caught. */
static void branches_at_the_front(void **state)
{
    (void)state;
    sp_enumerable model_state = {0};
    sp_model model = sp_enum_model(&model_state), wrong = model;
    sp_model_ops ops = *model.ops;
    ops.keep = chain_stays;
    wrong.ops = &ops;
    size_t passes, fewer, least;
    assert_int_equal(branched(&model, 1, &passes), 0);
    assert_int_equal(branched(&model, 2, &fewer), 0);
    assert_int_equal(branched(&model, 4, &least), 0);
    print_message("passes %zu, with 2 guesses %zu, with 4 %zu\n", passes, fewer, least);
    assert_true(least < fewer && fewer < passes);
    assert_true(branched(&wrong, 2, &fewer) > 0);
}

static void *no_memory(size_t bytes)
{
    (void)bytes;
    return NULL;
}

/* The loop allocates nothing: with an allocator that always fails it still decodes. */
static void no_allocation_in_the_loop(void **state)
{
    (void)state;
    sp_enumerable model_state = {0};
    sp_model model = sp_enum_model(&model_state);
    sp_decoder *decoder = NULL;
    SP_TEST_OK(sp_decoder_open(&decoder, SP_ENUM_CODES, 1, SP_ENUM_POSITIONS, sp_ops_find("auto"), 8, err));
    sp_alloc_hook(no_memory);
    for (const sp_accept_ops *const *rule = sp_accept_all(); *rule; rule++)
        for (size_t i = 0; i < RACE_SETTINGS && is_here(*rule); i++) {
            sp_decode_plan plan = plan_of_any(*rule, &race_settings[i], i);
            SP_TEST_OK(sp_decode(decoder, &model, &plan, err));
        }
    sp_alloc_hook(NULL);
    sp_decoder_close(decoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(law_of_every_sequence), cmocka_unit_test(wrong_variants_are_caught),
        cmocka_unit_test(greedy), cmocka_unit_test(branches_at_the_front), cmocka_unit_test(no_allocation_in_the_loop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
