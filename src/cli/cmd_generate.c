#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/map.h"
#include "cli/metadata.h"
#include "cli/naming.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/setup.h"
#include "cli/show.h"

typedef struct generation {
    const sp_options *options;
    const char *output; /* path of the first picture */
    sp_engine *engine;
    sp_session *session;
    sp_request request, *requests; /* of all pictures; owned: one a picture */
    sp_progress_view view;
    json_t *reports; /* array: a report, or null of a picture that is not done */
} generation;

/* The k-th of the files that a path stands for must be new and its folder there; path NULL is no file. */
static sp_status check_file(const generation *run, const char *path, size_t k, sp_error *err)
{
    if (path == NULL) return SP_OK;
    char *name = sp_naming_numbered(path, k);
    if (name == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for a file name; free some");
    sp_status status = sp_setup_writable(name, err);
    if (status == SP_OK) status = sp_setup_absent(name, run->options->force, err);
    free(name);
    return status;
}

static sp_status check_files(const generation *run, sp_error *err)
{
    const sp_options *options = run->options;
    for (size_t k = 0; k < (size_t)options->batch_count; k++) {
        SP_TRY(check_file(run, run->output, k, err));
        SP_TRY(check_file(run, options->tokens, k, err));
        SP_TRY(check_file(run, options->map, k, err));
    }
    if (options->report != NULL && strcmp(options->report, "-") != 0) SP_TRY(sp_setup_writable(options->report, err));
    return SP_OK;
}

static void describe_model(const generation *run)
{
    if (run->options->verbose < 2) return;
    sp_model_info info = sp_engine_info(run->engine);
    sp_setup_note(run->options, "%s: %s, %zu layers of %zu, %zu heads of %zu, %zu x %zu tokens of %zu %s, %s, %s, "
                  "%d threads", info.path, info.family, info.layers, info.dim, info.heads, info.head_dim, info.rows,
                  info.columns, info.continuous ? info.latent_dim : info.n_codes,
                  info.continuous ? "numbers" : "codes", info.dtype, info.kernels, info.threads);
}

static void describe_picture(const generation *run, const char *file, const sp_request *request,
                             const sp_result *result)
{
    char window[32] = "auto";
    if (run->request.window != 0) snprintf(window, sizeof window, "%d", run->request.window);
    sp_setup_note(run->options, "%s: seed %" PRIu64 ", image %" PRIu32 ", %s (%s), window %s, %zu tokens in %zu "
                  "passes, %.0f ms", file, request->seed, request->image, result->method,
                  sp_exactness_name(result->exactness), window, result->n_tokens, result->nfe, result->total_ms);
    if (result->exactness == SP_RELAXED && result->latents != NULL)
        sp_setup_note(run->options, "%s: drafts within about %.3g of the model's own tokens stay; how far the pictures "
                      "are from those of ar is not known", file, (double)run->request.tolerance);
    else if (result->exactness == SP_RELAXED)
        sp_setup_note(run->options, "%s: total variation from ar: about %.3g a token at most", file,
                      result->total_variation_bound);
    if (run->options->verbose > 0)
        sp_setup_note(run->options, "%s: prefix %.1f ms, decode %.1f ms, pixels %.1f ms, %zu of %zu drafts accepted",
                      file, result->prefill_ms, result->decode_ms, result->vq_ms, result->accepted, result->drafted);
    if (run->options->verbose > 0 && result->latents != NULL)
        sp_setup_note(run->options, "%s: of decode %.1f ms in the transformer, %.1f ms in the diffusion head", file,
                      result->condition_ms, result->chain_ms);
}

static sp_status write_map(const generation *run, const char *file, const sp_result *result, sp_error *err)
{
    sp_model_info info = sp_engine_info(run->engine);
    return sp_pass_map_write(file, result->pass_of_token, info.rows, info.columns, err);
}

static sp_status write_tokens(const char *file, const sp_result *result, sp_error *err)
{
    json_t *tokens = sp_report_tokens(result);
    sp_status status = sp_setup_write_json(file, tokens, JSON_COMPACT, err);
    json_decref(tokens);
    return status;
}

/* The picture comes last: where it is, everything that belongs to it is. */
static sp_status write_files(generation *run, size_t k, const sp_metadata *metadata, const sp_result *result,
                             sp_error *err)
{
    const sp_options *options = run->options;
    const sp_request *request = &run->requests[k];
    char *output = sp_naming_numbered(run->output, k);
    char *tokens = options->tokens != NULL ? sp_naming_numbered(options->tokens, k) : NULL;
    char *map = options->map != NULL ? sp_naming_numbered(options->map, k) : NULL;
    const char *written = result->rgb != NULL ? output : tokens;
    sp_status status = SP_OK;
    if (output == NULL || (options->tokens && !tokens) || (options->map && !map))
        status = SP_FAIL(err, SP_ENOMEM, "no memory for a file name; free some");
    if (status == SP_OK && tokens != NULL) status = write_tokens(tokens, result, err);
    if (status == SP_OK && map != NULL) status = write_map(run, map, result, err);
    if (status == SP_OK && result->rgb != NULL)
        status = sp_picture_write(output, result->rgb, result->width, result->height, metadata->chunk, 2, err);
    if (status == SP_OK &&
        json_array_set_new(run->reports, k, sp_report_make(run->engine, request, result, written)) != 0)
        status = SP_FAIL(err, SP_ENOMEM, "no memory for the report; leave out --report");
    if (status == SP_OK) {
        sp_progress_done(&run->view, written);
        describe_picture(run, written, request, result);
        if (result->rgb != NULL) status = sp_show(options->show, result->rgb, result->width, result->height, err);
    }
    free(output);
    free(tokens);
    free(map);
    return status;
}

static sp_status keep_picture(void *user, size_t k, const sp_result *result, const sp_error *why, sp_error *err)
{
    generation *run = user;
    if (result == NULL) return SP_FAIL(err, why->status, "%s", why->message);
    sp_metadata metadata;
    sp_status status = sp_metadata_make(&metadata, run->engine, &run->requests[k], err);
    if (status == SP_OK) status = write_files(run, k, &metadata, result, err);
    sp_metadata_free(&metadata);
    bool last = run->view.done == (size_t)run->options->batch_count;
    if (status != SP_OK || last || sp_interrupt_signal() == 0) return status;
    return SP_FAIL(err, SP_ECANCELLED, "interrupted");
}

static sp_status draw_pictures(generation *run, size_t count, sp_error *err)
{
    run->requests = calloc(count, sizeof *run->requests);
    if (run->requests == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for %zu requests; free some", count);
    run->request.progress = sp_progress_step;
    run->request.user = &run->view;
    for (size_t k = 0; k < count; k++) {
        if (json_array_append_new(run->reports, json_null()) != 0)
            return SP_FAIL(err, SP_ENOMEM, "no memory for %zu reports; free some", count);
        run->requests[k] = run->request;
        run->requests[k].image = (uint32_t)((size_t)run->options->image_index + k);
    }
    if (sp_interrupt_signal() != 0) return SP_FAIL(err, SP_ECANCELLED, "interrupted");
    return sp_generate_many(run->session, run->requests, count, keep_picture, run, err);
}

static sp_status write_report(const generation *run, sp_error *err)
{
    if (run->options->report == NULL || run->view.done == 0) return SP_OK;
    bool single = run->options->batch_count == 1;
    json_t *done = json_array();
    if (done == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for the report; leave out --report");
    for (size_t k = 0; k < json_array_size(run->reports); k++)
        if (!json_is_null(json_array_get(run->reports, k))) json_array_append(done, json_array_get(run->reports, k));
    sp_status status = sp_setup_write_json(run->options->report, single ? json_array_get(done, 0) : done,
                                           JSON_INDENT(2), err);
    json_decref(done);
    return status;
}

static sp_status draw_all(generation *run, sp_error *err)
{
    size_t count = (size_t)run->options->batch_count;
    sp_progress_open(&run->view, run->options->progress, count, run->options->quiet);
    sp_status status = draw_pictures(run, count, err);
    sp_progress_close(&run->view);
    if (status == SP_ECANCELLED)
        sp_setup_note(run->options, "%zu of %zu pictures are done; their seed is %" PRIu64, run->view.done, count,
                      run->request.seed);
    /* Pictures that were written stay reported when a later one failed; the first failure is the one that is told. */
    sp_status reported = write_report(run, err);
    return status != SP_OK ? status : reported;
}

static sp_status dry_run(const generation *run, sp_error *err)
{
    sp_setup_print_memory(run->engine);
    for (size_t k = 0; k < (size_t)run->options->batch_count; k++) {
        char *name = sp_naming_numbered(run->output, k);
        if (name == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for a file name; free some");
        puts(name);
        free(name);
    }
    return SP_OK;
}

static sp_status warn_of_cut(const generation *run, sp_error *err)
{
    sp_model_info info = sp_engine_info(run->engine);
    if (!info.from_text) return SP_OK;
    size_t tokens;
    SP_TRY(sp_prompt_tokens(run->engine, run->request.prompt, &tokens, err));
    if (tokens > info.prefix_limit)
        sp_setup_note(run->options, "warning: the prompt has %zu tokens and the model reads %zu; the rest is cut",
                      tokens, info.prefix_limit);
    return SP_OK;
}

static sp_status prepare(generation *run, sp_error *err)
{
    SP_TRY(check_files(run, err));
    SP_TRY(sp_setup_engine(run->options, &run->engine, err));
    run->request = sp_setup_request(run->options, run->engine);
    run->request.prompt = run->options->prompt;
    /* Without a codec the tokens are all there is to write. */
    run->request.pixels = *sp_engine_info(run->engine).codec != '\0' || run->options->tokens == NULL;
    if (!run->options->given[SP_OPTION_seed]) SP_TRY(sp_setup_random_seed(&run->request.seed, err));
    SP_TRY(sp_request_check(run->engine, &run->request, err));
    SP_TRY(warn_of_cut(run, err));
    describe_model(run);
    return SP_OK;
}

sp_status sp_cmd_generate(const sp_options *options, bool *some_failed, sp_error *err)
{
    (void)some_failed;
    if (options->prompt == NULL) return SP_FAIL(err, SP_EARG, "generate needs --prompt TEXT; render takes a file");
    char *named = options->output == NULL ? sp_naming_of_prompt(options->prompt) : NULL;
    generation run = {.options = options, .output = options->output != NULL ? options->output : named,
                      .reports = json_array()};
    sp_status status;
    if (run.output == NULL || run.reports == NULL)
        status = SP_FAIL(err, SP_ENOMEM, "no memory for a file name; free some");
    else
        status = prepare(&run, err);
    if (status == SP_OK && options->dry_run) {
        status = dry_run(&run, err);
    } else if (status == SP_OK) {
        status = sp_session_open(&run.session, run.engine, err);
        if (status == SP_OK) status = draw_all(&run, err);
    }
    sp_session_close(run.session);
    sp_engine_close(run.engine);
    json_decref(run.reports);
    free(run.requests);
    free(named);
    return status;
}
