/* A PNG, whose checksums are put right first, so that the fuzzer gets behind them. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/utf8.h"
#include "io/image.h"

static void require(int condition)
{
    if (!condition) abort();
}

static void put_checksums(uint8_t *data, size_t size)
{
    for (size_t at = 8; size >= 12 && at <= size - 12;) {
        size_t length = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 | data[at + 3];
        if (length > size - at - 12) return;
        uint32_t sum = (uint32_t)crc32(0, data + at + 4, (uInt)(length + 4));
        for (size_t i = 0; i < 4; i++) data[at + 8 + length + i] = (uint8_t)(sum >> (24 - 8 * i));
        at += length + 12;
    }
}

/* Large pictures are slow and teach nothing that small ones do not, except to the limits, which are tested apart. */
static int is_large(const uint8_t *data, size_t size)
{
    if (size < 24) return 0;
    uint64_t side[2] = {0, 0};
    for (size_t i = 0; i < 8; i++) side[i / 4] = side[i / 4] << 8 | data[16 + i];
    return side[0] * side[1] > 1 << 14 && side[0] <= 16384 && side[1] <= 16384;
}

static void check(const sp_image *image)
{
    require(image->width >= 1 && image->width <= 16384 && image->height >= 1 && image->height <= 16384);
    for (size_t i = 0; i < image->n_text; i++) {
        const char *value = image->text_values[i];
        require(sp_utf8_invalid(value, strlen(value)) == strlen(value));
        require(sp_image_find(image, image->text_keys[i]) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (is_large(data, size)) return 0;
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) return 0;
    memcpy(copy, data, size);
    put_checksums(copy, size);
    for (int pixels = 0; pixels < 2; pixels++) {
        sp_image image;
        sp_error err = {0};
        if (sp_png_parse("fuzz", copy, size, pixels, &image, &err) != SP_OK) {
            require(err.message[0] && !image.rgb && !image.n_text);
            continue;
        }
        check(&image);
        unsigned sum = 0;
        for (size_t i = 0; pixels && i < image.width * image.height * 3; i++) sum += image.rgb[i];
        require(sum <= 255u * 3 << 14);
        sp_image_free(&image);
    }
    free(copy);
    return 0;
}
