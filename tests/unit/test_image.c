#include "support.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/utf8.h"
#include "io/image.h"

static char folder[] = "/tmp/specular-image-XXXXXX";
static char path[256];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int enter(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    const char *const names[] = {"a.png", "a.jpg", "b.JPEG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) unlink(in_folder(names[i]));
    return rmdir(folder);
}

static void fill(uint8_t *rgb, size_t count)
{
    for (size_t i = 0; i < count; i++) rgb[i] = (uint8_t)sp_philox(1, (uint32_t)i, 0, 0, 0).word[0];
}

static void assert_refused(sp_status status, sp_status expected, const sp_error *error, const char *part)
{
    assert_int_equal(status, expected);
    assert_int_equal(error->status, expected);
    if (!strstr(error->message, part)) fail_msg("'%s' is not in '%s'", part, error->message);
    assert_null(strchr(error->message, '\n'));
}

static void png_comes_back_as_it_was(void **state)
{
    (void)state;
    const size_t sizes[][2] = {{1, 1}, {3, 2}, {64, 64}, {1, 300}, {257, 1}};
    const sp_text_chunk text[] = {
        {"parameters", "red heart\nSeed: 1"}, {"prompt", "h\xC3\xA9rz \xF0\x9F\x99\x82"}, {"empty", ""}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t width = sizes[i][0], height = sizes[i][1], count = 3 * width * height;
        uint8_t *rgb = malloc(count);
        fill(rgb, count);
        SP_TEST_OK(sp_picture_write(in_folder("a.png"), rgb, width, height, text, 3, err));
        sp_image image;
        SP_TEST_OK(sp_png_read(path, 1, &image, err));
        assert_int_equal(image.width, width);
        assert_int_equal(image.height, height);
        assert_memory_equal(image.rgb, rgb, count);
        assert_int_equal(image.n_text, 3);
        for (size_t t = 0; t < 3; t++) assert_string_equal(sp_image_find(&image, text[t].key), text[t].value);
        assert_null(sp_image_find(&image, "absent"));
        sp_image_free(&image);
        SP_TEST_OK(sp_png_read(path, 0, &image, err));
        assert_null(image.rgb);
        assert_int_equal(image.n_text, 3);
        sp_image_free(&image);
        free(rgb);
    }
}

static void same_picture_is_the_same_bytes(void **state)
{
    (void)state;
    uint8_t rgb[48];
    fill(rgb, sizeof rgb);
    const sp_text_chunk text[] = {{"a", "b"}};
    unsigned char *first, *second;
    size_t sizes[2];
    SP_TEST_OK(sp_png_encode(rgb, 4, 4, text, 1, &first, &sizes[0], err));
    SP_TEST_OK(sp_png_encode(rgb, 4, 4, text, 1, &second, &sizes[1], err));
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(first, second, sizes[0]);
    SP_TEST_OK(sp_picture_write(in_folder("a.png"), rgb, 4, 4, text, 1, err));
    sp_bytes bytes;
    SP_TEST_OK(sp_file_read(path, 1 << 20, &bytes, err));
    assert_int_equal(bytes.size, sizes[0]);
    assert_memory_equal(bytes.data, first, sizes[0]);
    sp_bytes_free(&bytes);
    sp_release(first);
    sp_release(second);
}

static const unsigned char *find_bytes(const sp_bytes *bytes, const void *part, size_t size)
{
    for (size_t i = 0; i + size <= bytes->size; i++)
        if (memcmp(bytes->data + i, part, size) == 0) return bytes->data + i;
    return NULL;
}

static void jpeg_has_its_text_after_the_jfif_segment(void **state)
{
    (void)state;
    uint8_t rgb[48];
    fill(rgb, sizeof rgb);
    char *longest = malloc(70001);
    memset(longest, 'x', 70000);
    longest[70000] = 0;
    const sp_text_chunk text[] = {{"parameters", "red"}, {"long", longest}};
    const char *const names[] = {"a.jpg", "b.JPEG"};
    for (size_t i = 0; i < 2; i++) {
        SP_TEST_OK(sp_picture_write(in_folder(names[i]), rgb, 4, 4, text, 2, err));
        sp_bytes bytes;
        SP_TEST_OK(sp_file_read(path, 1 << 20, &bytes, err));
        assert_memory_equal(bytes.data, "\xFF\xD8\xFF\xE0\0\x10JFIF", 10);
        assert_memory_equal(bytes.data + 20, "\xFF\xFE\0\x11parameters: red", 19);
        /* 70006 bytes in a segment of 65533 and one of 4473. */
        assert_memory_equal(bytes.data + 39, "\xFF\xFE\xFF\xFFlong: x", 11);
        assert_memory_equal(bytes.data + 39 + 4 + 65533, "\xFF\xFE\x11\x7Bxxx", 7);
        assert_memory_equal(bytes.data + 39 + 4 + 65533 + 4 + 4473, "\xFF\xDB", 2);
        assert_memory_equal(bytes.data + bytes.size - 2, "\xFF\xD9", 2);
        sp_bytes_free(&bytes);
    }
    sp_bytes bytes;
    SP_TEST_OK(sp_picture_write(in_folder("a.png"), rgb, 4, 4, text, 2, err));
    SP_TEST_OK(sp_file_read(path, 1 << 20, &bytes, err));
    assert_non_null(find_bytes(&bytes, "tEXtparameters\0red", 18));
    assert_null(find_bytes(&bytes, "iTXt", 4));
    assert_null(find_bytes(&bytes, "tIME", 4));
    sp_bytes_free(&bytes);
    free(longest);
}

static void bad_pictures_are_arguments(void **state)
{
    (void)state;
    uint8_t rgb[3] = {0};
    char key[81];
    memset(key, 'k', 80);
    key[80] = 0;
    const sp_text_chunk empty = {"", "x"}, longest = {key, "x"};
    const struct {
        const uint8_t *rgb;
        size_t width, height;
        const sp_text_chunk *text;
        const char *part;
    } cases[] = {
        {rgb, 0, 1, NULL, "0 x 1 pixels"},
        {rgb, 1, 0, NULL, "1 x 0 pixels"},
        {rgb, 16385, 1, NULL, "16385 x 1"},
        {rgb, 1, SIZE_MAX, NULL, "expected sides of 1 to 16384"},
        {NULL, 1, 1, NULL, "picture"},
        {rgb, 1, 1, &empty, "key of 0 characters"},
        {rgb, 1, 1, &longest, "key of 80 characters"},
    };
    const char *const names[] = {"a.png", "a.jpg"};
    for (size_t n = 0; n < 2; n++) {
        unlink(in_folder(names[n]));
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            sp_error error = {0};
            sp_status status = sp_picture_write(path, cases[i].rgb, cases[i].width, cases[i].height, cases[i].text,
                                                cases[i].text != NULL, &error);
            assert_refused(status, SP_EARG, &error, cases[i].part);
            assert_int_equal(access(path, F_OK), -1);
        }
    }
}

static void full_device_is_an_output_error(void **state)
{
    (void)state;
    struct stat device;
    if (stat("/dev/full", &device) || !S_ISCHR(device.st_mode)) skip();
    uint8_t rgb[48] = {0};
    sp_error error = {0};
    assert_refused(sp_picture_write("/dev/full", rgb, 4, 4, NULL, 0, &error), SP_EOUTPUT, &error, "/dev/full");
    error = (sp_error){0};
    assert_refused(sp_picture_write(in_folder("absent/a.png"), rgb, 4, 4, NULL, 0, &error), SP_EOUTPUT, &error,
                   "absent");
}

/* Big-endian chunk with a right checksum. */
static size_t put_chunk(uint8_t *out, const char *name, const void *data, size_t size)
{
    uint32_t sum = 0xFFFFFFFFu;
    for (int i = 0; i < 4; i++) out[i] = (uint8_t)(size >> (24 - 8 * i));
    memcpy(out + 4, name, 4);
    if (size) memcpy(out + 8, data, size);
    for (size_t i = 4; i < size + 8; i++) {
        sum ^= out[i];
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
    }
    for (int i = 0; i < 4; i++) out[size + 8 + (size_t)i] = (uint8_t)(~sum >> (24 - 8 * i));
    return size + 12;
}

typedef struct png_case {
    uint32_t width, height;
    uint8_t depth, color;
    const char *rows; /* [n_rows] filter bytes included, stored without compression */
    size_t n_rows;
    const char *extra_name, *extra;
    size_t n_extra;
} png_case;

static size_t build_png(uint8_t *out, const png_case *c)
{
    size_t at = 8;
    memcpy(out, "\x89PNG\r\n\x1A\n", 8);
    uint8_t header[13] = {0}, data[64] = "\x78\x01\x01";
    for (int i = 0; i < 4; i++) {
        header[i] = (uint8_t)(c->width >> (24 - 8 * i));
        header[4 + i] = (uint8_t)(c->height >> (24 - 8 * i));
    }
    header[8] = c->depth;
    header[9] = c->color;
    at += put_chunk(out + at, "IHDR", header, 13);
    if (c->color == 3) at += put_chunk(out + at, "PLTE", "\1\2\3\4\5\6", 6);
    if (c->extra_name) at += put_chunk(out + at, c->extra_name, c->extra, c->n_extra);
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < c->n_rows; i++) {
        a = (a + (uint8_t)c->rows[i]) % 65521;
        b = (b + a) % 65521;
    }
    data[3] = (uint8_t)c->n_rows;
    data[5] = (uint8_t)~c->n_rows;
    data[6] = 0xFF;
    memcpy(data + 7, c->rows, c->n_rows);
    const uint8_t sum[4] = {(uint8_t)(b >> 8), (uint8_t)b, (uint8_t)(a >> 8), (uint8_t)a};
    memcpy(data + 7 + c->n_rows, sum, 4);
    at += put_chunk(out + at, "IDAT", data, 11 + c->n_rows);
    return at + put_chunk(out + at, "IEND", NULL, 0);
}

static void every_kind_of_png_becomes_rgb(void **state)
{
    (void)state;
    const struct {
        png_case png;
        uint8_t rgb[6];
    } cases[] = {
        {{2, 1, 8, 2, "\0\1\2\3\4\5\6", 7}, {1, 2, 3, 4, 5, 6}},
        {{1, 1, 16, 2, "\0\1\xFF\2\xFF\3\xFF", 7}, {1, 2, 3}}, /* cut, not rounded */
        {{2, 1, 8, 0, "\0\7\x9", 3}, {7, 7, 7, 9, 9, 9}},
        {{2, 1, 1, 0, "\0\x80", 2}, {255, 255, 255, 0, 0, 0}},
        {{2, 1, 4, 0, "\0\x1F", 2}, {17, 17, 17, 255, 255, 255}},
        {{1, 1, 8, 4, "\0\x64\x80", 3}, {177, 177, 177}}, /* (100 x 128 + 255 x 127) / 255 */
        {{1, 1, 8, 6, "\0\1\2\3\0", 5}, {255, 255, 255}},
        {{1, 1, 8, 6, "\0\1\2\3\xFF", 5}, {1, 2, 3}},
        {{2, 1, 8, 3, "\0\0\1", 3}, {1, 2, 3, 4, 5, 6}},
        {{2, 1, 8, 3, "\0\0\1", 3, "tRNS", "\0", 1}, {255, 255, 255, 4, 5, 6}},
        {{1, 1, 8, 0, "\0\7", 2, "tRNS", "\0\7", 2}, {255, 255, 255}},
        {{2, 1, 8, 2, "\0\1\2\3\4\5\6", 7, "gAMA", "\0\0\xFF\xFF", 4}, {1, 2, 3, 4, 5, 6}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t png[256];
        sp_image image;
        size_t size = build_png(png, &cases[i].png);
        SP_TEST_OK(sp_png_parse("a.png", png, size, 1, &image, err));
        assert_memory_equal(image.rgb, cases[i].rgb, 3 * image.width * image.height);
        sp_image_free(&image);
    }
}

static void texts_come_in_utf8(void **state)
{
    (void)state;
    const struct {
        const char *name, *chunk;
        size_t size;
        const char *key, *value;
    } cases[] = {
        {"tEXt", "k\0caf\xE9", 6, "k", "caf\xC3\xA9"},     /* Latin-1, as the format says */
        {"tEXt", "k\0caf\xC3\xA9", 7, "k", "caf\xC3\xA9"}, /* UTF-8, as many write */
        {"tEXt", "\xE9\0x", 3, "\xC3\xA9", "x"},
        {"iTXt", "k\0\0\0\0\0\xE4\xB8\xAD", 9, "k", "\xE4\xB8\xAD"},
        {"iTXt", "k\0\0\0\0\0\xFF", 7, "k", "\xC3\xBF"},
        {"zTXt", "k\0\0\x78\x9C\x4B\x4C\x4A\6\0\2\x4D\1\x27", 14, "k", "abc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[256];
        const png_case png = {1, 1, 8, 0, "\0\7", 2, cases[i].name, cases[i].chunk, cases[i].size};
        size_t size = build_png(bytes, &png);
        for (int pixels = 0; pixels < 2; pixels++) {
            sp_image image;
            SP_TEST_OK(sp_png_parse("a.png", bytes, size, pixels, &image, err));
            assert_int_equal(image.n_text, 1);
            assert_string_equal(image.text_keys[0], cases[i].key);
            assert_string_equal(image.text_values[0], cases[i].value);
            sp_image_free(&image);
        }
    }
}

static void malformed_pngs_are_refused(void **state)
{
    (void)state;
    const struct {
        png_case png;
        const char *part;
    } cases[] = {
        {{0, 1, 8, 0, "\0\7", 2}, "IHDR"},
        {{16385, 1, 8, 0, "\0\7", 2}, "IHDR"},
        {{1, 0x80000000u, 8, 0, "\0\7", 2}, "PNG unsigned integer out of range"},
        {{1, 1, 3, 0, "\0\7", 2}, "IHDR"},
        {{1, 1, 8, 5, "\0\7", 2}, "IHDR"},
        {{16384, 16384, 8, 2, "\0\7", 2}, "cannot hold 16384 x 16384 pixels"},
        {{4, 4, 8, 2, "\0\7", 2}, "a.png: "},
        {{1, 1, 8, 0, "\x9\7", 2}, "bad adaptive filter value"},
        {{1, 1, 8, 0, "\0\7", 2, "ABCD", "", 0}, "unhandled critical chunk"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t png[256];
        sp_image image;
        sp_error error = {0};
        size_t size = build_png(png, &cases[i].png);
        assert_refused(sp_png_parse("a.png", png, size, 1, &image, &error), SP_EFORMAT, &error, cases[i].part);
        assert_null(image.rgb);
    }
    sp_image image;
    sp_error error = {0};
    assert_refused(sp_png_parse("a.png", "\x89PNG\r\n\x1A", 7, 1, &image, &error), SP_EFORMAT, &error, "is not a PNG");
    error = (sp_error){0};
    assert_refused(sp_png_parse("a.png", "GIF89a--------------", 20, 1, &image, &error), SP_EFORMAT, &error,
                   "is not a PNG");
}

static void png_cut_or_changed_anywhere_is_refused(void **state)
{
    (void)state;
    uint8_t rgb[48];
    fill(rgb, sizeof rgb);
    const sp_text_chunk text[] = {{"parameters", "red"}};
    unsigned char *png;
    size_t size;
    SP_TEST_OK(sp_png_encode(rgb, 4, 4, text, 1, &png, &size, err));
    for (int pixels = 0; pixels < 2; pixels++) {
        for (size_t length = 0; length < size; length++) {
            unsigned char *cut = malloc(length ? length : 1);
            memcpy(cut, png, length);
            sp_image image;
            sp_error error = {0};
            assert_int_equal(sp_png_parse("a.png", cut, length, pixels, &image, &error), SP_EFORMAT);
            assert_true(error.message[0] != 0);
            free(cut);
        }
    }
    /* A byte of the pixels' chunk is changed: its checksum tells. */
    for (size_t at = 8; at + 20 < size; at++) {
        if (memcmp(png + at, "IDAT", 4) != 0) continue;
        png[at + 12] ^= 1;
        sp_image image;
        assert_int_equal(sp_png_parse("a.png", png, size, 1, &image, NULL), SP_EFORMAT);
        png[at + 12] ^= 1;
        break;
    }
    sp_release(png);
}

static void every_lost_allocation_is_reported(void **state)
{
    (void)state;
    uint8_t rgb[48];
    fill(rgb, sizeof rgb);
    const sp_text_chunk text[] = {{"parameters", "r\xC3\xA9"
                                                 "d"}};
    const char *const names[] = {"a.png", "a.jpg", "a.png"}; /* the last is read */
    for (int work = 0; work < 3; work++) {
        sp_status status = SP_ENOMEM;
        in_folder(names[work]);
        for (size_t n = 0; status != SP_OK; n++) {
            assert_true(n < 200);
            sp_test_allow_allocations(n);
            sp_image image = {0};
            sp_error error = {0};
            status =
                work < 2 ? sp_picture_write(path, rgb, 4, 4, text, 1, &error) : sp_png_read(path, 1, &image, &error);
            sp_alloc_hook(NULL);
            if (status == SP_OK ? n < 5 : status != SP_ENOMEM) fail_msg("%zu: %d %s", n, (int)status, error.message);
            assert_int_equal(error.status, status);
            sp_image_free(&image);
        }
    }
}

/* Every code point comes back from its UTF-8; every string of up to three odd bytes is judged as RFC 3629 does. */
static void utf8_is_strict(void **state)
{
    (void)state;
    char text[4];
    uint32_t code;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        size_t length = sp_utf8_encode(c, text);
        size_t expected = c >= 0xD800 && c < 0xE000 ? 0 : length;
        assert_int_equal(sp_utf8_decode(text, length, &code), expected);
        if (expected) assert_int_equal(code, c);
        for (size_t cut = 0; cut < length; cut++) assert_int_equal(sp_utf8_decode(text, cut, &code), 0);
    }
    const char *const bad[] = {
        "\x80",         "\xC0\x80",         "\xC1\xBF",         "\xE0\x80\x80",     "\xE0\x9F\xBF",
        "\xED\xA0\x80", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xFF",         "\xC3\x28",         "\xE2\x28\xA1",     "\xE2\x82\x28",     "\xF0\x9F\x99\x28"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char longer[8];
        int n = snprintf(longer, sizeof longer, "ab%s", bad[i]);
        assert_int_equal(sp_utf8_invalid(longer, (size_t)n), 2);
    }
    assert_int_equal(sp_utf8_invalid("a\xC3\xA9", 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_comes_back_as_it_was),
        cmocka_unit_test(same_picture_is_the_same_bytes),
        cmocka_unit_test(jpeg_has_its_text_after_the_jfif_segment),
        cmocka_unit_test(bad_pictures_are_arguments),
        cmocka_unit_test(full_device_is_an_output_error),
        cmocka_unit_test(every_kind_of_png_becomes_rgb),
        cmocka_unit_test(texts_come_in_utf8),
        cmocka_unit_test(malformed_pngs_are_refused),
        cmocka_unit_test(png_cut_or_changed_anywhere_is_refused),
        cmocka_unit_test(every_lost_allocation_is_reported),
        cmocka_unit_test(utf8_is_strict),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
