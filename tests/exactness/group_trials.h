#ifndef SP_GROUP_TRIALS_H
#define SP_GROUP_TRIALS_H
/* What rule gsd keeps whatever its groups, over the enumerable model. loop: of a device, or NULL: the host's. */
#include "pairs.h"
#include "trial.h"

/* A group of one is sjd, token for token. */
static inline void try_groups_of_one(const sp_device_loop *loop, uint64_t seeds)
{
    static const setting settings[] = {
        {"uniform 4", "gsd", "uniform", 4, 1, 1, 0, 1}, {"left 5", "gsd", "left", 5, 2.5f, 0.7f, 0, 1},
        {"top-k", "gsd", "uniform", 3, 1, 1, 3, 1}, {"greedy", "gsd", "uniform", 3, 1, 0, 0, 1}};
    sp_enumerable model_state = {0};
    sp_model model = sp_enum_model(&model_state);
    sp_decoder *a = NULL, *b = NULL;
    SP_TEST_OK(sp_decoder_open(&a, V, 1, SP_ENUM_POSITIONS, sp_ops_find("auto"), 8, err));
    SP_TEST_OK(sp_decoder_open(&b, V, 1, SP_ENUM_POSITIONS, sp_ops_find("auto"), 8, err));
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        for (uint64_t seed = 0; seed < seeds; seed++) {
            sp_decode_plan plan = plan_of(&settings[i], NULL, seed);
            plan.relaxation = (sp_relaxation){&codes[0][0], 2, 1, 1, 4, seed % 2 ? group_of : NULL};
            plan.loop = loop;
            SP_TEST_OK(sp_decode(a, &model, &plan, err));
            plan.rule = sp_accept_find("sjd");
            plan.loop = NULL;
            SP_TEST_OK(sp_decode(b, &model, &plan, err));
            assert_memory_equal(a->tokens, b->tokens, SP_ENUM_POSITIONS * sizeof *a->tokens);
            assert_int_equal(a->passes, b->passes);
            assert_true(a->deviation == 0);
        }
    sp_decoder_close(a);
    sp_decoder_close(b);
}

/* No token outside top-k comes in on the probability of those inside. */
static inline void try_sets(const sp_device_loop *loop, uint64_t seeds)
{
    for (size_t i = 0; i < sizeof groupings / sizeof *groupings; i++) {
        sp_enumerable model_state = {0};
        sp_model model = sp_enum_model(&model_state);
        sp_decoder *d = NULL;
        SP_TEST_OK(sp_decoder_open(&d, V, 1, SP_ENUM_POSITIONS, sp_ops_find("auto"), 8, err));
        for (uint64_t seed = 0; seed < seeds; seed++) {
            static const setting s = {"gsd", "gsd", "uniform", 4, 1, 1, 2, 1};
            sp_decode_plan plan = plan_of(&s, NULL, seed);
            plan.relaxation = groupings[i].relaxation;
            plan.loop = loop;
            SP_TEST_OK(sp_decode(d, &model, &plan, err));
            for (size_t position = 0; position < SP_ENUM_POSITIONS; position++) {
                double law[V];
                sp_enum_law(d->tokens, position, &plan.sampling, law);
                assert_true(law[d->tokens[position]] > 0);
            }
        }
        sp_decoder_close(d);
    }
}

#endif
