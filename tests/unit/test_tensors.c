#include "support.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "io/tensors.h"

/* 8 bytes of length, header, n_data bytes that count up from 0. */
static size_t build(unsigned char *out, const char *header, size_t n_data)
{
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(length >> (8 * i));
    memcpy(out + 8, header, length);
    for (size_t i = 0; i < n_data; i++) out[8 + length + i] = (unsigned char)i;
    return 8 + length + n_data;
}

#define ENTRY(name, dtype, shape, begin, end)                                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"
#define A ENTRY("a", "F32", "[2]", 0, 8)

static void assert_refused(sp_status status, const sp_error *error, sp_status expected, const char *part)
{
    assert_int_equal(status, expected);
    assert_int_equal(error->status, expected);
    if (!strstr(error->message, part)) fail_msg("'%s' is not in '%s'", part, error->message);
    assert_null(strchr(error->message, '\n'));
}

static void good_image_is_read(void **state)
{
    (void)state;
    unsigned char image[1024];
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\"}," ENTRY("b.weight", "BF16", "[2,3]", 8, 20) "," A "," ENTRY(
            "ids", "I64", "[1]", 20, 28) "," ENTRY("none", "F16", "[0,5]", 20, 20) "," ENTRY("scalar", "F16", "[]", 28,
                                                                                             30) "}   ";
    size_t size = build(image, header, 30);
    sp_tensors *tensors;
    SP_TEST_OK(sp_tensors_parse(&tensors, "t", image, size, err));
    assert_int_equal(sp_tensors_count(tensors), 4);
    const char *names[] = {"a", "b.weight", "none", "scalar"};
    for (size_t i = 0; i < 4; i++) assert_string_equal(sp_tensors_at(tensors, i)->name, names[i]);
    const sp_tensor *b;
    SP_TEST_OK(sp_tensors_get(tensors, "b.weight", SP_SHAPE2(2, 3), &b, err));
    assert_int_equal(b->dtype, SP_BF16);
    assert_int_equal(b->count, 6);
    assert_ptr_equal(b->data, image + size - 30 + 8);
    assert_ptr_equal(sp_tensors_find(tensors, "b.weight"), b);
    assert_null(sp_tensors_find(tensors, "ids"));
    assert_int_equal(sp_tensors_find(tensors, "scalar")->rank, 0);
    assert_int_equal(sp_tensors_find(tensors, "scalar")->count, 1);
    assert_int_equal(sp_tensors_find(tensors, "none")->count, 0);
    assert_string_equal(sp_tensors_path(tensors), "t");

    const struct {
        const char *name, *part;
        sp_shape shape;
    } wrong[] = {
        {"b.wieght", "nearest of its 4 names is 'b.weight'", SP_SHAPE2(2, 3)},
        {"b.weight", "is [2, 3], expected [3, 2]", SP_SHAPE2(3, 2)},
        {"b.weight", "is [2, 3], expected [6]", SP_SHAPE1(6)},
        {"ids", "is I64, expected F32, BF16 or F16", SP_SHAPE1(1)},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        sp_error error = {0};
        assert_refused(sp_tensors_get(tensors, wrong[i].name, wrong[i].shape, &b, &error), &error, SP_EFORMAT,
                       wrong[i].part);
        assert_null(b);
    }
    sp_tensors_close(tensors);
    sp_tensors_close(NULL);
}

/* One malformation a line; %data is how many bytes follow the header. */
static const struct {
    const char *header;
    size_t n_data;
    const char *part;
} malformed[] = {
    {"", 0, "does not start with '{'"},
    {" {" A "}", 8, "does not start with '{'"},
    {"[1]", 0, "does not start with '{'"},
    {"{" A, 8, "not valid JSON"},
    {"{" A "} {}", 8, "not valid JSON"},
    {"{" A "," A "}", 8, "duplicate"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "duplicate"},
    {"{\"\xFF\":1}", 0, "not valid JSON"},
    {"{\"a\\u0000b\":1}", 0, "not valid JSON"},
    {"{\"__metadata__\":1}", 0, "not an object of strings"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "is not a string"},
    {"{\"a\":1}", 0, "is not an object of dtype"},
    {"{\"a\":[]}", 0, "is not an object of dtype"},
    {"{\"a\":{}}", 0, "is not an object of dtype"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "is not an object of dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "is not an object of dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "is not an object of dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1}}", 8, "is not an object of dtype"},
    {"{\"a\":{\"dtype\":3,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "is not an object of dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "shape is not an array"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":{\"0\":2},\"data_offsets\":[0,8]}}", 8, "shape is not an array"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":8}}", 8, "is not an object of dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "is not an object of dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4,8]}}", 8, "is not an object of dtype"},
    {"{" ENTRY("a", "F33", "[2]", 0, 8) "}", 8, "dtype 'F33' is not one of the format"},
    {"{" ENTRY("a", "f32", "[2]", 0, 8) "}", 8, "dtype 'f32' is not one of the format"},
    {"{" ENTRY("a", "F32", "[-2]", 0, 8) "}", 8, "something else than integers"},
    {"{" ENTRY("a", "F32", "[2.0]", 0, 8) "}", 8, "something else than integers"},
    {"{" ENTRY("a", "F32", "[\"2\"]", 0, 8) "}", 8, "something else than integers"},
    {"{" ENTRY("a", "F32", "[null]", 0, 8) "}", 8, "something else than integers"},
    {"{" ENTRY("a", "F32", "[99999999999999999999]", 0, 8) "}", 8, "not valid JSON"},
    {"{" ENTRY("a", "F32", "[4294967296,4294967296]", 0, 0) "}", 0, "product of its shape overflows"},
    {"{" ENTRY("a", "F32", "[2305843009213693952]", 0, 0) "}", 0, "product of its shape overflows"},
    {"{" ENTRY("a", "F32", "[2]", -8, 0) "}", 8, "something else than integers"},
    {"{" ENTRY("a", "F32", "[2]", 0, 8.0) "}", 8, "something else than integers"},
    {"{" ENTRY("a", "F32", "[2]", 8, 0) "}", 8, "begin at 8 and end at 0"},
    {"{" ENTRY("a", "F32", "[2]", 0, 9223372036854775807) "}", 8, "but the file has 8"},
    {"{" ENTRY("a", "F32", "[2]", 0, 8) "}", 7, "but the file has 7"},
    {"{" ENTRY("a", "F32", "[2]", 0, 4) "}", 4, "has 4 bytes, its shape and dtype need 8"},
    {"{" ENTRY("a", "F32", "[1]", 0, 8) "}", 8, "has 8 bytes, its shape and dtype need 4"},
    {"{" ENTRY("a", "BF16", "[2]", 0, 8) "}", 8, "has 8 bytes, its shape and dtype need 4"},
    {"{" ENTRY("a", "F4", "[3]", 0, 2) "}", 2, "do not fill whole bytes"},
    {"{" A "}", 9, "1 bytes after the last tensor"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"{" ENTRY("a", "F32", "[2]", 4, 12) "}", 12, "(a hole)"},
    {"{" A "," ENTRY("b", "F32", "[1]", 12, 16) "}", 16, "(a hole)"},
    {"{" A "," ENTRY("b", "F32", "[1]", 4, 8) "}", 8, "(an overlap)"},
    {"{" A "," ENTRY("b", "F32", "[2]", 0, 8) "}", 8, "(an overlap)"},
    {"{" A "," ENTRY("b", "I32", "[2]", 4, 12) "}", 12, "(an overlap)"},
};

static void malformed_images_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        unsigned char *image = malloc(8 + strlen(malformed[i].header) + malformed[i].n_data);
        size_t size = build(image, malformed[i].header, malformed[i].n_data);
        sp_tensors *tensors = (void *)image;
        sp_error error = {0};
        sp_status status = sp_tensors_parse(&tensors, "bad.safetensors", image, size, &error);
        assert_refused(status, &error, SP_EFORMAT, malformed[i].part);
        assert_non_null(strstr(error.message, "bad.safetensors"));
        assert_null(tensors);
        free(image);
    }
}

static void too_many_dimensions_are_unsupported(void **state)
{
    (void)state;
    unsigned char image[256];
    sp_tensors *tensors;
    size_t size = build(image, "{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,2]", 0, 8) "}", 8);
    SP_TEST_OK(sp_tensors_parse(&tensors, "t", image, size, err));
    assert_int_equal(sp_tensors_at(tensors, 0)->rank, 8);
    sp_tensors_close(tensors);
    size = build(image, "{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,2]", 0, 8) "}", 8);
    sp_error error = {0};
    assert_refused(sp_tensors_parse(&tensors, "t", image, size, &error), &error, SP_EUNSUPPORTED, "9 dimensions");
}

static void lengths_of_the_header_are_checked(void **state)
{
    (void)state;
    const struct {
        const char *bytes;
        size_t size;
        const char *part;
    } cases[] = {
        {"", 0, "has 0 bytes"},
        {"\1\0\0\0\0\0\0", 7, "has 7 bytes"},
        {"\0\0\0\0\0\0\0\0", 8, "does not start with '{'"},
        {"\2\0\0\0\0\0\0\0", 8, "header of 2 bytes, but 0 follow"},
        {"\3\0\0\0\0\0\0\0{}", 10, "header of 3 bytes, but 2 follow"},
        {"\0\0\0\0\0\0\0\x80{}", 10, "header of 9223372036854775808 bytes"},
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10, "header of 18446744073709551615 bytes"},
        {"\x01\xE1\xF5\x05\0\0\0\0{}", 10, "header of 100000001 bytes, expected at most 100000000"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 63, "git-lfs pointer"},
        {"PK\3\4archive/data.pkl", 20, "zip archive"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_tensors *tensors;
        sp_error error = {0};
        sp_status status = sp_tensors_parse(&tensors, "t", cases[i].bytes, cases[i].size, &error);
        assert_refused(status, &error, SP_EFORMAT, cases[i].part);
    }
    sp_tensors *tensors;
    SP_TEST_OK(sp_tensors_parse(&tensors, "t", "\2\0\0\0\0\0\0\0{}", 10, err));
    assert_int_equal(sp_tensors_count(tensors), 0);
    assert_null(sp_tensors_find(tensors, "a"));
    sp_tensors_close(tensors);
}

static void image_cut_anywhere_is_refused(void **state)
{
    (void)state;
    unsigned char image[1024];
    size_t size = build(image, "{" A "," ENTRY("b.weight", "BF16", "[2,50]", 8, 208) "}", 208);
    for (size_t length = 0; length < size; length++) {
        unsigned char *cut = malloc(length ? length : 1);
        memcpy(cut, image, length);
        sp_tensors *tensors;
        sp_error error = {0};
        assert_int_equal(sp_tensors_parse(&tensors, "t", cut, length, &error), SP_EFORMAT);
        assert_true(error.message[0] != 0);
        free(cut);
    }
}

/* The only dtype names and sizes of the format: a tensor of 24 values of each. */
static void every_dtype_of_the_format_is_known(void **state)
{
    (void)state;
    const struct {
        const char *name;
        size_t bits;
    } types[] = {{"BOOL", 8}, {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                 {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},
                 {"U16", 16}, {"F16", 16},    {"BF16", 16},   {"I32", 32},    {"U32", 32},
                 {"F32", 32}, {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char header[160];
        unsigned char image[512];
        size_t bytes = 24 * types[i].bits / 8;
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[24],\"data_offsets\":[0,%zu]}}",
                 types[i].name, bytes);
        size_t size = build(image, header, bytes);
        sp_tensors *tensors;
        SP_TEST_OK(sp_tensors_parse(&tensors, "t", image, size, err));
        sp_tensors_close(tensors);
    }
}

static sp_tensor tensor_of(sp_dtype dtype, const void *data, size_t count)
{
    return (sp_tensor){.name = "w", .dtype = dtype, .rank = 1, .shape = {count}, .count = count, .data = data};
}

static void values_become_floats(void **state)
{
    (void)state;
    /* Odd addresses: data is aligned or not. */
    unsigned char bytes[33];
    const float single[4] = {1.5f, -0.0f, 1e-40f, -3e38f};
    float out[4];
    memcpy(bytes + 1, single, sizeof single);
    sp_tensor tensor = tensor_of(SP_F32, bytes + 1, 4);
    SP_TEST_OK(sp_tensor_floats(&tensor, out, err));
    assert_memory_equal(out, single, sizeof single);
    SP_TEST_OK(sp_tensor_finite(&tensor, err));

    const uint16_t bf16[4] = {0x3FC0, 0x8000, 0x0001, 0xFF7F}; /* 1.5, -0, 2^-133, the least */
    const float bf16_values[4] = {1.5f, -0.0f, 0x1p-133f, -0x1.FEp127f};
    memcpy(bytes + 1, bf16, sizeof bf16);
    tensor = tensor_of(SP_BF16, bytes + 1, 4);
    SP_TEST_OK(sp_tensor_floats(&tensor, out, err));
    assert_memory_equal(out, bf16_values, sizeof out);

    const uint16_t f16[4] = {0x3E00, 0x8000, 0x8001, 0x7BFF}; /* 1.5, -0, -2^-24, 65504 */
    const float f16_values[4] = {1.5f, -0.0f, -0x1p-24f, 65504.0f};
    memcpy(bytes + 1, f16, sizeof f16);
    tensor = tensor_of(SP_F16, bytes + 1, 4);
    SP_TEST_OK(sp_tensor_floats(&tensor, out, err));
    assert_memory_equal(out, f16_values, sizeof out);
    SP_TEST_OK(sp_tensor_finite(&tensor, err));
}

static void values_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    const struct {
        sp_dtype dtype;
        uint32_t bits;
        const char *part;
    } cases[] = {
        {SP_F32, 0x7FC00000, "NaN"},  {SP_F32, 0x7F800001, "NaN"},   {SP_F32, 0xFF800000, "infinite"},
        {SP_BF16, 0x7FC0, "NaN"},     {SP_BF16, 0xFF80, "infinite"}, {SP_F16, 0x7C01, "NaN"},
        {SP_F16, 0x7C00, "infinite"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t width = cases[i].dtype == SP_F32 ? 4 : 2;
        unsigned char bytes[40] = {0};
        float out[10];
        memcpy(bytes + 7 * width, &cases[i].bits, width);
        sp_tensor tensor = tensor_of(cases[i].dtype, bytes, 10);
        sp_error error = {0};
        assert_refused(sp_tensor_floats(&tensor, out, &error), &error, SP_EFORMAT, cases[i].part);
        assert_non_null(strstr(error.message, "'w': value 7 of 10"));
        error = (sp_error){0};
        assert_refused(sp_tensor_finite(&tensor, &error), &error, SP_EFORMAT, cases[i].part);
    }
}

/* A million distinct offsets would show a quadratic check; the count is kept small for the sanitizers. */
static void many_tensors_are_no_problem(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    char *header = malloc((size_t)COUNT * 100);
    size_t used = 0;
    for (size_t i = 0; i < COUNT; i++) {
        size_t at = (i * 7919) % COUNT; /* in no order */
        used += (size_t)sprintf(header + used, "%c\"t%zu\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
                                i ? ',' : '{', at, at, at + 1);
    }
    strcpy(header + used, "}");
    unsigned char *image = malloc(used + COUNT + 16);
    size_t size = build(image, header, COUNT);
    sp_tensors *tensors;
    SP_TEST_OK(sp_tensors_parse(&tensors, "t", image, size, err));
    sp_tensors_close(tensors);
    free(image);
    free(header);
}

static char folder[] = "/tmp/specular-tensors-XXXXXX";
static char path[256];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text)
{
    SP_TEST_OK(sp_file_write(in_folder(name), text, strlen(text), err));
}

static void put_image(const char *name, const char *header, size_t n_data)
{
    unsigned char image[1024];
    size_t size = build(image, header, n_data);
    SP_TEST_OK(sp_file_write(in_folder(name), image, size, err));
}

static const char *const made[] = {"one.safetensors", "two.safetensors", "model.safetensors",
                                   "model.safetensors.index.json"};

static int enter(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) unlink(in_folder(made[i]));
    return rmdir(folder);
}

static void shards_are_one_list(void **state)
{
    (void)state;
    put_image("one.safetensors", "{" A "," ENTRY("d", "F32", "[1]", 8, 12) "}", 12);
    put_image("two.safetensors", "{" ENTRY("b", "F16", "[4]", 0, 8) "," ENTRY("c", "I8", "[1]", 8, 9) "}", 9);
    put("model.safetensors.index.json",
        "{\"metadata\":{\"total_size\":20},\"weight_map\":{\"a\":\"one.safetensors\","
        "\"b\":\"two.safetensors\",\"c\":\"two.safetensors\",\"d\":\"one.safetensors\"}}");
    char index[256];
    snprintf(index, sizeof index, "%s", path);
    const char *const names[] = {index, folder};
    for (size_t i = 0; i < 2; i++) {
        sp_tensors *tensors;
        SP_TEST_OK(sp_tensors_open(&tensors, names[i], err));
        assert_int_equal(sp_tensors_count(tensors), 3);
        assert_string_equal(sp_tensors_at(tensors, 1)->name, "b");
        float d;
        SP_TEST_OK(sp_tensor_floats(sp_tensors_find(tensors, "d"), &d, err));
        unsigned char expected[4] = {8, 9, 10, 11};
        assert_memory_equal(&d, expected, 4);
        sp_tensors_close(tensors);
    }
    /* A single file stands before shards. */
    put_image("model.safetensors", "{" A "}", 8);
    sp_tensors *tensors;
    SP_TEST_OK(sp_tensors_open(&tensors, folder, err));
    assert_int_equal(sp_tensors_count(tensors), 1);
    sp_tensors_close(tensors);
    SP_TEST_OK(sp_tensors_open(&tensors, in_folder("model.safetensors"), err));
    sp_tensors_close(tensors);
    unlink(in_folder("model.safetensors"));
}

static void bad_indexes_are_refused(void **state)
{
    (void)state;
    put_image("one.safetensors", "{" A "}", 8);
    put_image("two.safetensors", "{" ENTRY("a", "F16", "[4]", 0, 8) "," ENTRY("b", "I8", "[1]", 8, 9) "}", 9);
    const struct {
        const char *index, *part;
    } cases[] = {
        {"", "not valid JSON"},
        {"[]", "'weight_map' is absent or empty"},
        {"{}", "'weight_map' is absent or empty"},
        {"{\"weight_map\":[\"one.safetensors\"]}", "'weight_map' is absent or empty"},
        {"{\"weight_map\":{}}", "'weight_map' is absent or empty"},
        {"{\"weight_map\":{\"a\":1}}", "shard of 'a' is not a string"},
        {"{\"weight_map\":{\"a\":\"\"}}", "is not the name of a file beside the index"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "is not the name of a file beside the index"},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "is not the name of a file beside the index"},
        {"{\"weight_map\":{\"a\":\"/one.safetensors\"}}", "is not the name of a file beside the index"},
        {"{\"weight_map\":{\"a\":\"x/one.safetensors\"}}", "is not the name of a file beside the index"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}", "duplicate"},
        {"{\"weight_map\":{\"a\":\"three.safetensors\"}}", "three.safetensors: cannot be opened"},
        {"{\"weight_map\":{\"x\":\"one.safetensors\"}}", "'x' is not in its shard 'one.safetensors'"},
        {"{\"weight_map\":{\"__metadata__\":\"one.safetensors\"}}", "is not in its shard"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}", "'a' is in two shards"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put("model.safetensors.index.json", cases[i].index);
        sp_tensors *tensors;
        sp_error error = {0};
        assert_refused(sp_tensors_open(&tensors, path, &error), &error, SP_EFORMAT, cases[i].part);
        assert_null(tensors);
    }
    /* The same name twice where one of the dtypes, or both, are not read. */
    for (int i = 0; i < 2; i++) {
        put_image("one.safetensors", i ? "{" ENTRY("a", "I8", "[1]", 0, 1) "}" : "{" ENTRY("b", "I8", "[1]", 0, 1) "}",
                  1);
        put("model.safetensors.index.json",
            i ? "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}"
              : "{\"weight_map\":{\"b\":\"one.safetensors\",\"a\":\"two.safetensors\"}}");
        sp_tensors *tensors;
        sp_error error = {0};
        assert_refused(sp_tensors_open(&tensors, path, &error), &error, SP_EFORMAT, "is in two shards");
    }
}

static void missing_files_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) unlink(in_folder(made[i]));
    const struct {
        const char *name, *part;
    } cases[] = {
        {"", "has neither model.safetensors nor"},
        {"x.safetensors", "x.safetensors: cannot be opened: No such file"},
        {"x.safetensors.index.json", "x.safetensors.index.json: cannot be opened"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_tensors *tensors;
        sp_error error = {0};
        assert_refused(sp_tensors_open(&tensors, in_folder(cases[i].name), &error), &error, SP_EFORMAT, cases[i].part);
    }
}

static void every_lost_allocation_is_reported(void **state)
{
    (void)state;
    put_image("one.safetensors", "{" A "}", 8);
    put("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"one.safetensors\"}}");
    sp_status status = SP_ENOMEM;
    for (size_t n = 0; status != SP_OK; n++) {
        assert_true(n < 100);
        sp_test_allow_allocations(n);
        sp_tensors *tensors;
        sp_error error = {0};
        status = sp_tensors_open(&tensors, folder, &error);
        sp_alloc_hook(NULL);
        assert_true(status == SP_OK ? n > 5 : status == SP_ENOMEM);
        assert_int_equal(error.status, status);
        sp_tensors_close(tensors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_image_is_read),
        cmocka_unit_test(malformed_images_are_refused),
        cmocka_unit_test(too_many_dimensions_are_unsupported),
        cmocka_unit_test(lengths_of_the_header_are_checked),
        cmocka_unit_test(image_cut_anywhere_is_refused),
        cmocka_unit_test(every_dtype_of_the_format_is_known),
        cmocka_unit_test(values_become_floats),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(many_tensors_are_no_problem),
        cmocka_unit_test(shards_are_one_list),
        cmocka_unit_test(bad_indexes_are_refused),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(every_lost_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
