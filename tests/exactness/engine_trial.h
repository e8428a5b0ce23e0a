#ifndef SP_ENGINE_TRIAL_H
#define SP_ENGINE_TRIAL_H
/* For suites on whole models: SP_TEST_MODEL and SP_TEST_DEVICE name another than the sample model on the processor. */
#include "specular.h"
#include "support.h"

static inline const char *sp_trial_device(void) { return getenv("SP_TEST_DEVICE"); }

static inline sp_engine_options sp_trial_options(void)
{
    const char *folder = getenv("SP_TEST_MODEL");
    sp_engine_options options = sp_engine_defaults();
    options.model = folder ? folder : SP_SOURCE_DIR "/samples/emoji";
    if (sp_trial_device()) options.device = sp_trial_device();
    return options;
}

/* The text, or for a model of classes one that follows from its length. */
static inline const char *sp_trial_prompt(const sp_engine *engine, const char *text)
{
    static const char *const numbers[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    sp_model_info info = sp_engine_info(engine);
    return info.from_text ? text : numbers[strlen(text) % (info.n_classes < 10 ? info.n_classes : 10)];
}

#endif
