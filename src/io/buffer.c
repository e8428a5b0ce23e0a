#include "io/buffer.h"

#include <string.h>

#include "base/arena.h"
#include "base/size.h"

bool sp_buffer_append(sp_buffer *buffer, const void *bytes, size_t size)
{
    size_t needed;
    if (!sp_size_add(buffer->size, size, &needed)) return false;
    if (needed > buffer->capacity) {
        size_t capacity = buffer->capacity > SIZE_MAX / 2 ? needed : 2 * buffer->capacity;
        if (capacity < needed) capacity = needed < 256 ? 256 : needed;
        unsigned char *data = sp_alloc(capacity, 1);
        if (!data) return false;
        if (buffer->size) memcpy(data, buffer->data, buffer->size);
        sp_release(buffer->data);
        buffer->data = data;
        buffer->capacity = capacity;
    }
    if (size) memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size = needed;
    return true;
}

void sp_buffer_free(sp_buffer *buffer)
{
    sp_release(buffer->data);
    *buffer = (sp_buffer){0};
}
