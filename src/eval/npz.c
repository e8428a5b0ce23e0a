#include "eval/npz.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/size.h"

/* PKWARE APPNOTE 6.3: numbers are little-endian; fields of 0xFFFFFFFF have their value in the ZIP64 extra field. */
enum {
    LOCAL = 0x04034b50, CENTRAL = 0x02014b50, DESCRIPTOR = 0x08074b50, END = 0x06054b50, END64 = 0x06064b50,
    LOCATOR = 0x07064b50, VERSION = 45, SIZES_FOLLOW = 8, DATE = 0x21 /* 1 January 1980: same pictures, same file */
};
static const char member[] = "arr_0.npy";
enum { NAME = sizeof member - 1, LOCAL_SIZE = 30 + NAME + 20, CENTRAL_SIZE = 46 + NAME + 20, END_SIZE = 56 + 20 + 22 };

typedef struct bytes {
    unsigned char data[256];
    size_t size;
} bytes;

static void put(bytes *to, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) to->data[to->size++] = (unsigned char)(value >> 8 * i & 255);
}

static void put_name(bytes *to)
{
    memcpy(to->data + to->size, member, NAME);
    to->size += NAME;
}

static sp_status write_member(sp_npz *npz, const void *data, size_t size, sp_error *err)
{
    SP_TRY(sp_writer_write(&npz->writer, data, size, err));
    npz->crc = (uint32_t)crc32_z(npz->crc, data, size);
    npz->bytes += size;
    return SP_OK;
}

/* Version 1.0 of the NPY format: magic, length, a Python literal padded with blanks to a multiple of 64 bytes. */
static sp_status write_array_header(sp_npz *npz, sp_error *err)
{
    char text[128];
    memset(text, ' ', sizeof text);
    memcpy(text, "\x93NUMPY\x01\x00\x76\x00", 10);
    int length = snprintf(text + 10, sizeof text - 10,
                          "{'descr': '|u1', 'fortran_order': False, 'shape': (%zu, %zu, %zu, 3), }", npz->count,
                          npz->height, npz->width);
    text[10 + length] = ' ';
    text[sizeof text - 1] = '\n';
    return write_member(npz, text, sizeof text, err);
}

sp_status sp_npz_open(sp_npz *npz, const char *path, size_t count, size_t height, size_t width, sp_error *err)
{
    size_t total;
    *npz = (sp_npz){.count = count, .height = height, .width = width};
    SP_TRY(sp_size_product(&total, err, "npz", count, height, width, 3));
    SP_TRY(sp_writer_open(&npz->writer, path, err));
    bytes head = {.size = 0};
    put(&head, LOCAL, 4);
    put(&head, VERSION, 2);
    put(&head, SIZES_FOLLOW, 2);
    put(&head, 0, 4); /* stored, time */
    put(&head, DATE, 2);
    put(&head, 0, 4); /* the sum follows the data */
    put(&head, 0xFFFFFFFFu, 4);
    put(&head, 0xFFFFFFFFu, 4);
    put(&head, NAME, 2);
    put(&head, 20, 2);
    put_name(&head);
    put(&head, 1, 2);
    put(&head, 16, 2);
    put(&head, 0, 8);
    put(&head, 0, 8);
    sp_status status = sp_writer_write(&npz->writer, head.data, head.size, err);
    if (status == SP_OK) status = write_array_header(npz, err);
    if (status != SP_OK) sp_npz_discard(npz);
    return status;
}

sp_status sp_npz_add(sp_npz *npz, const uint8_t *rgb, sp_error *err)
{
    npz->added++;
    return write_member(npz, rgb, npz->height * npz->width * 3, err);
}

static void put_central(const sp_npz *npz, bytes *to)
{
    put(to, CENTRAL, 4);
    put(to, VERSION, 2);
    put(to, VERSION, 2);
    put(to, SIZES_FOLLOW, 2);
    put(to, 0, 4);
    put(to, DATE, 2);
    put(to, npz->crc, 4);
    put(to, 0xFFFFFFFFu, 4);
    put(to, 0xFFFFFFFFu, 4);
    put(to, NAME, 2);
    put(to, 20, 2);
    put(to, 0, 6);       /* comment, disk, internal attributes */
    put(to, 0, 8);       /* external attributes, offset of the local header */
    put_name(to);
    put(to, 1, 2);
    put(to, 16, 2);
    put(to, npz->bytes, 8);
    put(to, npz->bytes, 8);
}

static void put_ends(const sp_npz *npz, bytes *to)
{
    uint64_t central = LOCAL_SIZE + npz->bytes + 24, end = central + CENTRAL_SIZE;
    put(to, END64, 4);
    put(to, 44, 8);
    put(to, VERSION, 2);
    put(to, VERSION, 2);
    put(to, 0, 8);
    put(to, 1, 8);
    put(to, 1, 8);
    put(to, CENTRAL_SIZE, 8);
    put(to, central, 8);
    put(to, LOCATOR, 4);
    put(to, 0, 4);
    put(to, end, 8);
    put(to, 1, 4);
    put(to, END, 4);
    put(to, 0, 4);
    put(to, 1, 2);
    put(to, 1, 2);
    put(to, CENTRAL_SIZE, 4);
    put(to, 0xFFFFFFFFu, 4);
    put(to, 0, 2);
}

sp_status sp_npz_commit(sp_npz *npz, sp_error *err)
{
    sp_status status = SP_OK;
    bytes tail = {.size = 0};
    if (npz->added != npz->count)
        status = SP_FAIL(err, SP_EBUG, "npz: %zu of %zu pictures were added", npz->added, npz->count);
    put(&tail, DESCRIPTOR, 4);
    put(&tail, npz->crc, 4);
    put(&tail, npz->bytes, 8);
    put(&tail, npz->bytes, 8);
    put_central(npz, &tail);
    if (status == SP_OK) status = sp_writer_write(&npz->writer, tail.data, tail.size, err);
    tail.size = 0;
    put_ends(npz, &tail);
    if (status == SP_OK) status = sp_writer_write(&npz->writer, tail.data, tail.size, err);
    if (status == SP_OK) return sp_writer_commit(&npz->writer, err);
    sp_npz_discard(npz);
    return status;
}

void sp_npz_discard(sp_npz *npz) { sp_writer_discard(&npz->writer); }

static uint64_t get(const unsigned char *from, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) value |= (uint64_t)from[i] << 8 * i;
    return value;
}

static sp_status bad(const char *path, const char *what, sp_error *err)
{
    return SP_FAIL(err, SP_EFORMAT, "%s: %s: expected a zip of one stored array arr_0; write the layout again", path,
                   what);
}

/* Where the array is: from the end of the file to the central directory to the member. */
static sp_status find_member(const char *path, const sp_map *map, const unsigned char **data, uint64_t *size,
                             sp_error *err)
{
    if (map->size < LOCAL_SIZE + CENTRAL_SIZE + END_SIZE) return bad(path, "too short", err);
    const unsigned char *end = map->data + map->size - 22, *locator = end - 20;
    if (get(end, 4) != END || get(locator, 4) != LOCATOR) return bad(path, "no end record", err);
    uint64_t at = get(locator + 8, 8);
    if (at > map->size - END_SIZE || get(map->data + at, 4) != END64) return bad(path, "no ZIP64 end record", err);
    uint64_t count = get(map->data + at + 32, 8), central = get(map->data + at + 48, 8);
    if (count != 1 || central > map->size - CENTRAL_SIZE - END_SIZE) return bad(path, "not one member", err);
    const unsigned char *entry = map->data + central, *extra = entry + 46 + NAME;
    if (get(entry, 4) != CENTRAL || get(entry + 28, 2) != NAME || memcmp(entry + 46, member, NAME) != 0)
        return bad(path, "no member arr_0.npy", err);
    if (get(entry + 10, 2) != 0) return bad(path, "compressed", err);
    if (get(extra, 2) != 1 || get(extra + 2, 2) != 16) return bad(path, "no ZIP64 sizes", err);
    *size = get(extra + 4, 8);
    const unsigned char *local = map->data + get(entry + 42, 4);
    if (local > entry - LOCAL_SIZE || get(local, 4) != LOCAL) return bad(path, "no local header", err);
    *data = local + 30 + get(local + 26, 2) + get(local + 28, 2);
    if (*data > entry || *size > (uint64_t)(entry - *data)) return bad(path, "cut short", err);
    uint32_t crc = (uint32_t)crc32_z(0, *data, *size);
    return crc == get(entry + 16, 4) ? SP_OK : bad(path, "damaged: its sum is wrong", err);
}

static sp_status read_array(const char *path, const unsigned char *data, uint64_t size, sp_npz_shape *out,
                            sp_error *err)
{
    char text[256];
    unsigned long long n = 0, height = 0, width = 0;
    size_t total = 0;
    if (size < 10 || memcmp(data, "\x93NUMPY\x01\x00", 8) != 0) return bad(path, "no array of NPY version 1", err);
    size_t length = (size_t)get(data + 8, 2);
    if (length >= sizeof text || length > size - 10) return bad(path, "a header of another array", err);
    memcpy(text, data + 10, length);
    text[length] = 0;
    if (sscanf(text, "{'descr': '|u1', 'fortran_order': False, 'shape': (%llu, %llu, %llu, 3)", &n, &height,
               &width) != 3)
        return bad(path, "not uint8 pictures of three channels", err);
    *out = (sp_npz_shape){(size_t)n, (size_t)height, (size_t)width};
    SP_TRY(sp_size_product(&total, err, path, out->count, out->height, out->width, 3));
    return total == size - 10 - length ? SP_OK : bad(path, "fewer bytes than its shape says", err);
}

sp_status sp_npz_check(const char *path, sp_npz_shape *out, sp_error *err)
{
    sp_map map;
    const unsigned char *data = NULL;
    uint64_t size = 0;
    SP_TRY(sp_map_open(path, &map, err));
    sp_status status = find_member(path, &map, &data, &size, err);
    if (status == SP_OK) status = read_array(path, data, size, out, err);
    sp_map_close(&map);
    return status;
}
