#ifndef SP_DEVICE_LOOP_H
#define SP_DEVICE_LOOP_H
/* The decode loop of one picture or several on a device: what the host tells it, and what it tells the host. Windows,
 * their drafts, their laws and what is final live on the device; the host queues passes and follows their records.
 *
 *     SP_TRY(loop.ops->gather(loop.state, 2, err));             // two pictures share the passes that follow
 *     SP_TRY(loop.ops->begin(loop.state, at, &picture, err));   // picture at of them, after the model's prefix pass
 *     SP_TRY(loop.ops->pass(loop.state, n, err));               // queues one over n rows of each, any number of times
 *     SP_TRY(loop.ops->poll(loop.state, at, i, &record, err));  // its i-th pass: the record, NULL until it is there
 *     SP_TRY(loop.ops->finish(loop.state, at, tokens, err));    // waits for what is queued; its tokens so far
 *
 * Each picture stands where its own drafts have brought it. One that is complete, or that had scores which are no
 * numbers, takes part in passes and leaves no record. A pass is for those between begin and finish: it takes
 * sp_device_together of them, so that it costs less when some places stay empty; another picture may begin in a place
 * at any time that nothing is queued. All have one rule, and are alike in whether they have guidance and whether they
 * have sets. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* What a picture is drawn with: sp_sampling and sp_relaxation of acceptance/accept.h in plain numbers. */
typedef struct sp_device_picture {
    const char *rule;
    uint64_t seed;
    uint32_t image;
    float cfg_scale;
    float temperature; /* 0: greedy */
    size_t top_k;      /* 0: off */
    float top_p;       /* 1: off */
    /* [n_positions] how a position starts that enters the window: as the token of an earlier position, or, less than 0,
     * as the code -1 - start, drawn uniformly. */
    const int32_t *starts;
    const float *codes; /* [n_codes, code_dim] of the codec, for rules over groups; else NULL */
    size_t code_dim, group_size;
    float group_delta, group_distance;
    const int32_t *group_of; /* [n_codes], or NULL: groups by rank. The same for all pictures that pass together */
} sp_device_picture;

/* One pass that is done. */
typedef struct sp_device_record {
    int32_t first;   /* position of row 0 */
    int32_t n_rows;  /* of the picture: fewer than were queued at its end */
    int32_t n_final;
    int32_t broken;  /* 1 + the position whose scores are not numbers; 0: none */
    double deviation; /* of a relaxed rule, the sum up to this pass */
    uint64_t model_ns; /* from the pass's start to the end of the model's part */
    uint32_t done;   /* 1 + the number of the pass: written last, read first */
} sp_device_record;

typedef struct sp_device_loop_ops {
    bool (*knows)(const char *rule); /* whether a rule has a form for the device */
    sp_status (*gather)(void *state, size_t n_pictures, sp_error *err);
    sp_status (*begin)(void *state, size_t at, const sp_device_picture *picture, sp_error *err);
    sp_status (*pass)(void *state, size_t n, sp_error *err);
    sp_status (*poll)(void *state, size_t at, size_t index, const sp_device_record **record, sp_error *err);
    sp_status (*finish)(void *state, size_t at, int32_t *tokens, sp_error *err); /* tokens may be NULL */
} sp_device_loop_ops;

/* Of n places, how many a pass takes when so many pictures are under way: 1, 2, 3, 4, 6, 8, 12, 16, .., since each
 * number is captured apart. sp_device_step: which of these numbers. */
enum { SP_DEVICE_STEPS = 32 };
static inline size_t sp_device_size(size_t step)
{
    return step == 0 ? 1 : step % 2 ? (size_t)2 << step / 2 : (size_t)3 << (step / 2 - 1);
}
static inline size_t sp_device_step(size_t live)
{
    size_t step = 0;
    while (step + 1 < SP_DEVICE_STEPS && sp_device_size(step) < live) step++;
    return step;
}
static inline size_t sp_device_together(size_t live, size_t n)
{
    size_t size = sp_device_size(sp_device_step(live));
    return size < n ? size : n;
}

typedef struct sp_device_loop {
    const sp_device_loop_ops *ops;
    void *state;
    size_t max_pictures;
    size_t max_rows; /* of a pass, of all pictures together, in one stream */
} sp_device_loop;

#endif
