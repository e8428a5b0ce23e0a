#ifndef SP_ENGINE_H
#define SP_ENGINE_H
/* What an engine holds, for engine.c and session.c. */
#include <pthread.h>

#include "io/tensors.h"
#include "model/eagle.h"
#include "model/transformer.h"
#include "specular.h"
#include "text/tokenizer.h"

struct sp_engine {
    char *path; /* owned */
    sp_model_config config;
    const sp_ops *ops;
    bool bf16;
    int n_threads;
    char fingerprint[17];
    sp_tensors *tensors, *codec_tensors;
    sp_tokenizer *tokenizer; /* NULL for class-conditional models */
    sp_transformer *transformer;
    char *drafter_folder;          /* owned; NULL: there is none */
    bool drafter_given;            /* by an option; else it is the one beside the model */
    _Atomic(sp_eagle *) drafter;   /* NULL until it is needed; set once, under the lock */
    pthread_mutex_t drafter_lock;
    size_t session_bytes, kv_bytes;
    /* The session that open made to learn what one needs, waiting for the first who asks. */
    _Atomic(sp_session *) spare;
};

/* A new session and what it holds. */
SP_CHECK sp_status sp_session_make(sp_session **out, sp_engine *engine, size_t *bytes, size_t *kv_bytes, sp_error *err);

#endif
