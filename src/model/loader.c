#include "model/loader.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"

enum { NAME = 160 };

static void slot_name(const sp_loader *l, sp_slot slot, size_t index, char name[NAME])
{
    const char *pattern = l->family->slots[slot];
    const char *mark = pattern ? strstr(pattern, "%zu") : NULL;
    if (!pattern) snprintf(name, NAME, "(none)");
    else if (!mark) snprintf(name, NAME, "%s", pattern);
    else snprintf(name, NAME, "%.*s%zu%s", (int)(mark - pattern), pattern, index, mark + 3);
}

sp_status sp_load_tensor(const sp_loader *l, sp_slot slot, size_t index, sp_shape shape, const sp_tensor **out)
{
    char name[NAME];
    slot_name(l, slot, index, name);
    return sp_tensors_get(l->tensors, name, shape, out, l->err);
}

const sp_tensor *sp_load_find(const sp_loader *l, sp_slot slot, size_t index)
{
    char name[NAME];
    if (!l->family->slots[slot]) return NULL;
    slot_name(l, slot, index, name);
    return sp_tensors_find(l->tensors, name);
}

sp_status sp_load_table(sp_loader *l, sp_slot slot, size_t rows, size_t width, const sp_tensor **out)
{
    SP_TRY(sp_load_tensor(l, slot, 0, SP_SHAPE2(rows, width), out));
    l->parameters += (*out)->count;
    return sp_tensor_finite(*out, l->err);
}

sp_status sp_load_vector(sp_loader *l, sp_slot slot, size_t index, size_t count, float *out)
{
    const sp_tensor *tensor;
    SP_TRY(sp_load_tensor(l, slot, index, SP_SHAPE1(count), &tensor));
    l->parameters += count;
    return sp_tensor_floats(tensor, out, l->err);
}

sp_status sp_load_bias(sp_loader *l, sp_slot slot, size_t index, size_t count, float *out)
{
    static const char weight[] = "weight";
    const sp_tensor *tensor;
    char name[NAME];
    slot_name(l, slot, index, name);
    char *end = name + strlen(name) - (sizeof weight - 1);
    if (end <= name || strcmp(end, weight) != 0) return SP_FAIL(l->err, SP_EBUG, "model: '%s' has no bias", name);
    memcpy(end, "bias", sizeof "bias");
    SP_TRY(sp_tensors_get(l->tensors, name, SP_SHAPE1(count), &tensor, l->err));
    l->parameters += count;
    return sp_tensor_floats(tensor, out, l->err);
}

static size_t element(sp_dtype dtype) { return dtype == SP_F32 ? 4 : 2; }

static sp_status pack(sp_loader *l, const char *what, const void *data, sp_dtype dtype, size_t n, size_t k,
                      sp_weight *out)
{
    if (!l->ops->pack(out, data, dtype, n, k, l->bf16))
        return SP_FAIL(l->err, SP_ENOMEM, "%s: no memory for its %zu x %zu weights; close other programs", what, n, k);
    l->packed_bytes += out->bytes;
    l->parameters += n * k;
    return SP_OK;
}

/* The tensor of a part with k columns, whose rows from first on are taken. */
static sp_status part_of(const sp_loader *l, const sp_part *part, size_t k, size_t first, const sp_tensor **out)
{
    const sp_tensor *found = sp_load_find(l, part->slot, part->index);
    size_t have = part->rows;
    if (first && found && found->rank == 2 && found->shape[0] >= first + have) have = found->shape[0];
    return sp_load_tensor(l, part->slot, part->index, SP_SHAPE2(have, k), out);
}

sp_status sp_load_stacked(sp_loader *l, const sp_part *parts, size_t n_parts, size_t k, size_t first, sp_weight *out)
{
    const sp_tensor *top, *part;
    size_t total = 0, bytes = 0, at = 0;
    char name[NAME];
    slot_name(l, parts[0].slot, parts[0].index, name);
    SP_TRY(part_of(l, &parts[0], k, first, &top));
    for (size_t i = 0; i < n_parts; i++) {
        SP_TRY(part_of(l, &parts[i], k, first, &part));
        SP_TRY(sp_tensor_finite(part, l->err));
        if (part->dtype != top->dtype)
            return SP_FAIL(l->err, SP_EFORMAT, "%s: tensors '%s' and '%s' have different dtypes: expected one",
                           sp_tensors_path(l->tensors), top->name, part->name);
        total += parts[i].rows;
    }
    size_t row_bytes = k * element(top->dtype);
    if (n_parts == 1)
        return pack(l, name, (const unsigned char *)top->data + first * row_bytes, top->dtype, total, k, out);
    SP_TRY(sp_size_product(&bytes, l->err, name, total, row_bytes, 1, 1));
    unsigned char *joined = sp_alloc(bytes, 1);
    if (!joined) return SP_FAIL(l->err, SP_ENOMEM, "%s: no memory to join %zu rows", name, total);
    sp_status status = SP_OK;
    for (size_t i = 0; i < n_parts && status == SP_OK; at += parts[i++].rows * row_bytes) {
        status = part_of(l, &parts[i], k, first, &part);
        if (status == SP_OK) memcpy(joined + at, part->data, parts[i].rows * row_bytes);
    }
    if (status == SP_OK) status = pack(l, name, joined, top->dtype, total, k, out);
    sp_release(joined);
    return status;
}

sp_status sp_load_weight(sp_loader *l, sp_slot slot, size_t index, size_t rows, size_t k, sp_weight *out)
{
    return sp_load_stacked(l, &(sp_part){slot, index, rows}, 1, k, 0, out);
}

void sp_load_release(sp_weight *weight)
{
    sp_release(weight->data);
    weight->data = NULL;
}
