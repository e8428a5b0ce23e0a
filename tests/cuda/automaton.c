#include "cuda/automaton.h"

static sp_status begin(void *state, const sp_model_prompt *prompt, bool guided, float *features, sp_error *err)
{
    (void)prompt, (void)features, (void)err;
    ((sp_automaton *)state)->guided = guided;
    return SP_OK;
}

static sp_status forward(void *state, const sp_model_window *w, sp_error *err)
{
    sp_automaton *a = state;
    if (w->parents) return SP_FAIL(err, SP_EBUG, "automaton: a window with branches");
    for (size_t j = 0; j < w->n; j++) {
        size_t position = w->first + j;
        if (position == 0) a->context_at[0] = 0;
        else a->context_at[position] = a->next[(size_t)a->context_at[position - 1] * a->n_codes + (size_t)w->ids[j]];
        for (size_t stream = 0; stream < (a->guided ? 2u : 1u); stream++) {
            const float *from = a->logits + (stream * a->n_contexts + (size_t)a->context_at[position]) * a->n_codes;
            for (size_t v = 0; v < a->n_codes; v++) w->logits[(stream * w->n + j) * a->n_codes + v] = from[v];
        }
    }
    return SP_OK;
}

sp_model sp_automaton_model(sp_automaton *a)
{
    static const sp_model_ops ops = {begin, forward, NULL, NULL};
    return (sp_model){&ops, a, a->n_codes, a->n_positions / a->columns, a->columns, 1, 1};
}
