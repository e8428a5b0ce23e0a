/* A safetensors image: whatever is accepted can be listed, looked up and read to its last byte. */
#include <stdlib.h>

#include "io/tensors.h"

static void require(int condition)
{
    if (!condition) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_tensors *tensors;
    sp_error err = {0};
    if (sp_tensors_parse(&tensors, "fuzz", data, size, &err) != SP_OK) {
        require(!tensors && err.message[0]);
        return 0;
    }
    for (size_t i = 0; i < sp_tensors_count(tensors); i++) {
        const sp_tensor *tensor = sp_tensors_at(tensors, i), *same;
        require(sp_tensors_find(tensors, tensor->name) == tensor);
        sp_shape shape = {.rank = tensor->rank};
        for (size_t d = 0; d < tensor->rank; d++) shape.size[d] = tensor->shape[d];
        require(sp_tensors_get(tensors, tensor->name, shape, &same, NULL) == SP_OK && same == tensor);
        float *values = malloc(tensor->count * sizeof *values + 1);
        if (values && sp_tensor_floats(tensor, values, NULL) != SP_OK)
            require(sp_tensor_finite(tensor, NULL) == SP_EFORMAT);
        free(values);
    }
    const sp_tensor *absent;
    require(sp_tensors_get(tensors, "layers.0.attention.weight", SP_SHAPE1(1), &absent, &err) != SP_OK ||
            absent->count == 1);
    sp_tensors_close(tensors);
    return 0;
}
