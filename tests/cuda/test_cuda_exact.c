/* The exactness suites over the device's kernels: every known way to get a rule wrong that a device can go is put
 * between the kernels of a pass and must be seen in the tokens, by the limits of tests/exactness; and rule gsd has the
 * law that docs/rules/gsd.md derives. With SP_TEST_ALL all of them, over 100,000 pictures each, else those that 1,000
 * pictures show. test_cuda_loop has the laws of the exact rules. */
#include "cuda/mistakes.h"
#include "exactness/pairs.h"
#include "exactness/trial.h"

static bool all(void) { return getenv("SP_TEST_ALL") != NULL; }
static size_t pictures(void) { return all() ? 100000 : 1000; }

static sp_mistaken *open_device(void)
{
    static float logits[2][SP_MISTAKEN_NODES][V];
    sp_mistaken *device = NULL;
    for (size_t n = 0, width = 1; n < SP_ENUM_POSITIONS; n++, width *= V)
        for (size_t i = 0; i < width; i++) {
            int32_t tokens[SP_ENUM_POSITIONS] = {0};
            size_t rest = i, node = 1;
            for (size_t j = n; j-- > 0; rest /= V) tokens[j] = (int32_t)(rest % V);
            for (size_t j = 0; j < n; j++) node = node * V + (size_t)tokens[j];
            for (uint32_t s = 0; s < 2; s++)
                for (int32_t v = 0; v < V; v++) logits[s][node][v] = sp_enum_logit(tokens, n, v, s);
        }
    SP_TEST_OK(sp_mistaken_open(&device, &logits[0][0][0], err));
    return device;
}

/* A picture of the plan, drawn on the device. */
static void draw(sp_mistaken *device, const sp_decode_plan *plan, const char *rule, sp_mistake mistake,
                 int32_t tokens[SP_ENUM_POSITIONS], size_t *idle)
{
    const sp_sampling *s = &plan->sampling;
    const sp_relaxation *r = &plan->relaxation;
    int32_t starts[SP_ENUM_POSITIONS], none[SP_ENUM_POSITIONS] = {0};
    for (size_t i = 0; i < SP_ENUM_POSITIONS; i++) {
        sp_draft_query query = {none, i, SP_ENUM_POSITIONS, V, s};
        sp_draft draft = plan->drafter(&query);
        starts[i] = draft.kind == SP_LAW_UNIFORM ? -1 - draft.token : (int32_t)draft.copy_of - 1;
    }
    sp_device_picture picture = {.rule = rule, .seed = s->seed, .cfg_scale = s->cfg_scale,
                                 .temperature = s->temperature, .top_k = (size_t)s->top_k, .top_p = s->top_p,
                                 .starts = starts, .codes = r->codes, .code_dim = r->code_dim,
                                 .group_size = r->group_size, .group_delta = r->group_delta,
                                 .group_distance = r->group_distance, .group_of = r->group_of};
    SP_TEST_OK(sp_mistaken_draw(device, &picture, plan->window, mistake, tokens, idle, err));
}

/* Tokens of the production loop on the host. */
static void draw_here(sp_decoder *decoder, const sp_decode_plan *plan)
{
    sp_enumerable state = {0};
    sp_model model = sp_enum_model(&state);
    SP_TEST_OK(sp_decode(decoder, &model, plan, err));
}

typedef struct mutant {
    sp_mistake mistake;
    setting s;
    bool plain; /* a few hundred pictures show it */
    size_t times; /* pictures, for what is hard to see */
} mutant;

static const mutant mutants[] = {
    {SP_NOISE_BY_ROW, {"noise by window slot", "pathwise", "left", 4, 1, 1, 0, 1}, true, 1},
    {SP_COMMITS_REFUSED, {"mismatch token not committed", "pathwise", "left", 4, 1, 1, 0, 1}, true, 1},
    {SP_WITHHOLDS_LAST, {"mismatch token withheld", "pathwise", "left", 4, 1, 1, 0, 1}, true, 1},
    {SP_COMMITS_ONE_MORE, {"one row too many", "pathwise", "left", 4, 1, 1, 0, 1}, true, 1},
    {SP_NOISE_BY_PASS, {"fresh noise a pass", "pathwise", "left", 4, 1, 1, 0, 1}, true, 1},
    {SP_KEEPS_OLD_RECORD, {"kept draft keeps its old law", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_RESIDUAL_IS_P, {"residual replaced by p", "sjd", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_TEMPERATURE_TWICE, {"temperature twice", "sjd", "uniform", 4, 1, 0.6f, 0, 1}, false, 1},
    {SP_TOP_P_TWICE, {"top-p twice", "sjd", "uniform", 4, 1, 1, 0, 0.8f}, false, 1},
    {SP_REUSES_0_6, {"drafts reused above 0.6", "sjd", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_REUSES_0_8, {"drafts reused above 0.8", "sjd", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_COMMON_CUT, {"two pictures cut together", "sjd", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_WINDOW_BY_CHANCE, {"window by confidence", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_WINDOW_BY_DRAFT, {"window by a draft", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_BLOCK_CARRIED, {"block test, drafts carried", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 5},
    {SP_RECORD_ONE_OFF, {"record one position off", "coupled", "uniform", 4, 1, 1, 0, 1}, true, 1},
    {SP_RECORD_WITHOUT_SETS, {"record without top-k", "coupled", "uniform", 4, 1, 1, 2, 1}, false, 1},
    {SP_LIKELIEST_DRAFTS, {"likeliest drafts", "sjd", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_RESIDUAL_BY_TEST, {"residual by the test's draw", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_SAME_EVERY_PASS, {"same draws every pass", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_SAME_EVERY_ROW, {"same draws every row", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_COPY_IS_UNIFORM, {"copy taken for uniform", "coupled", "left", 4, 1, 1, 0, 1}, true, 1},
    {SP_UNIFORM_BONUS, {"uniform bonus", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
    {SP_COMMITS_REFUSED, {"refused draft committed", "coupled", "uniform", 4, 1, 1, 0, 1}, false, 1},
};

/* Without a mistake the kernels draw what the production loop draws, for each setting that a mistake is put into. */
static void no_mistake(void **state)
{
    sp_mistaken *device = *state;
    sp_decoder *decoder = NULL;
    SP_TEST_OK(sp_decoder_open(&decoder, V, 1, SP_ENUM_POSITIONS, sp_ops_find("ref"), SP_ENUM_POSITIONS, err));
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++)
        for (uint64_t seed = 0; seed < (all() ? 2000u : 10u); seed++) {
            int32_t tokens[SP_ENUM_POSITIONS];
            size_t idle = 0;
            sp_decode_plan plan = plan_of(&mutants[i].s, NULL, seed);
            draw(device, &plan, mutants[i].s.rule, SP_MISTAKE_NONE, tokens, &idle);
            draw_here(decoder, &plan);
            assert_memory_equal(tokens, decoder->tokens, sizeof tokens);
            assert_int_equal(idle, 0);
        }
    sp_decoder_close(decoder);
}

static outcome measure_mistake(sp_mistaken *device, const mutant *m, size_t n)
{
    static double law[SP_ENUM_OUTCOMES];
    static uint32_t count[SP_ENUM_OUTCOMES];
    outcome out = {0};
    sp_decoder *plain = NULL;
    SP_TEST_OK(sp_decoder_open(&plain, V, 1, SP_ENUM_POSITIONS, sp_ops_find("ref"), SP_ENUM_POSITIONS, err));
    memset(count, 0, sizeof count);
    for (size_t run = 0; run < n; run++) {
        int32_t tokens[SP_ENUM_POSITIONS];
        sp_decode_plan plan = plan_of(&m->s, NULL, 0x5EED0000u + run);
        draw(device, &plan, m->s.rule, m->mistake, tokens, &out.idle);
        count[sp_enum_outcome(tokens)]++;
        if (run % 16) continue;
        plan.rule = sp_accept_find("ar");
        draw_here(plain, &plan);
        out.other_tokens += memcmp(plain->tokens, tokens, sizeof tokens) != 0;
    }
    sp_decoder_close(plain);
    sp_enum_laws(&(sp_sampling){0, 0, m->s.cfg_scale, m->s.temperature, m->s.top_k, m->s.top_p}, law);
    out.z = sp_enum_chi_square(law, count, (double)n, &out.outside);
    return out;
}

/* Rule pathwise has the tokens of ar and leaves none behind; the others have the law. */
static void mistakes_are_seen(void **state)
{
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        const mutant *m = &mutants[i];
        bool pathwise = strcmp(m->s.rule, "pathwise") == 0;
        if (!m->plain && !all()) continue;
        outcome o = measure_mistake(*state, m, m->times * pictures());
        print_message("%-30s z %+.1f, outside %u, other tokens %zu, idle %zu\n", m->s.name, o.z, o.outside,
                      o.other_tokens, o.idle);
        assert_true(fabs(o.z) >= 4 || o.outside || (pathwise && (o.other_tokens || o.idle)));
    }
}

typedef struct pair_trial {
    double z, z_plain; /* against the law of docs/rules/gsd.md, and against the model's */
} pair_trial;

static pair_trial try_pairs(sp_mistaken *device, const sp_relaxation *relaxation, sp_mistake mistake)
{
    static const setting s = {"gsd", "gsd", "uniform", 2, 1, 1, 0, 1};
    double count[PAIRS] = {0}, law[PAIRS], plain[PAIRS], n = (double)pictures();
    for (size_t run = 0; run < pictures(); run++) {
        int32_t tokens[SP_ENUM_POSITIONS];
        size_t idle = 0;
        sp_decode_plan plan = plan_of(&s, NULL, 0xFEED0000u + run);
        plan.relaxation = *relaxation;
        draw(device, &plan, "gsd", mistake, tokens, &idle);
        count[tokens[0] * V + tokens[1]]++;
    }
    sp_sampling sampling = plan_of(&s, NULL, 0).sampling;
    two_tokens(relaxation, &sampling, law);
    two_tokens(&group_of_one, &sampling, plain);
    return (pair_trial){chi_square(count, law, n), chi_square(count, plain, n)};
}

static void law_of_groups(void **state)
{
    for (size_t i = 0; i < (all() ? sizeof groupings / sizeof *groupings : 1); i++) {
        pair_trial t = try_pairs(*state, &groupings[i].relaxation, SP_MISTAKE_NONE);
        print_message("%-30s z %+.1f, against the model %+.1f\n", groupings[i].name, t.z, t.z_plain);
        assert_true(fabs(t.z) < 4);
        assert_true(t.z_plain > 4);
    }
}

static void mistakes_with_groups_are_seen(void **state)
{
    static const struct { const char *name; size_t grouping; sp_mistake mistake; bool plain; } wrong[] = {
        {"members by the draft's law", 1, SP_GROUP_BY_Q, true},
        {"no limit on probability", 3, SP_GROUP_UNLIMITED, false},
        {"no limit on distance", 4, SP_GROUP_UNLIMITED, false},
        {"residual by groups", 0, SP_RESIDUAL_BY_GROUPS, false},
        {"residual replaced by p", 0, SP_RESIDUAL_IS_P, false}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (!wrong[i].plain && !all()) continue;
        pair_trial t = try_pairs(*state, &groupings[wrong[i].grouping].relaxation, wrong[i].mistake);
        print_message("%-30s z %+.1f\n", wrong[i].name, t.z);
        assert_true(t.z > 4);
    }
}

static int set_up(void **state)
{
    *state = open_device();
    return 0;
}

static int tear_down(void **state)
{
    sp_mistaken_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_mistake), cmocka_unit_test(mistakes_are_seen),
                                       cmocka_unit_test(law_of_groups),
                                       cmocka_unit_test(mistakes_with_groups_are_seen)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
