#ifndef SP_SIZE_H
#define SP_SIZE_H
/* Sizes that cannot wrap round: every size that depends on a file or an option is computed with these.
 *
 *     size_t bytes;
 *     SP_TRY(sp_size_product(&bytes, err, "KV cache", layers, positions, width, sizeof(float)));  */
#include <stdint.h>

#include "base/error.h"

static inline int sp_size_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline int sp_size_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* out = a * b * c * d, or SP_ENOMEM that names what. */
SP_CHECK static inline sp_status sp_size_product(size_t *out, sp_error *err, const char *what, size_t a, size_t b,
                                                 size_t c, size_t d)
{
    size_t ab, abc;
    if (!sp_size_mul(a, b, &ab) || !sp_size_mul(ab, c, &abc) || !sp_size_mul(abc, d, out))
        return SP_FAIL(err, SP_ENOMEM, "%s: %zu x %zu x %zu x %zu bytes overflow the address space", what, a, b, c, d);
    return SP_OK;
}

/* x rounded up to a multiple of step, a power of two; x is far below SIZE_MAX. */
static inline size_t sp_round_up(size_t x, size_t step) { return (x + step - 1) & ~(step - 1); }

#endif
