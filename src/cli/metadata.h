#ifndef SP_METADATA_H
#define SP_METADATA_H
/* What a picture carries: the text `parameters` that other programs read, and our JSON under `specular`.
 *
 * It holds what decides the pixels and nothing else, and is known before the picture is made. A method whose tokens are
 * identical to plain decoding is therefore written as ar, without window and start: pictures made by any of them, in
 * any number of runs and threads, are the same files byte for byte. */
#include <jansson.h>

#include "specular.h"

typedef struct sp_metadata {
    json_t *settings;       /* owned */
    char *json;             /* owned; settings on one line */
    char *parameters;       /* owned */
    char fingerprint[17];   /* 16 hexadecimal digits over json */
    sp_text_chunk chunk[2]; /* for sp_picture_write */
} sp_metadata;

/* The request must have passed sp_request_check. Free with sp_metadata_free, also after a failure. */
SP_CHECK sp_status sp_metadata_make(sp_metadata *out, const sp_engine *engine, const sp_request *request,
                                    sp_error *err);
void sp_metadata_free(sp_metadata *metadata);

/* Adds to an object what the request sets of the options that only this method of its and its like read; false when
 * memory ran out. */
bool sp_metadata_add_method(json_t *to, const sp_method *method, const sp_request *request);

/* Adds in how many passes a masked model draws; nothing for others. */
bool sp_metadata_add_passes(json_t *to, const sp_model_info *info, const sp_request *request);

/* The first option of a method's settings by its name and by its key in JSON, and what follows it; NULL when there is
 * none. size is that of name and of key. */
const char *sp_metadata_next_setting(const char *settings, char *name, char *key, size_t size);

/* The last part of the model's path. Free with free; NULL when memory ran out. */
char *sp_metadata_model_name(const sp_model_info *info);

/* The settings kept in a PNG. *out is a new reference. */
SP_CHECK sp_status sp_metadata_read(const char *path, json_t **out, sp_error *err);

#endif
