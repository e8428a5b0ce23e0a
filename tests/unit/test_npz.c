/* The .npz of pictures: written, read back, and refused when a byte is wrong. tests/cli has another reader for it. */
#include "support.h"

#include <unistd.h>

#include "base/file.h"
#include "eval/npz.h"

enum { COUNT = 3, HEIGHT = 5, WIDTH = 7, PICTURE = HEIGHT * WIDTH * 3 };

static char path[] = "/tmp/specular-npz-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return sp_test_file_make(path);
}

static int leave(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_npz(void)
{
    uint8_t rgb[PICTURE];
    sp_npz npz;
    SP_TEST_OK(sp_npz_open(&npz, path, COUNT, HEIGHT, WIDTH, err));
    for (size_t k = 0; k < COUNT; k++) {
        for (size_t i = 0; i < PICTURE; i++) rgb[i] = (uint8_t)(i * 31 + k * 7);
        SP_TEST_OK(sp_npz_add(&npz, rgb, err));
    }
    SP_TEST_OK(sp_npz_commit(&npz, err));
}

static void comes_back(void **state)
{
    (void)state;
    sp_npz_shape shape;
    sp_bytes bytes;
    write_npz();
    SP_TEST_OK(sp_npz_check(path, &shape, err));
    assert_int_equal(shape.count, COUNT);
    assert_int_equal(shape.height, HEIGHT);
    assert_int_equal(shape.width, WIDTH);
    SP_TEST_OK(sp_file_read(path, 1 << 20, &bytes, err));
    /* Local header, name, ZIP64 field, array header of 128 bytes: then the pixels. */
    size_t data = 30 + 9 + 20 + 128;
    assert_memory_equal(bytes.data + 30 + 9 + 20, "\x93NUMPY\x01\x00", 8);
    for (size_t k = 0; k < COUNT; k++)
        for (size_t i = 0; i < PICTURE; i++)
            assert_int_equal(bytes.data[data + k * PICTURE + i], (uint8_t)(i * 31 + k * 7));
    /* The sum after the data, for readers of streams, is that of the central directory, which sp_npz_check verifies. */
    const unsigned char *descriptor = bytes.data + data + COUNT * PICTURE, *central = descriptor + 24;
    assert_memory_equal(descriptor, "PK\x07\x08", 4);
    assert_memory_equal(central, "PK\x01\x02", 4);
    assert_memory_equal(descriptor + 4, central + 16, 4);
    sp_bytes_free(&bytes);
}

static void put(const sp_bytes *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Whatever byte of the pixels or of what leads to them is changed, and wherever the file is cut. Bytes that no reader
 * looks at may change: dates, versions, attributes, sizes that are given twice. */
static void damage_is_found(void **state)
{
    (void)state;
    sp_npz_shape shape;
    sp_bytes bytes;
    write_npz();
    SP_TEST_OK(sp_file_read(path, 1 << 20, &bytes, err));
    size_t member = 30 + 9 + 20, end = member + 128 + COUNT * PICTURE, found = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        bytes.data[i] ^= 0x55;
        put(&bytes, bytes.size);
        bytes.data[i] ^= 0x55;
        sp_error failure = {0};
        bool refused = sp_npz_check(path, &shape, &failure) == SP_EFORMAT;
        found += refused;
        if (i >= member && i < end && !refused) fail_msg("byte %zu of %zu is wrong and was not seen", i, bytes.size);
    }
    assert_true(found > end - member + 40);
    for (size_t size = 0; size < bytes.size; size += 13) {
        sp_error failure = {0};
        put(&bytes, size);
        assert_int_equal(sp_npz_check(path, &shape, &failure), SP_EFORMAT);
    }
    sp_bytes_free(&bytes);
}

static void too_few_pictures_are_refused(void **state)
{
    (void)state;
    uint8_t rgb[PICTURE] = {0};
    sp_npz npz;
    sp_error failure = {0};
    SP_TEST_OK(sp_npz_open(&npz, path, 2, HEIGHT, WIDTH, err));
    SP_TEST_OK(sp_npz_add(&npz, rgb, err));
    assert_int_equal(sp_npz_commit(&npz, &failure), SP_EBUG);
    failure = (sp_error){0};
    assert_int_equal(sp_npz_open(&npz, path, SIZE_MAX / 4, HEIGHT, WIDTH, &failure), SP_ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(too_few_pictures_are_refused),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
