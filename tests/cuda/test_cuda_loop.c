/* The decode loop on a device against the host's, over the same model: tokens, passes and counts for every rule, start,
 * window and setting; batches; faults and interruption. */
#include "cuda/automaton_tree.h"

#include "base/arena.h"
#include "decode/device.h"

static bool all(void) { return getenv("SP_TEST_ALL") != NULL; }

static const float code_vectors[SP_ENUM_CODES][2] = {{1, 0}, {0.8f, 0.6f}, {-3, 0.5f}, {0.4f, 1}};
static const int32_t group_of[SP_ENUM_CODES] = {0, 1, 0, 1};

/* A longer picture: the law of a position follows from the token before it. */
enum { CODES = 30, ROWS = 6, COLUMNS = 8, POSITIONS = ROWS * COLUMNS, WINDOW = 16, CONTEXTS = POSITIONS * CODES };

static sp_automaton picture(void)
{
    static int32_t next[CONTEXTS * CODES], context_at[POSITIONS];
    static float logits[2 * CONTEXTS * CODES];
    for (size_t context = 0; context < CONTEXTS; context++)
        for (size_t v = 0; v < CODES; v++) {
            size_t position = context / CODES, before = context % CODES;
            next[context * CODES + v] = (int32_t)((position + 1) * CODES + v);
            /* Mostly a matter of the position, so that drafts are often right. */
            for (uint32_t s = 0; s < 2; s++)
                logits[(s * CONTEXTS + context) * CODES + v] = 3 * sp_test_value(70 + s, position * CODES + v) +
                                                               sp_test_value(80 + s, before * CODES + v);
        }
    return (sp_automaton){CODES, POSITIONS, COLUMNS, CONTEXTS, 1, next, logits, context_at, false};
}

typedef struct both {
    sp_automaton automaton;
    sp_model model;
    sp_automaton_device device;
    sp_decoder *here, *there; /* of the host's loop and the device's */
} both;

static void open_both(both *b, sp_automaton automaton, size_t window)
{
    const sp_ops *ref = sp_ops_find("ref");
    b->automaton = automaton;
    b->model = sp_automaton_model(&b->automaton);
    SP_TEST_OK(sp_automaton_open(&b->device, &b->automaton, window, 1, err));
    SP_TEST_OK(sp_decoder_open(&b->here, b->model.n_codes, b->model.rows, b->model.columns, ref, window, err));
    SP_TEST_OK(sp_decoder_open(&b->there, b->model.n_codes, b->model.rows, b->model.columns, ref, window, err));
}

static void close_both(both *b)
{
    sp_decoder_close(b->here);
    sp_decoder_close(b->there);
    sp_automaton_close(&b->device);
}

static const char *const rules[] = {"ar", "pathwise", "sjd", "coupled", "gsd"};
static const sp_sampling samplings[] = {{0, 0, 1, 1, 0, 1},   {0, 4, 2.5f, 1, 0, 1},    {0, 0, 1, 0, 0, 1},
                                        {0, 1, 1, 0.8f, 3, 1}, {0, 0, 1.5f, 1, 0, 0.7f}, {0, 2, 1, 1.3f, 3, 0.9f}};

static sp_decode_plan plan_for(const char *rule, const char *start, size_t window, sp_sampling sampling, uint64_t seed)
{
    sp_decode_plan plan = {.rule = sp_accept_find(rule), .drafter = sp_drafter_find(start), .window = window,
                           .sampling = sampling};
    plan.sampling.seed = seed;
    return plan;
}

static void assert_same(const sp_decoder *a, const sp_decoder *b, bool same_windows)
{
    assert_memory_equal(a->tokens, b->tokens, a->n_positions * sizeof *a->tokens);
    if (!same_windows) return;
    assert_int_equal(a->passes, b->passes);
    assert_int_equal(a->drafted, b->drafted);
    assert_int_equal(a->accepted, b->accepted);
    assert_memory_equal(a->pass_of_token, b->pass_of_token, a->n_positions * sizeof *a->pass_of_token);
    assert_memory_equal(a->histogram, b->histogram, sizeof a->histogram);
    /* Laws in float against laws in double. */
    assert_true(fabs(a->deviation - b->deviation) < 1e-5 * (double)a->drafted + 1e-9);
}

/* Every rule, start, window and setting; the pacer's windows depend on the clock, so only tokens that do not depend on
 * windows can be compared then. */
static void tokens_are_the_hosts(void **state)
{
    (void)state;
    const size_t windows[] = {1, 2, 3, 5, 11, 16, 0};
    both b;
    size_t pictures = 0;
    open_both(&b, picture(), WINDOW);
    float vectors[CODES];
    for (size_t i = 0; i < CODES; i++) vectors[i] = sp_test_value(90, i);
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
            for (size_t s = 0; s < sizeof samplings / sizeof *samplings; s++)
                for (const char *const *start = sp_drafter_names(); *start; start++) {
                    if (windows[w] == 0 && r > 1) continue;
                    if (!all() && (r + w + s + (size_t)(start - sp_drafter_names())) % 3) continue;
                    sp_decode_plan plan = plan_for(rules[r], *start, windows[w], samplings[s], pictures);
                    plan.relaxation = (sp_relaxation){.codes = vectors, .code_dim = 1, .group_size = 4,
                                                      .group_delta = 0.2f, .group_distance = 4};
                    SP_TEST_OK(sp_decode(b.here, &b.model, &plan, err));
                    plan.loop = &b.device.loop;
                    SP_TEST_OK(sp_decode(b.there, &b.model, &plan, err));
                    assert_same(b.here, b.there, windows[w] > 0);
                    pictures++;
                }
    print_message("%zu pictures are those of the host's loop\n", pictures);
    close_both(&b);
}

/* The same on the enumerable model, where a window may be longer than what is left of the picture, and the picture
 * shorter than a window. */
static void sequences_are_the_hosts(void **state)
{
    (void)state;
    both b;
    open_both(&b, sp_automaton_tree(), 8);
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
        for (size_t window = 1; window <= 8; window++)
            for (uint64_t seed = 0; seed < (all() ? 1000u : 20u); seed++) {
                const char *start = sp_drafter_names()[seed % 3];
                sp_decode_plan plan = plan_for(rules[r], start, window, samplings[(seed + window) % 6], seed);
                plan.relaxation = (sp_relaxation){.codes = &code_vectors[0][0], .code_dim = 2, .group_size = 3,
                                                  .group_delta = 1, .group_distance = 4,
                                                  .group_of = seed % 2 ? group_of : NULL};
                SP_TEST_OK(sp_decode(b.here, &b.model, &plan, err));
                plan.loop = &b.device.loop;
                SP_TEST_OK(sp_decode(b.there, &b.model, &plan, err));
                assert_same(b.here, b.there, true);
            }
    close_both(&b);
}

/* One after another with the same settings: what was captured for one rule is not used for the next, and what was
 * recorded of one picture is not taken for another's. */
static void one_rule_after_another(void **state)
{
    (void)state;
    both b;
    float vectors[CODES];
    const sp_device_record *record;
    open_both(&b, picture(), WINDOW);
    for (size_t i = 0; i < CODES; i++) vectors[i] = sp_test_value(90, i);
    for (size_t i = 0; i < 60; i++) {
        size_t from = i % 5, to = (i + i / 5) % 5; /* every pair of rules */
        for (size_t turn = 0; turn < 2; turn++) {
            sp_decode_plan plan = plan_for(rules[turn ? to : from], "left", 5, samplings[i / 5 % 2], i);
            plan.relaxation = (sp_relaxation){.codes = vectors, .code_dim = 1, .group_size = 4, .group_delta = 1,
                                              .group_distance = 4};
            if (turn) plan.sampling.top_k = i % 3 ? 0 : 9;
            SP_TEST_OK(sp_decode(b.here, &b.model, &plan, err));
            plan.loop = &b.device.loop;
            SP_TEST_OK(sp_decode(b.there, &b.model, &plan, err));
            assert_same(b.here, b.there, true);
        }
    }
    sp_device_picture next = {.rule = "ar", .temperature = 1, .top_p = 1, .starts = b.there->tokens};
    sp_error why = {0};
    SP_TEST_OK(b.device.loop.ops->begin(b.device.loop.state, 0, &next, err));
    assert_int_equal(b.device.loop.ops->poll(b.device.loop.state, 0, 0, &record, &why), SP_EBUG);
    close_both(&b);
}

/* A queue of pictures, each with settings of its own, drawn in a few places. */
enum { PICTURES = 7, PLACES = 5 };

typedef struct gallery {
    both *b;
    sp_automaton_device device;
    sp_decode_plan plans[PICTURES];
    size_t next, done, last;          /* last: the place that was over last */
    size_t looks, refuse;             /* calls while the device was busy, and the one that fails */
    size_t drawn_at[PLACES];          /* picture of a place */
    sp_status status[PICTURES];
    sp_decoder *decoders[PLACES];
    int32_t tokens[PICTURES][POSITIONS], pass_of_token[PICTURES][POSITIONS];
    size_t passes[PICTURES], drafted[PICTURES];
    double deviation[PICTURES];
    sp_device_place places[PLACES];
    sp_pacer pacers[SP_DEVICE_STEPS];
    sp_device_batch batch;
} gallery;

static void open_gallery(gallery *g, both *b, sp_automaton automaton)
{
    open_both(b, automaton, WINDOW);
    *g = (gallery){.b = b};
    SP_TEST_OK(sp_automaton_open(&g->device, &b->automaton, WINDOW, PLACES, err));
    for (size_t i = 0; i < PLACES; i++)
        SP_TEST_OK(sp_decoder_open(&g->decoders[i], b->model.n_codes, b->model.rows, b->model.columns,
                                   sp_ops_find("ref"), 1, err));
}

static void close_gallery(gallery *g)
{
    for (size_t i = 0; i < PLACES; i++) sp_decoder_close(g->decoders[i]);
    sp_automaton_close(&g->device);
    close_both(g->b);
}

/* The next picture begins at a place, if there is one. */
static sp_status hang(gallery *g, size_t at, sp_error *err)
{
    if (g->next == PICTURES) return SP_OK;
    sp_device_place *place = &g->places[at];
    g->drawn_at[at] = g->next;
    place->plan = &g->plans[g->next++];
    place->begun = 0;
    place->decoder->passes = place->decoder->drafted = place->decoder->accepted = 0;
    assert_true(sp_device_can_decode(place->decoder, place->plan));
    return sp_device_begin(&g->batch, at, err);
}

static sp_status take_down(void *user, size_t at, sp_error *err)
{
    gallery *g = user;
    const sp_decoder *d = g->places[at].decoder;
    size_t picture = g->drawn_at[at];
    g->status[picture] = g->places[at].why.status;
    memcpy(g->tokens[picture], d->tokens, sizeof g->tokens[picture]);
    memcpy(g->pass_of_token[picture], d->pass_of_token, sizeof g->pass_of_token[picture]);
    g->passes[picture] = d->passes;
    g->drafted[picture] = d->drafted;
    g->deviation[picture] = d->deviation;
    g->done++;
    g->last = at;
    return hang(g, at, err);
}

/* Called while the device is busy with those that are not done. */
static sp_status look_round(void *user, sp_error *err)
{
    gallery *g = user;
    size_t live = 0;
    for (size_t at = 0; at < g->batch.n; at++) {
        live += g->places[at].state == SP_PLACE_LIVE;
        assert_int_not_equal(g->places[at].state, SP_PLACE_OVER);
    }
    assert_true(live > 0);
    return ++g->looks == g->refuse ? SP_FAIL(err, SP_EOUTPUT, "enough") : SP_OK;
}

/* The pictures from first on. */
static sp_status draw_gallery(gallery *g, size_t n_places, size_t first, sp_error *err)
{
    memset(g->pacers, 0, sizeof g->pacers);
    g->next = first;
    g->done = 0;
    memset(g->places, 0, sizeof g->places);
    g->batch = (sp_device_batch){&g->device.loop, g->places, n_places, WINDOW, g->pacers, take_down, look_round, g};
    for (size_t at = 0; at < n_places; at++) g->places[at].decoder = g->decoders[at];
    SP_TRY(sp_device_gather(&g->batch, err));
    for (size_t at = 0; at < n_places; at++) SP_TRY(hang(g, at, err));
    return sp_device_run(&g->batch, err);
}

/* Pictures of one rule that differ in all that they may. */
static void fill_gallery(gallery *g, size_t rule, size_t window, bool guided, bool cut, const float *vectors)
{
    for (size_t i = 0; i < PICTURES; i++) {
        sp_sampling sampling = {.seed = 0, .image = (uint32_t)(i % 3), .cfg_scale = guided ? 1.5f + (float)i : 1,
                                .temperature = i == 4 ? 0 : 0.7f + 0.1f * (float)i,
                                .top_k = cut && i % 3 != 2 ? 3 + (int)i : 0,
                                .top_p = cut && i % 3 != 0 ? 0.6f + 0.05f * (float)i : 1};
        g->plans[i] = plan_for(rules[rule], sp_drafter_names()[i % 3], window, sampling, 40 * i + rule);
        g->plans[i].relaxation = (sp_relaxation){.codes = vectors, .code_dim = 1, .group_size = 4,
                                                 .group_delta = 0.1f * (float)i, .group_distance = 4};
        g->plans[i].loop = &g->device.loop;
        assert_true(sp_device_can_share(&g->plans[0], &g->plans[i], CODES));
    }
}

static void assert_hung(gallery *g, size_t picture, bool same_windows)
{
    sp_decode_plan plan = g->plans[picture];
    sp_decoder *here = g->b->here;
    plan.loop = NULL;
    SP_TEST_OK(sp_decode(here, &g->b->model, &plan, err));
    assert_memory_equal(g->tokens[picture], here->tokens, sizeof g->tokens[picture]);
    if (!same_windows) return;
    assert_memory_equal(g->pass_of_token[picture], here->pass_of_token, sizeof g->pass_of_token[picture]);
    assert_int_equal(g->passes[picture], here->passes);
    assert_int_equal(g->drafted[picture], here->drafted);
    assert_true(fabs(g->deviation[picture] - here->deviation) < 1e-5 * (double)here->drafted + 1e-9);
}

/* Each picture is the one that the host's loop draws alone, of every rule, in batches of any size, with any neighbours,
 * also where it takes the place of another. */
static void together_as_alone(void **state)
{
    (void)state;
    const size_t windows[] = {6, 0, 16, 1};
    both b;
    gallery g;
    float vectors[CODES];
    open_gallery(&g, &b, picture());
    for (size_t i = 0; i < CODES; i++) vectors[i] = sp_test_value(90, i);
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
            for (size_t places = 1; places <= PLACES; places++) {
                bool guided = (w + places) % 2, cut = places % 3 == 0;
                if ((windows[w] == 0 && r > 1) || (!all() && (r + w + places) % 4)) continue;
                fill_gallery(&g, r, windows[w], guided, cut, vectors);
                SP_TEST_OK(draw_gallery(&g, places, 0, err));
                assert_int_equal(g.done, PICTURES);
                for (size_t i = 0; i < PICTURES; i++) assert_hung(&g, i, windows[w] > 0);
            }
    close_gallery(&g);
}

/* Passes take fewer pictures as places stay empty, and those that go on stand in any of the places: over some batches
 * each place has the last picture. */
static void passes_shrink(void **state)
{
    (void)state;
    enum { BATCHES = 16, FIRST = PICTURES - PLACES };
    both b;
    gallery g;
    float vectors[CODES];
    unsigned last = 0;
    sp_decode_plan plans[PLACES];
    open_gallery(&g, &b, picture());
    for (size_t i = 0; i < CODES; i++) vectors[i] = sp_test_value(90, i);
    for (size_t batch = 0; batch < BATCHES; batch++) {
        fill_gallery(&g, 1 + batch % 4, 3, batch % 3 == 0, batch % 8 == 3, vectors);
        memcpy(plans, g.plans + FIRST, sizeof plans);
        for (size_t i = 0; i < PLACES; i++) {
            plans[i].sampling.seed += 1000 * batch;
            g.plans[FIRST + (i + batch) % PLACES] = plans[i];
        }
        SP_TEST_OK(draw_gallery(&g, PLACES, FIRST, err));
        assert_int_equal(g.done, PLACES);
        for (size_t i = FIRST; i < PICTURES; i++) assert_hung(&g, i, true);
        last |= 1u << g.last;
    }
    assert_int_equal(last, (1u << PLACES) - 1);
    assert_int_equal(sp_automaton_taken(&g.device), 1 << 5 | 1 << 4 | 1 << 3 | 1 << 2 | 1 << 1);
    close_gallery(&g);
}

/* Fewer pictures go on with what more of them have measured. */
static void windows_of_fewer(void **state)
{
    (void)state;
    both b;
    gallery g;
    float vectors[CODES] = {0};
    size_t steps = 0;
    open_gallery(&g, &b, picture());
    fill_gallery(&g, 1, 0, true, false, vectors);
    SP_TEST_OK(draw_gallery(&g, 4, 0, err));
    for (size_t step = sp_device_step(4), more = 0; step + 1 > 0; step--) {
        if (g.pacers[step].passes == 0) continue;
        assert_true(g.pacers[step].passes >= more && g.pacers[step].samples[0] > 1);
        more = g.pacers[step].passes;
        steps++;
    }
    assert_true(steps > 1);
    close_gallery(&g);
}

/* What is done beside the passes can end them. */
static void something_else_fails(void **state)
{
    (void)state;
    both b;
    gallery g;
    float vectors[CODES] = {0};
    sp_error why = {0};
    open_gallery(&g, &b, picture());
    fill_gallery(&g, 1, 3, false, false, vectors);
    g.refuse = 9;
    assert_int_equal(draw_gallery(&g, 3, 0, &why), SP_EOUTPUT);
    assert_string_equal(why.message, "enough");
    SP_TEST_OK(draw_gallery(&g, 3, 0, err));
    for (size_t i = 0; i < PICTURES; i++) assert_hung(&g, i, true);
    close_gallery(&g);
}

/* Places where no picture has ever begun take part in passes and do nothing. */
static void empty_places(void **state)
{
    (void)state;
    both b;
    gallery g;
    float vectors[CODES] = {0};
    open_gallery(&g, &b, picture());
    fill_gallery(&g, 1, 7, true, false, vectors);
    SP_TEST_OK(draw_gallery(&g, 4, PICTURES - 2, err));
    assert_int_equal(g.done, 2);
    for (size_t i = PICTURES - 2; i < PICTURES; i++) assert_hung(&g, i, true);
    assert_int_equal(sp_automaton_taken(&g.device), 1 << 2 | 1 << 1);
    /* What was recorded of a picture is not taken for that of the next in its place. */
    sp_device_picture next = {.rule = "ar", .temperature = 1, .top_p = 1, .starts = b.there->tokens};
    const sp_device_loop *loop = &g.device.loop;
    const sp_device_record *record;
    sp_error why = {0};
    SP_TEST_OK(loop->ops->gather(loop->state, 2, err));
    SP_TEST_OK(loop->ops->begin(loop->state, 0, &next, err));
    SP_TEST_OK(loop->ops->begin(loop->state, 1, &next, err));
    assert_int_equal(loop->ops->poll(loop->state, 1, 0, &record, &why), SP_EBUG);
    /* Pictures that were given up are left out, and one that begins later is not. */
    SP_TEST_OK(loop->ops->gather(loop->state, 2, err));
    SP_TEST_OK(loop->ops->begin(loop->state, 1, &next, err));
    SP_TEST_OK(loop->ops->pass(loop->state, 1, err));
    assert_int_equal(sp_automaton_taken(&g.device), 1 << 1);
    SP_TEST_OK(loop->ops->begin(loop->state, 0, &next, err));
    SP_TEST_OK(loop->ops->pass(loop->state, 1, err));
    SP_TEST_OK(loop->ops->finish(loop->state, 0, NULL, err));
    for (size_t at = 0; at < 2; at++) {
        SP_TEST_OK(loop->ops->poll(loop->state, at, at, &record, err));
        assert_int_equal(record->first, at);
    }
    close_gallery(&g);
}

/* What the device holds once cannot differ, and is not let differ. */
static void what_cannot_be_shared(void **state)
{
    (void)state;
    both b;
    gallery g;
    float vectors[CODES] = {0};
    sp_error why = {0};
    open_gallery(&g, &b, picture());
    fill_gallery(&g, 1, 4, true, true, vectors);
    sp_decode_plan *last = &g.plans[PICTURES - 1];
    const sp_decode_plan as_it_was = *last;
    last->rule = sp_accept_find("coupled");
    assert_false(sp_device_can_share(&g.plans[0], last, CODES));
    *last = as_it_was;
    last->window = 5;
    assert_false(sp_device_can_share(&g.plans[0], last, CODES));
    *last = as_it_was;
    last->relaxation.group_of = group_of;
    assert_false(sp_device_can_share(&g.plans[0], last, CODES));
    *last = as_it_was;
    last->sampling.top_k = CODES;
    last->sampling.top_p = 1;
    assert_false(sp_device_can_share(&g.plans[0], last, CODES));
    *last = as_it_was;
    last->sampling.cfg_scale = 1;
    assert_false(sp_device_can_share(&g.plans[0], last, CODES));
    assert_int_equal(draw_gallery(&g, 2, 0, &why), SP_EBUG);
    close_gallery(&g);
}

/* A picture whose scores are no numbers fails alone; its neighbours, and the one that follows it, are as ever. */
static void one_of_many_breaks(void **state)
{
    (void)state;
    both b;
    gallery g;
    static float logits[2 * CONTEXTS * CODES], vectors[CODES] = {0};
    sp_automaton broken = picture();
    memcpy(logits, broken.logits, sizeof logits);
    for (size_t i = 0; i < CODES; i += 3) logits[(20 * CODES + i) * CODES + i % 7] = NAN;
    broken.logits = logits;
    open_gallery(&g, &b, broken);
    size_t failed = 0;
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        fill_gallery(&g, r, 5, false, false, vectors);
        SP_TEST_OK(draw_gallery(&g, 3, 0, err));
        assert_int_equal(g.done, PICTURES);
        for (size_t i = 0; i < PICTURES; i++) {
            sp_decode_plan plan = g.plans[i];
            sp_error expected = {0};
            plan.loop = NULL;
            assert_int_equal(sp_decode(b.here, &b.model, &plan, &expected), g.status[i]);
            failed += g.status[i] != SP_OK;
            if (g.status[i] == SP_OK)
                assert_memory_equal(g.tokens[i], b.here->tokens, sizeof g.tokens[i]);
        }
    }
    assert_in_range(failed, 5, 5 * PICTURES - 5);
    close_gallery(&g);
}

/* The device is lost at each of its calls in turn, with several pictures on it: an error, never a wrong picture. */
static void lost_with_many(void **state)
{
    (void)state;
    both b;
    gallery g;
    float vectors[CODES] = {0};
    open_gallery(&g, &b, picture());
    fill_gallery(&g, 1, 16, false, false, vectors);
    long calls = 0, step = all() ? 1 : 7;
    sp_status status = SP_EDEVICE;
    for (; status == SP_EDEVICE; calls += step) {
        sp_error why = {0};
        sp_automaton_lose(calls);
        status = draw_gallery(&g, 4, 0, &why);
        sp_automaton_lose(-1);
        if (status != SP_OK) assert_int_equal(status, SP_EDEVICE);
    }
    for (size_t i = 0; i < PICTURES; i++) assert_hung(&g, i, true);
    print_message("%ld calls of the device failed in turn\n", calls - step);
    close_gallery(&g);
}

static bool stop_at_third(void *user, const sp_progress *p)
{
    ++*(int *)user;
    return p->passes < 3;
}

/* An interrupted picture leaves nothing behind: the next is drawn as ever. */
static void interrupted(void **state)
{
    (void)state;
    both b;
    int calls = 0;
    open_both(&b, picture(), WINDOW);
    sp_decode_plan plan = plan_for("pathwise", "left", 5, samplings[0], 3);
    SP_TEST_OK(sp_decode(b.here, &b.model, &plan, err));
    plan.loop = &b.device.loop;
    plan.progress = stop_at_third;
    plan.user = &calls;
    sp_error why = {0};
    assert_int_equal(sp_decode(b.there, &b.model, &plan, &why), SP_ECANCELLED);
    assert_int_equal(calls, 3);
    plan.progress = NULL;
    SP_TEST_OK(sp_decode(b.there, &b.model, &plan, err));
    assert_same(b.here, b.there, true);
    close_both(&b);
}

/* Scores that are not numbers, with guidance at position 20: the error of the host's loop, and the next picture is
 * drawn as ever. */
static void broken_scores(void **state)
{
    (void)state;
    both b;
    static float logits[2 * CONTEXTS * CODES], vectors[CODES] = {0};
    sp_automaton broken = picture();
    memcpy(logits, broken.logits, sizeof logits);
    for (size_t i = 0; i < CODES; i++) logits[(CONTEXTS + 20 * CODES + i) * CODES + i % 7] = NAN;
    broken.logits = logits;
    open_both(&b, broken, WINDOW);
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        sp_decode_plan plan = plan_for(rules[r], "above", 6, samplings[1], 5);
        plan.relaxation = (sp_relaxation){.codes = vectors, .code_dim = 1, .group_size = 1};
        sp_error expected = {0}, found = {0};
        assert_int_equal(sp_decode(b.here, &b.model, &plan, &expected), SP_EFORMAT);
        plan.loop = &b.device.loop;
        assert_int_equal(sp_decode(b.there, &b.model, &plan, &found), SP_EFORMAT);
        assert_string_equal(expected.message, found.message);
        plan.sampling.cfg_scale = 1;
        SP_TEST_OK(sp_decode(b.there, &b.model, &plan, err));
    }
    close_both(&b);
}

/* The device is lost at each of its calls in turn: an error of the device, never a wrong picture. */
static void lost_device(void **state)
{
    (void)state;
    both b;
    open_both(&b, picture(), WINDOW);
    sp_decode_plan plan = plan_for("coupled", "left", 9, samplings[4], 8);
    SP_TEST_OK(sp_decode(b.here, &b.model, &plan, err));
    plan.loop = &b.device.loop;
    long calls = 0;
    sp_status status = SP_EDEVICE;
    for (; status == SP_EDEVICE; calls++) {
        sp_error err = {0};
        sp_automaton_lose(calls);
        status = sp_decode(b.there, &b.model, &plan, &err);
        sp_automaton_lose(-1);
        if (status != SP_OK) assert_int_equal(status, SP_EDEVICE);
    }
    assert_same(b.here, b.there, true);
    print_message("%ld calls of the device failed in turn\n", calls - 1);
    close_both(&b);
}

/* The same while a loop is opened: nothing stays behind. */
static void lost_while_opening(void **state)
{
    (void)state;
    sp_automaton automaton = picture();
    long calls = 0;
    for (sp_status status = SP_EDEVICE; status != SP_OK; calls++) {
        sp_automaton_device device = {{0}, NULL};
        sp_error err = {0};
        sp_automaton_lose(calls);
        status = sp_automaton_open(&device, &automaton, WINDOW, 1, &err);
        sp_automaton_lose(-1);
        if (status != SP_OK) assert_int_equal(status, SP_EDEVICE);
        sp_automaton_close(&device);
        assert_int_equal(sp_automaton_allocations(), 0);
    }
    print_message("%ld calls of the device failed in turn\n", calls - 1);
}

static void *no_memory(size_t bytes)
{
    (void)bytes;
    return NULL;
}

static void no_allocation_in_the_loop(void **state)
{
    (void)state;
    both b;
    open_both(&b, picture(), WINDOW);
    sp_alloc_hook(no_memory);
    sp_decode_plan plan = plan_for("pathwise", "above", 0, samplings[1], 1);
    plan.loop = &b.device.loop;
    SP_TEST_OK(sp_decode(b.there, &b.model, &plan, err));
    sp_alloc_hook(NULL);
    close_both(&b);
}

/* What the device does not know, the host's loop does. */
static sp_draft neither_copy_nor_uniform(const sp_draft_query *q)
{
    return (sp_draft){q->position > 0 ? (q->tokens[q->position - 1] + 1) % CODES : 0, SP_LAW_POINT, 0};
}

static bool knows_none(const char *rule)
{
    (void)rule;
    return false;
}

static void the_host_does_the_rest(void **state)
{
    (void)state;
    both b;
    open_both(&b, picture(), WINDOW);
    sp_device_loop_ops ops = {.knows = knows_none};
    sp_device_loop none = {&ops, NULL, 1, WINDOW};
    sp_decode_plan plan = plan_for("pathwise", "above", 4, samplings[1], 1);
    plan.loop = &none;
    SP_TEST_OK(sp_decode(b.here, &b.model, &plan, err));
    plan.loop = &b.device.loop;
    plan.drafter = neither_copy_nor_uniform;
    SP_TEST_OK(sp_decode(b.there, &b.model, &plan, err));
    assert_same(b.here, b.there, false);
    close_both(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_the_hosts), cmocka_unit_test(sequences_are_the_hosts),
        cmocka_unit_test(one_rule_after_another), cmocka_unit_test(together_as_alone),
        cmocka_unit_test(passes_shrink), cmocka_unit_test(windows_of_fewer), cmocka_unit_test(something_else_fails),
        cmocka_unit_test(empty_places), cmocka_unit_test(what_cannot_be_shared),
        cmocka_unit_test(one_of_many_breaks), cmocka_unit_test(lost_with_many),
        cmocka_unit_test(interrupted), cmocka_unit_test(broken_scores),
        cmocka_unit_test(lost_device), cmocka_unit_test(lost_while_opening),
        cmocka_unit_test(no_allocation_in_the_loop),
        cmocka_unit_test(the_host_does_the_rest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
