#include "cli/report.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "cli/metadata.h"
#include "cli/number.h"

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

/* Thousandths are far below the clock's noise, and reports stay readable. */
static double rounded(double value) { return (double)(int64_t)(value * 1000 + 0.5) / 1000; }

static json_int_t peak_resident_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (json_int_t)usage.ru_maxrss * 1024 : 0;
}

static json_t *make_histogram(const sp_result *result)
{
    size_t count = SP_MAX_WINDOW + 1;
    while (count > 0 && result->histogram[count - 1] == 0) count--;
    json_t *list = json_array();
    for (size_t n = 0; n < count; n++) {
        if (json_array_append_new(list, json_integer(result->histogram[n])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *make_latency(const sp_model_info *info, const sp_result *result)
{
    json_t *latency = json_pack("{sf sf sf sf}", "total", rounded(result->total_ms), "prefill",
                                rounded(result->prefill_ms), "decode", rounded(result->decode_ms), "vq",
                                rounded(result->vq_ms));
    if (latency == NULL || !info->continuous) return latency;
    if (json_object_set_new(latency, "condition", json_real(rounded(result->condition_ms))) == 0 &&
        json_object_set_new(latency, "chain", json_real(rounded(result->chain_ms))) == 0)
        return latency;
    json_decref(latency);
    return NULL;
}

json_t *sp_report_make(const sp_engine *engine, const sp_request *request, const sp_result *result, const char *file)
{
    sp_model_info info = sp_engine_info(engine);
    char *model = sp_metadata_model_name(&info);
    double tokens = (double)result->n_tokens, nfe = (double)result->nfe, accepted = (double)result->accepted;
    const sp_method *method = sp_method_find(request->method, info.continuous);
    json_t *window = request->window == 0 ? json_string("auto") : json_integer(request->window);
    json_t *report = json_pack("{ss ss so sI ss ss ss ss si ss so sf sf si sf ss*}",
        "method", result->method, "exactness", sp_exactness_name(result->exactness),
        "seed", sp_json_seed(request->seed), "image", (json_int_t)request->image, "model", model, "model_fingerprint",
        info.fingerprint, "dtype", info.dtype,
        "kernels", info.kernels, "threads", info.threads, "prompt", request->prompt, "window", window,
        "cfg_scale", sp_number_shortest(request->cfg_scale), "temperature", sp_number_shortest(request->temperature),
        "top_k", request->top_k, "top_p", sp_number_shortest(request->top_p), "file", file);
    json_t *measured = json_pack("{sI sI sI sI sf sf sf so so sf sI sI}",
        "num_tokens", (json_int_t)result->n_tokens, "nfe", (json_int_t)result->nfe, "num_draft_tokens",
        (json_int_t)result->drafted, "num_accepted_draft_tokens", (json_int_t)result->accepted, "step_compression",
        rounded(ratio(tokens, nfe)), "mean_acceptance_length", rounded(1 + ratio(accepted, nfe)),
        "draft_acceptance_rate", rounded(ratio(accepted, (double)result->drafted)), "acceptance_histogram",
        make_histogram(result), "latency_ms", make_latency(&info, result), "tokens_per_second",
        rounded(ratio(1000 * tokens, result->decode_ms)), "peak_bytes", (json_int_t)result->peak_bytes,
        "peak_resident_bytes", peak_resident_bytes());
    free(model);
    bool whole = report != NULL && measured != NULL && sp_metadata_add_passes(report, &info, request) &&
                 sp_metadata_add_method(report, method, request);
    if (whole && method->continuous && method->needs_drafter)
        whole = json_object_set_new(report, "nfe_draft", json_integer((json_int_t)result->draft_passes)) == 0;
    if (whole && result->exactness == SP_RELAXED && !method->continuous)
        whole = json_object_set_new(report, "total_variation_bound", json_real(result->total_variation_bound)) == 0;
    whole = whole && json_object_update(report, measured) == 0;
    json_decref(measured);
    if (whole) return report;
    json_decref(report);
    return NULL;
}

static json_t *numbers(const float *values, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, json_real((double)values[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *sp_report_tokens(const sp_result *result)
{
    json_t *list = json_array();
    for (size_t i = 0; i < result->n_tokens; i++) {
        json_t *token = result->latents != NULL ? numbers(result->latents + i * result->latent_dim, result->latent_dim)
                                                : json_integer(result->tokens[i]);
        if (json_array_append_new(list, token) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
