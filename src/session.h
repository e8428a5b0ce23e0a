#ifndef SP_SESSION_H
#define SP_SESSION_H
/* What a session holds, for session.c and score.c. */
#include "acceptance/accept.h"
#include "base/arena.h"
#include "decode/decode.h"
#include "engine.h"
#include "vq/codec.h"

struct sp_session {
    sp_engine *engine;
    sp_pool *pool;
    sp_context *context;
    sp_decoder *decoder;
    sp_eagle_context *drafter; /* NULL until a rule walks, as tree */
    sp_tree *tree;
    sp_codec *codec;
    int32_t *prompt_ids; /* [prefix_length] */
    int32_t *group_of;   /* [n_codes] static groups of group_size */
    size_t group_size;   /* 0: none yet */
    uint8_t *rgb;        /* [height, width, 3] */
    sp_arena arena;
    sp_result result;
};

/* The prompt's ids, borrowed from the session. */
SP_CHECK sp_status sp_session_prompt(sp_session *session, const sp_request *request, sp_model_prompt *out,
                                     sp_error *err);

#endif
