#ifndef SP_KERNELS_H
#define SP_KERNELS_H
/* The operations a model is made of. A back end is one table of them; ops.def lists the entries.
 *
 *     const sp_ops *ops = sp_ops_find("auto");            // best of this processor: amx, avx512, avx2, ref
 *     ops->gemm(pool, &weight, x, n_rows, y, SP_GEMM_SET);
 *
 * kernels/ref is the specification: plain C, double sums. Activations are float, row-major. Pointers are borrowed and
 * must not overlap unless said so. Operations do not fail: shapes are checked by the caller when it loads a model.
 *
 * Row invariance. gemm, attention and every row-wise operation give a row the same bits whether it is computed alone
 * or among up to any number of rows, wherever it stands, with any number of threads: each sum runs in one order that
 * depends on its own length only. conv3x3 and the other operations of the codec are free of this, not of threads. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/pool.h"

/* A matrix [n, k] (n outputs, k inputs) in a back end's own layout, made by pack. */
typedef struct sp_weight {
    void *data;      /* owned by whoever called pack; sp_release */
    size_t n, k;
    size_t bytes;    /* of data */
    const float *bias; /* [n up to a multiple of 64] borrowed: gemm adds it to every row, what lies beyond n is not
                        * used; NULL, as pack leaves it: none */
    sp_dtype dtype;  /* of the stored weights */
    bool round_rows; /* activations are rounded to bf16 before the products (bf16 arithmetic, fp32 sums) */
} sp_weight;

typedef enum { SP_GEMM_SET = 0, SP_GEMM_ADD = 1 } sp_gemm_mode; /* y = x W^T, or y += x W^T */

/* Keys and values of one layer and one stream. Position p of key/value head h:
 * keys   [kv_heads, head_dim, capacity] at (h * head_dim + d) * capacity + p: transposed, so scores run along positions
 * values [kv_heads, capacity, head_dim] at (h * capacity + p) * head_dim + d.
 * capacity is a multiple of 32. Positions never written may hold anything, NaN included.
 *
 * round asks for bf16 arithmetic: queries, keys and values are rounded to bf16 before they are multiplied, sums are
 * float, and a back end may round the weights e^(score - max) too. It may then lay keys and values out in its own way
 * within the same bytes, so they are read and written by one back end's kv_write, kv_move and attention only. */
typedef struct sp_kv_view {
    float *keys;
    float *values;
    size_t capacity;
    bool round;
    const int32_t *before; /* [capacity] of a slot off its position: the slot one position below; NULL without trees */
} sp_kv_view;

/* Rows of attention: row r sees key positions first_key[r] .. position[r] of stream[r].
 *
 * Rows may form a tree, several of them at one position. Then the key and value of row r lie at slot[r], the ones of
 * the position before at before[slot[r]] of its cache, and so on down to the first slot that is its position; from
 * there on slots are positions. So the trunk of a tree lies at its positions and every branch off them. The result
 * has the bits that the same keys give at their positions. */
typedef struct sp_attention_rows {
    size_t n_rows;
    const int32_t *stream;    /* [n_rows] index into kv */
    const int32_t *position;  /* [n_rows] */
    const int32_t *first_key; /* [n_rows] 0, or the first unpadded prefix position */
    const int32_t *slot;      /* [n_rows], or NULL: every slot is its position */
    size_t heads, kv_heads, head_dim;
    float scale;
} sp_attention_rows;

/* Where the key and value of a row lie. */
static inline size_t sp_attention_slot(const sp_attention_rows *rows, size_t row)
{
    return (size_t)(rows->slot ? rows->slot[row] : rows->position[row]);
}

/* Geometry of a picture in channels-last layout [height, width, channels]. */
typedef struct sp_plane {
    size_t height, width, channels;
} sp_plane;

typedef enum {
    SP_CONV_SAME = 0,     /* pad 1 on every side, stride 1 */
    SP_CONV_UPSAMPLE = 1, /* input doubled by nearest neighbour, then SAME */
    SP_CONV_STRIDE2 = 2   /* pad 1 right and bottom only, stride 2 */
} sp_conv_mode;

/* Height and width of the result of a 3x3 convolution. */
static inline sp_plane sp_conv_output(sp_plane input, sp_conv_mode mode, size_t channels)
{
    size_t up = mode == SP_CONV_UPSAMPLE ? 2 : 1, down = mode == SP_CONV_STRIDE2 ? 2 : 1;
    return (sp_plane){input.height * up / down, input.width * up / down, channels};
}

#define SP_OP(name, result, arguments) typedef result sp_op_##name arguments;
#include "kernels/ops.def"
#undef SP_OP

typedef struct sp_ops {
    const char *name;
#define SP_OP(name, result, arguments) sp_op_##name *name;
#include "kernels/ops.def"
#undef SP_OP
} sp_ops;

/* A complete table by name ("ref", "avx2", "avx512", "amx"), the best one for "auto" or NULL, or NULL if this
 * processor or build has no such back end. Entries a back end does not write are those of the next simpler one. */
const sp_ops *sp_ops_find(const char *name);

/* Names of the tables that work here, best first, NULL at the end. */
const char *const *sp_ops_names(void);

#endif
