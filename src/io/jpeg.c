#include "io/jpeg.h"

#include <string.h>

/* Unused functions are judged at the end of the file, so this one is not popped. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>
#pragma GCC diagnostic pop

enum {
    SIDE_LIMIT = 65535,      /* 16 bits in the frame header */
    SEGMENT_LIMIT = 65533,   /* bytes of a comment beside its own 16-bit length */
    BEFORE_COMMENTS = 2 + 18 /* start of image and the JFIF segment, which has to come first */
};

typedef struct jpeg_sink {
    sp_buffer *buffer;
    bool failed;
} jpeg_sink;

static void take(void *context, void *data, int size)
{
    jpeg_sink *sink = context;
    if (!sp_buffer_append(sink->buffer, data, (size_t)size)) sink->failed = true;
}

static bool append_segment(sp_buffer *out, const unsigned char *data, size_t size)
{
    size_t length = size + 2;
    const unsigned char marker[4] = {0xFF, 0xFE, (unsigned char)(length >> 8), (unsigned char)length};
    return sp_buffer_append(out, marker, sizeof marker) && sp_buffer_append(out, data, size);
}

static bool append_comment(sp_buffer *out, const sp_text_chunk *text)
{
    sp_buffer comment = {0};
    bool done = sp_buffer_append(&comment, text->key, strlen(text->key)) && sp_buffer_append(&comment, ": ", 2) &&
                sp_buffer_append(&comment, text->value, strlen(text->value));
    for (size_t at = 0; done && at < comment.size; at += SEGMENT_LIMIT) {
        size_t left = comment.size - at;
        done = append_segment(out, comment.data + at, left < SEGMENT_LIMIT ? left : SEGMENT_LIMIT);
    }
    sp_buffer_free(&comment);
    return done;
}

sp_status sp_jpeg_encode(const uint8_t *rgb, size_t width, size_t height, const sp_text_chunk *text, size_t n_text,
                         sp_buffer *out, sp_error *err)
{
    if (width == 0 || height == 0 || width > SIDE_LIMIT || height > SIDE_LIMIT)
        return SP_FAIL(err, SP_EARG, "JPEG of %zu x %zu pixels, expected sides of 1 to %d", width, height, SIDE_LIMIT);
    sp_buffer plain = {0};
    jpeg_sink sink = {&plain, false};
    int written = stbi_write_jpg_to_func(take, &sink, (int)width, (int)height, 3, rgb, SP_JPEG_QUALITY);
    bool done =
        written && !sink.failed && plain.size > BEFORE_COMMENTS && sp_buffer_append(out, plain.data, BEFORE_COMMENTS);
    for (size_t i = 0; done && i < n_text; i++) done = append_comment(out, &text[i]);
    done = done && sp_buffer_append(out, plain.data + BEFORE_COMMENTS, plain.size - BEFORE_COMMENTS);
    sp_buffer_free(&plain);
    return done ? SP_OK : SP_FAIL(err, SP_ENOMEM, "JPEG of %zu x %zu pixels: no memory", width, height);
}
