/* How much a chain changes from pass to pass, and whether it comes out the same: mirror decoding, observed.
 *
 *     measure_chains MODEL PROMPTS WINDOW > changes.csv        (tools/plot-chains draws it)
 *
 * One line for every chain that is coupled with the last one of its position:
 * prompt, position, pass
 * age       chains that the position has had before
 * distance  root mean square, over the steps that start from the same state, of the distance of the two means in
 *           deviations: what the new condition changes
 * steps     steps that end in the same state
 * met       1 when the last one does: the draft stands */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

enum { MAX_POSITIONS = 4096, LINE = 400 };

typedef struct chain {
    unsigned age;
    size_t met, same_steps;
    double squares;
    bool same; /* the state that the next step starts from */
} chain;

static struct {
    const sp_chain_ops *rule;
    size_t n_steps, prompt;
    chain of[MAX_POSITIONS];
} seen;

static double distance_squared(size_t dim, const float *a, const float *b, const float *deviation)
{
    double sum = 0;
    for (size_t j = 0; j < dim; j++) {
        double d = ((double)a[j] - (double)b[j]) / (double)deviation[j];
        sum += d * d;
    }
    return sum;
}

/* One thread: steps of several chains take turns. */
static void observe(const sp_chain_draw *draw, size_t k, size_t dim, const float *mean, const float *deviation,
                    const sp_chain_path *path)
{
    chain *c = &seen.of[draw->position];
    float before[SP_MAX_LATENT];
    if (k == 0) *c = (chain){.age = c->age + 1, .same = true};
    if (c->same) c->squares += distance_squared(dim, path->mean, mean, deviation);
    c->same_steps += c->same;
    memcpy(before, path->state, dim * sizeof *before);
    seen.rule->couple(draw, k, dim, mean, deviation, path);
    c->same = memcmp(before, path->state, dim * sizeof *before) == 0;
    c->met += c->same;
    if (k + 1 < seen.n_steps) return;
    printf("%zu,%u,%u,%u,%.4f,%zu,%d\n", seen.prompt, draw->position, draw->pass, c->age,
           sqrt(c->squares / (double)c->same_steps), c->met, c->same);
}

static int fail(const char *message)
{
    fprintf(stderr, "measure_chains: %s\n", message);
    return 1;
}

static int measure(sp_session *s, FILE *prompts, size_t window, sp_error *err)
{
    char line[LINE];
    sp_chain_ops rule = *seen.rule;
    rule.couple = observe;
    sp_latent_model model = sp_latent_context_model(s->latent);
    seen.n_steps = model.n_steps;
    if (model.rows * model.columns > MAX_POSITIONS) return fail("the model has too many tokens");
    puts("prompt,position,pass,age,distance,steps,met");
    for (; fgets(line, sizeof line, prompts); seen.prompt++) {
        line[strcspn(line, "\n")] = 0;
        memset(seen.of, 0, sizeof seen.of);
        sp_request r = sp_request_defaults(s->engine);
        r.prompt = line;
        sp_chain_plan plan = {.rule = &rule, .window = window, .draft_init = r.draft_init, .seed = 1 + seen.prompt,
                              .guidance = {.cfg_scale = r.cfg_scale, .temperature = r.temperature}};
        if (sp_session_prompt(s, &r, &plan.prompt, err) || sp_chain_decode(s->chains, &model, &plan, err))
            return fail(err->message);
    }
    return 0;
}

int main(int argc, char **argv)
{
    sp_error err = {0};
    sp_engine *engine;
    sp_session *session;
    sp_engine_options options = sp_engine_defaults();
    if (argc != 4) return fail("expected MODEL PROMPTS WINDOW");
    int window = atoi(argv[3]);
    FILE *prompts = fopen(argv[2], "r");
    if (!prompts || window < 1 || window > SP_MAX_WINDOW) return fail("no such prompts, or no such window");
    options.model = argv[1];
    options.threads = 1;
    if (sp_engine_open(&engine, &options, &err) || sp_session_open(&session, engine, &err)) return fail(err.message);
    seen.rule = sp_chain_find("mirror");
    int status = session->latent ? measure(session, prompts, (size_t)window, &err) : fail("its tokens are codes");
    sp_session_close(session);
    sp_engine_close(engine);
    fclose(prompts);
    return status;
}
