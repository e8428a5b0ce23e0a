#ifndef SP_SETUP_H
#define SP_SETUP_H
/* From options to an engine and a request. */
#include "cli/options.h"
#include "specular.h"

/* Folder of the model: --model, else SPECULAR_MODEL, else the samples installed beside the program, else those of the
 * source tree. *path is owned by the caller (free). */
SP_CHECK sp_status sp_setup_model(const sp_options *options, char **path, sp_error *err);
SP_CHECK sp_status sp_setup_engine(const sp_options *options, sp_engine **engine, sp_error *err);

/* Defaults of the model with the sampling and speed options that were given. Prompt, image and callbacks are left. */
sp_request sp_setup_request(const sp_options *options, const sp_engine *engine);

/* A seed of 32 random bits: easy to type again. */
SP_CHECK sp_status sp_setup_random_seed(uint64_t *seed, sp_error *err);

/* SP_EOUTPUT unless files can be made beside path. */
SP_CHECK sp_status sp_setup_writable(const char *path, sp_error *err);

/* SP_EARG that names --force if path is a regular file, unless force. Devices and pipes are written in place. */
SP_CHECK sp_status sp_setup_absent(const char *path, bool force, sp_error *err);

/* JSON text and a newline to path, or to standard output for "-". document is borrowed; flags are jansson's. */
SP_CHECK sp_status sp_setup_write_json(const char *path, const json_t *document, size_t flags, sp_error *err);

/* What --dry-run says of memory, on standard output. */
void sp_setup_print_memory(const sp_engine *engine);

/* A line for people on standard error: "specular: ...". */
void sp_setup_note(const sp_options *options, const char *format, ...) SP_PRINTF(2, 3);

#endif
