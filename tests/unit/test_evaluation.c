/* From records to figures to files, on a made-up evaluation of two settings whose figures can be worked out by hand;
 * records of another shape are refused; memory may run out anywhere. */
#include "support.h"

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "eval/page.h"

enum { PROMPTS = 2, IMAGES = 2, TOKENS = 4, CODES = 3, FEATURES = 2 };

static char folder[] = "/tmp/specular-evaluation-XXXXXX";
static const char *const ids[] = {"a", "b"}, *const prompts[] = {"red heart", "</title><script>"};

/* Setting 0 takes 4 passes and 100 ms, setting 1 two passes and 50, 25, 20 and 40 ms, and three quarters of its tokens
 * are other ones. */
static json_t *element(const sp_evaluation *e, size_t setting, size_t prompt, size_t image)
{
    static const double total[] = {50, 25, 20, 40};
    static const int32_t tokens[2][TOKENS] = {{0, 1, 2, 0}, {0, 0, 0, 1}};
    const int32_t passes[2][TOKENS] = {{1, 2, 3, 4 + (int32_t)image}, {1, 1, 1, 2}};
    size_t picture = (prompt * IMAGES + image) % (PROMPTS * IMAGES);
    sp_token_score scores[TOKENS];
    float features[FEATURES] = {(float)picture + 10 * (float)setting, (float)(picture % 2)};
    sp_result result = {.tokens = tokens[setting], .pass_of_token = passes[setting], .nfe = setting ? 2 : 4,
                        .drafted = setting ? 6 : 0, .accepted = setting ? 2 : 0,
                        .total_variation_bound = setting ? 0.05 * (double)prompt : 0, .decode_ms = setting ? 8 : 40,
                        .total_ms = setting ? total[picture] : 100};
    if (setting) result.histogram[1] = result.histogram[3] = 1;
    else result.histogram[1] = 4;
    for (size_t i = 0; i < TOKENS; i++) scores[i] = (sp_token_score){setting ? -1.5f : -1, setting ? 1 : (float)i / 4};
    return sp_evaluation_element(e, "x.png", 9, &result, setting ? 1 : TOKENS, scores, features);
}

static json_t *record(const sp_evaluation *e, size_t prompt, size_t image)
{
    return json_pack("{sI sI s[oo]}", "prompt", (json_int_t)prompt, "image", (json_int_t)image, "settings",
                     element(e, 0, prompt, image), element(e, 1, prompt, image));
}

static sp_status open_evaluation(sp_evaluation *e, sp_error *err)
{
    *e = (sp_evaluation){.n_settings = 2, .n_prompts = PROMPTS, .n_images = IMAGES, .n_tokens = TOKENS,
                         .n_codes = CODES, .n_features = FEATURES, .n_shown = PROMPTS};
    SP_TRY(sp_evaluation_open(e, err));
    e->settings[0] = (sp_setting){.name = "ar", .method = "ar", .option = ""};
    e->settings[1] = (sp_setting){.name = "gsd-group-size-3", .method = "gsd", .exactness = SP_RELAXED,
                                  .option = "group-size", .value = "3"};
    return SP_OK;
}

static sp_status add_all(sp_evaluation *e, sp_error *err)
{
    for (size_t i = 0; i < PROMPTS * IMAGES; i++) {
        json_t *group = record(e, i / IMAGES, i % IMAGES);
        sp_status status = group ? sp_evaluation_add(e, "journal", group, err)
                                 : SP_FAIL(err, SP_ENOMEM, "no memory for a record");
        json_decref(group);
        SP_TRY(status);
    }
    return SP_OK;
}

static const char *in_folder(char *path, const char *name)
{
    snprintf(path, 200, "%s/%s", folder, name);
    return path;
}

static sp_status write_all(const sp_evaluation *e, const sp_outcome *outcomes, sp_error *err)
{
    char path[200];
    json_t *head = json_pack("{ss}", "model", "m");
    sp_page page = {.evaluation = e, .outcomes = outcomes, .rows = 2, .columns = 2, .model = "<m>", .conditions = "&",
                    .pictures = {.folder = folder, .n_prompts = PROMPTS, .n_images = IMAGES, .width = 2, .height = 2,
                                 .ids = ids, .prompts = prompts}};
    sp_status status = sp_outcomes_write_csv(e, outcomes, in_folder(path, "results.csv"), err);
    if (status == SP_OK) status = sp_outcomes_write_json(e, outcomes, head, in_folder(path, "results.json"), err);
    json_decref(head);
    return status == SP_OK ? sp_page_write(&page, in_folder(path, "report.html"), err) : status;
}

/* By another network: plain decoding, then the other setting; and a folder. */
static float seen[2 * PROMPTS * IMAGES] = {0, 2, 4, 6, 0, 2, 4, 13}, folder_seen[] = {1, 3, 5, 6};

static sp_status whole(sp_outcome outcomes[2], sp_error *err)
{
    sp_evaluation e;
    sp_reference none = {NULL, 0};
    sp_network network = {.n_features = 1, .features = seen, .reference = {folder_seen, 4}};
    sp_status status = open_evaluation(&e, err);
    if (status == SP_OK) status = add_all(&e, err);
    if (status == SP_OK) status = sp_outcomes_make(&e, &none, &network, outcomes, err);
    if (status == SP_OK) status = write_all(&e, outcomes, err);
    sp_evaluation_close(&e);
    return status;
}

static int enter(void **state)
{
    (void)state;
    const uint8_t rgb[12] = {255, 0, 0, 9, 9, 9};
    char path[200];
    if (!mkdtemp(folder)) return -1;
    for (size_t s = 0; s < 2; s++) {
        SP_TEST_OK(sp_folder_make(in_folder(path, s ? "gsd-group-size-3" : "ar"), err));
        for (size_t p = 0; p < PROMPTS; p++) {
            char name[80];
            snprintf(name, sizeof name, "%s/%s-0.png", s ? "gsd-group-size-3" : "ar", ids[p]);
            SP_TEST_OK(sp_picture_write(in_folder(path, name), rgb, 2, 2, NULL, 0, err));
        }
    }
    return 0;
}

static int leave(void **state)
{
    (void)state;
    char path[200];
    const char *const names[] = {"ar/a-0.png", "ar/b-0.png", "gsd-group-size-3/a-0.png", "gsd-group-size-3/b-0.png",
                                 "results.csv", "results.json", "report.html"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(in_folder(path, names[i]));
    rmdir(in_folder(path, "ar"));
    rmdir(in_folder(path, "gsd-group-size-3"));
    return rmdir(folder);
}

static void assert_figure(const sp_interval *found, double value)
{
    assert_true(found->known);
    if (fabs(found->value - value) > 1e-6) fail_msg("found %.9g, expected %.9g", found->value, value);
}

static void figures(void **state)
{
    (void)state;
    sp_outcome o[2];
    SP_TEST_OK(whole(o, err));
    assert_figure(&o[0].nfe, 4);
    assert_figure(&o[1].nfe, 2);
    assert_figure(&o[1].step_compression, 2);
    assert_figure(&o[1].mean_acceptance_length, 2);
    assert_figure(&o[1].draft_acceptance_rate, 1 / 3.0);
    assert_false(o[0].draft_acceptance_rate.known);
    assert_figure(&o[0].pass_ms, 10);
    assert_figure(&o[1].pass_ms, 4);
    assert_figure(&o[1].image_seconds, 0.0325); /* median of 20, 25, 40, 50 */
    assert_figure(&o[1].speedup, 0.1 / 0.0325);
    assert_figure(&o[0].speedup, 1);
    assert_figure(&o[1].nll, 1.5);
    assert_figure(&o[1].nll_excess, 0.5);
    assert_figure(&o[1].token_identity, 0.25);
    assert_figure(&o[0].token_identity, 1);
    /* All ranks of setting 1 are in the last bin: 1 - 1/1024 from uniform, less 1.358 / sqrt 16, of 4 positions. */
    assert_figure(&o[1].total_variation_at_least, 4 * (1 - 1 / 1024.0 - 1.358 / 4));
    assert_figure(&o[1].total_variation_at_most, 4 * 0.025);
    assert_figure(&o[0].total_variation_at_most, 0);
    assert_figure(&o[0].code_divergence, 0);
    /* Codes are used 2 : 1 : 1 and 3 : 1 : 0. */
    double plain = log2(0.5 / 0.625) * 0.5 + log2(0.25 / 0.125) * 0.25, other = log2(0.75 / 0.625) * 0.75;
    assert_figure(&o[1].code_divergence, (plain + other) / 2);
    assert_figure(&o[1].frechet, 100); /* the same features, moved by 10 */
    assert_figure(&o[1].precision, 0);
    assert_figure(&o[0].recall, 1);
    assert_false(o[1].reference_frechet.known);
    /* Means 3 and 4.75, sums of squares about them 20 and 98.75; radii 6 4 4 6 and 13 11 9 13. */
    double moved = 1.75 * 1.75 + pow(sqrt(20 / 3.0) - sqrt(98.75 / 3), 2);
    assert_figure(&o[0].network_frechet, 0);
    assert_figure(&o[1].network_frechet, moved);
    assert_figure(&o[1].network_precision, 0.75);
    assert_figure(&o[1].network_recall, 1);
    /* The folder's mean is 3.75, its sum of squares 14.75, its radii 5 3 4 5. */
    assert_figure(&o[1].network_reference_frechet, 1 + pow(sqrt(14.75 / 3) - sqrt(98.75 / 3), 2));
    assert_figure(&o[1].network_reference_precision, 0.75);
    assert_figure(&o[1].network_reference_recall, 1);
    assert_int_equal(o[1].histogram_count, 4);
    assert_figure(&o[1].histogram[1], 0.5);
    assert_figure(&o[1].histogram[3], 0.5);
    assert_false(o[1].histogram[2].known);
}

static void files(void **state)
{
    (void)state;
    sp_outcome o[2];
    sp_bytes bytes;
    char path[200];
    SP_TEST_OK(whole(o, err));
    SP_TEST_OK(sp_file_read(in_folder(path, "results.csv"), 1 << 20, &bytes, err));
    const char *text = (const char *)bytes.data;
    const char *head = "setting,method,exactness,option,value,prompts,images,nfe,nfe_low,nfe_high,";
    assert_int_equal(strncmp(text, head, strlen(head)), 0);
    assert_non_null(strstr(text, "\ngsd-group-size-3,gsd,relaxed,group-size,3,2,2,2,2,2,2,2,2,"));
    assert_non_null(strstr(text, ",1:0.5;3:0.5\n"));
    sp_bytes_free(&bytes);
    SP_TEST_OK(sp_file_read(in_folder(path, "report.html"), 1 << 20, &bytes, err));
    text = (const char *)bytes.data;
    assert_non_null(strstr(text, "<title>specular eval: &lt;m&gt;</title>"));
    assert_non_null(strstr(text, "&lt;/title&gt;&lt;script&gt;, gsd-group-size-3"));
    assert_null(strstr(text, "<script"));
    assert_non_null(strstr(text, "</html>"));
    sp_bytes_free(&bytes);
}

static void maps_are_of_the_first_picture(void **state)
{
    (void)state;
    sp_evaluation e;
    SP_TEST_OK(open_evaluation(&e, err));
    SP_TEST_OK(add_all(&e, err));
    for (size_t p = 0; p < PROMPTS; p++) {
        assert_int_equal(e.passes[p * TOKENS + 3], 4);
        assert_int_equal(e.passes[(PROMPTS + p) * TOKENS + 3], 2);
    }
    sp_evaluation_close(&e);
}

static void assert_refused(sp_evaluation *e, json_t *group, const char *what)
{
    sp_error failure = {0};
    assert_int_equal(sp_evaluation_add(e, "journal", group, &failure), SP_EFORMAT);
    if (!strstr(failure.message, what)) fail_msg("no '%s' in: %s", what, failure.message);
    assert_false(sp_evaluation_has(e, 0, 0));
    json_decref(group);
}

static json_t *with(const sp_evaluation *e, const char *key, json_t *value)
{
    json_t *group = record(e, 0, 0), *first = json_array_get(json_object_get(group, "settings"), 1);
    if (value) json_object_set_new(first, key, value);
    else json_object_del(first, key);
    return group;
}

static void other_records_are_refused(void **state)
{
    (void)state;
    sp_evaluation e;
    SP_TEST_OK(open_evaluation(&e, err));
    assert_refused(&e, record(&e, PROMPTS, 0), "prompt");
    assert_refused(&e, record(&e, 0, IMAGES), "image");
    assert_refused(&e, json_pack("{si si s[]}", "prompt", 0, "image", 0, "settings"), "0 settings: expected 2");
    const char *const keys[] = {"nfe", "drafted", "latency_ms", "histogram", "identical", "log_p", "tokens", "passes",
                                "ranks", "features", "variation"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_refused(&e, with(&e, keys[i], NULL), keys[i]);
        assert_refused(&e, with(&e, keys[i], json_string("x")), keys[i]);
    }
    assert_refused(&e, with(&e, "tokens", json_pack("[iii]", 0, 1, 2)), "has 3 numbers: expected 4");
    assert_refused(&e, with(&e, "tokens", json_pack("[iiii]", 0, 1, 2, CODES)), "number 3 of 'tokens'");
    assert_refused(&e, with(&e, "ranks", json_pack("[iiii]", 0, -1, 2, 0)), "number 1 of 'ranks'");
    assert_refused(&e, with(&e, "features", json_pack("[ff]", 0.0, 1e300)), "number 1 of 'features'");
    assert_refused(&e, with(&e, "nfe", json_integer(0)), "nfe");
    sp_evaluation_close(&e);
}

static size_t calls, first_failure;

static bool fails(void) { return ++calls >= first_failure && first_failure > 0; }
static void *hooked_alloc(size_t bytes) { return fails() ? NULL : aligned_alloc(64, bytes); }
static void *hooked_malloc(size_t bytes) { return fails() ? NULL : malloc(bytes); }

/* From the n-th allocation on, for every n. */
static void memory_runs_out(void **state)
{
    (void)state;
    sp_outcome o[2];
    sp_status status = SP_ENOMEM;
    sp_alloc_hook(hooked_alloc);
    json_set_alloc_funcs(hooked_malloc, free);
    size_t n = 1, stride = getenv("SP_TEST_ALL") ? 1 : 7;
    for (; status != SP_OK; n += stride) {
        sp_error failure = {0};
        calls = 0;
        first_failure = n;
        status = whole(o, &failure);
        first_failure = 0;
        if (status != SP_OK && (status != SP_ENOMEM || !*failure.message))
            fail_msg("allocation %zu: status %d: %s", n, (int)status, failure.message);
    }
    sp_alloc_hook(NULL);
    json_set_alloc_funcs(malloc, free);
    assert_true(n > 50);
    assert_figure(&o[1].nfe, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures),
        cmocka_unit_test(files),
        cmocka_unit_test(maps_are_of_the_first_picture),
        cmocka_unit_test(other_records_are_refused),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
