#include "kernels/cuda/race.cuh"

extern "C" {
#include "base/arena.h"
#include "tests/cuda/mistakes.h"
}

enum { V = SP_MISTAKEN_CODES, N = SP_MISTAKEN_POSITIONS, NODES = SP_MISTAKEN_NODES, ROWS = 8 };

/* A pass as it was before the rule's kernels. */
struct notes {
    uint32_t first, known, pass, live, drafts;
    float group_delta, group_distance;
    int32_t draft[ROWS], kind[ROWS];
    float law[ROWS][V]; /* as it lay there */
    float q[ROWS][V], whole[ROWS][V]; /* probabilities of drafts; p without sets, of the stream with the prompt */
};

/* Everything on the device. */
struct sp_mistaken_memory {
    alignas(16) float logits[2 * ROWS * V];
    alignas(16) float laws[ROWS * V];
    sp_cuda_settings settings;
    sp_cuda_state state;
    int32_t fed, starts[N], tokens[N], ids[ROWS], kinds[ROWS], drawn[N], group_of[V], history[N];
    float codes[V * SP_MISTAKEN_DIM], table[2 * NODES * V];
    unsigned long long best[ROWS];
    sp_cuda_row rows[ROWS];
    sp_device_record records[N];
    notes was;
    uint32_t idle;
};

struct sp_mistaken {
    sp_mistaken_memory *memory;
    sp_cuda_picture picture;
};

__global__ static void model_kernel(sp_mistaken_memory *m, uint32_t n, uint32_t streams)
{
    sp_wait_launch();
    uint32_t first = m->state.first;
    for (uint32_t j = 0; threadIdx.x == 0 && j < n; j++) {
        uint32_t node = 1;
        if (first + j > 0 && first + j <= N) m->history[first + j - 1] = m->ids[j];
        for (uint32_t i = 0; i < first + j && i < N; i++) node = node * V + static_cast<uint32_t>(m->history[i]);
        for (uint32_t i = 0; i < streams * V; i++)
            m->logits[(i / V * n + j) * V + i % V] =
                first + j < N ? m->table[(i / V * NODES + node) * V + i % V] : NAN;
    }
}

/* ---- before the rule's kernels ---- */

__device__ static void take_notes(const sp_cuda_picture *p, uint32_t n, notes *was)
{
    const sp_cuda_state *s = p->state;
    was->first = s->first;
    was->known = s->known;
    was->pass = s->pass;
    was->live = sp_live_rows(p, n);
    was->drafts = sp_live_drafts(p, was->live);
    was->group_delta = p->settings->group_delta;
    was->group_distance = p->settings->group_distance;
    for (uint32_t j = 0; j < was->live; j++) {
        uint32_t at = (s->first + j) % p->ring;
        float total = 0;
        was->kind[j] = p->kinds[at];
        was->draft[j] = p->tokens[s->first + j];
        sp_law law = {static_cast<sp_law_kind>(was->kind[j]), p->laws + at * V};
        for (int32_t v = 0; v < V; v++) {
            was->law[j][v] = law.probability[v];
            was->q[j][v] = j < was->drafts ? sp_law_at(&law, was->draft[j], V, v) : NAN;
            was->whole[j][v] = expf(p->logits[j * V + static_cast<uint32_t>(v)] * p->settings->inverse_temperature);
            total += was->whole[j][v];
        }
        for (float &probability : was->whole[j]) probability /= total;
    }
}

__global__ static void before_kernel(sp_cuda_picture p, uint32_t n, sp_mistake mistake, notes *was)
{
    sp_wait_launch();
    if (threadIdx.x > 0) return;
    sp_cuda_settings *settings = const_cast<sp_cuda_settings *>(p.settings);
    take_notes(&p, n, was);
    if (mistake == SP_NOISE_BY_ROW) {
        p.state->first = 0;
        p.state->known -= was->first;
    }
    if (mistake == SP_NOISE_BY_PASS) settings->image = 1 + was->first;
    if (mistake == SP_SAME_EVERY_PASS) p.state->pass = 0;
    if (mistake == SP_GROUP_UNLIMITED) {
        settings->group_delta = 2;
        settings->group_distance = 5;
    }
    for (uint32_t j = 0; mistake == SP_COPY_IS_UNIFORM && j < was->drafts; j++)
        if (was->kind[j] == SP_LAW_POINT) p.kinds[(was->first + j) % p.ring] = SP_LAW_UNIFORM;
}

/* ---- after them ---- */

/* The code at u of the way through the weights. */
__device__ static int32_t draw(const float weights[V], double u)
{
    double total = 0;
    for (int v = 0; v < V; v++) total += static_cast<double>(weights[v]);
    double rest = u * total;
    for (int32_t v = 0; v < V; v++) {
        if (rest < static_cast<double>(weights[v])) return v;
        rest -= static_cast<double>(weights[v]);
    }
    return V - 1;
}

__device__ static double uniform(const sp_cuda_picture *p, sp_draw_purpose purpose, uint32_t j)
{
    return sp_pass_uniform(p, purpose, p->state->first + j);
}

__device__ static const float *law_of(const sp_cuda_picture *p, uint32_t j) { return p->logits + j * V; }

__device__ static void residual(const sp_cuda_picture *p, const notes *was, uint32_t j, float out[V])
{
    for (int v = 0; v < V; v++) out[v] = sp_residual(law_of(p, j)[v], was->q[j][v]);
}

__device__ static void record(const sp_cuda_picture *p, const notes *was, uint32_t j, int32_t kind, const float *law)
{
    uint32_t at = (was->first + j) % p->ring;
    p->kinds[at] = kind;
    for (uint32_t v = 0; v < V; v++) p->laws[at * V + v] = law[v];
}

__device__ static void restore_record(const sp_cuda_picture *p, const notes *was, uint32_t j)
{
    record(p, was, j, was->kind[j], was->law[j]);
}

__device__ static uint32_t final_rows(const sp_cuda_picture *p, const notes *was)
{
    uint32_t j = 0;
    while (j < was->drafts && p->rows[j].passed) j++;
    return j < was->live ? j + 1 : was->live;
}

/* Makes the first n rows final. */
__device__ static void end_after(const sp_cuda_picture *p, const notes *was, uint32_t n)
{
    for (uint32_t j = 0; j < was->drafts; j++) p->rows[j].passed = j + 1 < n;
}

/* The residual of a refused draft, changed. */
__device__ static void change(const sp_cuda_picture *p, const notes *was, sp_mistake mistake, uint32_t j,
                              float weights[V])
{
    const float *law = law_of(p, j);
    float total = 0, made[V];
    residual(p, was, j, weights);
    for (int v = 0; v < V; v++) total += weights[v];
    for (int v = 0; v < V; v++) weights[v] /= total;
    for (int v = 0; v < V; v++) {
        float above = 0, in_p = 0, in_q = 0;
        for (int o = 0; o < V; o++) {
            above += weights[o] > weights[v] ? weights[o] : 0;
            in_p += p->group_of[o] == p->group_of[v] ? law[o] : 0;
            in_q += p->group_of[o] == p->group_of[v] ? was->q[j][o] : 0;
        }
        made[v] = mistake == SP_TEMPERATURE_TWICE ? powf(weights[v], p->settings->inverse_temperature)
                  : mistake == SP_TOP_P_TWICE     ? (above <= p->settings->top_p ? weights[v] : 0)
                                                  : sp_residual(in_p, in_q) * law[v] / in_p;
    }
    for (int v = 0; v < V; v++) weights[v] = made[v];
}

/* Mistakes about what replaces the first refused draft, row j. */
__device__ static void replace_wrongly(const sp_cuda_picture *p, const notes *was, sp_mistake mistake, uint32_t j)
{
    float weights[V];
    int32_t *token = &p->rows[j].token;
    if (mistake == SP_COMMITS_REFUSED) *token = was->draft[j];
    if (mistake == SP_RESIDUAL_IS_P) *token = draw(law_of(p, j), uniform(p, SP_DRAW_REDRAFT, j));
    if (mistake != SP_TEMPERATURE_TWICE && mistake != SP_TOP_P_TWICE && mistake != SP_RESIDUAL_BY_GROUPS) return;
    change(p, was, mistake, j, weights);
    *token = draw(weights, uniform(p, SP_DRAW_RESIDUAL, j));
}

__device__ static void reuse(const sp_cuda_picture *p, const notes *was, float threshold)
{
    for (uint32_t j = final_rows(p, was); j < was->drafts; j++)
        if (law_of(p, j)[was->draft[j]] / was->q[j][was->draft[j]] > threshold) p->rows[j].token = was->draft[j];
}

/* The other picture is a number of rows drawn apart. */
__device__ static void cut_together(const sp_cuda_picture *p, const notes *was)
{
    uint32_t alone = final_rows(p, was), other = 1;
    while (other < was->live && sp_uniform(p->settings->seed, 1, SP_DRAW_ACCEPT, other, was->pass) < 0.5) other++;
    uint32_t n = alone < other ? alone : other;
    for (uint32_t j = n; j + 1 < alone; j++) restore_record(p, was, j);
    if (n < alone) end_after(p, was, n);
}

/* Only the first rows were asked about; the other drafts stay as they are. */
__device__ static void shorten(const sp_cuda_picture *p, const notes *was, bool by_chance)
{
    uint32_t n = 1;
    while (n < was->drafts && (by_chance ? was->q[n][was->draft[n]] >= 0.35f : was->draft[n] != 0)) n++;
    for (uint32_t j = n; j < was->drafts; j++) {
        p->rows[j].token = was->draft[j];
        restore_record(p, was, j);
    }
    if (final_rows(p, was) > n) end_after(p, was, n);
}

/* Of a test and its replacement made again, with the draws of another position or pass. */
__device__ static void settle_again(const sp_cuda_picture *p, const notes *was, uint32_t j, uint32_t position,
                                    uint32_t pass)
{
    const sp_cuda_settings *s = p->settings;
    int32_t draft = was->draft[j], *token = &p->rows[j].token;
    double u = sp_uniform(s->seed, s->image, SP_DRAW_ACCEPT, position, pass);
    float weights[V];
    bool drafted = j < was->drafts;
    p->rows[j].passed = drafted && sp_ratio_passes(u, static_cast<double>(law_of(p, j)[draft]),
                                                   static_cast<double>(was->q[j][draft]));
    residual(p, was, j, weights);
    if (p->rows[j].passed) *token = draft;
    else if (drafted) *token = draw(weights, sp_uniform(s->seed, s->image, SP_DRAW_RESIDUAL, position, pass));
    else *token = draw(law_of(p, j), sp_uniform(s->seed, s->image, SP_DRAW_REDRAFT, position, pass));
}

/* Block verification looks at later drafts before it accepts earlier ones. */
__device__ static void verify_block(const sp_cuda_picture *p, const notes *was)
{
    double chance[ROWS + 1] = {1};
    uint32_t m = was->drafts, accepted = 0;
    for (uint32_t i = 1; i <= m; i++) {
        const float *q = was->q[i - 1];
        int32_t draft = was->draft[i - 1];
        double ratio = static_cast<double>(law_of(p, i - 1)[draft]) / static_cast<double>(q[draft]), left = 0;
        chance[i] = fmin(1.0, chance[i - 1] * ratio);
        for (int v = 0; i < m && v < V; v++)
            left += fmax(0.0, chance[i] * static_cast<double>(law_of(p, i)[v]) - static_cast<double>(was->q[i][v]));
        double take = i == m ? chance[i] : left > 0 || chance[i] < 1 ? left / (left + 1 - chance[i]) : 1;
        if (uniform(p, SP_DRAW_ACCEPT, i - 1) < take) accepted = i;
    }
    for (uint32_t j = 0; j < was->live; j++) {
        float weights[V];
        if (j < accepted) p->rows[j].token = was->draft[j];
        else if (j > accepted && j < m) settle_again(p, was, j, was->first + j, was->pass + 1000);
        else if (j < m) {
            for (int v = 0; v < V; v++)
                weights[v] = static_cast<float>(fmax(0.0, chance[j] * static_cast<double>(law_of(p, j)[v]) -
                                                              static_cast<double>(was->q[j][v])));
            p->rows[j].token = draw(weights, uniform(p, SP_DRAW_RESIDUAL, j));
        } else {
            p->rows[j].token = draw(law_of(p, j), uniform(p, SP_DRAW_REDRAFT, j));
        }
    }
    end_after(p, was, accepted < was->live ? accepted + 1 : accepted);
    if (accepted > 0 && accepted == was->live) p->rows[accepted - 1].passed = 1;
}

/* The group of a draft by rank in q. */
__device__ static bool passes_by_q(const sp_cuda_picture *p, const notes *was, uint32_t j)
{
    const sp_cuda_settings *s = p->settings;
    const float *q = was->q[j], *of_draft = p->codes + was->draft[j] * SP_MISTAKEN_DIM;
    int32_t draft = was->draft[j], others = static_cast<int32_t>(s->group_size) - 1;
    double in_p = 0, in_q = 0;
    for (int32_t v = 0; v < V; v++) {
        int32_t below = 0;
        for (int32_t o = 0; o < V; o++) below += sp_outranks(q[o], o, q[v], v) - sp_outranks(q[o], o, q[draft], draft);
        float distance = sp_code_distance(of_draft, p->codes + v * SP_MISTAKEN_DIM, SP_MISTAKEN_DIM);
        bool near = below >= -(others / 2) && below <= others - others / 2;
        if (v != draft && !(near && sp_group_admits(q[v], q[draft], s->group_delta, distance, s->group_distance)))
            continue;
        in_p += static_cast<double>(law_of(p, j)[v]);
        in_q += static_cast<double>(q[v]);
    }
    return sp_ratio_passes(uniform(p, SP_DRAW_ACCEPT, j), in_p, in_q);
}

__device__ static void group_by_q(const sp_cuda_picture *p, const notes *was)
{
    bool passing = true;
    for (uint32_t j = 0; j < was->live; j++) {
        float weights[V];
        bool tested = passing && j < was->drafts;
        passing = tested && passes_by_q(p, was, j);
        p->rows[j].passed = passing;
        residual(p, was, j, weights);
        p->rows[j].token = passing  ? was->draft[j]
                           : tested ? draw(weights, uniform(p, SP_DRAW_RESIDUAL, j))
                                    : draw(law_of(p, j), uniform(p, SP_DRAW_REDRAFT, j));
    }
}

/* Mistakes about one row, whatever became of those before it. */
__device__ static void spoil_row(const sp_cuda_picture *p, const notes *was, sp_mistake mistake, uint32_t j)
{
    bool drafted = j < was->drafts, refused = drafted && !p->rows[j].passed;
    float weights[V];
    if (mistake == SP_KEEPS_OLD_RECORD && drafted && !refused) restore_record(p, was, j);
    if (mistake == SP_RECORD_ONE_OFF && j > 0) record(p, was, j, SP_LAW_ROW, law_of(p, j - 1));
    if (mistake == SP_RECORD_WITHOUT_SETS) record(p, was, j, SP_LAW_ROW, was->whole[j]);
    if (mistake == SP_SAME_EVERY_ROW) settle_again(p, was, j, 0, was->pass);
    if (mistake == SP_LIKELIEST_DRAFTS && j >= final_rows(p, was)) {
        p->rows[j].token = 0;
        for (int32_t v = 1; v < V; v++)
            if (law_of(p, j)[v] > law_of(p, j)[p->rows[j].token]) p->rows[j].token = v;
    }
    if (mistake == SP_RESIDUAL_BY_TEST && refused) {
        residual(p, was, j, weights);
        p->rows[j].token = draw(weights, uniform(p, SP_DRAW_ACCEPT, j));
    }
}

/* Mistakes about the pass as a whole. */
__device__ static void spoil(const sp_cuda_picture *p, const notes *was, sp_mistake mistake)
{
    uint32_t n = final_rows(p, was), last = n - 1;
    if (last < was->drafts && !p->rows[last].passed) replace_wrongly(p, was, mistake, last);
    if (mistake == SP_WITHHOLDS_LAST && n > 1) end_after(p, was, n - 1);
    if (mistake == SP_COMMITS_ONE_MORE && n < was->live) end_after(p, was, n + 1);
    if (mistake == SP_REUSES_0_6) reuse(p, was, 0.6f);
    if (mistake == SP_REUSES_0_8) reuse(p, was, 0.8f);
    if (mistake == SP_COMMON_CUT) cut_together(p, was);
    if (mistake == SP_WINDOW_BY_CHANCE) shorten(p, was, true);
    if (mistake == SP_WINDOW_BY_DRAFT) shorten(p, was, false);
    if (mistake == SP_BLOCK_CARRIED) verify_block(p, was);
    if (mistake == SP_GROUP_BY_Q) group_by_q(p, was);
    if (mistake == SP_UNIFORM_BONUS && n == was->live && was->drafts < n)
        p->rows[last].token = static_cast<int32_t>(uniform(p, SP_DRAW_REDRAFT, last) * static_cast<double>(V));
}

/* What was changed before is as it was; equality is tested where it should have been. */
__device__ static void put_back(const sp_cuda_picture *p, const notes *was, sp_mistake mistake)
{
    sp_cuda_settings *settings = const_cast<sp_cuda_settings *>(p->settings);
    settings->image = 0;
    settings->group_delta = was->group_delta;
    settings->group_distance = was->group_distance;
    p->state->first = was->first;
    p->state->known = was->known;
    p->state->pass = was->pass;
    for (uint32_t j = 0; mistake == SP_NOISE_BY_ROW && j < was->live; j++)
        p->rows[j].passed = j < was->drafts && p->rows[j].token == was->draft[j];
}

__global__ static void after_kernel(sp_cuda_picture p, sp_mistake mistake, const notes *was, uint32_t *idle)
{
    sp_wait_launch();
    if (threadIdx.x > 0) return;
    put_back(&p, was, mistake);
    for (uint32_t j = 0; j < was->live; j++) spoil_row(&p, was, mistake, j);
    spoil(&p, was, mistake);
    uint32_t n = final_rows(&p, was);
    *idle += n < was->live && p.rows[n - 1].token == was->draft[n - 1];
}

/* ---- the host's side ---- */

static sp_status fill(sp_mistaken *d, const float *logits, sp_error *err)
{
    SP_CUDA(cudaMalloc(&d->memory, sizeof *d->memory), err);
    SP_CUDA(cudaMemset(d->memory, 0xFF, sizeof *d->memory), err); /* notes are taken of everything */
    sp_mistaken_memory *m = d->memory;
    sp_cuda_picture *p = &d->picture;
    p->n_codes = V;
    p->n_positions = N;
    p->n_pictures = 1;
    p->ring = ROWS;
    p->settings = &m->settings;
    p->state = &m->state;
    p->starts = m->starts;
    p->tokens = m->tokens;
    p->fed = &m->fed;
    p->ids = m->ids;
    p->logits = m->logits;
    p->laws = m->laws;
    p->kinds = m->kinds;
    p->best = m->best;
    p->rows = m->rows;
    p->codes = m->codes;
    p->group_of = m->group_of;
    p->records = m->records;
    p->drawn = m->drawn;
    SP_CUDA(cudaMemcpy(m->table, logits, sizeof m->table, cudaMemcpyHostToDevice), err);
    return SP_OK;
}

sp_status sp_mistaken_open(sp_mistaken **out, const float *logits, sp_error *err)
{
    *out = static_cast<sp_mistaken *>(sp_alloc(1, sizeof **out));
    if (!*out) return SP_FAIL(err, SP_ENOMEM, "mistakes: no memory");
    return fill(*out, logits, err);
}

void sp_mistaken_close(sp_mistaken *device)
{
    if (device) cudaFree(device->memory);
    sp_release(device);
}

static sp_status begin(const sp_mistaken *d, const sp_device_picture *from, sp_error *err)
{
    sp_mistaken_memory *m = d->memory;
    sp_cuda_settings s = {};
    s.seed = from->seed;
    s.cfg_scale = from->cfg_scale;
    s.inverse_temperature = 1 / from->temperature;
    s.top_k = from->top_k < V ? static_cast<uint32_t>(from->top_k) : 0;
    s.top_p = from->top_p;
    s.group_size = static_cast<uint32_t>(from->group_size);
    s.code_dim = SP_MISTAKEN_DIM;
    s.grouped = from->group_of != NULL;
    s.group_delta = from->group_delta;
    s.group_distance = from->group_distance;
    SP_CUDA(cudaMemset(&m->state, 0, sizeof m->state), err);
    SP_CUDA(cudaMemcpy(&m->settings, &s, sizeof s, cudaMemcpyHostToDevice), err);
    SP_CUDA(cudaMemcpy(m->starts, from->starts, sizeof m->starts, cudaMemcpyHostToDevice), err);
    if (from->codes) SP_CUDA(cudaMemcpy(m->codes, from->codes, sizeof m->codes, cudaMemcpyHostToDevice), err);
    if (!from->group_of) return SP_OK;
    SP_CUDA(cudaMemcpy(m->group_of, from->group_of, sizeof m->group_of, cudaMemcpyHostToDevice), err);
    return SP_OK;
}

static sp_status pass(const sp_mistaken *d, size_t n, sp_cuda_rule rule, sp_mistake mistake, sp_error *err)
{
    sp_mistaken_memory *m = d->memory;
    const sp_cuda_picture *p = &d->picture;
    uint32_t rows = static_cast<uint32_t>(n);
    SP_CUDA(sp_cuda_place(NULL, p, n), err);
    SP_CUDA(SP_LAUNCH(model_kernel, 1, SP_WARP, 0, NULL, m, rows, rule.guided ? 2 : 1), err);
    SP_CUDA(SP_LAUNCH(before_kernel, 1, SP_WARP, 0, NULL, *p, rows, mistake, &m->was), err);
    if (rule.test == SP_CUDA_RACE) SP_CUDA(sp_cuda_race(NULL, p, n, rule), err);
    else SP_CUDA(sp_cuda_verify(NULL, p, n, rule), err);
    SP_CUDA(SP_LAUNCH(after_kernel, 1, SP_WARP, 0, NULL, *p, mistake, &m->was, &m->idle), err);
    SP_CUDA(sp_cuda_commit(NULL, p, n), err);
    return SP_OK;
}

sp_status sp_mistaken_draw(sp_mistaken *d, const sp_device_picture *picture, size_t window, sp_mistake mistake,
                           int32_t *tokens, size_t *idle, sp_error *err)
{
    const sp_mistaken_memory *m = d->memory;
    bool race = strcmp(picture->rule, "pathwise") == 0, group = strcmp(picture->rule, "gsd") == 0;
    sp_cuda_rule rule = {race ? SP_CUDA_RACE : group ? SP_CUDA_GROUP : SP_CUDA_RATIO,
                         strcmp(picture->rule, "coupled") == 0, picture->cfg_scale != 1,
                         (picture->top_k > 0 && picture->top_k < V) || picture->top_p < 1};
    sp_cuda_state state = {};
    uint32_t waited = 0;
    SP_TRY(begin(d, picture, err));
    SP_CUDA(cudaMemset(&d->memory->idle, 0, sizeof waited), err);
    while (state.first < N) {
        SP_TRY(pass(d, window, rule, mistake, err));
        SP_CUDA(cudaMemcpy(&state, &m->state, sizeof state, cudaMemcpyDeviceToHost), err);
    }
    SP_CUDA(cudaMemcpy(tokens, m->drawn, sizeof m->drawn, cudaMemcpyDeviceToHost), err);
    SP_CUDA(cudaMemcpy(&waited, &m->idle, sizeof waited, cudaMemcpyDeviceToHost), err);
    *idle += waited;
    return SP_OK;
}
