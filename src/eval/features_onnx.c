#include "eval/features.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <onnxruntime_c_api.h>

#include "base/arena.h"
#include "base/file.h"

/* API: the first version of the library's interface that has all that is used here; later ones keep it. */
enum { API = 11, MOST_FEATURES = 65536, MOST_SIDE = 16384, MOST_DIMENSIONS = 8 };

struct sp_features {
    const OrtApi *ort;
    OrtEnv *environment;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator; /* of the library */
    char *input, *output;    /* names, of the allocator */
    const char *model;
    sp_raster to;
    float *planes;           /* [3, to.height, to.width] */
    size_t count;            /* 0 until the model was tried */
};

/* What the library would print comes with its failures. */
static void say_nothing(void *user, OrtLoggingLevel level, const char *category, const char *id, const char *where,
                        const char *message)
{
    (void)user, (void)level, (void)category, (void)id, (void)where, (void)message;
}

/* The failure of a call as ours, on one line; NULL is none. */
static sp_status pass(const sp_features *f, OrtStatus *failure, const char *what, sp_error *err)
{
    char line[256];
    if (!failure) return SP_OK;
    snprintf(line, sizeof line, "%s", f->ort->GetErrorMessage(failure));
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
    bool unknown = f->ort->GetErrorCode(failure) == ORT_NOT_IMPLEMENTED;
    f->ort->ReleaseStatus(failure);
    return SP_FAIL(err, unknown ? SP_EUNSUPPORTED : SP_EFORMAT, "%.100s: %s (ONNX Runtime %s: %s); export it anew",
                   f->model, what, OrtGetApiBase()->GetVersionString(), line);
}

/* The type, and up to MOST_DIMENSIONS sizes, -1 where they are free; more dimensions are counted and no sizes read. */
static sp_status describe(const sp_features *f, const OrtTensorTypeAndShapeInfo *info, bool *is_float, size_t *n,
                          int64_t shape[MOST_DIMENSIONS], sp_error *err)
{
    ONNXTensorElementDataType type;
    SP_TRY(pass(f, f->ort->GetTensorElementType(info, &type), "no type", err));
    SP_TRY(pass(f, f->ort->GetDimensionsCount(info, n), "no shape", err));
    *is_float = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    return *n <= MOST_DIMENSIONS ? pass(f, f->ort->GetDimensions(info, shape, *n), "no shape", err) : SP_OK;
}

/* "[?, 3, 224, 224]" */
static void write_shape(char *text, size_t size, const int64_t *shape, size_t n)
{
    size_t used = 1;
    if (n <= MOST_DIMENSIONS) snprintf(text, size, "%s", n > 0 ? "[" : "[]");
    else snprintf(text, size, "of %zu dimensions", n);
    for (size_t i = 0; i < n && n <= MOST_DIMENSIONS; i++) {
        const char *end = i + 1 < n ? ", " : "]";
        if (shape[i] < 0) used += (size_t)snprintf(text + used, size - used, "?%s", end);
        else used += (size_t)snprintf(text + used, size - used, "%lld%s", (long long)shape[i], end);
    }
}

static sp_status take_input(sp_features *f, const OrtTypeInfo *type, sp_error *err)
{
    const OrtTensorTypeAndShapeInfo *info;
    bool is_float = false;
    size_t n = 0;
    int64_t shape[MOST_DIMENSIONS] = {0};
    char found[MOST_DIMENSIONS * 24];
    SP_TRY(pass(f, f->ort->CastTypeInfoToTensorInfo(type, &info), "no input", err));
    if (info) SP_TRY(describe(f, info, &is_float, &n, shape, err));
    if (!is_float)
        return SP_FAIL(err, SP_EFORMAT, "%.200s: its input is no tensor of float32; export it so", f->model);
    bool sides = n == 4 && shape[2] > 0 && shape[2] <= MOST_SIDE && shape[3] > 0 && shape[3] <= MOST_SIDE;
    if (sides && (shape[0] == 1 || shape[0] < 0) && (shape[1] == 3 || shape[1] < 0)) {
        f->to.height = (size_t)shape[2];
        f->to.width = (size_t)shape[3];
        return SP_OK;
    }
    write_shape(found, sizeof found, shape, n);
    return SP_FAIL(err, SP_EFORMAT, "%.200s: its input is %s: expected [1 or ?, 3, height, width] with a fixed height "
                   "and width; export it so", f->model, found);
}

static sp_status take_output(sp_features *f, const OrtTypeInfo *type, sp_error *err)
{
    const OrtTensorTypeAndShapeInfo *info;
    bool is_float = false;
    size_t n;
    int64_t shape[MOST_DIMENSIONS];
    SP_TRY(pass(f, f->ort->CastTypeInfoToTensorInfo(type, &info), "no output", err));
    if (info) SP_TRY(describe(f, info, &is_float, &n, shape, err));
    if (is_float) return SP_OK;
    return SP_FAIL(err, SP_EFORMAT, "%.200s: its first output is no tensor of float32; export it so", f->model);
}

static sp_status take_signature(sp_features *f, sp_error *err)
{
    size_t inputs, outputs;
    OrtTypeInfo *type;
    SP_TRY(pass(f, f->ort->SessionGetInputCount(f->session, &inputs), "no inputs", err));
    SP_TRY(pass(f, f->ort->SessionGetOutputCount(f->session, &outputs), "no outputs", err));
    if (inputs != 1 || outputs < 1)
        return SP_FAIL(err, SP_EFORMAT, "%.200s: has %zu inputs and %zu outputs: expected one input, the picture; "
                       "export that part of it alone", f->model, inputs, outputs);
    SP_TRY(pass(f, f->ort->SessionGetInputTypeInfo(f->session, 0, &type), "no input", err));
    sp_status status = take_input(f, type, err);
    f->ort->ReleaseTypeInfo(type);
    SP_TRY(status);
    SP_TRY(pass(f, f->ort->SessionGetOutputTypeInfo(f->session, 0, &type), "no output", err));
    status = take_output(f, type, err);
    f->ort->ReleaseTypeInfo(type);
    SP_TRY(status);
    SP_TRY(pass(f, f->ort->SessionGetInputName(f->session, 0, f->allocator, &f->input), "no input", err));
    return pass(f, f->ort->SessionGetOutputName(f->session, 0, f->allocator, &f->output), "no output", err);
}

/* Threads that wait do not spin: they would slow the drawing that is timed. */
static sp_status load(sp_features *f, OrtSessionOptions *options, int threads, sp_error *err)
{
    SP_TRY(pass(f, f->ort->SetIntraOpNumThreads(options, threads), "threads", err));
    SP_TRY(pass(f, f->ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"), "threads", err));
    return pass(f, f->ort->CreateSession(f->environment, f->model, options, &f->session), "is no ONNX model that loads",
                err);
}

static sp_status start(sp_features *f, int threads, sp_error *err)
{
    const OrtApi *ort = f->ort = OrtGetApiBase()->GetApi(API);
    OrtSessionOptions *options;
    sp_map map;
    if (!ort)
        return SP_FAIL(err, SP_EUNSUPPORTED, "--features: ONNX Runtime is %s: expected 1.%d or newer; install that",
                       OrtGetApiBase()->GetVersionString(), (int)API);
    /* A file that cannot be read is told as everywhere. */
    SP_TRY(sp_map_open(f->model, &map, err));
    sp_map_close(&map);
    SP_TRY(pass(f, ort->CreateEnvWithCustomLogger(say_nothing, NULL, ORT_LOGGING_LEVEL_FATAL, "specular",
                                                  &f->environment), "cannot start", err));
    SP_TRY(pass(f, ort->GetAllocatorWithDefaultOptions(&f->allocator), "cannot start", err));
    SP_TRY(pass(f, ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &f->memory), "cannot start", err));
    SP_TRY(pass(f, ort->CreateSessionOptions(&options), "cannot start", err));
    sp_status status = load(f, options, threads, err);
    ort->ReleaseSessionOptions(options);
    SP_TRY(status);
    return take_signature(f, err);
}

/* Copies a result out; the first one says how many features there are. out may be NULL then. */
static sp_status take_result(sp_features *f, OrtValue *value, float *out, sp_error *err)
{
    OrtTensorTypeAndShapeInfo *info;
    size_t count = 0;
    void *data;
    SP_TRY(pass(f, f->ort->GetTensorTypeAndShape(value, &info), "no result", err));
    sp_status status = pass(f, f->ort->GetTensorShapeElementCount(info, &count), "no result", err);
    f->ort->ReleaseTensorTypeAndShapeInfo(info);
    SP_TRY(status);
    size_t least = f->count ? f->count : 1, most = f->count ? f->count : MOST_FEATURES;
    if (count < least || count > most)
        return SP_FAIL(err, SP_EFORMAT, "%.200s: gives %zu features: expected %zu to %zu; export it otherwise",
                       f->model, count, least, most);
    SP_TRY(pass(f, f->ort->GetTensorMutableData(value, &data), "no result", err));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(((const float *)data)[i]))
            return SP_FAIL(err, SP_EFORMAT, "%.200s: feature %zu is not a number: check --feature-mean, "
                           "--feature-deviation and the model", f->model, i);
    f->count = count;
    if (out) memcpy(out, data, count * sizeof *out);
    return SP_OK;
}

sp_status sp_features_see(sp_features *f, const uint8_t *rgb, size_t width, size_t height, float *out, sp_error *err)
{
    const int64_t shape[4] = {1, 3, (int64_t)f->to.height, (int64_t)f->to.width};
    size_t bytes = 3 * f->to.height * f->to.width * sizeof *f->planes;
    OrtValue *input, *output = NULL;
    SP_TRY(sp_resample(rgb, width, height, &f->to, f->planes, err));
    SP_TRY(pass(f, f->ort->CreateTensorWithDataAsOrtValue(f->memory, f->planes, bytes, shape, 4,
                                                          ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input), "fails", err));
    sp_status status = pass(f, f->ort->Run(f->session, NULL, (const char *const *)&f->input,
                                           (const OrtValue *const *)&input, 1, (const char *const *)&f->output, 1,
                                           &output), "fails on a picture", err);
    f->ort->ReleaseValue(input);
    if (status == SP_OK) status = take_result(f, output, out, err);
    f->ort->ReleaseValue(output);
    return status;
}

sp_status sp_features_open(sp_features **features, const sp_features_options *options, sp_error *err)
{
    const uint8_t grey[3] = {128, 128, 128};
    sp_features *f = *features = sp_alloc(1, sizeof *f);
    if (!f) return SP_FAIL(err, SP_ENOMEM, "no memory for %s; free some", options->model);
    f->model = options->model;
    f->to = options->to;
    sp_status status = start(f, options->threads, err);
    if (status == SP_OK) f->planes = sp_alloc(3 * f->to.height, f->to.width * sizeof *f->planes);
    if (status == SP_OK && !f->planes)
        status = SP_FAIL(err, SP_ENOMEM, "no memory for the input of %s; free some", options->model);
    if (status == SP_OK) status = sp_features_see(f, grey, 1, 1, NULL, err);
    if (status == SP_OK) return SP_OK;
    sp_features_close(f);
    *features = NULL;
    return status;
}

void sp_features_close(sp_features *f)
{
    if (!f) return;
    if (f->input) f->allocator->Free(f->allocator, f->input);
    if (f->output) f->allocator->Free(f->allocator, f->output);
    if (f->ort) {
        f->ort->ReleaseMemoryInfo(f->memory);
        f->ort->ReleaseSession(f->session);
        f->ort->ReleaseEnv(f->environment);
    }
    sp_release(f->planes);
    sp_release(f);
}

size_t sp_features_count(const sp_features *f) { return f->count; }

const sp_raster *sp_features_raster(const sp_features *f) { return &f->to; }
