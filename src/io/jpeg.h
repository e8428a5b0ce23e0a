#ifndef SP_JPEG_H
#define SP_JPEG_H
/* The bytes of a JPEG; what sp_picture_write uses for names in .jpg and .jpeg. */
#include <stdint.h>

#include "io/buffer.h"
#include "specular.h"

enum { SP_JPEG_QUALITY = 95 };

/* Appends a JPEG of rgb [height, width, 3] with a comment "key: value" for each text; one that is longer than a
 * segment may be goes on in the next. */
SP_CHECK sp_status sp_jpeg_encode(const uint8_t *rgb, size_t width, size_t height, const sp_text_chunk *text,
                                  size_t n_text, sp_buffer *out, sp_error *err);

#endif
