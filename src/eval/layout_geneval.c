/* GenEval: 00000/metadata.jsonl, the line of the prompt as GenEval published it, and 00000/samples/0000.png and so on.
 * Its evaluator reads folders whose names are digits and files whose names are digits and .png, and skips the rest
 * without a word. */
#include <string.h>

#include "base/file.h"
#include "eval/layout.h"
#include "io/json.h"

extern const sp_layout_ops sp_layout_geneval;

static sp_status check_metadata(const char *name, const char *line, size_t size, const char *prompt, sp_error *err)
{
    json_t *object;
    SP_TRY(sp_json_parse(&object, name, line, size, err));
    const char *text = json_string_value(json_object_get(object, "prompt"));
    bool same = text != NULL && strcmp(text, prompt) == 0;
    json_decref(object);
    if (same) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: its prompt is not '%.80s'; give the metadata of these prompts, in their order",
                   name, prompt);
}

static sp_status fit(const sp_layout_job *job, sp_error *err)
{
    if (!job->metadata)
        return SP_FAIL(err, SP_EARG, "--layout geneval: no --metadata FILE, the lines of GenEval's "
                       "evaluation_metadata.jsonl that its evaluator needs");
    for (size_t p = 0; p < job->n_prompts; p++) {
        char name[SP_PATH_LIMIT];
        SP_TRY(sp_layout_path(name, err, "--metadata line %zu", p + 1));
        SP_TRY(check_metadata(name, job->metadata[p], strlen(job->metadata[p]), job->prompts[p], err));
    }
    return SP_OK;
}

static sp_status write_prompt(const sp_layout_job *job, const char *folder, size_t prompt, sp_error *err)
{
    char path[SP_PATH_LIMIT], picture[SP_PATH_LIMIT];
    SP_TRY(sp_layout_path(path, err, "%s/%05zu", folder, prompt));
    SP_TRY(sp_folder_make(path, err));
    SP_TRY(sp_layout_path(path, err, "%s/%05zu/samples", folder, prompt));
    SP_TRY(sp_folder_make(path, err));
    for (size_t i = 0; i < job->n_images; i++) {
        SP_TRY(sp_layout_picture(job, prompt, i, picture, err));
        SP_TRY(sp_layout_path(path, err, "%s/%05zu/samples/%04zu.png", folder, prompt, i));
        SP_TRY(sp_layout_copy(picture, path, err));
    }
    SP_TRY(sp_layout_path(path, err, "%s/%05zu/metadata.jsonl", folder, prompt));
    return sp_file_write(path, job->metadata[prompt], strlen(job->metadata[prompt]), err);
}

static sp_status write(const sp_layout_job *job, sp_error *err)
{
    char folder[SP_PATH_LIMIT];
    SP_TRY(sp_layout_folder(job, folder, err));
    for (size_t p = 0; p < job->n_prompts; p++) SP_TRY(write_prompt(job, folder, p, err));
    return SP_OK;
}

typedef struct tally {
    const sp_layout_job *job;
    const char *folder;
    size_t count;
} tally;

static bool is_digits(const char *text, size_t size)
{
    return size > 0 && strspn(text, "0123456789") >= size;
}

static sp_status visit_sample(void *user, const char *name, sp_error *err)
{
    tally *found = user;
    char path[SP_PATH_LIMIT];
    size_t length = strlen(name);
    if (length < 5 || strcmp(name + length - 4, ".png") != 0 || !is_digits(name, length - 4)) return SP_OK;
    found->count++;
    SP_TRY(sp_layout_path(path, err, "%s/%s", found->folder, name));
    return sp_layout_opens(path, found->job->width, found->job->height, err);
}

static sp_status visit_prompt(void *user, const char *name, sp_error *err)
{
    tally *found = user;
    const sp_layout_job *job = found->job;
    char path[SP_PATH_LIMIT];
    if (!is_digits(name, strlen(name))) return SP_OK;
    size_t prompt = 0;
    for (const char *c = name; *c && prompt < job->n_prompts; c++) prompt = 10 * prompt + (size_t)(*c - '0');
    found->count++;
    if (prompt >= job->n_prompts)
        return SP_FAIL(err, SP_EFORMAT, "%s/%s: expected folders 00000 to %05zu; take it away", found->folder, name,
                       job->n_prompts - 1);
    SP_TRY(sp_layout_path(path, err, "%s/%s/metadata.jsonl", found->folder, name));
    sp_bytes bytes;
    SP_TRY(sp_file_read(path, SP_JSON_LIMIT, &bytes, err));
    sp_status status = check_metadata(path, (const char *)bytes.data, bytes.size, job->prompts[prompt], err);
    sp_bytes_free(&bytes);
    SP_TRY(status);
    SP_TRY(sp_layout_path(path, err, "%s/%s/samples", found->folder, name));
    tally samples = {job, path, 0};
    SP_TRY(sp_layout_each(path, visit_sample, &samples, err));
    if (samples.count == job->n_images) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: %zu pictures: expected %zu; write the layout again", path, samples.count,
                   job->n_images);
}

static sp_status check(const sp_layout_job *job, sp_error *err)
{
    char folder[SP_PATH_LIMIT];
    SP_TRY(sp_layout_path(folder, err, "%s/layouts/geneval/%s", job->folder, job->setting));
    tally found = {job, folder, 0};
    SP_TRY(sp_layout_each(folder, visit_prompt, &found, err));
    if (found.count == job->n_prompts) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: %zu prompts: expected %zu; write the layout again", folder, found.count,
                   job->n_prompts);
}

const sp_layout_ops sp_layout_geneval = {.name = "geneval", .fit = fit, .write = write, .check = check};
