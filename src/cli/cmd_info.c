#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/metadata.h"
#include "cli/number.h"
#include "cli/setup.h"

static json_t *make_json(const sp_model_info *info, const char *name)
{
    return json_pack("{ss ss ss ss ss ss ss sb sI si sI sI sI sI sI sI sI sI sI sI sI sI sI sI sI sf sf si sf}",
        "model", name, "path", info->path, "family", info->family, "codec", info->codec, "dtype", info->dtype, "kernels",
        info->kernels, "model_fingerprint", info->fingerprint, "from_text", info->from_text, "n_classes",
        (json_int_t)info->n_classes, "threads", info->threads, "parameters", (json_int_t)info->parameters, "layers",
        (json_int_t)info->layers, "dim", (json_int_t)info->dim, "heads", (json_int_t)info->heads, "kv_heads",
        (json_int_t)info->kv_heads, "head_dim", (json_int_t)info->head_dim, "n_codes", (json_int_t)info->n_codes, "rows",
        (json_int_t)info->rows, "columns", (json_int_t)info->columns, "width", (json_int_t)info->width, "height",
        (json_int_t)info->height, "prefix_limit", (json_int_t)info->prefix_limit, "weight_bytes",
        (json_int_t)info->weight_bytes, "session_bytes", (json_int_t)info->session_bytes, "kv_bytes",
        (json_int_t)info->kv_bytes, "cfg_scale", sp_number_shortest(info->cfg_scale), "temperature",
        sp_number_shortest(info->temperature), "top_k", info->top_k, "top_p", sp_number_shortest(info->top_p));
}

static double mebibytes(size_t bytes) { return (double)bytes / 1048576; }

static void print_text(const sp_model_info *info, const char *name)
{
    printf("model        %s (%s)\n", name, info->path);
    printf("family       %s, pictures by %s, fingerprint %s\n", info->family, info->codec, info->fingerprint);
    printf("transformer  %zu parameters: %zu layers of %zu, %zu heads of %zu, %zu of keys and values\n", info->parameters,
           info->layers, info->dim, info->heads, info->head_dim, info->kv_heads);
    printf("picture      %zu x %zu pixels from %zu x %zu tokens of %zu codes\n", info->width, info->height, info->columns,
           info->rows, info->n_codes);
    if (info->from_text)
        printf("prompt       text, the first %zu tokens\n", info->prefix_limit);
    else
        printf("prompt       a class from 0 to %zu\n", info->n_classes - 1);
    printf("defaults     cfg-scale %.9g, temperature %.9g, top-k %d, top-p %.9g\n", sp_number_shortest(info->cfg_scale),
           sp_number_shortest(info->temperature), info->top_k, sp_number_shortest(info->top_p));
    printf("runs on      cpu, %d threads, %s arithmetic, %s kernels\n", info->threads, info->dtype, info->kernels);
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
    sp_model_info info = sp_engine_info(engine);
    char *name = sp_metadata_model_name(&info);
    if (name == NULL) {
        status = SP_FAIL(err, SP_ENOMEM, "no memory for the name of the model; free some");
    } else if (options->json) {
        json_t *object = make_json(&info, name);
        status = sp_setup_write_json("-", object, JSON_INDENT(2), err);
        json_decref(object);
    } else {
        print_text(&info, name);
    }
    free(name);
    sp_engine_close(engine);
    return status;
}
