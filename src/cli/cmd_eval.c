#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/evaluate.h"
#include "cli/interrupt.h"
#include "cli/number.h"
#include "cli/setup.h"
#include "eval/outcome.h"
#include "eval/page.h"

enum { MOST_LAYOUTS = 16 };

typedef struct evaluating {
    sp_evaluate run;
    const sp_layout_ops *layouts[MOST_LAYOUTS + 1]; /* NULL at the end */
    sp_bytes metadata;
    const char **lines; /* [n_prompts] in metadata, or NULL */
} evaluating;

static sp_status find_layouts(evaluating *e, const char *list, sp_error *err)
{
    for (size_t n = 0; list != NULL; n++) {
        char word[64];
        size_t length = strcspn(list, ",");
        snprintf(word, sizeof word, "%.*s", (int)length, list);
        const sp_layout_ops *layout = sp_layout_find(word);
        if (layout == NULL || n == MOST_LAYOUTS)
            return SP_FAIL(err, SP_EARG, "--layout: '%.64s' is not one of pytorch-fid, clean-fid, adm, geneval, hpsv2, "
                           "dpg-bench", word);
        e->layouts[n] = layout;
        list = list[length] == ',' ? list + length + 1 : NULL;
    }
    return SP_OK;
}

/* A line a prompt; the rest of the file is not used. */
static sp_status read_metadata(evaluating *e, const char *file, sp_error *err)
{
    size_t count = e->run.evaluation.n_prompts;
    SP_TRY(sp_file_read(file, SP_PROMPT_FILE_LIMIT, &e->metadata, err));
    e->lines = calloc(count, sizeof *e->lines);
    if (e->lines == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for the lines of %s; free some", file);
    char *text = (char *)e->metadata.data;
    for (size_t i = 0; i < count; i++) {
        if (*text == '\0')
            return SP_FAIL(err, SP_EFORMAT, "%s: %zu lines: expected %zu, one a prompt", file, i, count);
        e->lines[i] = text;
        text += strcspn(text, "\n");
        if (*text == '\n') *text++ = '\0';
    }
    return SP_OK;
}

static sp_layout_job job_of(const evaluating *e, const sp_layout_ops *layout, size_t setting)
{
    sp_layout_job job = sp_evaluate_job(&e->run);
    job.layout = layout->name;
    job.metadata = e->lines;
    job.setting = e->run.settings.items[setting].name;
    return job;
}

static sp_status prepare(evaluating *e, const sp_options *options, sp_error *err)
{
    SP_TRY(find_layouts(e, options->layout, err));
    SP_TRY(sp_evaluate_open(&e->run, options, err));
    if (!options->check) SP_TRY(sp_evaluate_load_features(&e->run, err));
    if (options->metadata != NULL) SP_TRY(read_metadata(e, options->metadata, err));
    for (size_t i = 0; e->layouts[i] != NULL; i++) {
        sp_layout_job job = job_of(e, e->layouts[i], 0);
        SP_TRY(e->layouts[i]->fit(&job, err));
    }
    return SP_OK;
}

static sp_status each_layout(const evaluating *e, bool checking, sp_error *err)
{
    for (size_t i = 0; e->layouts[i] != NULL; i++)
        for (size_t s = 0; s < e->run.settings.count; s++) {
            sp_layout_job job = job_of(e, e->layouts[i], s);
            if (sp_interrupt_signal() != 0) return SP_FAIL(err, SP_ECANCELLED, "interrupted");
            SP_TRY(checking ? e->layouts[i]->check(&job, err) : e->layouts[i]->write(&job, err));
        }
    return SP_OK;
}

static void conditions(const sp_evaluate *run, char *text, size_t size)
{
    sp_request request = sp_settings_request(&run->settings, 0, run->engine);
    int length = snprintf(text, size, "Prompts: %zu; pictures of each: %zu; seed %llu. %s arithmetic, %s kernels, "
                          "%d threads. Guidance %.6g, temperature %.6g", run->evaluation.n_prompts,
                          run->evaluation.n_images, (unsigned long long)run->options->seed, run->info.dtype,
                          run->info.kernels, run->info.threads, sp_number_shortest(request.cfg_scale),
                          sp_number_shortest(request.temperature));
    size_t used = length < 0 ? 0 : (size_t)length;
    if (run->info.batch_size > 1 && used < size)
        used += (size_t)snprintf(text + used, size - used, ", %zu pictures together", run->info.batch_size);
    if (request.top_k > 0 && used < size)
        used += (size_t)snprintf(text + used, size - used, ", top-k %d", request.top_k);
    if (request.top_p < 1 && used < size)
        used += (size_t)snprintf(text + used, size - used, ", top-p %.6g", sp_number_shortest(request.top_p));
    if (run->features != NULL && used < size)
        snprintf(text + used, size - used, ". Features: %zu of pictures of %zu x %zu, by %.200s",
                 run->network.n_features, sp_features_raster(run->features)->width,
                 sp_features_raster(run->features)->height, run->options->features);
}

/* What was run, and how the pictures were looked at. */
static sp_status write_json(const sp_evaluate *run, const sp_outcome *outcomes, const char *path, sp_error *err)
{
    json_t *head = json_copy(run->head);
    sp_status status = SP_OK;
    if (head == NULL ||
        (run->features != NULL && json_object_set_new(head, "features", sp_evaluate_features_json(run)) != 0))
        status = SP_FAIL(err, SP_ENOMEM, "no memory for %s; free some", path);
    if (status == SP_OK) status = sp_outcomes_write_json(&run->evaluation, outcomes, head, path, err);
    json_decref(head);
    return status;
}

static sp_status write_results(const evaluating *e, const sp_outcome *outcomes, sp_error *err)
{
    const sp_evaluate *run = &e->run;
    char path[SP_PATH_LIMIT], how[512];
    SP_TRY(sp_layout_path(path, err, "%s/results.csv", run->options->output_dir));
    SP_TRY(sp_outcomes_write_csv(&run->evaluation, outcomes, path, err));
    SP_TRY(sp_layout_path(path, err, "%s/results.json", run->options->output_dir));
    SP_TRY(write_json(run, outcomes, path, err));
    conditions(run, how, sizeof how);
    sp_page page = {.evaluation = &run->evaluation, .outcomes = outcomes, .pictures = sp_evaluate_job(run),
                    .rows = run->info.rows, .columns = run->info.columns, .conditions = how,
                    .model = json_string_value(json_object_get(run->head, "model"))};
    SP_TRY(sp_layout_path(path, err, "%s/report.html", run->options->output_dir));
    SP_TRY(sp_page_write(&page, path, err));
    sp_setup_note(run->options, "%zu settings, %zu pictures each: %s", run->settings.count,
                  run->evaluation.n_prompts * run->evaluation.n_images, path);
    return SP_OK;
}

static sp_status evaluate(evaluating *e, sp_error *err)
{
    SP_TRY(sp_evaluate_draw(&e->run, err));
    SP_TRY(sp_evaluate_features(&e->run, err));
    sp_outcome *outcomes = calloc(e->run.settings.count, sizeof *outcomes);
    if (outcomes == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for the results; free some");
    sp_status status = sp_outcomes_make(&e->run.evaluation, &e->run.reference, &e->run.network, outcomes, err);
    if (status == SP_OK) status = write_results(e, outcomes, err);
    free(outcomes);
    return status == SP_OK ? each_layout(e, false, err) : status;
}

sp_status sp_cmd_eval(const sp_options *options, bool *some_failed, sp_error *err)
{
    (void)some_failed;
    if (options->prompt_file == NULL || options->output_dir == NULL)
        return SP_FAIL(err, SP_EARG, "eval needs --prompt-file FILE and --output-dir DIR");
    if (options->check && options->layout == NULL)
        return SP_FAIL(err, SP_EARG, "--check: no --layout; name the layouts to read");
    evaluating e = {.lines = NULL};
    sp_status status = prepare(&e, options, err);
    if (status == SP_OK) status = sp_evaluate_enter(&e.run, err);
    if (status == SP_OK) status = options->check ? each_layout(&e, true, err) : evaluate(&e, err);
    if (status == SP_OK && options->check)
        sp_setup_note(options, "%s: %zu settings are whole", options->layout, e.run.settings.count);
    free(e.lines);
    sp_bytes_free(&e.metadata);
    sp_evaluate_close(&e.run);
    return status;
}
