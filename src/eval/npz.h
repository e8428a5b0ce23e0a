#ifndef SP_NPZ_H
#define SP_NPZ_H
/* An .npz with one array arr_0 of pictures, uint8 [n, height, width, 3]: what the evaluator of ADM (guided-diffusion)
 * reads, and numpy.load. Stored, not compressed, written as a stream, always with ZIP64 records, since 50,000 pictures
 * of 256 x 256 are 9.8 GB.
 *
 *     sp_npz npz;
 *     SP_TRY(sp_npz_open(&npz, "samples.npz", n, height, width, err));
 *     for each picture: SP_TRY(sp_npz_add(&npz, rgb, err));     // n times
 *     SP_TRY(sp_npz_commit(&npz, err));                         // or sp_npz_discard after a failure  */
#include <stdint.h>

#include "base/file.h"

typedef struct sp_npz {
    sp_writer writer;
    size_t count, height, width, added;
    uint32_t crc;   /* of the member so far */
    uint64_t bytes; /* of the member so far */
} sp_npz;

SP_CHECK sp_status sp_npz_open(sp_npz *npz, const char *path, size_t count, size_t height, size_t width, sp_error *err);
SP_CHECK sp_status sp_npz_add(sp_npz *npz, const uint8_t *rgb, sp_error *err);
SP_CHECK sp_status sp_npz_commit(sp_npz *npz, sp_error *err);
void sp_npz_discard(sp_npz *npz);

typedef struct sp_npz_shape {
    size_t count, height, width;
} sp_npz_shape;

/* Reads such a file from its central directory on, as zip readers do, and checks the sum of all its bytes.
 * SP_EFORMAT says what is wrong. */
SP_CHECK sp_status sp_npz_check(const char *path, sp_npz_shape *out, sp_error *err);

#endif
