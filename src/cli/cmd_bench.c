#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/bench_table.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/metadata.h"
#include "cli/number.h"
#include "cli/progress.h"
#include "cli/setup.h"
#include "io/prompts.h"

/* Of several kinds, because acceptance depends on how certain the model is: plain, with colour, with a background, two
 * things, and one that no data set has. */
static const char built_in_prompts[] =
    "red heart\nblue car\ngreen apple on a white background\nyellow star on a dark blue background\n"
    "a cat and a dog\nsmiling face with sunglasses\ntwo purple umbrellas\na glass teapot full of bees\n";
static const char built_in_classes[] = "0\n1\n2\n3\n4\n5\n6\n7\n";

enum { MOST_ROWS = 64 };

typedef struct benchmark {
    const sp_options *options;
    sp_engine *engine;
    sp_session *session;
    sp_prompts prompts;
    sp_bench_table table;
    sp_progress_view view;
    sp_request *requests; /* of the batch in work */
    unsigned char *reference; /* the tokens of ar for its pictures */
} benchmark;

static size_t token_bytes(const benchmark *run)
{
    const sp_model_info *info = &run->table.model;
    return info->continuous ? info->latent_dim * sizeof(float) : sizeof(int32_t);
}

static const void *tokens_of(const sp_result *result)
{
    return result->latents != NULL ? (const void *)result->latents : result->tokens;
}

static sp_status add_row(benchmark *run, const sp_method *method, int window, sp_error *err)
{
    sp_bench_table *table = &run->table;
    for (size_t i = 0; i < table->count; i++)
        if (table->rows[i].window == window && strcmp(table->rows[i].method, method->name) == 0) return SP_OK;
    if (table->count == MOST_ROWS)
        return SP_FAIL(err, SP_EARG, "--methods and --window make more than %d rows; time fewer", (int)MOST_ROWS);
    table->rows[table->count++] =
        (sp_bench_row){.method = method->name, .exactness = method->exactness, .window = window};
    return SP_OK;
}

/* The next of a list separated by commas; false at its end. */
static bool next_word(const char **list, char *word, size_t size)
{
    if (*list == NULL) return false;
    size_t length = strcspn(*list, ",");
    snprintf(word, size, "%.*s", (int)length, *list);
    *list = (*list)[length] == ',' ? *list + length + 1 : NULL;
    return true;
}

static sp_status find_method(const benchmark *run, const char *name, const sp_method **out, sp_error *err)
{
    bool continuous = run->table.model.continuous;
    *out = sp_method_find(name, continuous);
    if (*out != NULL) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--methods: '%.80s' is not a method of models with %s tokens; see specular bench "
                   "--help", name, continuous ? "continuous" : "discrete");
}

static sp_status add_windows(benchmark *run, const sp_method *method, sp_error *err)
{
    char word[64];
    const char *windows = run->options->windows;
    while (next_word(&windows, word, sizeof word)) {
        int64_t window = 0;
        if (strcmp(word, "auto") != 0 && !sp_number_integer(word, 1, SP_MAX_WINDOW, &window))
            return SP_FAIL(err, SP_EARG, "--window: '%.80s' is not auto or a whole number from 1 to %d", word,
                           (int)SP_MAX_WINDOW);
        SP_TRY(add_row(run, method, (int)window, err));
    }
    return SP_OK;
}

/* ar first, which everything is compared with; it has no window. */
static sp_status make_rows(benchmark *run, sp_error *err)
{
    run->table.rows = calloc(MOST_ROWS, sizeof *run->table.rows);
    if (run->table.rows == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for the table; free some");
    const sp_method *method;
    SP_TRY(find_method(run, "ar", &method, err));
    SP_TRY(add_row(run, method, 1, err));
    char word[64];
    const char *methods = run->options->methods;
    if (methods == NULL) methods = sp_request_defaults(run->engine).method;
    while (next_word(&methods, word, sizeof word)) {
        SP_TRY(find_method(run, word, &method, err));
        /* Passes of a second model's drafts have --gamma positions. */
        if (method->continuous && method->needs_drafter) SP_TRY(add_row(run, method, 0, err));
        else if (strcmp(word, "ar") != 0) SP_TRY(add_windows(run, method, err));
    }
    return SP_OK;
}

static sp_status read_prompts(benchmark *run, sp_error *err)
{
    const char *file = run->options->prompt_file;
    sp_model_info info = sp_engine_info(run->engine);
    const char *text = info.from_text ? built_in_prompts : built_in_classes;
    if (file == NULL)
        SP_TRY(sp_prompts_parse(&run->prompts, "built-in.txt", text, strlen(text), err));
    else
        SP_TRY(sp_prompts_read(&run->prompts, file, err));
    size_t limit = run->options->given[SP_OPTION_limit] ? (size_t)run->options->limit : SIZE_MAX;
    run->table.prompts = run->prompts.count < limit ? run->prompts.count : limit;
    for (size_t i = 0; i < run->table.prompts; i++)
        if (run->prompts.items[i].error != NULL)
            return SP_FAIL(err, SP_EFORMAT, "%s: line %zu: %s", file != NULL ? file : "built-in prompts",
                           run->prompts.items[i].line, run->prompts.items[i].error);
    if (run->table.prompts == 0) return SP_FAIL(err, SP_EFORMAT, "%s: no prompts; give a line at least", file);
    return SP_OK;
}

static sp_request request_of(const benchmark *run, const sp_bench_row *row, size_t prompt, size_t image)
{
    const sp_prompt *line = &run->prompts.items[prompt];
    sp_request request = sp_setup_request(run->options, run->engine);
    request.prompt = line->prompt;
    request.pixels = *run->table.model.codec != '\0';
    request.seed = line->has & SP_PROMPT_SEED ? line->seed : run->options->seed + (line->line - 1);
    request.image = (uint32_t)image;
    request.method = row->method;
    request.window = row->window;
    return request;
}

/* A batch in work. */
typedef struct batch {
    benchmark *run;
    sp_bench_row *row;
    bool counted;
    double apart_ms; /* of its pictures: prefixes, and pixels where no passes of others run beside them */
} batch;

static sp_status no_memory(sp_error *err)
{
    return SP_FAIL(err, SP_ENOMEM, "no memory for measurements; use fewer repetitions");
}

static sp_status measure_picture(void *user, size_t index, const sp_result *result, const sp_error *why, sp_error *err)
{
    batch *b = user;
    benchmark *run = b->run;
    sp_bench_row *row = b->row;
    if (result == NULL) return SP_FAIL(err, why->status, "%s", why->message);
    const unsigned char *tokens = tokens_of(result);
    size_t size = token_bytes(run);
    unsigned char *reference = run->reference + index * result->n_tokens * size;
    if (row == run->table.rows) memcpy(reference, tokens, result->n_tokens * size);
    bool beside = run->table.model.batch_size > 1 && run->table.model.on_device;
    b->apart_ms += result->prefill_ms + (beside ? 0 : result->vq_ms);
    sp_progress_done(&run->view, row->method);
    if (!b->counted) return SP_OK;
    for (size_t i = 0; i < result->n_tokens; i++)
        row->tokens_equal += memcmp(tokens + i * size, reference + i * size, size) == 0;
    row->tokens += result->n_tokens;
    double nfe = (double)result->nfe;
    bool kept = sp_series_add(&row->nfe, nfe) && sp_series_add(&row->pass_ms, nfe > 0 ? result->decode_ms / nfe : 0);
    return kept ? SP_OK : no_memory(err);
}

static sp_status draw(benchmark *run, size_t prompt, size_t repetition, bool counted, sp_error *err)
{
    size_t n = run->table.batch_size;
    for (sp_bench_row *row = run->table.rows; row < run->table.rows + run->table.count; row++) {
        if (sp_interrupt_signal() != 0) return SP_FAIL(err, SP_ECANCELLED, "interrupted");
        for (size_t i = 0; i < n; i++) {
            run->requests[i] = request_of(run, row, prompt, repetition * n + i);
            run->requests[i].progress = sp_progress_step;
            run->requests[i].user = &run->view;
        }
        batch b = {run, row, counted, 0};
        double start = sp_clock_ms();
        SP_TRY(sp_generate_many(run->session, run->requests, n, measure_picture, &b, err));
        double ms = sp_clock_ms() - start;
        if (counted && !(sp_series_add(&row->image_ms, ms / (double)n) &&
                         sp_series_add(&row->decode_ms, (ms - b.apart_ms) / (double)n)))
            return no_memory(err);
    }
    return SP_OK;
}

/* Methods take turns prompt by prompt, so that a machine that grows slower slows all of them. */
static sp_status measure_all(benchmark *run, sp_error *err)
{
    const sp_options *options = run->options;
    size_t rounds = (size_t)(options->warmup + options->repetitions);
    size_t pictures = rounds * run->table.prompts * run->table.count * run->table.batch_size;
    sp_progress_open(&run->view, options->progress, pictures, options->quiet);
    sp_status status = SP_OK;
    for (size_t round = 0; round < rounds && status == SP_OK; round++)
        for (size_t prompt = 0; prompt < run->table.prompts && status == SP_OK; prompt++)
            status = draw(run, prompt, round, round >= (size_t)options->warmup, err);
    sp_progress_close(&run->view);
    return status;
}

static sp_status prepare(benchmark *run, sp_error *err)
{
    SP_TRY(sp_setup_engine(run->options, &run->engine, err));
    run->table.model = sp_engine_info(run->engine);
    SP_TRY(make_rows(run, err));
    run->table.model_name = sp_metadata_model_name(&run->table.model);
    run->table.repetitions = (size_t)run->options->repetitions;
    run->table.batch_size = (size_t)run->options->batch_size;
    run->requests = calloc(run->table.batch_size, sizeof *run->requests);
    run->reference = calloc(run->table.batch_size * run->table.model.rows * run->table.model.columns, token_bytes(run));
    if (run->table.model_name == NULL || run->requests == NULL || run->reference == NULL)
        return SP_FAIL(err, SP_ENOMEM, "no memory for the tokens of a batch; free some");
    SP_TRY(read_prompts(run, err));
    return sp_session_open(&run->session, run->engine, err);
}

sp_status sp_cmd_bench(const sp_options *options, bool *some_failed, sp_error *err)
{
    (void)some_failed;
    benchmark run = {.options = options};
    sp_status status = prepare(&run, err);
    if (status == SP_OK) status = measure_all(&run, err);
    if (status == SP_OK) status = sp_bench_table_print(&run.table, options->output_format, err);
    sp_session_close(run.session);
    sp_bench_table_free(&run.table);
    sp_prompts_free(&run.prompts);
    sp_engine_close(run.engine);
    free(run.requests);
    free(run.reference);
    return status;
}
