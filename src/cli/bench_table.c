#include "cli/bench_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row as it is printed. */
typedef struct figures {
    char window[16];
    double nfe, step_compression, pass_ms, image_ms, image_p95_ms, images_per_second, tokens_per_second, speedup;
    size_t pictures;
} figures;

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

static figures summarise(sp_bench_table *table, sp_bench_row *row)
{
    figures out = {.pictures = row->nfe.count};
    double tokens = (double)(table->model.rows * table->model.columns);
    if (row->window == 0)
        snprintf(out.window, sizeof out.window, "auto");
    else
        snprintf(out.window, sizeof out.window, "%d", row->window);
    out.nfe = sp_series_quantile(&row->nfe, 0.5);
    out.step_compression = ratio(tokens, out.nfe);
    out.pass_ms = sp_series_quantile(&row->pass_ms, 0.5);
    out.image_ms = sp_series_quantile(&row->image_ms, 0.5);
    out.image_p95_ms = sp_series_quantile(&row->image_ms, 0.95);
    out.images_per_second = ratio(1000, out.image_ms);
    out.tokens_per_second = ratio(1000 * tokens, sp_series_quantile(&row->decode_ms, 0.5));
    out.speedup = ratio(sp_series_quantile(&table->rows[0].image_ms, 0.5), out.image_ms);
    return out;
}

static void print_markdown(sp_bench_table *table)
{
    const sp_model_info *info = &table->model;
    puts("| method | window | exactness | nfe | step compression | ms a pass | ms an image | p95 | images/s "
         "| tokens/s | speed-up | tokens identical | n |");
    puts("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (sp_bench_row *row = table->rows; row < table->rows + table->count; row++) {
        figures f = summarise(table, row);
        printf("| %s | %s | %s | %.0f | %.2f | %.3f | %.1f | %.1f | %.2f | %.1f | %.2f | %zu/%zu | %zu |\n",
               row->method, f.window, sp_exactness_name(row->exactness), f.nfe, f.step_compression, f.pass_ms,
               f.image_ms, f.image_p95_ms, f.images_per_second, f.tokens_per_second, f.speedup, row->tokens_equal,
               row->tokens, f.pictures);
    }
    printf("\n%s (%s), %s, %s kernels, %d threads, specular %s; %zu prompts x %zu repetitions of %zu at a time, "
           "medians; an image is prefix, decode and pixels; speed-up is ar's median over the method's\n",
           table->model_name, info->fingerprint, info->dtype, info->kernels, info->threads, SP_VERSION, table->prompts,
           table->repetitions, table->batch_size);
}

static void print_csv(sp_bench_table *table)
{
    const sp_model_info *info = &table->model;
    puts("model,model_fingerprint,version,dtype,kernels,threads,method,window,exactness,nfe,step_compression,pass_ms,"
         "image_ms,image_p95_ms,batch_size,images_per_second,tokens_per_second,speedup,tokens_identical,tokens,n");
    for (sp_bench_row *row = table->rows; row < table->rows + table->count; row++) {
        figures f = summarise(table, row);
        putchar('"');
        for (const char *c = table->model_name; *c != '\0'; c++) fputs(*c == '"' ? "\"\"" : (char[]){*c, '\0'}, stdout);
        printf("\",%s,%s,%s,%s,%d,%s,%s,%s,%.1f,%.3f,%.4f,%.3f,%.3f,%zu,%.4f,%.2f,%.4f,%zu,%zu,%zu\n",
               info->fingerprint, SP_VERSION, info->dtype, info->kernels, info->threads, row->method, f.window,
               sp_exactness_name(row->exactness), f.nfe, f.step_compression, f.pass_ms, f.image_ms, f.image_p95_ms,
               table->batch_size, f.images_per_second, f.tokens_per_second, f.speedup, row->tokens_equal,
               row->tokens, f.pictures);
    }
}

/* Six digits are more than a clock gives, and print without a tail. */
static double six_digits(double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", value);
    return strtod(text, NULL);
}

static json_t *json_of_row(sp_bench_table *table, sp_bench_row *row)
{
    const sp_model_info *info = &table->model;
    figures f = summarise(table, row);
    return json_pack("{ss ss ss ss ss si ss ss ss sf sf sf sf sf sI sf sf sf sI sI sI}",
        "model", table->model_name, "model_fingerprint", info->fingerprint, "version", SP_VERSION, "dtype", info->dtype,
        "kernels", info->kernels, "threads", info->threads, "method", row->method, "window", f.window, "exactness",
        sp_exactness_name(row->exactness), "nfe", six_digits(f.nfe), "step_compression", six_digits(f.step_compression),
        "pass_ms", six_digits(f.pass_ms), "image_ms", six_digits(f.image_ms),
        "image_p95_ms", six_digits(f.image_p95_ms), "batch_size", (json_int_t)table->batch_size,
        "images_per_second", six_digits(f.images_per_second), "tokens_per_second", six_digits(f.tokens_per_second),
        "speedup", six_digits(f.speedup), "tokens_identical",
        (json_int_t)row->tokens_equal, "tokens", (json_int_t)row->tokens, "n", (json_int_t)f.pictures);
}

static sp_status print_json(sp_bench_table *table, bool lines, sp_error *err)
{
    if (!lines) puts("[");
    for (size_t i = 0; i < table->count; i++) {
        json_t *object = json_of_row(table, &table->rows[i]);
        char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
        json_decref(object);
        if (text == NULL) return SP_FAIL(err, SP_ENOMEM, "no memory for a row of the table; free some");
        printf("%s%s%s\n", lines ? "" : "  ", text, !lines && i + 1 < table->count ? "," : "");
        free(text);
    }
    if (!lines) puts("]");
    return SP_OK;
}

sp_status sp_bench_table_print(sp_bench_table *table, const char *format, sp_error *err)
{
    if (strcmp(format, "json") == 0 || strcmp(format, "jsonl") == 0)
        return print_json(table, strcmp(format, "jsonl") == 0, err);
    if (strcmp(format, "csv") == 0)
        print_csv(table);
    else
        print_markdown(table);
    return SP_OK;
}

void sp_bench_table_free(sp_bench_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        sp_series_free(&table->rows[i].image_ms);
        sp_series_free(&table->rows[i].pass_ms);
        sp_series_free(&table->rows[i].nfe);
        sp_series_free(&table->rows[i].decode_ms);
    }
    free(table->rows);
    free(table->model_name);
    *table = (sp_bench_table){0};
}
