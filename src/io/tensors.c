#include "io/tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/dtype.h"
#include "base/file.h"
#include "base/size.h"
#include "io/json.h"
#include "io/safetensors.h"

/* One or more safetensors images and the tensors of all of them, sorted by name. */
struct sp_tensors {
    char *path;
    size_t n_shards;
    sp_shard *shards;
    size_t count;
    sp_tensor *tensors; /* of the dtypes that are read */
    size_t n_skipped;
    sp_skipped *skipped; /* of the others */
};

static int order_tensors(const void *a, const void *b)
{
    return strcmp(((const sp_tensor *)a)->name, ((const sp_tensor *)b)->name);
}

static int order_skipped(const void *a, const void *b)
{
    return strcmp(((const sp_skipped *)a)->name, ((const sp_skipped *)b)->name);
}

static const sp_skipped *find_skipped(const sp_tensors *tensors, const char *name)
{
    sp_skipped key = {.name = name};
    if (!tensors->n_skipped) return NULL;
    return bsearch(&key, tensors->skipped, tensors->n_skipped, sizeof key, order_skipped);
}

/* Two shards may both hold a name; within one the JSON parser has refused that. */
static sp_status refuse_duplicates(const sp_tensors *tensors, sp_error *err)
{
    const char *twice = NULL;
    for (size_t i = 1; i < tensors->count; i++)
        if (strcmp(tensors->tensors[i - 1].name, tensors->tensors[i].name) == 0) twice = tensors->tensors[i].name;
    for (size_t i = 0; i < tensors->n_skipped; i++) {
        const char *name = tensors->skipped[i].name;
        if (i && strcmp(tensors->skipped[i - 1].name, name) == 0) twice = name;
        if (sp_tensors_find(tensors, name)) twice = name;
    }
    if (!twice) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s' is in two shards, expected in one", tensors->path, twice);
}

static sp_status gather(sp_tensors *tensors, sp_error *err)
{
    for (size_t i = 0; i < tensors->n_shards; i++) {
        tensors->count += tensors->shards[i].count;
        tensors->n_skipped += tensors->shards[i].n_skipped;
    }
    tensors->tensors = sp_alloc(tensors->count, sizeof *tensors->tensors);
    tensors->skipped = sp_alloc(tensors->n_skipped, sizeof *tensors->skipped);
    if (!tensors->tensors || !tensors->skipped)
        return SP_FAIL(err, SP_ENOMEM, "%s: no memory for the list of %zu tensors", tensors->path, tensors->count);
    sp_tensor *tensor = tensors->tensors;
    sp_skipped *skipped = tensors->skipped;
    for (size_t i = 0; i < tensors->n_shards; i++) {
        const sp_shard *shard = &tensors->shards[i];
        for (size_t j = 0; j < shard->count; j++) *tensor++ = shard->tensors[j];
        for (size_t j = 0; j < shard->n_skipped; j++) *skipped++ = shard->skipped[j];
    }
    qsort(tensors->tensors, tensors->count, sizeof *tensors->tensors, order_tensors);
    qsort(tensors->skipped, tensors->n_skipped, sizeof *tensors->skipped, order_skipped);
    return refuse_duplicates(tensors, err);
}

/* An empty object with room for n_shards. */
static sp_status begin(sp_tensors **out, const char *path, size_t n_shards, sp_error *err)
{
    *out = sp_alloc(1, sizeof **out);
    if (*out) {
        (*out)->path = sp_alloc(strlen(path) + 1, 1);
        (*out)->shards = sp_alloc(n_shards, sizeof *(*out)->shards);
    }
    if (!*out || !(*out)->path || !(*out)->shards) return SP_FAIL(err, SP_ENOMEM, "%s: no memory to open it", path);
    memcpy((*out)->path, path, strlen(path));
    return SP_OK;
}

/* Always leaves either a finished object or NULL. */
static sp_status finish(sp_tensors **out, sp_status status, sp_error *err)
{
    if (status == SP_OK) status = gather(*out, err);
    if (status != SP_OK) {
        sp_tensors_close(*out);
        *out = NULL;
    }
    return status;
}

static sp_status open_shard(sp_tensors *tensors, const char *path, sp_error *err)
{
    sp_shard *shard = &tensors->shards[tensors->n_shards++];
    SP_TRY(sp_map_open(path, &shard->map, err));
    return sp_shard_parse(shard, path, shard->map.data, shard->map.size, err);
}

static sp_status open_single(sp_tensors **out, const char *path, sp_error *err)
{
    sp_status status = begin(out, path, 1, err);
    if (status == SP_OK) status = open_shard(*out, path, err);
    return finish(out, status, err);
}

/* folder + name in new memory. */
static sp_status join_path(char **out, const char *folder, size_t length, const char *name, sp_error *err)
{
    *out = sp_alloc(length + strlen(name) + 1, 1);
    if (!*out) return SP_FAIL(err, SP_ENOMEM, "%.*s%s: no memory for its name", (int)length, folder, name);
    memcpy(*out, folder, length);
    memcpy(*out + length, name, strlen(name));
    return SP_OK;
}

static int order_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct shard names of the index, sorted, borrowed from it. A shard lies beside the index: a name with a slash
 * could reach any file. */
static sp_status list_shards(const char *path, const json_t *map, const char **names, size_t *count, sp_error *err)
{
    const char *tensor;
    json_t *value;
    size_t n = 0;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        const char *name = json_string_value(value);
        if (!name) return SP_FAIL(err, SP_EFORMAT, "%s: shard of '%s' is not a string", path, tensor);
        if (!*name || *name == '.' || strchr(name, '/'))
            return SP_FAIL(err, SP_EFORMAT, "%s: shard '%s' of '%s' is not the name of a file beside the index", path,
                           name, tensor);
        names[n++] = name;
    }
    qsort(names, n, sizeof *names, order_strings);
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(names[*count - 1], names[i]) != 0) names[(*count)++] = names[i];
    return SP_OK;
}

/* Every tensor that the index names is in the shard it names. */
static sp_status check_index(const sp_tensors *tensors, const json_t *map, const char **names, sp_error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        const char *name = json_string_value(value);
        const char **found = bsearch(&name, names, tensors->n_shards, sizeof *names, order_strings);
        if (!sp_shard_has(&tensors->shards[found - names], tensor))
            return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s' is not in its shard '%s'", tensors->path, tensor, name);
    }
    return SP_OK;
}

static sp_status open_index(sp_tensors **out, const char *path, sp_error *err)
{
    json_t *root;
    SP_TRY(sp_json_load(&root, path, SP_JSON_LIMIT, err));
    sp_status status = SP_OK;
    const json_t *map = json_object_get(root, "weight_map");
    const char **names = sp_alloc(json_object_size(map), sizeof *names);
    size_t n_shards = 0, folder = 0;
    if (!names)
        status = SP_FAIL(err, SP_ENOMEM, "%s: no memory for the names of its shards", path);
    else if (json_object_size(map) == 0)
        status =
            SP_FAIL(err, SP_EFORMAT, "%s: 'weight_map' is absent or empty, expected names of tensors and shards", path);
    else
        status = list_shards(path, map, names, &n_shards, err);
    if (status == SP_OK) status = begin(out, path, n_shards, err);
    for (const char *c = path; *c; c++)
        if (*c == '/') folder = (size_t)(c - path) + 1;
    for (size_t i = 0; status == SP_OK && i < n_shards; i++) {
        char *shard;
        status = join_path(&shard, path, folder, names[i], err);
        if (status == SP_OK) status = open_shard(*out, shard, err);
        sp_release(shard);
    }
    if (status == SP_OK) status = check_index(*out, map, names, err);
    status = finish(out, status, err);
    sp_release(names);
    json_decref(root);
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), n = strlen(end);
    return length >= n && strcmp(text + length - n, end) == 0;
}

static sp_status open_folder(sp_tensors **out, const char *path, sp_error *err)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    char *folder, *file;
    SP_TRY(join_path(&folder, path, strlen(path), ends_with(path, "/") ? "" : "/", err));
    sp_status status = SP_EFORMAT;
    size_t i = 0;
    for (struct stat info; i < 2; i++) {
        status = join_path(&file, folder, strlen(folder), names[i], err);
        if (status != SP_OK || stat(file, &info) == 0) break;
        sp_release(file);
    }
    sp_release(folder);
    if (status != SP_OK) return status;
    if (i == 2)
        return SP_FAIL(err, SP_EFORMAT, "%s: has neither %s nor %s; is this the folder of a model?", path, names[0],
                       names[1]);
    status = i == 0 ? open_single(out, file, err) : open_index(out, file, err);
    sp_release(file);
    return status;
}

sp_status sp_tensors_open(sp_tensors **out, const char *path, sp_error *err)
{
    *out = NULL;
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return open_folder(out, path, err);
    return ends_with(path, ".json") ? open_index(out, path, err) : open_single(out, path, err);
}

sp_status sp_tensors_parse(sp_tensors **out, const char *name, const void *data, size_t size, sp_error *err)
{
    sp_status status = begin(out, name, 1, err);
    if (status == SP_OK) {
        (*out)->n_shards = 1;
        status = sp_shard_parse((*out)->shards, name, data, size, err);
    }
    return finish(out, status, err);
}

void sp_tensors_drop(const sp_tensors *tensors)
{
    for (size_t i = 0; i < tensors->n_shards; i++) sp_map_drop(&tensors->shards[i].map);
}

void sp_tensors_close(sp_tensors *tensors)
{
    if (!tensors) return;
    for (size_t i = 0; i < tensors->n_shards; i++) sp_shard_close(&tensors->shards[i]);
    sp_release(tensors->shards);
    sp_release(tensors->tensors);
    sp_release(tensors->skipped);
    sp_release(tensors->path);
    sp_release(tensors);
}

size_t sp_tensors_count(const sp_tensors *tensors) { return tensors->count; }
const sp_tensor *sp_tensors_at(const sp_tensors *tensors, size_t index) { return &tensors->tensors[index]; }
const char *sp_tensors_path(const sp_tensors *tensors) { return tensors->path; }

const sp_tensor *sp_tensors_find(const sp_tensors *tensors, const char *name)
{
    sp_tensor key = {.name = name};
    if (!tensors->count) return NULL;
    return bsearch(&key, tensors->tensors, tensors->count, sizeof key, order_tensors);
}

/* Levenshtein distance; names beyond ROW bytes are compared by their first ROW. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { ROW = 256 };
    size_t row[ROW + 1], n = strnlen(b, ROW);
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 0; a[i] && i < ROW; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t best = diagonal + (a[i] != b[j]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j + 1] + 1 < best) best = row[j + 1] + 1;
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    return row[n];
}

static sp_status fail_missing(const sp_tensors *tensors, const char *name, sp_error *err)
{
    const sp_skipped *skipped = find_skipped(tensors, name);
    if (skipped)
        return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s' is %s, expected F32, BF16 or F16", tensors->path, name,
                       skipped->dtype);
    const char *nearest = "none";
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < tensors->count; i++) {
        size_t distance = edit_distance(name, tensors->tensors[i].name);
        if (distance >= least) continue;
        least = distance;
        nearest = tensors->tensors[i].name;
    }
    return SP_FAIL(err, SP_EFORMAT, "%s: has no tensor '%s'; the nearest of its %zu names is '%s'", tensors->path, name,
                   tensors->count, nearest);
}

/* "[2, 3]" */
static void print_shape(char out[static 256], const size_t *size, size_t rank)
{
    size_t used = (size_t)snprintf(out, 256, "[");
    for (size_t i = 0; i < rank && i < SP_MAX_RANK; i++)
        used += (size_t)snprintf(out + used, 256 - used, "%s%zu", i ? ", " : "", size[i]);
    snprintf(out + used, 256 - used, "]");
}

sp_status sp_tensors_get(const sp_tensors *tensors, const char *name, sp_shape shape, const sp_tensor **out,
                         sp_error *err)
{
    const sp_tensor *tensor = sp_tensors_find(tensors, name);
    *out = tensor;
    if (!tensor) return fail_missing(tensors, name, err);
    bool same = tensor->rank == shape.rank;
    for (size_t i = 0; same && i < shape.rank; i++) same = tensor->shape[i] == shape.size[i];
    if (same) return SP_OK;
    char found[256], expected[256];
    print_shape(found, tensor->shape, tensor->rank);
    print_shape(expected, shape.size, shape.rank);
    *out = NULL;
    return SP_FAIL(err, SP_EFORMAT, "%s: tensor '%s' is %s, expected %s", tensors->path, name, found, expected);
}

static float value_at(const sp_tensor *tensor, size_t i)
{
    uint16_t half;
    float value;
    if (tensor->dtype == SP_F32) {
        memcpy(&value, (const char *)tensor->data + 4 * i, 4);
        return value;
    }
    memcpy(&half, (const char *)tensor->data + 2 * i, 2);
    return tensor->dtype == SP_BF16 ? sp_bf16_to_f32(half) : sp_f16_to_f32(half);
}

static sp_status fail_value(const sp_tensor *tensor, size_t i, sp_error *err)
{
    return SP_FAIL(err, SP_EFORMAT, "tensor '%s': value %zu of %zu is %s, expected finite weights; the file is damaged",
                   tensor->name, i, tensor->count, isnan(value_at(tensor, i)) ? "NaN" : "infinite");
}

sp_status sp_tensor_floats(const sp_tensor *tensor, float *out, sp_error *err)
{
    for (size_t i = 0; i < tensor->count; i++) {
        out[i] = value_at(tensor, i);
        if (!isfinite(out[i])) return fail_value(tensor, i, err);
    }
    return SP_OK;
}

sp_status sp_tensor_finite(const sp_tensor *tensor, sp_error *err)
{
    for (size_t i = 0; i < tensor->count; i++)
        if (!isfinite(value_at(tensor, i))) return fail_value(tensor, i, err);
    return SP_OK;
}
