#include "cli/metadata.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/number.h"
#include "io/image.h"
#include "io/json.h"

char *sp_metadata_model_name(const sp_model_info *info)
{
    char *whole = realpath(info->path, NULL); /* the name of "." and "samples/emoji/" */
    const char *path = whole != NULL ? whole : info->path;
    const char *slash = strrchr(path, '/');
    char *name = strdup(slash != NULL ? slash + 1 : path);
    free(whole);
    return name;
}

/* Of an option that not every method reads. */
static json_t *value_of(const sp_request *request, const char *key)
{
    if (strcmp(key, "groups") == 0) return json_string(request->groups);
    if (strcmp(key, "group_size") == 0) return json_integer(request->group_size);
    if (strcmp(key, "group_delta") == 0) return json_real(sp_number_shortest(request->group_delta));
    if (strcmp(key, "group_distance") == 0) return json_real(sp_number_shortest(request->group_distance));
    if (strcmp(key, "tree") == 0) return request->tree > 0 ? json_integer(request->tree) : json_string("auto");
    if (strcmp(key, "lantern_k") == 0) return json_integer(request->lantern_k);
    if (strcmp(key, "lantern_delta") == 0) return json_real(sp_number_shortest(request->lantern_delta));
    if (strcmp(key, "lantern_lambda") == 0) return json_real(sp_number_shortest(request->lantern_lambda));
    if (strcmp(key, "front") == 0) return json_string(request->front);
    if (strcmp(key, "gamma") == 0) return json_integer(request->gamma);
    if (strcmp(key, "prefill") == 0) return json_real(sp_number_shortest(request->prefill));
    if (strcmp(key, "align") == 0) return json_string(request->align ? "yes" : "no");
    if (strcmp(key, "tolerance") == 0) return json_real(sp_number_shortest(request->tolerance));
    return NULL;
}

bool sp_metadata_add_method(json_t *to, const sp_method *method, const sp_request *request)
{
    char name[64], key[64];
    for (const char *rest = method->settings; (rest = sp_metadata_next_setting(rest, name, key, sizeof name)) != NULL;)
        if (json_object_set_new(to, key, value_of(request, key)) != 0) return false;
    return true;
}

bool sp_metadata_add_passes(json_t *to, const sp_model_info *info, const sp_request *request)
{
    return info->passes == 0 || json_object_set_new(to, "passes", json_integer(request->passes)) == 0;
}

const char *sp_metadata_next_setting(const char *settings, char *name, char *key, size_t size)
{
    size_t length = strcspn(settings, " ");
    if (length == 0) return NULL;
    snprintf(name, size, "%.*s", (int)length, settings);
    snprintf(key, size, "%s", name);
    for (char *c = key; *c != '\0'; c++)
        if (*c == '-') *c = '_';
    return settings + length + (settings[length] == ' ');
}

/* The one beside the model belongs to it and goes without saying. */
static bool add_drafter(json_t *to, const sp_model_info *info, const sp_method *method)
{
    if (!method->needs_drafter || info->drafter == NULL) return true;
    return json_object_set_new(to, "drafter", json_string(info->drafter)) == 0;
}

static json_t *make_settings(const sp_model_info *info, const sp_request *request, const sp_method *method,
                             const char *model)
{
    bool identical = method->exactness == SP_IDENTICAL;
    json_t *settings = json_pack("{ss ss ss ss ss ss so si ss ss sf sf si sf si si}",
        "version", SP_VERSION, "model", model, "model_fingerprint", info->fingerprint, "dtype", info->dtype,
        "kernels", info->kernels, "prompt", request->prompt, "seed", sp_json_seed(request->seed),
        "image", (int)request->image, "method", identical ? "ar" : method->name,
        "exactness", sp_exactness_name(method->exactness), "cfg_scale", sp_number_shortest(request->cfg_scale),
        "temperature", sp_number_shortest(request->temperature), "top_k", request->top_k,
        "top_p", sp_number_shortest(request->top_p), "width", (int)info->width, "height", (int)info->height);
    /* What a command needs to say: the default method of these models is not one of ar's tokens. */
    if (settings != NULL && ((info->continuous && json_object_set_new(settings, "continuous", json_true()) != 0) ||
                             !sp_metadata_add_passes(settings, info, request))) {
        json_decref(settings);
        return NULL;
    }
    if (settings == NULL || identical) return settings;
    if (json_object_set_new(settings, "window", json_integer(request->window)) != 0 ||
        json_object_set_new(settings, "draft_init", json_string(request->draft_init)) != 0 ||
        !sp_metadata_add_method(settings, method, request) || !add_drafter(settings, info, method)) {
        json_decref(settings);
        return NULL;
    }
    return settings;
}

/* The layout of AUTOMATIC1111's web interface: the prompt, then "Name: value" pairs on one line. */
static char *make_parameters(const sp_model_info *info, const sp_request *request, const sp_method *method,
                             const char *model)
{
    char *text = NULL;
    const char *sampler = method->exactness == SP_IDENTICAL ? "ar" : method->name;
    int length = asprintf(&text,
        "%s\nSampler: %s, CFG scale: %.9g, Seed: %" PRIu64 ", Size: %zux%zu, Model hash: %.10s, Model: %s, "
        "Temperature: %.9g, Top K: %d, Top P: %.9g, Image: %" PRIu32 ", Version: specular %s",
        request->prompt, sampler, sp_number_shortest(request->cfg_scale), request->seed, info->width, info->height,
        info->fingerprint, model, sp_number_shortest(request->temperature), request->top_k,
        sp_number_shortest(request->top_p), request->image, SP_VERSION);
    return length < 0 ? NULL : text;
}

/* FNV-1a, 64 bits: tells settings apart, guards against nothing. */
static void fingerprint_text(const char *text, char out[17])
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    snprintf(out, 17, "%016" PRIx64, hash);
}

sp_status sp_metadata_make(sp_metadata *out, const sp_engine *engine, const sp_request *request, sp_error *err)
{
    *out = (sp_metadata){0};
    sp_model_info info = sp_engine_info(engine);
    const sp_method *method = sp_method_find(request->method, info.continuous);
    if (method == NULL) return SP_FAIL(err, SP_EARG, "--method: '%.80s' is not a method", request->method);
    char *model = sp_metadata_model_name(&info);
    if (model != NULL) {
        out->settings = make_settings(&info, request, method, model);
        out->parameters = make_parameters(&info, request, method, model);
        out->json = json_dumps(out->settings, JSON_COMPACT | JSON_REAL_PRECISION(9));
    }
    free(model);
    if (out->settings == NULL || out->json == NULL || out->parameters == NULL)
        return SP_FAIL(err, SP_ENOMEM, "no memory for the settings of a picture; free some");
    fingerprint_text(out->json, out->fingerprint);
    out->chunk[0] = (sp_text_chunk){"parameters", out->parameters};
    out->chunk[1] = (sp_text_chunk){"specular", out->json};
    return SP_OK;
}

void sp_metadata_free(sp_metadata *metadata)
{
    json_decref(metadata->settings);
    free(metadata->json);
    free(metadata->parameters);
    *metadata = (sp_metadata){0};
}

sp_status sp_metadata_read(const char *path, json_t **out, sp_error *err)
{
    sp_image image;
    SP_TRY(sp_png_read(path, 0, &image, err));
    sp_status status;
    const char *text = sp_image_find(&image, "specular");
    if (text == NULL)
        status = SP_FAIL(err, SP_EFORMAT, "%s: no text under the key 'specular'; only pictures of this program that "
                         "were not stripped have their settings", path);
    else
        status = sp_json_parse(out, path, text, strlen(text), err);
    if (status == SP_OK && !json_is_object(*out)) {
        json_decref(*out);
        status = SP_FAIL(err, SP_EFORMAT, "%s: the text under 'specular' is not a JSON object", path);
    }
    sp_image_free(&image);
    return status;
}
