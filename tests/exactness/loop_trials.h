#ifndef SP_LOOP_TRIALS_H
#define SP_LOOP_TRIALS_H
/* Every rule of continuous tokens, with settings that take the ways through the chain decode loop. Tests name some by
 * their number: another comes last. */
#include "wrong_chain.h"

static const trial trials[] = {
    {"ar", &sp_chain_ar, 1},
    {"mirror 2", &sp_chain_mirror, 2},
    {"mirror 12", &sp_chain_mirror, 12},
    {"mirror 5, path front", &sp_chain_mirror, 5, {.path_front = true}, "above"},
    {"cspd 3", &sp_chain_cspd, 1, {.gamma = 3, .align = true}},
    {"cspd 3, prefill", &sp_chain_cspd, 1, {.gamma = 3, .align = true, .prefill = 0.5f}},
    {"cspd-released 5", &sp_chain_cspd_released, 1, {.gamma = 5, .align = true, .tolerance = 0.2f}},
    {"cspd 2, not aligned", &sp_chain_cspd, 1, {.gamma = 2}},
};
enum { TRIALS = sizeof trials / sizeof *trials };

#endif
