#ifndef SP_REPORT_H
#define SP_REPORT_H
/* The JSON report of one picture; field names are vLLM's where it has one.
 *
 * nfe counts passes of the target after the prefix pass. step_compression = num_tokens / nfe is not a speed-up.
 * mean_acceptance_length = 1 + accepted / nfe; draft_acceptance_rate = accepted / drafted;
 * acceptance_histogram[n] = passes that committed n tokens. peak_resident_bytes is the process's, by the kernel. */
#include <jansson.h>

#include "specular.h"

/* file is the picture's path or NULL. New reference, NULL when memory ran out. */
json_t *sp_report_make(const sp_engine *engine, const sp_request *request, const sp_result *result, const char *file);

/* Token ids as one JSON array; new reference, NULL when memory ran out. */
json_t *sp_report_tokens(const sp_result *result);

#endif
