#include "vq/device.h"

/* A back end that leaves weights where they are: the device packs them. */
static bool borrow(sp_weight *out, const void *weights, sp_dtype dtype, size_t n, size_t k, bool round_rows)
{
    union { const void *from; void *to; } data = {weights};
    *out = (sp_weight){.data = data.to, .n = n, .k = k, .dtype = dtype, .round_rows = round_rows};
    return true;
}

static const sp_ops borrowing = {.name = "borrowing", .pack = borrow, .pack_conv3x3 = borrow};

static void take(sp_vq_device_plan *p, const sp_codec_config *c)
{
    p->post_quant.bias = sp_arena_take(&p->arena, c->z_channels, sizeof(float));
    sp_vq_network_take(&p->decoder, &p->arena);
}

static sp_status load(sp_vq_device_plan *p, const sp_codec_config *c, const sp_tensors *tensors, sp_error *err)
{
    sp_vq_loader loader = {tensors, &borrowing, c->bf16, 0};
    take(p, c);
    SP_TRY(sp_arena_commit(&p->arena, "codec norms", err));
    take(p, c);
    SP_TRY(sp_vq_matrix_load(&loader, "post_quant_conv", c->z_channels, c->code_dim, &p->post_quant, err));
    return sp_vq_network_load(&loader, &p->decoder, err);
}

/* Layers in the making; `at` is the buffer that holds what the next one reads. */
typedef struct builder {
    sp_device_layer *layers;
    size_t n;
    int at;
} builder;

enum { BUFFERS = 3 };

static int other(const builder *b, int which) { return (b->at + which) % BUFFERS; }

static sp_device_map map_of(const sp_vq_map *map)
{
    const sp_weight *w = &map->weight;
    return (sp_device_map){.weights = w->data, .dtype = w->dtype, .n = w->n, .k = w->k, .bias = map->bias};
}

static sp_device_layer *add(builder *b, sp_device_layer_kind kind, sp_plane in, const sp_vq_norm *norm, bool swish)
{
    sp_device_layer *layer = &b->layers[b->n++];
    *layer = (sp_device_layer){.kind = kind, .in = in, .swish = swish, .gain = norm ? norm->gain : NULL,
                               .bias = norm ? norm->bias : NULL, .from = b->at, .to = other(b, 1), .residual = -1};
    return layer;
}

static void add_conv(builder *b, const sp_vq_layer *from)
{
    bool last = from->kind == SP_VQ_OUT;
    sp_device_layer *layer = add(b, SP_DEVICE_CONV3, from->in, last ? &from->norm[0] : NULL, last);
    layer->upsample = from->mode == SP_CONV_UPSAMPLE;
    layer->map[0] = map_of(&from->map[0]);
    b->at = layer->to;
}

static void add_res(builder *b, const sp_vq_layer *from)
{
    int x = b->at, skip = other(b, 1), middle = other(b, 2);
    bool shortcut = from->in.channels != from->out.channels;
    if (shortcut) add(b, SP_DEVICE_CONV1, from->in, NULL, false)->map[0] = map_of(&from->map[2]);
    sp_device_layer *first = add(b, SP_DEVICE_CONV3, from->in, &from->norm[0], true);
    first->map[0] = map_of(&from->map[0]);
    first->to = middle;
    sp_device_layer *second = add(b, SP_DEVICE_CONV3, from->out, &from->norm[1], true);
    second->map[0] = map_of(&from->map[1]);
    second->from = middle;
    second->to = second->residual = b->at = shortcut ? skip : x;
}

static void add_attention(builder *b, const sp_vq_layer *from)
{
    sp_device_layer *layer = add(b, SP_DEVICE_ATTENTION, from->in, &from->norm[0], false);
    layer->to = layer->residual = b->at;
    for (int i = 0; i < 4; i++) layer->map[i] = map_of(&from->map[i]);
}

static sp_status build(sp_vq_device_plan *p, const sp_codec_config *c, sp_error *err)
{
    builder b = {.layers = sp_alloc(1 + 3 * p->decoder.n, sizeof *b.layers)};
    if (!b.layers) return SP_FAIL(err, SP_ENOMEM, "vq: no memory for the list of its layers");
    p->layers = b.layers;
    sp_device_layer *first = add(&b, SP_DEVICE_CONV1, (sp_plane){c->rows, c->columns, c->code_dim}, NULL, false);
    first->map[0] = map_of(&p->post_quant);
    b.at = first->to;
    for (size_t i = 0; i < p->decoder.n; i++) {
        const sp_vq_layer *layer = &p->decoder.layers[i];
        if (layer->kind == SP_VQ_RES) add_res(&b, layer);
        else if (layer->kind == SP_VQ_ATTENTION) add_attention(&b, layer);
        else add_conv(&b, layer);
    }
    p->plan.n_layers = b.n;
    return SP_OK;
}

sp_status sp_vq_device_plan_make(sp_vq_device_plan *out, const sp_codec_config *config, const sp_tensors *tensors,
                                 const float *codes, sp_error *err)
{
    sp_status status;
    *out = (sp_vq_device_plan){.plan = {.groups = config->groups, .eps = config->group_norm_eps, .rows = config->rows,
                                        .columns = config->columns, .code_dim = config->code_dim, .codes = codes,
                                        .n_codes = config->n_codes, .latent_scale = config->latent_scale}};
    SP_GO(sp_vq_network_plan(&out->decoder, config, SP_VQ_DECODER, err));
    SP_GO(load(out, config, tensors, err));
    SP_GO(build(out, config, err));
    out->plan.layers = out->layers;
    return SP_OK;
out:
    sp_vq_device_plan_free(out);
    return status;
}

void sp_vq_device_plan_free(sp_vq_device_plan *p)
{
    sp_release(p->decoder.layers);
    sp_release(p->layers);
    sp_arena_free(&p->arena);
    *p = (sp_vq_device_plan){0};
}
