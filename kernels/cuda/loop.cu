/* The host's side of the loop: memory, graphs, records. */
#include "kernels/cuda/loop.cuh"

extern "C" {
#include "base/arena.h"
}

struct sp_cuda_loop {
    sp_cuda_model model;
    sp_cuda_picture picture; /* the first of the batch; n_pictures as the last pass took */
    size_t max_window, max_pictures, max_rows, n_places;
    bool begun;               /* one of them has begun, with this rule */
    sp_cuda_rule rule;        /* of the graphs */
    cudaGraphExec_t *graphs;  /* [steps, max_window + 1] by pictures and rows; NULL: not captured yet */
    bool *live;               /* [max_pictures] between begin and finish */
    uint32_t *chosen;         /* [max_pictures] the order of the pass, as it goes to the device */
    bool stale;               /* it is not that of those who live */
    unsigned char *device;    /* everything of the pictures */
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

static size_t lay_out(sp_cuda_loop *loop, unsigned char *memory)
{
    sp_cuda_picture *p = &loop->picture;
    size_t used = 0, rows = loop->max_rows, pictures = loop->max_pictures, positions = pictures * p->n_positions;
    size_t codes = p->n_codes, code_dim = loop->model.code_dim;
    sp_cuda_settings *settings;
    uint32_t *order;
    int32_t *starts, *group_of;
    float *vectors;
    take(&order, memory, &used, pictures);
    take(&settings, memory, &used, pictures);
    take(&p->state, memory, &used, pictures);
    take(&starts, memory, &used, positions);
    take(&p->tokens, memory, &used, positions);
    take(&p->fed, memory, &used, pictures);
    take(&p->ids, memory, &used, rows);
    take(&p->logits, memory, &used, 2 * rows * codes);
    take(&p->laws, memory, &used, rows * codes);
    take(&p->kinds, memory, &used, rows);
    take(&p->best, memory, &used, rows * sp_cuda_most_slices(codes));
    take(&p->rows, memory, &used, rows);
    take(&vectors, memory, &used, codes * code_dim);
    take(&group_of, memory, &used, code_dim ? codes : 0);
    p->order = order;
    p->settings = settings;
    p->starts = starts;
    p->codes = vectors;
    p->group_of = group_of;
    return used;
}

static size_t lay_out_host(sp_cuda_loop *loop, unsigned char *memory)
{
    sp_cuda_picture *p = &loop->picture;
    size_t used = 0, positions = loop->max_pictures * p->n_positions;
    take(&p->records, memory, &used, positions);
    take(&p->drawn, memory, &used, positions);
    return used;
}

/* From about 300 rows on, both streams counted, a pass of an H100 is expected to be bound by multiplication, and then a
 * longer window pays for itself only where every row brings a token. A thousand a stream leave room beyond that. */
size_t sp_cuda_loop_rows(size_t max_window, size_t max_pictures)
{
    const size_t enough = 1024;
    size_t all = max_pictures * max_window, least = max_pictures > enough ? max_pictures : enough;
    return all < least ? all : least;
}

static sp_cuda_loop loop_for(const sp_cuda_model *model, size_t max_window, size_t max_pictures)
{
    sp_cuda_loop loop = {};
    loop.model = *model;
    loop.max_window = max_window;
    loop.max_pictures = max_pictures;
    loop.max_rows = sp_cuda_loop_rows(max_window, max_pictures);
    loop.picture.n_codes = static_cast<uint32_t>(model->n_codes);
    loop.picture.n_positions = static_cast<uint32_t>(model->n_positions);
    return loop;
}

size_t sp_cuda_loop_bytes(const sp_cuda_model *model, size_t max_window, size_t max_pictures)
{
    sp_cuda_loop loop = loop_for(model, max_window, max_pictures);
    return lay_out(&loop, NULL);
}

static size_t n_graphs(const sp_cuda_loop *loop)
{
    return (sp_device_step(loop->max_pictures) + 1) * (loop->max_window + 1);
}

static sp_status allocate(sp_cuda_loop *loop, sp_error *err)
{
    size_t bytes = lay_out(loop, NULL), host_bytes = lay_out_host(loop, NULL);
    loop->graphs = static_cast<cudaGraphExec_t *>(sp_alloc(n_graphs(loop), sizeof *loop->graphs));
    loop->live = static_cast<bool *>(sp_alloc(loop->max_pictures, sizeof *loop->live));
    loop->chosen = static_cast<uint32_t *>(sp_alloc(loop->max_pictures, sizeof *loop->chosen));
    if (!loop->graphs || !loop->live || !loop->chosen)
        return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the loop");
    SP_CUDA(cudaMalloc(&loop->device, bytes), err);
    SP_CUDA(cudaHostAlloc(&loop->host, host_bytes, cudaHostAllocMapped), err);
    lay_out(loop, loop->device);
    lay_out_host(loop, loop->host);
    return SP_OK;
}

sp_status sp_cuda_loop_open(sp_cuda_loop **out, const sp_cuda_model *model, size_t max_window, size_t max_pictures,
                            sp_error *err)
{
    *out = NULL;
    if (model->n_codes > SP_CUDA_MAX_CODES)
        return SP_FAIL(err, SP_EUNSUPPORTED, "device: %zu codes; at most %d can be sampled", model->n_codes,
                       SP_CUDA_MAX_CODES);
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(sp_alloc(1, sizeof *loop));
    if (!loop) return SP_FAIL(err, SP_ENOMEM, "device: no host memory for the loop");
    *loop = loop_for(model, max_window, max_pictures);
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
    for (size_t n = 0; loop->graphs && n < n_graphs(loop); n++) {
        if (loop->graphs[n]) cudaGraphExecDestroy(loop->graphs[n]);
        loop->graphs[n] = NULL;
    }
}

void sp_cuda_loop_close(sp_cuda_loop *loop)
{
    if (!loop) return;
    drop_graphs(loop);
    sp_release(loop->graphs);
    sp_release(loop->live);
    sp_release(loop->chosen);
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

/* Graphs hold the lengths of the rings, which follow from the number of places. A picture that has not begun is
 * complete. */
static sp_status gather(void *state, size_t n_pictures, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    sp_cuda_picture *p = &loop->picture;
    if (n_pictures < 1 || n_pictures > loop->max_pictures)
        return SP_FAIL(err, SP_EBUG, "device: a batch of %zu pictures; at most %zu", n_pictures, loop->max_pictures);
    if (loop->n_places != n_pictures) drop_graphs(loop);
    size_t each = loop->max_rows / n_pictures;
    loop->n_places = n_pictures;
    memset(loop->live, 0, n_pictures * sizeof *loop->live);
    loop->stale = true;
    p->ring = static_cast<uint32_t>(each < loop->max_window ? each : loop->max_window);
    loop->begun = false;
    sp_cuda_state complete = {};
    complete.first = p->n_positions;
    for (size_t i = 0; i < n_pictures; i++) SP_TRY(upload(loop, p->state + i, &complete, sizeof complete, err));
    return SP_OK;
}

static sp_status choose_rule(sp_cuda_loop *loop, sp_cuda_rule rule, sp_error *err)
{
    const sp_cuda_rule &old = loop->rule;
    bool same =
        rule.test == old.test && rule.couple == old.couple && rule.guided == old.guided && rule.cut == old.cut;
    if (loop->begun && !same) return SP_FAIL(err, SP_EBUG, "device: pictures of a batch differ in their rule");
    if (!same) drop_graphs(loop);
    loop->rule = rule;
    return SP_OK;
}

static sp_status begin(void *state, size_t at, const sp_device_picture *from, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    const sp_cuda_picture *p = &loop->picture;
    const named_rule *named = find(from->rule);
    if (!named) return SP_FAIL(err, SP_EBUG, "device: there is no rule '%s'", from->rule);
    if (at >= loop->n_places) return SP_FAIL(err, SP_EBUG, "device: picture %zu of %zu", at, loop->n_places);
    sp_cuda_settings settings = settings_of(from, p->n_codes);
    bool cut = settings.top_k || settings.top_p < 1.0f, first = !loop->begun;
    SP_TRY(choose_rule(loop, {named->test, named->couple, from->cfg_scale != 1.0f, cut}, err));
    loop->begun = loop->live[at] = loop->stale = true;
    size_t positions = at * p->n_positions;
    memset(p->records + positions, 0, p->n_positions * sizeof *p->records);
    SP_CUDA(cudaMemsetAsync(p->state + at, 0, sizeof *p->state, loop->model.stream), err);
    SP_TRY(upload(loop, p->settings + at, &settings, sizeof settings, err));
    SP_TRY(upload(loop, p->starts + positions, from->starts, p->n_positions * sizeof(int32_t), err));
    return first && named->test == SP_CUDA_GROUP ? upload_groups(loop, from, err) : SP_OK;
}

static sp_status queue_pass(sp_cuda_loop *loop, size_t n, sp_error *err)
{
    const sp_cuda_picture *p = &loop->picture;
    cudaStream_t stream = loop->model.stream;
    sp_cuda_window window = {p->n_pictures, n, loop->rule.guided, p->order, p->fed, p->ids, p->logits, p, loop->rule,
                             0};
    SP_CUDA(sp_cuda_place(stream, p, n), err);
    SP_TRY(loop->model.queue(loop->model.state, &window, err));
    if (window.raced) SP_CUDA(sp_cuda_settle(stream, p, n, loop->rule, window.raced, true), err);
    else if (loop->rule.test == SP_CUDA_RACE) SP_CUDA(sp_cuda_race(stream, p, n, loop->rule), err);
    else SP_CUDA(sp_cuda_verify(stream, p, n, loop->rule), err);
    SP_CUDA(sp_cuda_commit(stream, p, n), err);
    return SP_OK;
}

/* Those who live, and of the rest as many as are captured with them. Nobody has moved: what they remember stays where
 * it is, and the kernels find it by the order. */
static sp_status choose(sp_cuda_loop *loop, sp_error *err)
{
    sp_cuda_picture *p = &loop->picture;
    size_t n = 0, rest;
    if (!loop->stale) return SP_OK;
    for (uint32_t i = 0; i < loop->n_places; i++)
        if (loop->live[i]) loop->chosen[n++] = i;
    rest = n;
    for (uint32_t i = 0; i < loop->n_places; i++)
        if (!loop->live[i]) loop->chosen[rest++] = i;
    p->n_pictures = static_cast<uint32_t>(sp_device_together(n, loop->n_places));
    SP_TRY(upload(loop, p->order, loop->chosen, p->n_pictures * sizeof *loop->chosen, err));
    loop->stale = false;
    return SP_OK;
}

/* Capture ends, whether what it was for succeeded or not. */
static sp_status capture(sp_cuda_loop *loop, size_t n, cudaGraphExec_t *into, sp_error *err)
{
    cudaStream_t stream = loop->model.stream;
    cudaGraph_t graph = NULL;
    SP_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), err);
    sp_status status = queue_pass(loop, n, err);
    cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (status == SP_OK && ended == cudaSuccess) ended = cudaGraphInstantiate(into, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (status != SP_OK) return status;
    SP_CUDA(ended, err);
    return SP_OK;
}

static sp_status pass(void *state, size_t n, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    if (n < 1 || n > loop->picture.ring || !loop->begun)
        return SP_FAIL(err, SP_EBUG, "device: a pass over %zu rows of %zu pictures does not fit", n, loop->n_places);
    SP_TRY(choose(loop, err));
    size_t step = sp_device_step(loop->picture.n_pictures);
    cudaGraphExec_t *graph = &loop->graphs[step * (loop->max_window + 1) + n];
    if (!*graph) SP_TRY(capture(loop, n, graph, err));
    SP_CUDA(cudaGraphLaunch(*graph, loop->model.stream), err);
    return SP_OK;
}

static bool is_done(const sp_device_record *record, size_t index)
{
    return __atomic_load_n(&record->done, __ATOMIC_ACQUIRE) == index + 1;
}

/* A stream that has nothing left to do has written every record, or is lost. */
static sp_status poll(void *state, size_t of, size_t index, const sp_device_record **record, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    const sp_device_record *at = &loop->picture.records[of * loop->picture.n_positions + index];
    *record = is_done(at, index) ? at : NULL;
    if (*record) return SP_OK;
    cudaError_t error = cudaStreamQuery(loop->model.stream);
    if (error == cudaErrorNotReady) return SP_OK;
    SP_CUDA(error, err);
    if (!is_done(at, index)) return SP_FAIL(err, SP_EBUG, "device: pass %zu has left no record", index);
    *record = at;
    return SP_OK;
}

static sp_status finish(void *state, size_t at, int32_t *tokens, sp_error *err)
{
    sp_cuda_loop *loop = static_cast<sp_cuda_loop *>(state);
    SP_CUDA(cudaStreamSynchronize(loop->model.stream), err);
    loop->live[at] = false;
    loop->stale = true;
    size_t positions = loop->picture.n_positions;
    if (tokens) memcpy(tokens, loop->picture.drawn + at * positions, positions * sizeof *tokens);
    return SP_OK;
}

sp_device_loop sp_cuda_loop_of(sp_cuda_loop *loop)
{
    static const sp_device_loop_ops ops = {knows, gather, begin, pass, poll, finish};
    return sp_device_loop{&ops, loop, loop->max_pictures, loop->max_rows};
}
