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

static bool has_sets(const sp_sampling *s, size_t n_codes)
{
    return (s->top_k > 0 && (size_t)s->top_k < n_codes) || s->top_p < 1;
}

/* What the device captures once for all, and the tables of codes that it holds once. */
bool sp_device_can_share(const sp_decode_plan *a, const sp_decode_plan *b, size_t n_codes)
{
    const sp_sampling *s = &a->sampling, *t = &b->sampling;
    return a->rule == b->rule && a->window == b->window && (s->cfg_scale != 1) == (t->cfg_scale != 1) &&
           has_sets(s, n_codes) == has_sets(t, n_codes) && a->relaxation.group_of == b->relaxation.group_of &&
           a->relaxation.group_size == b->relaxation.group_size;
}

size_t sp_device_limit(const sp_device_loop *loop, size_t n, size_t max_window)
{
    size_t each = loop->max_rows / n;
    return each < max_window ? each : max_window;
}

sp_status sp_device_gather(const sp_device_batch *b, sp_error *err)
{
    return b->loop->ops->gather(b->loop->state, b->n, err);
}

sp_status sp_device_begin(sp_device_batch *b, size_t at, sp_error *err)
{
    sp_device_place *place = &b->places[at];
    const sp_sampling *s = &place->plan->sampling;
    const sp_relaxation *r = &place->plan->relaxation;
    sp_device_picture picture = {.rule = place->plan->rule->name, .seed = s->seed, .image = s->image,
                                 .cfg_scale = s->cfg_scale, .temperature = s->temperature,
                                 .top_k = (size_t)s->top_k, .top_p = s->top_p, .starts = place->decoder->tokens,
                                 .codes = r->codes, .code_dim = r->code_dim, .group_size = r->group_size,
                                 .group_delta = r->group_delta, .group_distance = r->group_distance,
                                 .group_of = r->group_of};
    SP_TRY(b->loop->ops->begin(b->loop->state, at, &picture, err));
    place->state = SP_PLACE_LIVE;
    place->first = 0;
    place->why = (sp_error){0};
    return SP_OK;
}

/* Passes that are queued and not done yet. */
typedef struct queue {
    size_t n, rows[AHEAD];
} queue;

static size_t number(const sp_device_batch *b, sp_place_state state)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) n += b->places[i].state == state;
    return n;
}

static const sp_device_place *any_live(const sp_device_batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->places[i].state == SP_PLACE_LIVE) return &b->places[i];
    return NULL;
}

/* Of fewer pictures a pass is shorter, and a longer window may pay. They begin with what was learned of more: at the
 * end of a batch there is no time to measure every window again. */
static sp_pacer *pacer_of(const sp_device_batch *b)
{
    size_t step = sp_device_step(number(b, SP_PLACE_LIVE)), more = step;
    while (b->pacers[more].passes == 0 && more < sp_device_step(b->n)) more++;
    if (more > step) b->pacers[step] = b->pacers[more];
    return &b->pacers[step];
}

static size_t rows_of(const sp_device_batch *b)
{
    const sp_device_place *any = any_live(b);
    size_t limit = sp_device_limit(b->loop, b->n, b->max_window), rows = any->plan->window;
    if (!any->plan->rule->drafts) return 1;
    if (rows == 0)
        rows = sp_pacer_window(pacer_of(b), limit < any->decoder->n_positions ? limit : any->decoder->n_positions);
    return rows < limit ? rows : limit;
}

/* None is queued behind a pass that may complete a picture: another can begin then. */
static sp_status fill(const sp_device_batch *b, queue *q, sp_error *err)
{
    size_t end = 0, n_positions = any_live(b)->decoder->n_positions;
    for (size_t i = 0; i < b->n; i++)
        if (b->places[i].state == SP_PLACE_LIVE && b->places[i].first > end) end = b->places[i].first;
    for (size_t i = 0; i < q->n; i++) end += q->rows[i];
    while (q->n < AHEAD && (q->n == 0 || end < n_positions)) {
        size_t n = rows_of(b);
        SP_TRY(b->loop->ops->pass(b->loop->state, n, err));
        q->rows[q->n++] = n;
        end += n;
    }
    return SP_OK;
}

static sp_status wait_for(const sp_device_batch *b, size_t at, const sp_device_record **record, sp_error *err)
{
    for (;;) {
        SP_TRY(b->loop->ops->poll(b->loop->state, at, b->places[at].decoder->passes, record, err));
        if (*record) return SP_OK;
        sched_yield();
    }
}

/* One picture's part of a pass over n rows. */
static sp_status count(sp_device_place *place, const sp_device_record *record, size_t n, size_t together,
                       sp_error *err)
{
    sp_decoder *d = place->decoder;
    if (record->broken) {
        place->state = SP_PLACE_OVER;
        if (sp_sample_broken((size_t)record->broken - 1, &place->plan->sampling, &place->why) != SP_OK) return SP_OK;
    }
    size_t live = (size_t)record->n_rows, n_final = (size_t)record->n_final;
    if ((size_t)record->first != place->first || n_final < 1 || n_final > live || live > n)
        return SP_FAIL(err, SP_EBUG, "device: pass %zu made %zu of %zu rows final from %d, expected from %zu",
                       d->passes, n_final, live, record->first, place->first);
    d->drafted += live - 1;
    d->deviation = record->deviation;
    sp_decode_count(d, place->first, n_final);
    d->decode_ms = sp_clock_ms() - place->begun;
    place->first += n_final;
    if (place->first == d->n_positions) place->state = SP_PLACE_OVER;
    return sp_decode_progress(d, place->plan, place->first, together, err);
}

/* The oldest of the passes. Time and tokens of whole windows go to the pacer; the time is that of the model, which is
 * the same for all pictures. */
static sp_status follow(sp_device_batch *b, queue *q, sp_error *err)
{
    size_t n = q->rows[0], tokens = 0, whole = 0, together = number(b, SP_PLACE_LIVE);
    uint64_t model_ns = 0;
    sp_pacer *pacer = pacer_of(b);
    bool drafts = any_live(b)->plan->rule->drafts;
    for (size_t at = 0; at < b->n; at++) {
        const sp_device_record *record = NULL;
        if (b->places[at].state != SP_PLACE_LIVE) continue;
        SP_TRY(wait_for(b, at, &record, err));
        SP_TRY(count(&b->places[at], record, n, together, err));
        if (record->broken || (size_t)record->n_rows < n) continue;
        if (whole++ == 0) model_ns = record->model_ns;
        tokens += (size_t)record->n_final;
    }
    if (drafts && whole > 0) sp_pacer_record(pacer, n, (double)tokens / (double)whole, (double)model_ns * 1e-6);
    for (size_t i = 1; i < q->n; i++) q->rows[i - 1] = q->rows[i];
    q->n--;
    return SP_OK;
}

/* Hands over the pictures that are over. */
static sp_status deliver(sp_device_batch *b, sp_error *err)
{
    for (size_t at = 0; at < b->n; at++) {
        sp_device_place *place = &b->places[at];
        if (place->state != SP_PLACE_OVER) continue;
        place->state = SP_PLACE_EMPTY;
        bool complete = place->why.status == SP_OK;
        SP_TRY(b->loop->ops->finish(b->loop->state, at, complete ? place->decoder->tokens : NULL, err));
        if (b->over) SP_TRY(b->over(b->user, at, err));
        else if (!complete) return SP_FAIL(err, place->why.status, "%s", place->why.message);
    }
    return SP_OK;
}

static sp_status run(sp_device_batch *b, sp_error *err)
{
    queue q = {0};
    for (;;) {
        size_t live = number(b, SP_PLACE_LIVE), over = number(b, SP_PLACE_OVER);
        if (live + over == 0) return SP_OK;
        if (over == 0) SP_TRY(fill(b, &q, err));
        if (over == 0 && b->meanwhile) SP_TRY(b->meanwhile(b->user, err));
        /* Of a pass behind one that found scores which are no numbers nothing may be left to follow. */
        if (live == 0) q.n = 0;
        if (q.n > 0) SP_TRY(follow(b, &q, err));
        else SP_TRY(deliver(b, err));
    }
}

/* What is queued ends before anything else begins, whatever became of the pictures. */
sp_status sp_device_run(sp_device_batch *b, sp_error *err)
{
    sp_status status = run(b, err);
    sp_error unread = {0};
    if (status != SP_OK) b->loop->ops->finish(b->loop->state, 0, NULL, &unread);
    return status;
}

sp_status sp_device_decode(sp_decoder *d, const sp_decode_plan *plan, double begun, sp_error *err)
{
    sp_device_place place = {.decoder = d, .plan = plan, .begun = begun};
    sp_device_batch alone = {plan->loop, &place, 1, d->max_window, &d->pacer, NULL, NULL, NULL};
    SP_TRY(sp_device_gather(&alone, err));
    SP_TRY(sp_device_begin(&alone, 0, err));
    return sp_device_run(&alone, err);
}
