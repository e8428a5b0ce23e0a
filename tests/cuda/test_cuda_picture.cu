/* The kernels of a pass against the rules of acceptance/ over kernels/ref: tokens, what is final, records. Rows beyond
 * the picture are NaN, and so is all that is not meant to be read. */
#include "tests/cuda/device_test.cuh"

#include "kernels/cuda/race.cuh"

extern "C" {
#include "acceptance/accept.h"
#include "acceptance/verify.h"
}

enum { RING = 128, POSITIONS = 400 };

/* A picture on the device, between sentinels. */
class drawing {
  public:
    sp_buffer<sp_cuda_settings> settings{1};
    sp_buffer<sp_cuda_state> state{1};
    sp_buffer<int32_t> starts{POSITIONS}, tokens{POSITIONS}, fed{1}, ids{RING}, kinds{RING}, drawn{POSITIONS};
    sp_buffer<float> logits, laws, vectors;
    sp_buffer<unsigned long long> best;
    sp_buffer<sp_cuda_row> rows{RING};
    sp_buffer<sp_device_record> records{POSITIONS};
    sp_buffer<int32_t> group_of;
    sp_cuda_picture picture;

    drawing(size_t n_codes, size_t code_dim)
        : logits(2 * RING * n_codes), laws(RING * n_codes), vectors(n_codes * code_dim),
          best(RING * sp_cuda_most_slices(n_codes)), group_of(n_codes)
    {
        picture = {};
        picture.n_codes = static_cast<uint32_t>(n_codes);
        picture.n_positions = POSITIONS;
        picture.n_pictures = 1;
        picture.ring = RING;
        picture.settings = settings.at();
        picture.state = state.at();
        picture.starts = starts.at();
        picture.tokens = tokens.at();
        picture.fed = fed.at();
        picture.ids = ids.at();
        picture.logits = logits.at();
        picture.laws = laws.at();
        picture.kinds = kinds.at();
        picture.best = best.at();
        picture.rows = rows.at();
        picture.codes = vectors.at();
        picture.group_of = group_of.at();
        picture.records = records.at();
        picture.drawn = drawn.at();
    }
    void stand(uint32_t first, uint32_t known, uint32_t pass) const
    {
        sp_cuda_state s = {};
        s.first = first;
        s.known = known;
        s.pass = pass;
        state.fill({s});
    }
};

static sp_cuda_settings settings_of(const sp_sampling &s, size_t n_codes)
{
    sp_cuda_settings out = {};
    out.seed = s.seed;
    out.image = s.image;
    out.cfg_scale = s.cfg_scale;
    out.greedy = !(s.temperature > 0);
    out.inverse_temperature = out.greedy ? 1 : 1 / s.temperature;
    out.top_k = static_cast<size_t>(s.top_k) < n_codes ? static_cast<uint32_t>(s.top_k) : 0;
    out.top_p = s.top_p;
    return out;
}

static sp_cuda_rule rule_of(sp_cuda_test test, const sp_sampling &s, size_t n_codes)
{
    sp_cuda_settings settings = settings_of(s, n_codes);
    return {test, false, s.cfg_scale != 1, settings.top_k || settings.top_p < 1};
}

static const sp_sampling samplings[] = {
    {11, 0, 1, 1, 0, 1},    {12, 3, 4.5f, 1, 0, 1},  {13, 0, 2, 0, 0, 1},     {14, 0, 1, 0.7f, 3, 1},
    {15, 1, 3, 1.2f, 1, 1}, {16, 0, 1, 1, 40, 1},    {17, 0, 1, 1, 0, 0.9f},  {18, 0, 2, 1, 0, 0.3f},
    {19, 0, 1, 1, 0, 0},    {20, 0, 1, 1.5f, 20, 0.8f}, {21, 2, 1, 1, 5000, 1},
};

/* Logits [streams, n, n_codes] with equal ones among them, some of no weight, and NaN from row live on. */
static std::vector<float> make_logits(size_t n_codes, size_t n, size_t live, bool guided, uint32_t stream)
{
    std::vector<float> out((guided ? 2 : 1) * n * n_codes, NAN);
    for (size_t s = 0; s < (guided ? 2u : 1u); s++)
        for (size_t i = 0; i < live * n_codes; i++) {
            float value = 4 * sp_test_value(stream + static_cast<uint32_t>(s), i);
            if (i % 5 == 0) value = rintf(value);
            out[s * n * n_codes + i] = s == 0 && i % n_codes > 0 && i % 11 == 0 ? -INFINITY : value;
        }
    return out;
}

/* What the host makes of the same logits. */
struct host_rows {
    std::vector<float> scores, noise, scratch;
    std::vector<sp_accept_row> rows;
    std::vector<int32_t> settled;
    sp_accept_window window = {};
    sp_relaxation relaxation = {};
    double deviation = 0;

    host_rows(const std::vector<float> &logits, const sp_sampling &s, size_t n_codes, size_t n, size_t live,
              size_t position)
        : scores(live * n_codes), noise(live * ((n_codes + 3) / 4 * 4)), scratch(n_codes), rows(live), settled(live)
    {
        const sp_ops *ref = sp_ops_find("ref");
        size_t padded = (n_codes + 3) / 4 * 4;
        for (size_t j = 0; j < live; j++) {
            const float *free = s.cfg_scale != 1 ? &logits[(n + j) * n_codes] : nullptr;
            ref->guide(&logits[j * n_codes], free, s.cfg_scale, s.temperature > 0 ? 1 / s.temperature : 1, n_codes,
                       &scores[j * n_codes]);
            ref->gumbel(s.seed, s.image, static_cast<uint32_t>(position + j), padded, &noise[j * padded]);
            rows[j].scores = &scores[j * n_codes];
            rows[j].noise = s.temperature > 0 ? &noise[j * padded] : nullptr;
            rows[j].law = nullptr;
        }
        window.position = position;
        window.n_rows = live;
        window.n_codes = n_codes;
        window.rows = rows.data();
        window.tokens = settled.data();
        window.sampling = &s;
        window.relaxation = &relaxation;
        window.ops = ref;
        window.scratch = scratch.data();
        window.deviation = &deviation;
    }
};

static const size_t code_counts[] = {1, 4, 7, 64, 130, 1003, 1024, 2052, 5000};

/* The tokens have the host's bits: the kernel does the same operations, and where sets are cut no two codes of these
 * laws come within the units in which mass is counted. */
static void race(void **)
{
    enum { N = 6, LIVE = 4, FIRST = POSITIONS - LIVE };
    for (size_t v : code_counts)
        for (const sp_sampling &s : samplings) {
            bool guided = s.cfg_scale != 1;
            drawing d(v, 1);
            std::vector<float> logits = make_logits(v, N, LIVE, guided, 100 + static_cast<uint32_t>(v));
            host_rows host(logits, s, v, N, LIVE, FIRST);
            std::vector<int32_t> drafts(POSITIONS, -1);
            for (size_t j = 0; j < LIVE; j++) {
                sp_error err = {};
                if (sp_sample(&host.window, j, &host.settled[j], &err) != SP_OK) fail_msg("%s", err.message);
                if (j != 1) drafts[FIRST + j] = host.settled[j];
            }
            d.settings.fill({settings_of(s, v)});
            d.stand(FIRST, POSITIONS - 1, 9); /* the last row has no draft */
            d.tokens.fill(drafts);
            d.logits.fill(logits);
            d.best.fill(std::vector<unsigned long long>(d.best.count(), 7));
            SP_TEST_CUDA(sp_cuda_race(nullptr, &d.picture, N, rule_of(SP_CUDA_RACE, s, v)));
            std::vector<sp_cuda_row> rows = d.rows.read();
            for (size_t j = 0; j < LIVE; j++) {
                assert_int_equal(rows[j].broken, 0);
                assert_int_equal(rows[j].token, host.settled[j]);
                assert_int_equal(rows[j].passed, j == 0 || j == 2);
            }
            /* Beyond the picture everything is as it was. */
            assert_int_equal(rows[LIVE].broken, -1);
            assert_int_equal(d.best.read()[LIVE * sp_cuda_race_slices(v)], 7);
        }
}

/* A head on the device, and a pass of rows through it in two ways: over logits in memory, and with the race as its
 * epilogue. */
struct head_pass {
    enum { FIRST = 11 };
    size_t v, k, n, live;
    const sp_sampling &s;
    std::vector<uint16_t> inputs;
    sp_buffer<unsigned char> tiles;
    sp_buffer<float> bias;
    sp_cuda_weight head;
    sp_cuda_rule rule;

    head_pass(size_t v_, size_t k_, size_t n_, size_t live_, const sp_sampling &s_)
        : v(v_), k(k_), n(n_), live(live_), s(s_), tiles(sp_cuda_weight_bytes(v_, k_)), bias(sp_test_values(v_, 700)),
          head{tiles.at(), v_, k_, sp_cuda_slices(v_, k_)}, rule(rule_of(SP_CUDA_RACE, s_, v_))
    {
        std::vector<float> x = sp_test_values((rule.guided ? 2 : 1) * n * k, 702);
        for (float &value : x) value *= 4;
        inputs = sp_test_bf16(x);
        sp_buffer<uint16_t> rows(sp_test_bf16(sp_test_values(v * k, 701)));
        SP_TEST_CUDA(sp_cuda_pack(nullptr, rows.at(), v, k, tiles.at()));
    }
    void run(drawing &d, bool with_bias, bool fused) const
    {
        size_t all = (rule.guided ? 2 : 1) * n, slices = 0;
        sp_buffer<uint16_t> x(inputs);
        std::vector<int32_t> drafts(POSITIONS, 3);
        sp_partial y;
        d.settings.fill({settings_of(s, v)});
        d.picture.n_positions = static_cast<uint32_t>(FIRST + live);
        d.stand(FIRST, static_cast<uint32_t>(FIRST + live - 1), 0);
        d.tokens.fill(drafts);
        const float *shift = with_bias ? bias.at() : nullptr;
        if (fused) {
            assert_true(sp_cuda_head_can_race(head, n, rule));
            SP_TEST_CUDA(sp_cuda_head_race(nullptr, head, shift, x.at(), &d.picture, n, rule, &slices));
            assert_in_range(slices, 1, sp_cuda_most_slices(v));
            SP_TEST_CUDA(sp_cuda_settle(nullptr, &d.picture, n, rule, slices, true));
            return;
        }
        sp_buffer<float> sums(all * v);
        SP_TEST_CUDA(sp_cuda_gemm(nullptr, head, x.at(), all, sums.at(), &y));
        SP_TEST_CUDA(sp_cuda_finish(nullptr, y, shift, all, v, d.logits.at()));
        SP_TEST_CUDA(sp_cuda_race(nullptr, &d.picture, n, rule));
    }
};

/* Tokens, tests of drafts and the scores that sets are cut from: the same bits either way. Without sets, no score is
 * written; beyond the picture, nothing is. */
static void head_races_alike(void **)
{
    static const size_t counts[] = {1, 2, 5, 16, 33, 64, 128};
    static const struct { size_t v, k; } shapes[] = {{1, 8}, {63, 40}, {130, 72}, {300, 16}};
    size_t turn = 0;
    for (const auto &shape : shapes)
        for (size_t n : counts)
            for (size_t i = turn++ % 3; i < sizeof samplings / sizeof *samplings; i += 3) {
                const sp_sampling &s = samplings[i];
                if (s.cfg_scale != 1 && n > 64) continue;
                size_t live = n > 2 ? n - 2 : n;
                head_pass pass(shape.v, shape.k, n, live, s);
                drawing apart(shape.v, 1), fused(shape.v, 1);
                bool with_bias = (turn + i) % 2;
                if (turn % 4 == 0) pass.inputs[(live - 1) * shape.k] = 0x7FC0;
                pass.run(apart, with_bias, false);
                pass.run(fused, with_bias, true);
                std::vector<sp_cuda_row> a = apart.rows.read(), b = fused.rows.read();
                for (size_t j = 0; j < live; j++) {
                    assert_int_equal(b[j].token, a[j].token);
                    assert_int_equal(b[j].passed, a[j].passed);
                    assert_int_equal(b[j].broken, turn % 4 == 0 && j == live - 1);
                }
                assert_int_equal(b[live].token, -1);
                std::vector<float> scores = apart.logits.read(), left = fused.logits.read(), untouched(left.size());
                size_t written = pass.rule.cut ? live * shape.v : 0;
                memset(untouched.data(), 0xFF, untouched.size() * sizeof(float));
                sp_test_equal("scores", left.data(), scores.data(), written);
                sp_test_equal("what is beyond them", &left[written], &untouched[written], left.size() - written);
                assert_true(fused.state.read()[0].modelled > 0);
            }
}

/* The race is over logits in memory where a block has not all of a sum or not all of the rows. */
static void head_cannot_race(void **)
{
    const sp_cuda_weight head = {nullptr, 64, 64, 1}, sliced = {nullptr, 64, 1024, 2};
    const sp_cuda_rule plain = {SP_CUDA_RACE, false, false, false}, guided = {SP_CUDA_RACE, false, true, true};
    assert_true(sp_cuda_head_can_race(head, 128, plain) && sp_cuda_head_can_race(head, 64, guided));
    assert_false(sp_cuda_head_can_race(head, 129, plain) || sp_cuda_head_can_race(head, 65, guided));
    assert_false(sp_cuda_head_can_race(sliced, 1, plain));
    assert_false(sp_cuda_head_can_race(head, 1, sp_cuda_rule{SP_CUDA_RATIO, false, false, false}));
}

/* The first of equal scores, and 0 is equal to -0. */
static void first_of_equals(void **)
{
    enum { V = 1500 };
    sp_sampling s = {1, 0, 1, 0, 0, 1};
    for (size_t at : {0, 3, 1023, 1024, 1400}) {
        drawing d(V, 1);
        std::vector<float> logits(V, -1.0f);
        logits[at] = -0.0f;
        logits[V - 1] = logits[at + 60] = 0.0f;
        d.settings.fill({settings_of(s, V)});
        d.stand(3, 3, 0);
        d.logits.fill(logits);
        SP_TEST_CUDA(sp_cuda_race(nullptr, &d.picture, 1, rule_of(SP_CUDA_RACE, s, V)));
        assert_int_equal(d.rows.read()[0].token, at);
        d.logits.fill(logits);
        d.kinds.fill(std::vector<int32_t>(RING, SP_LAW_UNIFORM));
        d.tokens.fill(std::vector<int32_t>(POSITIONS, 0));
        SP_TEST_CUDA(sp_cuda_verify(nullptr, &d.picture, 1, rule_of(SP_CUDA_RATIO, s, V)));
        assert_int_equal(d.rows.read()[0].token, at);
    }
}

/* A row gives the same token wherever it stands and whatever stands round it. */
static void rows_are_invariant(void **)
{
    enum { V = 1028, N = 128 };
    const size_t alone[] = {0, 1, 17, 127};
    for (const sp_sampling &s : {samplings[1], samplings[7], samplings[9]}) {
        drawing d(V, 1);
        std::vector<float> logits = make_logits(V, N, N, true, 200);
        d.settings.fill({settings_of(s, V)});
        d.stand(5, 5 + N - 1, 0);
        d.tokens.fill(std::vector<int32_t>(POSITIONS, 0));
        d.logits.fill(logits);
        SP_TEST_CUDA(sp_cuda_race(nullptr, &d.picture, N, rule_of(SP_CUDA_RACE, s, V)));
        std::vector<sp_cuda_row> together = d.rows.read();
        for (size_t j : alone) {
            std::vector<float> row(logits.begin() + static_cast<long>(j * V),
                                   logits.begin() + static_cast<long>(j * V + V));
            if (s.cfg_scale != 1) row.insert(row.end(), logits.begin() + static_cast<long>((N + j) * V),
                                             logits.begin() + static_cast<long>((N + j + 1) * V));
            d.stand(static_cast<uint32_t>(5 + j), static_cast<uint32_t>(5 + j), 0);
            d.logits.fill(row);
            SP_TEST_CUDA(sp_cuda_race(nullptr, &d.picture, 1, rule_of(SP_CUDA_RACE, s, V)));
            assert_int_equal(d.rows.read()[0].token, together[j].token);
        }
    }
}

/* One score that is not a number, anywhere in the row, and no other row is the worse for it. */
static void broken_scores(void **)
{
    enum { V = 1100, N = 3 };
    const sp_cuda_test tests[] = {SP_CUDA_RACE, SP_CUDA_RATIO};
    for (sp_cuda_test test : tests)
        for (size_t at : {0, 3, 1027, 1099}) {
            sp_sampling s = {1, 0, 2, 1, 0, 0.9f};
            drawing d(V, 1);
            std::vector<float> logits = make_logits(V, N, N, true, 300);
            logits[(N + 1) * V + at] = NAN;
            d.settings.fill({settings_of(s, V)});
            d.stand(7, 30, 0); /* a longer window has left drafts beyond this one */
            d.tokens.fill(std::vector<int32_t>(POSITIONS, 0));
            d.kinds.fill(std::vector<int32_t>(RING, SP_LAW_UNIFORM));
            d.logits.fill(logits);
            sp_cuda_rule rule = rule_of(test, s, V);
            if (test == SP_CUDA_RACE) SP_TEST_CUDA(sp_cuda_race(nullptr, &d.picture, N, rule));
            else SP_TEST_CUDA(sp_cuda_verify(nullptr, &d.picture, N, rule));
            SP_TEST_CUDA(sp_cuda_commit(nullptr, &d.picture, N));
            std::vector<sp_cuda_row> rows = d.rows.read();
            for (size_t j = 0; j < N; j++) assert_int_equal(rows[j].broken, j == 1);
            assert_int_equal(d.records.read()[0].broken, 9);
            assert_int_equal(d.state.read()[0].first, POSITIONS); /* later passes do nothing */
            assert_int_equal(d.state.read()[0].known, 30);
        }
}

typedef struct tried {
    const char *rule;
    sp_cuda_test test;
    bool couple;
    size_t group_size;
    float group_delta, group_distance;
    bool grouped;
} tried;

static const tried trials[] = {
    {"sjd", SP_CUDA_RATIO, false, 1, 0, 0, false},         {"coupled", SP_CUDA_RATIO, true, 1, 0, 0, false},
    {"gsd", SP_CUDA_GROUP, false, 1, 1, 4, false},         {"gsd", SP_CUDA_GROUP, false, 10, 1, 4, false},
    {"gsd", SP_CUDA_GROUP, false, 7, 0.01f, 1.5f, false},  {"gsd", SP_CUDA_GROUP, false, 256, 1, 3, false},
    {"gsd", SP_CUDA_GROUP, false, 5, 1, 4, true},
};

/* Codes of which some are near, and groups of up to five. */
static void set_groups(const drawing &d, const tried &t, std::vector<float> &vectors, std::vector<int32_t> &group_of,
                       sp_cuda_settings *settings, sp_relaxation *relaxation)
{
    size_t v = d.picture.n_codes, dim = vectors.size() / v;
    for (size_t i = 0; i < vectors.size(); i++) vectors[i] = sp_test_value(401, i);
    for (size_t i = 0; i < v; i++) group_of[i] = static_cast<int32_t>(i * 7 % v / 5);
    settings->group_size = static_cast<uint32_t>(t.group_size);
    settings->code_dim = static_cast<uint32_t>(dim);
    settings->grouped = t.grouped;
    settings->group_delta = t.group_delta;
    settings->group_distance = t.group_distance;
    d.vectors.fill(vectors);
    d.group_of.fill(group_of);
    relaxation->codes = vectors.data();
    relaxation->code_dim = dim;
    relaxation->group_size = t.group_size;
    relaxation->group_delta = t.group_delta;
    relaxation->group_distance = t.group_distance;
    relaxation->group_of = t.grouped ? group_of.data() : nullptr;
}

/* Laws near the ones that the logits will give, so that most drafts pass; every third draft is a copy or uniform. The
 * record of the last drawn one is a law a thousand times over: it is refused, and nothing is left to replace it
 * with. */
static void make_records(const host_rows &host, size_t v, std::vector<float> &laws, std::vector<sp_law> &records,
                         std::vector<int32_t> &drafts, uint32_t stream)
{
    const sp_ops *ref = sp_ops_find("ref");
    for (size_t j = 0; j < records.size(); j++) {
        std::vector<float> scores(v);
        float top = -INFINITY;
        bool large = j == 6;
        for (size_t i = 0; i < v; i++) {
            scores[i] = host.rows[j].scores[i] + (large ? 0 : 0.5f * sp_test_value(stream, j * v + i));
            top = fmaxf(top, scores[i]);
        }
        ref->softmax(scores.data(), top, -INFINITY, v, &laws[j * v]);
        records[j].kind = j % 3 == 2 ? (j % 2 ? SP_LAW_POINT : SP_LAW_UNIFORM) : SP_LAW_ROW;
        records[j].probability = &laws[j * v];
        double u = 0.5 + 0.5 * static_cast<double>(sp_test_value(stream + 1, j));
        drafts[j] = sp_weights_draw(&laws[j * v], v, u);
        for (size_t i = 0; large && i < v; i++) laws[j * v + i] *= 1000;
    }
}

/* Against the same rule on the host. Its law p is worked out in double and here in float, off by |x - top| / 2 + 10 +
 * v / 8 ulp as in the tests of op softmax; so a token can differ where its draw comes that close to an edge: in about
 * one of 10^5 draws, and these are 2,000. */
static void verify_like_the_host(const tried &t, const sp_sampling &s, size_t v, bool all_drafted)
{
    enum { N = 9, LIVE = 8, FIRST = POSITIONS - LIVE, DIM = 3, PASS = 6 };
    bool guided = s.cfg_scale != 1;
    drawing d(v, DIM);
    uint32_t stream = 500 + 10 * static_cast<uint32_t>(v);
    std::vector<float> logits = make_logits(v, N, LIVE, guided, stream), laws(LIVE * v), vectors(v * DIM);
    std::vector<int32_t> drafts(LIVE), tokens(POSITIONS, -1), kinds(RING, -1), group_of(v);
    std::vector<sp_law> records(LIVE);
    host_rows host(logits, s, v, N, LIVE, FIRST);
    make_records(host, v, laws, records, drafts, stream + 2);
    sp_cuda_settings settings = settings_of(s, v);
    set_groups(d, t, vectors, group_of, &settings, &host.relaxation);
    d.settings.fill({settings});
    std::vector<float> ring(RING * v, NAN);
    for (size_t j = 0; j < LIVE; j++) {
        tokens[FIRST + j] = drafts[j];
        kinds[(FIRST + j) % RING] = records[j].kind;
        for (size_t i = 0; i < v; i++)
            if (records[j].kind == SP_LAW_ROW) ring[(FIRST + j) % RING * v + i] = laws[j * v + i];
        host.rows[j].law = &records[j];
    }
    d.tokens.fill(tokens);
    d.kinds.fill(kinds);
    d.laws.fill(ring);
    d.logits.fill(logits);
    d.stand(FIRST, all_drafted ? POSITIONS : POSITIONS - 1, PASS);
    host.window.pass = PASS;
    host.window.drafts = drafts.data();
    host.window.n_drafts = all_drafted ? LIVE : LIVE - 1;
    size_t n_final = 0;
    sp_error err = {};
    if (sp_accept_find(t.rule)->accept(&host.window, &n_final, &err) != SP_OK) fail_msg("%s", err.message);
    sp_cuda_rule rule = rule_of(t.test, s, v);
    rule.couple = t.couple;
    SP_TEST_CUDA(sp_cuda_verify(nullptr, &d.picture, N, rule));
    SP_TEST_CUDA(sp_cuda_commit(nullptr, &d.picture, N));
    sp_device_record record = d.records.read()[PASS];
    assert_int_equal(record.done, PASS + 1);
    assert_int_equal(record.first, FIRST);
    assert_int_equal(record.n_rows, LIVE);
    assert_int_equal(record.n_final, n_final);
    assert_int_equal(record.broken, 0);
    double ulp = (10 + static_cast<double>(v) / 8 + 20) / 8388608.0;
    assert_true(fabs(record.deviation - host.deviation) <= 4 * ulp * static_cast<double>(LIVE));
    std::vector<int32_t> now = d.tokens.read(), drawn = d.drawn.read(), kind = d.kinds.read();
    std::vector<float> recorded = d.laws.read();
    for (size_t j = 0; j < LIVE; j++) {
        assert_int_equal(now[FIRST + j], host.settled[j]);
        assert_int_equal(drawn[FIRST + j], j < n_final ? host.settled[j] : -1);
        size_t at = (FIRST + j) % RING;
        assert_int_equal(kind[at], SP_LAW_ROW);
        for (size_t i = 0; i < v; i++) {
            float p = host.rows[j].law->probability[i];
            if (!(fabs(static_cast<double>(recorded[at * v + i] - p)) <= static_cast<double>(p) * ulp + 0x1p-125))
                fail_msg("law %zu of %zu codes: %g, expected %g", i, v, static_cast<double>(recorded[at * v + i]),
                         static_cast<double>(p));
        }
    }
    sp_cuda_state state = d.state.read()[0];
    assert_int_equal(state.first, FIRST + n_final);
    assert_int_equal(state.known, POSITIONS);
}

static void verify(void **)
{
    const size_t counts[] = {4, 7, 64, 130, 1003};
    for (const tried &t : trials)
        for (size_t v : counts)
            for (size_t i = 0; i < sizeof samplings / sizeof *samplings; i++)
                if (v < 200 || i % 3 == 0) verify_like_the_host(t, samplings[i], v, i % 2);
}

/* A window that starts: copies in chains, a uniform code, what the model is fed; and the end of the picture. */
static void place(void **)
{
    drawing d(4, 1);
    std::vector<int32_t> starts(POSITIONS), tokens(POSITIONS, -1);
    for (int i = 0; i < POSITIONS; i++) starts[static_cast<size_t>(i)] = i % 4 == 0 ? -1 - i % 3 : i - 1;
    starts[9] = 2;
    for (size_t i = 0; i < 8; i++) tokens[i] = static_cast<int32_t>(30 + i);
    d.starts.fill(starts);
    d.tokens.fill(tokens);
    d.stand(6, 8, 2); /* positions 6 and 7 hold drafts */
    SP_TEST_CUDA(sp_cuda_place(nullptr, &d.picture, 7));
    const int32_t fed[] = {35, 36, 37, 2, 32, 32, 32}, kinds[] = {1, 0, 0, 0};
    std::vector<int32_t> ids = d.ids.read(), kind = d.kinds.read();
    for (size_t j = 0; j < 7; j++) assert_int_equal(ids[j], fed[j]);
    for (size_t j = 0; j < 4; j++) assert_int_equal(kind[8 + j], kinds[j]);
    assert_int_equal(d.state.read()[0].known, 12);
    assert_int_equal(d.fed.read()[0], 6);
    d.stand(POSITIONS - 2, POSITIONS - 1, 2);
    SP_TEST_CUDA(sp_cuda_place(nullptr, &d.picture, 7));
    ids = d.ids.read();
    for (size_t j = 2; j < 7; j++) assert_int_equal(ids[j], 0);
    d.stand(POSITIONS, POSITIONS, 2);
    SP_TEST_CUDA(sp_cuda_place(nullptr, &d.picture, 7));
    SP_TEST_CUDA(sp_cuda_commit(nullptr, &d.picture, 7));
    assert_int_equal(d.fed.read()[0], POSITIONS);
    assert_int_equal(d.records.read()[2].done, 0xFFFFFFFF); /* as it was */
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(race), cmocka_unit_test(head_races_alike),
                                       cmocka_unit_test(head_cannot_race), cmocka_unit_test(first_of_equals),
                                       cmocka_unit_test(rows_are_invariant),
                                       cmocka_unit_test(broken_scores), cmocka_unit_test(verify),
                                       cmocka_unit_test(place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
