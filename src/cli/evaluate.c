#include "cli/evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/metadata.h"
#include "cli/number.h"
#include "cli/setup.h"
#include "eval/text.h"
#include "io/json.h"

/* Prompts whose pictures the report shows, and how many pictures it holds at most. */
enum { MOST_SHOWN = 8, MOST_PICTURES_SHOWN = 160 };

static sp_status no_memory(sp_error *err) { return SP_FAIL(err, SP_ENOMEM, "no memory for the evaluation; free some"); }

static sp_status refuse_line(const sp_evaluate *run, const sp_prompt *line, const char *why, sp_error *err)
{
    return SP_FAIL(err, SP_EFORMAT, "%s: line %zu: %s; nothing was drawn", run->options->prompt_file, line->line, why);
}

/* A line of its own settings would not be the same for every method. */
static sp_status check_line(const sp_evaluate *run, const sp_prompt *line, sp_error *err)
{
    if (line->error != NULL) return refuse_line(run, line, line->error, err);
    if (line->method != NULL || line->draft_init != NULL || (line->has & ~(unsigned)SP_PROMPT_SEED) != 0)
        return refuse_line(run, line, "expected id, prompt and seed only: eval takes settings from its options", err);
    sp_error found = {0};
    sp_request request = sp_settings_request(&run->settings, 0, run->engine);
    request.prompt = line->prompt;
    size_t tokens;
    sp_status status = sp_request_check(run->engine, &request, &found);
    if (status == SP_OK) status = sp_prompt_tokens(run->engine, line->prompt, &tokens, &found);
    return status == SP_OK ? SP_OK : refuse_line(run, line, found.message, err);
}

static sp_status read_prompts(sp_evaluate *run, size_t *count, sp_error *err)
{
    const sp_options *options = run->options;
    SP_TRY(sp_prompts_read(&run->prompts, options->prompt_file, err));
    *count = run->prompts.count;
    if (options->given[SP_OPTION_limit] && (size_t)options->limit < *count) *count = (size_t)options->limit;
    if (*count == 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: no prompts; give a line at least", options->prompt_file);
    run->ids = calloc(*count, sizeof *run->ids);
    run->texts = calloc(*count, sizeof *run->texts);
    if (run->ids == NULL || run->texts == NULL) return no_memory(err);
    for (size_t i = 0; i < *count; i++) {
        SP_TRY(check_line(run, &run->prompts.items[i], err));
        run->ids[i] = run->prompts.items[i].id;
        run->texts[i] = run->prompts.items[i].prompt;
    }
    return SP_OK;
}

/* A setting that no picture can be drawn with is told before the first is. */
static sp_status check_settings(const sp_evaluate *run, sp_error *err)
{
    for (size_t s = 0; s < run->settings.count; s++) {
        sp_request request = sp_settings_request(&run->settings, s, run->engine);
        request.prompt = run->texts[0];
        SP_TRY(sp_request_check(run->engine, &request, err));
    }
    return SP_OK;
}

/* FNV-1a over every id, prompt and seed. */
static void fingerprint_prompts(const sp_evaluate *run, size_t count, char out[17])
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++) {
        const sp_prompt *line = &run->prompts.items[i];
        char seed[32];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)(line->has & SP_PROMPT_SEED ? line->seed : line->line));
        const char *parts[] = {line->id, line->prompt, line->has & SP_PROMPT_SEED ? "seed" : "line", seed};
        for (size_t k = 0; k < 4; k++)
            for (const char *c = parts[k]; c == parts[k] || c[-1] != '\0'; c++)
                hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    }
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
}

static sp_status make_head(sp_evaluate *run, size_t count, sp_error *err)
{
    char prompts[17];
    fingerprint_prompts(run, count, prompts);
    char *model = sp_metadata_model_name(&run->info);
    run->head = json_pack("{ss ss* ss ss ss si ss sI sI so so}", "version", SP_VERSION, "model", model,
                          "model_fingerprint", run->info.fingerprint, "dtype", run->info.dtype, "kernels",
                          run->info.kernels, "threads", run->info.threads, "prompts_fingerprint", prompts, "prompts",
                          (json_int_t)count, "images", (json_int_t)run->options->seeds, "seed",
                          sp_json_seed(run->options->seed), "settings", sp_settings_json(&run->settings));
    free(model);
    return run->head != NULL ? SP_OK : no_memory(err);
}

static size_t shown(size_t prompts, size_t settings)
{
    size_t n = MOST_PICTURES_SHOWN / settings;
    n = n < 1 ? 1 : n > MOST_SHOWN ? MOST_SHOWN : n;
    return n < prompts ? n : prompts;
}

sp_status sp_evaluate_open(sp_evaluate *run, const sp_options *options, sp_error *err)
{
    size_t count = 0;
    *run = (sp_evaluate){.options = options};
    SP_TRY(sp_setup_engine(options, &run->engine, err));
    run->info = sp_engine_info(run->engine);
    SP_TRY(sp_settings_make(&run->settings, options, run->engine, err));
    SP_TRY(read_prompts(run, &count, err));
    SP_TRY(check_settings(run, err));
    SP_TRY(make_head(run, count, err));
    sp_evaluation *e = &run->evaluation;
    *e = (sp_evaluation){.n_settings = run->settings.count, .n_prompts = count, .n_images = (size_t)options->seeds,
                         .n_tokens = run->info.rows * run->info.columns, .n_codes = run->info.n_codes,
                         .n_features = run->info.n_features, .n_shown = shown(count, run->settings.count)};
    SP_TRY(sp_evaluation_open(e, err));
    memcpy(e->settings, run->settings.items, e->n_settings * sizeof *e->settings);
    return SP_OK;
}

/* Compared as text, since a number that went through a file has the digits that were written. */
static bool equal(const json_t *a, const json_t *b)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9);
    char *x = json_dumps(a, flags), *y = json_dumps(b, flags);
    bool same = x != NULL && y != NULL && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

static sp_status compare(const sp_evaluate *run, const json_t *found, sp_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(run->head, key, value)
    {
        if (equal(value, json_object_get(found, key))) continue;
        return SP_FAIL(err, SP_EARG, "%s holds an evaluation of other settings ('%s' differs in its settings.json); "
                       "use another --output-dir", run->options->output_dir, key);
    }
    return SP_OK;
}

static sp_status visit_foreign(void *user, const char *name, sp_error *err)
{
    return SP_FAIL(err, SP_EARG, "%s is not empty (it has %.80s) and holds no evaluation; use another --output-dir",
                   (const char *)user, name);
}

static sp_status make_folders(const sp_evaluate *run, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    for (size_t s = 0; s < run->settings.count; s++) {
        SP_TRY(sp_layout_path(path, err, "%s/%s", run->options->output_dir, run->settings.items[s].name));
        SP_TRY(sp_folder_make(path, err));
    }
    return SP_OK;
}

static sp_status write_settings(const sp_evaluate *run, const char *file, sp_error *err)
{
    sp_text text = {0};
    sp_text_json(&text, run->head);
    sp_status status = sp_text_write(&text, file, err);
    sp_text_free(&text);
    return status;
}

sp_status sp_evaluate_enter(sp_evaluate *run, sp_error *err)
{
    const char *folder = run->options->output_dir;
    char file[SP_PATH_LIMIT];
    struct stat info;
    SP_TRY(sp_layout_path(file, err, "%s/settings.json", folder));
    if (stat(file, &info) == 0) {
        json_t *found;
        SP_TRY(sp_json_load(&found, file, SP_JSON_LIMIT, err));
        sp_status status = compare(run, found, err);
        json_decref(found);
        return status == SP_OK && !run->options->check ? make_folders(run, err) : status;
    }
    if (run->options->check)
        return SP_FAIL(err, SP_EFORMAT, "%s: no settings.json: expected the folder of an evaluation; run eval without "
                       "--check first", folder);
    SP_TRY(sp_folder_make(folder, err));
    SP_TRY(sp_layout_each(folder, visit_foreign, (void *)(uintptr_t)folder, err));
    /* First what says whose the folder is: a run that is killed in between can be resumed. */
    SP_TRY(write_settings(run, file, err));
    return make_folders(run, err);
}

sp_layout_job sp_evaluate_job(const sp_evaluate *run)
{
    return (sp_layout_job){.folder = run->options->output_dir, .n_prompts = run->evaluation.n_prompts,
                           .n_images = run->evaluation.n_images, .width = run->info.width, .height = run->info.height,
                           .ids = run->ids, .prompts = run->texts};
}
