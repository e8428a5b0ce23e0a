#ifndef SPECULAR_H
#define SPECULAR_H
/* specular: images from visual autoregressive models, drafted many tokens at a time and checked in one pass.
 *
 *     #include <specular.h>
 *     #include <stdio.h>
 *     int main(void)
 *     {
 *         sp_error err = {0};
 *         sp_engine *engine = NULL;
 *         sp_session *session = NULL;
 *         sp_engine_options options = sp_engine_defaults();
 *         options.model = "samples/emoji";
 *         if (sp_engine_open(&engine, &options, &err) || sp_session_open(&session, engine, &err)) goto out;
 *         sp_request request = sp_request_defaults(engine);
 *         request.prompt = "red heart";
 *         request.seed = 1;
 *         const sp_result *result;
 *         if (sp_generate(session, &request, &result, &err)) goto out;
 *         if (sp_picture_write("red-heart.png", result->rgb, result->width, result->height, NULL, 0, &err)) goto out;
 *     out:
 *         if (err.status) fprintf(stderr, "%s\n", err.message);
 *         sp_session_close(session);
 *         sp_engine_close(engine);
 *         return err.status ? 1 : 0;
 *     }
 *
 * An engine is a loaded model on a device: read-only, shared by threads and sessions. A session makes images one at a
 * time, or on a GPU several in the same passes, and belongs to one thread. Nothing here prints, exits or aborts.
 * Functions that fail return a status and fill sp_error; closing NULL is fine. */
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SP_VERSION "0.1.0"

typedef struct sp_engine sp_engine;
typedef struct sp_session sp_session;

/* What a result is, against plain decoding with the same seed. */
typedef enum {
    SP_IDENTICAL = 0, /* the same tokens, one for one */
    SP_EXACT = 1,     /* tokens of the same distribution, another sample */
    SP_RELAXED = 2    /* another distribution */
} sp_exactness;

const char *sp_exactness_name(sp_exactness exactness); /* "identical", "exact", "relaxed" */

typedef struct sp_engine_options {
    const char *model;   /* checkpoint folder; borrowed during open */
    const char *device;  /* "auto", "cpu" or "cuda:N" */
    const char *dtype;   /* "auto", "f32" or "bf16": arithmetic; auto is bf16 on a device, and where weights and
                          * processor have it. Matrices stored otherwise are rounded to bf16 */
    const char *kernels; /* "auto" or the name of a back end, see sp_kernel_names */
    const char *drafter; /* folder of the drafting model, loaded by open; NULL: model/drafter, of continuous tokens
                          * model/draft, if it is there, loaded when first needed */
    int threads;         /* 0: one a processor */
    int batch_size;      /* pictures that a session draws in the same passes, 1 to SP_MAX_BATCH; memory grows with it.
                          * Those of continuous tokens are drawn one after another */
} sp_engine_options;

enum { SP_MAX_BATCH = 256 };

sp_engine_options sp_engine_defaults(void);
SP_CHECK sp_status sp_engine_open(sp_engine **out, const sp_engine_options *options, sp_error *err);
void sp_engine_close(sp_engine *engine);

/* Loads the drafting model now, which the first request that needs it does otherwise. SP_EARG when there is none. */
SP_CHECK sp_status sp_engine_load_drafter(sp_engine *engine, sp_error *err);

typedef struct sp_model_info {
    const char *path;        /* borrowed from the engine, as every string here */
    const char *family;      /* a name of models.def */
    const char *codec;       /* a name of codecs.def; "" when the checkpoint has none, and makes tokens only */
    const char *dtype;       /* arithmetic: "f32" or "bf16" */
    const char *kernels;     /* back end in use */
    const char *fingerprint; /* 16 hexadecimal digits over config and weights */
    bool from_text;          /* prompts are text; otherwise class numbers */
    size_t n_classes;        /* of a class-conditional model */
    bool continuous;         /* tokens are vectors of latent_dim floats, drawn by a diffusion head */
    size_t latent_dim;       /* 0 of tokens that are codes */
    size_t chain_steps;      /* of the diffusion head, a token */
    size_t passes;           /* in which a masked model draws a picture, the default; 0 of others */
    size_t parameters;       /* of the transformer and the diffusion head */
    size_t head_parameters;  /* of the diffusion head */
    size_t n_codes, rows, columns, width, height;
    size_t n_features;       /* of a picture, see sp_pixels_to_features; 0: the checkpoint has no encoder */
    size_t layers, dim, heads, kv_heads, head_dim;
    size_t weight_bytes;     /* of the transformer and the diffusion head, as held in memory */
    size_t session_bytes;    /* KV, window, scratch and the codec, its weights included, of one session */
    size_t kv_bytes;         /* of which KV */
    size_t batch_size;       /* pictures that a session can draw in the same passes: the option's, or 1 */
    bool on_device;          /* passes run on a GPU, beside what the processor does */
    size_t prefix_limit;     /* tokens of a prompt that the model reads; the rest is cut */
    int threads;
    const char *drafter;     /* folder of the drafting model that the options gave, or NULL */
    size_t drafter_parameters, drafter_bytes; /* of the weights in memory; 0: none was loaded so far */
    float cfg_scale, temperature, top_p;
    int top_k;               /* sampling defaults of the checkpoint */
} sp_model_info;

sp_model_info sp_engine_info(const sp_engine *engine);

/* How many tokens the prompt has; info.prefix_limit of them are used. */
SP_CHECK sp_status sp_prompt_tokens(const sp_engine *engine, const char *prompt, size_t *count, sp_error *err);

typedef struct sp_progress {
    size_t tokens_done, tokens_total, passes;
    const int32_t *pass_of_token; /* [tokens_total] pass in which a token was settled, from 1; 0 not yet */
    size_t together; /* pictures in the making, this one included */
} sp_progress;

/* Called after each pass, for each of several pictures in it; false stops with SP_ECANCELLED. */
typedef bool sp_progress_call(void *user, const sp_progress *progress);

typedef struct sp_request {
    const char *prompt;     /* UTF-8; for a class-conditional model the number of the class */
    uint64_t seed;
    uint32_t image;         /* picture number under this seed, from 0 */
    const char *method;     /* see sp_methods */
    int window;             /* positions a pass; 0: chosen from measured pass times */
    const char *draft_init; /* see sp_draft_inits */
    float cfg_scale;        /* 1: no guidance */
    float temperature;      /* 0: greedy */
    int top_k;              /* 0: off */
    float top_p;            /* 1: off */
    const char *groups;     /* gsd: "dynamic", around a draft's rank, or "static", of near codes */
    int group_size;         /* gsd: 1 to 256 codes, the draft included; 1 is sjd */
    float group_delta;      /* gsd, dynamic: members' probabilities differ from the draft's by less than this, 0 to 1 */
    float group_distance;   /* gsd, dynamic: and squared distances of codes scaled to length 1 are less, 0 to 4 */
    int tree;               /* guesses for one position; 0: the default. In pathwise and coupled for the first draft
                             * alone, 1 to 16, default 1; in eagle and lantern for any, 1 to 8, default 8 */
    int lantern_k;          /* lantern: nearest codes that may count, 0 to one less than the codes; 0 is eagle */
    float lantern_delta;    /* lantern: they add at most this probability, 0 to 1 */
    float lantern_lambda;   /* lantern: instead at most lambda - 1 times the guess's own, 1 to 1000; 0: lantern_delta */
    const char *front;      /* mirror: "mirror", or "path" to decide by the path test while all earlier drafts stay */
    int gamma;              /* cspd, cspd-released: tokens drafted before a check, 1 to SP_MAX_WINDOW - 1 */
    float prefill;          /* cspd, cspd-released: share of the tokens that the target draws alone first, 0 to 1 */
    bool align;             /* cspd, cspd-released: draft and target share the noise of a position */
    int passes;             /* masked models: in which the model alone draws a picture, 1 to its tokens; 0 of others */
    float tolerance;        /* cspd-released: distance at which a draft stays with probability exp(-1/2), from 0 */
    bool pixels;            /* run the codec; false leaves rgb NULL */
    sp_progress_call *progress;
    void *user;
} sp_request;

sp_request sp_request_defaults(const sp_engine *engine);

/* SP_OK, or SP_EARG with the option's name, value and range; loads the drafting model for a method that needs it. Also
 * done by sp_generate. */
SP_CHECK sp_status sp_request_check(sp_engine *engine, const sp_request *request, sp_error *err);

enum { SP_MAX_WINDOW = 128 };

typedef struct sp_result {
    const char *method;
    sp_exactness exactness;
    size_t n_tokens, width, height;
    const int32_t *tokens;        /* [n_tokens] raster order; NULL of continuous tokens */
    const float *latents;         /* [n_tokens, latent_dim] of continuous tokens; else NULL */
    size_t latent_dim;
    const int32_t *pass_of_token; /* [n_tokens] from 1 */
    const uint8_t *rgb;           /* [height, width, 3], or NULL */
    size_t prompt_tokens;         /* before the cut to prefix_limit */
    size_t nfe;                   /* passes of the target after the prefix pass */
    size_t drafted, accepted;     /* draft tokens tested and accepted */
    size_t draft_passes;          /* of a second model that drafts continuous tokens */
    uint32_t histogram[SP_MAX_WINDOW + 1]; /* [n] passes that committed n tokens */
    double total_variation_bound; /* of relaxed methods over codes, a token: estimates a bound (docs/rules/gsd.md);
                                   * otherwise 0 */
    double prefill_ms, decode_ms, vq_ms, total_ms;
    double condition_ms, chain_ms; /* of decode_ms, continuous tokens: in the transformer, in the diffusion head */
    size_t peak_bytes;            /* engine and session */
} sp_result;

SP_CHECK sp_status sp_session_open(sp_session **out, sp_engine *engine, sp_error *err);

/* One picture. *result is borrowed from the session until its next call. */
SP_CHECK sp_status sp_generate(sp_session *session, const sp_request *request, const sp_result **result, sp_error *err);

/* A picture of sp_generate_many is done: result is borrowed until the call returns, and the session is busy with other
 * pictures. Or result is NULL and why says what of its request, or of the model's numbers for it, made it fail.
 * Anything but SP_OK ends sp_generate_many with it. */
typedef sp_status sp_picture_call(void *user, size_t index, const sp_result *result, const sp_error *why,
                                  sp_error *err);

/* Several pictures, each the one that sp_generate draws. Up to info.batch_size share their passes, of requests one
 * after another that have one method, window and group size, and are alike in having guidance, and in having top-k or
 * top-p; the next takes the place of one that is done. So they are done in an order of their own. What the machine
 * causes ends it. */
SP_CHECK sp_status sp_generate_many(sp_session *session, const sp_request *requests, size_t count,
                                    sp_picture_call *done, void *user, sp_error *err);

/* Tokens [rows * columns] to pixels [height, width, 3], and back. SP_EUNSUPPORTED for tokens of the other kind. */
SP_CHECK sp_status sp_tokens_to_pixels(sp_session *session, const int32_t *tokens, uint8_t *rgb, sp_error *err);
SP_CHECK sp_status sp_pixels_to_tokens(sp_session *session, const uint8_t *rgb, int32_t *tokens, sp_error *err);
SP_CHECK sp_status sp_latents_to_pixels(sp_session *session, const float *latents, uint8_t *rgb, sp_error *err);
SP_CHECK sp_status sp_pixels_to_latents(sp_session *session, const uint8_t *rgb, float *latents, sp_error *err);
/* What the codec's encoder sees in a picture: features [info.n_features], its output before quantisation, mean over
 * the positions. SP_EUNSUPPORTED when the checkpoint has no encoder. */
SP_CHECK sp_status sp_pixels_to_features(sp_session *session, const uint8_t *rgb, float *features, sp_error *err);

/* A finished token under the law of plain decoding, given the tokens before it. */
typedef struct sp_token_score {
    float log_p; /* natural logarithm of its probability before top-k and top-p; temperature 0 counts as 1 here */
    float rank;  /* probability of the likelier tokens plus a random part of its own, after top-k and top-p: uniform in
                    [0, 1] when tokens are drawn from the law */
} sp_token_score;

/* Scores tokens [rows * columns] under the request's prompt, guidance and sampling, whatever method made them.
 * SP_EUNSUPPORTED for continuous tokens, whose laws have no closed form. */
SP_CHECK sp_status sp_score_tokens(sp_session *session, const sp_request *request, const int32_t *tokens,
                                   sp_token_score *scores, sp_error *err);
void sp_session_close(sp_session *session);

typedef struct sp_method {
    const char *name;
    sp_exactness exactness;
    const char *summary;  /* a few words for --help */
    const char *settings; /* options that few methods read and this one does, by name, separated by spaces */
    bool needs_drafter;   /* a drafting model */
    bool continuous;      /* of models with continuous tokens; else of those with codes */
} sp_method;

/* Lists for help and completion; name NULL ends them. A name may stand for a method of either kind of model. */
const sp_method *sp_methods(void);
const sp_method *sp_method_find(const char *name, bool continuous); /* NULL: there is none */
const char *const *sp_draft_inits(void);
const char *const *sp_kernel_names(void);

/* A text chunk of a PNG. */
typedef struct sp_text_chunk {
    const char *key;   /* Latin-1, 1 to 79 characters */
    const char *value; /* UTF-8 */
} sp_text_chunk;

/* Writes a picture atomically: PNG, or JPEG when path ends in .jpg or .jpeg. rgb [height, width, 3]. */
SP_CHECK sp_status sp_picture_write(const char *path, const uint8_t *rgb, size_t width, size_t height,
                                    const sp_text_chunk *text, size_t n_text, sp_error *err);

#ifdef __cplusplus
}
#endif

#endif
