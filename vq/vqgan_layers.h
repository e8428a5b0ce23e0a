#ifndef SP_VQGAN_LAYERS_H
#define SP_VQGAN_LAYERS_H
/* The layers of a VQGAN or a KL autoencoder as a flat list in the order they run, the same for encoder and decoder.
 * Inside vq only.
 *
 *     n = sp_vq_plan(&config, side, NULL);                       // how many; then the same call with room for them
 *     for each layer: sp_vq_layer_take(layer, &arena);           // twice, round sp_arena_commit
 *     for each layer: SP_TRY(sp_vq_layer_load(&loader, layer, err));
 *     for each layer: sp_vq_layer_run(&run, layer);              // run.buffer[0] in and out
 *
 * swish(x) = x / (1 + e^-x), norm = GroupNorm:
 *     conv       y = conv3x3(x)
 *     res        y = skip(x) + conv2(swish(norm2(conv1(swish(norm1(x)))))), skip a 1x1 convolution if widths differ
 *     attention  y = x + proj_out(softmax(q k^T / sqrt c) v), q k v = 1x1 convolutions of norm(x)
 *     out        y = conv_out(swish(norm_out(x))) */
#include "base/arena.h"
#include "vq/codec.h"

typedef enum { SP_VQ_CONV, SP_VQ_RES, SP_VQ_ATTENTION, SP_VQ_OUT } sp_vq_kind;
typedef enum { SP_VQ_ENCODER, SP_VQ_DECODER } sp_vq_side;

typedef struct sp_vq_norm {
    float *gain, *bias; /* [channels] */
} sp_vq_norm;

/* A convolution: 3x3, or 1x1 as a matrix. */
typedef struct sp_vq_map {
    sp_weight weight; /* data owned */
    float *bias;      /* [weight.n] */
} sp_vq_map;

typedef struct sp_vq_layer {
    char name[80]; /* where its tensors are: "decoder.mid.0" */
    sp_vq_kind kind;
    sp_conv_mode mode; /* of a conv layer */
    sp_plane in, out;
    sp_vq_norm norm[2];
    sp_vq_map map[4]; /* conv, out: the convolution; res: conv1, conv2, nin_shortcut; attention: q, k, v, proj_out */
} sp_vq_layer;

/* Fills layers, unless NULL, and returns how many there are. */
size_t sp_vq_plan(const sp_codec_config *config, sp_vq_side side, sp_vq_layer *layers);

typedef struct sp_vq_loader {
    const sp_tensors *tensors;
    const sp_ops *ops;
    bool bf16;
    size_t bytes; /* of weights packed so far */
} sp_vq_loader;

/* Norms and biases. */
void sp_vq_layer_take(sp_vq_layer *layer, sp_arena *arena);
SP_CHECK sp_status sp_vq_layer_load(sp_vq_loader *loader, sp_vq_layer *layer, sp_error *err);
void sp_vq_layer_free(sp_vq_layer *layer);

/* A 1x1 convolution <prefix>.weight [n, k, 1, 1] and <prefix>.bias [n]; map->bias has been taken. */
SP_CHECK sp_status sp_vq_matrix_load(sp_vq_loader *loader, const char *prefix, size_t n, size_t k, sp_vq_map *map,
                                     sp_error *err);

typedef struct sp_vq_run {
    const sp_ops *ops;
    sp_pool *pool;
    size_t groups;
    float eps;
    float *buffer[3]; /* each sp_vq_layer_floats of the largest layer */
    void *scratch;    /* sp_vq_layer_scratch of the largest layer */
} sp_vq_run;

/* Floats a layer needs in each buffer; SP_ENOMEM when that overflows. */
SP_CHECK sp_status sp_vq_layer_floats(const sp_vq_layer *layer, size_t *floats, sp_error *err);
size_t sp_vq_layer_scratch(const sp_vq_run *run, const sp_vq_layer *layer);

/* From buffer[0] [in.height, in.width, in.channels] to buffer[0] by out; the buffers change places. */
void sp_vq_layer_run(sp_vq_run *run, const sp_vq_layer *layer);

/* y [n_rows, n] = x [n_rows, k] W^T + bias, or y += that. */
void sp_vq_matrix_run(const sp_vq_run *run, const sp_vq_map *map, const float *x, size_t n_rows, float *y,
                      sp_gemm_mode mode);
size_t sp_vq_matrix_scratch(const sp_vq_run *run, size_t k);

#endif
