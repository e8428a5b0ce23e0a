#include "eval/outcome.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "eval/divergence.h"
#include "eval/frechet.h"
#include "eval/manifold.h"
#include "eval/text.h"

/* Values a prompt and values a picture, of one setting. */
typedef struct columns {
    double *a, *b;                      /* [n_prompts] */
    double *own, *baseline, *scratch;   /* [n_prompts * n_images] */
} columns;

typedef double value_of(const sp_evaluation *e, const sp_measurement *m);

static double one(const sp_evaluation *e, const sp_measurement *m) { return (void)e, (void)m, 1; }
static double tokens(const sp_evaluation *e, const sp_measurement *m) { return (void)m, (double)e->n_tokens; }
static double nfe(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->nfe; }
static double settled(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->nfe + m->accepted; }
static double accepted(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->accepted; }
static double drafted(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->drafted; }
static double identical(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->identical; }
static double variation(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->variation; }
static double surprise(const sp_evaluation *e, const sp_measurement *m) { return (void)e, -m->log_p; }
static double pass_ms(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->decode_ms / m->nfe; }
static double seconds(const sp_evaluation *e, const sp_measurement *m) { return (void)e, m->total_ms / 1000; }

static void sum_by_prompt(const sp_evaluation *e, size_t setting, value_of *value, double *out)
{
    for (size_t p = 0; p < e->n_prompts; p++) {
        out[p] = 0;
        for (size_t i = 0; i < e->n_images; i++) out[p] += value(e, sp_evaluation_at(e, setting, p, i));
    }
}

static void list_by_prompt(const sp_evaluation *e, size_t setting, value_of *value, double *out)
{
    for (size_t p = 0; p < e->n_prompts; p++)
        for (size_t i = 0; i < e->n_images; i++)
            out[p * e->n_images + i] = value(e, sp_evaluation_at(e, setting, p, i));
}

static sp_status ratio(const sp_evaluation *e, size_t setting, columns *c, value_of *a, value_of *b, sp_interval *out,
                       sp_error *err)
{
    sum_by_prompt(e, setting, a, c->a);
    sum_by_prompt(e, setting, b, c->b);
    sp_ratio_data data = {c->a, c->b};
    return sp_bootstrap(sp_ratio, &data, e->n_prompts, out, err);
}

static sp_status median(const sp_evaluation *e, size_t setting, columns *c, value_of *value, sp_interval *out,
                        sp_error *err)
{
    list_by_prompt(e, setting, value, c->own);
    sp_median_data data = {c->own, NULL, e->n_images, c->scratch};
    return sp_bootstrap(sp_median, &data, e->n_prompts, out, err);
}

/* Prompt by prompt, since prompts differ more than methods do. */
static sp_status excess(const sp_evaluation *e, size_t setting, columns *c, sp_interval *out, sp_error *err)
{
    sum_by_prompt(e, setting, surprise, c->a);
    sum_by_prompt(e, e->settings[setting].baseline, surprise, c->b);
    for (size_t p = 0; p < e->n_prompts; p++) c->a[p] -= c->b[p];
    sum_by_prompt(e, setting, tokens, c->b);
    sp_ratio_data data = {c->a, c->b};
    return sp_bootstrap(sp_ratio, &data, e->n_prompts, out, err);
}

static sp_status speed_up(const sp_evaluation *e, size_t setting, columns *c, sp_interval *out, sp_error *err)
{
    list_by_prompt(e, e->settings[setting].baseline, seconds, c->baseline);
    list_by_prompt(e, setting, seconds, c->own);
    sp_median_data data = {c->baseline, c->own, e->n_images, c->scratch};
    return sp_bootstrap(sp_median, &data, e->n_prompts, out, err);
}

static sp_status histogram(const sp_evaluation *e, size_t setting, columns *c, sp_outcome *out, sp_error *err)
{
    sum_by_prompt(e, setting, nfe, c->b);
    for (size_t n = 0; n <= SP_MAX_WINDOW; n++) {
        bool any = false;
        for (size_t p = 0; p < e->n_prompts; p++) {
            c->a[p] = 0;
            for (size_t i = 0; i < e->n_images; i++) c->a[p] += sp_evaluation_at(e, setting, p, i)->histogram[n];
            any |= c->a[p] > 0;
        }
        if (!any) continue;
        sp_ratio_data data = {c->a, c->b};
        SP_TRY(sp_bootstrap(sp_ratio, &data, e->n_prompts, &out->histogram[n], err));
        out->histogram_count = n + 1;
    }
    return SP_OK;
}

static sp_interval exactly(double value) { return (sp_interval){.value = value, .known = true}; }

/* Sums over the positions of what tokens show on average. Continuous ones show nothing that can be counted. */
static void laws(const sp_evaluation *e, size_t setting, sp_outcome *out)
{
    if (e->n_codes == 0) return;
    const sp_setting *s = &e->settings[setting];
    const uint64_t *codes = e->codes + setting * e->n_codes, *others = e->codes + s->baseline * e->n_codes;
    double shown = sp_variation_at_least(e->ranks + setting * SP_RANK_BINS, SP_RANK_BINS);
    out->total_variation_at_least = exactly(shown * (double)e->n_tokens);
    out->code_divergence = exactly(sp_jensen_shannon(codes, others, e->n_codes));
}

/* Two sets of pictures as a network sees them. */
typedef struct sets {
    const float *own, *real; /* [n, width], [n_real, width] */
    size_t n, n_real, width;
} sets;

/* Too few pictures for a figure leave it unknown. */
static sp_status distances(const sets *x, sp_interval *frechet, sp_interval *precision, sp_interval *recall,
                           sp_error *err)
{
    double a = 0, b = 0;
    if (x->n > 1 && x->n_real > 1) {
        SP_TRY(sp_frechet(x->real, x->n_real, x->own, x->n, x->width, &a, err));
        *frechet = exactly(a);
    }
    if (x->n > SP_MANIFOLD_NEIGHBOURS && x->n_real > SP_MANIFOLD_NEIGHBOURS) {
        SP_TRY(sp_manifold(x->real, x->n_real, x->own, x->n, x->width, &a, &b, err));
        *precision = exactly(a);
        *recall = exactly(b);
    }
    return SP_OK;
}

static sp_status likeness(const sp_evaluation *e, const sp_reference *reference, const sp_network *network,
                          size_t setting, sp_outcome *out, sp_error *err)
{
    size_t n = e->n_prompts * e->n_images, first = setting * n, plain = e->settings[setting].baseline * n;
    if (e->n_features > 0) {
        sets x = {e->features + first * e->n_features, e->features + plain * e->n_features, n, n, e->n_features};
        SP_TRY(distances(&x, &out->frechet, &out->precision, &out->recall, err));
        x.real = reference->features;
        x.n_real = reference->count;
        SP_TRY(distances(&x, &out->reference_frechet, &out->reference_precision, &out->reference_recall, err));
    }
    if (network->n_features > 0) {
        sets x = {network->features + first * network->n_features, network->features + plain * network->n_features, n,
                  n, network->n_features};
        SP_TRY(distances(&x, &out->network_frechet, &out->network_precision, &out->network_recall, err));
        x.real = network->reference.features;
        x.n_real = network->reference.count;
        SP_TRY(distances(&x, &out->network_reference_frechet, &out->network_reference_precision,
                         &out->network_reference_recall, err));
    }
    return SP_OK;
}

static sp_status make(const sp_evaluation *e, size_t setting, columns *c, sp_outcome *out, sp_error *err)
{
    *out = (sp_outcome){0};
    SP_TRY(ratio(e, setting, c, nfe, one, &out->nfe, err));
    SP_TRY(ratio(e, setting, c, tokens, nfe, &out->step_compression, err));
    SP_TRY(ratio(e, setting, c, settled, nfe, &out->mean_acceptance_length, err));
    SP_TRY(ratio(e, setting, c, accepted, drafted, &out->draft_acceptance_rate, err));
    double tested = 0;
    for (size_t p = 0; p < e->n_prompts; p++) tested += c->b[p];
    if (tested == 0) out->draft_acceptance_rate = (sp_interval){0};
    SP_TRY(median(e, setting, c, pass_ms, &out->pass_ms, err));
    SP_TRY(median(e, setting, c, seconds, &out->image_seconds, err));
    SP_TRY(speed_up(e, setting, c, &out->speedup, err));
    if (e->n_codes > 0) SP_TRY(ratio(e, setting, c, surprise, tokens, &out->nll, err));
    if (e->n_codes > 0) SP_TRY(excess(e, setting, c, &out->nll_excess, err));
    SP_TRY(ratio(e, setting, c, identical, tokens, &out->token_identity, err));
    if (e->n_codes > 0 || e->settings[setting].exactness != SP_RELAXED)
        SP_TRY(ratio(e, setting, c, variation, one, &out->total_variation_at_most, err));
    SP_TRY(histogram(e, setting, c, out, err));
    laws(e, setting, out);
    return SP_OK;
}

sp_status sp_outcomes_make(const sp_evaluation *e, const sp_reference *reference, const sp_network *network,
                           sp_outcome *outcomes, sp_error *err)
{
    size_t n = e->n_prompts * e->n_images;
    double *memory = sp_alloc(2 * e->n_prompts + 3 * n, sizeof *memory);
    if (!memory) return SP_FAIL(err, SP_ENOMEM, "no memory for the figures of %zu pictures; free some", n);
    columns c = {.a = memory, .b = memory + e->n_prompts};
    c.own = c.b + e->n_prompts;
    c.baseline = c.own + n;
    c.scratch = c.baseline + n;
    sp_status status = SP_OK;
    for (size_t s = 0; s < e->n_settings && status == SP_OK; s++) {
        status = make(e, s, &c, &outcomes[s], err);
        if (status == SP_OK) status = likeness(e, reference, network, s, &outcomes[s], err);
    }
    sp_release(memory);
    return status;
}

static void csv_interval(sp_text *text, const sp_interval *v)
{
    if (v->known) sp_text_format(text, ",%.9g", v->value);
    else sp_text_add(text, ",");
    if (v->known && v->bounded) sp_text_format(text, ",%.9g,%.9g", v->low, v->high);
    else sp_text_add(text, ",,");
}

/* "1:0.25;2:0.5": shares by settled tokens, on one field. */
static void csv_histogram(sp_text *text, const sp_outcome *outcome)
{
    const char *separator = ",";
    for (size_t n = 0; n < outcome->histogram_count; n++) {
        if (!outcome->histogram[n].known) continue;
        sp_text_format(text, "%s%zu:%.6g", separator, n, outcome->histogram[n].value);
        separator = ";";
    }
}

sp_status sp_outcomes_write_csv(const sp_evaluation *e, const sp_outcome *outcomes, const char *path, sp_error *err)
{
    sp_text text = {0};
    sp_text_add(&text, "setting,method,exactness,option,value,prompts,images");
#define SP_FIGURE(name, digits, help) sp_text_add(&text, "," #name "," #name "_low," #name "_high");
#include "eval/outcome.def"
#undef SP_FIGURE
    sp_text_add(&text, ",acceptance_histogram\n");
    for (size_t s = 0; s < e->n_settings; s++) {
        const sp_setting *setting = &e->settings[s];
        const char *fields[] = {setting->name, setting->method, sp_exactness_name(setting->exactness), setting->option,
                                setting->value};
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
            if (i > 0) sp_text_add(&text, ",");
            sp_text_csv(&text, fields[i]);
        }
        sp_text_format(&text, ",%zu,%zu", e->n_prompts, e->n_images);
#define SP_FIGURE(name, digits, help) csv_interval(&text, &outcomes[s].name);
#include "eval/outcome.def"
#undef SP_FIGURE
        csv_histogram(&text, &outcomes[s]);
        sp_text_add(&text, "\n");
    }
    sp_status status = sp_text_write(&text, path, err);
    sp_text_free(&text);
    return status;
}

static json_t *json_interval(const sp_interval *v)
{
    if (!v->known) return json_null();
    if (!v->bounded) return json_pack("{sf sn sn}", "value", v->value, "low", "high");
    return json_pack("{sf sf sf}", "value", v->value, "low", v->low, "high", v->high);
}

static json_t *json_outcome(const sp_evaluation *e, size_t s, const sp_outcome *outcome)
{
    const sp_setting *setting = &e->settings[s];
    json_t *object = json_pack("{ss ss ss ss ss sI sI}", "setting", setting->name, "method", setting->method,
                               "exactness", sp_exactness_name(setting->exactness), "option", setting->option, "value",
                               setting->value, "prompts", (json_int_t)e->n_prompts, "images", (json_int_t)e->n_images);
    bool whole = object != NULL;
#define SP_FIGURE(name, digits, help) \
    whole = whole && json_object_set_new(object, #name, json_interval(&outcome->name)) == 0;
#include "eval/outcome.def"
#undef SP_FIGURE
    json_t *list = json_array();
    for (size_t n = 0; n < outcome->histogram_count; n++) {
        sp_interval share = outcome->histogram[n].known ? outcome->histogram[n] : exactly(0);
        whole = whole && json_array_append_new(list, json_interval(&share)) == 0;
    }
    if (json_object_set_new(object, "acceptance_histogram", list) == 0 && whole) return object;
    json_decref(object);
    return NULL;
}

sp_status sp_outcomes_write_json(const sp_evaluation *e, const sp_outcome *outcomes, const json_t *head,
                                 const char *path, sp_error *err)
{
    json_t *document = json_copy((json_t *)(uintptr_t)head), *list = json_array();
    bool whole = document != NULL && list != NULL;
    for (size_t s = 0; s < e->n_settings && whole; s++)
        whole = json_array_append_new(list, json_outcome(e, s, &outcomes[s])) == 0;
    whole = json_object_set_new(document, "results", list) == 0 && whole;
    sp_text text = {.failed = !whole};
    sp_text_json(&text, document);
    sp_status status = sp_text_write(&text, path, err);
    sp_text_free(&text);
    json_decref(document);
    return status;
}
