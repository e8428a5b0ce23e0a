#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "io/json.h"

enum { HEADER_LIMIT = 100000000 }; /* bytes, set by the format */
static const char metadata_key[] = "__metadata__";

typedef struct dtype_entry {
    const char *name;
    size_t bits; /* of one element */
    int dtype;   /* sp_dtype, or -1: known but not read */
} dtype_entry;

static const dtype_entry dtypes[] = {
    {"F32", 32, SP_F32}, {"BF16", 16, SP_BF16}, {"F16", 16, SP_F16}, {"BOOL", 8, -1},    {"U8", 8, -1},
    {"I8", 8, -1},       {"U16", 16, -1},       {"I16", 16, -1},     {"U32", 32, -1},    {"I32", 32, -1},
    {"U64", 64, -1},     {"I64", 64, -1},       {"F64", 64, -1},     {"C64", 64, -1},    {"F8_E4M3", 8, -1},
    {"F8_E5M2", 8, -1},  {"F8_E8M0", 8, -1},    {"F6_E2M3", 6, -1},  {"F6_E3M2", 6, -1}, {"F4", 4, -1},
};

/* A header entry: where the data lie and what they are. */
typedef struct entry {
    sp_tensor tensor;
    const dtype_entry *type;
    size_t begin, end;
} entry;

typedef struct shard_image {
    const char *name; /* for messages */
    const unsigned char *data;
    size_t size; /* of the data after the header */
    size_t count;
    entry *entries;
} shard_image;

static sp_status read_header(sp_shard *shard, shard_image *image, const unsigned char *bytes, size_t size,
                             sp_error *err)
{
    static const char pointer[] = "version https://git-lfs";
    const char *name = image->name;
    if (size >= sizeof pointer - 1 && memcmp(bytes, pointer, sizeof pointer - 1) == 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: is a git-lfs pointer, not the weights; run `git lfs pull` in its folder",
                       name);
    if (size >= 4 && memcmp(bytes, "PK\3\4", 4) == 0)
        return SP_FAIL(err, SP_EFORMAT,
                       "%s: is a zip archive (a PyTorch checkpoint?), expected safetensors; convert it", name);
    if (size < 8)
        return SP_FAIL(err, SP_EFORMAT, "%s: has %zu bytes, expected a safetensors file; download it again", name,
                       size);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
    if (length > HEADER_LIMIT)
        return SP_FAIL(err, SP_EFORMAT, "%s: header of %llu bytes, expected at most %d; is it a safetensors file?",
                       name, (unsigned long long)length, HEADER_LIMIT);
    if (length > size - 8)
        return SP_FAIL(err, SP_EFORMAT, "%s: header of %llu bytes, but %zu follow; the file is cut, download it again",
                       name, (unsigned long long)length, size - 8);
    if (length == 0 || bytes[8] != '{')
        return SP_FAIL(err, SP_EFORMAT, "%s: header does not start with '{'; is it a safetensors file?", name);
    SP_TRY(sp_json_parse(&shard->header, name, (const char *)bytes + 8, (size_t)length, err));
    image->data = bytes + 8 + length;
    image->size = size - 8 - (size_t)length;
    return SP_OK;
}

static sp_status check_metadata(const char *name, const json_t *metadata, sp_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return SP_FAIL(err, SP_EFORMAT, "%s: %s is not an object of strings", name, metadata_key);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
        if (!json_is_string(value))
            return SP_FAIL(err, SP_EFORMAT, "%s: %s: '%s' is not a string", name, metadata_key, key);
    return SP_OK;
}

static sp_status read_size(const char *name, const char *tensor, const char *what, const json_t *value, size_t *out,
                           sp_error *err)
{
    json_int_t integer = json_is_integer(value) ? json_integer_value(value) : -1;
    if (integer < 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': %s holds something else than integers from 0", name, tensor,
                       what);
    *out = (size_t)integer;
    return SP_OK;
}

/* Shape, and the number of bytes that it needs. */
static sp_status read_shape(const char *name, const json_t *shape, entry *out, size_t *bytes, sp_error *err)
{
    const char *tensor = out->tensor.name;
    size_t rank = json_array_size(shape), bits;
    if (!json_is_array(shape)) return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': shape is not an array", name, tensor);
    if (rank > SP_MAX_RANK)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most %d are supported", name,
                       tensor, rank, SP_MAX_RANK);
    out->tensor.rank = rank;
    out->tensor.count = 1;
    for (size_t i = 0; i < rank; i++) {
        SP_TRY(read_size(name, tensor, "shape", json_array_get(shape, i), &out->tensor.shape[i], err));
        if (!sp_size_mul(out->tensor.count, out->tensor.shape[i], &out->tensor.count))
            return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': the product of its shape overflows", name, tensor);
    }
    if (!sp_size_mul(out->tensor.count, out->type->bits, &bits))
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': the product of its shape overflows", name, tensor);
    if (bits % 8)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': %zu values of %s do not fill whole bytes", name, tensor,
                       out->tensor.count, out->type->name);
    *bytes = bits / 8;
    return SP_OK;
}

static sp_status read_entry(const shard_image *image, const char *tensor, const json_t *value, entry *out,
                            sp_error *err)
{
    const char *name = image->name;
    const json_t *offsets = json_object_get(value, "data_offsets");
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    out->tensor.name = tensor;
    if (json_object_size(value) != 3 || !dtype || json_array_size(offsets) != 2)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s' is not an object of dtype, shape and two data_offsets", name,
                       tensor);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, dtype) == 0) out->type = &dtypes[i];
    if (!out->type)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': dtype '%s' is not one of the format", name, tensor, dtype);
    size_t bytes = 0;
    SP_TRY(read_shape(name, json_object_get(value, "shape"), out, &bytes, err));
    SP_TRY(read_size(name, tensor, "data_offsets", json_array_get(offsets, 0), &out->begin, err));
    SP_TRY(read_size(name, tensor, "data_offsets", json_array_get(offsets, 1), &out->end, err));
    if (out->begin > out->end)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': its data begin at %zu and end at %zu", name, tensor,
                       out->begin, out->end);
    if (out->end > image->size)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': its data end at %zu, but the file has %zu; download it again",
                       name, tensor, out->end, image->size);
    if (out->end - out->begin != bytes)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': has %zu bytes, its shape and dtype need %zu", name, tensor,
                       out->end - out->begin, bytes);
    out->tensor.data = image->data + out->begin;
    if (out->type->dtype >= 0) out->tensor.dtype = (sp_dtype)out->type->dtype;
    return SP_OK;
}

static int order_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Sorted by offset the tensors follow one another from the first byte of the data to the last. */
static sp_status check_layout(shard_image *image, sp_error *err)
{
    size_t at = 0;
    qsort(image->entries, image->count, sizeof *image->entries, order_entries);
    for (size_t i = 0; i < image->count; i++) {
        const entry *e = &image->entries[i];
        if (e->begin != at)
            return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s': its data begin at %zu, expected %zu (%s)", image->name,
                           e->tensor.name, e->begin, at, e->begin > at ? "a hole" : "an overlap");
        at = e->end;
    }
    if (at != image->size)
        return SP_FAIL(err, SP_EFORMAT, "%s: %zu bytes after the last tensor, expected none", image->name,
                       image->size - at);
    return SP_OK;
}

static sp_status read_entries(const json_t *header, shard_image *image, sp_error *err)
{
    const char *key;
    json_t *value;
    image->entries = sp_alloc(json_object_size(header), sizeof *image->entries);
    if (!image->entries)
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for %zu tensors", image->name, json_object_size(header));
    json_object_foreach((json_t *)(uintptr_t)header, key, value) {
        if (strcmp(key, metadata_key) == 0)
            SP_TRY(check_metadata(image->name, value, err));
        else
            SP_TRY(read_entry(image, key, value, &image->entries[image->count++], err));
    }
    return check_layout(image, err);
}

static sp_status keep_entries(sp_shard *shard, const shard_image *image, sp_error *err)
{
    shard->tensors = sp_alloc(image->count, sizeof *shard->tensors);
    shard->skipped = sp_alloc(image->count, sizeof *shard->skipped);
    if (!shard->tensors || !shard->skipped)
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for %zu tensors", image->name, image->count);
    for (size_t i = 0; i < image->count; i++) {
        const entry *e = &image->entries[i];
        if (e->type->dtype >= 0)
            shard->tensors[shard->count++] = e->tensor;
        else
            shard->skipped[shard->n_skipped++] = (sp_skipped){e->tensor.name, e->type->name};
    }
    return SP_OK;
}

sp_status sp_shard_parse(sp_shard *shard, const char *name, const unsigned char *data, size_t size, sp_error *err)
{
    shard_image image = {.name = name};
    sp_status status;
    SP_GO(read_header(shard, &image, data, size, err));
    SP_GO(read_entries(shard->header, &image, err));
    SP_GO(keep_entries(shard, &image, err));
out:
    sp_release(image.entries);
    return status;
}

bool sp_shard_has(const sp_shard *shard, const char *tensor)
{
    return strcmp(tensor, metadata_key) != 0 && json_object_get(shard->header, tensor) != NULL;
}

void sp_shard_close(sp_shard *shard)
{
    json_decref(shard->header);
    sp_release(shard->tensors);
    sp_release(shard->skipped);
    sp_map_close(&shard->map);
    *shard = (sp_shard){0};
}
