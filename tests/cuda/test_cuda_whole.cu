/* Whole pictures on a device, a small transformer and the decode loop together, against the host's loop over the same
 * transformer on the same device: the tokens and the counts of every rule, whatever the windows were captured for,
 * alone and in batches. The host's loop reads logits; the device's has the race of ar and pathwise as the epilogue of
 * the head where one block has all rows. */
#include "tests/cuda/device_test.cuh"

extern "C" {
#include "decode/device.h"
}
#include "kernels/cuda/table.cuh"

enum {
    DIM = 32, BLOCKS = 2, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 8, FFN = 48, CODES = 70, PREFIX = 3, IDS = 5,
    COLUMNS = 4, POSITIONS = 16, WINDOW = 8, PLACES = 9, PICTURES = 10
};

struct weights {
    std::vector<uint16_t> qkv, o, gate_up, down;
    std::vector<float> attention_norm, ffn_norm;
};

static std::vector<uint16_t> matrix(size_t n, size_t k, uint32_t stream)
{
    std::vector<float> values = sp_test_values(n * k, stream);
    for (float &v : values) v *= 2.0f / sqrtf(static_cast<float>(k));
    return sp_test_bf16(values);
}

/* What a model of two streams does with passes of rows in host memory. */
struct by_rows {
    sp_device_context *context;
    const sp_device_model_ops *ops;
    bool guided;
    size_t prompt;
};

/* The prompt's ids. */
static int32_t prefix_id(size_t prompt, size_t stream, size_t i)
{
    static const int32_t prefixes[SP_DEVICE_STREAMS][PREFIX] = {{1, 3, 2}, {0, 0, 4}};
    return stream == 0 ? (prefixes[0][i] + static_cast<int32_t>(prompt * (i + 1))) % IDS : prefixes[1][i];
}

static sp_status begin(void *state, const sp_model_prompt *, bool guided, float *, sp_error *err)
{
    by_rows *m = static_cast<by_rows *>(state);
    std::vector<int32_t> token, position;
    int32_t last[SP_DEVICE_STREAMS];
    size_t streams = guided ? 2 : 1;
    m->guided = guided;
    for (size_t s = 0; s < streams; s++) {
        for (int32_t i = 0; i + 1 < PREFIX; i++) {
            token.push_back(~prefix_id(m->prompt, s, static_cast<size_t>(i)));
            position.push_back(i);
        }
        last[s] = prefix_id(m->prompt, s, PREFIX - 1);
    }
    sp_device_rows rows = {streams, PREFIX - 1, token.data(), position.data(), position.data(), NULL, NULL, NULL, NULL};
    SP_TRY(m->ops->pass(m->context, &rows, NULL, NULL, err));
    return m->ops->follow(m->context, last, streams, err);
}

static sp_status forward(void *state, const sp_model_window *w, sp_error *err)
{
    by_rows *m = static_cast<by_rows *>(state);
    std::vector<int32_t> token, position;
    size_t streams = m->guided ? 2 : 1;
    for (size_t s = 0; s < streams; s++)
        for (size_t j = 0; j < w->n; j++) {
            token.push_back(w->first + j == 0 ? ~prefix_id(m->prompt, s, PREFIX - 1) : w->ids[j]);
            position.push_back(static_cast<int32_t>(PREFIX + w->first + j) - 1);
        }
    sp_device_rows rows = {streams, w->n, token.data(), position.data(), position.data(), NULL, NULL, NULL, NULL};
    return m->ops->pass(m->context, &rows, w->logits, NULL, err);
}

struct fixture {
    std::vector<float> tables[2], cosine, sine, norm;
    std::vector<uint16_t> head;
    weights of_block[BLOCKS];
    sp_device_model *model;
    by_rows state;

    fixture() : tables{sp_test_values(CODES * DIM, 1), sp_test_values(IDS * DIM, 2)}, norm(DIM, 1.0f)
    {
        const size_t angles = (PREFIX + POSITIONS) * HEAD_DIM / 2;
        for (size_t i = 0; i < angles; i++) {
            float angle = static_cast<float>(i / (HEAD_DIM / 2)) / powf(10, static_cast<float>(i % (HEAD_DIM / 2)));
            cosine.push_back(cosf(angle));
            sine.push_back(sinf(angle));
        }
        sp_device_block blocks[BLOCKS] = {};
        for (uint32_t i = 0; i < BLOCKS; i++) {
            weights &w = of_block[i];
            w.qkv = matrix((HEADS + 2 * KV_HEADS) * HEAD_DIM, DIM, 10 * i + 10);
            w.o = matrix(DIM, HEADS * HEAD_DIM, 10 * i + 11);
            w.gate_up = matrix(2 * FFN, DIM, 10 * i + 12);
            w.down = matrix(DIM, FFN, 10 * i + 13);
            w.attention_norm.assign(DIM, 1.0f);
            w.ffn_norm.assign(DIM, 1.0f);
            blocks[i].attention_norm = w.attention_norm.data();
            blocks[i].ffn_norm = w.ffn_norm.data();
            blocks[i].qkv = {w.qkv.data(), (HEADS + 2 * KV_HEADS) * HEAD_DIM, DIM};
            blocks[i].o = {w.o.data(), DIM, HEADS * HEAD_DIM};
            blocks[i].gate_up = {w.gate_up.data(), 2 * FFN, DIM};
            blocks[i].down = {w.down.data(), DIM, FFN};
        }
        head = matrix(CODES, DIM, 50);
        for (uint16_t &h : head) h = sp_f32_to_bf16(2 * sp_bf16_to_f32(h));
        open(blocks);
    }
    void open(const sp_device_block *blocks)
    {
        sp_device_plan plan = {};
        plan.dim = DIM;
        plan.n_blocks = BLOCKS;
        plan.heads = HEADS;
        plan.kv_heads = KV_HEADS;
        plan.head_dim = HEAD_DIM;
        plan.ffn_dim = FFN;
        plan.n_codes = CODES;
        plan.n_prefix = PREFIX;
        plan.n_positions = POSITIONS;
        plan.eps = 1e-5f;
        plan.prefix_lines = 1;
        plan.codes = {tables[0].data(), SP_F32, CODES};
        plan.prefix = {tables[1].data(), SP_F32, IDS};
        plan.cosine = cosine.data();
        plan.sine = sine.data();
        plan.blocks = blocks;
        plan.norm = norm.data();
        plan.head = {head.data(), CODES, DIM};
        sp_error err = {};
        state.ops = &sp_cuda_models;
        state.prompt = 0;
        if (state.ops->open(&model, 0, &plan, &err) != SP_OK) fail_msg("%s", err.message);
        if (state.ops->context_open(&state.context, model, WINDOW, 1, PLACES, &err) != SP_OK)
            fail_msg("%s", err.message);
    }
    ~fixture()
    {
        state.ops->context_close(state.context);
        state.ops->close(model);
    }
};

static void draw(sp_decoder *d, const sp_model *model, const sp_decode_plan &plan)
{
    sp_error err = {};
    if (sp_decode(d, model, &plan, &err) != SP_OK) fail_msg("%s", err.message);
}

static void pictures_are_the_hosts(void **)
{
    static const char *const rules[] = {"ar", "pathwise", "sjd", "coupled", "gsd"};
    static const size_t windows[] = {3, 8, 1, 2, 4, 5, 6, 7};
    static const sp_sampling samplings[] = {{0, 0, 1, 1, 0, 1}, {0, 1, 2, 0.9f, 12, 0.9f}};
    static const sp_model_ops ops = {begin, forward, NULL, NULL};
    fixture f;
    sp_model model = {&ops, &f.state, CODES, POSITIONS / COLUMNS, COLUMNS, PREFIX, DIM};
    sp_device_loop loop = f.state.ops->loop(f.state.context);
    std::vector<float> codes = sp_test_values(CODES, 90);
    sp_decoder *here, *there, *plain;
    sp_error err = {};
    for (sp_decoder **d : {&here, &there, &plain})
        if (sp_decoder_open(d, CODES, POSITIONS / COLUMNS, COLUMNS, sp_ops_find("ref"), WINDOW, &err) != SP_OK)
            fail_msg("%s", err.message);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
            for (size_t s = 0; s < sizeof samplings / sizeof *samplings; s++) {
                if ((i != 1 || w > 1) && (i + w + s) % 2 != 0) continue;
                if (i != 1 && w > 1) continue;
                sp_decode_plan plan = {};
                plan.rule = sp_accept_find(rules[i]);
                plan.drafter = sp_drafter_find(sp_drafter_names()[(i + w) % 3]);
                plan.window = windows[w];
                plan.sampling = samplings[s];
                plan.sampling.seed = 100 * i + 10 * w + s;
                plan.relaxation.codes = codes.data();
                plan.relaxation.code_dim = 1;
                plan.relaxation.group_size = 5;
                plan.relaxation.group_delta = 0.3f;
                plan.relaxation.group_distance = 4;
                draw(here, &model, plan);
                plan.loop = &loop;
                draw(there, &model, plan);
                assert_memory_equal(here->tokens, there->tokens, POSITIONS * sizeof *here->tokens);
                assert_memory_equal(here->pass_of_token, there->pass_of_token, POSITIONS * sizeof *here->tokens);
                assert_int_equal(here->passes, there->passes);
                if (i > 1) continue;
                /* One row at a time or many: the same picture. */
                plan.rule = sp_accept_find("ar");
                draw(plain, &model, plan);
                assert_memory_equal(plain->tokens, there->tokens, POSITIONS * sizeof *here->tokens);
                assert_true(i == 0 || w > 1 || there->passes < plain->passes);
            }
    for (sp_decoder *d : {here, there, plain}) sp_decoder_close(d);
}

/* Pictures of different prompts and settings, a few at a time. */
struct gallery {
    fixture f;
    sp_model model;
    sp_device_loop loop;
    sp_decode_plan plans[PICTURES];
    sp_decoder *decoders[PLACES];
    sp_device_place places[PLACES];
    sp_device_batch batch;
    size_t next, count, drawn_at[PLACES];
    std::vector<int32_t> tokens[PICTURES];

    sp_status hang(size_t at, sp_error *err)
    {
        if (next == count) return SP_OK;
        sp_device_place &place = places[at];
        place.decoder = decoders[at];
        place.decoder->passes = place.decoder->drafted = place.decoder->accepted = 0;
        place.plan = &plans[next];
        drawn_at[at] = f.state.prompt = next++;
        f.state.ops->select(f.state.context, at);
        SP_TRY(begin(&f.state, NULL, place.plan->sampling.cfg_scale != 1.0f, NULL, err));
        assert_true(sp_device_can_decode(place.decoder, place.plan));
        return sp_device_begin(&batch, at, err);
    }
    static sp_status over(void *user, size_t at, sp_error *err)
    {
        gallery *g = static_cast<gallery *>(user);
        assert_int_equal(g->places[at].why.status, SP_OK);
        const int32_t *from = g->decoders[at]->tokens;
        g->tokens[g->drawn_at[at]].assign(from, from + POSITIONS);
        return g->hang(at, err);
    }
    sp_status draw(size_t n_places, size_t n_pictures, sp_error *err)
    {
        sp_pacer pacers[SP_DEVICE_STEPS] = {};
        next = 0;
        count = n_pictures;
        memset(places, 0, sizeof places);
        batch = sp_device_batch{&loop, places, n_places, WINDOW, pacers, over, NULL, this};
        SP_TRY(sp_device_gather(&batch, err));
        for (size_t at = 0; at < n_places; at++) SP_TRY(hang(at, err));
        return sp_device_run(&batch, err);
    }
};

/* Of 3 windows of 2 one block of the head has all rows; 9 windows of 8 have 144 rows of two streams, more than one
 * product takes. */
static void pictures_together(void **)
{
    static const sp_model_ops ops = {begin, forward, NULL, NULL};
    static const struct { const char *rule; size_t places, window; bool guided, cut; } cases[] = {
        {"pathwise", 3, 2, true, true}, {"pathwise", 9, 8, true, false}, {"sjd", 2, 5, true, true},
        {"gsd", 2, 8, false, false},    {"ar", 3, 1, false, true},       {"coupled", 4, 7, true, false}};
    static gallery g;
    g.model = {&ops, &g.f.state, CODES, POSITIONS / COLUMNS, COLUMNS, PREFIX, DIM};
    g.loop = g.f.state.ops->loop(g.f.state.context);
    std::vector<float> codes = sp_test_values(CODES, 90);
    sp_decoder *alone;
    sp_error err = {};
    assert_int_equal(sp_decoder_open(&alone, CODES, POSITIONS / COLUMNS, COLUMNS, sp_ops_find("ref"), WINDOW, &err), 0);
    for (sp_decoder *&d : g.decoders)
        assert_int_equal(sp_decoder_open(&d, CODES, POSITIONS / COLUMNS, COLUMNS, sp_ops_find("ref"), 1, &err), 0);
    for (const auto &c : cases) {
        if (&c > cases && !getenv("SP_TEST_ALL")) break;
        size_t count = c.places + 1;
        for (size_t i = 0; i < count; i++) {
            sp_decode_plan &plan = g.plans[i] = {};
            plan.rule = sp_accept_find(c.rule);
            plan.drafter = sp_drafter_find(sp_drafter_names()[i % 3]);
            plan.window = c.window;
            plan.sampling = {i, static_cast<uint32_t>(i % 2), c.guided ? 1.5f + static_cast<float>(i) / 8 : 1, 1,
                             c.cut ? 5 + static_cast<int>(i) : 0, 1};
            plan.relaxation = {codes.data(), 1, 5, 0.3f, 4, NULL, 0, 0, 0};
            plan.loop = &g.loop;
        }
        if (g.draw(c.places, count, &err) != SP_OK) fail_msg("%s", err.message);
        g.f.state.ops->select(g.f.state.context, 1);
        for (size_t i = 0; i < count; i += 3) {
            g.f.state.prompt = i;
            g.plans[i].loop = NULL;
            draw(alone, &g.model, g.plans[i]);
            assert_memory_equal(alone->tokens, g.tokens[i].data(), POSITIONS * sizeof(int32_t));
        }
    }
    sp_decoder_close(alone);
    for (sp_decoder *d : g.decoders) sp_decoder_close(d);
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pictures_are_the_hosts), cmocka_unit_test(pictures_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
