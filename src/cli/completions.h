#ifndef SP_COMPLETIONS_H
#define SP_COMPLETIONS_H
/* Shell completions on standard output, made from options.def. */
#include "base/error.h"

/* shell: bash, zsh or fish. */
SP_CHECK sp_status sp_completions_write(const char *shell, sp_error *err);

#endif
