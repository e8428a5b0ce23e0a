#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/ledger.h"
#include "cli/metadata.h"
#include "cli/number.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/setup.h"
#include "io/journal.h"

typedef struct rendering {
    const sp_options *options;
    sp_run_shard shard;
    sp_engine *engine;
    sp_session *session;
    sp_plan plan;
    sp_journal *journal;
    json_t *ledger;
    sp_progress_view view;
    sp_request *requests; /* owned; of the pictures to draw, and their items */
    sp_plan_item **drawn;
} rendering;

/* The record becomes the item's and goes to the disk. */
static sp_status keep_record(rendering *run, sp_plan_item *item, json_t *record, sp_error *err)
{
    if (record == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for a line of the journal; free some");
    json_decref(item->record);
    item->record = record;
    return sp_journal_append(run->journal, record, err);
}

static json_int_t file_bytes(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (json_int_t)info.st_size : 0;
}

/* report is stolen and may be NULL: a picture that was adopted has none. */
static sp_status record_picture(rendering *run, sp_plan_item *item, json_t *report, sp_error *err)
{
    json_t *record = json_pack("{ss sI sI so ss sI ss so*}", "id", item->prompt->id, "line",
                               (json_int_t)item->prompt->line, "k", (json_int_t)item->request.image, "seed",
                               sp_json_seed(item->request.seed), "file", item->file, "bytes", file_bytes(item->path),
                               "settings", item->fingerprint, "report", report);
    return keep_record(run, item, record, err);
}

/* A line that failed in the same way before is not written again. */
static sp_status record_failure(rendering *run, sp_plan_item *item, sp_error *err)
{
    char key[48];
    snprintf(key, sizeof key, "line %zu", item->prompt->line);
    sp_setup_note(run->options, "%s: %s: %s", run->options->prompt_file, key, item->error);
    json_t *record = json_pack("{ss* sI so* ss}", "id", item->prompt->id, "line", (json_int_t)item->prompt->line, "k",
                               item->file != NULL ? json_integer(item->request.image) : NULL, "error", item->error);
    json_t *before = json_object_get(run->ledger, key);
    if (record != NULL && before != NULL && json_equal(record, before)) {
        item->record = record;
        return SP_OK;
    }
    return keep_record(run, item, record, err);
}

static sp_status write_item(rendering *run, sp_plan_item *item, const sp_result *result, sp_error *err)
{
    if (item->tokens != NULL) {
        json_t *tokens = sp_report_tokens(result);
        sp_status status = sp_setup_write_json(item->tokens, tokens, JSON_COMPACT, err);
        json_decref(tokens);
        SP_TRY(status);
    }
    sp_metadata metadata;
    sp_status status = sp_metadata_make(&metadata, run->engine, &item->request, err);
    if (status == SP_OK)
        status = sp_picture_write(item->path, result->rgb, result->width, result->height, metadata.chunk, 2, err);
    sp_metadata_free(&metadata);
    return status;
}

/* A picture is done, or has failed. The rest goes on unless a signal has come. */
static sp_status keep_picture(void *user, size_t index, const sp_result *result, const sp_error *why, sp_error *err)
{
    rendering *run = user;
    sp_plan_item *item = run->drawn[index];
    if (result == NULL) {
        SP_TRY(sp_plan_fail(item, why->message, err));
        return record_failure(run, item, err);
    }
    SP_TRY(write_item(run, item, result, err));
    SP_TRY(record_picture(run, item, sp_report_make(run->engine, &item->request, result, item->file), err));
    item->state = SP_PLAN_DONE;
    sp_progress_done(&run->view, item->file);
    if (run->options->verbose > 0)
        sp_setup_note(run->options, "%s: seed %" PRIu64 ", image %" PRIu32 ", %zu tokens in %zu passes, %.0f ms",
                      item->file, item->request.seed, item->request.image, result->n_tokens, result->nfe,
                      result->total_ms);
    bool last = sp_plan_number(&run->plan, SP_PLAN_DRAW) == 0;
    return last || sp_interrupt_signal() == 0 ? SP_OK : SP_FAIL(err, SP_ECANCELLED, "interrupted");
}

static sp_status list_requests(rendering *run, size_t *count, sp_error *err)
{
    size_t left = sp_plan_number(&run->plan, SP_PLAN_DRAW);
    *count = 0;
    if (left == 0) return SP_OK;
    run->requests = calloc(left, sizeof *run->requests);
    run->drawn = calloc(left, sizeof *run->drawn);
    if (run->requests == NULL || run->drawn == NULL)
        return SP_FAIL(err, SP_ENOMEM, "no memory for %zu requests; free some", left);
    for (size_t i = 0; i < run->plan.count; i++) {
        sp_plan_item *item = &run->plan.items[i];
        if (item->state != SP_PLAN_DRAW) continue;
        item->request.progress = sp_progress_step;
        item->request.user = &run->view;
        run->drawn[*count] = item;
        run->requests[(*count)++] = item->request;
    }
    return SP_OK;
}

static sp_status draw_all(rendering *run, sp_error *err)
{
    for (size_t i = 0; i < run->plan.count; i++) {
        sp_plan_item *item = &run->plan.items[i];
        if (item->state == SP_PLAN_FAILED) SP_TRY(record_failure(run, item, err));
        if (item->state != SP_PLAN_ADOPT) continue;
        SP_TRY(record_picture(run, item, NULL, err));
        item->state = SP_PLAN_DONE;
    }
    size_t left;
    SP_TRY(list_requests(run, &left, err));
    if (left == 0) return SP_OK;
    SP_TRY(sp_session_open(&run->session, run->engine, err));
    sp_progress_open(&run->view, run->options->progress, left, run->options->quiet);
    sp_status status = sp_interrupt_signal() != 0
                           ? SP_FAIL(err, SP_ECANCELLED, "interrupted")
                           : sp_generate_many(run->session, run->requests, left, keep_picture, run, err);
    sp_progress_close(&run->view);
    return status;
}

/* An element a picture of this shard that is done or failed, this time or earlier. */
static sp_status write_report(const rendering *run, sp_error *err)
{
    if (run->options->report == NULL) return SP_OK;
    json_t *list = json_array();
    bool whole = list != NULL;
    for (size_t i = 0; i < run->plan.count && whole; i++) {
        json_t *record = run->plan.items[i].record;
        if (record == NULL) continue;
        json_t *element = json_copy(json_object_get(record, "report"));
        if (element == NULL) element = json_object();
        json_t *rest = json_copy(record);
        json_object_del(rest, "report");
        whole = json_object_update(element, rest) == 0;
        json_decref(rest);
        whole = json_array_append_new(list, element) == 0 && whole;
    }
    sp_status status = whole ? sp_setup_write_json(run->options->report, list, JSON_INDENT(2), err)
                             : SP_FAIL(err, SP_ENOMEM, "no memory for the report; leave out --report");
    json_decref(list);
    return status;
}

static void dry_run(const rendering *run)
{
    sp_setup_print_memory(run->engine);
    printf("%zu pictures: %zu to draw, %zu done, %zu cannot be drawn\n", run->plan.count,
           sp_plan_number(&run->plan, SP_PLAN_DRAW),
           sp_plan_number(&run->plan, SP_PLAN_DONE) + sp_plan_number(&run->plan, SP_PLAN_ADOPT),
           sp_plan_number(&run->plan, SP_PLAN_FAILED));
}

static sp_status open_journal(rendering *run, sp_error *err)
{
    SP_TRY(sp_folder_make(run->options->output_dir, err));
    if (run->options->tokens != NULL) SP_TRY(sp_folder_make(run->options->tokens, err));
    char *path = sp_ledger_journal(run->options->output_dir, run->shard);
    if (path == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for a file name; free some");
    sp_status status = sp_journal_open(&run->journal, path, err);
    free(path);
    return status;
}

/* The journal is locked before it is read, so that what it says stays true. */
static sp_status prepare(rendering *run, sp_error *err)
{
    const sp_options *options = run->options;
    SP_TRY(sp_run_shard_parse(options->shard, &run->shard, err));
    if (run->shard.origin != NULL)
        sp_setup_note(options, "shard %zu of %zu by %s", run->shard.index, run->shard.count, run->shard.origin);
    if (options->report != NULL && strcmp(options->report, "-") != 0) SP_TRY(sp_setup_writable(options->report, err));
    SP_TRY(sp_setup_engine(options, &run->engine, err));
    SP_TRY(sp_plan_make(&run->plan, options, run->shard, run->engine, err));
    struct stat info;
    if (!options->dry_run) SP_TRY(open_journal(run, err));
    if (stat(options->output_dir, &info) == 0)
        SP_TRY(sp_ledger_read(options->output_dir, &run->ledger, err));
    else
        run->ledger = json_object();
    return sp_plan_compare(&run->plan, options, run->engine, run->ledger, err);
}

static sp_status render(rendering *run, sp_error *err)
{
    sp_plan_sweep(&run->plan, run->options->output_dir);
    if (run->options->tokens != NULL) sp_plan_sweep(&run->plan, run->options->tokens);
    size_t before = sp_plan_number(&run->plan, SP_PLAN_DONE) + sp_plan_number(&run->plan, SP_PLAN_ADOPT);
    sp_status status = draw_all(run, err);
    size_t done = sp_plan_number(&run->plan, SP_PLAN_DONE), failed = sp_plan_number(&run->plan, SP_PLAN_FAILED);
    sp_setup_note(run->options, "%zu of %zu pictures done (%zu before), %zu failed%s", done, run->plan.count, before,
                  failed, status != SP_OK ? "; the same command resumes" : "");
    sp_status reported = write_report(run, err);
    return status != SP_OK ? status : reported;
}

sp_status sp_cmd_render(const sp_options *options, bool *some_failed, sp_error *err)
{
    if (options->prompt_file == NULL || options->output_dir == NULL)
        return SP_FAIL(err, SP_EARG, "render needs --prompt-file FILE and --output-dir DIR");
    rendering run = {.options = options};
    sp_status status = prepare(&run, err);
    if (status == SP_OK && options->dry_run)
        dry_run(&run);
    else if (status == SP_OK)
        status = render(&run, err);
    *some_failed = sp_plan_number(&run.plan, SP_PLAN_FAILED) > 0;
    sp_journal_close(run.journal);
    json_decref(run.ledger);
    sp_plan_free(&run.plan);
    free(run.requests);
    free(run.drawn);
    sp_session_close(run.session);
    sp_engine_close(run.engine);
    return status;
}
