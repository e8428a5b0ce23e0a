#ifndef SP_MISTAKES_H
#define SP_MISTAKES_H
/* The kernels of a pass over the enumerable model (exactness/enumerable.h), one after another as the loop has them, and
 * between them, if it is asked for, a mistake: to see that what is drawn tells. The mistakes are those of
 * tests/exactness that a device can make.
 *
 *     SP_TEST_OK(sp_mistaken_open(&device, logits, err));
 *     SP_TEST_OK(sp_mistaken_draw(device, &picture, window, SP_MISTAKE_NONE, tokens, &idle, err));
 *     sp_mistaken_close(device); */
#include "kernels/device_loop.h"

enum { SP_MISTAKEN_CODES = 4, SP_MISTAKEN_POSITIONS = 5, SP_MISTAKEN_NODES = 512, SP_MISTAKEN_DIM = 2 };

typedef enum sp_mistake {
    SP_MISTAKE_NONE,
    SP_NOISE_BY_ROW,       /* pathwise: noise belongs to the row of the window, not to the position */
    SP_NOISE_BY_PASS,      /* pathwise: fresh noise in every pass */
    SP_WITHHOLDS_LAST,     /* the last final token waits for the next pass */
    SP_COMMITS_ONE_MORE,   /* one row too many is final */
    SP_COMMITS_REFUSED,    /* the refused draft is final, not what replaced it */
    SP_KEEPS_OLD_RECORD,   /* a draft that is kept keeps the law it was drawn from first */
    SP_RESIDUAL_IS_P,      /* what stands in for a refused draft is drawn from p */
    SP_TEMPERATURE_TWICE,  /* the residual is sharpened again */
    SP_TOP_P_TWICE,        /* the residual is cut again */
    SP_REUSES_0_6,         /* drafts beyond the refused one stay if p / q is above this */
    SP_REUSES_0_8,
    SP_COMMON_CUT,         /* pictures go forward together, tested drafts wait with the law they had */
    SP_WINDOW_BY_CHANCE,   /* the window ends before a draft that was unlikely when it was drawn */
    SP_WINDOW_BY_DRAFT,    /* the window ends before a draft of some value */
    SP_BLOCK_CARRIED,      /* block verification over drafts that are carried over */
    SP_RECORD_ONE_OFF,     /* the record is the law of the position before */
    SP_RECORD_WITHOUT_SETS, /* drafts are drawn within top-k and recorded as if from all codes */
    SP_LIKELIEST_DRAFTS,   /* new drafts are the likeliest codes, recorded as if drawn */
    SP_RESIDUAL_BY_TEST,   /* the draw that refused a draft chooses what stands in for it */
    SP_SAME_EVERY_PASS,    /* a position has the same draws in every pass */
    SP_SAME_EVERY_ROW,     /* all rows of a pass have the same draws */
    SP_COPY_IS_UNIFORM,    /* a copied start is taken for a uniform draw */
    SP_UNIFORM_BONUS,      /* after a window that passes whole comes a uniform code */
    SP_GROUP_BY_Q,         /* gsd: members are found in the law of the draft */
    SP_GROUP_UNLIMITED,    /* gsd: neither probability nor distance limits the group */
    SP_RESIDUAL_BY_GROUPS  /* gsd: the residual is drawn group by group */
} sp_mistake;

typedef struct sp_mistaken sp_mistaken;

#ifdef __cplusplus
extern "C" {
#endif
/* logits [2, SP_MISTAKEN_NODES, SP_MISTAKEN_CODES]: after the tokens that lead to a node, with and without prompt. The
 * root is node 1, and the child of n by code v is 4 n + v. */
sp_status sp_mistaken_open(sp_mistaken **out, const float *logits, sp_error *err);
void sp_mistaken_close(sp_mistaken *device);

/* tokens [SP_MISTAKEN_POSITIONS]. *idle grows by the passes that left a final row uncommitted. A window is up to 8. */
sp_status sp_mistaken_draw(sp_mistaken *device, const sp_device_picture *picture, size_t window, sp_mistake mistake,
                           int32_t *tokens, size_t *idle, sp_error *err);
#ifdef __cplusplus
}
#endif

#endif
