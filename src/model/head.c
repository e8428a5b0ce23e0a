#include "model/head.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "model/head_weights.h"

/* ROW_BYTES: a row whose activations go from core to core between the products costs as much as reading so many bytes
 * of weights. */
enum { ROW_BYTES = 256 << 10 };

/* CHUNK: rows of a step that run together, a stream; their activations stay in a core's cache. SLICE: rows of the
 * products that fill the table. TABLE_BYTES: above it, steps make their own modulation. */
enum { MAX_STREAMS = 2, CHUNK = 64, SLICE = 64, TABLE_BYTES = 64 << 20 };

/* Of one thread: rows of a chunk, both streams. */
typedef struct scratch {
    float *s;          /* [SLICE or rows, width] */
    float *modulation; /* [rows, modulations] */
    float *h, *u;      /* [rows, width] */
    float *up;         /* [rows, hidden or, gated, 2 hidden] */
    float *active;     /* [rows, hidden] */
    float *output;     /* [rows, outputs] */
    void *gemm;
} scratch;

struct sp_head_context {
    const sp_head *head;
    sp_pool *pool;
    size_t max_rows, chunk;
    size_t n, n_streams; /* of the conditions */
    float temperature;
    float *scale;        /* [max_rows] */
    float *condition;    /* [MAX_STREAMS * max_rows, width] */
    float *table;        /* [n, n_streams, steps, modulations] */
    size_t table_floats;
    bool tabled;         /* the table is of these conditions */
    scratch *threads;    /* [threads of pool] */
    void *gemm;          /* for the conditions */
    sp_arena arena;
};

sp_status sp_head_open(sp_head **out, const sp_head_config *config, const sp_family *family, const sp_tensors *tensors,
                       const sp_ops *ops, bool bf16, sp_error *err)
{
    *out = NULL;
    if (!config->sampler) return SP_FAIL(err, SP_EBUG, "head: no sampler");
    sp_head *h = sp_alloc(1, sizeof *h);
    if (!h) return SP_FAIL(err, SP_ENOMEM, "head: no memory");
    h->config = *config;
    h->ops = ops;
    sp_loader loader = {.tensors = tensors, .family = family, .ops = ops, .bf16 = bf16, .err = err};
    sp_status status = sp_head_weights_load(h, &loader);
    if (status != SP_OK) {
        sp_head_close(h);
        return status;
    }
    *out = h;
    return SP_OK;
}

void sp_head_close(sp_head *h)
{
    if (!h) return;
    if (h->on_device) h->device->close(h->on_device);
    sp_head_weights_free(h);
    sp_release(h);
}

size_t sp_head_parameters(const sp_head *h) { return h->parameters; }
size_t sp_head_bytes(const sp_head *h) { return h->packed_bytes + h->arena.bytes; }
bool sp_head_fixed_deviation(const sp_head *h) { return !h->config.sampler->learns_deviation; }

/* Threads that step rows of their own read all weights each; threads that share the products pass on activations. */
size_t sp_head_rows_apart(const sp_head *h)
{
    const sp_head_block *b = &h->blocks[0];
    if (h->on_device) return SIZE_MAX;
    return (b->up.bytes + b->down.bytes) / (MAX_STREAMS * ROW_BYTES);
}

bool sp_head_degenerate(const sp_head *h) { return !(h->steps[h->config.chain.steps - 1].spread > 0); }

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

static void take(sp_head_context *c)
{
    const sp_head *h = c->head;
    const sp_head_config *m = &h->config;
    sp_arena *a = &c->arena;
    size_t rows = MAX_STREAMS * c->chunk, up = (m->gated ? 2 : 1) * m->hidden;
    size_t inputs = largest(largest(m->width, m->hidden), m->dim);
    c->scale = sp_arena_take(a, c->max_rows, sizeof(float));
    c->condition = sp_arena_take(a, MAX_STREAMS * c->max_rows, m->width * sizeof(float));
    c->table = sp_arena_take(a, c->table_floats, sizeof(float));
    c->gemm = sp_arena_take(a, h->ops->gemm_scratch(MAX_STREAMS * c->max_rows, m->condition), 1);
    c->threads = sp_arena_take(a, (size_t)sp_pool_threads(c->pool), sizeof *c->threads);
    for (int t = 0; t < sp_pool_threads(c->pool); t++) {
        scratch own = {.s = sp_arena_take(a, largest(rows, SLICE), m->width * sizeof(float))};
        own.modulation = sp_arena_take(a, rows, h->modulations * sizeof(float));
        own.h = sp_arena_take(a, rows, m->width * sizeof(float));
        own.u = sp_arena_take(a, rows, m->width * sizeof(float));
        own.up = sp_arena_take(a, rows, up * sizeof(float));
        own.active = sp_arena_take(a, rows, m->hidden * sizeof(float));
        own.output = sp_arena_take(a, rows, h->outputs * sizeof(float));
        own.gemm = sp_arena_take(a, h->ops->gemm_scratch(largest(rows, SLICE), inputs), 1);
        if (c->threads) c->threads[t] = own;
    }
}

sp_status sp_head_context_open(sp_head_context **out, const sp_head *head, sp_pool *pool, size_t max_rows,
                               sp_error *err)
{
    *out = NULL;
    sp_head_context *c = sp_alloc(1, sizeof *c);
    if (!c) return SP_FAIL(err, SP_ENOMEM, "session: no memory");
    c->head = head;
    c->pool = pool;
    c->max_rows = max_rows;
    c->chunk = max_rows < CHUNK ? max_rows : CHUNK;
    size_t row = head->config.chain.steps * head->modulations, limit = TABLE_BYTES / sizeof(float);
    c->table_floats = row <= limit / MAX_STREAMS / max_rows ? row * MAX_STREAMS * max_rows : limit;
    take(c);
    sp_status status = sp_arena_commit(&c->arena, "session (diffusion head)", err);
    if (status != SP_OK) {
        sp_head_context_close(c);
        return status;
    }
    take(c);
    *out = c;
    return SP_OK;
}

void sp_head_context_close(sp_head_context *c)
{
    if (!c) return;
    sp_arena_free(&c->arena);
    sp_release(c);
}

size_t sp_head_context_bytes(const sp_head_context *c) { return c->arena.bytes; }

static void linear(const sp_head *h, sp_pool *pool, const sp_weight *w, const float *x, size_t n_rows, float *y,
                   void *gemm)
{
    h->ops->gemm(pool, w, x, w->k, n_rows, y, w->n, SP_GEMM_SET, gemm);
}

/* Rows first .. last - 1 of the table, SLICE at a time. */
static void fill_rows(const sp_head_context *c, const scratch *own, sp_pool *pool, size_t first, size_t last)
{
    const sp_head *h = c->head;
    size_t steps = h->config.chain.steps, width = h->config.width, n;
    for (; first < last; first += n) {
        n = last - first < SLICE ? last - first : SLICE;
        for (size_t i = 0, some; i < n; i += some) {
            size_t chain = (first + i) / steps, k = (first + i) % steps;
            size_t row = chain % c->n_streams * c->n + chain / c->n_streams;
            some = steps - k < n - i ? steps - k : n - i;
            h->ops->silu(pool, h->time + k * width, c->condition + row * width, some, width, own->s + i * width);
        }
        linear(h, pool, &h->modulation, own->s, n, c->table + first * h->modulations, own->gemm);
    }
}

/* A thread fills the table for the conditions whose chains it will step: they come from its own cache. */
static void fill_share(void *arguments, int thread, int n_threads)
{
    const sp_head_context *c = arguments;
    size_t each = c->n_streams * c->head->config.chain.steps, first, last;
    sp_pool_share(c->n, 1, thread, n_threads, &first, &last);
    fill_rows(c, &c->threads[thread], NULL, first * each, last * each);
}

static void fill_table(sp_head_context *c)
{
    size_t each = c->n_streams * c->head->config.chain.steps;
    if (c->n >= (size_t)sp_pool_threads(c->pool) && c->n >= sp_head_rows_apart(c->head))
        sp_pool_run(c->pool, fill_share, c);
    else fill_rows(c, &c->threads[0], c->pool, 0, c->n * each);
}

void sp_head_condition(sp_head_context *c, const sp_head_conditions *from)
{
    const sp_head *h = c->head;
    c->n = from->n;
    c->n_streams = from->n_streams;
    c->temperature = from->temperature;
    if (from->n_streams > 1) memcpy(c->scale, from->scale, from->n * sizeof *c->scale);
    size_t rows = c->n_streams * c->n;
    linear(h, c->pool, &h->condition, from->features, rows, c->condition, c->gemm);
    c->tabled = rows <= c->table_floats / h->modulations / h->config.chain.steps;
    if (c->tabled) fill_table(c);
}

/* Part of a step in the making: rows by stream, then chain. With a pool its threads share the outputs of a product, so
 * that each reads a part of the weights; without one this thread does it all. */
typedef struct part {
    const sp_head_context *c;
    const scratch *own;
    sp_pool *pool;
    int thread;         /* that has own */
    const int32_t *row; /* [n] */
    size_t n, k, block; /* the block that comes next */
    const float *state;
    float *mean, *deviation;
} part;

/* Modulations of row i and of those after it, *stride floats apart. *run: how many below end follow one another so. */
static const float *modulation_of(const part *p, size_t i, size_t end, size_t *run, size_t *stride)
{
    const sp_head_context *c = p->c;
    size_t width = c->head->modulations, steps = c->head->config.chain.steps;
    *run = end - i;
    *stride = width;
    if (!c->tabled) return p->own->modulation + i * width;
    size_t stream = i / p->n, j = i % p->n, first = (size_t)p->row[j];
    *stride = c->n_streams * steps * width;
    for (*run = 1; i + *run < end && (size_t)p->row[j + *run] == first + *run;) ++*run;
    return c->table + ((first * c->n_streams + stream) * steps + p->k) * width;
}

/* The modulation of every row, when there is no table of it. */
static void modulation(const part *p)
{
    const sp_head_context *c = p->c;
    const sp_head *h = c->head;
    size_t width = h->config.width, rows = c->n_streams * p->n;
    for (size_t i = 0; i < rows; i++) {
        size_t condition = i / p->n * c->n + (size_t)p->row[i % p->n];
        h->ops->silu(NULL, c->condition + condition * width, h->time + p->k * width, 1, width,
                     p->own->s + i * width);
    }
    linear(h, p->pool, &h->modulation, p->own->s, rows, p->own->modulation, p->own->gemm);
}

/* The end of the last block, h += gate u, and the start of the next, u = norm(h) (1 + scale) + shift: rows first ..
 * end - 1, of one stream. */
static void join_blocks(const part *p, size_t first, size_t end)
{
    const sp_head *h = p->c->head;
    const sp_head_config *m = &h->config;
    size_t width = m->width, each = m->blocks / m->groups, run, stride;
    bool last = p->block == m->blocks;
    size_t before = p->block > 0 ? (p->block - 1) / each : 0, group = last ? m->groups : p->block / each;
    const float *gain = last ? NULL : h->blocks[p->block].norm, *bias = last ? NULL : h->blocks[p->block].norm_bias;
    for (size_t i = first; i < end; i += run) {
        const float *by = modulation_of(p, i, end, &run, &stride), *next = by + 3 * group * width;
        const float *shift = m->shift_first ? next : next + width, *scale = m->shift_first ? next + width : next;
        float *hidden = p->own->h + i * width, *u = p->own->u + i * width;
        if (p->block > 0) h->ops->gate_add(NULL, u, by + (3 * before + 2) * width, stride, run, width, hidden);
        h->ops->modulate(NULL, hidden, gain, bias, 1e-6f, scale, shift, stride, run, width, u);
    }
}

static void gaussian(const part *p, size_t first, size_t end)
{
    const sp_head_context *c = p->c;
    const sp_head *h = c->head;
    const sp_sampler_step *step = &h->steps[p->k];
    size_t dim = h->config.dim;
    for (size_t j = first; j < end; j++) {
        const float *with = p->own->output + j * h->outputs, *without = with + p->n * h->outputs;
        float scale = c->scale[p->row[j]];
        for (size_t i = 0; i < dim; i++) {
            float guided = with[i];
            /* At scale 1 the conditional output to the bit. */
            if (c->n_streams > 1) guided += (scale - 1) * (guided - without[i]);
            p->mean[j * dim + i] = step->keep * p->state[j * dim + i] + step->weight * guided;
            float spread = c->temperature * step->spread;
            if (h->outputs > dim) {
                float f = 0.5f * (with[dim + i] + 1.0f);
                spread *= expf(f * step->high + (1.0f - f) * step->low);
            }
            p->deviation[j * dim + i] = spread;
        }
    }
}

/* What lies before the products of a block, or after the last, for a share of the chains. Streams share their
 * states. */
static void between_blocks(void *arguments, int thread, int n_threads)
{
    const part *p = arguments;
    const sp_head_context *c = p->c;
    const sp_head *h = c->head;
    const scratch *own = p->own;
    void *gemm = c->threads[p->pool ? thread : p->thread].gemm;
    size_t width = h->config.width, first, end;
    sp_pool_share(p->n, 1, thread, n_threads, &first, &end);
    if (first == end) return;
    if (p->block == 0)
        linear(h, NULL, &h->input, p->state + first * h->config.dim, end - first, own->h + first * width, gemm);
    for (size_t s = 0, at = 0; s < c->n_streams; s++, at += p->n) {
        if (p->block == 0 && s > 0)
            memcpy(own->h + (at + first) * width, own->h + first * width, (end - first) * width * sizeof(float));
        join_blocks(p, at + first, at + end);
        if (p->block == h->config.blocks)
            linear(h, NULL, &h->output, own->u + (at + first) * width, end - first,
                   own->output + (at + first) * h->outputs, gemm);
    }
    if (p->block == h->config.blocks) gaussian(p, first, end);
}

static void block(const part *p)
{
    const sp_head *h = p->c->head;
    const sp_head_config *m = &h->config;
    const sp_head_block *b = &h->blocks[p->block];
    const scratch *own = p->own;
    size_t rows = p->c->n_streams * p->n;
    linear(h, p->pool, &b->up, own->u, rows, own->up, own->gemm);
    if (m->gated) h->ops->swiglu(p->pool, own->up, rows, m->hidden, own->active);
    else h->ops->silu(p->pool, own->up, NULL, rows, m->hidden, own->active);
    linear(h, p->pool, &b->down, own->active, rows, own->u, own->gemm);
}

void sp_head_step(sp_head_context *c, const sp_chain_rows *rows)
{
    const sp_head *h = c->head;
    size_t dim = h->config.dim;
    for (size_t from = 0; from < rows->n; from += c->chunk) {
        size_t n = rows->n - from < c->chunk ? rows->n - from : c->chunk;
        part p = {.c = c, .own = &c->threads[rows->thread], .pool = rows->pool, .thread = rows->thread,
                  .row = rows->row + from, .n = n, .k = rows->k, .state = rows->state + from * dim,
                  .mean = rows->mean + from * dim, .deviation = rows->deviation + from * dim};
        if (!c->tabled) modulation(&p);
        for (;; p.block++) {
            /* One chain is sooner done than shared. */
            if (n > 1) sp_pool_run(p.pool, between_blocks, &p);
            else between_blocks(&p, 0, 1);
            if (p.block == h->config.blocks) break;
            block(&p);
        }
    }
}
