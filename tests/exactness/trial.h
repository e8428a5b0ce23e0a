#ifndef SP_TRIAL_H
#define SP_TRIAL_H
/* Many runs of a rule over the enumerable model through the production loop, counted against the exact law. */
#include "enumerable.h"

enum { ROOM = 24 }; /* rows for windows with branches */

typedef struct setting {
    const char *name;
    const char *rule, *drafter;
    size_t window; /* 0: the pacer */
    float cfg_scale, temperature;
    int top_k;
    float top_p;
    size_t branches; /* guesses for the first draft's position; 0 is 1 */
} setting;

typedef struct outcome {
    double z;
    uint32_t outside;    /* runs where the law is zero */
    size_t other_tokens; /* runs whose tokens are not those of ar, among one of sixteen */
    size_t idle;         /* passes that left a final row uncommitted */
    unsigned windows;    /* bit n: a first pass had n rows */
} outcome;

static inline size_t runs(void) { return getenv("SP_TEST_ALL") ? 1000000 : 100000; }

static inline sp_decode_plan plan_of(const setting *s, const sp_accept_ops *rule, uint64_t seed)
{
    return (sp_decode_plan){.rule = rule ? rule : sp_accept_find(s->rule), .drafter = sp_drafter_find(s->drafter),
                            .window = s->window, .branches = s->branches,
                            .sampling = {seed, 0, s->cfg_scale, s->temperature, s->top_k, s->top_p}};
}

/* Stands between the loop and a rule: an exact one stops right at its first draft that differs, or at the window's
 * end. */
static const sp_accept_ops *audited;
static outcome *audit_into;

static inline sp_status audit(const sp_accept_window *w, size_t *n_final, sp_error *err)
{
    SP_TRY(audited->accept(w, n_final, err));
    size_t last = *n_final - 1;
    audit_into->idle += *n_final < w->n_rows && w->drafts[last] == w->tokens[last];
    if (w->position == 0) audit_into->windows |= 1u << w->n_rows;
    return SP_OK;
}

/* n runs of a setting, with another rule in its place when given. loop: of a device, which knows the rule by its name
 * and does not ask the audit; NULL: the host's. */
static inline outcome measure_on(const sp_device_loop *loop, const setting *s, const sp_accept_ops *rule, size_t n)
{
    static double law[SP_ENUM_OUTCOMES];
    static uint32_t count[SP_ENUM_OUTCOMES];
    outcome out = {0};
    sp_enumerable state = {0};
    sp_model model = sp_enum_model(&state);
    sp_decoder *decoder = NULL, *plain = NULL;
    const sp_ops *ops = sp_ops_find("auto");
    size_t rows = s->branches > 1 ? ROOM : SP_ENUM_POSITIONS;
    SP_TEST_OK(sp_decoder_open(&decoder, SP_ENUM_CODES, 1, SP_ENUM_POSITIONS, ops, rows, err));
    SP_TEST_OK(sp_decoder_open(&plain, SP_ENUM_CODES, 1, SP_ENUM_POSITIONS, ops, SP_ENUM_POSITIONS, err));
    memset(count, 0, sizeof count);
    audited = rule ? rule : sp_accept_find(s->rule);
    audit_into = &out;
    sp_accept_ops watched = *audited;
    watched.accept = audit;
    for (size_t run = 0; run < n; run++) {
        sp_decode_plan plan = plan_of(s, &watched, 0x5EED0000u + run);
        plan.loop = loop;
        SP_TEST_OK(sp_decode(decoder, &model, &plan, err));
        count[sp_enum_outcome(decoder->tokens)]++;
        assert_int_equal(decoder->passes + decoder->accepted, SP_ENUM_POSITIONS);
        if (run % 16) continue;
        plan.rule = sp_accept_find("ar");
        plan.loop = NULL;
        SP_TEST_OK(sp_decode(plain, &model, &plan, err));
        out.other_tokens += memcmp(plain->tokens, decoder->tokens, SP_ENUM_POSITIONS * sizeof(int32_t)) != 0;
        assert_int_equal(plain->passes, SP_ENUM_POSITIONS);
    }
    sp_enum_laws(&(sp_sampling){0, 0, s->cfg_scale, s->temperature, s->top_k, s->top_p}, law);
    out.z = sp_enum_chi_square(law, count, (double)n, &out.outside);
    sp_decoder_close(decoder);
    sp_decoder_close(plain);
    return out;
}

static inline outcome measure(const setting *s, const sp_accept_ops *rule, size_t n)
{
    return measure_on(NULL, s, rule, n);
}

#endif
