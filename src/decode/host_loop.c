#include "decode/host_loop.h"

#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "decode/window.h"

/* Records of passes that nobody has asked for yet: device.c queues no more. */
enum { RECORDS = 4 };

typedef struct place {
    sp_decoder *decoder;
    sp_decode_plan plan; /* without drafter: starts is in its place */
    int32_t *starts;     /* [n_positions] as of sp_device_picture */
    size_t first, known, rows; /* rows: of the pass that is under way */
    bool begun;          /* and not finished */
    sp_device_record records[RECORDS];
    sp_status status;    /* of the pass that is under way */
    sp_error why;
} place;

struct sp_host_loop {
    sp_model model;
    sp_pool *pool;
    size_t n_positions, max_window, max_pictures, max_rows, n_places;
    place *places;     /* [max_pictures] */
    float *logits;     /* [2, max_rows, n_codes] */
    size_t *picture;   /* [max_pictures] of the windows of a pass */
    sp_model_window *windows; /* [max_pictures] */
    size_t n_windows;
    uint64_t model_ns;
    sp_arena arena;
};

static void take(sp_host_loop *h)
{
    h->places = sp_arena_take(&h->arena, h->max_pictures, sizeof *h->places);
    h->logits = sp_arena_take(&h->arena, 2 * h->max_rows, h->model.n_codes * sizeof(float));
    h->picture = sp_arena_take(&h->arena, h->max_pictures, sizeof *h->picture);
    h->windows = sp_arena_take(&h->arena, h->max_pictures, sizeof *h->windows);
    for (size_t i = 0; i < h->max_pictures; i++) {
        int32_t *starts = sp_arena_take(&h->arena, h->n_positions, sizeof(int32_t));
        if (h->places) h->places[i].starts = starts;
    }
}

static sp_status open_parts(sp_host_loop *h, const sp_ops *ops, sp_error *err)
{
    const sp_model *m = &h->model;
    take(h);
    SP_TRY(sp_arena_commit(&h->arena, "batch", err));
    take(h);
    for (size_t i = 0; i < h->max_pictures; i++)
        SP_TRY(sp_decoder_open(&h->places[i].decoder, m->n_codes, m->rows, m->columns, ops, h->max_window, err));
    return SP_OK;
}

sp_status sp_host_loop_open(sp_host_loop **out, const sp_model *model, const sp_ops *ops, sp_pool *pool,
                            size_t max_window, size_t max_pictures, size_t max_rows, sp_error *err)
{
    *out = NULL;
    sp_host_loop *h = sp_alloc(1, sizeof *h);
    if (!h) return SP_FAIL(err, SP_ENOMEM, "batch: no memory");
    h->model = *model;
    h->pool = pool;
    h->n_positions = model->rows * model->columns;
    h->max_window = max_window;
    h->max_pictures = max_pictures;
    h->max_rows = max_rows;
    sp_status status = open_parts(h, ops, err);
    if (status != SP_OK) {
        sp_host_loop_close(h);
        return status;
    }
    *out = h;
    return SP_OK;
}

void sp_host_loop_close(sp_host_loop *h)
{
    if (!h) return;
    for (size_t i = 0; h->places && i < h->max_pictures; i++) sp_decoder_close(h->places[i].decoder);
    sp_arena_free(&h->arena);
    sp_release(h);
}

size_t sp_host_loop_bytes(const sp_host_loop *h)
{
    size_t bytes = h->arena.bytes;
    for (size_t i = 0; i < h->max_pictures; i++) bytes += sp_decoder_bytes(h->places[i].decoder);
    return bytes;
}

/* ---- what a device offers ---- */

static bool knows(const char *name)
{
    const sp_accept_ops *rule = sp_accept_find(name);
    return rule && rule->accept;
}

static sp_status gather(void *state, size_t n_pictures, sp_error *err)
{
    sp_host_loop *h = state;
    if (n_pictures < 1 || n_pictures > h->max_pictures)
        return SP_FAIL(err, SP_EBUG, "batch: %zu pictures, and there is room for %zu", n_pictures, h->max_pictures);
    h->n_places = n_pictures;
    for (size_t i = 0; i < n_pictures; i++) h->places[i].begun = false;
    return SP_OK;
}

static sp_status begin(void *state, size_t at, const sp_device_picture *from, sp_error *err)
{
    sp_host_loop *h = state;
    if (at >= h->n_places || !knows(from->rule))
        return SP_FAIL(err, SP_EBUG, "batch: %s cannot begin at place %zu of %zu", from->rule, at, h->n_places);
    place *p = &h->places[at];
    p->plan = (sp_decode_plan){
        .rule = sp_accept_find(from->rule),
        .sampling = {from->seed, from->image, from->cfg_scale, from->temperature, (int)from->top_k, from->top_p},
        .relaxation = {.codes = from->codes, .code_dim = from->code_dim, .group_size = from->group_size,
                       .group_delta = from->group_delta, .group_distance = from->group_distance,
                       .group_of = from->group_of}};
    memcpy(p->starts, from->starts, h->n_positions * sizeof *p->starts);
    sp_window_reset(p->decoder);
    p->first = p->known = 0;
    p->begun = true;
    for (size_t i = 0; i < RECORDS; i++) p->records[i].done = 0;
    return SP_OK;
}

static bool live(const sp_host_loop *h, const place *p) { return p->begun && p->first < h->n_positions; }

/* Drafts for the positions that enter. */
static void start_drafts(place *p, size_t n)
{
    sp_decoder *d = p->decoder;
    for (; p->known + 1 < p->first + n; p->known++) {
        int32_t start = p->starts[p->known];
        d->tokens[p->known] = start < 0 ? -1 - start : d->tokens[start];
        d->laws[p->known % d->max_window].kind = start < 0 ? SP_LAW_UNIFORM : SP_LAW_POINT;
    }
}

static void set_windows(sp_host_loop *h, size_t n)
{
    float *logits = h->logits;
    h->n_windows = 0;
    for (size_t at = 0; at < h->n_places; at++) {
        place *p = &h->places[at];
        if (!live(h, p)) continue;
        p->rows = n < h->n_positions - p->first ? n : h->n_positions - p->first;
        start_drafts(p, p->rows);
        p->decoder->logits = logits;
        logits += (p->plan.sampling.cfg_scale != 1 ? 2 : 1) * p->rows * h->model.n_codes;
        h->picture[h->n_windows] = at;
        h->windows[h->n_windows++] = sp_window_fed(p->decoder, p->first, p->rows);
    }
}

/* The first row whose scores are not numbers, or n. */
static size_t broken_row(const sp_decoder *d, size_t n)
{
    size_t j = 0;
    while (j < n && d->ops->argmax(d->rows[j].scores, NULL, d->n_codes) >= 0) j++;
    return j;
}

static void settle(sp_host_loop *h, place *p)
{
    sp_decoder *d = p->decoder;
    size_t branch, n_final = 0, broken = p->rows;
    double deviation = d->deviation;
    sp_window_score(d, &p->plan, p->first);
    p->why = (sp_error){0};
    p->status = sp_window_settle(d, &p->plan, p->first, p->rows, &p->known, &branch, &n_final, &p->why);
    if (p->status == SP_EFORMAT) broken = broken_row(d, p->rows);
    if (broken < p->rows) p->status = SP_OK;
    if (p->status != SP_OK) return;
    if (broken < p->rows) d->deviation = deviation;
    sp_device_record *record = &p->records[d->passes % RECORDS];
    *record = (sp_device_record){
        .first = (int32_t)p->first, .n_rows = (int32_t)p->rows, .n_final = (int32_t)n_final,
        .broken = broken < p->rows ? (int32_t)(p->first + broken) + 1 : 0, .deviation = d->deviation,
        .model_ns = h->model_ns, .done = (uint32_t)d->passes + 1};
    d->passes++;
    p->first = broken < p->rows ? h->n_positions : p->first + n_final;
}

static void settle_share(void *arguments, int thread, int n_threads)
{
    sp_host_loop *h = arguments;
    size_t first, last;
    sp_pool_share(h->n_windows, 1, thread, n_threads, &first, &last);
    for (size_t i = first; i < last; i++) settle(h, &h->places[h->picture[i]]);
}

static sp_status pass(void *state, size_t n, sp_error *err)
{
    sp_host_loop *h = state;
    size_t most = h->n_places ? h->max_rows / h->n_places : 0;
    if (n < 1 || n > h->max_window || n > most)
        return SP_FAIL(err, SP_EBUG, "batch: windows of %zu rows do not fit", n);
    set_windows(h, n);
    if (h->n_windows == 0) return SP_OK;
    double before = sp_clock_ms();
    SP_TRY(h->model.ops->forward_batch(h->model.state, h->picture, h->windows, h->n_windows, err));
    h->model_ns = (uint64_t)(1e6 * (sp_clock_ms() - before));
    sp_pool_run(h->pool, settle_share, h);
    for (size_t i = 0; i < h->n_windows; i++) {
        const place *p = &h->places[h->picture[i]];
        if (p->status != SP_OK) return SP_FAIL(err, p->status, "%s", p->why.message);
    }
    return SP_OK;
}

static sp_status poll(void *state, size_t at, size_t index, const sp_device_record **record, sp_error *err)
{
    const sp_host_loop *h = state;
    *record = at < h->n_places ? &h->places[at].records[index % RECORDS] : NULL;
    if (*record && (*record)->done == index + 1) return SP_OK;
    return SP_FAIL(err, SP_EBUG, "batch: pass %zu of place %zu has no record", index, at);
}

static sp_status finish(void *state, size_t at, int32_t *tokens, sp_error *err)
{
    sp_host_loop *h = state;
    place *p = &h->places[at];
    (void)err;
    p->begun = false;
    if (tokens) memcpy(tokens, p->decoder->tokens, h->n_positions * sizeof *tokens);
    return SP_OK;
}

sp_device_loop sp_host_loop_of(sp_host_loop *host)
{
    static const sp_device_loop_ops ops = {knows, gather, begin, pass, poll, finish};
    return (sp_device_loop){&ops, host, host->max_pictures, host->max_rows};
}
