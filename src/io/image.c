#include "io/image.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/size.h"
#include "base/utf8.h"
#include "io/buffer.h"
#include "io/jpeg.h"

enum {
    SIDE_LIMIT = 16384,     /* pixels */
    FILE_LIMIT = 1 << 30,   /* bytes of a PNG that is read */
    CHUNK_LIMIT = 16 << 20, /* bytes of one text */
    CHUNKS_LIMIT = 1000,    /* texts of one file */
    KEY_LIMIT = 79,         /* set by the format */
    SIGNATURE = 8,          /* bytes at the start of a PNG */
    CHUNK_FRAME = 12,       /* bytes of a chunk's length, name and checksum */
    DEFLATE_RATIO = 1032,   /* the most that deflate can shrink */
    COMPRESSION = 6         /* fixed, so that the bytes do not depend on a default */
};

/* What libpng's callbacks need; libpng reports by longjmp to jump. */
typedef struct png_context {
    jmp_buf jump;
    const char *name;
    char message[160];
    bool no_memory;
    sp_buffer *out;            /* of a writer */
    const unsigned char *data; /* of a reader: what is left */
    size_t size;
} png_context;

static void on_error(png_structp png, png_const_charp message)
{
    png_context *context = png_get_error_ptr(png);
    snprintf(context->message, sizeof context->message, "%s", message);
    longjmp(context->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static png_voidp on_allocate(png_structp png, png_alloc_size_t size)
{
    png_context *context = png_get_mem_ptr(png);
    void *memory = sp_alloc(size, 1);
    if (!memory) context->no_memory = true;
    return memory;
}

static void on_free(png_structp png, png_voidp memory)
{
    (void)png;
    sp_release(memory);
}

static void on_write(png_structp png, png_bytep data, size_t size)
{
    png_context *context = png_get_io_ptr(png);
    if (sp_buffer_append(context->out, data, size)) return;
    context->no_memory = true;
    png_error(png, "no memory");
}

static void on_flush(png_structp png) { (void)png; }

static void on_read(png_structp png, png_bytep data, size_t size)
{
    png_context *context = png_get_io_ptr(png);
    if (size > context->size) png_error(png, "the file ends too soon");
    memcpy(data, context->data, size);
    context->data += size;
    context->size -= size;
}

static sp_status fail_png(const png_context *context, sp_status status, sp_error *err)
{
    if (context->no_memory) return SP_FAIL(err, SP_ENOMEM, "%s: no memory for the picture", context->name);
    return SP_FAIL(err, status, "%s: %s", context->name, context->message);
}

static bool is_ascii(const char *text)
{
    while (*text && !(*text & 0x80)) text++;
    return !*text;
}

static sp_status check_picture(const uint8_t *rgb, size_t width, size_t height, const sp_text_chunk *text,
                               size_t n_text, sp_error *err)
{
    if (!rgb || width == 0 || height == 0 || width > SIDE_LIMIT || height > SIDE_LIMIT)
        return SP_FAIL(err, SP_EARG, "picture of %zu x %zu pixels, expected sides of 1 to %d", width, height,
                       SIDE_LIMIT);
    for (size_t i = 0; i < n_text; i++) {
        size_t length = strlen(text[i].key);
        if (length == 0 || length > KEY_LIMIT)
            return SP_FAIL(err, SP_EARG, "picture text: key of %zu characters, expected 1 to %d", length, KEY_LIMIT);
        if (strlen(text[i].value) > CHUNK_LIMIT)
            return SP_FAIL(err, SP_EARG, "picture text '%s': %zu bytes, expected at most %d", text[i].key,
                           strlen(text[i].value), CHUNK_LIMIT);
    }
    return SP_OK;
}

/* Everything that libpng may jump out of, in a function without locals that change. */
static bool write_png(png_context *context, png_structp png, png_infop info, const uint8_t *rgb, size_t width,
                      size_t height, png_text *texts, size_t n_text)
{
    if (setjmp(context->jump)) return false;
    png_set_write_fn(png, context, on_write, on_flush);
    png_set_compression_level(png, COMPRESSION);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (n_text) png_set_text(png, info, texts, (int)n_text);
    png_write_info(png, info);
    for (size_t y = 0; y < height; y++) png_write_row(png, rgb + y * width * 3);
    png_write_end(png, NULL);
    return true;
}

sp_status sp_png_encode(const uint8_t *rgb, size_t width, size_t height, const sp_text_chunk *text, size_t n_text,
                        unsigned char **out, size_t *size, sp_error *err)
{
    *out = NULL;
    *size = 0;
    SP_TRY(check_picture(rgb, width, height, text, n_text, err));
    sp_buffer buffer = {0};
    png_context context = {.name = "PNG", .out = &buffer};
    png_text *texts = sp_alloc(n_text, sizeof *texts);
    png_structp png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &context, on_error, on_warning, &context,
                                                on_allocate, on_free);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    for (size_t i = 0; texts && i < n_text; i++) {
        texts[i].compression = is_ascii(text[i].value) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        texts[i].key = (char *)(uintptr_t)text[i].key; /* libpng copies what its type does not promise to leave */
        texts[i].text = (char *)(uintptr_t)text[i].value;
    }
    sp_status status = SP_OK;
    if (!info || !texts) {
        status = SP_FAIL(err, SP_ENOMEM, "PNG: no memory for the picture");
    } else if (!write_png(&context, png, info, rgb, width, height, texts, n_text)) {
        status = fail_png(&context, SP_EBUG, err);
    }
    png_destroy_write_struct(&png, &info);
    sp_release(texts);
    if (status != SP_OK) {
        sp_buffer_free(&buffer);
        return status;
    }
    *out = buffer.data;
    *size = buffer.size;
    return SP_OK;
}

static bool is_jpeg_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0);
}

sp_status sp_picture_write(const char *path, const uint8_t *rgb, size_t width, size_t height, const sp_text_chunk *text,
                           size_t n_text, sp_error *err)
{
    sp_buffer bytes = {0};
    sp_status status;
    if (is_jpeg_name(path)) {
        SP_GO(check_picture(rgb, width, height, text, n_text, err));
        SP_GO(sp_jpeg_encode(rgb, width, height, text, n_text, &bytes, err));
    } else {
        SP_GO(sp_png_encode(rgb, width, height, text, n_text, &bytes.data, &bytes.size, err));
    }
    status = sp_file_write(path, bytes.data, bytes.size, err);
out:
    sp_buffer_free(&bytes);
    return status;
}

/* Header and limits. A picture whose rows could not come from so few bytes however well they were compressed is
 * refused before memory is taken for it. */
static sp_status read_png_header(png_context *context, png_structp png, png_infop info, sp_image *out, sp_error *err)
{
    size_t size = context->size;
    if (setjmp(context->jump)) return fail_png(context, SP_EFORMAT, err);
    png_set_read_fn(png, context, on_read);
    png_set_user_limits(png, SIDE_LIMIT, SIDE_LIMIT);
    png_set_chunk_malloc_max(png, CHUNK_LIMIT);
    png_set_chunk_cache_max(png, CHUNKS_LIMIT);
    png_read_info(png, info);
    out->width = png_get_image_width(png, info);
    out->height = png_get_image_height(png, info);
    if (png_get_rowbytes(png, info) * out->height / DEFLATE_RATIO > size)
        return SP_FAIL(err, SP_EFORMAT, "%s: %zu bytes cannot hold %zu x %zu pixels; the file is cut", context->name,
                       size, out->width, out->height);
    return SP_OK;
}

/* rows [height] point into rgb, which is [height, width, 4] here. */
static sp_status read_png_pixels(png_context *context, png_structp png, png_infop info, png_bytep *rows, sp_error *err)
{
    if (setjmp(context->jump)) return fail_png(context, SP_EFORMAT, err);
    if (rows) {
        png_set_strip_16(png);
        png_set_expand(png);
        png_set_gray_to_rgb(png);
        png_set_filler(png, 0xFF, PNG_FILLER_AFTER);
        png_read_update_info(png, info);
        png_read_image(png, rows);
    } else {
        /* libpng has no way past pixels but through them, and text may follow. */
        int passes = png_set_interlace_handling(png);
        png_read_update_info(png, info);
        for (png_uint_32 row = 0; row < (png_uint_32)passes * png_get_image_height(png, info); row++)
            png_read_row(png, NULL, NULL);
    }
    png_read_end(png, info);
    return SP_OK;
}

static void blend_on_white(uint8_t *rgba, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned alpha = rgba[4 * i + 3];
        for (size_t c = 0; c < 3; c++)
            rgba[3 * i + c] = (uint8_t)((rgba[4 * i + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
}

static sp_status read_pixels(png_context *context, png_structp png, png_infop info, sp_image *out, sp_error *err)
{
    size_t row = 4 * out->width;
    out->rgb = sp_alloc(out->height, row);
    png_bytep *rows = sp_alloc(out->height, sizeof *rows);
    sp_status status = SP_OK;
    if (!out->rgb || !rows)
        status = SP_FAIL(err, SP_ENOMEM, "%s: no memory for %zu x %zu pixels", context->name, out->width, out->height);
    for (size_t y = 0; status == SP_OK && y < out->height; y++) rows[y] = out->rgb + y * row;
    if (status == SP_OK) status = read_png_pixels(context, png, info, rows, err);
    if (status == SP_OK) blend_on_white(out->rgb, out->width * out->height);
    sp_release(rows);
    return status;
}

/* A copy in UTF-8. The format says Latin-1 for keys and tEXt; many programs write UTF-8 all the same. */
static char *copy_text(const char *text)
{
    size_t size = strlen(text), used = 0;
    bool latin1 = sp_utf8_invalid(text, size) < size;
    char *copy = sp_alloc(2 * size + 1, 1);
    if (!copy) return NULL;
    if (!latin1) memcpy(copy, text, size);
    for (size_t i = 0; latin1 && i < size; i++) used += sp_utf8_encode((unsigned char)text[i], copy + used);
    return copy;
}

static sp_status copy_texts(const char *name, png_structp png, png_infop info, sp_image *out, sp_error *err)
{
    png_textp texts = NULL;
    int count = 0;
    png_get_text(png, info, &texts, &count);
    out->text_keys = sp_alloc((size_t)count, sizeof(char *));
    out->text_values = sp_alloc((size_t)count, sizeof(char *));
    if (!out->text_keys || !out->text_values) return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its texts", name);
    for (int i = 0; i < count; i++) {
        size_t n = out->n_text++;
        out->text_keys[n] = copy_text(texts[i].key);
        out->text_values[n] = copy_text(texts[i].text ? texts[i].text : "");
        if (!out->text_keys[n] || !out->text_values[n])
            return SP_FAIL(err, SP_ENOMEM, "%s: no memory for its texts", name);
    }
    return SP_OK;
}

/* Every chunk up to IEND is whole. libpng would take memory for the length that a chunk claims before it reads it. */
static sp_status check_chunks(const char *name, const unsigned char *data, size_t size, sp_error *err)
{
    for (size_t at = SIGNATURE; size - at >= CHUNK_FRAME;) {
        const unsigned char *chunk = data + at;
        size_t length = png_get_uint_32(chunk);
        if (length > size - at - CHUNK_FRAME) break;
        if (memcmp(chunk + 4, "IEND", 4) == 0) return SP_OK;
        at += length + CHUNK_FRAME;
    }
    return SP_FAIL(err, SP_EFORMAT, "%s: PNG of %zu bytes ends within a chunk; the file is cut", name, size);
}

sp_status sp_png_parse(const char *name, const void *data, size_t size, int pixels, sp_image *out, sp_error *err)
{
    *out = (sp_image){0};
    if (size < SIGNATURE || png_sig_cmp(data, 0, SIGNATURE) != 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: is not a PNG", name);
    SP_TRY(check_chunks(name, data, size, err));
    png_context context = {.name = name, .data = data, .size = size};
    png_structp png =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &context, on_error, on_warning, &context, on_allocate, on_free);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    sp_status status;
    if (!info) {
        status = SP_FAIL(err, SP_ENOMEM, "%s: no memory for the picture", name);
        goto out;
    }
    SP_GO(read_png_header(&context, png, info, out, err));
    if (pixels)
        SP_GO(read_pixels(&context, png, info, out, err));
    else
        SP_GO(read_png_pixels(&context, png, info, NULL, err));
    SP_GO(copy_texts(name, png, info, out, err));
out:
    png_destroy_read_struct(&png, &info, NULL);
    if (status != SP_OK) sp_image_free(out);
    return status;
}

sp_status sp_png_read(const char *path, int pixels, sp_image *out, sp_error *err)
{
    *out = (sp_image){0};
    sp_bytes bytes;
    SP_TRY(sp_file_read(path, FILE_LIMIT, &bytes, err));
    sp_status status = sp_png_parse(path, bytes.data, bytes.size, pixels, out, err);
    sp_bytes_free(&bytes);
    return status;
}

const char *sp_image_find(const sp_image *image, const char *key)
{
    for (size_t i = 0; i < image->n_text; i++)
        if (strcmp(image->text_keys[i], key) == 0) return image->text_values[i];
    return NULL;
}

void sp_image_free(sp_image *image)
{
    for (size_t i = 0; i < image->n_text; i++) {
        sp_release(image->text_keys[i]);
        sp_release(image->text_values[i]);
    }
    sp_release(image->text_keys);
    sp_release(image->text_values);
    sp_release(image->rgb);
    *image = (sp_image){0};
}
