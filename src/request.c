#include <stdlib.h>
#include <string.h>

#include "acceptance/chain.h"
#include "session.h"

enum { LANTERN_K = 64 };

sp_request sp_request_defaults(const sp_engine *e)
{
    const sp_model_config *c = &e->config;
    int most = (int)c->n_codes - 1;
    return (sp_request){.prompt = "", .method = c->masked ? "ar" : c->latent_dim ? "mirror" : "pathwise", .window = 0,
                        .draft_init = sp_drafter_names()[0],
                        .cfg_scale = c->cfg_scale, .temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p,
                        .groups = "dynamic", .group_size = 10, .group_delta = 0.15f, .group_distance = 0.5f,
                        .lantern_k = most > LANTERN_K ? LANTERN_K : most < 0 ? 0 : most, .lantern_delta = 0.1f,
                        .front = "mirror", .gamma = 8, .prefill = 0.05f, .align = true, .tolerance = 0.26f,
                        .passes = (int)c->passes,
                        .pixels = true};
}

static sp_status in_range(const char *option, double value, double low, double high, sp_error *err)
{
    if (value >= low && value <= high) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--%s %g: expected %g to %g", option, value, low, high);
}

sp_status sp_class_number(const sp_engine *e, const char *prompt, int32_t *out, sp_error *err)
{
    char *end;
    long value = strtol(prompt, &end, 10);
    if (*prompt < '0' || *prompt > '9' || *end || value < 0 || (size_t)value >= e->config.n_classes)
        return SP_FAIL(err, SP_EARG, "prompt '%.40s': this model draws classes: expected a number from 0 to %zu",
                       prompt,
                       e->config.n_classes - 1);
    *out = (int32_t)value;
    return SP_OK;
}

static sp_status check_choice(const char *option, const char *value, const char *a, const char *b, sp_error *err)
{
    if (value && (strcmp(value, a) == 0 || strcmp(value, b) == 0)) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--%s '%.40s': expected %s or %s", option, value ? value : "", a, b);
}

static sp_status check_passes(const sp_engine *e, const sp_request *r, sp_error *err)
{
    if (e->config.masked) return in_range("passes", r->passes, 1, (double)(e->config.rows * e->config.columns), err);
    if (r->passes == 0) return SP_OK;
    return SP_FAIL(err, SP_EARG, "--passes %d: this model draws its tokens in a fixed order, at least one a pass; "
                   "leave it out", r->passes);
}

/* The method must be of the model's kind of tokens. */
static sp_status check_method(const sp_engine *e, const sp_request *r, sp_error *err)
{
    bool continuous = sp_engine_continuous(e);
    const sp_method *found = r->method ? sp_method_find(r->method, continuous) : NULL;
    if (!found && r->method && sp_method_find(r->method, !continuous))
        return SP_FAIL(err, SP_EARG, "--method %s: it is of models with %s tokens, and this model's are %s; use %s",
                       r->method, continuous ? "discrete" : "continuous", continuous ? "continuous" : "discrete",
                       e->config.masked ? "ar" : continuous ? "mirror or ar" : "pathwise or ar");
    if (!found)
        return SP_FAIL(err, SP_EARG, "--method '%.40s': not known here; see specular generate --help",
                       r->method ? r->method : "");
    return SP_OK;
}

static sp_status check_codes(const sp_engine *e, const sp_request *r, sp_error *err)
{
    SP_TRY(in_range("top-k", r->top_k, 0, (double)e->config.n_codes, err));
    SP_TRY(in_range("top-p", (double)r->top_p, 0, 1, err));
    SP_TRY(in_range("group-size", r->group_size, 1, SP_MAX_GROUP, err));
    SP_TRY(in_range("group-delta", (double)r->group_delta, 0, 1, err));
    SP_TRY(in_range("group-distance", (double)r->group_distance, 0, 4, err));
    bool walks = sp_accept_find(r->method)->walk != NULL;
    SP_TRY(in_range("tree", r->tree, 0, walks ? SP_TREE_WIDTH : SP_MAX_GUESSES + 1, err));
    SP_TRY(in_range("lantern-k", r->lantern_k, 0, (double)e->config.n_codes - 1, err));
    SP_TRY(in_range("lantern-delta", (double)r->lantern_delta, 0, 1, err));
    SP_TRY(in_range("lantern-lambda", (double)r->lantern_lambda, 0, 1000, err));
    if (r->lantern_lambda > 0 && r->lantern_lambda < 1)
        return SP_FAIL(err, SP_EARG, "--lantern-lambda %g: expected 1 to 1000, or 0 for --lantern-delta",
                       (double)r->lantern_lambda);
    return check_choice("groups", r->groups, "dynamic", "static", err);
}

static sp_status check_latents(const sp_engine *e, const sp_request *r, sp_error *err)
{
    size_t most = sp_session_window(e) - 1;
    if (r->top_k != 0 || r->top_p != 1)
        return SP_FAIL(err, SP_EARG, "--top-k %d --top-p %g: this model's tokens are continuous, and there is nothing "
                       "to rank; leave them out", r->top_k, (double)r->top_p);
    SP_TRY(in_range("gamma", r->gamma, 1, (double)(most ? most : 1), err));
    SP_TRY(in_range("prefill", (double)r->prefill, 0, 1, err));
    SP_TRY(in_range("tolerance", (double)r->tolerance, 0, 1000, err));
    return check_choice("front", r->front, "mirror", "path", err);
}

sp_status sp_request_check(sp_engine *e, const sp_request *r, sp_error *err)
{
    int32_t number;
    if (!r->prompt) return SP_FAIL(err, SP_EARG, "prompt: none is given; use --prompt TEXT");
    SP_TRY(check_method(e, r, err));
    if (!r->draft_init || !sp_drafter_find(r->draft_init))
        return SP_FAIL(err, SP_EARG, "--draft-init '%.40s': not known here; see specular generate --help",
                       r->draft_init ? r->draft_init : "");
    SP_TRY(in_range("window", r->window, 0, SP_MAX_WINDOW, err));
    SP_TRY(in_range("cfg-scale", (double)r->cfg_scale, 0, 1000, err));
    SP_TRY(in_range("temperature", (double)r->temperature, 0, 100, err));
    SP_TRY(check_passes(e, r, err));
    SP_TRY(sp_engine_continuous(e) ? check_latents(e, r, err) : check_codes(e, r, err));
    if (r->pixels && !*e->config.codec.kind)
        return SP_FAIL(err, SP_EUNSUPPORTED, "%.300s: the checkpoint has no codec, so its tokens cannot become a "
                       "picture; take the tokens alone with --tokens FILE", e->path);
    if (!e->config.from_text) SP_TRY(sp_class_number(e, r->prompt, &number, err));
    bool drafts = sp_method_find(r->method, sp_engine_continuous(e))->needs_drafter;
    return drafts ? sp_engine_load_drafter(e, err) : SP_OK;
}
