/* Rules over trees, eagle and lantern, with an enumerable drafting model through the production loop: counts against
 * the exact law of every sequence, or against the closed form of a relaxed one (|z| < 4). And every way known to get
 * such a walk wrong, each of which must be caught. */
#include "wrong_walk.h"

#include "base/arena.h"
#include "decode/decode.h"

typedef struct setting {
    const char *name;
    size_t window, branches;
    float cfg_scale, temperature;
    int top_k;
    float top_p;
    size_t near; /* 0: eagle */
    float delta, lambda;
} setting;

enum { ROOM = 24 }; /* rows of the largest tree tried */

static const setting exact[] = {
    {"tree 12 of 3", 12, 3, 1, 1, 0, 1, 0, 0, 0},       {"tree 24 of 4", 24, 4, 1, 1, 0, 1, 0, 0, 0},
    {"tree 5 of 2", 5, 2, 1, 1, 0, 1, 0, 0, 0},         {"star 4", 4, 4, 1, 3, 0, 1, 0, 0, 0},
    {"chain 5", 5, 1, 1, 1, 0, 1, 0, 0, 0},             {"chain 2", 2, 1, 1, 1, 0, 1, 0, 0, 0},
    {"root alone", 1, 4, 1, 1, 0, 1, 0, 0, 0},          {"guided", 12, 3, 2.5f, 0.7f, 0, 1, 0, 0, 0},
    {"top-k 2", 12, 3, 1, 1, 2, 1, 0, 0, 0},            {"top-p", 9, 3, 1, 0.6f, 0, 0.8f, 0, 0, 0},
    {"chain, both", 5, 1, 1.5f, 1, 3, 0.9f, 0, 0, 0}};

static const setting relaxed[] = {
    {"delta 0.3", 12, 3, 1, 1, 0, 1, 3, 0.3f, 0},       {"delta 0.1, one near", 12, 3, 1, 1, 0, 1, 1, 0.1f, 0},
    {"delta 1", 12, 2, 1, 1, 0, 1, 3, 1, 0},            {"chain, delta 0.2", 5, 1, 1, 1, 0, 1, 2, 0.2f, 0},
    {"lambda 2", 12, 3, 1, 1, 0, 1, 3, 0, 2},           {"chain, lambda 5", 5, 1, 1, 1, 0, 1, 1, 0, 5},
    {"guided, top-k 3", 12, 3, 2, 0.8f, 3, 1, 2, 0.3f, 0}};

static size_t runs(void) { return getenv("SP_TEST_ALL") ? 1000000 : 60000; }

typedef struct outcome {
    double z, deviation; /* deviation: mean over the runs of what the rule reports */
    uint32_t outside;
    double excess, total_variation; /* of the closed form: expected deviation, distance from plain decoding */
    double drafts_kept;
} outcome;

typedef struct fixture {
    sp_enumerable target;
    sp_enum_drafter drafter;
    sp_model model;
    sp_decoder *decoder;
    sp_tree *tree;
} fixture;

static void open_all(fixture *f)
{
    *f = (fixture){.decoder = NULL};
    f->model = sp_enum_model(&f->target);
    sp_draft_model draft = sp_enum_draft_model(&f->drafter);
    SP_TEST_OK(sp_decoder_open(&f->decoder, V, 1, N, sp_ops_find("auto"), ROOM, err));
    SP_TEST_OK(sp_tree_open(&f->tree, &f->model, &draft, ROOM, err));
}

static void close_all(fixture *f)
{
    sp_decoder_close(f->decoder);
    sp_tree_close(f->tree);
}

static sp_decode_plan plan_of(const fixture *f, const setting *s, const sp_accept_ops *rule, uint64_t seed)
{
    return (sp_decode_plan){
        .rule = rule ? rule : sp_accept_find(s->near ? "lantern" : "eagle"), .drafter = sp_drafter_find("left"),
        .window = s->window, .tree = f->tree, .branches = s->branches,
        .sampling = {seed, 0, s->cfg_scale, s->temperature, s->top_k, s->top_p},
        .relaxation = {.codes = sp_enum_codes, .code_dim = CODE_DIM, .near = s->near, .near_delta = s->delta,
                       .near_lambda = s->lambda}};
}

/* The law of every sequence under the rule as the closed form has it, and its distance from plain decoding's. */
static void closed_form(const fixture *f, const setting *s, double *law, outcome *out)
{
    static double plain[SP_ENUM_OUTCOMES];
    sp_decode_plan plan = plan_of(f, s, NULL, 0);
    sp_tree_shape shape;
    sp_tree_shape_make(&shape, s->window, s->branches);
    sp_enum_form form = {.sampling = &plan.sampling, .relaxation = s->near ? &plan.relaxation : NULL, .shape = &shape,
                         .law = law};
    memset(law, 0, SP_ENUM_OUTCOMES * sizeof *law);
    sp_enum_follow(&form, 0, 0, 0, 1);
    sp_enum_laws(&plan.sampling, plain);
    out->excess = form.excess;
    for (int i = 0; i < SP_ENUM_OUTCOMES; i++) out->total_variation += fabs(law[i] - plain[i]) / 2;
    if (!s->near) memcpy(law, plain, sizeof plain);
}

static outcome measure(const setting *s, const sp_accept_ops *rule, const sp_model_ops *target, size_t n)
{
    static double law[SP_ENUM_OUTCOMES];
    static uint32_t count[SP_ENUM_OUTCOMES];
    static uint64_t salt; /* other seeds for each measurement */
    outcome out = {0};
    salt++;
    fixture f;
    open_all(&f);
    if (target) f.model.ops = target;
    memset(count, 0, sizeof count);
    for (size_t run = 0; run < n; run++) {
        sp_decode_plan plan = plan_of(&f, s, rule, (salt << 32) + run);
        SP_TEST_OK(sp_decode(f.decoder, &f.model, &plan, err));
        count[sp_enum_outcome(f.decoder->tokens)]++;
        out.deviation += f.decoder->deviation / (double)n;
        out.drafts_kept += (double)f.decoder->accepted / (double)n;
        assert_int_equal(f.decoder->passes + f.decoder->accepted, N);
    }
    if (!target) assert_int_equal(f.drafter.misplaced, 0);
    closed_form(&f, s, law, &out);
    out.z = sp_enum_chi_square(law, count, (double)n, &out.outside);
    close_all(&f);
    return out;
}

/* The closed form itself: without relaxation it is the product of the laws, whatever the tree. */
static void form_is_exact(void **state)
{
    (void)state;
    fixture f;
    open_all(&f);
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        static double law[SP_ENUM_OUTCOMES];
        outcome o = {0};
        closed_form(&f, &exact[i], law, &o);
        assert_true(o.total_variation < 1e-12);
        assert_true(o.excess == 0);
    }
    close_all(&f);
}

static void law_of_every_sequence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        outcome o = measure(&exact[i], NULL, NULL, runs());
        print_message("eagle, %-20s z %+.1f, %.2f drafts kept\n", exact[i].name, o.z, o.drafts_kept);
        assert_true(fabs(o.z) < 4);
        assert_int_equal(o.outside, 0);
        assert_true(o.deviation == 0);
        assert_true(exact[i].window == 1 ? o.drafts_kept == 0 : o.drafts_kept > 0.3);
    }
}

/* Relaxed counts against the closed form; the reported deviation is what it should be, and bounds the distance. */
static void relaxed_laws(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof relaxed / sizeof *relaxed; i++) {
        outcome o = measure(&relaxed[i], NULL, NULL, runs());
        print_message("lantern, %-20s z %+.1f, deviation %.4f, expected %.4f, distance %.4f\n", relaxed[i].name, o.z,
                      o.deviation, o.excess, o.total_variation);
        assert_true(fabs(o.z) < 4);
        assert_int_equal(o.outside, 0);
        assert_true(o.total_variation > 0.005 && o.excess >= o.total_variation);
        /* At most N tests a run, each between 0 and 1: five deviations of the mean. */
        assert_true(fabs(o.deviation - o.excess) < 5 * sqrt(N * o.excess / (double)runs()));
    }
}

/* lantern without neighbours, or with lambda 1, is eagle token for token. */
static void nothing_relaxed_is_eagle(void **state)
{
    (void)state;
    fixture f;
    open_all(&f);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        int32_t expected[N];
        setting s = exact[0];
        sp_decode_plan plan = plan_of(&f, &s, NULL, seed);
        SP_TEST_OK(sp_decode(f.decoder, &f.model, &plan, err));
        memcpy(expected, f.decoder->tokens, sizeof expected);
        plan.rule = sp_accept_find("lantern");
        plan.relaxation.near_delta = 1;
        SP_TEST_OK(sp_decode(f.decoder, &f.model, &plan, err));
        assert_memory_equal(f.decoder->tokens, expected, sizeof expected);
        plan.relaxation.near = 3;
        plan.relaxation.near_lambda = 1;
        SP_TEST_OK(sp_decode(f.decoder, &f.model, &plan, err));
        assert_memory_equal(f.decoder->tokens, expected, sizeof expected);
        assert_true(f.decoder->deviation == 0);
    }
    close_all(&f);
}

/* Wrong: the branch is left where the tree had it. */
static sp_status keeps_nothing(void *state, size_t first, const int32_t *path, size_t n, sp_error *err)
{
    int32_t chain[SP_ENUM_WINDOW];
    (void)path;
    for (size_t i = 0; i < n; i++) chain[i] = (int32_t)i;
    return sp_enum_keep(state, first, chain, n, err);
}

static void wrong_walks_are_caught(void **state)
{
    (void)state;
    static const setting tree = {"tree", 12, 3, 1, 1, 0, 1, 0, 0, 0}, hot = {"hot", 5, 1, 1, 2, 0, 1, 0, 0, 0},
                         large = {"large tree", 24, 2, 1, 1, 0, 1, 0, 0, 0},
                         cut = {"cut", 5, 1, 1, 2, 0, 0.6f, 0, 0, 0},
                         delta = {"delta", 12, 3, 1, 1, 0, 1, 2, 0.3f, 0},
                         one = {"one near", 12, 3, 1, 1, 0, 1, 1, 0.5f, 0},
                         three = {"three near", 12, 3, 1, 1, 0, 1, 3, 0.3f, 0},
                         lambda = {"lambda", 12, 3, 1, 1, 0, 1, 2, 0, 1.8f};
    const struct {
        const char *name;
        mistake mistake;
        const setting *setting;
    } walks[] = {{"residual is p", RESIDUAL_IS_P, &tree}, {"residual of a point", RESIDUAL_IS_POINT, &tree},
                 {"unconditional q", UNCONDITIONAL_Q, &tree}, {"siblings in q", SIBLINGS_IN_Q, &tree},
                 {"one uniform", ONE_UNIFORM, &tree}, {"independent siblings", INDEPENDENT_SIBLINGS, &tree},
                 {"longest wins", LONGEST_WINS, &large}, {"sorted siblings", SORTED_SIBLINGS, &tree},
                 {"last residual", LAST_RESIDUAL, &tree}, {"unchecked bonus", UNCHECKED_BONUS, &tree},
                 {"bonus of the parent's law", BONUS_OF_PARENT, &tree}, {"stale law", STALE_LAW, &tree},
                 {"temperature twice", TEMPERATURE_TWICE, &hot}, {"top-p twice", TOP_P_TWICE, &cut},
                 {"raw codes", RAW_CODES, &delta}, {"self is near", SELF_IS_NEAR, &delta},
                 {"one more near", ONE_MORE_NEAR, &one}, {"skips large", SKIPS_LARGE, &three},
                 {"lambda is the budget", LAMBDA_IS_BUDGET, &lambda},
                 {"budget of the first p", BUDGET_OF_FIRST_P, &lambda},
                 {"residual of relaxed", RESIDUAL_OF_RELAXED, &delta}, {"near out of q", NEAR_OUT_OF_Q, &delta},
                 {"near out of p", NEAR_OUT_OF_P, &delta}, {"uniform fallback", UNIFORM_FALLBACK, &delta}};
    size_t survivors = 0;
    sp_accept_ops rule = *sp_accept_find("eagle");
    rule.walk = wrong_walk;
    const setting *const right[] = {&tree, &large, &hot, &cut, &delta, &one, &three, &lambda};
    made = RIGHT;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        outcome o = measure(right[i], &rule, NULL, runs());
        print_message("%-26s z %+.1f\n", right[i]->name, o.z);
        assert_true(fabs(o.z) < 4);
    }
    for (size_t i = 0; i < sizeof walks / sizeof *walks; i++) {
        made = walks[i].mistake;
        outcome o = measure(walks[i].setting, &rule, NULL, runs());
        print_message("%-26s z %+.1f, outside %u\n", walks[i].name, o.z, o.outside);
        survivors += fabs(o.z) < 4 && !o.outside;
    }
    sp_model_ops target = {sp_enum_begin, sp_enum_forward, keeps_nothing};
    outcome o = measure(&tree, NULL, &target, runs());
    print_message("%-26s z %+.1f\n", "branch not kept", o.z);
    survivors += fabs(o.z) < 4;
    assert_int_equal(survivors, 0);
}

/* Temperature 0: the greedy tokens, whatever the tree; relaxed, only when neighbours cannot count. */
static void greedy(void **state)
{
    (void)state;
    fixture f;
    open_all(&f);
    int32_t expected[N];
    setting s = {"greedy", 1, 1, 1.5f, 0, 0, 1, 0, 0, 0};
    for (size_t i = 0; i < N; i++) {
        double law[V];
        expected[i] = 0;
        sp_enum_law(expected, i, &(sp_sampling){0, 0, s.cfg_scale, 1, 0, 1}, law);
        for (int32_t v = 1; v < V; v++)
            if (law[v] > law[expected[i]]) expected[i] = v;
    }
    size_t kept = 0;
    for (s.window = 1; s.window <= ROOM; s.window++)
        for (s.branches = 1; s.branches <= 4; s.branches++) {
            sp_decode_plan plan = plan_of(&f, &s, NULL, s.window);
            SP_TEST_OK(sp_decode(f.decoder, &f.model, &plan, err));
            assert_memory_equal(f.decoder->tokens, expected, sizeof expected);
            kept += f.decoder->accepted;
        }
    assert_true(kept > ROOM);
    close_all(&f);
}

static void *no_memory(size_t bytes)
{
    (void)bytes;
    return NULL;
}

static void no_allocation_in_the_loop(void **state)
{
    (void)state;
    fixture f;
    open_all(&f);
    sp_alloc_hook(no_memory);
    for (size_t i = 0; i < sizeof relaxed / sizeof *relaxed; i++) {
        sp_decode_plan plan = plan_of(&f, &relaxed[i], NULL, i);
        SP_TEST_OK(sp_decode(f.decoder, &f.model, &plan, err));
    }
    sp_alloc_hook(NULL);
    close_all(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(form_is_exact), cmocka_unit_test(law_of_every_sequence), cmocka_unit_test(relaxed_laws),
        cmocka_unit_test(nothing_relaxed_is_eagle), cmocka_unit_test(wrong_walks_are_caught), cmocka_unit_test(greedy),
        cmocka_unit_test(no_allocation_in_the_loop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
