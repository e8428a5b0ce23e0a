/* y = x W^T for a few rows. Row-invariant: each output is one chain of fused multiply-adds over i = 0 .. k-1.
 *
 * Work: 2 n_rows n k flops over n k weights read once. Below about ten rows the weights' bandwidth bounds it, above
 * that the two multiply-add ports. A tile is ROWS rows by one panel: ROWS x 4 accumulators; 6 x 4 fills the 32
 * registers of AVX-512 and 2 x 4 those of AVX2. Threads take whole panels. */
#include "kernels/cpu/panel.h"

#include <string.h>

#include "base/size.h"

extern sp_op_gemm SP_CPU(gemm);
extern sp_op_gemm_scratch SP_CPU(gemm_scratch);

/* With a row or two the weights' stream is all there is: two panels make two streams, and their lines are asked for
 * AHEAD bytes before they are needed. */
enum { MAX_ROWS = SP_LANES == 16 ? 6 : 2, FEW_ROWS = 2, MAX_PANELS = 2, AHEAD = 2048 };

typedef struct job {
    const sp_weight *w;
    const float *x;
    size_t x_stride, n_rows;
    float *y;
    size_t y_stride;
    sp_gemm_mode mode;
} job;

size_t SP_CPU(gemm_scratch)(size_t n_rows, size_t k) { return n_rows * sp_round_up(k, 16) * sizeof(float); }

static inline void finish(float *y, sp_vec sum, size_t live, sp_gemm_mode mode)
{
    if (live >= SP_LANES) {
        sp_vec_store(y, mode == SP_GEMM_ADD ? sp_vec_add(sp_vec_load(y), sum) : sum);
    } else if (live > 0) {
        sp_vec_store_n(y, mode == SP_GEMM_ADD ? sp_vec_add(sp_vec_load_n(y, live), sum) : sum, live);
    }
}

/* rows, panels, width (vectors of a panel that are live) and dtype are constants where this is inlined, so that the
 * accumulators live in registers. */
static inline __attribute__((always_inline)) void tile(const job *j, const unsigned char *panel, size_t column,
                                                       size_t row, const size_t rows, const size_t panels,
                                                       const size_t width, const sp_dtype dtype)
{
    sp_vec sum[MAX_ROWS][MAX_PANELS * SP_PANEL_VECTORS];
    const size_t step = SP_PANEL * (dtype == SP_BF16 ? 2 : 4), vectors = panels * width;
    const float *x = j->x + row * j->x_stride, *bias = j->w->bias;
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++)
            sum[r][v] = bias ? sp_vec_load(bias + column + v * SP_LANES) : sp_vec_set(0);
    for (size_t i = 0; i < j->w->k; i++) {
        sp_vec weight[MAX_PANELS * SP_PANEL_VECTORS];
        for (size_t p = 0; p < panels; p++) {
            const unsigned char *from = panel + p * j->w->k * step;
            for (size_t line = 0; rows <= FEW_ROWS && line < step; line += 64)
                _mm_prefetch((const char *)from + i * step + AHEAD + line, _MM_HINT_T0);
            for (size_t v = 0; v < width; v++) weight[p * width + v] = sp_panel_load(from, dtype, i, v);
        }
        for (size_t r = 0; r < rows; r++) {
            sp_vec value = sp_vec_set(x[r * j->x_stride + i]);
            for (size_t v = 0; v < vectors; v++) sum[r][v] = sp_vec_fma(value, weight[v], sum[r][v]);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t v = 0; v < vectors; v++) {
            size_t at = column + v * SP_LANES;
            finish(j->y + (row + r) * j->y_stride + at, sum[r][v], at < j->w->n ? j->w->n - at : 0, j->mode);
        }
    }
}

static inline __attribute__((always_inline)) void panel_rows(const job *j, const unsigned char *panel, size_t column,
                                                             const size_t width, const sp_dtype dtype)
{
    size_t row = 0;
    for (; row + MAX_ROWS <= j->n_rows; row += MAX_ROWS) tile(j, panel, column, row, MAX_ROWS, 1, width, dtype);
    switch (j->n_rows - row) {
#if SP_LANES == 16
    case 5: tile(j, panel, column, row, 5, 1, width, dtype); break;
    case 4: tile(j, panel, column, row, 4, 1, width, dtype); break;
    case 3: tile(j, panel, column, row, 3, 1, width, dtype); break;
    case 2: tile(j, panel, column, row, 2, 1, width, dtype); break;
#endif
    case 1: tile(j, panel, column, row, 1, 1, width, dtype); break;
    default: break;
    }
}

/* A panel of one live vector is read as that: the last layer of a diffusion head has no more outputs. */
static inline __attribute__((always_inline)) void one_panel(const job *j, const unsigned char *panel, size_t column,
                                                            const sp_dtype dtype)
{
    if (j->w->n - column <= SP_LANES) panel_rows(j, panel, column, 1, dtype);
    else panel_rows(j, panel, column, SP_PANEL_VECTORS, dtype);
}

/* A row or two against two panels. */
static inline __attribute__((always_inline)) void few_rows(const job *j, const unsigned char *panel, size_t column,
                                                           const sp_dtype dtype)
{
    if (j->n_rows == 1) tile(j, panel, column, 0, 1, MAX_PANELS, SP_PANEL_VECTORS, dtype);
    else tile(j, panel, column, 0, FEW_ROWS, MAX_PANELS, SP_PANEL_VECTORS, dtype);
}

static void work(void *arguments, int thread, int n_threads)
{
    const job *j = arguments;
    size_t first, last, element = j->w->dtype == SP_BF16 ? 2 : 4, panels;
    sp_pool_share(j->w->n, SP_PANEL, thread, n_threads, &first, &last);
    for (size_t column = first; column < last; column += panels * SP_PANEL) {
        const unsigned char *panel = (const unsigned char *)j->w->data + column * j->w->k * element;
        panels = j->n_rows <= FEW_ROWS && column + SP_PANEL < last ? MAX_PANELS : 1;
        if (panels == MAX_PANELS && j->w->dtype == SP_BF16) few_rows(j, panel, column, SP_BF16);
        else if (panels == MAX_PANELS) few_rows(j, panel, column, SP_F32);
        else if (j->w->dtype == SP_BF16) one_panel(j, panel, column, SP_BF16);
        else one_panel(j, panel, column, SP_F32);
    }
}

void SP_CPU(gemm)(sp_pool *pool, const sp_weight *w, const float *x, size_t x_stride, size_t n_rows, float *y,
                  size_t y_stride, sp_gemm_mode mode, void *scratch)
{
    job j = {w, x, x_stride, n_rows, y, y_stride, mode};
    if (w->round_rows) {
        float *rounded = scratch;
        size_t stride = sp_round_up(w->k, 16);
        for (size_t row = 0; row < n_rows; row++)
            for (size_t i = 0; i < w->k; i++)
                rounded[row * stride + i] = sp_bf16_to_f32(sp_f32_to_bf16(x[row * x_stride + i]));
        j.x = rounded;
        j.x_stride = stride;
    }
    sp_pool_run(pool, work, &j);
}
