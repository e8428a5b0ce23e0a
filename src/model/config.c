#include "model/config.h"

#include <stdio.h>
#include <string.h>

#include "io/json.h"
#include "model/codec_config.h"
#include "model/family.h"
#include "model/latent_config.h"
#include "model/masked_config.h"

static const char *const norms[] = {"rms", NULL};
static const char *const qk_norms[] = {"none", "layer", "rms", NULL};
static const char *const ropes[] = {"1d", "2d", NULL};
static const char *const rope_pairs[] = {"halves", "adjacent", NULL};
static const char *const rope_prefixes[] = {"identity", "zero", NULL};
static const char *const activations[] = {"swiglu", NULL};
static const char *const heads[] = {"linear", "mlp", NULL};
static const char *const sides[] = {"left", NULL};
static const char *const nulls[] = {"all_pad", NULL};
static const char *const rope_orders[] = {"rows_first", "columns_first", NULL};

static sp_status transformer(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    int choice;
    double value;
    bool flag;
    SP_TRY(sp_json_size(root, file, "transformer.dim", 1, 1 << 16, &c->dim, err));
    SP_TRY(sp_json_size(root, file, "transformer.layers", 1, 1024, &c->layers, err));
    SP_TRY(sp_json_size(root, file, "transformer.heads", 1, 1024, &c->heads, err));
    SP_TRY(sp_json_size_or(root, file, "transformer.kv_heads", 1, 1024, c->heads, &c->kv_heads, err));
    SP_TRY(sp_json_size_or(root, file, "transformer.head_dim", 2, 1024, c->dim / c->heads, &c->head_dim, err));
    SP_TRY(sp_json_size(root, file, "transformer.ffn_dim", 1, 1 << 18, &c->ffn_dim, err));
    SP_TRY(sp_json_choice(root, file, "transformer.norm", norms, 0, &choice, err));
    SP_TRY(sp_json_real_or(root, file, "transformer.norm_eps", 0, 1, 1e-5, &value, err));
    c->norm_eps = (float)value;
    SP_TRY(sp_json_choice(root, file, "transformer.qk_norm", qk_norms, 0, &choice, err));
    c->qk_norm = (sp_qk_norm)choice;
    SP_TRY(sp_json_choice(root, file, "transformer.rope", ropes, -1, &choice, err));
    c->rope = (sp_rope_kind)choice;
    SP_TRY(sp_json_real_or(root, file, "transformer.rope_base", 1, 1e12, 10000, &value, err));
    c->rope_base = (float)value;
    SP_TRY(sp_json_choice(root, file, "transformer.rope_pairs", rope_pairs, -1, &choice, err));
    c->rope_adjacent = choice == 1;
    SP_TRY(sp_json_choice(root, file, "transformer.rope_prefix", rope_prefixes, 0, &choice, err));
    c->rope_prefix = (sp_rope_prefix)choice;
    SP_TRY(sp_json_choice(root, file, "transformer.rope_order", rope_orders, 0, &choice, err));
    c->rope_columns_first = choice == 1;
    SP_TRY(sp_json_real_or(root, file, "transformer.rope_origin", -4096, 4096, 0, &value, err));
    c->rope_origin = (float)value;
    SP_TRY(sp_json_choice(root, file, "transformer.activation", activations, 0, &choice, err));
    SP_TRY(sp_json_bool_or(root, file, "transformer.bias", false, &flag, err));
    if (flag) return SP_FAIL(err, SP_EUNSUPPORTED,
                             "%s: transformer.bias is true: only models without biases are known", file);
    if (c->heads % c->kv_heads)
        return SP_FAIL(err, SP_EFORMAT, "%s: transformer.heads %zu is not a multiple of kv_heads %zu", file, c->heads,
                       c->kv_heads);
    if (c->head_dim % (c->rope == SP_ROPE_2D ? 4 : 2))
        return SP_FAIL(err, SP_EFORMAT, "%s: transformer.head_dim %zu cannot be rotated: expected a multiple of %d",
                       file,
                       c->head_dim, c->rope == SP_ROPE_2D ? 4 : 2);
    return SP_OK;
}

static sp_status prompt(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    size_t value;
    int choice;
    if (!c->from_text) {
        SP_TRY(sp_json_size(root, file, "classes.count", 1, 1 << 20, &c->n_classes, err));
        SP_TRY(sp_json_size(root, file, "classes.null", 0, 1 << 20, &value, err));
        c->null_class = (int32_t)value;
        c->prefix_vocab = c->n_classes > value ? c->n_classes : value + 1;
        return sp_json_size_or(root, file, "classes.rows", 1, 4096, 1, &c->prefix_length, err);
    }
    SP_TRY(sp_json_size(root, file, "text.vocab", 1, 1 << 22, &c->prefix_vocab, err));
    SP_TRY(sp_json_size(root, file, "text.length", 1, 4096, &c->prefix_length, err));
    SP_TRY(sp_json_size_or(root, file, "text.pad_id", 0, c->prefix_vocab - 1, 0, &value, err));
    c->pad_id = (int32_t)value;
    SP_TRY(sp_json_choice(root, file, "text.pad_side", sides, 0, &choice, err));
    SP_TRY(sp_json_choice(root, file, "text.null", nulls, 0, &choice, err));
    return sp_json_bool_or(root, file, "text.learned_positions", false, &c->prefix_positions, err);
}

static sp_status codes(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    int choice;
    SP_TRY(sp_json_size(root, file, "codes.count", 2, 1 << 22, &c->n_codes, err));
    SP_TRY(sp_json_size(root, file, "codes.grid.0", 1, 1024, &c->rows, err));
    SP_TRY(sp_json_size(root, file, "codes.grid.1", 1, 1024, &c->columns, err));
    SP_TRY(sp_json_size_or(root, file, "codes.first_row", 0, 1 << 22, 0, &c->code_row, err));
    SP_TRY(sp_json_choice(root, file, "codes.head", heads, 0, &choice, err));
    c->head = (sp_head_kind)choice;
    if (c->head == SP_HEAD_MLP)
        SP_TRY(sp_json_size(root, file, "codes.head_hidden", 1, 1 << 18, &c->head_hidden, err));
    return SP_OK;
}

static sp_status sampling(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    double value;
    size_t k;
    SP_TRY(sp_json_real_or(root, file, "sampling.cfg_scale", 0, 1000, 1, &value, err));
    c->cfg_scale = (float)value;
    SP_TRY(sp_json_real_or(root, file, "sampling.temperature", 0, 100, 1, &value, err));
    c->temperature = (float)value;
    SP_TRY(sp_json_real_or(root, file, "sampling.top_p", 0, 1, 1, &value, err));
    c->top_p = (float)value;
    SP_TRY(sp_json_size_or(root, file, "sampling.top_k", 0, 1 << 22, 0, &k, err));
    c->top_k = (int)k;
    return SP_OK;
}

/* The family, its transformer and its prompts. */
static sp_status family(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    *c = (sp_model_config){0};
    const json_t *type = sp_json_at(root, "model_type");
    if (!json_is_string(type))
        return SP_FAIL(err, SP_EFORMAT, "%s: no model_type: expected the name of a model family", file);
    const sp_family *found = sp_family_find(json_string_value(type));
    if (!found)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: model_type '%.40s' is not known here: expected %s", file,
                       json_string_value(type), sp_family_names());
    snprintf(c->family, sizeof c->family, "%s", found->name);
    c->from_text = found->from_text;
    c->masked = found->masked;
    if (c->masked) return sp_masked_config(root, file, c, err);
    SP_TRY(transformer(root, file, c, err));
    return prompt(root, file, c, err);
}

static sp_status read(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    SP_TRY(family(root, file, c, err));
    if (c->masked || sp_json_at(root, "latents")) SP_TRY(sp_latent_config(root, file, c, err));
    else SP_TRY(codes(root, file, c, err));
    if (c->passes > c->rows * c->columns)
        return SP_FAIL(err, SP_EFORMAT, "%s: sampling.passes is %zu: expected at most the %zu tokens", file, c->passes,
                       c->rows * c->columns);
    SP_TRY(sp_codec_config_read(root, file, c, err));
    return sampling(root, file, c, err);
}

sp_status sp_model_config_parse(const char *name, const char *text, size_t size, sp_model_config *out, sp_error *err)
{
    json_t *root = NULL;
    SP_TRY(sp_json_parse(&root, name, text, size, err));
    sp_status status = read(root, name, out, err);
    json_decref(root);
    return status;
}

sp_status sp_model_config_load(const char *folder, sp_model_config *out, sp_error *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", folder) >= sizeof path)
        return SP_FAIL(err, SP_EARG, "model: the folder's name is longer than %zu bytes", sizeof path);
    json_t *root = NULL;
    SP_TRY(sp_json_load(&root, path, SP_JSON_LIMIT, err));
    sp_status status = read(root, path, out, err);
    json_decref(root);
    return status;
}
