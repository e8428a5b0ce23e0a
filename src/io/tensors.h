#ifndef SP_TENSORS_H
#define SP_TENSORS_H
/* Named tensors of a checkpoint: safetensors files by mmap, one file or shards with an index. Strict: a file that is
 * malformed in any way is refused with one line.
 *
 *     sp_tensors *tensors;
 *     SP_TRY(sp_tensors_open(&tensors, "model.safetensors", err));       // or model.safetensors.index.json
 *     const sp_tensor *t;
 *     SP_TRY(sp_tensors_get(tensors, "norm.weight", SP_SHAPE1(256), &t, err));  */
#include "base/dtype.h"
#include "base/error.h"

enum { SP_MAX_RANK = 8 };

typedef struct sp_tensor {
    const char *name;
    sp_dtype dtype; /* other dtypes of the format are skipped: their names are known, their data is not */
    size_t rank;
    size_t shape[SP_MAX_RANK];
    size_t count;     /* product of shape */
    const void *data; /* borrowed from the map, aligned to its element or not: read by memcpy or sp_tensor_floats */
} sp_tensor;

typedef struct sp_shape {
    size_t rank;
    size_t size[SP_MAX_RANK];
} sp_shape;
#define SP_SHAPE1(a) ((sp_shape){1, {(a)}})
#define SP_SHAPE2(a, b) ((sp_shape){2, {(a), (b)}})
#define SP_SHAPE4(a, b, c, d) ((sp_shape){4, {(a), (b), (c), (d)}})

typedef struct sp_tensors sp_tensors;

/* path is a .safetensors file, a .safetensors.index.json, or a folder with model.safetensors[.index.json]. */
SP_CHECK sp_status sp_tensors_open(sp_tensors **out, const char *path, sp_error *err);
/* Gives the memory of mapped files back once what was needed is copied; tensors stay readable. */
void sp_tensors_drop(const sp_tensors *tensors);
void sp_tensors_close(sp_tensors *tensors);

size_t sp_tensors_count(const sp_tensors *tensors);
const sp_tensor *sp_tensors_at(const sp_tensors *tensors, size_t index); /* sorted by name */
const sp_tensor *sp_tensors_find(const sp_tensors *tensors, const char *name); /* or NULL */
const char *sp_tensors_path(const sp_tensors *tensors);

/* A tensor that must be there with this shape; else SP_EFORMAT says what was found and the nearest name. */
SP_CHECK sp_status sp_tensors_get(const sp_tensors *tensors, const char *name, sp_shape shape, const sp_tensor **out,
                                  sp_error *err);

/* Its values as floats [count] into out; SP_EFORMAT if one is NaN or infinite. */
SP_CHECK sp_status sp_tensor_floats(const sp_tensor *tensor, float *out, sp_error *err);

/* SP_EFORMAT if a value is NaN or infinite. */
SP_CHECK sp_status sp_tensor_finite(const sp_tensor *tensor, sp_error *err);

/* Reads a safetensors image in memory, for tests and fuzzing; data is borrowed for the life of *out. */
SP_CHECK sp_status sp_tensors_parse(sp_tensors **out, const char *name, const void *data, size_t size, sp_error *err);

#endif
