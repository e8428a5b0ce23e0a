/* y = GroupNorm(x) * gain + bias, then swish. Bounded by memory: x is read twice and y written once.
 *
 * The moments are taken in one reading: a chunk of CHUNK pixels is summed in float about its first pixel, which lies
 * within the spread of its channel and so costs no digits, and the chunk's sums become sums about zero in double,
 * where the mean cancels harmlessly. Chunks are fixed and added up in their order, so threads do not show. */
#include "kernels/cpu/simd.h"

#include <math.h>

#include "base/size.h"

extern sp_op_group_norm SP_CPU(group_norm);
extern sp_op_group_norm_scratch SP_CPU(group_norm_scratch);

enum { CHUNK = 64 };

typedef struct moments {
    double sum, squares;
} moments;

typedef struct job {
    const float *x, *gain, *bias;
    size_t pixels, channels, groups;
    bool swish;
    float *y;
    moments *chunks; /* [n_chunks, groups] */
    float *mean, *scale, *shift; /* [channels]: y = (x - mean) * scale + shift */
} job;

static size_t chunks_of(size_t pixels) { return (pixels + CHUNK - 1) / CHUNK; }

size_t SP_CPU(group_norm_scratch)(sp_plane plane, size_t groups, int n_threads)
{
    (void)n_threads;
    return chunks_of(plane.height * plane.width) * groups * sizeof(moments) + 3 * plane.channels * sizeof(float);
}

/* Sums of `live` channels of n pixels, about the first pixel. */
static inline __attribute__((always_inline)) void sum_pixels(const float *x, size_t n, size_t channels,
                                                             const size_t live, float sum[SP_LANES],
                                                             float squares[SP_LANES])
{
    sp_vec centre = sp_vec_load_n(x, live), s = sp_vec_set(0), q = sp_vec_set(0);
    for (size_t p = 1; p < n; p++) {
        sp_vec value = live == SP_LANES ? sp_vec_load(x + p * channels) : sp_vec_load_n(x + p * channels, live);
        value = sp_vec_sub(value, centre);
        s = sp_vec_add(s, value);
        q = sp_vec_fma(value, value, q);
    }
    sp_vec_store(sum, s);
    sp_vec_store(squares, q);
}

static void measure(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    size_t begin, end, width = j->channels / j->groups;
    sp_pool_share(j->pixels, CHUNK, thread, n_threads, &begin, &end);
    for (size_t p = begin; p < end; p += CHUNK) {
        size_t n = end - p < CHUNK ? end - p : CHUNK;
        moments *out = j->chunks + p / CHUNK * j->groups;
        for (size_t g = 0; g < j->groups; g++) out[g] = (moments){0};
        for (size_t c = 0; c < j->channels; c += SP_LANES) {
            float sum[SP_LANES], squares[SP_LANES];
            const float *x = j->x + p * j->channels + c;
            size_t live = j->channels - c < SP_LANES ? j->channels - c : SP_LANES;
            if (live == SP_LANES) sum_pixels(x, n, j->channels, SP_LANES, sum, squares);
            else sum_pixels(x, n, j->channels, live, sum, squares);
            for (size_t i = 0; i < live; i++) {
                double centre = (double)x[i], about = (double)sum[i];
                moments *group = &out[(c + i) / width];
                group->sum += (double)n * centre + about;
                group->squares += (double)squares[i] + centre * (2.0 * about + (double)n * centre);
            }
        }
    }
}

static void combine(const job *j, float eps)
{
    size_t width = j->channels / j->groups;
    double count = (double)j->pixels * (double)width;
    for (size_t g = 0; g < j->groups; g++) {
        moments all = {0};
        for (size_t chunk = 0; chunk < chunks_of(j->pixels); chunk++) {
            all.sum += j->chunks[chunk * j->groups + g].sum;
            all.squares += j->chunks[chunk * j->groups + g].squares;
        }
        double mean = all.sum / count, variance = all.squares / count - mean * mean;
        if (variance < 0) variance = 0; /* a constant group, rounded */
        double scale = 1.0 / sqrt(variance + (double)eps);
        for (size_t c = g * width; c < (g + 1) * width; c++) {
            j->mean[c] = (float)mean;
            j->scale[c] = (float)(scale * (double)j->gain[c]);
            /* What rounding the mean takes away is given back here. */
            j->shift[c] = (float)((double)j->bias[c] + ((double)j->mean[c] - mean) * scale * (double)j->gain[c]);
        }
    }
}

static inline __attribute__((always_inline)) sp_vec normal(const job *j, sp_vec x, size_t c, const size_t live)
{
    sp_vec mean = live == SP_LANES ? sp_vec_load(j->mean + c) : sp_vec_load_n(j->mean + c, live);
    sp_vec scale = live == SP_LANES ? sp_vec_load(j->scale + c) : sp_vec_load_n(j->scale + c, live);
    sp_vec shift = live == SP_LANES ? sp_vec_load(j->shift + c) : sp_vec_load_n(j->shift + c, live);
    sp_vec v = sp_vec_fma(sp_vec_sub(x, mean), scale, shift);
    if (!j->swish) return v;
    sp_vec below = sp_vec_exp(sp_vec_min(sp_vec_sub(sp_vec_set(0), v), sp_vec_set(87)));
    return sp_vec_div(v, sp_vec_add(sp_vec_set(1), below));
}

static void apply(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    size_t begin, end;
    sp_pool_share(j->pixels, CHUNK, thread, n_threads, &begin, &end);
    for (size_t p = begin; p < end; p++) {
        const float *x = j->x + p * j->channels;
        float *y = j->y + p * j->channels;
        size_t c = 0;
        for (; c + SP_LANES <= j->channels; c += SP_LANES)
            sp_vec_store(y + c, normal(j, sp_vec_load(x + c), c, SP_LANES));
        if (c < j->channels) {
            size_t live = j->channels - c;
            sp_vec_store_n(y + c, normal(j, sp_vec_load_n(x + c, live), c, live), live);
        }
    }
}

void SP_CPU(group_norm)(sp_pool *pool, const float *x, sp_plane plane, size_t groups, float eps, const float *gain,
                        const float *bias, bool swish, float *y, void *scratch)
{
    job j = {x, gain, bias, plane.height * plane.width, plane.channels, groups, swish, y, scratch, NULL, NULL, NULL};
    if (j.pixels == 0) return;
    j.mean = (float *)(void *)(j.chunks + chunks_of(j.pixels) * groups);
    j.scale = j.mean + j.channels;
    j.shift = j.scale + j.channels;
    sp_pool_run(pool, measure, &j);
    combine(&j, eps);
    sp_pool_run(pool, apply, &j);
}
