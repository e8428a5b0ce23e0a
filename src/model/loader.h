#ifndef SP_LOADER_H
#define SP_LOADER_H
/* Tensors of a checkpoint by the slots of a family, checked, and packed for a back end. Inside src/model only.
 *
 *     sp_loader loader = {.tensors = tensors, .family = family, .ops = ops, .bf16 = bf16, .err = err};
 *     SP_TRY(sp_load_vector(&loader, SP_SLOT_NORM, 0, dim, norm));
 *     SP_TRY(sp_load_weight(&loader, SP_SLOT_O, layer, dim, inputs, &o)); */
#include "io/tensors.h"
#include "kernels/kernels.h"
#include "model/family.h"

typedef struct sp_loader {
    const sp_tensors *tensors;
    const sp_family *family;
    const sp_ops *ops;
    bool bf16;                       /* weights are for bf16 arithmetic: rounded where they are stored otherwise */
    size_t parameters, packed_bytes; /* loaded so far */
    sp_error *err;
} sp_loader;

/* Rows of one tensor; index is the layer, block or group of its name. */
typedef struct sp_part {
    sp_slot slot;
    size_t index, rows;
} sp_part;

/* The tensor of a slot: NULL when it is not there; or an error when it is not there with this shape. */
const sp_tensor *sp_load_find(const sp_loader *loader, sp_slot slot, size_t index);
SP_CHECK sp_status sp_load_tensor(const sp_loader *loader, sp_slot slot, size_t index, sp_shape shape,
                                  const sp_tensor **out);

/* A table [rows, width] that stays in the file, finite. */
SP_CHECK sp_status sp_load_table(sp_loader *loader, sp_slot slot, size_t rows, size_t width, const sp_tensor **out);

/* A vector [count] into memory of the caller; the bias that belongs to a slot's .weight. */
SP_CHECK sp_status sp_load_vector(sp_loader *loader, sp_slot slot, size_t index, size_t count, float *out);
SP_CHECK sp_status sp_load_bias(sp_loader *loader, sp_slot slot, size_t index, size_t count, float *out);

/* Rows of tensors with k columns, one tensor under the other, packed as one weight. first skips rows of each tensor,
 * which may then have more than are taken. */
SP_CHECK sp_status sp_load_stacked(sp_loader *loader, const sp_part *parts, size_t n_parts, size_t k, size_t first,
                                   sp_weight *out);
SP_CHECK sp_status sp_load_weight(sp_loader *loader, sp_slot slot, size_t index, size_t rows, size_t k, sp_weight *out);

/* Gives back the memory of a packed weight, which is elsewhere now; its shape stays. */
void sp_load_release(sp_weight *weight);

#endif
