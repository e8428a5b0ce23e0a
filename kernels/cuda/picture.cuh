#ifndef SP_CUDA_PICTURE_CUH
#define SP_CUDA_PICTURE_CUH
/* Pictures in the making on the device, a batch of them, and the kernels of one pass over n rows of each. In order, on
 * one stream:
 *
 *     sp_cuda_place(stream, &pictures, n)          drafts for the positions that enter; what the model is fed
 *     ... the model reads ids [pictures, n] and writes logits [streams, pictures, n, n_codes] ...
 *     sp_cuda_race(stream, &pictures, n, rule)     ar and pathwise: the token that the seed draws in each row
 *     sp_cuda_verify(stream, &pictures, n, rule)   or sjd, coupled and gsd: laws, tests, tokens in place of drafts
 *     sp_cuda_commit(stream, &pictures, n)         what is final, the next drafts, the record of the pass
 *
 * Where a picture stands, and what it is drawn with, is read from device memory, so the launches are the same in every
 * pass over n rows and are captured once. Each picture stands at its own position. Rows beyond the end of a picture are
 * left out by the kernels, all rows of one that is complete. Everything of a row is worked out by blocks of its own in
 * an order that depends on n_codes only: rows are invariant, whoever their neighbours are. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "kernels/device_loop.h"
}
#include "acceptance/arithmetic.h"

/* What a picture is drawn with. Written when it begins. */
typedef struct sp_cuda_settings {
    uint64_t seed;
    uint32_t image;
    float cfg_scale, inverse_temperature;
    uint32_t greedy;       /* temperature 0 */
    uint32_t top_k;        /* 0: off */
    float top_p;           /* 1: off */
    uint32_t group_size, code_dim, grouped; /* grouped: by group_of, else by rank */
    float group_delta, group_distance;
} sp_cuda_settings;

/* Where a picture stands. Zero at its beginning. */
typedef struct sp_cuda_state {
    uint32_t first; /* positions before it are final */
    uint32_t known; /* positions before it hold a token or a draft */
    uint32_t pass;
    double deviation;
    uint64_t begun, modelled; /* ns: when the pass began, when the model's part of it was over */
} sp_cuda_state;

/* What became of a row in a pass. */
typedef struct sp_cuda_row {
    int32_t token;
    int32_t passed; /* it has a draft, which passes its test */
    int32_t broken; /* a score is not a number */
    double deviation;
} sp_cuda_row;

/* The first picture of a batch; the memory of the others follows, array by array. A pass takes some of them, and what
 * the model is fed and answers lies by the order in which it takes them. */
typedef struct sp_cuda_picture {
    uint32_t n_codes, n_positions;
    uint32_t n_pictures;     /* of a pass */
    const uint32_t *order;   /* [n_pictures] which of the batch they are; NULL: the first */
    uint32_t ring; /* most rows of a window: what belongs to position p lies at p mod ring */
    const sp_cuda_settings *settings;
    sp_cuda_state *state;
    const int32_t *starts;   /* [n_positions] see sp_device_picture */
    int32_t *tokens;         /* [n_positions] final ones, then drafts */
    int32_t *fed;            /* position of row 0 of the model's window; n_positions of a picture that is complete */
    int32_t *ids;            /* [n] what the model is fed */
    float *logits;           /* [2, pictures, n, n_codes]; the scores take the place of the first */
    float *laws;             /* [ring, n_codes] the law a draft was drawn from, meant when its kind is SP_LAW_ROW */
    int32_t *kinds;          /* [ring] sp_law_kind */
    unsigned long long *best; /* [ring, slices] of a race */
    sp_cuda_row *rows;       /* [ring] */
    const float *codes;      /* [n_codes, code_dim] of all pictures */
    const int32_t *group_of; /* [n_codes] of all pictures */
    sp_device_record *records; /* [n_positions] host memory */
    int32_t *drawn;          /* [n_positions] host memory: final tokens */
} sp_cuda_picture;

typedef enum { SP_CUDA_RACE, SP_CUDA_RATIO, SP_CUDA_GROUP } sp_cuda_test;

/* What differs between rules and settings, once for all passes of a picture. */
typedef struct sp_cuda_rule {
    sp_cuda_test test;
    bool couple; /* drafts after the first refused one are tested too */
    bool guided; /* there is a stream without the prompt */
    bool cut;    /* top-k or top-p is on */
} sp_cuda_rule;

cudaError_t sp_cuda_place(cudaStream_t stream, const sp_cuda_picture *picture, size_t n);
cudaError_t sp_cuda_race(cudaStream_t stream, const sp_cuda_picture *picture, size_t n, sp_cuda_rule rule);
cudaError_t sp_cuda_verify(cudaStream_t stream, const sp_cuda_picture *picture, size_t n, sp_cuda_rule rule);
cudaError_t sp_cuda_commit(cudaStream_t stream, const sp_cuda_picture *picture, size_t n);

/* Length of a row of best after sp_cuda_race, and at most, after the race of a head (race.cuh). */
size_t sp_cuda_race_slices(size_t n_codes);
enum { SP_CUDA_LEAST_SLICE = 64 };
__host__ __device__ static inline size_t sp_cuda_most_slices(size_t n_codes)
{
    return (n_codes + SP_CUDA_LEAST_SLICE - 1) / SP_CUDA_LEAST_SLICE;
}

/* Picture i of a pass over n rows. */
__device__ static inline sp_cuda_picture sp_picture_at(sp_cuda_picture p, size_t i, uint32_t n)
{
    size_t own = p.order ? p.order[i] : i, positions = own * p.n_positions, rows = own * p.ring;
    p.settings += own;
    p.state += own;
    p.starts += positions;
    p.tokens += positions;
    p.fed += i;
    p.ids += i * n;
    p.logits += i * n * p.n_codes;
    p.laws += rows * p.n_codes;
    p.kinds += rows;
    p.best += rows * sp_cuda_most_slices(p.n_codes);
    p.rows += rows;
    p.records += positions;
    p.drawn += positions;
    return p;
}

/* That of a block, which is its z. */
__device__ static inline sp_cuda_picture sp_own_picture(const sp_cuda_picture &p, uint32_t n)
{
    return sp_picture_at(p, blockIdx.z, n);
}

/* The rows of a pass over n that stand in the picture. */
__device__ static inline uint32_t sp_live_rows(const sp_cuda_picture *p, uint32_t n)
{
    uint32_t left = p->n_positions - p->state->first;
    return n < left ? n : left;
}

/* How many of n live rows have a draft: all, where a longer window has left one for the last. */
__device__ static inline uint32_t sp_live_drafts(const sp_cuda_picture *p, uint32_t live)
{
    return p->state->known - p->state->first < live ? live - 1 : live;
}

/* u of a purpose at a position in this pass. */
__device__ static inline double sp_pass_uniform(const sp_cuda_picture *p, sp_draw_purpose purpose, uint32_t position)
{
    return sp_uniform(p->settings->seed, p->settings->image, purpose, position, p->state->pass);
}

/* Four values of a row from code on; 0 beyond it. */
__device__ static inline void sp_load_four(const float *row, uint32_t code, uint32_t n_codes, float out[4])
{
    if (n_codes % 4 == 0) {
        float4 four = *reinterpret_cast<const float4 *>(row + code);
        out[0] = four.x;
        out[1] = four.y;
        out[2] = four.z;
        out[3] = four.w;
        return;
    }
    for (uint32_t i = 0; i < 4; i++) out[i] = code + i < n_codes ? row[code + i] : 0;
}

/* A score, as op guide has it. */
__device__ static inline float sp_guide(const sp_cuda_settings *s, bool guided, float conditional, float free_logit)
{
    float logit = guided ? fmaf(s->cfg_scale, conditional - free_logit, free_logit) : conditional;
    return logit * s->inverse_temperature;
}

/* Four scores of a row from code on, as op guide has them; they take the place of the logits. */
__device__ static inline void sp_guide_four(const sp_cuda_picture *p, uint32_t n, uint32_t row, bool guided,
                                            uint32_t code, float scores[4])
{
    float conditional[4], free_logits[4] = {0, 0, 0, 0}, *to = p->logits + static_cast<size_t>(row) * p->n_codes;
    sp_load_four(to, code, p->n_codes, conditional);
    size_t without = static_cast<size_t>(p->n_pictures) * n + row;
    if (guided) sp_load_four(p->logits + without * p->n_codes, code, p->n_codes, free_logits);
    for (uint32_t i = 0; i < 4; i++) {
        scores[i] = sp_guide(p->settings, guided, conditional[i], free_logits[i]);
        if (code + i < p->n_codes) to[code + i] = scores[i];
    }
}

/* Threads of a block that goes over the codes of a row. */
static inline unsigned sp_row_threads(size_t n_codes)
{
    size_t threads = (n_codes + 4 * SP_WARP - 1) / (4 * SP_WARP) * SP_WARP;
    return static_cast<unsigned>(threads < 1024 ? threads : 1024);
}

#endif
