#ifndef SP_VQ_NETWORK_H
#define SP_VQ_NETWORK_H
/* An encoder or a decoder: its layers, planned, loaded and run in their order. Inside vq only.
 *
 *     SP_TRY(sp_vq_network_plan(&net, &config, SP_VQ_DECODER, err));
 *     sp_vq_network_take(&net, &arena);                                  // twice, round sp_arena_commit
 *     SP_TRY(sp_vq_network_load(&loader, &net, err));
 *     SP_TRY(sp_vq_network_fit(&net, &run, &floats, &scratch, err));     // for each network of a codec
 *     SP_TRY(sp_vq_run_open(&run, &arena, floats, scratch, err));
 *     sp_vq_network_run(&net, &run);                                     // from run.buffer[0] to run.buffer[0]
 *
 * A network without layers is one that the checkpoint does not have. */
#include "vq/vqgan_layers.h"

typedef struct sp_vq_network {
    sp_vq_layer *layers;
    size_t n;
} sp_vq_network;

/* SP_EFORMAT for a size out of its range; does not look at n_codes. */
SP_CHECK sp_status sp_vq_check(const sp_codec_config *config, sp_error *err);

SP_CHECK sp_status sp_vq_network_plan(sp_vq_network *net, const sp_codec_config *config, sp_vq_side side,
                                      sp_error *err);
void sp_vq_network_take(sp_vq_network *net, sp_arena *arena);
SP_CHECK sp_status sp_vq_network_load(sp_vq_loader *loader, sp_vq_network *net, sp_error *err);
void sp_vq_network_free(sp_vq_network *net);

/* Raises floats (of each buffer) and scratch (bytes) to what the network needs. */
SP_CHECK sp_status sp_vq_network_fit(const sp_vq_network *net, const sp_vq_run *run, size_t *floats, size_t *scratch,
                                     sp_error *err);
/* One set of buffers serves every layer of every network of a codec. */
SP_CHECK sp_status sp_vq_run_open(sp_vq_run *run, sp_arena *arena, size_t floats, size_t scratch, sp_error *err);

void sp_vq_network_run(const sp_vq_network *net, sp_vq_run *run);

/* An encoder: pixels [height, width, 3] in, its output [positions, channels] in buffer[0]; SP_EUNSUPPORTED when there
 * is none. */
SP_CHECK sp_status sp_vq_network_read(const sp_vq_network *net, sp_vq_run *run, const float *pixels, sp_error *err);

/* What lies in buffer[0] after a run: as it is, or its mean over the positions, [channels]. */
void sp_vq_network_output(const sp_vq_network *net, const sp_vq_run *run, float *out);
void sp_vq_network_average(const sp_vq_network *net, const sp_vq_run *run, float *out);

#endif
