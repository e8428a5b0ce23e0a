#ifndef SP_CHECKPOINT_H
#define SP_CHECKPOINT_H
/* A safetensors file in memory, all of it bf16.
 *
 *     checkpoint c = {0};
 *     add_tensor(&c, SP_SHAPE2(n, k), "layers.%d.weight", 0);      // every tensor
 *     open_checkpoint(&c, NULL);                                   // c.tensors, and c.data of zeros
 *     tensor_data(&c, "layers.0.weight", &count)[0] = sp_f32_to_bf16(0.5f);
 *     free_checkpoint(&c);
 *
 * Data may change at any time; after a change of an entry, the file is opened again. */
#include "io/tensors.h"
#include "support.h"

typedef struct entry {
    char name[96];
    sp_shape shape;
    size_t count, offset; /* of values */
} entry;

typedef struct checkpoint {
    entry *entries; /* as their data lie in the file */
    size_t n;
    char *image; /* length of the header, the header, data */
    size_t header, total;
    uint16_t *data; /* [total], in the image */
    sp_tensors *tensors;
} checkpoint;

static inline void add_tensor(checkpoint *c, sp_shape shape, const char *format, ...)
{
    va_list arguments;
    c->entries = realloc(c->entries, (c->n + 1) * sizeof *c->entries);
    assert_non_null(c->entries);
    entry *e = &c->entries[c->n++];
    *e = (entry){.shape = shape, .count = 1};
    for (size_t i = 0; i < shape.rank; i++) e->count *= shape.size[i];
    va_start(arguments, format);
    assert_in_range(vsnprintf(e->name, sizeof e->name, format, arguments), 1, sizeof e->name - 1);
    va_end(arguments);
}

enum { ENTRY_BYTES = 256 }; /* of one in the header */

static inline void place_data(checkpoint *c)
{
    c->header = (c->n + 1) * ENTRY_BYTES;
    for (size_t i = 0; i < c->n; c->total += c->entries[i++].count) c->entries[i].offset = c->total;
    c->image = calloc(1, 8 + c->header + c->total * sizeof *c->data);
    assert_non_null(c->image);
    for (int i = 0; i < 8; i++) c->image[i] = (char)(unsigned char)(c->header >> 8 * i & 255);
    c->data = (uint16_t *)(void *)(c->image + 8 + c->header);
}

/* With the tensors whose names start with `without` left out, unless it is NULL. */
static inline void open_checkpoint(checkpoint *c, const char *without)
{
    size_t length = 0;
    if (!c->image) place_data(c);
    sp_tensors_close(c->tensors);
    char *header = c->image + 8;
    for (size_t i = 0; i < c->n; i++) {
        const entry *e = &c->entries[i];
        /* What is left out keeps its bytes under another name, since a file may have no holes. */
        const char *out = without && strncmp(e->name, without, strlen(without)) == 0 ? "left-out." : "";
        assert_true(length + ENTRY_BYTES < c->header);
        length += (size_t)snprintf(header + length, c->header - length, "%c\"%s%s\":{\"dtype\":\"BF16\",\"shape\":[",
                                   i ? ',' : '{', out, e->name);
        for (size_t d = 0; d < e->shape.rank; d++)
            length += (size_t)snprintf(header + length, c->header - length, "%s%zu", d ? "," : "", e->shape.size[d]);
        length += (size_t)snprintf(header + length, c->header - length, "],\"data_offsets\":[%zu,%zu]}",
                                   2 * e->offset, 2 * (e->offset + e->count));
    }
    header[length++] = '}';
    memset(header + length, ' ', c->header - length);
    SP_TEST_OK(sp_tensors_parse(&c->tensors, "test.safetensors", c->image,
                                8 + c->header + c->total * sizeof *c->data, err));
}

/* A matrix and its bias. */
static inline void add_linear(checkpoint *c, const char *name, size_t rows, size_t columns)
{
    add_tensor(c, SP_SHAPE2(rows, columns), "%s.weight", name);
    add_tensor(c, SP_SHAPE1(rows), "%s.bias", name);
}

static inline uint16_t *tensor_data(checkpoint *c, const char *name, size_t *count)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->entries[i].name, name) != 0) continue;
        *count = c->entries[i].count;
        return c->data + c->entries[i].offset;
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void free_checkpoint(checkpoint *c)
{
    sp_tensors_close(c->tensors);
    free(c->image);
    free(c->entries);
}

#endif
