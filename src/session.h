#ifndef SP_SESSION_H
#define SP_SESSION_H
/* What a session holds, for session.c, session_batch.c, session_latent.c, request.c and score.c. */
#include "acceptance/accept.h"
#include "base/arena.h"
#include "decode/chain.h"
#include "decode/decode.h"
#include "decode/masked.h"
#include "engine.h"
#include "vq/codec.h"

struct sp_session {
    sp_engine *engine;
    sp_pool *pool;
    sp_context *context;
    sp_decoder *decoder;
    struct sp_session_batch *batch; /* of pictures that share their passes; NULL: one after another */
    sp_eagle_context *drafter; /* NULL until a rule walks, as tree */
    sp_tree *tree;
    sp_latent_context *latent, *draft; /* continuous tokens in place of the five above; draft NULL until it drafts */
    sp_chain_decoder *chains;    /* owned, or that of masked */
    sp_masked_decoder *masked;   /* of a masked model; else NULL */
    sp_codec *codec;     /* NULL without one */
    int32_t *prompt_ids; /* [prefix_length] */
    int32_t *group_of;   /* [n_codes] static groups of group_size */
    size_t group_size;   /* 0: none yet */
    uint8_t *rgb;        /* [height, width, 3] */
    sp_arena arena;
    sp_result result;
};

/* The most positions of a pass. */
size_t sp_session_window(const sp_engine *engine);

/* The class that a prompt names; SP_EARG when it names none. */
SP_CHECK sp_status sp_class_number(const sp_engine *engine, const char *prompt, int32_t *out, sp_error *err);

/* Continuous tokens: the parts of a session, those of a drafting model once it is needed, the bytes of the first, and a
 * picture's tokens with what its result says of them. */
SP_CHECK sp_status sp_session_open_latent(sp_session *session, sp_error *err);
SP_CHECK sp_status sp_session_open_draft(sp_session *session, sp_error *err);
size_t sp_session_latent_bytes(const sp_session *session);
SP_CHECK sp_status sp_session_decode_latent(sp_session *session, const sp_request *request,
                                            const sp_model_prompt *prompt, sp_error *err);

/* Pictures of codes: what a request asks of the decode loop, and what the result says of a picture that is drawn. The
 * plan's groups and prompt are borrowed from the session until the next. */
sp_decode_plan sp_session_plan(sp_session *session, const sp_request *request, const sp_model_prompt *prompt,
                               const sp_device_loop *loop);
void sp_session_report_codes(sp_session *session, const sp_decoder *decoder);

/* A result that says nothing yet but the method; and the rest of it, once its tokens are there: pixels, if the request
 * wants them, and times. start: when the picture was begun. */
void sp_session_begin_result(sp_session *session, const sp_method *method);
SP_CHECK sp_status sp_session_end_result(sp_session *session, const sp_request *request, double start, sp_error *err);

/* Several pictures at a time. Of requests [n], the first of which the session would draw, how many can share their
 * passes: 1 if the first must be drawn alone. And the drawing of so many. */
SP_CHECK sp_status sp_session_open_batch(sp_session *session, size_t n_pictures, sp_error *err);
void sp_session_close_batch(sp_session *session);
size_t sp_session_batch_bytes(const sp_session *session);
size_t sp_session_batch_of(sp_session *session, const sp_request *requests, size_t n);
SP_CHECK sp_status sp_session_draw_batch(sp_session *session, const sp_request *requests, size_t first, size_t n,
                                         sp_picture_call *done, void *user, sp_error *err);

/* Whether a failure is that of its request or of the model's numbers for it, and the next picture can be drawn. */
bool sp_session_own_failure(sp_status status);

/* The prompt's ids, borrowed from the session. */
SP_CHECK sp_status sp_session_prompt(sp_session *session, const sp_request *request, sp_model_prompt *out,
                                     sp_error *err);

#endif
