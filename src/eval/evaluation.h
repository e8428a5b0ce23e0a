#ifndef SP_EVALUATION_H
#define SP_EVALUATION_H
/* What an evaluation measured: the same prompts and pictures drawn with every setting. A group is one picture of one
 * prompt with all settings, one after the other; the journal has a record a group, and everything here is made of
 * such records, read or just written.
 *
 *     sp_evaluation evaluation = {.n_settings = 2, ...};           // the sizes
 *     SP_TRY(sp_evaluation_open(&evaluation, err));
 *     for each record: SP_TRY(sp_evaluation_add(&evaluation, "journal.jsonl", record, err));
 *     if (!sp_evaluation_has(&evaluation, prompt, image)) ... draw the group, make its record, add it
 *     sp_evaluation_close(&evaluation);
 *
 * Record: {"prompt": number, "image": number, "settings": [{"file", "bytes", "nfe", "drafted", "accepted", "variation",
 * "latency_ms": {"total", "prefill", "decode", "vq"}, "histogram", "identical", "log_p", "tokens", "passes", "ranks",
 * "features"}, ...]}. */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "specular.h"

enum { SP_RANK_BINS = 1024, SP_SETTING_NAME = 128 };

typedef struct sp_setting {
    char name[SP_SETTING_NAME]; /* of its folder: "pathwise", "pathwise-window-16" */
    const char *method;         /* borrowed */
    sp_exactness exactness;
    const char *option;         /* borrowed; what a sweep set, "" for none */
    char value[32];
    size_t baseline;            /* the setting of plain decoding that it is compared with; that one is its own */
} sp_setting;

/* One picture with one setting. */
typedef struct sp_measurement {
    double nfe, drafted, accepted, total_ms, prefill_ms, decode_ms, vq_ms;
    double identical; /* tokens equal to those of the baseline */
    double log_p;     /* sum over the tokens */
    double variation; /* sum over the tokens of the rule's bound of the total variation; 0 unless relaxed */
    uint32_t histogram[SP_MAX_WINDOW + 1];
} sp_measurement;

typedef struct sp_evaluation {
    size_t n_settings, n_prompts, n_images; /* n_images a prompt */
    size_t n_tokens, n_features, n_shown; /* passes of image 0 are kept for the first n_shown prompts */
    size_t n_codes;       /* 0: tokens are continuous, and what is made of token ids or of their laws is left out */
    sp_setting *settings; /* [n_settings], set by open's caller afterwards; memory is the evaluation's */

    bool *done;                   /* [n_prompts, n_images] */
    sp_measurement *measurements; /* [n_settings, n_prompts, n_images] */
    float *features;              /* [n_settings, n_prompts, n_images, n_features] */
    uint64_t *codes;              /* [n_settings, n_codes] how often each was used */
    uint64_t *ranks;              /* [n_settings, SP_RANK_BINS] */
    int32_t *passes;              /* [n_settings, n_shown, n_tokens] */
    void *memory;                 /* owned */
} sp_evaluation;

SP_CHECK sp_status sp_evaluation_open(sp_evaluation *evaluation, sp_error *err);
void sp_evaluation_close(sp_evaluation *evaluation);

/* record is borrowed; name is for messages. SP_EFORMAT when it is not a record of this evaluation. A group that is
 * there already is left as it is. */
SP_CHECK sp_status sp_evaluation_add(sp_evaluation *evaluation, const char *name, const json_t *record, sp_error *err);

static inline bool sp_evaluation_has(const sp_evaluation *e, size_t prompt, size_t image)
{
    return e->done[prompt * e->n_images + image];
}

static inline const sp_measurement *sp_evaluation_at(const sp_evaluation *e, size_t setting, size_t prompt,
                                                     size_t image)
{
    return &e->measurements[(setting * e->n_prompts + prompt) * e->n_images + image];
}

/* One element of "settings" of a record; file is relative to the evaluation's folder. scores [n_tokens], not
 * read of continuous tokens, features [n_features]. New reference, NULL when memory ran out. */
json_t *sp_evaluation_element(const sp_evaluation *evaluation, const char *file, size_t bytes, const sp_result *result,
                              size_t identical, const sp_token_score *scores, const float *features);

#endif
