#ifndef SP_WORD_MODEL_H
#define SP_WORD_MODEL_H
/* The "model" of a tokenizer.json: one table of functions a kind, listed in tokenizers.def as SP_TOKENIZER(name). */
#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

/* Where ids go: the first capacity of them are kept, all are counted. */
typedef struct sp_ids {
    int32_t *ids;
    size_t capacity, count;
} sp_ids;

static inline void sp_ids_add(sp_ids *out, int32_t id)
{
    if (out->count < out->capacity) out->ids[out->count] = id;
    out->count++;
}

typedef struct sp_word_model {
    const char *type; /* of "model" */
    /* *model is owned by the caller, by close. json is borrowed during the call. */
    sp_status (*open)(void **model, const char *file, const json_t *json, sp_error *err);
    void (*close)(void *model);
    size_t (*vocab)(const void *model);                     /* one more than the largest id */
    int32_t (*find)(const json_t *json, const char *token); /* id of a token of the file, or -1 */
    sp_status (*encode)(const void *model, const char *word, size_t size, sp_ids *ids, sp_error *err);
} sp_word_model;

#define SP_TOKENIZER(name) extern const sp_word_model sp_word_model_##name;
#include "text/tokenizers.def"
#undef SP_TOKENIZER

#endif
