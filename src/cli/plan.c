#include "cli/plan.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/metadata.h"
#include "cli/setup.h"

/* As many as --batch-count takes. */
enum { MOST_IMAGES = 65536 };

static sp_status no_memory(sp_error *err) { return SP_FAIL(err, SP_ENOMEM, "no memory for the plan; use more shards"); }

sp_status sp_plan_fail(sp_plan_item *item, const char *message, sp_error *err)
{
    item->state = SP_PLAN_FAILED;
    free(item->error);
    item->error = strdup(message);
    return item->error != NULL ? SP_OK : no_memory(err);
}

static sp_request request_of(const sp_options *options, const sp_engine *engine, const sp_prompt *prompt)
{
    sp_request request = sp_setup_request(options, engine);
    request.prompt = prompt->prompt;
    request.seed = prompt->has & SP_PROMPT_SEED ? prompt->seed : options->seed + (prompt->line - 1);
    if (prompt->method != NULL) request.method = prompt->method;
    if (prompt->draft_init != NULL) request.draft_init = prompt->draft_init;
    if (prompt->has & SP_PROMPT_WINDOW) request.window = prompt->window;
    if (prompt->has & SP_PROMPT_CFG_SCALE) request.cfg_scale = prompt->cfg_scale;
    if (prompt->has & SP_PROMPT_TEMPERATURE) request.temperature = prompt->temperature;
    if (prompt->has & SP_PROMPT_TOP_K) request.top_k = prompt->top_k;
    if (prompt->has & SP_PROMPT_TOP_P) request.top_p = prompt->top_p;
    return request;
}

static size_t images_of(const sp_options *options, const sp_prompt *prompt)
{
    if (prompt->error != NULL) return 1;
    return prompt->has & SP_PROMPT_N ? prompt->n : (size_t)options->batch_count;
}

static bool is_wanted(const sp_options *options, const sp_prompt *prompt)
{
    return options->only == NULL || (prompt->id != NULL && strcmp(options->only, prompt->id) == 0);
}

static sp_status name_item(sp_plan_item *item, const sp_options *options, size_t images, sp_error *err)
{
    const char *id = item->prompt->id;
    int length = images == 1 ? asprintf(&item->file, "%s.png", id)
                             : asprintf(&item->file, "%s-%" PRIu32 ".png", id, item->request.image);
    if (length < 0) item->file = NULL;
    if (item->file == NULL) return no_memory(err);
    if (asprintf(&item->path, "%s/%s", options->output_dir, item->file) < 0) return no_memory(err);
    if (options->tokens == NULL) return SP_OK;
    int stem = (int)(strlen(item->file) - strlen(".png"));
    if (asprintf(&item->tokens, "%s/%.*s.json", options->tokens, stem, item->file) < 0) return no_memory(err);
    return SP_OK;
}

static const char *base_name(const char *path) { return strrchr(path, '/') + 1; }

static sp_status claim_names(sp_plan *plan, sp_plan_item *item, sp_error *err)
{
    if (json_object_get(plan->files, item->file) != NULL) {
        char message[256];
        snprintf(message, sizeof message, "its file %s is that of another line; give it another id", item->file);
        return sp_plan_fail(item, message, err);
    }
    if (json_object_set_new(plan->files, item->file, json_true()) != 0) return no_memory(err);
    if (item->tokens == NULL) return SP_OK;
    return json_object_set_new(plan->files, base_name(item->tokens), json_true()) == 0 ? SP_OK : no_memory(err);
}

/* A request that cannot be drawn fails its own line and no other. */
static sp_status check_item(sp_plan_item *item, sp_engine *engine, sp_error *err)
{
    sp_error found = {0};
    sp_status status = sp_request_check(engine, &item->request, &found);
    if (status == SP_OK && sp_engine_info(engine).from_text) {
        size_t tokens;
        status = sp_prompt_tokens(engine, item->request.prompt, &tokens, &found);
    }
    if (status == SP_EARG || status == SP_EUNSUPPORTED) return sp_plan_fail(item, found.message, err);
    if (status != SP_OK) return SP_FAIL(err, status, "%s", found.message);
    sp_metadata metadata;
    status = sp_metadata_make(&metadata, engine, &item->request, err);
    if (status == SP_OK) memcpy(item->fingerprint, metadata.fingerprint, sizeof item->fingerprint);
    sp_metadata_free(&metadata);
    return status;
}

static sp_status add_item(sp_plan *plan, const sp_options *options, sp_engine *engine, const sp_prompt *prompt,
                          size_t image, sp_error *err)
{
    sp_plan_item *item = &plan->items[plan->count++];
    *item = (sp_plan_item){.state = SP_PLAN_DRAW, .prompt = prompt};
    if (prompt->error != NULL) return sp_plan_fail(item, prompt->error, err);
    size_t images = images_of(options, prompt);
    if (images > MOST_IMAGES) return sp_plan_fail(item, "n is above 65536; use several lines", err);
    item->request = request_of(options, engine, prompt);
    item->request.image = (uint32_t)image;
    SP_TRY(name_item(item, options, images, err));
    SP_TRY(claim_names(plan, item, err));
    if (item->state == SP_PLAN_FAILED) return SP_OK;
    return check_item(item, engine, err);
}

/* Visits the pictures of this shard; counts them when engine is NULL, else adds them. A bad line, or one with too many
 * pictures, is one item. */
static sp_status walk(sp_plan *plan, const sp_options *options, sp_run_shard shard, sp_engine *engine,
                      size_t *count, sp_error *err)
{
    size_t number = 0, lines = options->given[SP_OPTION_limit] ? (size_t)options->limit : SIZE_MAX;
    *count = 0;
    for (size_t i = 0; i < plan->prompts.count && i < lines; i++) {
        const sp_prompt *prompt = &plan->prompts.items[i];
        size_t images = images_of(options, prompt);
        if (images > MOST_IMAGES) images = 1;
        for (size_t image = 0; image < images; image++) {
            if (number++ % shard.count != shard.index || !is_wanted(options, prompt)) continue;
            ++*count;
            if (engine != NULL) SP_TRY(add_item(plan, options, engine, prompt, image, err));
        }
    }
    return SP_OK;
}

sp_status sp_plan_make(sp_plan *plan, const sp_options *options, sp_run_shard shard, sp_engine *engine,
                       sp_error *err)
{
    *plan = (sp_plan){.files = json_object()};
    if (plan->files == NULL) return no_memory(err);
    SP_TRY(sp_prompts_read(&plan->prompts, options->prompt_file, err));
    bool found = options->only == NULL;
    for (size_t i = 0; i < plan->prompts.count && !found; i++) found = is_wanted(options, &plan->prompts.items[i]);
    if (!found)
        return SP_FAIL(err, SP_EARG, "--only: no line of %s has the id '%.80s'", options->prompt_file, options->only);
    size_t count;
    SP_TRY(walk(plan, options, shard, NULL, &count, err));
    plan->items = calloc(count > 0 ? count : 1, sizeof *plan->items);
    if (plan->items == NULL) return no_memory(err);
    return walk(plan, options, shard, engine, &count, err);
}

static bool is_there(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

/* Whether the picture at the item's path has these settings inside. */
static sp_status made_by(const sp_plan_item *item, const sp_engine *engine, bool *same, sp_error *err)
{
    sp_metadata metadata;
    json_t *settings = NULL;
    sp_error unreadable = {0};
    sp_status status = sp_metadata_make(&metadata, engine, &item->request, err);
    *same = false;
    if (status == SP_OK && sp_metadata_read(item->path, &settings, &unreadable) == SP_OK) {
        char *text = json_dumps(settings, JSON_COMPACT | JSON_REAL_PRECISION(9));
        *same = text != NULL && strcmp(text, metadata.json) == 0;
        free(text);
        json_decref(settings);
    }
    sp_metadata_free(&metadata);
    return status;
}

static sp_status compare_item(sp_plan_item *item, const sp_options *options, const sp_engine *engine,
                              const json_t *ledger, sp_error *err)
{
    json_t *record = json_object_get(ledger, item->file);
    const char *settings = json_string_value(json_object_get(record, "settings"));
    if (!is_there(item->path)) return SP_OK;
    bool same = settings != NULL && strcmp(settings, item->fingerprint) == 0, known = same;
    if (!same) SP_TRY(made_by(item, engine, &same, err));
    if (!same && options->force) return SP_OK;
    if (!same)
        return SP_FAIL(err, SP_EARG, "%s was not made with these settings; use another --output-dir, or --force to "
                       "replace it", item->path);
    if (item->tokens != NULL && !is_there(item->tokens)) return SP_OK;
    item->state = known ? SP_PLAN_DONE : SP_PLAN_ADOPT;
    if (known) item->record = json_incref(record);
    return SP_OK;
}

sp_status sp_plan_compare(sp_plan *plan, const sp_options *options, const sp_engine *engine, const json_t *ledger,
                          sp_error *err)
{
    for (size_t i = 0; i < plan->count; i++)
        if (plan->items[i].state == SP_PLAN_DRAW)
            SP_TRY(compare_item(&plan->items[i], options, engine, ledger, err));
    return SP_OK;
}

size_t sp_plan_number(const sp_plan *plan, sp_plan_state state)
{
    size_t number = 0;
    for (size_t i = 0; i < plan->count; i++) number += plan->items[i].state == state;
    return number;
}

/* A temporary is .<name>.<process>.part beside its file. */
static bool is_temporary_of(const char *entry, const json_t *files)
{
    char name[256];
    size_t length = strlen(entry), end = strlen(".part");
    if (entry[0] != '.' || length <= end + 1 || length >= sizeof name || strcmp(entry + length - end, ".part") != 0)
        return false;
    memcpy(name, entry + 1, length - end - 1);
    name[length - end - 1] = '\0';
    char *dot = strrchr(name, '.');
    if (dot == NULL || dot[1] == '\0' || dot[1 + strspn(dot + 1, "0123456789")] != '\0') return false;
    *dot = '\0';
    return json_object_get(files, name) != NULL;
}

void sp_plan_sweep(const sp_plan *plan, const char *folder)
{
    DIR *list = opendir(folder);
    if (list == NULL) return;
    for (struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (is_temporary_of(entry->d_name, plan->files)) unlinkat(dirfd(list), entry->d_name, 0);
    closedir(list);
}

void sp_plan_free(sp_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        free(plan->items[i].file);
        free(plan->items[i].path);
        free(plan->items[i].tokens);
        free(plan->items[i].error);
        json_decref(plan->items[i].record);
    }
    free(plan->items);
    json_decref(plan->files);
    sp_prompts_free(&plan->prompts);
    *plan = (sp_plan){0};
}
