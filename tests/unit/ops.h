#ifndef SP_TEST_OPS_H
#define SP_TEST_OPS_H
/* For op tests: every back end of this processor against ref, in the same buffers. */
#include "base/arena.h"
#include "kernels/kernels.h"
#include "support.h"

/* Runs body with `ops` set to each back end in turn. */
#define SP_TEST_EACH_BACKEND(ops)                                                              \
    for (const char *const *backend_ = sp_ops_names(); *backend_; backend_++)                  \
        for (const sp_ops *ops = sp_ops_find(*backend_), *once_ = ops; once_; once_ = NULL)

/* Fails with the first coordinate where |a - b| > tolerance[i] or just one is NaN. */
static inline void sp_test_close(const char *what, const float *a, const float *b, size_t count, const float *tolerance,
                                 float shared)
{
    for (size_t i = 0; i < count; i++) {
        float bound = tolerance ? tolerance[i] : shared;
        if (!(fabsf(a[i] - b[i]) <= bound))
            fail_msg("%s: element %zu is %.9g, expected %.9g within %.3g", what, i, (double)a[i], (double)b[i],
                     (double)bound);
    }
}

static inline void sp_test_equal(const char *what, const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: element %zu is %.9g, expected the bits of %.9g", what, i, (double)a[i], (double)b[i]);
}

/* Memory of a scratch size, filled with NaN bits. */
static inline void *sp_test_scratch(size_t bytes)
{
    unsigned char *memory = aligned_alloc(64, (bytes + 64) / 64 * 64 + 64);
    if (!memory) abort();
    memset(memory, 0xFF, bytes);
    return memory;
}

static inline void sp_test_bf16(const float *x, size_t count, uint16_t *out)
{
    for (size_t i = 0; i < count; i++) out[i] = sp_f32_to_bf16(x[i]);
}

#endif
