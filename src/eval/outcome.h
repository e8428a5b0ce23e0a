#ifndef SP_OUTCOME_H
#define SP_OUTCOME_H
/* The figures of an evaluation: one outcome a setting, and how they are written.
 *
 *     SP_TRY(sp_outcomes_make(&evaluation, &reference, &network, outcomes, err)); // outcomes [n_settings]
 *     SP_TRY(sp_outcomes_write_csv(&evaluation, outcomes, "results.csv", err));
 *     SP_TRY(sp_outcomes_write_json(&evaluation, outcomes, head, "results.json", err));  */
#include "eval/bootstrap.h"
#include "eval/evaluation.h"

/* outcome.def lists the figures: name of the column, its field, and what it is. */
typedef struct sp_outcome {
#define SP_FIGURE(name, digits, help) sp_interval name;
#include "eval/outcome.def"
#undef SP_FIGURE
    sp_interval histogram[SP_MAX_WINDOW + 1]; /* share of the passes that settled n tokens */
    size_t histogram_count;                   /* the last n that occurred + 1 */
} sp_outcome;

/* Features of a folder of pictures; count 0: none was given. */
typedef struct sp_reference {
    float *features; /* [count, n_features] owned, by sp_release */
    size_t count;
} sp_reference;

/* What another network than the tokenizer's encoder sees; n_features 0: none was given. */
typedef struct sp_network {
    size_t n_features;
    float *features;        /* [n_settings, n_prompts, n_images, n_features] owned, by sp_release */
    sp_reference reference; /* of n_features too */
} sp_network;

SP_CHECK sp_status sp_outcomes_make(const sp_evaluation *evaluation, const sp_reference *reference,
                                    const sp_network *network, sp_outcome *outcomes, sp_error *err);
SP_CHECK sp_status sp_outcomes_write_csv(const sp_evaluation *evaluation, const sp_outcome *outcomes, const char *path,
                                         sp_error *err);

/* head: an object with what was run, which gets the key "results"; borrowed. */
SP_CHECK sp_status sp_outcomes_write_json(const sp_evaluation *evaluation, const sp_outcome *outcomes,
                                          const json_t *head, const char *path, sp_error *err);

#endif
