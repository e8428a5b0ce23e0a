#ifndef SP_BUFFER_H
#define SP_BUFFER_H
/* Bytes that grow.
 *
 *     sp_buffer text = {0};
 *     if (!sp_buffer_append(&text, "red ", 4)) ... no memory
 *     sp_buffer_free(&text);  */
#include <stdbool.h>
#include <stddef.h>

typedef struct sp_buffer {
    unsigned char *data; /* owned, by sp_release; NULL until the first append */
    size_t size, capacity;
} sp_buffer;

/* false when there is no memory; the buffer is then as it was. bytes may be NULL when size is 0. */
bool sp_buffer_append(sp_buffer *buffer, const void *bytes, size_t size);
void sp_buffer_free(sp_buffer *buffer);

#endif
