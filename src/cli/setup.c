#include "cli/setup.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static bool is_model(const char *folder)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/config.json", folder);
    return length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0;
}

/* ../share/specular/samples/emoji, seen from the folder of the program. */
static bool installed_model(char *folder, size_t size)
{
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return false;
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash == NULL) return false;
    *slash = '\0';
    int written = snprintf(folder, size, "%s/../share/specular/samples/emoji", program);
    return written > 0 && (size_t)written < size;
}

sp_status sp_setup_model(const sp_options *options, char **path, sp_error *err)
{
    char beside[PATH_MAX];
    const char *variable = getenv("SPECULAR_MODEL"), *found = NULL;
    if (options->model != NULL)
        found = options->model;
    else if (variable != NULL && *variable != '\0')
        found = variable;
    else if (installed_model(beside, sizeof beside) && is_model(beside))
        found = beside;
    else if (is_model(SP_SAMPLE_MODEL))
        found = SP_SAMPLE_MODEL;
    else
        return SP_FAIL(err, SP_EFORMAT, "no model: none beside the program, none in %s; give --model DIR or set "
                       "SPECULAR_MODEL", SP_SAMPLE_MODEL);
    *path = strdup(found);
    return *path != NULL ? SP_OK : SP_FAIL(err, SP_ENOMEM, "no memory for the name of the model; free some");
}

sp_status sp_setup_engine(const sp_options *options, sp_engine **engine, sp_error *err)
{
    char *path;
    SP_TRY(sp_setup_model(options, &path, err));
    sp_engine_options wanted = sp_engine_defaults();
    wanted.model = path;
    wanted.device = options->device;
    wanted.dtype = options->dtype;
    wanted.kernels = options->kernels;
    wanted.drafter = options->drafter;
    wanted.threads = (int)options->threads;
    wanted.batch_size = (int)options->batch_size;
    sp_status status = sp_engine_open(engine, &wanted, err);
    free(path);
    if (status == SP_OK && sp_engine_info(*engine).batch_size < (size_t)wanted.batch_size)
        sp_setup_note(options, "--batch-size %d: pictures are drawn one after another here; batches are of codes",
                      wanted.batch_size);
    return status;
}

sp_request sp_setup_request(const sp_options *options, const sp_engine *engine)
{
    sp_request request = sp_request_defaults(engine);
    const bool *given = options->given;
    if (given[SP_OPTION_seed]) request.seed = options->seed;
    if (given[SP_OPTION_method]) request.method = options->method;
    if (given[SP_OPTION_window]) request.window = (int)options->window;
    if (given[SP_OPTION_draft_init]) request.draft_init = options->draft_init;
    if (given[SP_OPTION_groups]) request.groups = options->groups;
    if (given[SP_OPTION_group_size]) request.group_size = (int)options->group_size;
    if (given[SP_OPTION_group_delta]) request.group_delta = (float)options->group_delta;
    if (given[SP_OPTION_group_distance]) request.group_distance = (float)options->group_distance;
    if (given[SP_OPTION_tree]) request.tree = (int)options->tree;
    if (given[SP_OPTION_lantern_k]) request.lantern_k = (int)options->lantern_k;
    if (given[SP_OPTION_lantern_delta]) request.lantern_delta = (float)options->lantern_delta;
    if (given[SP_OPTION_lantern_lambda]) request.lantern_lambda = (float)options->lantern_lambda;
    if (given[SP_OPTION_front]) request.front = options->front;
    if (given[SP_OPTION_gamma]) request.gamma = (int)options->gamma;
    if (given[SP_OPTION_prefill]) request.prefill = (float)options->prefill;
    if (given[SP_OPTION_align]) request.align = strcmp(options->align, "yes") == 0;
    if (given[SP_OPTION_tolerance]) request.tolerance = (float)options->tolerance;
    if (given[SP_OPTION_passes]) request.passes = (int)options->passes;
    if (given[SP_OPTION_cfg_scale]) request.cfg_scale = (float)options->cfg_scale;
    if (given[SP_OPTION_temperature]) request.temperature = (float)options->temperature;
    if (given[SP_OPTION_top_k]) request.top_k = (int)options->top_k;
    if (given[SP_OPTION_top_p]) request.top_p = (float)options->top_p;
    return request;
}

sp_status sp_setup_random_seed(uint64_t *seed, sp_error *err)
{
    uint32_t bits;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return SP_FAIL_ERRNO(err, SP_EBUG, errno, "no random seed: %s; give --seed N", strerror(errno));
    *seed = bits;
    return SP_OK;
}

sp_status sp_setup_writable(const char *path, sp_error *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return SP_FAIL(err, SP_EOUTPUT, "%s is a folder, expected a file; name a file in it", path);
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);
    if (length >= sizeof folder) return SP_FAIL(err, SP_EOUTPUT, "%.80s...: the path is too long", path);
    memcpy(folder, path, length);
    folder[length] = '\0';
    const char *parent = slash == NULL ? "." : slash == path ? "/" : folder;
    if (access(parent, W_OK) == 0) return SP_OK;
    return SP_FAIL_ERRNO(err, SP_EOUTPUT, errno, "cannot write in folder %s: %s; make it or choose another", parent,
                         strerror(errno));
}

sp_status sp_setup_absent(const char *path, bool force, sp_error *err)
{
    struct stat info;
    if (force || stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return SP_OK;
    return SP_FAIL(err, SP_EARG, "%s is there already; name another file or give --force to replace it", path);
}

sp_status sp_setup_write_json(const char *path, const json_t *document, size_t flags, sp_error *err)
{
    if (document == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for the JSON of %s; free some", path);
    char *text = json_dumps(document, flags | JSON_REAL_PRECISION(9));
    if (text == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for the JSON of %s; free some", path);
    sp_status status = SP_OK;
    if (strcmp(path, "-") == 0) {
        puts(text); /* main checks standard output at the end */
    } else {
        size_t length = strlen(text);
        text[length] = '\n'; /* in the place of the terminator, which the file does not need */
        status = sp_file_write(path, text, length + 1, err);
    }
    free(text);
    return status;
}

void sp_setup_print_memory(const sp_engine *engine)
{
    sp_model_info info = sp_engine_info(engine);
    printf("%zu bytes: weights %zu, session %zu (keys and values %zu)", info.weight_bytes + info.session_bytes +
           info.drafter_bytes, info.weight_bytes, info.session_bytes, info.kv_bytes);
    if (info.drafter_bytes > 0) printf(", drafter %zu", info.drafter_bytes);
    putchar('\n');
}

void sp_setup_note(const sp_options *options, const char *format, ...)
{
    if (options->quiet) return;
    va_list arguments;
    va_start(arguments, format);
    fputs("specular: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}
