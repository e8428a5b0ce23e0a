#ifndef SP_BENCH_TABLE_H
#define SP_BENCH_TABLE_H
/* What bench measured, a row a method and window, and how it is printed. */
#include <jansson.h>

#include "cli/series.h"
#include "specular.h"

typedef struct sp_bench_row {
    const char *method; /* borrowed from the library's list */
    sp_exactness exactness;
    int window;                                 /* 0: auto */
    sp_series image_ms, decode_ms; /* a value a batch: its time by its pictures */
    sp_series pass_ms, nfe;        /* a value a picture */
    size_t tokens, tokens_equal;                /* over all pictures; equal to those of ar */
} sp_bench_row;

typedef struct sp_bench_table {
    sp_model_info model;
    char *model_name; /* owned */
    sp_bench_row *rows; /* owned; the first is ar */
    size_t count;
    size_t prompts, repetitions;
    size_t batch_size; /* pictures of a batch: of one prompt, asked for together */
} sp_bench_table;

/* format: md, csv, json or jsonl. Speed-up is the ratio of the medians of the time of a whole picture, in a batch its
 * share of the batch's. */
SP_CHECK sp_status sp_bench_table_print(sp_bench_table *table, const char *format, sp_error *err);
void sp_bench_table_free(sp_bench_table *table);

#endif
