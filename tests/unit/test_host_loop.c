/* Several pictures in the same passes on the processor: each has the tokens that it has alone, for every rule, window,
 * number of places and of threads; one whose scores are not numbers fails alone. */
#include "decode/device.h"
#include "decode/host_loop.h"
#include "unit/transformer_checkpoint.h"

enum { PICTURES = 7, PLACES = 5, WINDOW = 16 };

static const char *const rules[] = {"ar", "pathwise", "sjd", "coupled", "gsd"};

typedef struct gallery {
    sp_context *alone, *together;
    sp_model model;        /* of alone */
    sp_decoder *here, *decoders[PLACES];
    sp_host_loop *host;
    sp_device_loop loop;
    int32_t id[PICTURES];
    sp_decode_plan plans[PICTURES];
    size_t next, done, shown[PLACES]; /* shown: picture of a place */
    sp_status status[PICTURES];
    int32_t tokens[PICTURES][POSITIONS], pass_of_token[PICTURES][POSITIONS];
    double deviation[PICTURES];
    sp_device_place places[PLACES];
    sp_device_batch batch;
} gallery;

static sp_decoder *decoder(size_t window)
{
    sp_decoder *d = NULL;
    SP_TEST_OK(sp_decoder_open(&d, CODES, 8, 8, sp_ops_find("ref"), window, err));
    return d;
}

static void open_gallery(gallery *g, const sp_transformer *t, sp_pool *pool)
{
    *g = (gallery){0};
    SP_TEST_OK(sp_context_open(&g->alone, t, NULL, WINDOW, 1, err));
    SP_TEST_OK(sp_context_open(&g->together, t, pool, WINDOW, PLACES, err));
    g->model = sp_context_model(g->alone);
    assert_null(g->model.ops->forward_batch);
    sp_model many = sp_context_model(g->together);
    SP_TEST_OK(sp_host_loop_open(&g->host, &many, sp_ops_find("ref"), pool, WINDOW, PLACES, PLACES * WINDOW, err));
    g->loop = sp_host_loop_of(g->host);
    g->here = decoder(WINDOW);
    for (size_t i = 0; i < PLACES; i++) g->decoders[i] = decoder(1);
}

static void close_gallery(gallery *g)
{
    sp_context_close(g->alone);
    sp_context_close(g->together);
    sp_host_loop_close(g->host);
    sp_decoder_close(g->here);
    for (size_t i = 0; i < PLACES; i++) sp_decoder_close(g->decoders[i]);
}

static sp_status hang(gallery *g, size_t at, sp_error *err)
{
    if (g->next == PICTURES) return SP_OK;
    sp_device_place *place = &g->places[at];
    sp_model model = sp_context_model(g->together);
    g->shown[at] = g->next;
    place->plan = &g->plans[g->next++];
    sp_context_select(g->together, at);
    SP_TRY(sp_decode_begin(place->decoder, &model, place->plan, &place->begun, err));
    assert_true(sp_device_can_decode(place->decoder, place->plan));
    return sp_device_begin(&g->batch, at, err);
}

static sp_status take_down(void *user, size_t at, sp_error *err)
{
    gallery *g = user;
    const sp_decoder *d = g->places[at].decoder;
    size_t picture = g->shown[at];
    g->status[picture] = g->places[at].why.status;
    memcpy(g->tokens[picture], d->tokens, sizeof g->tokens[picture]);
    memcpy(g->pass_of_token[picture], d->pass_of_token, sizeof g->pass_of_token[picture]);
    g->deviation[picture] = d->deviation;
    g->done++;
    return hang(g, at, err);
}

static sp_status draw(gallery *g, size_t n_places, sp_error *err)
{
    sp_pacer pacers[SP_DEVICE_STEPS] = {0};
    g->next = g->done = 0;
    memset(g->places, 0, sizeof g->places);
    g->batch = (sp_device_batch){&g->loop, g->places, n_places, WINDOW, pacers, take_down, NULL, g};
    for (size_t at = 0; at < n_places; at++) g->places[at].decoder = g->decoders[at];
    SP_TRY(sp_device_gather(&g->batch, err));
    for (size_t at = 0; at < n_places; at++) SP_TRY(hang(g, at, err));
    return sp_device_run(&g->batch, err);
}

/* Pictures of one rule that differ in all that they may. */
static void fill_gallery(gallery *g, size_t rule, size_t window, bool guided, bool cut, const float *codes)
{
    for (size_t i = 0; i < PICTURES; i++) {
        g->id[i] = (int32_t)(3 + 4 * i);
        g->plans[i] = (sp_decode_plan){
            .rule = sp_accept_find(rules[rule]), .drafter = sp_drafter_find(sp_drafter_names()[i % 3]),
            .window = window, .loop = &g->loop, .prompt = {&g->id[i], 1},
            .sampling = {40 * i + rule, (uint32_t)(i % 3), guided ? 1.5f + (float)i : 1,
                         i == 4 ? 0 : 0.7f + 0.1f * (float)i, cut && i % 3 != 2 ? 3 + (int)i : 0,
                         cut && i % 3 != 0 ? 0.6f + 0.05f * (float)i : 1},
            .relaxation = {.codes = codes, .code_dim = 1, .group_size = 4, .group_delta = 0.1f * (float)i,
                           .group_distance = 4}};
        assert_true(sp_device_can_share(&g->plans[0], &g->plans[i], CODES));
    }
}

static void assert_as_alone(gallery *g, size_t i)
{
    sp_decode_plan plan = g->plans[i];
    sp_error err = {0};
    plan.loop = NULL;
    sp_status status = sp_decode(g->here, &g->model, &plan, &err);
    assert_int_equal(g->status[i], status);
    if (status != SP_OK) return;
    assert_memory_equal(g->tokens[i], g->here->tokens, sizeof g->tokens[i]);
    if (plan.window == 0) return;
    assert_memory_equal(g->pass_of_token[i], g->here->pass_of_token, sizeof g->pass_of_token[i]);
    assert_true(g->deviation[i] == g->here->deviation);
}

/* bf16 where there are tiles for it, as the engine chooses. */
static void as_alone_with(int threads, size_t from, size_t step)
{
    const size_t windows[] = {1, 3, 8, WINDOW, 0};
    shape s = {64, 3, 4, 176};
    checkpoint c = make(s);
    sp_model_config config = config_of(s);
    sp_transformer *t;
    sp_pool *pool;
    gallery g;
    float codes[CODES];
    for (size_t i = 0; i < CODES; i++) codes[i] = (float)(i * 7 % CODES) / CODES - 0.5f;
    SP_TEST_OK(sp_transformer_open(&t, &config, c.tensors, sp_ops_find(sp_ops_names()[0]), true, err));
    SP_TEST_OK(sp_pool_open(&pool, threads, err));
    open_gallery(&g, t, pool);
    size_t settings = 5 * 5 * 2 * 2, drafted = 0;
    for (size_t i = from; i < settings; i += step) {
        size_t rule = i % 5, window = windows[i / 5 % 5], n_places = 1 + i % PLACES;
        if (window == 0 && rule > 1) continue;
        fill_gallery(&g, rule, window, i / 25 % 2, i / 50, codes);
        if (i / 25 % 2) g.plans[2].sampling.cfg_scale = INFINITY;
        SP_TEST_OK(draw(&g, n_places, err));
        assert_int_equal(g.done, PICTURES);
        for (size_t picture = 0; picture < PICTURES; picture++) assert_as_alone(&g, picture);
        assert_int_equal(g.status[2], i / 25 % 2 ? SP_EFORMAT : SP_OK);
        drafted += g.here->accepted;
    }
    assert_true(drafted > 0);
    close_gallery(&g);
    sp_pool_close(pool);
    sp_transformer_close(t);
    free_checkpoint(&c);
}

static void as_alone(void **state)
{
    (void)state;
    bool all = getenv("SP_TEST_ALL") != NULL;
    as_alone_with(1, 0, all ? 1 : 3);
    as_alone_with(2, 1, all ? 1 : 3);
    as_alone_with(4, 2, all ? 1 : 3);
}

static bool stop(void *user, const sp_progress *progress)
{
    size_t *left = user;
    assert_true(progress->together >= 1 && progress->together <= PLACES);
    return (*left)--> 0;
}

/* What is asked for beyond the room, a pass without a picture, and an interruption. */
static void wrong_uses(void **state)
{
    (void)state;
    shape s = {64, 3, 4, 176};
    checkpoint c = make(s);
    sp_model_config config = config_of(s);
    sp_transformer *t;
    gallery g;
    sp_error why = {0};
    const sp_device_record *record;
    SP_TEST_OK(sp_transformer_open(&t, &config, c.tensors, sp_ops_find("ref"), false, err));
    open_gallery(&g, t, NULL);
    const sp_device_loop_ops *ops = g.loop.ops;
    assert_int_equal(ops->gather(g.loop.state, PLACES + 1, &why), SP_EBUG);
    assert_int_equal(ops->gather(g.loop.state, 2, &why), SP_OK);
    assert_int_equal(ops->pass(g.loop.state, WINDOW + 1, &why), SP_EBUG);
    assert_int_equal(ops->pass(g.loop.state, 1, &why), SP_OK);
    assert_int_equal(ops->poll(g.loop.state, 0, 0, &record, &why), SP_EBUG);
    assert_int_equal(ops->poll(g.loop.state, 9, 0, &record, &why), SP_EBUG);
    assert_false(ops->knows("eagle"));
    assert_false(ops->knows("nothing"));
    size_t left = 20;
    fill_gallery(&g, 1, 8, true, false, NULL);
    for (size_t i = 0; i < PICTURES; i++) {
        g.plans[i].progress = stop;
        g.plans[i].user = &left;
    }
    assert_int_equal(draw(&g, 3, &why), SP_ECANCELLED);
    close_gallery(&g);
    sp_transformer_close(t);
    free_checkpoint(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_alone), cmocka_unit_test(wrong_uses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
