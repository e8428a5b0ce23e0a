#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "cli/evaluate.h"
#include "cli/interrupt.h"
#include "cli/metadata.h"
#include "cli/setup.h"

/* One picture, copied out of its session. */
struct sp_evaluate_drawn {
    sp_request request;
    sp_result result;          /* its arrays are those below */
    unsigned char *tokens;     /* [n_tokens] of token_bytes each */
    int32_t *passes;           /* [n_tokens] */
    uint8_t *rgb;              /* [height, width, 3] */
    sp_token_score *scores;    /* [n_tokens] */
    float *features;           /* [n_features] */
    char file[SP_PATH_LIMIT];  /* below the folder */
};

static sp_status no_memory(sp_error *err)
{
    return SP_FAIL(err, SP_ENOMEM, "no memory for a group; use fewer settings");
}

static size_t token_bytes(const sp_evaluate *run)
{
    return run->info.continuous ? run->info.latent_dim * sizeof(float) : sizeof(int32_t);
}

static size_t pixels(const sp_evaluate *run) { return run->info.width * run->info.height * 3; }

/* The picture of a setting, of one of the groups in work. */
static sp_evaluate_drawn *drawn_of(const sp_evaluate *run, size_t slot, size_t setting)
{
    return &run->drawn[slot * run->settings.count + setting];
}

static sp_status make_room(sp_evaluate *run, sp_error *err)
{
    const sp_evaluation *e = &run->evaluation;
    run->drawn = calloc(run->info.batch_size, e->n_settings * sizeof *run->drawn);
    run->requests = calloc(run->info.batch_size, sizeof *run->requests);
    run->sessions = calloc(e->n_settings, sizeof *run->sessions);
    if (run->drawn == NULL || run->requests == NULL || run->sessions == NULL) return no_memory(err);
    for (size_t i = 0; i < run->info.batch_size * e->n_settings; i++) {
        sp_evaluate_drawn *d = &run->drawn[i];
        d->tokens = calloc(e->n_tokens, token_bytes(run));
        d->passes = calloc(e->n_tokens, sizeof *d->passes);
        d->rgb = malloc(pixels(run));
        d->scores = calloc(e->n_tokens, sizeof *d->scores);
        d->features = calloc(e->n_features, sizeof *d->features);
        if (!d->tokens || !d->passes || !d->rgb || !d->scores || !d->features) return no_memory(err);
    }
    return SP_OK;
}

/* The number of the first setting with the same method: it has the session. */
static size_t session_of(const sp_evaluate *run, size_t setting)
{
    size_t first = 0;
    while (strcmp(run->settings.items[first].method, run->settings.items[setting].method) != 0) first++;
    return first;
}

static sp_request request_of(sp_evaluate *run, size_t setting, size_t group)
{
    const sp_prompt *line = &run->prompts.items[group / run->evaluation.n_images];
    sp_request request = sp_settings_request(&run->settings, setting, run->engine);
    request.prompt = line->prompt;
    request.seed = line->has & SP_PROMPT_SEED ? line->seed : run->options->seed + (line->line - 1);
    request.image = (uint32_t)(group % run->evaluation.n_images);
    request.progress = sp_progress_step;
    request.user = &run->view;
    return request;
}

/* Pictures of one setting in work. */
typedef struct drawing {
    sp_evaluate *run;
    size_t setting;
    bool counted;
} drawing;

/* A picture is done: it leaves its session. */
static sp_status keep_picture(void *user, size_t slot, const sp_result *result, const sp_error *why, sp_error *err)
{
    const drawing *of = user;
    sp_evaluate *run = of->run;
    if (result == NULL) return SP_FAIL(err, why->status, "%s", why->message);
    sp_evaluate_drawn *d = drawn_of(run, slot, of->setting);
    d->request = run->requests[slot];
    d->result = *result;
    const void *tokens = run->info.continuous ? (const void *)result->latents : result->tokens;
    memcpy(d->tokens, tokens, result->n_tokens * token_bytes(run));
    d->result.tokens = run->info.continuous ? NULL : (const int32_t *)(const void *)d->tokens;
    d->result.latents = run->info.continuous ? (const float *)(const void *)d->tokens : NULL;
    d->result.pass_of_token = d->passes;
    d->result.rgb = d->rgb;
    memcpy(d->passes, result->pass_of_token, result->n_tokens * sizeof *d->passes);
    memcpy(d->rgb, result->rgb, pixels(run));
    if (of->counted) sp_progress_done(&run->view, run->settings.items[of->setting].name);
    return SP_OK;
}

/* A picture of each of n groups. Those that are drawn together share the time of all alike. */
static sp_status draw_setting(sp_evaluate *run, size_t setting, const size_t *groups, size_t n, bool counted,
                              sp_error *err)
{
    drawing of = {run, setting, counted};
    if (sp_interrupt_signal() != 0) return SP_FAIL(err, SP_ECANCELLED, "interrupted");
    for (size_t i = 0; i < n; i++) run->requests[i] = request_of(run, setting, groups[i]);
    double start = sp_clock_ms();
    sp_session *session = run->sessions[session_of(run, setting)];
    SP_TRY(sp_generate_many(session, run->requests, n, keep_picture, &of, err));
    double each = (sp_clock_ms() - start) / (double)n;
    for (size_t i = 0; n > 1 && i < n; i++) drawn_of(run, i, setting)->result.total_ms = each;
    return SP_OK;
}

static sp_status write_picture(sp_evaluate *run, sp_evaluate_drawn *d, size_t setting, size_t group, size_t *bytes,
                               sp_error *err)
{
    char path[SP_PATH_LIMIT];
    sp_layout_job job = sp_evaluate_job(run);
    job.setting = run->settings.items[setting].name;
    SP_TRY(sp_layout_picture(&job, group / job.n_images, group % job.n_images, path, err));
    snprintf(d->file, sizeof d->file, "%s", path + strlen(job.folder) + 1);
    sp_metadata metadata;
    struct stat info;
    sp_status status = sp_metadata_make(&metadata, run->engine, &d->request, err);
    if (status == SP_OK)
        status = sp_picture_write(path, d->rgb, run->info.width, run->info.height, metadata.chunk, 2, err);
    sp_metadata_free(&metadata);
    *bytes = stat(path, &info) == 0 ? (size_t)info.st_size : 0;
    return status;
}

/* Its element of the group's record. */
static sp_status score_one(sp_evaluate *run, size_t slot, size_t setting, size_t group, json_t *list, sp_error *err)
{
    sp_evaluate_drawn *d = drawn_of(run, slot, setting);
    const unsigned char *plain = drawn_of(run, slot, run->settings.items[setting].baseline)->tokens;
    size_t bytes, identical = 0, size = token_bytes(run);
    if (sp_interrupt_signal() != 0) return SP_FAIL(err, SP_ECANCELLED, "interrupted");
    /* The laws of continuous tokens have no closed form. */
    if (!run->info.continuous)
        SP_TRY(sp_score_tokens(run->sessions[0], &d->request, d->result.tokens, d->scores, err));
    if (run->info.n_features > 0) SP_TRY(sp_pixels_to_features(run->sessions[0], d->rgb, d->features, err));
    SP_TRY(write_picture(run, d, setting, group, &bytes, err));
    for (size_t i = 0; i < run->evaluation.n_tokens; i++)
        identical += memcmp(d->tokens + i * size, plain + i * size, size) == 0;
    json_t *element = sp_evaluation_element(&run->evaluation, d->file, bytes, &d->result, identical, d->scores,
                                            d->features);
    return json_array_append_new(list, element) == 0 ? SP_OK : no_memory(err);
}

/* Its record goes to the disk. */
static sp_status score_group(sp_evaluate *run, size_t slot, size_t group, sp_error *err)
{
    size_t prompt = group / run->evaluation.n_images, image = group % run->evaluation.n_images;
    json_t *list = json_array(), *record = NULL;
    sp_status status = SP_OK;
    for (size_t s = 0; s < run->settings.count && status == SP_OK; s++)
        status = score_one(run, slot, s, group, list, err);
    if (status == SP_OK) {
        record = json_pack("{sI ss sI sO}", "prompt", (json_int_t)prompt, "id", run->ids[prompt], "image",
                           (json_int_t)image, "settings", list);
        status = record != NULL ? sp_journal_append(run->journal, record, err) : no_memory(err);
    }
    if (status == SP_OK) status = sp_evaluation_add(&run->evaluation, "journal.jsonl", record, err);
    json_decref(record);
    json_decref(list);
    return status;
}

static sp_status draw_groups(sp_evaluate *run, const size_t *groups, size_t n, sp_error *err)
{
    for (size_t s = 0; s < run->settings.count; s++) SP_TRY(draw_setting(run, s, groups, n, true, err));
    for (size_t i = 0; i < n; i++) SP_TRY(score_group(run, i, groups[i], err));
    return SP_OK;
}

/* Temporaries of a killed run; the folder is an evaluation's own and its journal is held. */
static void sweep(const char *folder)
{
    DIR *list = opendir(folder);
    if (list == NULL) return;
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        const char *end = strrchr(entry->d_name, '.');
        if (entry->d_name[0] == '.' && end != NULL && strcmp(end, ".part") == 0)
            unlinkat(dirfd(list), entry->d_name, 0);
    }
    closedir(list);
}

static void sweep_all(const sp_evaluate *run)
{
    char path[SP_PATH_LIMIT];
    sweep(run->options->output_dir);
    for (size_t s = 0; s < run->settings.count; s++)
        if (snprintf(path, sizeof path, "%s/%s", run->options->output_dir, run->settings.items[s].name) < SP_PATH_LIMIT)
            sweep(path);
}

/* Which record of the journal is the last of each group. */
typedef struct reading {
    sp_evaluate *run;
    const char *name;
    size_t *last; /* [n_prompts * n_images] from 1 */
    size_t number;
    bool adding;
} reading;

static bool files_are_there(const sp_evaluate *run, const json_t *record)
{
    size_t i;
    json_t *element;
    json_array_foreach(json_object_get(record, "settings"), i, element)
    {
        char path[SP_PATH_LIMIT];
        struct stat info;
        const char *file = json_string_value(json_object_get(element, "file"));
        if (file == NULL || snprintf(path, sizeof path, "%s/%s", run->options->output_dir, file) >= SP_PATH_LIMIT ||
            stat(path, &info) != 0 || info.st_size != json_integer_value(json_object_get(element, "bytes")))
            return false;
    }
    return true;
}

static sp_status visit_record(void *user, const json_t *record, sp_error *err)
{
    reading *r = user;
    const sp_evaluation *e = &r->run->evaluation;
    json_int_t prompt = json_integer_value(json_object_get(record, "prompt"));
    json_int_t image = json_integer_value(json_object_get(record, "image"));
    r->number++;
    if (prompt < 0 || (size_t)prompt >= e->n_prompts || image < 0 || (size_t)image >= e->n_images)
        return SP_FAIL(err, SP_EFORMAT, "%s: record %zu is of prompt %lld, picture %lld: expected %zu prompts of %zu; "
                       "it is of another run", r->name, r->number, (long long)prompt, (long long)image, e->n_prompts,
                       e->n_images);
    size_t *last = &r->last[(size_t)prompt * e->n_images + (size_t)image];
    if (!r->adding) {
        *last = r->number;
        return SP_OK;
    }
    if (*last != r->number || !files_are_there(r->run, record)) return SP_OK;
    return sp_evaluation_add(&r->run->evaluation, r->name, record, err);
}

static sp_status read_journal(sp_evaluate *run, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    SP_TRY(sp_layout_path(path, err, "%s/journal.jsonl", run->options->output_dir));
    SP_TRY(sp_journal_open(&run->journal, path, err));
    reading r = {run, path, calloc(run->evaluation.n_prompts, run->evaluation.n_images * sizeof *r.last), 0, false};
    if (r.last == NULL) return no_memory(err);
    sp_status status = sp_journal_each(run->journal, visit_record, &r, err);
    r.number = 0;
    r.adding = true;
    if (status == SP_OK) status = sp_journal_each(run->journal, visit_record, &r, err);
    free(r.last);
    return status;
}

/* A session's first pictures meet cold memory, and --window auto knows nothing yet: they are not counted. */
static sp_status warm_up(sp_evaluate *run, const size_t *groups, size_t n, sp_error *err)
{
    for (size_t s = 0; s < run->settings.count; s++) {
        if (session_of(run, s) != s) continue;
        SP_TRY(sp_session_open(&run->sessions[s], run->engine, err));
        SP_TRY(draw_setting(run, s, groups, n, false, err));
    }
    return SP_OK;
}

/* missing [left] groups, as many together as the engine draws. */
static sp_status draw_missing(sp_evaluate *run, const size_t *missing, size_t left, sp_error *err)
{
    size_t batch = run->info.batch_size < left ? run->info.batch_size : left;
    SP_TRY(warm_up(run, missing, batch, err));
    for (size_t i = 0; i < left; i += batch)
        SP_TRY(draw_groups(run, missing + i, left - i < batch ? left - i : batch, err));
    return SP_OK;
}

sp_status sp_evaluate_draw(sp_evaluate *run, sp_error *err)
{
    const sp_evaluation *e = &run->evaluation;
    SP_TRY(read_journal(run, err));
    sweep_all(run);
    size_t left = 0, groups = e->n_prompts * e->n_images, done = 0;
    size_t *missing = calloc(groups, sizeof *missing);
    if (missing == NULL) return no_memory(err);
    for (size_t i = 0; i < groups; i++)
        if (!e->done[i]) missing[left++] = i;
    if (left < groups) sp_setup_note(run->options, "%zu of %zu groups are done", groups - left, groups);
    sp_status status = left > 0 ? make_room(run, err) : SP_OK;
    if (left > 0 && status == SP_OK) {
        sp_progress_open(&run->view, run->options->progress, left * e->n_settings, run->options->quiet);
        status = draw_missing(run, missing, left, err);
        sp_progress_close(&run->view);
    }
    free(missing);
    for (size_t i = 0; i < groups; i++) done += e->done[i];
    if (status == SP_ECANCELLED)
        sp_setup_note(run->options, "%zu of %zu groups are done; the same command resumes", done, groups);
    return status;
}

void sp_evaluate_close(sp_evaluate *run)
{
    for (size_t s = 0; run->sessions != NULL && s < run->settings.count; s++) sp_session_close(run->sessions[s]);
    for (size_t i = 0; run->drawn != NULL && i < run->info.batch_size * run->settings.count; i++) {
        free(run->drawn[i].tokens);
        free(run->drawn[i].passes);
        free(run->drawn[i].rgb);
        free(run->drawn[i].scores);
        free(run->drawn[i].features);
    }
    free(run->requests);
    free(run->sessions);
    free(run->drawn);
    sp_journal_close(run->journal);
    sp_evaluation_close(&run->evaluation);
    sp_settings_free(&run->settings);
    sp_prompts_free(&run->prompts);
    free(run->ids);
    free(run->texts);
    json_decref(run->head);
    sp_features_close(run->features);
    sp_release(run->reference.features);
    sp_release(run->network.features);
    sp_release(run->network.reference.features);
    sp_engine_close(run->engine);
    *run = (sp_evaluate){0};
}
