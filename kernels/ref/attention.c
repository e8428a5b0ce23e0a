#include "kernels/ref/ref.h"

void sp_ref_kv_write(sp_pool *pool, const sp_attention_rows *rows, const float *k, const float *v, size_t stride,
                     const sp_kv_view *kv)
{
    (void)pool;
    for (size_t row = 0; row < rows->n_rows; row++) {
        const sp_kv_view *view = &kv[rows->stream[row]];
        size_t position = (size_t)rows->position[row], width = rows->head_dim;
        for (size_t head = 0; head < rows->kv_heads; head++) {
            const float *key = k + row * stride + head * width, *value = v + row * stride + head * width;
            for (size_t d = 0; d < width; d++) view->keys[(head * width + d) * view->capacity + position] = key[d];
            memcpy(view->values + (head * view->capacity + position) * width, value, width * sizeof *value);
        }
    }
}

size_t sp_ref_attention_scratch(size_t capacity, size_t head_dim, int n_threads)
{
    (void)head_dim, (void)n_threads;
    return capacity * sizeof(double);
}

static void attend(const float *q, const float *keys, const float *values, size_t capacity, size_t first, size_t last,
                   size_t width, double scale, double *score, float *out)
{
    double top = -INFINITY, total = 0;
    for (size_t p = first; p <= last; p++) {
        score[p] = 0;
        for (size_t d = 0; d < width; d++) score[p] += (double)q[d] * (double)keys[d * capacity + p];
        score[p] *= scale;
        if (score[p] > top) top = score[p];
    }
    for (size_t p = first; p <= last; p++) total += score[p] = exp(score[p] - top);
    for (size_t d = 0; d < width; d++) {
        double sum = 0;
        for (size_t p = first; p <= last; p++) sum += score[p] * (double)values[p * width + d];
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
        for (size_t head = 0; head < rows->heads; head++) {
            size_t offset = head / shared * width * view->capacity;
            attend(q + row * q_stride + head * width, view->keys + offset, view->values + offset, view->capacity,
                   (size_t)rows->first_key[row], (size_t)rows->position[row], width, (double)rows->scale, scratch,
                   out + (row * rows->heads + head) * width);
        }
    }
}
