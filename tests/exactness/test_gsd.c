/* Rule gsd through the production loop: group size 1 is sjd token for token; the first two tokens have the law that
 * docs/rules/gsd.md derives, for static groups and for groups by rank; wrong variants are caught; and its law is not
 * the model's, which is why it is called relaxed. */
#include "group_trials.h"

#include "acceptance/groups.h"
#include "acceptance/verify.h"

typedef struct trial {
    double z, z_plain;      /* against a law, and against the model's */
    double first_deviation; /* mean of what the first pass adds */
} trial;

static double deviation_of_first_pass;
static const sp_accept_ops *inner;

static sp_status note_first(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    double before = *w->deviation;
    SP_TRY(inner->accept(w, n_final, err));
    if (w->position == 0) deviation_of_first_pass += *w->deviation - before;
    return SP_OK;
}

static trial two_token_trial(const sp_relaxation *relaxation, const sp_accept_ops *rule)
{
    static const setting s = {"gsd", "gsd", "uniform", 2, 1, 1, 0, 1};
    double count[PAIRS] = {0}, law[PAIRS], plain[PAIRS];
    size_t n = runs();
    sp_enumerable state = {0};
    sp_model model = sp_enum_model(&state);
    sp_decoder *decoder = NULL;
    SP_TEST_OK(sp_decoder_open(&decoder, V, 1, SP_ENUM_POSITIONS, sp_ops_find("auto"), SP_ENUM_POSITIONS, err));
    inner = rule;
    deviation_of_first_pass = 0;
    sp_accept_ops watched = *rule;
    watched.accept = note_first;
    for (size_t run = 0; run < n; run++) {
        sp_decode_plan plan = plan_of(&s, &watched, 0xFEED0000u + run);
        plan.relaxation = *relaxation;
        SP_TEST_OK(sp_decode(decoder, &model, &plan, err));
        count[decoder->tokens[0] * V + decoder->tokens[1]]++;
    }
    sp_decoder_close(decoder);
    sp_sampling sampling = plan_of(&s, rule, 0).sampling;
    two_tokens(relaxation, &sampling, law);
    two_tokens(&group_of_one, &sampling, plain);
    return (trial){chi_square(count, law, (double)n), chi_square(count, plain, (double)n),
                   deviation_of_first_pass / (double)n};
}

static void closed_form(void **state)
{
    (void)state;
    const sp_sampling sampling = {0, 0, 1, 1, 0, 1};
    for (size_t i = 0; i < sizeof groupings / sizeof *groupings; i++) {
        const sp_relaxation *r = &groupings[i].relaxation;
        double p[V], q[V], out[V], expected = 0, distance = 0;
        trial t = two_token_trial(r, sp_accept_find("gsd"));
        sp_enum_law(NULL, 0, &sampling, p);
        for (int v = 0; v < V; v++) q[v] = 1.0 / V;
        one_token(r, p, q, out);
        for (int32_t v = 0; v < V; v++) {
            expected += q[v] * fabs(passes(r, p, q, v) - passes(&group_of_one, p, q, v));
            distance += 0.5 * fabs(out[v] - p[v]);
        }
        print_message("%-22s z %+.1f, against the model %+.1f; deviation %.4f, expected %.4f, distance %.4f\n",
                      groupings[i].name, t.z, t.z_plain, t.first_deviation, expected, distance);
        assert_true(fabs(t.z) < 4);
        assert_true(t.z_plain > 4);
        /* A value in [0, 1] has a standard deviation of at most 1 / 2. */
        assert_true(fabs(t.first_deviation - expected) < 4 * 0.5 / sqrt((double)runs()));
        assert_true(distance <= expected + 1e-12);
    }
}

static void group_of_one_is_sjd(void **state)
{
    (void)state;
    try_groups_of_one(NULL, 3000);
}

static void sets_are_kept(void **state)
{
    (void)state;
    try_sets(NULL, 5000);
}

/* The parts of the group test, to put together wrongly. */
static bool wrong_ratio(const sp_accept_window *w, size_t j, const float *p, bool by_draft_law, bool filtered)
{
    sp_relaxation r = *w->relaxation;
    double law[V], other[V], in_p = 0, in_q = 0;
    for (int32_t v = 0; v < V; v++) {
        law[v] = (double)p[v];
        other[v] = (double)sp_law_at(w->rows[j].law, w->drafts[j], V, v);
    }
    if (!filtered) {
        r.group_delta = 2;
        r.group_distance = 5;
    }
    for (int32_t v = 0; v < V; v++) {
        if (!in_group(&r, by_draft_law ? other : law, w->drafts[j], v)) continue;
        in_p += law[v];
        in_q += other[v];
    }
    return sp_ratio_passes(sp_row_uniform(w, SP_DRAW_ACCEPT, j), in_p, in_q);
}

static bool groups_by_q(const sp_accept_window *w, size_t j, const float *p)
{
    return wrong_ratio(w, j, p, true, true);
}

static bool ignores_limits(const sp_accept_window *w, size_t j, const float *p)
{
    return wrong_ratio(w, j, p, false, false);
}

/* Wrong: members are found in the law of the draft instead of the model's. */
static sp_status by_draft_law(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return sp_verify_rows(w, groups_by_q, SP_AFTER_REDRAW, n_final, err);
}

/* Wrong: neither probability nor distance limits the group. */
static sp_status without_limits(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return sp_verify_rows(w, ignores_limits, SP_AFTER_REDRAW, n_final, err);
}

/* Wrong: a refused draft is replaced by a draw from p. */
static sp_status residual_is_p(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    float p[SP_ENUM_POSITIONS][V];
    for (size_t j = 0; j < w->n_rows; j++) SP_TRY(sp_sample_law(w, j, p[j], err));
    SP_TRY(sp_accept_find("gsd")->accept(w, n_final, err));
    size_t last = *n_final - 1;
    if (last < w->n_drafts && w->tokens[last] != w->drafts[last])
        w->tokens[last] = sp_weights_draw(p[last], V, sp_row_uniform(w, SP_DRAW_REDRAFT, last));
    return SP_OK;
}

/* Wrong: what stands in for a refused draft is drawn group by group, (P - Q)+ shared out by p. */
static sp_status residual_by_groups(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    float weights[SP_ENUM_POSITIONS][V];
    for (size_t j = 0; j < w->n_drafts; j++) {
        float p[V];
        SP_TRY(sp_sample_law(w, j, p, err));
        for (int32_t v = 0; v < V; v++) {
            float in_p = 0, in_q = 0;
            for (int32_t o = 0; o < V; o++) {
                if (group_of[o] != group_of[v]) continue;
                in_p += p[o];
                in_q += sp_law_at(w->rows[j].law, w->drafts[j], V, o);
            }
            weights[j][v] = sp_residual(in_p, in_q) * p[v] / in_p;
        }
    }
    SP_TRY(sp_accept_find("gsd")->accept(w, n_final, err));
    size_t last = *n_final - 1;
    if (last < w->n_drafts && w->tokens[last] != w->drafts[last])
        w->tokens[last] = sp_weights_draw(weights[last], V, sp_row_uniform(w, SP_DRAW_RESIDUAL, last));
    return SP_OK;
}

static void wrong_variants_are_caught(void **state)
{
    (void)state;
    const struct {
        const char *name;
        size_t grouping;
        sp_status (*accept)(const sp_accept_window *, size_t *, sp_error *);
    } mutants[] = {{"members by the draft's law", 1, by_draft_law},
                   {"no limit on probability", 3, without_limits},
                   {"no limit on distance", 4, without_limits},
                   {"residual by groups", 0, residual_by_groups},
                   {"residual replaced by p", 0, residual_is_p}};
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        sp_accept_ops rule = *sp_accept_find("gsd");
        rule.accept = mutants[i].accept;
        trial t = two_token_trial(&groupings[mutants[i].grouping].relaxation, &rule);
        print_message("%-30s z %+.1f\n", mutants[i].name, t.z);
        assert_true(t.z > 4);
    }
}

/* Static groups: disjoint, of the size asked, and no code outside a group was nearer to its first than one inside. */
static void groups_are_near_codes(void **state)
{
    (void)state;
    enum { N = 67, WIDTH = 3 };
    float *points = sp_test_random(N * WIDTH, 11);
    static const size_t sizes[] = {1, 2, 10, 66, 67, 256};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int32_t group[N], first[N];
        size_t members[N] = {0};
        sp_groups_build(points, N, WIDTH, sizes[i], group);
        for (int32_t v = N - 1; v >= 0; v--) {
            assert_in_range(group[v], 0, N - 1);
            members[group[v]]++;
            first[group[v]] = v;
        }
        for (int32_t g = 0, left = N; left > 0; left -= (int32_t)members[g++])
            assert_int_equal(members[g], (size_t)left < sizes[i] ? (size_t)left : sizes[i]);
        for (int32_t in = 0; in < N; in++)
            for (int32_t out = 0; out < N; out++) {
                if (group[out] <= group[in]) continue;
                const float *from = points + first[group[in]] * WIDTH;
                assert_true(sp_code_distance(from, points + in * WIDTH, WIDTH) <=
                            sp_code_distance(from, points + out * WIDTH, WIDTH));
            }
    }
    sp_test_free(points, N * WIDTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(closed_form), cmocka_unit_test(group_of_one_is_sjd),
                                       cmocka_unit_test(sets_are_kept), cmocka_unit_test(groups_are_near_codes),
                                       cmocka_unit_test(wrong_variants_are_caught)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
