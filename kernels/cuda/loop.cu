/* The host's side of the loop: memory, graphs, records. */
#include "kernels/cuda/loop.cuh"

extern "C" {
#include "base/arena.h"
}

struct sp_cuda_loop {
    sp_cuda_model model;
    sp_cuda_picture picture;
    size_t max_window, n_queued;
    sp_cuda_rule rule;        /* of the graphs */
    cudaGraphExec_t *graphs;  /* [max_window + 1] by rows; NULL: not captured yet */
    unsigned char *device;    /* everything of the picture */
    unsigned char *host;      /* records and tokens, where the device writes them */
};

/* ar is pathwise over a window of one row. */
typedef struct named_rule {
    const char *name;
    sp_cuda_test test;
    bool couple;
} named_rule;

static const named_rule rules[] = {
    {"ar", SP_CUDA_RACE, false},     {"pathwise", SP_CUDA_RACE, false}, {"sjd", SP_CUDA_RATIO, false},
    {"coupled", SP_CUDA_RATIO, true}, {"gsd", SP_CUDA_GROUP, false},
};

static const named_rule *find(const char *name)
{
    for (const named_rule &rule : rules)
        if (strcmp(rule.name, name) == 0) return &rule;
    return NULL;
}

static bool knows(const char *rule) { return find(rule) != NULL; }

/* The next count elements of a block of memory, or of one that is only measured. */
template <typename T> static void take(T **out, unsigned char *memory, size_t *used, size_t count)
{
    *out = memory ? reinterpret_cast<T *>(memory + *used) : NULL;
    *used += (count * sizeof(T) + 255) / 256 * 256;
}

static size_t lay_out(sp_cuda_picture *p, unsigned char *memory, size_t code_dim)
{
    size_t used = 0, ring = p->ring, codes = p->n_codes, positions = p->n_positions;
    sp_cuda_settings *settings;
    int32_t *starts, *group_of;
    float *vectors;
    take(&settings, memory, &used, 1);
    take(&p->state, memory, &used, 1);
    take(&starts, memory, &used, positions);
    take(&p->tokens, memory, &used, positions);
    take(&p->ids, memory, &used, ring);
    take(&p->logits, memory, &used, 2 * ring * codes);
    take(&p->laws, memory, &used, ring * codes);
    take(&p->kinds, memory, &used, ring);
    take(&p->best, memory, &used, ring * sp_cuda_most_slices(codes));
    take(&p->rows, memory, &used, ring);
    take(&vectors, memory, &used, codes * code_dim);
    take(&group_of, memory, &used, code_dim ? codes : 0);
    p->settings = settings;
    p->starts = starts;
    p->codes = vectors;
    p->group_of = group_of;
    return used;
}

static size_t lay_out_host(sp_cuda_picture *p, unsigned char *memory)
{
    size_t used = 0;
    take(&p->records, memory, &used, p->n_positions);
    take(&p->drawn, memory, &used, p->n_positions);
    return used;
}

static sp_cuda_picture picture_of(size_t n_codes, size_t n_positions, size_t max_window)
{
    sp_cuda_picture p = {};
    p.n_codes = static_cast<uint32_t>(n_codes);
    p.n_positions = static_cast<uint32_t>(n_positions);
    p.ring = static_cast<uint32_t>(max_window);
    return p;
}

size_t sp_cuda_loop_bytes(size_t n_codes, size_t n_positions, size_t code_dim, size_t max_window)
{
    sp_cuda_picture p = picture_of(n_codes, n_positions, max_window);
    return lay_out(&p, NULL, code_dim);
}

static sp_status allocate(sp_cuda_loop *loop, sp_error *err)
{
    sp_cuda_picture *p = &loop->picture;
    size_t bytes = lay_out(p, NULL, loop->model.code_dim), host_bytes = lay_out_host(p, NULL);
    loop->graphs = static_cast<cudaGraphExec_t *>(sp_alloc(loop->max_window + 1, sizeof *loop->graphs));
    if (!loop->graphs) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the loop");
    SP_CUDA(cudaMalloc(&loop->device, bytes), err);
    SP_CUDA(cudaHostAlloc(&loop->host, host_bytes, cudaHostAllocMapped), err);
    lay_out(p, loop->device, loop->model.code_dim);
    lay_out_host(p, loop->host);
    return SP_OK;
}

sp_status sp_cuda_loop_open(sp_cuda_loop **out, const sp_cuda_model *model, size_t max_window, sp_error *err)
{
    *out = NULL;
    if (model->n_codes > SP_CUDA_MAX_CODES)
        return SP_FAIL(err, SP_EUNSUPPORTED, "device: %zu codes; at most %d can be sampled", model->n_codes,
                       SP_CUDA_MAX_CODES);
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(sp_alloc(1, sizeof *loop));
    if (!loop) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the loop");
    loop->model = *model;
    loop->max_window = max_window;
    loop->picture = picture_of(model->n_codes, model->n_positions, max_window);
    sp_status status = allocate(loop, err);
    if (status != SP_OK) {
        sp_cuda_loop_close(loop);
        return status;
    }
    *out = loop;
    return SP_OK;
}

static void drop_graphs(sp_cuda_loop *loop)
{
    for (size_t n = 0; loop->graphs && n <= loop->max_window; n++) {
        if (loop->graphs[n]) cudaGraphExecDestroy(loop->graphs[n]);
        loop->graphs[n] = NULL;
    }
}

void sp_cuda_loop_close(sp_cuda_loop *loop)
{
    if (!loop) return;
    drop_graphs(loop);
    sp_release(loop->graphs);
    cudaFree(loop->device);
    cudaFreeHost(loop->host);
    sp_release(loop);
}

static sp_cuda_settings settings_of(const sp_device_picture *from, size_t n_codes)
{
    sp_cuda_settings s = {};
    s.seed = from->seed;
    s.image = from->image;
    s.cfg_scale = from->cfg_scale;
    s.greedy = !(from->temperature > 0);
    s.inverse_temperature = s.greedy ? 1.0f : 1.0f / from->temperature;
    s.top_k = from->top_k < n_codes ? static_cast<uint32_t>(from->top_k) : 0;
    s.top_p = from->top_p;
    s.group_size = static_cast<uint32_t>(from->group_size);
    s.code_dim = static_cast<uint32_t>(from->code_dim);
    s.grouped = from->group_of != NULL;
    s.group_delta = from->group_delta;
    s.group_distance = from->group_distance;
    return s;
}

static sp_status upload(sp_cuda_loop *loop, const void *to, const void *from, size_t bytes, sp_error *err)
{
    SP_CUDA(cudaMemcpyAsync(const_cast<void *>(to), from, bytes, cudaMemcpyHostToDevice, loop->model.stream), err);
    return SP_OK;
}

static sp_status upload_groups(sp_cuda_loop *loop, const sp_device_picture *from, sp_error *err)
{
    const sp_cuda_picture *p = &loop->picture;
    if (from->code_dim != loop->model.code_dim || !from->codes)
        return SP_FAIL(err, SP_EBUG, "device: codes of %zu numbers, expected %zu", from->code_dim,
                       loop->model.code_dim);
    SP_TRY(upload(loop, p->codes, from->codes, p->n_codes * from->code_dim * sizeof(float), err));
    if (!from->group_of) return SP_OK;
    return upload(loop, p->group_of, from->group_of, p->n_codes * sizeof(int32_t), err);
}

static sp_status begin(void *state, const sp_device_picture *from, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    const sp_cuda_picture *p = &loop->picture;
    const named_rule *named = find(from->rule);
    if (!named) return SP_FAIL(err, SP_EBUG, "device: there is no rule '%s'", from->rule);
    sp_cuda_settings settings = settings_of(from, p->n_codes);
    sp_cuda_rule rule = {named->test, named->couple, from->cfg_scale != 1.0f, settings.top_k || settings.top_p < 1.0f};
    const sp_cuda_rule &old = loop->rule;
    if (rule.test != old.test || rule.couple != old.couple || rule.guided != old.guided || rule.cut != old.cut)
        drop_graphs(loop);
    loop->rule = rule;
    loop->n_queued = 0;
    memset(p->records, 0, p->n_positions * sizeof *p->records);
    SP_CUDA(cudaMemsetAsync(p->state, 0, sizeof *p->state, loop->model.stream), err);
    SP_TRY(upload(loop, p->settings, &settings, sizeof settings, err));
    SP_TRY(upload(loop, p->starts, from->starts, p->n_positions * sizeof(int32_t), err));
    return rule.test == SP_CUDA_GROUP ? upload_groups(loop, from, err) : SP_OK;
}

static sp_status queue_pass(sp_cuda_loop *loop, size_t n, sp_error *err)
{
    const sp_cuda_picture *p = &loop->picture;
    cudaStream_t stream = loop->model.stream;
    sp_cuda_window window = {n, loop->rule.guided, &p->state->fed, p->ids, p->logits, p, loop->rule, 0};
    SP_CUDA(sp_cuda_place(stream, p, n), err);
    SP_TRY(loop->model.queue(loop->model.state, &window, err));
    if (window.raced) SP_CUDA(sp_cuda_settle(stream, p, n, loop->rule, window.raced, true), err);
    else if (loop->rule.test == SP_CUDA_RACE) SP_CUDA(sp_cuda_race(stream, p, n, loop->rule), err);
    else SP_CUDA(sp_cuda_verify(stream, p, n, loop->rule), err);
    SP_CUDA(sp_cuda_commit(stream, p, n), err);
    return SP_OK;
}

/* Capture ends, whether what it was for succeeded or not. */
static sp_status capture(sp_cuda_loop *loop, size_t n, sp_error *err)
{
    cudaStream_t stream = loop->model.stream;
    cudaGraph_t graph = NULL;
    SP_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), err);
    sp_status status = queue_pass(loop, n, err);
    cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (status == SP_OK && ended == cudaSuccess) ended = cudaGraphInstantiate(&loop->graphs[n], graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (status != SP_OK) return status;
    SP_CUDA(ended, err);
    return SP_OK;
}

static sp_status pass(void *state, size_t n, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    if (n < 1 || n > loop->max_window || loop->n_queued >= loop->picture.n_positions)
        return SP_FAIL(err, SP_EBUG, "device: pass %zu over %zu rows does not fit", loop->n_queued, n);
    if (!loop->graphs[n]) SP_TRY(capture(loop, n, err));
    SP_CUDA(cudaGraphLaunch(loop->graphs[n], loop->model.stream), err);
    loop->n_queued++;
    return SP_OK;
}

static bool is_done(const sp_device_record *record, size_t index)
{
    return __atomic_load_n(&record->done, __ATOMIC_ACQUIRE) == index + 1;
}

/* A stream that has nothing left to do has written every record, or is lost. */
static sp_status poll(void *state, size_t index, const sp_device_record **record, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    const sp_device_record *at = &loop->picture.records[index];
    *record = is_done(at, index) ? at : NULL;
    if (*record) return SP_OK;
    cudaError_t error = cudaStreamQuery(loop->model.stream);
    if (error == cudaErrorNotReady) return SP_OK;
    SP_CUDA(error, err);
    if (!is_done(at, index)) return SP_FAIL(err, SP_EBUG, "device: pass %zu has left no record", index);
    *record = at;
    return SP_OK;
}

static sp_status finish(void *state, int32_t *tokens, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    SP_CUDA(cudaStreamSynchronize(loop->model.stream), err);
    if (tokens) memcpy(tokens, loop->picture.drawn, loop->picture.n_positions * sizeof *tokens);
    return SP_OK;
}

const sp_device_loop_ops *sp_cuda_loop_ops(void)
{
    static const sp_device_loop_ops ops = {knows, begin, pass, poll, finish};
    return &ops;
}
