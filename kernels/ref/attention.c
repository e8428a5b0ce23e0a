#include "kernels/ref/ref.h"

static float stored(const sp_kv_view *view, float x) { return view->round ? sp_bf16_to_f32(sp_f32_to_bf16(x)) : x; }

void sp_ref_kv_write(sp_pool *pool, const sp_attention_rows *rows, const float *k, const float *v, size_t stride,
                     const sp_kv_view *kv)
{
    (void)pool;
    for (size_t row = 0; row < rows->n_rows; row++) {
        const sp_kv_view *view = &kv[rows->stream[row]];
        size_t position = sp_attention_slot(rows, row), width = rows->head_dim;
        for (size_t head = 0; head < rows->kv_heads; head++) {
            const float *key = k + row * stride + head * width, *value = v + row * stride + head * width;
            for (size_t d = 0; d < width; d++)
                view->keys[(head * width + d) * view->capacity + position] = stored(view, key[d]);
            for (size_t d = 0; d < width; d++)
                view->values[(head * view->capacity + position) * width + d] = stored(view, value[d]);
        }
    }
}

void sp_ref_kv_move(const sp_kv_view *kv, size_t kv_heads, size_t head_dim, const int32_t *from, size_t first, size_t n)
{
    for (size_t channel = 0; channel < kv_heads * head_dim; channel++)
        for (size_t i = 0; i < n; i++)
            kv->keys[channel * kv->capacity + first + i] = kv->keys[channel * kv->capacity + (size_t)from[i]];
    for (size_t head = 0; head < kv_heads; head++)
        for (size_t i = 0; i < n; i++)
            memmove(kv->values + (head * kv->capacity + first + i) * head_dim,
                    kv->values + (head * kv->capacity + (size_t)from[i]) * head_dim, head_dim * sizeof(float));
}

size_t sp_ref_attention_scratch(size_t capacity, size_t head_dim, int n_threads)
{
    (void)head_dim, (void)n_threads;
    return capacity * (sizeof(double) + sizeof(size_t));
}

/* slots [n] of the keys that a row sees, first to last. */
static size_t visible(const sp_attention_rows *rows, size_t row, const int32_t *before, size_t *slots)
{
    size_t first = (size_t)rows->first_key[row], n = (size_t)rows->position[row] - first + 1, i = n - 1;
    for (slots[i] = sp_attention_slot(rows, row); slots[i] != first + i; i--) slots[i - 1] = (size_t)before[slots[i]];
    for (size_t below = 0; below < i; below++) slots[below] = first + below;
    return n;
}

/* keys and values are those of a head in the cache kv. */
static void attend(const sp_kv_view *kv, const float *q, const float *keys, const float *values, const size_t *slots,
                   size_t n, size_t width, double scale, double *score, float *out)
{
    double top = -INFINITY, total = 0;
    for (size_t i = 0; i < n; i++) {
        score[i] = 0;
        for (size_t d = 0; d < width; d++)
            score[i] += (double)stored(kv, q[d]) * (double)keys[d * kv->capacity + slots[i]];
        score[i] *= scale;
        if (score[i] > top) top = score[i];
    }
    for (size_t i = 0; i < n; i++) total += score[i] = exp(score[i] - top);
    for (size_t d = 0; d < width; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += score[i] * (double)values[slots[i] * width + d];
        out[d] = (float)(sum / total);
    }
}

void sp_ref_attention(sp_pool *pool, const sp_attention_rows *rows, const float *q, size_t q_stride,
                      const sp_kv_view *kv, float *out, void *scratch)
{
    (void)pool;
    size_t width = rows->head_dim, shared = rows->heads / rows->kv_heads;
    for (size_t row = 0; row < rows->n_rows; row++) {
        const sp_kv_view *view = &kv[rows->stream[row]];
        double *score = scratch;
        size_t *slots = (size_t *)(score + view->capacity), n = visible(rows, row, view->before, slots);
        for (size_t head = 0; head < rows->heads; head++) {
            size_t offset = head / shared * width * view->capacity;
            attend(view, q + row * q_stride + head * width, view->keys + offset, view->values + offset, slots, n,
                   width, (double)rows->scale, score, out + (row * rows->heads + head) * width);
        }
    }
}
