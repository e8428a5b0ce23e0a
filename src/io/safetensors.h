#ifndef SP_SAFETENSORS_H
#define SP_SAFETENSORS_H
/* One safetensors image: 8 bytes of little-endian header length, a JSON header, and the data it describes without
 * holes. What sp_tensors is made of; use io/tensors.h. */
#include <jansson.h>
#include <stdbool.h>

#include "base/file.h"
#include "io/tensors.h"

typedef struct sp_skipped {
    const char *name;  /* of a tensor whose dtype is not read; borrowed from the header */
    const char *dtype; /* static storage */
} sp_skipped;

typedef struct sp_shard {
    sp_map map;     /* empty when the image is borrowed */
    json_t *header; /* owns the names */
    size_t count;
    sp_tensor *tensors; /* [count] in the order of their data */
    size_t n_skipped;
    sp_skipped *skipped;
} sp_shard;

/* Fills *shard from data [size], borrowed until sp_shard_close, which is due after a failure too. */
SP_CHECK sp_status sp_shard_parse(sp_shard *shard, const char *name, const unsigned char *data, size_t size,
                                  sp_error *err);
bool sp_shard_has(const sp_shard *shard, const char *tensor);
void sp_shard_close(sp_shard *shard);

#endif
