#ifndef SP_SESSION_H
#define SP_SESSION_H
/* What a session holds, for session.c, session_latent.c, request.c and score.c. */
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

/* The prompt's ids, borrowed from the session. */
SP_CHECK sp_status sp_session_prompt(sp_session *session, const sp_request *request, sp_model_prompt *out,
                                     sp_error *err);

#endif
