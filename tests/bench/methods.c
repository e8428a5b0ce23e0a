/* Ours, OpenBLAS and oneDNN 2.x behind one table. */
#include "bench.h"

#include <cblas.h>
#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static void check(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success) bench_fail(what);
}

/* Row-major copies of W, for the libraries that take it so. */
static void *open_plain(const bench_problem *p)
{
    size_t bytes = p->n * p->k * sizeof(float);
    char *copies = sp_alloc(p->n_copies, bytes);
    if (!copies) bench_fail("out of memory");
    for (size_t c = 0; c < p->n_copies; c++) memcpy(copies + c * bytes, p->weights, bytes);
    openblas_set_num_threads(p->threads);
    omp_set_num_threads(p->threads);
    return copies;
}

static void close_plain(void *state, const bench_problem *p)
{
    (void)p;
    sp_release(state);
}

static void run_openblas(void *state, const bench_problem *p, size_t copy)
{
    const float *w = (const float *)state + copy * p->n * p->k;
    int rows = (int)p->rows, n = (int)p->n, k = (int)p->k;
    if (rows == 1) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, w, k, p->x, 1, 0, p->y, 1);
    } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1, p->x, k, w, k, 0, p->y, n);
    }
}

static void run_dnnl_sgemm(void *state, const bench_problem *p, size_t copy)
{
    const float *w = (const float *)state + copy * p->n * p->k;
    dnnl_dim_t k = (dnnl_dim_t)p->k, n = (dnnl_dim_t)p->n;
    check(dnnl_sgemm('N', 'T', (dnnl_dim_t)p->rows, n, k, 1, p->x, k, w, k, 0, p->y, n), "dnnl_sgemm");
}

/* oneDNN's matmul primitive with weights in the layout that it asks for. */
typedef struct matmul {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, y, *weights;
    uint16_t *half_x;
} matmul;

static dnnl_memory_t to_layout(const matmul *m, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                               void *data)
{
    dnnl_memory_t source, target;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t reorder;
    check(dnnl_memory_create(&source, from, m->engine, data), "dnnl_memory_create");
    check(dnnl_memory_create(&target, to, m->engine, DNNL_MEMORY_ALLOCATE), "dnnl_memory_create");
    check(dnnl_reorder_primitive_desc_create(&description, from, m->engine, to, m->engine, NULL), "dnnl_reorder");
    check(dnnl_primitive_create(&reorder, description), "dnnl_primitive_create");
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
    check(dnnl_primitive_execute(reorder, m->stream, 2, arguments), "dnnl_primitive_execute");
    check(dnnl_stream_wait(m->stream), "dnnl_stream_wait");
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(description);
    dnnl_memory_destroy(source);
    return target;
}

static void *open_matmul(const bench_problem *p, dnnl_data_type_t type)
{
    matmul *m = calloc(1, sizeof *m);
    omp_set_num_threads(p->threads);
    if (!m || !(m->weights = calloc(p->n_copies, sizeof *m->weights)) ||
        !(m->half_x = sp_alloc(p->rows * p->k, sizeof *m->half_x)))
        bench_fail("out of memory");
    for (size_t i = 0; i < p->rows * p->k; i++) m->half_x[i] = sp_f32_to_bf16(p->x[i]);
    check(dnnl_engine_create(&m->engine, dnnl_cpu, 0), "dnnl_engine_create");
    check(dnnl_stream_create(&m->stream, m->engine, dnnl_stream_default_flags), "dnnl_stream_create");
    dnnl_dim_t rows = (dnnl_dim_t)p->rows, k = (dnnl_dim_t)p->k, n = (dnnl_dim_t)p->n;
    dnnl_dims_t x_dims = {rows, k}, w_dims = {k, n}, y_dims = {rows, n};
    dnnl_memory_desc_t x, any, plain, y;
    check(dnnl_memory_desc_init_by_tag(&x, 2, x_dims, type, dnnl_ab), "dnnl_memory_desc");
    check(dnnl_memory_desc_init_by_tag(&any, 2, w_dims, type, dnnl_format_tag_any), "dnnl_memory_desc");
    check(dnnl_memory_desc_init_by_tag(&plain, 2, w_dims, type, dnnl_ba), "dnnl_memory_desc");
    check(dnnl_memory_desc_init_by_tag(&y, 2, y_dims, dnnl_f32, dnnl_ab), "dnnl_memory_desc");
    dnnl_matmul_desc_t operation;
    dnnl_primitive_desc_t description;
    check(dnnl_matmul_desc_init(&operation, &x, &any, NULL, &y), "dnnl_matmul_desc_init");
    check(dnnl_primitive_desc_create(&description, &operation, NULL, m->engine, NULL), "dnnl_primitive_desc_create");
    check(dnnl_primitive_create(&m->primitive, description), "dnnl_primitive_create");
    const dnnl_memory_desc_t *layout = dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
    const void *weights = type == dnnl_bf16 ? (const void *)p->half : p->weights;
    const void *values = type == dnnl_bf16 ? (const void *)m->half_x : p->x;
    for (size_t c = 0; c < p->n_copies; c++)
        m->weights[c] = to_layout(m, &plain, layout, (void *)(uintptr_t)weights);
    check(dnnl_memory_create(&m->x, &x, m->engine, (void *)(uintptr_t)values), "dnnl_memory_create");
    check(dnnl_memory_create(&m->y, &y, m->engine, p->y), "dnnl_memory_create");
    dnnl_primitive_desc_destroy(description);
    return m;
}

static void *open_matmul_f32(const bench_problem *p) { return open_matmul(p, dnnl_f32); }
static void *open_matmul_bf16(const bench_problem *p) { return open_matmul(p, dnnl_bf16); }

static void run_matmul(void *state, const bench_problem *p, size_t copy)
{
    const matmul *m = state;
    (void)p;
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, m->x}, {DNNL_ARG_WEIGHTS, m->weights[copy]}, {DNNL_ARG_DST, m->y}};
    check(dnnl_primitive_execute(m->primitive, m->stream, 3, arguments), "dnnl_primitive_execute");
    check(dnnl_stream_wait(m->stream), "dnnl_stream_wait");
}

static void close_matmul(void *state, const bench_problem *p)
{
    matmul *m = state;
    for (size_t c = 0; c < p->n_copies; c++) dnnl_memory_destroy(m->weights[c]);
    dnnl_memory_destroy(m->x);
    dnnl_memory_destroy(m->y);
    dnnl_primitive_destroy(m->primitive);
    dnnl_stream_destroy(m->stream);
    dnnl_engine_destroy(m->engine);
    sp_release(m->half_x);
    free(m->weights);
    free(m);
}

typedef struct ours {
    sp_weight *weights;
    void *scratch;
} ours;

static void *open_ours(const bench_problem *p, sp_dtype dtype, bool round_rows)
{
    ours *o = calloc(1, sizeof *o);
    if (!o || !(o->weights = calloc(p->n_copies, sizeof *o->weights)) ||
        !(o->scratch = sp_alloc(p->ops->gemm_scratch(p->rows, p->k), 1)))
        bench_fail("out of memory");
    const void *weights = dtype == SP_BF16 ? (const void *)p->half : p->weights;
    for (size_t c = 0; c < p->n_copies; c++)
        if (!p->ops->pack(&o->weights[c], weights, dtype, p->n, p->k, round_rows)) bench_fail("out of memory");
    return o;
}

static void *open_ours_f32(const bench_problem *p) { return open_ours(p, SP_F32, false); }
static void *open_ours_stored(const bench_problem *p) { return open_ours(p, SP_BF16, false); }
static void *open_ours_bf16(const bench_problem *p) { return open_ours(p, SP_BF16, true); }

static void run_ours(void *state, const bench_problem *p, size_t copy)
{
    const ours *o = state;
    p->ops->gemm(p->pool, &o->weights[copy], p->x, p->k, p->rows, p->y, p->n, SP_GEMM_SET, o->scratch);
}

static void close_ours(void *state, const bench_problem *p)
{
    ours *o = state;
    for (size_t c = 0; c < p->n_copies; c++) sp_release(o->weights[c].data);
    sp_release(o->scratch);
    free(o->weights);
    free(o);
}

const bench_method bench_methods[BENCH_METHODS] = {
    {"f32 ours", SP_F32, false, true, open_ours_f32, run_ours, close_ours},
    {"OpenBLAS", SP_F32, false, false, open_plain, run_openblas, close_plain},
    {"dnnl_sgemm", SP_F32, false, false, open_plain, run_dnnl_sgemm, close_plain},
    {"dnnl f32", SP_F32, false, false, open_matmul_f32, run_matmul, close_matmul},
    {"bf16 ours", SP_BF16, true, true, open_ours_bf16, run_ours, close_ours},
    {"bf16 x f32", SP_BF16, false, true, open_ours_stored, run_ours, close_ours},
    {"dnnl bf16", SP_BF16, true, false, open_matmul_bf16, run_matmul, close_matmul},
};
