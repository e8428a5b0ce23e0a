/* Rules sjd and coupled, which record the laws of their drafts, through the production loop: counts against the exact
 * law of every sequence (|z| < 4). And every way known to get such a rule wrong, each of which must be caught. */
#include "settings.h"

#include "acceptance/verify.h"
#include "base/arena.h"

static void law_of_every_sequence(void **state)
{
    (void)state;
    for (size_t i = 0; i < RECORDED_SETTINGS; i++) {
        outcome o = measure(&recorded_settings[i], NULL, runs());
        print_message("%-22s z %+.1f, outside %u\n", recorded_settings[i].name, o.z, o.outside);
        assert_true(fabs(o.z) < 4);
        assert_int_equal(o.outside, 0);
        assert_int_equal(o.idle, 0);
        /* The pacer did choose. */
        if (recorded_settings[i].window == 0) assert_true(o.windows & (o.windows - 1));
    }
}

/* The parts of a rule, to put together wrongly: p_j of every row, p / q of a draft, a draw from p. */
typedef float table[SP_ENUM_POSITIONS][SP_ENUM_CODES];

static sp_status laws(const sp_accept_window *w, table p, sp_error *err)
{
    for (size_t j = 0; j < w->n_rows; j++) SP_TRY(sp_sample_law(w, j, p[j], err));
    return SP_OK;
}

static double ratio(const sp_accept_window *w, size_t j, const float *p)
{
    return (double)p[w->drafts[j]] / (double)sp_law_at(w->rows[j].law, w->drafts[j], w->n_codes, w->drafts[j]);
}

static int32_t fresh(const sp_accept_window *w, size_t j, const float *p)
{
    return sp_weights_draw(p, w->n_codes, sp_row_uniform(w, SP_DRAW_REDRAFT, j));
}

/* Wrong: a draft that is kept keeps the law it was drawn from first. */
static sp_status keeps_old_record(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table p;
    bool passing = true;
    SP_TRY(laws(w, p, err));
    for (size_t j = 0; j < w->n_rows; j++) {
        bool drafted = j < w->n_drafts, kept = drafted && sp_ratio_test(w, j, p[j]);
        w->tokens[j] = kept ? w->drafts[j] : drafted ? sp_residual_draw(w, j, p[j]) : fresh(w, j, p[j]);
        if (!kept) sp_row_record(w, j, p[j]);
        if (passing) *n_final = j + 1;
        passing = passing && kept;
    }
    return SP_OK;
}

/* Wrong: what stands in for a refused draft is drawn from p. */
static sp_status residual_is_p(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table p;
    SP_TRY(laws(w, p, err));
    SP_TRY(sp_accept_find("sjd")->accept(w, n_final, err));
    size_t last = *n_final - 1;
    if (last < w->n_drafts && w->tokens[last] != w->drafts[last]) w->tokens[last] = fresh(w, last, p[last]);
    return SP_OK;
}

/* The refused draft is replaced by a draw from weights made of the residual by change. */
static sp_status with_residual(const sp_accept_window *w, void (*change)(const sp_sampling *s, float *weights),
                               size_t *n_final, sp_error *err)
{
    table p, weights;
    SP_TRY(laws(w, p, err));
    for (size_t j = 0; j < w->n_drafts; j++) {
        double total = 0;
        for (int32_t v = 0; v < SP_ENUM_CODES; v++) {
            weights[j][v] = sp_residual(p[j][v], sp_law_at(w->rows[j].law, w->drafts[j], w->n_codes, v));
            total += (double)weights[j][v];
        }
        for (int32_t v = 0; v < SP_ENUM_CODES; v++) weights[j][v] /= (float)total;
        change(w->sampling, weights[j]);
    }
    SP_TRY(sp_accept_find("sjd")->accept(w, n_final, err));
    size_t last = *n_final - 1;
    if (last < w->n_drafts && w->tokens[last] != w->drafts[last])
        w->tokens[last] = sp_weights_draw(weights[last], w->n_codes, sp_row_uniform(w, SP_DRAW_RESIDUAL, last));
    return SP_OK;
}

static void sharpen(const sp_sampling *s, float *weights)
{
    for (int v = 0; v < SP_ENUM_CODES; v++) weights[v] = powf(weights[v], 1 / s->temperature);
}

static void cut(const sp_sampling *s, float *weights)
{
    float kept[SP_ENUM_CODES];
    for (int v = 0; v < SP_ENUM_CODES; v++) {
        float above = 0;
        for (int o = 0; o < SP_ENUM_CODES; o++) above += weights[o] > weights[v] ? weights[o] : 0;
        kept[v] = above <= s->top_p ? weights[v] : 0;
    }
    memcpy(weights, kept, sizeof kept);
}

/* Wrong: temperature, or top-p, is applied to the residual although p and q have it. */
static sp_status temperature_twice(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return with_residual(w, sharpen, n_final, err);
}

static sp_status top_p_twice(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return with_residual(w, cut, n_final, err);
}

/* Wrong: drafts that are still likely enough stay, the others are drawn anew. */
static sp_status reuses_likely(const sp_accept_window *w, size_t *n_final, double threshold, sp_error *err)
{
    table p;
    bool likely[SP_ENUM_POSITIONS];
    SP_TRY(laws(w, p, err));
    for (size_t j = 0; j < w->n_drafts; j++) likely[j] = ratio(w, j, p[j]) > threshold;
    SP_TRY(sp_accept_find("sjd")->accept(w, n_final, err));
    for (size_t j = *n_final; j < w->n_drafts; j++)
        if (likely[j]) w->tokens[j] = w->drafts[j];
    return SP_OK;
}

static sp_status reuses_above_0_6(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return reuses_likely(w, n_final, 0.6, err);
}

static sp_status reuses_above_0_8(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    return reuses_likely(w, n_final, 0.8, err);
}

/* Wrong: two pictures go forward together, by the shorter of the two; the drafts that passed beyond wait with the law
 * they had. The other picture is a number of rows drawn apart. */
static sp_status common_cut(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table q;
    sp_law_kind kind[SP_ENUM_POSITIONS];
    for (size_t j = 0; j < w->n_drafts; j++) {
        kind[j] = w->rows[j].law->kind;
        memcpy(q[j], w->rows[j].law->probability, sizeof q[j]);
    }
    size_t alone, other = 1;
    SP_TRY(sp_accept_find("sjd")->accept(w, &alone, err));
    while (other < w->n_rows && sp_uniform(w->sampling->seed, 1, SP_DRAW_ACCEPT, (uint32_t)other, w->pass) < 0.5)
        other++;
    *n_final = alone < other ? alone : other;
    for (size_t j = *n_final; j + 1 < alone; j++) {
        sp_row_record(w, j, q[j]);
        w->rows[j].law->kind = kind[j];
    }
    return SP_OK;
}

/* Only the first rows of the window go to the rule; the other drafts stay as they are. */
static sp_status first_rows(const sp_accept_window *w, size_t n, size_t *n_final, sp_error *err)
{
    sp_accept_window part = *w;
    part.n_rows = n;
    part.n_drafts = n < w->n_drafts ? n : w->n_drafts;
    for (size_t j = n; j < w->n_drafts; j++) w->tokens[j] = w->drafts[j];
    for (size_t j = w->n_drafts; j < w->n_rows; j++) {
        float p[SP_ENUM_CODES];
        SP_TRY(sp_sample_law(w, j, p, err));
        w->tokens[j] = fresh(w, j, p);
        sp_row_record(w, j, p);
    }
    return sp_accept_find("coupled")->accept(&part, n_final, err);
}

/* Wrong: the window ends before a draft that was unlikely when it was drawn. */
static sp_status window_by_confidence(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    size_t n = 1;
    while (n < w->n_drafts && sp_law_at(w->rows[n].law, w->drafts[n], w->n_codes, w->drafts[n]) >= 0.35f) n++;
    return first_rows(w, n, n_final, err);
}

/* Wrong: the window ends where a draft has some value. */
static sp_status window_by_draft(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    size_t n = 1;
    while (n < w->n_drafts && w->drafts[n] != 0) n++;
    return first_rows(w, n, n_final, err);
}

/* Wrong: block verification, which looks at later drafts before it accepts earlier ones, with drafts that are carried
 * over. */
static sp_status block_carried(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table p, q;
    double chance[SP_ENUM_POSITIONS + 1] = {1};
    size_t m = w->n_drafts, accepted = 0;
    SP_TRY(laws(w, p, err));
    for (size_t j = 0; j < m; j++)
        for (int32_t v = 0; v < SP_ENUM_CODES; v++)
            q[j][v] = sp_law_at(w->rows[j].law, w->drafts[j], w->n_codes, v);
    for (size_t i = 1; i <= m; i++) {
        chance[i] = fmin(1, chance[i - 1] * ratio(w, i - 1, p[i - 1]));
        double left = 0, take = chance[i];
        for (int32_t v = 0; i < m && v < SP_ENUM_CODES; v++)
            left += fmax(0, chance[i] * (double)p[i][v] - (double)q[i][v]);
        if (i < m) take = left > 0 || chance[i] < 1 ? left / (left + 1 - chance[i]) : 1;
        if (sp_row_uniform(w, SP_DRAW_ACCEPT, i - 1) < take) accepted = i;
    }
    sp_accept_window later = *w;
    later.pass += 1000; /* other draws for what comes after */
    for (size_t j = 0; j < w->n_rows; j++) {
        float weights[SP_ENUM_CODES];
        if (j < accepted) w->tokens[j] = w->drafts[j];
        else if (j >= m) w->tokens[j] = fresh(w, j, p[j]);
        else if (j > accepted) w->tokens[j] = sp_ratio_test(&later, j, p[j]) ? w->drafts[j]
                                                                            : sp_residual_draw(&later, j, p[j]);
        else {
            for (int32_t v = 0; v < SP_ENUM_CODES; v++)
                weights[v] = (float)fmax(0, chance[j] * (double)p[j][v] - (double)q[j][v]);
            w->tokens[j] = sp_weights_draw(weights, w->n_codes, sp_row_uniform(w, SP_DRAW_RESIDUAL, j));
        }
        sp_row_record(w, j, p[j]);
    }
    *n_final = accepted < w->n_rows ? accepted + 1 : accepted;
    return SP_OK;
}

/* Wrong: the record of a draft is the law of the position before it. */
static sp_status record_one_off(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table p;
    SP_TRY(laws(w, p, err));
    SP_TRY(sp_accept_find("coupled")->accept(w, n_final, err));
    for (size_t j = 1; j < w->n_rows; j++) sp_row_record(w, j, p[j - 1]);
    return SP_OK;
}

/* Wrong: drafts are drawn within top-k, and recorded as if from all codes. */
static sp_status record_without_sets(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table p;
    sp_sampling all = *w->sampling;
    sp_accept_window whole = *w;
    all.top_k = 0;
    whole.sampling = &all;
    SP_TRY(laws(&whole, p, err));
    SP_TRY(sp_accept_find("coupled")->accept(w, n_final, err));
    for (size_t j = 0; j < w->n_rows; j++) sp_row_record(w, j, p[j]);
    return SP_OK;
}

/* Wrong: new drafts are the likeliest codes, recorded as if drawn. */
static sp_status greedy_drafts(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table p;
    SP_TRY(laws(w, p, err));
    SP_TRY(sp_accept_find("sjd")->accept(w, n_final, err));
    for (size_t j = *n_final; j < w->n_rows; j++) w->tokens[j] = w->ops->argmax(p[j], NULL, w->n_codes);
    return SP_OK;
}

/* Wrong: the draw that refused a draft chooses what stands in for it. */
static sp_status residual_by_the_same_draw(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    table p, residual;
    SP_TRY(laws(w, p, err));
    for (size_t j = 0; j < w->n_drafts; j++)
        for (int32_t v = 0; v < SP_ENUM_CODES; v++)
            residual[j][v] = sp_residual(p[j][v], sp_law_at(w->rows[j].law, w->drafts[j], w->n_codes, v));
    SP_TRY(sp_accept_find("coupled")->accept(w, n_final, err));
    for (size_t j = 0; j < w->n_drafts; j++)
        if (w->tokens[j] != w->drafts[j])
            w->tokens[j] = sp_weights_draw(residual[j], w->n_codes, sp_row_uniform(w, SP_DRAW_ACCEPT, j));
    return SP_OK;
}

/* Wrong: a position has the same draws in every pass. */
static sp_status same_draws_every_pass(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    sp_accept_window other = *w;
    other.pass = 0;
    return sp_accept_find("coupled")->accept(&other, n_final, err);
}

/* Wrong: all rows of a pass share one u. */
static sp_status same_draws_every_row(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    sp_sampling sampling = *w->sampling;
    bool passing = true;
    *n_final = 0;
    for (size_t j = 0; j < w->n_rows; j++) {
        sp_accept_window row = *w;
        size_t one;
        row.position = 0;
        row.n_rows = 1;
        row.n_drafts = j < w->n_drafts;
        row.rows = w->rows + j;
        row.drafts = w->drafts + j;
        row.tokens = w->tokens + j;
        row.sampling = &sampling;
        SP_TRY(sp_accept_find("coupled")->accept(&row, &one, err));
        if (passing) *n_final = j + 1;
        passing = passing && row.n_drafts && row.tokens[0] == row.drafts[0];
    }
    return SP_OK;
}

/* Wrong: a start copied from the left is taken for a uniform draw. */
static sp_status copy_taken_for_uniform(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    for (size_t j = 0; j < w->n_drafts; j++)
        if (w->rows[j].law->kind == SP_LAW_POINT) w->rows[j].law->kind = SP_LAW_UNIFORM;
    return sp_accept_find("coupled")->accept(w, n_final, err);
}

/* Wrong: after a window that passes whole comes a uniform code. */
static sp_status uniform_bonus(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    SP_TRY(sp_accept_find("coupled")->accept(w, n_final, err));
    if (*n_final == w->n_rows && w->n_drafts < w->n_rows)
        w->tokens[w->n_rows - 1] =
            (int32_t)(sp_row_uniform(w, SP_DRAW_REDRAFT, w->n_rows - 1) * (double)w->n_codes);
    return SP_OK;
}

/* Wrong: the refused draft is committed. */
static sp_status commits_the_refused(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    SP_TRY(sp_accept_find("coupled")->accept(w, n_final, err));
    if (*n_final <= w->n_drafts) w->tokens[*n_final - 1] = w->drafts[*n_final - 1];
    return SP_OK;
}

static void wrong_variants_are_caught(void **state)
{
    (void)state;
    const struct {
        const char *name;
        sp_status (*accept)(const sp_accept_window *, size_t *, sp_error *);
        float temperature;
        int top_k;
        float top_p;
        const char *drafter;
        size_t times; /* runs, for what is hard to see */
    } mutants[] = {{"kept draft keeps its old law", keeps_old_record, 1, 0, 1, "uniform", 1},
                   {"residual replaced by p", residual_is_p, 1, 0, 1, "uniform", 1},
                   {"temperature twice", temperature_twice, 0.6f, 0, 1, "uniform", 1},
                   {"top-p twice", top_p_twice, 1, 0, 0.8f, "uniform", 1},
                   {"drafts reused above 0.6", reuses_above_0_6, 1, 0, 1, "uniform", 1},
                   {"drafts reused above 0.8", reuses_above_0_8, 1, 0, 1, "uniform", 1},
                   {"two pictures cut together", common_cut, 1, 0, 1, "uniform", 1},
                   {"window by confidence", window_by_confidence, 1, 0, 1, "uniform", 1},
                   {"window by a draft", window_by_draft, 1, 0, 1, "uniform", 1},
                   {"block test, drafts carried", block_carried, 1, 0, 1, "uniform", 5},
                   {"record one position off", record_one_off, 1, 0, 1, "uniform", 1},
                   {"record without top-k", record_without_sets, 1, 2, 1, "uniform", 1},
                   {"likeliest drafts", greedy_drafts, 1, 0, 1, "uniform", 1},
                   {"residual by the test's draw", residual_by_the_same_draw, 1, 0, 1, "uniform", 1},
                   {"same draws every pass", same_draws_every_pass, 1, 0, 1, "uniform", 1},
                   {"same draws every row", same_draws_every_row, 1, 0, 1, "uniform", 1},
                   {"copy taken for uniform", copy_taken_for_uniform, 1, 0, 1, "left", 1},
                   {"uniform bonus", uniform_bonus, 1, 0, 1, "uniform", 1},
                   {"refused draft committed", commits_the_refused, 1, 0, 1, "uniform", 1}};
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        sp_accept_ops rule = *sp_accept_find("coupled");
        rule.accept = mutants[i].accept;
        setting s = {mutants[i].name, "coupled", mutants[i].drafter, 4, 1, mutants[i].temperature, mutants[i].top_k,
                     mutants[i].top_p};
        outcome o = measure(&s, &rule, mutants[i].times * runs());
        print_message("%-30s z %+.1f, outside %u, idle %zu\n", mutants[i].name, o.z, o.outside, o.idle);
        assert_true(fabs(o.z) >= 4 || o.outside);
    }
}

/* Wrong: the likeliest other codes are tested as if they had been drawn. */
static size_t likeliest_guesses(const sp_accept_window *w, size_t j, size_t most, int32_t *guesses)
{
    float left[SP_ENUM_CODES];
    memcpy(left, w->rows[j].law->probability, sizeof left);
    left[w->tokens[j]] = 0;
    for (size_t i = 0; i < most; i++) {
        guesses[i] = w->ops->argmax(left, NULL, w->n_codes);
        if (left[guesses[i]] <= 0) return i;
        left[guesses[i]] = 0;
    }
    return most;
}

/* Draws of a test of the i-th guess, apart from those of the rule. */
static double other_uniform(const sp_accept_window *w, size_t i)
{
    return sp_uniform(w->sampling->seed, w->sampling->image, (sp_draw_purpose)50, (uint32_t)w->position,
                      8 * w->pass + (uint32_t)i);
}

typedef struct race {
    bool restricted; /* a guess is tested with the law it was drawn from: without the codes before it */
    bool last_wins;
    bool first_residual; /* what none is replaced by comes from the residual of the draft alone */
} race;

static sp_status run_race(const sp_accept_window *w, const int32_t *guesses, size_t n, race how, size_t *chosen,
                          int32_t *token, sp_error *err)
{
    float p[SP_ENUM_CODES], first[SP_ENUM_CODES], *q = w->rows[0].law->probability;
    SP_TRY(sp_sample_law(w, 0, p, err));
    *chosen = n + 1;
    for (size_t i = 0; i <= n; i++) {
        int32_t x = i == 0 ? w->drafts[0] : guesses[i - 1];
        if (sp_ratio_passes(other_uniform(w, i), (double)p[x], (double)q[x])) {
            *chosen = i;
            if (!how.last_wins) return SP_OK;
        }
        double p_left = 0, q_left = 0;
        for (int v = 0; v < SP_ENUM_CODES; v++) p_left += (double)sp_residual(p[v], q[v]);
        for (int v = 0; v < SP_ENUM_CODES && p_left > 0; v++)
            p[v] = (float)((double)sp_residual(p[v], q[v]) / p_left);
        if (i == 0) memcpy(first, p, sizeof p);
        if (how.restricted) q[x] = 0;
        for (int v = 0; v < SP_ENUM_CODES; v++) q_left += (double)q[v];
        for (int v = 0; v < SP_ENUM_CODES && q_left > 0; v++) q[v] = (float)((double)q[v] / q_left);
    }
    if (*chosen > n)
        *token = sp_weights_draw(how.first_residual ? first : p, w->n_codes, sp_row_uniform(w, SP_DRAW_RESIDUAL, 0));
    return SP_OK;
}

/* Right, to show that what follows is wrong for the reason it is meant to be. */
static sp_status race_rightly(const sp_accept_window *w, const int32_t *guesses, size_t n, size_t *chosen,
                              int32_t *token, sp_error *err)
{
    return run_race(w, guesses, n, (race){.restricted = true}, chosen, token, err);
}

/* Wrong: a guess drawn without the codes before it is tested with the law that has them. */
static sp_status with_replacement(const sp_accept_window *w, const int32_t *guesses, size_t n, size_t *chosen,
                                  int32_t *token, sp_error *err)
{
    return run_race(w, guesses, n, (race){.restricted = false}, chosen, token, err);
}

/* Wrong: a later guess that passes wins over an earlier one. */
static sp_status last_wins(const sp_accept_window *w, const int32_t *guesses, size_t n, size_t *chosen, int32_t *token,
                           sp_error *err)
{
    return run_race(w, guesses, n, (race){.restricted = true, .last_wins = true}, chosen, token, err);
}

/* Wrong: when all are refused, the guesses are forgotten. */
static sp_status first_residual(const sp_accept_window *w, const int32_t *guesses, size_t n, size_t *chosen,
                                int32_t *token, sp_error *err)
{
    return run_race(w, guesses, n, (race){.restricted = true, .first_residual = true}, chosen, token, err);
}

static void wrong_guesses_are_caught(void **state)
{
    (void)state;
    const sp_accept_ops *rule = sp_accept_find("coupled");
    const struct {
        const char *name;
        size_t (*guess)(const sp_accept_window *, size_t, size_t, int32_t *);
        sp_status (*choose)(const sp_accept_window *, const int32_t *, size_t, size_t *, int32_t *, sp_error *);
        bool wrong;
    } mutants[] = {{"right", rule->guess, race_rightly, false},
                   {"likeliest guesses", likeliest_guesses, race_rightly, true},
                   {"tested with replacement", rule->guess, with_replacement, true},
                   {"last wins", rule->guess, last_wins, true},
                   {"residual of the draft alone", rule->guess, first_residual, true}};
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        sp_accept_ops mutant = *rule;
        mutant.guess = mutants[i].guess;
        mutant.choose = mutants[i].choose;
        const setting s = {mutants[i].name, "coupled", "uniform", 4, 1, 1, 0, 1, 3};
        outcome o = measure(&s, &mutant, runs());
        print_message("%-30s z %+.1f, outside %u\n", mutants[i].name, o.z, o.outside);
        assert_true((fabs(o.z) >= 4 || o.outside) == mutants[i].wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(law_of_every_sequence),
                                       cmocka_unit_test(wrong_variants_are_caught),
                                       cmocka_unit_test(wrong_guesses_are_caught)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
