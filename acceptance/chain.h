#ifndef SP_CHAIN_H
#define SP_CHAIN_H
/* Acceptance rules of continuous tokens: pure functions over the Gaussian steps of denoising chains, testable with no
 * model. chains.def lists them. */
#include <stdbool.h>

#include "specular.h"

/* What single rules read; the others ignore it. */
typedef struct sp_chain_settings {
    bool path_front;  /* mirror: the path test decides as long as every earlier draft of the window passed */
    size_t gamma;     /* cspd, cspd-released: tokens drafted before a check, 1 to SP_MAX_WINDOW - 1 */
    float prefill;    /* cspd, cspd-released: share of the tokens that the target draws alone first, 0 to 1 */
    bool align;       /* cspd: draft and target share the noise of a position */
    float inner;      /* cspd-released: the divisor of distances in its test ("inner temperature"), above 0 */
} sp_chain_settings;

/* One line of chains.def. */
typedef struct sp_chain_ops {
    const char *name;
    const char *summary;
    const char *settings; /* options that only this rule and its like read, by name, separated by spaces; NULL: none */
    sp_exactness exactness;
    bool drafts;        /* false: the window is one position, nothing is drafted */
    bool needs_drafter; /* drafts come from a second model */
    bool compares;      /* needs a last step that adds noise */
} sp_chain_ops;

/* NULL when there is no such rule. */
const sp_chain_ops *sp_chain_find(const char *name);
const sp_chain_ops *const *sp_chain_all(void); /* NULL at the end */

#endif
