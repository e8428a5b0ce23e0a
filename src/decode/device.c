#include "decode/device.h"

#include <sched.h>

#include "base/clock.h"
#include "decode/account.h"

/* Passes queued on the device: one that runs, and one that follows without a pause. */
enum { AHEAD = 2 };

/* How positions start, for sp_device_picture, into d->tokens; false when a draft is neither a copy nor uniform. A copy
 * shows where it is from whatever the tokens are. */
static bool find_starts(sp_decoder *d, const sp_decode_plan *plan)
{
    for (size_t i = 0; i < d->n_positions; i++) {
        sp_draft_query query = {d->pass_of_token, i, d->columns, d->n_codes, &plan->sampling};
        sp_draft draft = plan->rule->drafts ? plan->drafter(&query) : (sp_draft){.kind = SP_LAW_UNIFORM};
        if (draft.kind == SP_LAW_POINT && draft.copy_of == 0) return false;
        d->tokens[i] = draft.kind == SP_LAW_UNIFORM ? -1 - draft.token : (int32_t)draft.copy_of - 1;
    }
    return true;
}

bool sp_device_can_decode(sp_decoder *d, const sp_decode_plan *plan)
{
    const sp_accept_ops *rule = plan->rule;
    if (!plan->loop || !plan->loop->ops->knows(rule->name)) return false;
    return !(rule->guess && plan->branches > 1) && find_starts(d, plan);
}

static sp_status begin(sp_decoder *d, const sp_decode_plan *plan, sp_error *err)
{
    const sp_sampling *s = &plan->sampling;
    const sp_relaxation *r = &plan->relaxation;
    sp_device_picture picture = {.rule = plan->rule->name, .seed = s->seed, .image = s->image,
                                 .cfg_scale = s->cfg_scale, .temperature = s->temperature,
                                 .top_k = (size_t)s->top_k, .top_p = s->top_p, .starts = d->tokens,
                                 .codes = r->codes, .code_dim = r->code_dim, .group_size = r->group_size,
                                 .group_delta = r->group_delta, .group_distance = r->group_distance,
                                 .group_of = r->group_of};
    return plan->loop->ops->begin(plan->loop->state, &picture, err);
}

/* Passes that are queued and not done yet. */
typedef struct queue {
    size_t n, rows[AHEAD];
} queue;

/* None is queued behind a pass that may complete the picture: it could be for nothing. */
static sp_status fill(const sp_decoder *d, const sp_decode_plan *plan, size_t first, queue *q, sp_error *err)
{
    size_t end = first;
    for (size_t i = 0; i < q->n; i++) end += q->rows[i];
    while (q->n < AHEAD && (q->n == 0 || end < d->n_positions)) {
        size_t n = sp_decode_rows(d, plan);
        SP_TRY(plan->loop->ops->pass(plan->loop->state, n, err));
        q->rows[q->n++] = n;
        end += n;
    }
    return SP_OK;
}

static sp_status wait_for(const sp_decoder *d, const sp_decode_plan *plan, const sp_device_record **record,
                          sp_error *err)
{
    for (;;) {
        SP_TRY(plan->loop->ops->poll(plan->loop->state, d->passes, record, err));
        if (*record) break;
        sched_yield();
    }
    if ((*record)->broken)
        return sp_sample_broken((size_t)(*record)->broken - 1, &plan->sampling, err);
    return SP_OK;
}

static sp_status follow(sp_decoder *d, const sp_decode_plan *plan, double begun, sp_error *err)
{
    queue q = {0};
    for (size_t first = 0; first < d->n_positions;) {
        const sp_device_record *record = NULL;
        SP_TRY(fill(d, plan, first, &q, err));
        SP_TRY(wait_for(d, plan, &record, err));
        size_t n = (size_t)record->n_rows, n_final = (size_t)record->n_final;
        if ((size_t)record->first != first || n_final < 1 || n_final > n || n > q.rows[0])
            return SP_FAIL(err, SP_EBUG, "device: pass %zu made %zu of %zu rows final from %d, expected from %zu",
                           d->passes, n_final, n, record->first, first);
        d->drafted += n - 1;
        d->deviation = record->deviation;
        sp_decode_count(d, first, n_final);
        d->decode_ms = sp_clock_ms() - begun;
        if (plan->rule->drafts && n == q.rows[0])
            sp_pacer_record(&d->pacer, n, n_final, (double)record->model_ns * 1e-6);
        for (size_t i = 1; i < q.n; i++) q.rows[i - 1] = q.rows[i];
        q.n--;
        first += n_final;
        SP_TRY(sp_decode_progress(d, plan, first, err));
    }
    return SP_OK;
}

/* What is queued ends before anything else begins, whatever became of the picture. */
sp_status sp_device_decode(sp_decoder *d, const sp_decode_plan *plan, double begun, sp_error *err)
{
    SP_TRY(begin(d, plan, err));
    sp_status status = follow(d, plan, begun, err);
    sp_status ended = plan->loop->ops->finish(plan->loop->state, status == SP_OK ? d->tokens : NULL, err);
    return status != SP_OK ? status : ended;
}
