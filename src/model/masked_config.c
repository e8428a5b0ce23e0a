#include "model/masked_config.h"

static const char *const norms[] = {"layer", NULL};
static const char *const activations[] = {"gelu", NULL};

sp_status sp_masked_config(const json_t *root, const char *file, sp_model_config *c, sp_error *err)
{
    int choice;
    double value;
    bool bias;
    SP_TRY(sp_json_size(root, file, "transformer.dim", 1, 1 << 16, &c->dim, err));
    SP_TRY(sp_json_size(root, file, "transformer.layers", 1, 1024, &c->layers, err));
    SP_TRY(sp_json_size(root, file, "transformer.decoder_layers", 1, 1024, &c->decoder_layers, err));
    SP_TRY(sp_json_size(root, file, "transformer.heads", 1, 1024, &c->heads, err));
    SP_TRY(sp_json_size_or(root, file, "transformer.head_dim", 1, 1024, c->dim / c->heads, &c->head_dim, err));
    SP_TRY(sp_json_size(root, file, "transformer.ffn_dim", 1, 1 << 18, &c->ffn_dim, err));
    SP_TRY(sp_json_size(root, file, "transformer.buffer", 1, 4096, &c->buffer, err));
    SP_TRY(sp_json_choice(root, file, "transformer.norm", norms, 0, &choice, err));
    SP_TRY(sp_json_real_or(root, file, "transformer.norm_eps", 0, 1, 1e-6, &value, err));
    c->norm_eps = (float)value;
    SP_TRY(sp_json_choice(root, file, "transformer.activation", activations, 0, &choice, err));
    SP_TRY(sp_json_bool_or(root, file, "transformer.bias", true, &bias, err));
    if (!bias)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: transformer.bias is false: only masked models with biases are known",
                       file);
    c->kv_heads = c->heads;
    c->prefix_length = 1;
    SP_TRY(sp_json_size(root, file, "classes.count", 1, 1 << 20, &c->n_classes, err));
    return sp_json_size(root, file, "sampling.passes", 1, 1 << 20, &c->passes, err);
}
