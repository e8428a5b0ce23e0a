#ifndef SP_PLAN_H
#define SP_PLAN_H
/* Everything that a render run is to draw, before anything is drawn: one item a picture, or a line that cannot be.
 *
 *     sp_plan plan;
 *     SP_TRY(sp_plan_make(&plan, options, shard, engine, err));
 *     SP_TRY(sp_plan_compare(&plan, options, ledger, err));      // what is done already; conflicts are SP_EARG
 *     for (size_t i = 0; i < plan.count; i++) if (plan.items[i].state == SP_PLAN_DRAW) draw(&plan.items[i]);
 *     sp_plan_free(&plan);
 *
 * A line's seed is its own or the run's plus the number of lines above it, modulo 2^64; its pictures are images 0, 1
 * and so on under that seed. So neither --limit nor --only nor shards change a picture. */
#include "cli/options.h"
#include "cli/shard.h"
#include "io/prompts.h"
#include "specular.h"

typedef enum {
    SP_PLAN_DRAW,
    SP_PLAN_ADOPT, /* the picture is there, but a run was killed before its journal knew */
    SP_PLAN_DONE,
    SP_PLAN_FAILED
} sp_plan_state;

typedef struct sp_plan_item {
    sp_plan_state state;
    const sp_prompt *prompt; /* borrowed from prompts */
    sp_request request;      /* complete but for the progress call */
    char *file;              /* owned: <id>.png, or <id>-<image>.png when the line has several; NULL for a bad line */
    char *path;              /* owned: in the output folder */
    char *tokens;            /* owned: in the folder of --tokens, or NULL */
    char fingerprint[17];    /* of the settings */
    json_t *record;          /* owned: of the journal, NULL until there is one */
    char *error;             /* owned: why it cannot be drawn */
} sp_plan_item;

typedef struct sp_plan {
    sp_prompts prompts;
    size_t count;
    sp_plan_item *items;
    json_t *files; /* every file name of this shard, as the keys of an object */
} sp_plan;

/* Free with sp_plan_free, also after a failure. */
SP_CHECK sp_status sp_plan_make(sp_plan *plan, const sp_options *options, sp_run_shard shard, sp_engine *engine,
                                sp_error *err);

/* SP_EARG that names --force when a file is there that these settings did not make, unless --force was given. */
SP_CHECK sp_status sp_plan_compare(sp_plan *plan, const sp_options *options, const sp_engine *engine,
                                   const json_t *ledger, sp_error *err);

/* The item cannot be drawn because of message. */
SP_CHECK sp_status sp_plan_fail(sp_plan_item *item, const char *message, sp_error *err);
size_t sp_plan_number(const sp_plan *plan, sp_plan_state state);

/* Removes temporaries of this shard's files that a killed run left; only for the process that holds its journal. */
void sp_plan_sweep(const sp_plan *plan, const char *folder);
void sp_plan_free(sp_plan *plan);

#endif
