#ifndef SP_IMAGE_H
#define SP_IMAGE_H
/* Pictures to files: PNG by libpng with text chunks, JPEG by stb_image_write when the name ends in .jpg or .jpeg.
 * Written atomically through base/file.h, so a full disk is an error and never half a picture.
 *
 *     sp_text_chunk text[] = {{"parameters", "red heart\nSeed: 1"}, {"specular", "{...}"}};
 *     SP_TRY(sp_picture_write("heart.png", rgb, 64, 64, text, 2, err));  */
#include <stdint.h>

#include "specular.h"

/* sp_picture_write of specular.h does the work of writing: text values are tEXt when they are ASCII, else iTXt.
 * In a JPEG the text is a comment of the form key: value. */

/* The bytes of the PNG alone. *out is owned by the caller (sp_release). */
SP_CHECK sp_status sp_png_encode(const uint8_t *rgb, size_t width, size_t height, const sp_text_chunk *text,
                                 size_t n_text, unsigned char **out, size_t *size, sp_error *err);

typedef struct sp_image {
    size_t width, height;
    uint8_t *rgb;    /* [height, width, 3] owned; alpha is blended on white, 16 bits are cut to 8 */
    size_t n_text;
    char **text_keys, **text_values; /* owned */
} sp_image;

/* Reads a PNG of at most 16384 x 16384. pixels false reads the text chunks only. */
SP_CHECK sp_status sp_png_read(const char *path, int pixels, sp_image *out, sp_error *err);
SP_CHECK sp_status sp_png_parse(const char *name, const void *data, size_t size, int pixels, sp_image *out,
                                sp_error *err);
const char *sp_image_find(const sp_image *image, const char *key); /* or NULL */
void sp_image_free(sp_image *image);

#endif
