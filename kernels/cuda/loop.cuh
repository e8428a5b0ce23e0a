#ifndef SP_CUDA_LOOP_CUH
#define SP_CUDA_LOOP_CUH
/* The decode loop of kernels/device_loop.h for a model on the same device.
 *
 *     sp_cuda_model model = {state, queue_pass, stream, n_codes, n_positions, code_dim};
 *     SP_TRY(sp_cuda_loop_open(&loop, &model, max_window, max_pictures, err));
 *     sp_device_loop device = sp_cuda_loop_of(loop);
 *
 * A pass over n rows of each picture, the model's part and the rule's, is captured as a graph the first time that many
 * rows of that many pictures are asked for, and after that it is one launch. The graphs serve every batch of as many
 * pictures drawn with the same rule, with or without guidance and sets. All device memory is taken by open; a captured
 * graph takes memory of the host and the driver. */
#include "kernels/cuda/race.cuh"

/* A pass that a model queues: the window of its i-th picture, which is order[i] of the batch, begins at position
 * first[i] and is fed ids [pictures, n]. What it is fed at and after position n_positions is 0 and its logits are not
 * used. */
typedef struct sp_cuda_window {
    size_t n_pictures, n;
    bool guided;
    const uint32_t *order;      /* device memory */
    const int32_t *first, *ids; /* device memory */
    float *logits;              /* device memory [streams, pictures, n, n_codes] */
    const sp_cuda_picture *picture; /* what the head may race over, by this rule, in place of leaving logits */
    sp_cuda_rule rule;
    size_t raced; /* to be set: the slices that sp_cuda_head_race left; 0: there are logits */
} sp_cuda_window;

typedef struct sp_cuda_model {
    void *state;
    sp_status (*queue)(void *state, sp_cuda_window *window, sp_error *err); /* on stream; may be captured */
    cudaStream_t stream;
    size_t n_codes, n_positions;
    size_t code_dim; /* of the codec, for rules over groups; 0: none */
} sp_cuda_model;

enum { SP_CUDA_MAX_CODES = 1 << 20 };

typedef struct sp_cuda_loop sp_cuda_loop;

SP_CHECK sp_status sp_cuda_loop_open(sp_cuda_loop **out, const sp_cuda_model *model, size_t max_window,
                                     size_t max_pictures, sp_error *err);
void sp_cuda_loop_close(sp_cuda_loop *loop);
sp_device_loop sp_cuda_loop_of(sp_cuda_loop *loop);

/* Rows that a pass of up to so many pictures may have, in one stream: whole windows, but of many pictures only so many
 * as may still be worth their time. Memory grows with them. */
size_t sp_cuda_loop_rows(size_t max_window, size_t max_pictures);

/* Device memory that a loop takes. */
size_t sp_cuda_loop_bytes(const sp_cuda_model *model, size_t max_window, size_t max_pictures);

#endif
