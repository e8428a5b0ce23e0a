/* Pictures of a session that share their passes. */
#include <string.h>

#include "base/clock.h"
#include "decode/device.h"
#include "decode/host_loop.h"
#include "session.h"

/* What belongs to a place of the batch beside what the loop knows of it. */
typedef struct occupant {
    sp_decode_plan plan;
    size_t request, prompt_tokens;
    double start;
} occupant;

/* A picture that is complete and waits for its pixels, which are drawn while the others go on; its place has another
 * decoder. More than a few do not finish in the same pass but in short runs. */
typedef struct complete {
    size_t request, prompt_tokens;
    double start;
    sp_decoder *decoder;
} complete;
enum { MOST_WAITING = 4 };

struct sp_session_batch {
    size_t capacity;
    occupant *occupants;     /* [capacity] */
    sp_device_place *places; /* [capacity] */
    sp_decoder **own;        /* [decoders] of the places after the first, which has the session's, and spare ones */
    size_t decoders;
    sp_pacer pacers[SP_DEVICE_STEPS];
    sp_host_loop *host;      /* on the processor; NULL: the device's loop is the context's */

    sp_session *session; /* of the drawing that is under way, and all below */
    sp_device_loop loop;
    sp_device_batch passes;
    const sp_request *requests;
    size_t next, end;
    complete waiting[MOST_WAITING]; /* [n_waiting] the oldest first */
    sp_decoder *spare[MOST_WAITING]; /* [MOST_WAITING - n_waiting] */
    size_t n_waiting;
    sp_picture_call *done;
    void *user;
};

static sp_device_loop loop_of(const sp_session *s)
{
    return s->batch->host ? sp_host_loop_of(s->batch->host) : sp_context_loop(s->context);
}

static sp_status open_host(sp_session *s, size_t n, sp_error *err)
{
    size_t window = s->decoder->max_window;
    sp_model model = sp_context_model(s->context);
    if (s->engine->device) return SP_OK;
    return sp_host_loop_open(&s->batch->host, &model, s->engine->ops, s->pool, window, n, sp_context_rows(window, n),
                             err);
}

sp_status sp_session_open_batch(sp_session *s, size_t n, sp_error *err)
{
    const sp_model_config *c = &s->engine->config;
    struct sp_session_batch *b = s->batch = sp_alloc(1, sizeof *b);
    if (!b) return SP_FAIL(err, SP_ENOMEM, "session: no memory for a batch");
    b->occupants = sp_alloc(n, sizeof *b->occupants);
    b->places = sp_alloc(n, sizeof *b->places);
    b->own = sp_alloc(n - 1 + MOST_WAITING, sizeof *b->own);
    if (!b->occupants || !b->places || !b->own) return SP_FAIL(err, SP_ENOMEM, "session: no memory for a batch");
    b->capacity = n;
    b->session = s;
    for (; b->decoders < n - 1 + MOST_WAITING; b->decoders++)
        SP_TRY(sp_decoder_open(&b->own[b->decoders], c->n_codes, c->rows, c->columns, s->engine->ops, 1, err));
    return open_host(s, n, err);
}

void sp_session_close_batch(sp_session *s)
{
    struct sp_session_batch *b = s->batch;
    if (!b) return;
    for (size_t i = 0; i < b->decoders; i++) sp_decoder_close(b->own[i]);
    sp_host_loop_close(b->host);
    sp_release(b->own);
    sp_release(b->places);
    sp_release(b->occupants);
    sp_release(b);
    s->batch = NULL;
}

size_t sp_session_batch_bytes(const sp_session *s)
{
    size_t bytes = s->batch && s->batch->host ? sp_host_loop_bytes(s->batch->host) : 0;
    for (size_t i = 0; s->batch && i < s->batch->decoders; i++) bytes += sp_decoder_bytes(s->batch->own[i]);
    return bytes;
}

/* Whether the loop can draw it, by the plan then, which is without a prompt. */
static bool plan_for(sp_session *s, const sp_request *r, const sp_device_loop *loop, sp_decode_plan *plan)
{
    static const sp_model_prompt none = {NULL, 0};
    sp_error unread = {0};
    if (sp_request_check(s->engine, r, &unread) != SP_OK) return false;
    if (sp_method_find(r->method, false)->needs_drafter) return false;
    *plan = sp_session_plan(s, r, &none, loop);
    return sp_device_can_decode(s->decoder, plan);
}

/* A long window leaves room for fewer pictures, so that it stays what was asked for. */
static size_t places_for(const struct sp_session_batch *b, const sp_device_loop *loop, const sp_decode_plan *plan,
                         size_t n)
{
    size_t rows = plan->rule->drafts && plan->window ? plan->window : 1, most = loop->max_rows / rows;
    if (most > b->capacity) most = b->capacity;
    return n < most ? n : most;
}

size_t sp_session_batch_of(sp_session *s, const sp_request *requests, size_t n)
{
    sp_device_loop loop = loop_of(s);
    sp_decode_plan first, next;
    size_t alike = 1;
    if (!plan_for(s, requests, &loop, &first)) return 1;
    while (alike < n && plan_for(s, requests + alike, &loop, &next) &&
           sp_device_can_share(&first, &next, s->engine->config.n_codes))
        alike++;
    return places_for(s->batch, &loop, &first, alike) > 1 ? alike : 1;
}

/* The picture of a request up to its prefix pass, at a place. */
static sp_status begin(struct sp_session_batch *b, size_t at, size_t request, sp_error *err)
{
    sp_session *s = b->session;
    occupant *o = &b->occupants[at];
    sp_device_place *place = &b->places[at];
    sp_model model = sp_context_model(s->context);
    sp_model_prompt prompt;
    o->start = sp_clock_ms();
    o->request = request;
    SP_TRY(sp_session_prompt(s, &b->requests[request], &prompt, err));
    o->prompt_tokens = s->result.prompt_tokens;
    o->plan = sp_session_plan(s, &b->requests[request], &prompt, &b->loop);
    place->plan = &o->plan;
    sp_context_select(s->context, at);
    SP_TRY(sp_decode_begin(place->decoder, &model, &o->plan, &place->begun, err));
    if (!sp_device_can_decode(place->decoder, &o->plan))
        return SP_FAIL(err, SP_EBUG, "%s: there is no loop for several pictures of it", b->requests[request].method);
    return sp_device_begin(&b->passes, at, err);
}

/* The next request that can be begun takes the place. */
static sp_status occupy(struct sp_session_batch *b, size_t at, sp_error *err)
{
    while (b->next < b->end) {
        sp_error why = {0};
        size_t request = b->next++;
        sp_status status = begin(b, at, request, &why);
        if (status == SP_OK) return SP_OK;
        if (!sp_session_own_failure(status)) return SP_FAIL(err, status, "%s", why.message);
        SP_TRY(b->done(b->user, request, NULL, &why, err));
    }
    return SP_OK;
}

/* The oldest of those that wait. */
static sp_status hand_over(struct sp_session_batch *b, sp_error *err)
{
    sp_session *s = b->session;
    complete c = b->waiting[0];
    const sp_request *request = &b->requests[c.request];
    b->n_waiting--;
    memmove(b->waiting, b->waiting + 1, b->n_waiting * sizeof *b->waiting);
    b->spare[MOST_WAITING - 1 - b->n_waiting] = c.decoder;
    sp_session_begin_result(s, sp_method_find(request->method, false));
    s->result.prompt_tokens = c.prompt_tokens;
    sp_session_report_codes(s, c.decoder);
    SP_TRY(sp_session_end_result(s, request, c.start, err));
    return b->done(b->user, c.request, &s->result, NULL, err);
}

static sp_status meanwhile(void *user, sp_error *err)
{
    struct sp_session_batch *b = user;
    return b->n_waiting > 0 ? hand_over(b, err) : SP_OK;
}

static sp_status over(void *user, size_t at, sp_error *err)
{
    struct sp_session_batch *b = user;
    const occupant *o = &b->occupants[at];
    sp_device_place *place = &b->places[at];
    if (place->why.status == SP_OK) {
        if (b->n_waiting == MOST_WAITING) SP_TRY(hand_over(b, err));
        b->waiting[b->n_waiting] = (complete){o->request, o->prompt_tokens, o->start, place->decoder};
        b->n_waiting++;
        place->decoder = b->spare[MOST_WAITING - b->n_waiting];
    } else {
        SP_TRY(b->done(b->user, o->request, NULL, &place->why, err));
    }
    return occupy(b, at, err);
}

/* What is complete is handed over though the rest was given up, unless the device that draws pixels is gone. */
static sp_status draw(struct sp_session_batch *b, sp_error *err)
{
    SP_TRY(sp_device_gather(&b->passes, err));
    for (size_t at = 0; at < b->passes.n; at++) SP_TRY(occupy(b, at, err));
    sp_status status = sp_device_run(&b->passes, err);
    while (b->n_waiting > 0 && (status == SP_OK || status == SP_ECANCELLED)) {
        sp_error unread = {0};
        sp_status handed = hand_over(b, status == SP_OK ? err : &unread);
        if (handed != SP_OK && status == SP_OK) status = handed;
    }
    return status;
}

sp_status sp_session_draw_batch(sp_session *s, const sp_request *requests, size_t first, size_t n,
                                sp_picture_call *done, void *user, sp_error *err)
{
    struct sp_session_batch *b = s->batch;
    sp_decode_plan plan;
    b->loop = loop_of(s);
    b->requests = requests;
    b->next = first;
    b->end = first + n;
    b->done = done;
    b->user = user;
    if (!plan_for(s, &requests[first], &b->loop, &plan)) return SP_FAIL(err, SP_EBUG, "session: not a batch");
    size_t n_places = places_for(b, &b->loop, &plan, n);
    for (size_t i = 0; i < MOST_WAITING; i++) b->spare[i] = b->own[b->capacity - 1 + i];
    b->n_waiting = 0;
    for (size_t i = 0; i < n_places; i++) b->places[i] = (sp_device_place){.decoder = i ? b->own[i - 1] : s->decoder};
    b->passes = (sp_device_batch){&b->loop, b->places, n_places, s->decoder->max_window, b->pacers, over, meanwhile, b};
    sp_status status = draw(b, err);
    sp_context_select(s->context, 0);
    return status;
}
