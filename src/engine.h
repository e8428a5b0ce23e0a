#ifndef SP_ENGINE_H
#define SP_ENGINE_H
/* What an engine holds, for engine.c and what else lies beside it. */
#include <pthread.h>

#include "device.h"
#include "io/tensors.h"
#include "model/eagle.h"
#include "model/latent.h"
#include "model/transformer.h"
#include "specular.h"
#include "text/tokenizer.h"

struct sp_engine {
    char *path; /* owned */
    sp_model_config config;
    const sp_ops *ops;
    bool bf16;
    const sp_device_ops *device; /* NULL: the processor */
    int device_number;
    int n_threads;
    size_t batch_size; /* pictures of a session that share passes */
    char fingerprint[17];
    sp_tensors *tensors, *codec_tensors;
    sp_tokenizer *tokenizer; /* NULL for class-conditional models */
    sp_transformer *transformer; /* of codes; else NULL */
    sp_latent *latent;           /* of continuous tokens; else NULL */
    char *drafter_folder;        /* owned; NULL: there is none */
    bool drafter_given;          /* by an option; else it is the one beside the model */
    /* The drafting model of codes, or of continuous tokens and then its tensors: NULL until it is needed; set once,
     * under the lock. */
    _Atomic(sp_eagle *) drafter;
    _Atomic(sp_latent *) draft;
    sp_tensors *draft_tensors;
    pthread_mutex_t drafter_lock;
    size_t session_bytes, kv_bytes;
    /* The session that open made to learn what one needs, waiting for the first who asks. */
    _Atomic(sp_session *) spare;
};

static inline bool sp_engine_continuous(const sp_engine *e) { return e->config.latent_dim > 0; }
size_t sp_engine_weight_bytes(const sp_engine *engine); /* of the model, without its drafter */

/* A model with continuous tokens on the engine's device, in its arithmetic: its own, or the one that drafts. */
SP_CHECK sp_status sp_engine_open_latent(const sp_engine *engine, sp_latent **out, const sp_model_config *config,
                                         const sp_tensors *tensors, sp_error *err);

/* The drafting model that the options gave must be there and is loaded; the one beside the model may be. */
SP_CHECK sp_status sp_engine_find_drafter(sp_engine *engine, const char *folder, sp_error *err);
size_t sp_engine_drafter_bytes(const sp_engine *engine); /* loaded so far */
size_t sp_engine_drafter_parameters(const sp_engine *engine);
void sp_engine_close_drafter(sp_engine *engine);

/* A new session and what it holds. */
SP_CHECK sp_status sp_session_make(sp_session **out, sp_engine *engine, size_t *bytes, size_t *kv_bytes, sp_error *err);

#endif
