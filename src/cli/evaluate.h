#ifndef SP_EVALUATE_H
#define SP_EVALUATE_H
/* The drawing of an evaluation: groups of one picture with every setting, kept in a folder that can be resumed.
 *
 * settings.json says what the folder is of; journal.jsonl has a record a group (eval/evaluation.h); SETTING/ID.png are
 * the pictures. The settings of a group are drawn one after the other and then scored, so that noise of the machine
 * hits all of them and none is timed beside other work; with batches, those of several groups. A group that is not
 * whole is drawn again. */
#include "cli/progress.h"
#include "cli/settings.h"
#include "eval/features.h"
#include "eval/layout.h"
#include "eval/outcome.h"
#include "io/journal.h"
#include "io/prompts.h"

typedef struct sp_evaluate_drawn sp_evaluate_drawn;

typedef struct sp_evaluate {
    const sp_options *options;
    sp_settings settings;
    sp_prompts prompts;
    const char **ids, **texts; /* [n_prompts] owned arrays of borrowed texts */
    sp_engine *engine;
    sp_model_info info;
    sp_session **sessions;     /* [settings.count] one a method, so that --window auto learns from its own passes */
    sp_evaluation evaluation;
    json_t *head;              /* what the folder is of */
    sp_journal *journal;
    sp_progress_view view;
    sp_evaluate_drawn *drawn;  /* [info.batch_size, settings.count] of the groups in work */
    sp_request *requests;      /* [info.batch_size] of one setting of theirs */
    sp_features *features;     /* of --features; else NULL */
    sp_reference reference;    /* of --reference, by the tokenizer's encoder */
    sp_network network;        /* by the network of --features */
} sp_evaluate;

/* Reads prompts, opens the engine, checks every request. Close after a failure too. */
SP_CHECK sp_status sp_evaluate_open(sp_evaluate *run, const sp_options *options, sp_error *err);
void sp_evaluate_close(sp_evaluate *run);

/* Makes the folder or finds in it an evaluation of the same settings; else SP_EARG and nothing is changed. */
SP_CHECK sp_status sp_evaluate_enter(sp_evaluate *run, sp_error *err);

/* Draws the groups that are missing. SP_ECANCELLED after SIGINT or SIGTERM. */
SP_CHECK sp_status sp_evaluate_draw(sp_evaluate *run, sp_error *err);

/* --features: loads the network, so that one that cannot be used is told before anything is drawn. */
SP_CHECK sp_status sp_evaluate_load_features(sp_evaluate *run, sp_error *err);

/* Fills reference and network from the pictures drawn and the folder of --reference. */
SP_CHECK sp_status sp_evaluate_features(sp_evaluate *run, sp_error *err);

/* What results.json says of --features, new reference, NULL without it or when memory ran out. */
json_t *sp_evaluate_features_json(const sp_evaluate *run);

/* For layouts and the report; setting and layout are left to the caller. */
sp_layout_job sp_evaluate_job(const sp_evaluate *run);

#endif
