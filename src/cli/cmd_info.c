#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/metadata.h"
#include "cli/number.h"
#include "cli/setup.h"

/* Counts of the model and bytes of memory, under the names of specular.h. */
static const struct {
    const char *name;
    size_t offset;
} sizes[] = {
#define SIZE(name) {#name, offsetof(sp_model_info, name)}
    SIZE(parameters), SIZE(layers), SIZE(dim), SIZE(heads), SIZE(kv_heads), SIZE(head_dim), SIZE(n_codes), SIZE(rows),
    SIZE(latent_dim), SIZE(chain_steps), SIZE(passes), SIZE(head_parameters), SIZE(drafter_parameters), SIZE(columns),
    SIZE(width), SIZE(height), SIZE(n_classes), SIZE(prefix_limit), SIZE(weight_bytes), SIZE(drafter_bytes),
    SIZE(session_bytes), SIZE(kv_bytes), SIZE(batch_size)
#undef SIZE
};

static json_t *make_json(const sp_model_info *info, const char *name)
{
    json_t *object = json_pack("{ss ss ss ss ss ss ss sb sb si sf sf si sf}", "model", name, "path", info->path,
        "family", info->family, "codec", info->codec, "dtype", info->dtype, "kernels", info->kernels,
        "model_fingerprint", info->fingerprint, "from_text", info->from_text, "continuous", info->continuous,
        "threads", info->threads,
        "cfg_scale", sp_number_shortest(info->cfg_scale), "temperature", sp_number_shortest(info->temperature),
        "top_k", info->top_k, "top_p", sp_number_shortest(info->top_p));
    for (size_t i = 0; object != NULL && i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t value;
        memcpy(&value, (const char *)info + sizes[i].offset, sizeof value);
        if (json_object_set_new(object, sizes[i].name, json_integer((json_int_t)value)) == 0) continue;
        json_decref(object);
        object = NULL;
    }
    return object;
}

static double mebibytes(size_t bytes) { return (double)bytes / 1048576; }

/* A drafting model that cannot be read stops no method that does without. */
static void print_drafter(const sp_model_info *info, const char *why_not)
{
    if (why_not != NULL) printf("drafter      none: %s\n", why_not);
    else printf("drafter      %zu parameters, %.1f MiB\n", info->drafter_parameters, mebibytes(info->drafter_bytes));
}

static void print_tokens(const sp_model_info *info)
{
    if (info->continuous)
        printf("head         %zu of the parameters: denoising chains of %zu steps\n", info->head_parameters,
               info->chain_steps);
    printf("picture      %zu x %zu pixels from %zu x %zu tokens of %zu %s\n", info->width, info->height, info->columns,
           info->rows, info->continuous ? info->latent_dim : info->n_codes, info->continuous ? "numbers" : "codes");
}

static void print_text(const sp_model_info *info, const char *name, const char *no_drafter)
{
    printf("model        %s (%s)\n", name, info->path);
    const char *codec = *info->codec != '\0' ? info->codec : "nothing here";
    printf("family       %s, pictures by %s, fingerprint %s\n", info->family, codec, info->fingerprint);
    printf("transformer  %zu parameters: %zu layers of %zu, %zu heads of %zu, %zu of keys and values\n",
           info->parameters, info->layers, info->dim, info->heads, info->head_dim, info->kv_heads);
    print_tokens(info);
    print_drafter(info, no_drafter);
    if (info->from_text)
        printf("prompt       text, the first %zu tokens\n", info->prefix_limit);
    else
        printf("prompt       a class from 0 to %zu\n", info->n_classes - 1);
    printf("defaults     cfg-scale %.9g, temperature %.9g, top-k %d, top-p %.9g\n", sp_number_shortest(info->cfg_scale),
           sp_number_shortest(info->temperature), info->top_k, sp_number_shortest(info->top_p));
    if (info->passes > 0) printf("order        random, any number of passes; %zu by default\n", info->passes);
    printf("runs on      %s, %d threads, %s arithmetic, %s kernels\n",
           strcmp(info->kernels, "cuda") == 0 ? "a GPU" : "cpu", info->threads, info->dtype, info->kernels);
    printf("memory       %.1f MiB: weights %.1f, a session %.1f (of which keys and values %.1f)\n",
           mebibytes(info->weight_bytes + info->session_bytes), mebibytes(info->weight_bytes),
           mebibytes(info->session_bytes), mebibytes(info->kv_bytes));
}

sp_status sp_cmd_info(const sp_options *options, bool *some_failed, sp_error *err)
{
    (void)some_failed;
    sp_engine *engine = NULL;
    sp_status status = sp_setup_engine(options, &engine, err);
    if (status != SP_OK) return status;
    sp_error found = {0};
    bool drafter = sp_engine_load_drafter(engine, &found) == SP_OK;
    sp_model_info info = sp_engine_info(engine);
    char *name = sp_metadata_model_name(&info);
    if (name == NULL) {
        status = SP_FAIL(err, SP_ENOMEM, "no memory for the name of the model; free some");
    } else if (options->json) {
        json_t *object = make_json(&info, name);
        status = sp_setup_write_json("-", object, JSON_INDENT(2), err);
        json_decref(object);
    } else {
        print_text(&info, name, drafter ? NULL : found.message);
    }
    free(name);
    sp_engine_close(engine);
    return status;
}
