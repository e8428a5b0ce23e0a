#include "eval/evaluation.h"

#include <float.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "io/json.h"

static void take(sp_evaluation *e, sp_arena *arena)
{
    size_t groups = e->n_prompts * e->n_images, pictures = e->n_settings * groups;
    e->settings = sp_arena_take(arena, e->n_settings, sizeof *e->settings);
    e->done = sp_arena_take(arena, groups, sizeof *e->done);
    e->measurements = sp_arena_take(arena, pictures, sizeof *e->measurements);
    e->features = sp_arena_take(arena, pictures, e->n_features * sizeof *e->features);
    e->codes = sp_arena_take(arena, e->n_settings, e->n_codes * sizeof *e->codes);
    e->ranks = sp_arena_take(arena, e->n_settings, SP_RANK_BINS * sizeof *e->ranks);
    e->passes = sp_arena_take(arena, e->n_settings * e->n_shown, e->n_tokens * sizeof *e->passes);
}

sp_status sp_evaluation_open(sp_evaluation *e, sp_error *err)
{
    size_t pictures;
    SP_TRY(sp_size_product(&pictures, err, "pictures", e->n_settings, e->n_prompts, e->n_images,
                           sizeof(sp_measurement)));
    sp_arena *arena = sp_alloc(1, sizeof *arena);
    if (!arena) return SP_FAIL(err, SP_ENOMEM, "evaluation: no memory");
    e->memory = arena;
    take(e, arena);
    SP_TRY(sp_arena_commit(arena, "measurements", err));
    take(e, arena);
    return SP_OK;
}

void sp_evaluation_close(sp_evaluation *e)
{
    if (e->memory) sp_arena_free(e->memory);
    sp_release(e->memory);
    *e = (sp_evaluation){0};
}

/* An array of whole numbers from 0 to most, at least least_count and at most count of them; the rest of out is 0. */
static sp_status read_integers(const json_t *object, const char *name, const char *key, size_t least_count,
                               size_t count, json_int_t most, uint32_t *out, sp_error *err)
{
    const json_t *list = json_object_get(object, key);
    size_t size = json_array_size(list);
    if (!json_is_array(list) || size < least_count || size > count)
        return SP_FAIL(err, SP_EFORMAT, "%s: '%s' has %zu numbers: expected %zu to %zu; it is of another run", name,
                       key, size, least_count, count);
    memset(out, 0, count * sizeof *out);
    for (size_t i = 0; i < size; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > most)
            return SP_FAIL(err, SP_EFORMAT, "%s: number %zu of '%s' is not an integer of 0 to %lld", name, i, key,
                           (long long)most);
        out[i] = (uint32_t)json_integer_value(value);
    }
    return SP_OK;
}

static sp_status read_features(const sp_evaluation *e, const json_t *object, const char *name, float *out,
                               sp_error *err)
{
    const json_t *list = json_object_get(object, "features");
    if (json_array_size(list) != e->n_features)
        return SP_FAIL(err, SP_EFORMAT, "%s: 'features' has %zu numbers: expected %zu", name, json_array_size(list),
                       e->n_features);
    for (size_t i = 0; i < e->n_features; i++) {
        const json_t *value = json_array_get(list, i);
        double real = json_number_value(value);
        if (!json_is_number(value) || !(real >= -(double)FLT_MAX && real <= (double)FLT_MAX))
            return SP_FAIL(err, SP_EFORMAT, "%s: number %zu of 'features' is not a number", name, i);
        out[i] = (float)real;
    }
    return SP_OK;
}

static sp_status read_measurement(const json_t *object, const char *name, sp_measurement *m, sp_error *err)
{
    const struct { const char *path; double least, *out; } numbers[] = {
        {"nfe", 1, &m->nfe}, {"drafted", 0, &m->drafted}, {"accepted", 0, &m->accepted},
        {"latency_ms.total", 0, &m->total_ms}, {"latency_ms.prefill", 0, &m->prefill_ms},
        {"latency_ms.decode", 0, &m->decode_ms}, {"latency_ms.vq", 0, &m->vq_ms}, {"identical", 0, &m->identical},
        {"variation", 0, &m->variation}, {"log_p", -1e30, &m->log_p}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        SP_TRY(sp_json_real_or(object, name, numbers[i].path, numbers[i].least, 1e30, -2e30, numbers[i].out, err));
        if (*numbers[i].out < numbers[i].least)
            return SP_FAIL(err, SP_EFORMAT, "%s: '%s' is missing", name, numbers[i].path);
    }
    return read_integers(object, name, "histogram", 1, SP_MAX_WINDOW + 1, UINT32_MAX, m->histogram, err);
}

/* Numbers [n_tokens] are scratch. */
static sp_status add_setting(sp_evaluation *e, size_t setting, size_t prompt, size_t image, const char *name,
                             const json_t *object, uint32_t *numbers, sp_error *err)
{
    size_t n = e->n_tokens, picture = (setting * e->n_prompts + prompt) * e->n_images + image;
    SP_TRY(read_measurement(object, name, &e->measurements[picture], err));
    SP_TRY(read_features(e, object, name, e->features + picture * e->n_features, err));
    size_t coded = e->n_codes ? n : 0;
    SP_TRY(read_integers(object, name, "tokens", coded, coded, (json_int_t)e->n_codes - 1, numbers, err));
    for (size_t i = 0; i < coded; i++) e->codes[setting * e->n_codes + numbers[i]]++;
    SP_TRY(read_integers(object, name, "ranks", coded, coded, SP_RANK_BINS - 1, numbers, err));
    for (size_t i = 0; i < coded; i++) e->ranks[setting * SP_RANK_BINS + numbers[i]]++;
    SP_TRY(read_integers(object, name, "passes", n, n, INT32_MAX, numbers, err));
    if (image != 0 || prompt >= e->n_shown) return SP_OK;
    for (size_t i = 0; i < n; i++) e->passes[(setting * e->n_shown + prompt) * n + i] = (int32_t)numbers[i];
    return SP_OK;
}

sp_status sp_evaluation_add(sp_evaluation *e, const char *name, const json_t *record, sp_error *err)
{
    size_t prompt, image;
    SP_TRY(sp_json_size(record, name, "prompt", 0, e->n_prompts - 1, &prompt, err));
    SP_TRY(sp_json_size(record, name, "image", 0, e->n_images - 1, &image, err));
    const json_t *list = json_object_get(record, "settings");
    if (json_array_size(list) != e->n_settings)
        return SP_FAIL(err, SP_EFORMAT, "%s: a record of %zu settings: expected %zu; it is of another run", name,
                       json_array_size(list), e->n_settings);
    if (sp_evaluation_has(e, prompt, image)) return SP_OK;
    uint32_t *numbers = sp_alloc(e->n_tokens, sizeof *numbers);
    if (!numbers) return SP_FAIL(err, SP_ENOMEM, "no memory for a record of %s; free some", name);
    sp_status status = SP_OK;
    for (size_t s = 0; s < e->n_settings && status == SP_OK; s++)
        status = add_setting(e, s, prompt, image, name, json_array_get(list, s), numbers, err);
    sp_release(numbers);
    e->done[prompt * e->n_images + image] = status == SP_OK;
    return status;
}

static json_t *integers(const int32_t *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(values[i]));
    return list;
}

static json_t *histogram_of(const sp_result *result)
{
    size_t n = SP_MAX_WINDOW + 1;
    while (n > 1 && result->histogram[n - 1] == 0) n--;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(result->histogram[i]));
    return list;
}

json_t *sp_evaluation_element(const sp_evaluation *e, const char *file, size_t bytes, const sp_result *result,
                              size_t identical, const sp_token_score *scores, const float *features)
{
    json_t *ranks = json_array(), *list = json_array();
    double log_p = 0;
    size_t coded = e->n_codes ? e->n_tokens : 0;
    for (size_t i = 0; i < coded; i++) {
        int bin = (int)(scores[i].rank * (float)SP_RANK_BINS);
        json_array_append_new(ranks, json_integer(bin < SP_RANK_BINS ? bin : SP_RANK_BINS - 1));
        log_p += (double)scores[i].log_p;
    }
    for (size_t i = 0; i < e->n_features; i++) json_array_append_new(list, json_real((double)features[i]));
    json_t *element = json_pack("{ss sI sI sI sI sf s{sf sf sf sf} so sI sf so so so so}", "file", file, "bytes",
        (json_int_t)bytes, "nfe", (json_int_t)result->nfe, "drafted", (json_int_t)result->drafted, "accepted",
        (json_int_t)result->accepted, "variation", result->total_variation_bound * (double)e->n_tokens,
        "latency_ms", "total", result->total_ms, "prefill", result->prefill_ms, "decode", result->decode_ms,
        "vq", result->vq_ms, "histogram", histogram_of(result), "identical", (json_int_t)identical,
        "log_p", log_p, "tokens", integers(result->tokens, coded), "passes",
        integers(result->pass_of_token, e->n_tokens), "ranks", ranks, "features", list);
    /* An array that memory cut short would be a record that no later run can read. */
    if (element && json_array_size(json_object_get(element, "tokens")) == coded &&
        json_array_size(json_object_get(element, "passes")) == e->n_tokens &&
        json_array_size(json_object_get(element, "ranks")) == coded &&
        json_array_size(json_object_get(element, "features")) == e->n_features)
        return element;
    json_decref(element);
    return NULL;
}
