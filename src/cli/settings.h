#ifndef SP_SETTINGS_H
#define SP_SETTINGS_H
/* The settings that eval compares: each of --methods as the options say, then a setting for each value of --sweep.
 * Methods are those of the engine's kind of tokens. The first is ar. A sweep of a sampling option changes the law, so
 * it adds an ar with each value to compare with. Not to be copied or moved.
 *
 *     sp_settings settings;
 *     SP_TRY(sp_settings_make(&settings, options, engine, err));
 *     sp_request request = sp_settings_request(&settings, i, engine);
 *     sp_settings_free(&settings);  */
#include "cli/options.h"
#include "eval/evaluation.h"

enum { SP_MOST_SETTINGS = 64 };

typedef struct sp_settings {
    size_t count;
    sp_setting items[SP_MOST_SETTINGS];
    sp_options *options; /* [count] owned: those of the run with what a sweep sets; borrow texts of items and the run */
} sp_settings;

/* SP_EARG names the method, option or value that is not known. Free with sp_settings_free, also after a failure. */
SP_CHECK sp_status sp_settings_make(sp_settings *settings, const sp_options *options, const sp_engine *engine,
                                    sp_error *err);
void sp_settings_free(sp_settings *settings);

/* Prompt, seed, image and callbacks are left to the caller. */
sp_request sp_settings_request(const sp_settings *settings, size_t i, const sp_engine *engine);

/* What decides the result of each setting, as an array of objects; new reference, NULL when memory ran out. */
json_t *sp_settings_json(const sp_settings *settings);

#endif
